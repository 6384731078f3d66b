"""Lay a turned face on the true one before they are compared: a shift of the camera is not the rotator's fault."""

from __future__ import annotations

import cv2
import numpy as np

from latentrot.data.align import Alignment
from latentrot.data.frame import CROP_BOX
from latentrot.errors import LatentrotError
from latentrot.label.landmarks import Landmarks, estimate_landmarks
from latentrot.label.upright import five_of

__all__ = ["found_in", "laid_on", "landmarks_of", "similarity_between"]

#: landmarks less sure than this (share of the face's width) place nothing
SPREAD = 0.12
#: a placement that scales by more than a quarter, or moves the middle by more than a tenth of the crop, has lost the face
SCALE, SHIFT = 1.25, 0.1


def landmarks_of(crop: np.ndarray) -> Landmarks:
    """68 landmarks of a (s, s, 3) uint8 crop in the CelebA frame, crop pixels."""
    left, top, right, _ = CROP_BOX
    scale = (right - left) / len(crop)
    return estimate_landmarks(
        crop, Alignment(np.array([[scale, 0, left], [0, scale, top]], np.float64), crop.shape[1::-1])
    )


def found_in(crop: np.ndarray) -> Landmarks | None:
    """Landmarks of a (s, s, 3) uint8 crop in the CelebA frame; None where they are too unsure to place anything."""
    try:
        found = landmarks_of(crop)
    except LatentrotError:
        return None
    return found if found.spread <= SPREAD else None


def laid_on(turned: np.ndarray, here: Landmarks | None, there: Landmarks | None) -> np.ndarray | None:
    """A turned face moved, turned in the plane and scaled so that its five points lie on those of the true one.

    Both faces' points are found by the same network, so that what it always gets wrong cancels.

    Args:
        turned: (s, s, 3) uint8.
        here: its landmarks.
        there: the true face's, in a picture of the same size.

    Returns:
        (s, s, 3) uint8, edges repeated; the same values where the points agree. None where a face was not found, or where
        the one would have to be moved so far that it must have been lost.
    """
    if here is None or there is None:
        return None
    matrix = similarity_between(five_of(here.points), five_of(there.points))
    size = len(turned)
    moved = matrix @ [size / 2, size / 2, 1] - size / 2
    scale = np.sqrt(np.linalg.det(matrix[:, :2]))
    if not 1 / SCALE < scale < SCALE or np.abs(moved).max() > SHIFT * size:
        return None
    # OpenCV counts from the first pixel's centre
    matrix[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5
    return cv2.warpAffine(turned, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def similarity_between(given: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(2, 3) the turn, scale and shift that takes (k, 2) points to others with the least squared distance.

    With points as complex numbers it is z -> a z + b, and a is one regression coefficient (the planar case of Umeyama,
    "Least-Squares Estimation of Transformation Parameters Between Two Point Patterns", IEEE TPAMI 13(4), 1991).
    """
    z, w = given @ [1, 1j], wanted @ [1, 1j]
    power = np.sum(np.abs(z - z.mean()) ** 2)
    a = np.sum((z - z.mean()).conj() * (w - w.mean())) / power if power > 0 else 1 + 0j
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])
