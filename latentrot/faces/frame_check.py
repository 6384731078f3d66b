"""Whether images lie in the CelebA frame, as everything behind takes for granted: asked of the face detector.

Measured with the limits below on 200 images each, off of those in which a face is seen: aligned CelebA 0, UTKFace in CelebA's
crop 0, YouTube Faces aligned 0, rendered heads up to 90 degrees 0; raw LFW 200.
"""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import numpy as np

from latentrot.data.celeba import FaceFolder
from latentrot.data.digests import names_some
from latentrot.data.frame import CROP_BOX, FRAME_WIDTH
from latentrot.errors import LatentrotError, one_line
from latentrot.faces.alignment import MEAN_LANDMARKS, Alignment
from latentrot.faces.detect import detect_faces
from latentrot.faces.framing import ONCE, landmarks_in_frame

__all__ = ["check_crop", "check_frame", "frame_fault", "framed"]

log = logging.getLogger(__name__)
#: images of a folder that are looked at
SAMPLE = 48
#: share of those whose face may lie elsewhere before a folder is refused, and the fewest that refuse it
MOST_OFF, FEWEST_OFF = 0.5, 3
#: a face in the frame is so large by the mean face, lies so far from its place (frame pixels), leans so far (degrees)
SIZES, FURTHEST, LEAN = (0.8, 1.7), 20.0, 20.0
#: eyes nearer than this by the mean face's are a profile's: the line between them says nothing of how a head leans
PROFILE = 0.6


def framed(width: int, height: int) -> Alignment:
    """The alignment of an image that is a square crop of the CelebA frame, or the whole of it at any size."""
    left, top, right, _ = CROP_BOX
    square = width == height
    scale = (right - left) / width if square else FRAME_WIDTH / width
    shift = (left, top) if square else (0, 0)
    return Alignment(np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float64), (width, height))


def frame_fault(image: np.ndarray, device: str | None = None) -> str | None:
    """What is wrong with where a face lies in an image that is to be in the CelebA frame.

    Args:
        image: (h, w, 3) uint8, square or of CelebA's proportions.
        device: where the detector runs; the CPU by default.

    Returns:
        Nothing wrong: an empty string; a fault in words; None where no face is seen anywhere.
    """
    alignment = framed(image.shape[1], image.shape[0])
    points = landmarks_in_frame(image, alignment, ONCE, device)
    if points is None:
        faces = detect_faces(image, device)
        if not faces:
            return None
        points = alignment.to_frame(faces[0].landmarks)
    return _fault(points)


def _fault(points: np.ndarray) -> str:
    """What is wrong with five landmarks in frame pixels, the mean face being right."""
    (eyes, mouth, across), (mean_eyes, mean_mouth, mean_across) = _measures(points), _measures(MEAN_LANDMARKS)
    # eyes draw together in profile, and the mouth nears them when a head looks down: the larger of both is the face's size
    size = max(
        np.hypot(*across) / np.hypot(*mean_across), np.hypot(*(mouth - eyes)) / np.hypot(*(mean_mouth - mean_eyes))
    )
    lean = abs(float(np.degrees(np.arctan2(across[1], across[0]))))
    away = float(np.hypot(*(eyes - mean_eyes)))
    if not SIZES[0] <= size <= SIZES[1]:
        return f"its face is {size:.2f} times as large as one in the frame"
    if away > FURTHEST:
        return f"its face lies {away / (CROP_BOX[2] - CROP_BOX[0]):.0%} of the crop's side away from its place"
    frontal = np.hypot(*across) > PROFILE * np.hypot(*mean_across)
    return f"its face leans by {lean:.0f} degrees" if frontal and lean > LEAN else ""


def _measures(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Middle of the eyes, middle of the mouth, and the way from eye to eye, of (5, 2) landmarks."""
    return points[:2].mean(0), points[3:].mean(0), points[1] - points[0]


def check_frame(folder: FaceFolder, device: str | None = None) -> None:
    """Look at a sample of a folder's images, and say by name which do not lie in the CelebA frame.

    Args:
        folder: the images.
        device: where the detector runs; the CPU by default.

    Raises:
        LatentrotError: more than half of the sample, and three at least, show their face elsewhere.
    """
    ids = folder.ids
    sample = [ids[i] for i in np.unique(np.linspace(0, len(ids) - 1, SAMPLE).round().astype(int))]
    faults = {name: _fault_of(folder, name, device) for name in sample}
    counts = Counter(fault if not fault else "off" for fault in faults.values())
    off = [name for name, fault in faults.items() if fault]
    if not off:
        return
    seen = counts["off"] + counts[""]
    said = (
        f"{len(off)} of {seen} faces looked at in {one_line(folder.image_dir)} do not lie in the CelebA frame: "
        f"{names_some(off)} ({faults[off[0]]}); align them with: latentrot align {one_line(folder.root)} --out aligned/"
    )
    if len(off) >= FEWEST_OFF and len(off) > MOST_OFF * len(sample):
        raise LatentrotError(f"{said}; or give --no-check-frame if they do")
    log.warning("%s", said)


def _fault_of(folder: FaceFolder, name: str, device: str | None) -> str | None:
    """As `frame_fault`; None also for an image that cannot be read, which is told where it is used."""
    try:
        return frame_fault(np.asarray(folder.open_image(name)), device)
    except LatentrotError:
        return None


def check_crop(image: np.ndarray, path: Path, device: str | None = None) -> None:
    """Refuse an image that is given as a crop and shows its face elsewhere, or none.

    Raises:
        LatentrotError: saying what is wrong, and what to do.
    """
    fault = frame_fault(image, device)
    if fault == "":
        return
    what = fault or "no face is seen in it"
    raise LatentrotError(
        f"{one_line(path)} is no crop in the CelebA frame: {what}; leave --crop out, or align it with: latentrot align "
        f"{one_line(path)} --out aligned/"
    )
