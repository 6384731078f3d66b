"""Warp the surroundings of a head to the outline of the rotated head.

Background, neck and hanging hair move with the outline of the head, less with growing distance. So outlines keep their soft
edges and loose strands, the neck stays attached to the jaw, and no background behind the old outline needs inpainting.
"""

from __future__ import annotations

import cv2
import numpy as np

from latentrot.geometry.config import MeshConfig
from latentrot.geometry.draw import FRONT
from latentrot.geometry.fields import blur, extrapolated, ramp, values_at
from latentrot.geometry.outline import Outline

__all__ = ["warp_surroundings"]

#: max distance in pixels between a point of the rotated outline and the source's edge for the two to match
AT_EDGE = 3.0
#: matches displaced by more than this (shares of W) are ignored
MAX_EDGE_SHIFT = 0.35
#: displacements (shares of W) between which the surroundings detach from the outline and stay in place
DETACHED = 0.15, 0.3
#: the displacements are computed on every second pixel
COARSE = 2


def warp_surroundings(
    shown: np.ndarray, source: np.ndarray, outline: Outline, direction: np.ndarray, width: float, config: MeshConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute the source position of each pixel around the rotated head.

    Args:
        shown: (h, w) surface visible at each pixel, from `latentrot.geometry.draw`.
        source: (h, w, 2) its source positions.
        outline: masks of the source.
        direction: (2,) unit vector of the image motion caused by the rotation.
        width: W in pixels.
        config: parameters.

    Returns:
        (h, w, 2) float32 source positions; (h, w) float32 distances to the rotated head, positive inside; and (h, w) float32,
        1 where the outline is displaced so far that the surroundings stay in place.
    """
    to_rest = outline.to_rest
    cover = (shown > 0).astype(np.uint8)
    within = cv2.distanceTransform(cover, cv2.DIST_L2, 5)
    distance = np.where(cover > 0, within - 0.5, 0.5 - cv2.distanceTransform(1 - cover, cv2.DIST_L2, 5)).astype(
        np.float32
    )
    rows, columns = np.nonzero((cover > 0) & (within < 1.5))
    here = np.stack([columns + 0.5, rows + 0.5], 1)
    smooth = blur(distance, 2.0)
    outward = -np.stack([np.gradient(smooth, axis=1)[rows, columns], np.gradient(smooth, axis=0)[rows, columns]], 1)
    there, front = source[rows, columns].astype(np.float64), shown[rows, columns] == FRONT
    off = values_at(to_rest, there)
    own = front & (off < AT_EDGE)
    edge = np.where(own[:, None], there, _edge_along(there, outward @ direction, direction, to_rest, width))
    shift = np.zeros((*cover.shape, 2), np.float32)
    weight = np.zeros(cover.shape, np.float32)
    shift[rows, columns] = edge - here
    sure = np.where(own, 1.0, np.abs(outward @ direction) + 0.05)
    sure[~own & (np.linalg.norm(edge - there, axis=1) > MAX_EDGE_SHIFT * width)] = (
        0  # the edge of a notch, not the outline
    )
    weight[rows, columns] = sure
    small = -(-cover.shape[1] // COARSE), -(-cover.shape[0] // COARSE)
    share = cv2.resize(weight, small, interpolation=cv2.INTER_AREA)
    mean = (
        cv2.resize(shift * weight[..., None], small, interpolation=cv2.INTER_AREA) / np.maximum(share, 1e-6)[..., None]
    )
    strength = np.clip(share * COARSE, 0, 1)
    field = blur(extrapolated(mean, strength), 0.012 * width / COARSE)
    reach = max(
        config.falloff * width,
        config.falloff_min_ratio * float((np.linalg.norm(shift[rows, columns], axis=1) * (sure > 0)).max(initial=0)),
    )
    field = cv2.resize(field, cover.shape[::-1], interpolation=cv2.INTER_LINEAR)
    y, x = np.mgrid[: cover.shape[0], : cover.shape[1]].astype(np.float32)
    left = ramp(np.hypot(field[..., 0], field[..., 1]), DETACHED[0] * width, DETACHED[1] * width)
    left *= ramp(y, outline.lobe, outline.lobe - 0.3 * width)  # neck and clothes, below, stay attached
    field *= (
        (1 - left)[..., None] * ramp(-distance, reach, 0.0)[..., None] * _border(cover.shape, 0.15 * width)[..., None]
    )
    return field + np.stack([x + 0.5, y + 0.5], -1), distance, left


def _edge_along(
    points: np.ndarray, side: np.ndarray, direction: np.ndarray, to_rest: np.ndarray, width: float
) -> np.ndarray:
    """Walk from each point along the direction, on the side given by a sign, to the edge of the head: (n, 2)."""
    steps = np.arange(0, 1.3 * width, 1.0)
    way = np.where(side >= 0, 1.0, -1.0)[:, None] * direction
    left = values_at(to_rest, points[:, None] + way[:, None] * steps[:, None]) <= 0
    first = np.where(left.any(1), left.argmax(1), len(steps) - 1)
    return points + way * steps[first][:, None]


def _border(shape: tuple[int, int], fade: float) -> np.ndarray:
    """1 inside the region, falling smoothly to 0 at its border."""
    height, width = shape
    across = np.minimum(np.arange(width), np.arange(width)[::-1])
    down = np.minimum(np.arange(height), np.arange(height)[::-1])
    return ramp(down, 1, fade)[:, None] * ramp(across, 1, fade)[None]
