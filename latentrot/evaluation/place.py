"""Lay a turned face on the true one before they are compared: a shift of the camera is not the rotator's fault."""

from __future__ import annotations

import cv2
import numpy as np

from latentrot.data.frame import CROP_BOX
from latentrot.errors import LatentrotError
from latentrot.faces.alignment import Alignment, similarity_between
from latentrot.faces.detect import detect_faces
from latentrot.faces.landmarks import Landmarks, estimate_landmarks
from latentrot.faces.upright import centred, five_of

__all__ = ["found_in", "laid_on", "landmarks_of"]

#: a placement that scales by more than a half, or moves the middle by more than 0.3 of the crop, has lost the face: a head
#: turned by 40 degrees is framed a quarter larger than a frontal one, and turned by 60 about its own axis it has moved by a
#: quarter
SCALE, SHIFT = 1.5, 0.3
CENTRE = np.array([CROP_BOX[0] + CROP_BOX[2], CROP_BOX[1] + CROP_BOX[3]]) / 2


def landmarks_of(image: np.ndarray, crop: int) -> Landmarks:
    """68 landmarks of a (w, w, 3) uint8 image around the CelebA crop, image pixels.

    A turned face may lie elsewhere than the frame says, so it is looked for first.

    Args:
        image: its middle is the crop's.
        crop: the crop's side in its pixels; w or less.
    """
    faces = detect_faces(image)
    if faces:
        return estimate_landmarks(image, faces[0].landmarks)
    scale = (CROP_BOX[2] - CROP_BOX[0]) / crop
    left, top = CENTRE - scale * len(image) / 2
    alignment = Alignment(np.array([[scale, 0, left], [0, scale, top]], np.float64), image.shape[1::-1])
    return estimate_landmarks(image, alignment)


def found_in(picture: np.ndarray, crop: int) -> Landmarks | None:
    """The same; None where they are too unsure to place anything."""
    try:
        return landmarks_of(picture, crop).require_sure()
    except LatentrotError:
        return None


def laid_on(turned: np.ndarray, here: Landmarks | None, there: Landmarks | None, crop: int) -> np.ndarray | None:
    """A turned face moved, turned in the plane and scaled so that its five points lie on those of the true one.

    Both faces' points are found by the same network, so that what it always gets wrong cancels.

    Args:
        turned: (w, w, 3) uint8 around the crop, as `landmarks_of` takes it.
        here: its landmarks.
        there: the true face's, in its crop.
        crop: the crops' side in pixels.

    Returns:
        (crop, crop, 3) uint8, edges repeated; the same values where the points agree. None where a face was not found, or
        where the one would have to be moved so far that it must have been lost.
    """
    if here is None or there is None:
        return None
    matrix = similarity_between(five_of(here.points), five_of(there.points))
    moved = matrix @ [len(turned) / 2, len(turned) / 2, 1] - crop / 2
    scale = np.sqrt(np.linalg.det(matrix[:, :2]))
    if not 1 / SCALE < scale < SCALE or np.abs(moved).max() > SHIFT * crop:
        return None
    return cv2.warpAffine(turned, centred(matrix), (crop, crop), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
