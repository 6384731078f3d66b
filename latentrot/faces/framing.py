"""Align a face to the CelebA frame more precisely than by a single detection: estimate its landmarks again in the frame.

A detector's landmarks vary by about a pixel of the frame with the position of its box, and its boxes, which are
rounded to whole pixels, shift them by half a pixel of the photograph. Once the face is roughly upright and centred, the
same network is applied to several squares around it and to their mirror images. The median varies by about 0.2
pixels, and mirroring removes the shift.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from latentrot.data.frame import MIRRORED_LANDMARKS
from latentrot.faces.alignment import Alignment, align_landmarks
from latentrot.faces.detect import refine_landmarks

__all__ = ["frame_face", "landmarks_in_frame"]

#: base square: centre and side in frame pixels
CENTRE, SIDE = (89.0, 124.0), 115.0
#: sides of the squares, and their shifts, as shares of the base side; in larger squares the landmarks are biased outwards
ONCE = ((0.95,), ((0.0, 0.0),))
OFTEN = ((0.86, 0.96), ((0.0, 0.0), (-0.03, 0.0), (0.03, 0.0), (0.0, -0.03), (0.0, 0.03)))
#: half side in frame pixels of the region that is resampled for the squares, and its resolution
REACH, GRAIN = 100.0, 400
#: side of the network's input, pixels
INPUT = 48
#: min score of a result, and max displacement of an eye in frame pixels; other results are rejected
MIN_SCORE, MAX_SHIFT = 0.5, 12.0

SquareGrid = tuple[tuple[float, ...], tuple[tuple[float, float], ...]]


def landmarks_in_frame(
    photo: np.ndarray, alignment: Alignment, grid: SquareGrid = OFTEN, device: str | None = None
) -> np.ndarray | None:
    """Estimate the landmarks of an aligned face again in the frame.

    Args:
        photo: (h, w, 3) uint8, the aligned photograph.
        alignment: approximate alignment.
        grid: sizes and shifts of the squares; each is evaluated with its mirror image.
        device: device of the network; the CPU by default.

    Returns:
        (5, 2) medians in frame pixels, ordered as in `Face`; None if the network finds no face.
    """
    across, down = CENTRE
    cut = Image.fromarray(alignment.crop(photo, GRAIN, (across - REACH, down - REACH, across + REACH, down + REACH)))
    grain = GRAIN / (2 * REACH)
    scales, shifts = grid
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
    points, scores = refine_landmarks(np.concatenate([plain, plain[:, :, ::-1]]), device)
    if np.median(scores) < MIN_SCORE:
        return None
    n = len(plain)
    points[n:, :, 0] = 1 - points[n:, :, 0]
    points[n:] = points[n:, MIRRORED_LANDMARKS]
    placed = (
        points * np.tile([c[2] for c in corners], 2)[:, None, None] + np.tile([c[:2] for c in corners], (2, 1))[:, None]
    )
    return np.median(placed, 0)


def frame_face(photo: np.ndarray, landmarks: np.ndarray, device: str | None = None) -> Alignment:
    """The similarity transform that aligns a detected face to the CelebA frame.

    Args:
        photo: (h, w, 3) uint8 RGB.
        landmarks: (5, 2) from the detector, photograph pixels.
        device: device of the network; the CPU by default.

    Returns:
        The alignment by refined landmarks, or by the given ones if the refinement fails.

    Raises:
        LatentrotError: the landmarks are not those of a face, or the detector is missing.
    """
    size = (photo.shape[1], photo.shape[0])
    first = alignment = align_landmarks(landmarks, size)
    for grid in (ONCE, OFTEN):
        found = landmarks_in_frame(photo, alignment, grid, device)
        if found is None:
            return first
        again = alignment.to_photo(found)
        if np.linalg.norm(first.to_frame(again) - first.to_frame(landmarks), axis=1)[:2].max() > MAX_SHIFT:
            return first
        alignment = align_landmarks(again, size)
    return alignment
