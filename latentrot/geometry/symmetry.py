"""Fill a hidden cheek from the visible one, adapted to the lighting of its own side."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from latentrot.geometry.config import MeshConfig
from latentrot.geometry.fields import blur, extrapolated, ramp, sample_at
from latentrot.geometry.outline import Outline

__all__ = ["Symmetry", "find_symmetry"]

#: pairs of mirrored landmarks, and landmarks in the middle
PAIRS = ((0, 16), (2, 14), (4, 12), (6, 10), (17, 26), (21, 22), (36, 45), (39, 42), (48, 54), (31, 35))
MIDDLE = (27, 28, 29, 30, 33, 51, 62, 66, 57, 8)


@dataclass(frozen=True, eq=False)
class Symmetry:
    """The head's plane of symmetry, with the maps needed to sample across it.

    Args:
        normal: (3,) unit vector towards the viewer's right.
        offset: the plane is normal . p = offset, region pixels.
        height: (h, w) float32 depth of the front surface over the rim.
        visible: (h, w) float32, visibility of the surface in the source, 0 to 1.
        ratio: (h, w, 3) float32, factor that adapts a mirrored colour to the lighting at its target.
        strength: from 0 for a frontal source, which hides nothing, to 1.
    """

    normal: np.ndarray
    offset: float
    height: np.ndarray
    visible: np.ndarray
    ratio: np.ndarray
    strength: float

    def across(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mirror points in the plane."""
        a, b, c = self.normal
        twice = 2 * (a * x + b * y + c * z - self.offset)
        return x - twice * a, y - twice * b, z - twice * c


def find_symmetry(
    front: np.ndarray, height: np.ndarray, slope: np.ndarray, outline: Outline, landmarks: np.ndarray, yaw_deg: float,
    width: float, config: MeshConfig,
) -> Symmetry:  # fmt: skip
    """Estimate the plane from landmarks on the surface, and the light ratio where the source shows both sides.

    Args:
        front: (h, w, 3) colours of the front surface.
        height: (h, w) its depth.
        slope: (h, w, 2) its slope.
        outline: masks.
        landmarks: (68, 3) on it.
        yaw_deg: the source's yaw.
        width: W in pixels.
        config: parameters.
    """
    normal = np.mean([landmarks[b] - landmarks[a] for a, b in PAIRS], axis=0)
    normal /= np.linalg.norm(normal)
    offset = float(np.median(landmarks[list(MIDDLE)] @ normal))
    facing = 1 / np.sqrt(1 + slope[..., 0] ** 2 + 0.25 * slope[..., 1] ** 2)
    visible = blur(ramp(facing, 0.25, 0.65) * outline.head, 0.012 * width)
    plain = Symmetry(
        normal, offset, height, visible, np.ones_like(front), float(ramp(np.abs(yaw_deg), *config.mirror_from))
    )
    if plain.strength == 0:
        return plain
    rows, columns = np.mgrid[: height.shape[0], : height.shape[1]].astype(np.float32)
    x, y, _ = plain.across(columns + 0.5, rows + 0.5, height)
    at = np.stack([x, y], -1).astype(np.float32)
    other = sample_at(front, at)
    both = visible * sample_at(visible, at) * outline.face
    own, mirrored = (blur(c * both[..., None], 0.06 * width) for c in (front, other))
    share = blur(both, 0.06 * width)
    ratio = np.clip((own + 2 * share[..., None]) / (mirrored + 2 * share[..., None] + 1e-3), 0.5, 2.0)
    ratio = (
        blur(extrapolated(ratio, (share > 0.15).astype(np.float32)), 0.03 * width)
        if (share > 0.15).any()
        else plain.ratio
    )
    away = cv2.distanceTransform((~outline.face).astype(np.uint8), cv2.DIST_L2, 5)
    near = np.clip(1.2 - away / (0.2 * width), 0, 1)[..., None]
    return Symmetry(normal, offset, height, visible, (1 + (ratio - 1) * near).astype(np.float32), plain.strength)
