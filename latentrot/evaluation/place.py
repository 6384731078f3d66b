"""Align a rotated face to the true one before the comparison, so that camera motion does not count as an error."""

from __future__ import annotations

import cv2
import numpy as np

from latentrot.data.frame import CROP_BOX
from latentrot.errors import LatentrotError
from latentrot.faces.alignment import Alignment, similarity_between
from latentrot.faces.detect import detect_faces
from latentrot.faces.landmarks import Landmarks, estimate_landmarks
from latentrot.faces.upright import centred, five_of

__all__ = ["align_to", "find_landmarks", "sure_landmarks"]

#: max scale, and max shift as a share of the crop; larger ones mean that a face was not found correctly. A rotation by 40
#: degrees enlarges a face in the frame by a quarter, and one by 60 degrees moves it by a quarter of the crop
SCALE, SHIFT = 1.5, 0.3
CENTRE = np.array([CROP_BOX[0] + CROP_BOX[2], CROP_BOX[1] + CROP_BOX[3]]) / 2


def find_landmarks(image: np.ndarray, crop: int) -> Landmarks:
    """Find 68 landmarks in a (w, w, 3) uint8 image centred on the CelebA crop, in image pixels.

    The face is detected first, because a rotation may move it in the frame.

    Args:
        image: image centred on the crop.
        crop: side of the crop in pixels, at most w.
    """
    faces = detect_faces(image)
    if faces:
        return estimate_landmarks(image, faces[0].landmarks)
    scale = (CROP_BOX[2] - CROP_BOX[0]) / crop
    left, top = CENTRE - scale * len(image) / 2
    alignment = Alignment(np.array([[scale, 0, left], [0, scale, top]], np.float64), image.shape[1::-1])
    return estimate_landmarks(image, alignment)


def sure_landmarks(image: np.ndarray, crop: int) -> Landmarks | None:
    """Find landmarks as `find_landmarks`; None if they are too uncertain for an alignment."""
    try:
        return find_landmarks(image, crop).require_sure()
    except LatentrotError:
        return None


def align_to(turned: np.ndarray, here: Landmarks | None, there: Landmarks | None, crop: int) -> np.ndarray | None:
    """Align a rotated face to the true one by a similarity transform of five landmarks.

    The same network finds the landmarks of both faces, so that its bias cancels.

    Args:
        turned: (w, w, 3) uint8, centred on the crop.
        here: landmarks in `turned`; None: no face found.
        there: landmarks of the true face in its crop; None: no face found.
        crop: side of the crop in pixels.

    Returns:
        (crop, crop, 3) uint8, edges repeated; None if a face was not found, or the alignment exceeds `SCALE` or `SHIFT`.
    """
    if here is None or there is None:
        return None
    matrix = similarity_between(five_of(here.points), five_of(there.points))
    moved = matrix @ [len(turned) / 2, len(turned) / 2, 1] - crop / 2
    scale = np.sqrt(np.linalg.det(matrix[:, :2]))
    if not 1 / SCALE < scale < SCALE or np.abs(moved).max() > SHIFT * crop:
        return None
    return cv2.warpAffine(turned, centred(matrix), (crop, crop), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
