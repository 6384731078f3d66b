"""Regions of a face crop that a property may change: soft masks from face parts and landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from latentrot.data.frame import CROP_BOX
from latentrot.directions.properties import Region
from latentrot.errors import LatentrotError
from latentrot.faces.alignment import Alignment
from latentrot.faces.parts import ACCESSORIES, BACKGROUND, EARS, HAIR, NECK, SKIN, Parts
from latentrot.faces.upright import centred
from latentrot.numerics import smoothstep

__all__ = ["MASK_SIDE", "WITH_WALKED_PARTS", "FaceMap", "crop_to_photograph", "map_of", "region_mask"]

#: side of the masks in pixels; they cover the face crop
MASK_SIDE = 256
#: probability at which a part begins to count, and at which it counts fully
COUNTS, WHOLLY = 0.25, 0.75
#: regions whose outline a change may move, so that the parts of the walked image count, too
WITH_WALKED_PARTS = ("head", "hair", "forehead and hair")


@dataclass(frozen=True, eq=False)
class FaceMap:
    """Face parts and landmarks in a face crop.

    Attributes:
        parts: (7, n, n) float32 probabilities in the order of `latentrot.faces.parts.PARTS`.
        landmarks: (68, 2) (column, row), -1 to 1 across the crop.
    """

    parts: np.ndarray
    landmarks: np.ndarray

    @property
    def eyes(self) -> float:
        """Row of the eyes, -1 to 1."""
        return float(self.landmarks[36:48, 1].mean())

    @property
    def height(self) -> float:
        """Distance from the eyes to the chin, in the unit of `eyes`."""
        return float(max(self.landmarks[8, 1] - self.eyes, 0.1))


def crop_to_photograph(alignment: Alignment, side: int) -> np.ndarray:
    """(2, 3) float64 matrix: photograph position = matrix @ (column, row, 1), in a face crop of `side` pixels."""
    left, top, right, bottom = CROP_BOX
    corner, across, down = alignment.to_photo(np.array([[left, top], [right, top], [left, bottom]], np.float64))
    return np.column_stack([(across - corner) / side, (down - corner) / side, corner])


def map_of(parts: Parts, landmarks: np.ndarray, alignment: Alignment, side: int = MASK_SIDE) -> FaceMap:
    """Map parts and landmarks of a photograph to its face crop.

    Args:
        parts: face parts from `estimate_parts`.
        landmarks: (68, 2) photograph pixels.
        alignment: alignment of the face.
        side: side of the probabilities in pixels.
    """
    back = crop_to_photograph(alignment, side)
    to_region = np.column_stack([
        parts.to_region[:, :2] @ back[:, :2], parts.to_region[:, :2] @ back[:, 2] + parts.to_region[:, 2]
    ])  # fmt: skip
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    planes = [
        cv2.warpAffine(plane, centred(to_region), (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        for plane in parts.probabilities
    ]
    left, top, right, _ = CROP_BOX
    points = (alignment.to_frame(landmarks) - (left, top)) * 2 / (right - left) - 1
    return FaceMap(np.stack(planes).astype(np.float32), points)


def region_mask(region: Region, face: FaceMap) -> np.ndarray:
    """Soft mask of a region in a face crop.

    Args:
        region: name of the region.
        face: parts and landmarks in the crop.

    Returns:
        (n, n) float32, 0 (no change) to 1.

    Raises:
        LatentrotError: the region is unknown.
    """
    n = face.parts.shape[-1]
    rows = ((np.arange(n) + 0.5) * 2 / n - 1)[:, None]
    place = (rows - face.eyes) / face.height  # 0 at the eyes, 1 at the chin
    skin, hair, ears, neck = (face.parts[k] for k in (SKIN, HAIR, EARS, NECK))
    person = 1 - face.parts[BACKGROUND]
    head = skin + hair + ears + neck + face.parts[ACCESSORIES]
    masks = {
        "all": np.ones_like(person),
        "person": person,
        "head": head,
        "face": skin,
        "skin and hair": skin + hair + ears + neck,
        "hair": hair,
        "forehead and hair": hair + skin * (1 - smoothstep(place, -0.3, -0.1)),
        "mouth": skin * smoothstep(place, 0.2, 0.4),
        "beard": (skin + hair + neck) * smoothstep(place, 0.35, 0.55) * (1 - smoothstep(place, 1.1, 1.3)),
        "eyes": (head - neck) * smoothstep(place, -0.34, -0.22) * (1 - smoothstep(place, 0.3, 0.45)),
        "brows": skin * smoothstep(place, -0.5, -0.4) * (1 - smoothstep(place, -0.12, -0.04)),
    }
    if region not in masks:
        raise LatentrotError(f"region {region!r}: expected one of {', '.join(masks)}")
    return smoothstep(masks[region], COUNTS, WHOLLY).astype(np.float32)
