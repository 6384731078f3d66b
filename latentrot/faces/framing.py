"""Bring a face into the CelebA frame more closely than one detection can: look again from the frame itself, many times.

A detector's landmarks scatter by about a pixel of the frame with where its box happened to lie, and its boxes, which are cut
at whole pixels, shift them by half a pixel of the photograph. Once the face is roughly upright and centred the same network
is asked again about squares laid around it a little differently, and about their mirror images; the median scatters by
about .2 pixels, and the mirror takes the shift away.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from latentrot.data.frame import MIRRORED_LANDMARKS
from latentrot.faces.alignment import Alignment, align_landmarks
from latentrot.faces.detect import look_again

__all__ = ["frame_face", "landmarks_in_frame"]

#: the square a look is laid in, frame pixels: its centre, and the side it is a share of
CENTRE, SIDE = (89.0, 124.0), 115.0
#: shares of that side, and shifts as shares of it; the network's answers lean outwards in larger squares
ONCE = ((0.95,), ((0.0, 0.0),))
OFTEN = ((0.86, 0.96), ((0.0, 0.0), (-0.03, 0.0), (0.03, 0.0), (0.0, -0.03), (0.0, 0.03)))
#: the part of the frame that is cut out for the looks, frame pixels, and how finely
REACH, GRAIN = 100.0, 400
#: what the network sees, pixels
INPUT = 48
#: looks less sure than this, or that move an eye further than this (frame pixels), have lost the face
LEAST_SCORE, FURTHEST = 0.5, 12.0

Looks = tuple[tuple[float, ...], tuple[tuple[float, float], ...]]


def landmarks_in_frame(
    photo: np.ndarray, alignment: Alignment, looks: Looks = OFTEN, device: str | None = None
) -> np.ndarray | None:
    """The landmarks of an aligned face, found anew in the frame.

    Args:
        photo: (h, w, 3) uint8, the photograph aligned.
        alignment: roughly where the face lies.
        looks: sizes and shifts of the squares looked at; each is looked at mirrored, too.
        device: where the network runs; the CPU by default.

    Returns:
        (5, 2) medians in frame pixels, ordered as in `Face`; None where the network sees no face.
    """
    across, down = CENTRE
    cut = Image.fromarray(alignment.crop(photo, GRAIN, (across - REACH, down - REACH, across + REACH, down + REACH)))
    grain = GRAIN / (2 * REACH)
    scales, shifts = looks
    corners = [
        np.array([across + dx * SIDE - s * SIDE / 2, down + dy * SIDE - s * SIDE / 2, s * SIDE])
        for s in scales
        for dx, dy in shifts
    ]
    squares = []
    for left, top, side in corners:
        box = np.array([left - across + REACH, top - down + REACH]) * grain
        size = (INPUT, INPUT)
        squares.append(np.asarray(cut.resize(size, Image.Resampling.BOX, box=(*box, *(box + side * grain)))))
    plain = np.stack(squares)
    points, scores = look_again(np.concatenate([plain, plain[:, :, ::-1]]), device)
    if np.median(scores) < LEAST_SCORE:
        return None
    n = len(plain)
    points[n:, :, 0] = 1 - points[n:, :, 0]
    points[n:] = points[n:, MIRRORED_LANDMARKS]
    placed = (
        points * np.tile([c[2] for c in corners], 2)[:, None, None] + np.tile([c[:2] for c in corners], (2, 1))[:, None]
    )
    return np.median(placed, 0)


def frame_face(photo: np.ndarray, landmarks: np.ndarray, device: str | None = None) -> Alignment:
    """The similarity transform that takes a face found into the CelebA frame.

    Args:
        photo: (h, w, 3) uint8 RGB.
        landmarks: (5, 2) as the detector gave them, photograph pixels.
        device: where the network runs; the CPU by default.

    Returns:
        The alignment by landmarks looked for again; by those given where a second look loses the face.

    Raises:
        LatentrotError: the landmarks are those of no face, or there is no detector.
    """
    size = (photo.shape[1], photo.shape[0])
    first = alignment = align_landmarks(landmarks, size)
    for looks in (ONCE, OFTEN):
        found = landmarks_in_frame(photo, alignment, looks, device)
        if found is None:
            return first
        again = alignment.to_photo(found)
        if np.linalg.norm(first.to_frame(again) - first.to_frame(landmarks), axis=1)[:2].max() > FURTHEST:
            return first
        alignment = align_landmarks(again, size)
    return alignment
