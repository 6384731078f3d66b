"""Check with the face detector whether images are aligned to the CelebA frame, as all later steps require.

Number of images reported as misaligned with the limits below, among images with a face, of 200 images per data set:
aligned CelebA 0, UTKFace in CelebA's crop 0, YouTube Faces aligned 0, rendered heads up to 90 degrees 0; raw LFW 200.
"""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import numpy as np

from latentrot.data.celeba import FaceFolder
from latentrot.data.digests import list_some
from latentrot.data.frame import CROP_BOX, FRAME_WIDTH
from latentrot.devices import resolve_device
from latentrot.errors import LatentrotError, one_line
from latentrot.faces.alignment import MEAN_LANDMARKS, Alignment
from latentrot.faces.detect import detect_faces
from latentrot.faces.framing import ONCE, landmarks_in_frame

__all__ = ["check_crop_frame", "check_frame", "frame_alignment", "frame_fault"]

log = logging.getLogger(__name__)
#: number of images of a folder that are checked
SAMPLE = 48
#: share and min number of misaligned images from which a folder is refused
MAX_OFFSET, FEWEST_OFF = 0.5, 3
#: min and max size relative to the mean face; max distance from its position (frame pixels); max roll (degrees)
SIZES, MAX_SHIFT, LEAN = (0.8, 1.7), 20.0, 20.0
#: eye distance relative to the mean face below which a face is in profile, so that its roll cannot be measured
PROFILE = 0.6


def frame_alignment(width: int, height: int) -> Alignment:
    """Alignment of an image that is the face crop or the whole CelebA frame, at any size."""
    left, top, right, _ = CROP_BOX
    square = width == height
    scale = (right - left) / width if square else FRAME_WIDTH / width
    shift = (left, top) if square else (0, 0)
    return Alignment(np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float64), (width, height))


def frame_fault(image: np.ndarray, device: str | None = None) -> str | None:
    """Describe how the face in an image deviates from the CelebA frame.

    Args:
        image: (h, w, 3) uint8, square or of CelebA's proportions.
        device: device of the detector; the CPU by default.

    Returns:
        An empty string for an aligned face; a description of the deviation; None if no face is found.
    """
    alignment = frame_alignment(image.shape[1], image.shape[0])
    points = landmarks_in_frame(image, alignment, ONCE, device)
    if points is None:
        faces = detect_faces(image, device)
        if not faces:
            return None
        points = alignment.to_frame(faces[0].landmarks)
    return _fault(points)


def _fault(points: np.ndarray) -> str:
    """Describe the deviation of five landmarks (frame pixels) from the mean face; empty if they are aligned."""
    (eyes, mouth, across), (mean_eyes, mean_mouth, mean_across) = _measures(points), _measures(MEAN_LANDMARKS)
    # eye distance shrinks in profile, and eye-mouth distance when the head looks down: use the larger ratio as the size
    size = max(
        np.hypot(*across) / np.hypot(*mean_across), np.hypot(*(mouth - eyes)) / np.hypot(*(mean_mouth - mean_eyes))
    )
    lean = abs(float(np.degrees(np.arctan2(across[1], across[0]))))
    away = float(np.hypot(*(eyes - mean_eyes)))
    if not SIZES[0] <= size <= SIZES[1]:
        return f"its face is {size:.2f} times as large as in the frame"
    if away > MAX_SHIFT:
        return f"its face is displaced by {away / (CROP_BOX[2] - CROP_BOX[0]):.0%} of the crop's side"
    frontal = np.hypot(*across) > PROFILE * np.hypot(*mean_across)
    return f"its face leans by {lean:.0f} degrees" if frontal and lean > LEAN else ""


def _measures(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Midpoint of the eyes, midpoint of the mouth, and vector between the eyes, of (5, 2) landmarks."""
    return points[:2].mean(0), points[3:].mean(0), points[1] - points[0]


def check_frame(folder: FaceFolder, device: str | None = None) -> None:
    """Check that a sample of a folder's images is aligned to the CelebA frame; warn about single misaligned images.

    Args:
        folder: the images.
        device: device of the detector; by default cuda if available.

    Raises:
        LatentrotError: more than half of the sample and at least three images are misaligned, or the device does not exist.
    """
    ids, device = folder.ids, str(resolve_device(device))
    sample = [ids[i] for i in np.unique(np.linspace(0, len(ids) - 1, SAMPLE).round().astype(int))]
    faults = {name: _fault_of(folder, name, device) for name in sample}
    counts = Counter(fault if not fault else "off" for fault in faults.values())
    off = [name for name, fault in faults.items() if fault]
    if not off:
        return
    seen = counts["off"] + counts[""]
    said = (
        f"{len(off)} of {seen} checked faces in {one_line(folder.image_dir)} are not aligned to the CelebA frame: "
        f"{list_some(off)} ({faults[off[0]]}); align them with: latentrot align {one_line(folder.root)} --out aligned/"
    )
    if len(off) >= FEWEST_OFF and len(off) > MAX_OFFSET * len(sample):
        raise LatentrotError(f"{said}; or pass --no-check-frame if they are aligned")
    log.warning("%s", said)


def _fault_of(folder: FaceFolder, name: str, device: str | None) -> str | None:
    """As `frame_fault`, but also None for an unreadable image, which is reported when it is used."""
    try:
        return frame_fault(np.asarray(folder.open_image(name)), device)
    except LatentrotError:
        return None


def check_crop_frame(image: np.ndarray, path: Path, device: str | None = None) -> None:
    """Refuse an image passed as a crop if its face is missing or not aligned.

    Raises:
        LatentrotError: the face is missing or misaligned; the message describes the deviation.
    """
    fault = frame_fault(image, device)
    if fault == "":
        return
    what = fault or "no face found in it"
    raise LatentrotError(
        f"{one_line(path)} is not a crop in the CelebA frame: {what}; leave --crop out, or align it with: latentrot align "
        f"{one_line(path)} --out aligned/"
    )
