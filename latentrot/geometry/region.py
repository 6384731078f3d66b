"""The upright working region of a photograph, and the transforms between the two."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from latentrot.faces.upright import centred
from latentrot.geometry.config import MeshConfig
from latentrot.geometry.fields import blur
from latentrot.geometry.surface import SurfaceFit, rotation

__all__ = ["Region", "region_of"]


@dataclass(frozen=True, eq=False)
class Region:
    """An upright working region of a photograph: position in the region = matrix @ (column, row, 1) of the photograph.

    Args:
        matrix: (2, 3) float64, a similarity.
        size: width and height of the region in its pixels.
        photo_size: width and height of the photograph.
        width: width of the face in region pixels, the unit W of lengths in this package.
        middle: (2,) the midpoint between the ears in the region.
    """

    matrix: np.ndarray
    size: tuple[int, int]
    photo_size: tuple[int, int]
    width: float
    middle: np.ndarray

    @property
    def scale(self) -> float:
        """Region pixels per photograph pixel."""
        return float(np.sqrt(np.linalg.det(self.matrix[:, :2])))

    @property
    def inverse(self) -> np.ndarray:
        """(2, 3) from the region to the photograph."""
        linear = np.linalg.inv(self.matrix[:, :2])
        return np.column_stack([linear, -linear @ self.matrix[:, 2]])

    def to_region(self, points: np.ndarray) -> np.ndarray:
        """Photograph positions (n, 2) -> region positions."""
        return points @ self.matrix[:, :2].T + self.matrix[:, 2]

    def to_photo(self, points: np.ndarray) -> np.ndarray:
        """Region positions (n, 2) -> photograph positions."""
        return points @ self.inverse[:, :2].T + self.inverse[:, 2]

    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of the photograph's pixels covered by the region."""
        w, h = self.size
        corners = self.to_photo(np.array([[0, 0], [w, 0], [0, h], [w, h]], np.float64))
        low, high = np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int)
        width, height = self.photo_size
        return max(int(low[0]), 0), max(int(low[1]), 0), min(int(high[0]), width), min(int(high[1]), height)

    def crop(self, photograph: np.ndarray) -> np.ndarray:
        """The photograph resampled to the region, edges repeated: (h, w, 3) float32."""
        left, top, right, bottom = self.box()
        around = photograph[top:bottom, left:right].astype(np.float32)
        if self.scale < 0.9:  # cubic sampling has a support of two pixels only
            around = blur(around, 0.42 / self.scale - 0.3)
        shift = self.matrix[:, :2] @ np.array([left, top]) + self.matrix[:, 2]
        return warped(around, np.column_stack([self.matrix[:, :2], shift]), self.size)

    @cached_property
    def in_photograph(self) -> np.ndarray:
        """(h, w) bool, which pixels of the region lie in the photograph."""
        w, h = self.size
        x, y = np.meshgrid(np.arange(w) + 0.5, np.arange(h) + 0.5)
        there = self.to_photo(np.stack([x, y], -1))
        return np.asarray(((there > 0) & (there < np.array(self.photo_size))).all(-1))


def warped(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int], how: int = cv2.INTER_CUBIC) -> np.ndarray:
    """Resample an image: the value at p moves to matrix @ (p, 1); edges at pixel borders, edges repeated."""
    return cv2.warpAffine(image, centred(matrix), size, flags=how, borderMode=cv2.BORDER_REPLICATE)


def region_of(fit: SurfaceFit, photo_size: tuple[int, int], config: MeshConfig) -> Region:
    """The region around a fitted face, rotated upright by the head's roll."""
    width = float(np.clip(fit.width, config.smallest_px, config.largest_px))
    scale = width / fit.width
    linear = scale * rotation(0, 0, -fit.roll_deg)[:2, :2]
    middle = np.array([config.side * width, config.above * width])
    ears = fit.landmarks[[0, 16], :2].mean(0)
    matrix = np.column_stack([linear, middle - linear @ ears])
    size = round(2 * config.side * width), round((config.above + config.below) * width)
    return Region(matrix, size, photo_size, width, middle)
