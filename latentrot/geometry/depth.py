"""Depth of a whole head from its outline and its face: soft parts are inflated between the silhouette and the face.

With z the height over the rim, u = z^2 solves a Poisson equation with u = 0 at the silhouette and the face's own u on the
face. Over a disc this gives a half sphere; everywhere the surface meets the rim at a right angle, as on a round body.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import splu

from latentrot.geometry.config import MeshConfig
from latentrot.geometry.fields import blur, dilated, eroded, extrapolated, ramp
from latentrot.geometry.outline import Outline

__all__ = ["back_square", "free_edge", "front_square", "inflate"]

#: cells of the Poisson grid per face width
CELLS = 60
#: height, as a share of W, of the flat zone above freely hanging hair: it must not rotate, like the hair below it
FLAT = 0.04


def front_square(outline: Outline, face_depth: np.ndarray, width: float, config: MeshConfig) -> np.ndarray:
    """Squared height u of the front surface: (h, w) float32, 0 at the silhouette and beyond.

    Args:
        outline: masks.
        face_depth: (h, w) depth of the face over the rim in pixels.
        width: W in pixels.
        config: parameters.
    """
    own = np.maximum(face_depth, 0.02 * width) ** 2
    core = eroded(outline.face, 0.02 * width)
    u = inflate(outline.person, core, own, outline.to_background, config.swell, width)
    u = np.minimum(u, (1.0 * width) ** 2)
    rows = np.arange(len(u))[:, None]
    u *= 1 - _hangs(outline, width) * ramp(rows, outline.lobe - 0.25 * width, outline.cut - FLAT * width)
    inside = blur(core.astype(np.float32), 0.01 * width)
    below = ramp(rows, outline.lobe - 0.1 * width, outline.lobe + 0.05 * width)
    away = cv2.distanceTransform((~outline.face).astype(np.uint8), cv2.DIST_L2, 5)
    beside = ramp(away, 0.15 * width, 0.0) * ramp(outline.to_background, 0.0, 0.06 * width)
    at_jaw = below * np.where(outline.face, 1.0, beside)
    weight = np.maximum(inside, at_jaw)  # the jaw is a depth discontinuity: keep the depth of the face up to it
    return (weight * own + (1 - weight) * u).astype(np.float32)


def free_edge(outline: Outline, width: float) -> np.ndarray:
    """(h, w) float32, 1 along the jaw, where the edge of the head does not bend back to the rim."""
    rows = np.arange(len(outline.face))[:, None]
    away = cv2.distanceTransform((~outline.face).astype(np.uint8), cv2.DIST_L2, 5)
    return ramp(rows, outline.lobe - 0.12 * width, outline.lobe) * ramp(away, 0.06 * width, 0.02 * width)


def back_square(outline: Outline, width: float, config: MeshConfig) -> np.ndarray:
    """Squared depth u of the back surface: (h, w) float32; it meets the rim below the ears, where the neck begins."""
    rows = np.arange(len(outline.head))[:, None]
    nothing = np.zeros_like(outline.head)
    skull = outline.head & (rows < outline.chin + 0.1 * width)
    u = inflate(skull, nothing, np.zeros(nothing.shape, np.float32), outline.to_background, config.swell, width)
    u *= (config.back_depth * width) ** 2 / max(float(u.max()), 1.0)
    start, end = outline.lobe - 0.55 * width, outline.lobe - 0.04 * width
    long = _hangs(outline, width)
    nape = np.clip((rows - start) / (end + long * (outline.cut - FLAT * width - end) - start), 0, 1)
    return (u * (1 - nape**2) ** (1 + 2 * long)).astype(np.float32)  # long hair merges into the hair hanging below


def _hangs(outline: Outline, width: float) -> np.ndarray:
    """(1, w) float32, the columns in which hair hangs below the head and must merge into the part that does not rotate."""
    rows = np.arange(len(outline.head))[:, None]
    low = outline.head & ~outline.face & (rows > outline.lobe)
    return np.clip(blur(dilated(low.max(0)[None], 0.1 * width).astype(np.float32), 0.05 * width), 0, 1)


def inflate(
    domain: np.ndarray, fixed: np.ndarray, values: np.ndarray, distance: np.ndarray, swell: float, width: float
) -> np.ndarray:
    """Solve laplace(u) = -swell in the domain with u = 0 around it and u = values where fixed.

    Args:
        domain: (h, w) bool.
        fixed: (h, w) bool.
        values: (h, w) float32.
        distance: (h, w) to the edge of the domain, positive inside; near the edge u grows in proportion to it.
        swell: strength.
        width: W in pixels.

    Returns:
        (h, w) float32, 0 outside.
    """
    step = max(1, round(width / CELLS))
    size = -(-domain.shape[1] // step), -(-domain.shape[0] // step)

    def small(a: np.ndarray) -> np.ndarray:
        return cv2.resize(a.astype(np.float32), size, interpolation=cv2.INTER_AREA)

    inner, held = small(domain) > 0.5, (small(fixed) > 0.6) & (small(domain) > 0.5)
    share = small(fixed)
    target = small(np.where(fixed, values, 0)) / np.maximum(share, 1e-3)
    u = _poisson(inner, held, np.where(held, target, 0), swell * step**2)
    slope = np.where(inner, u / np.maximum(small(distance), 0.5 * step), 0)
    known = (inner & (small(distance) > 0.75 * step)).astype(np.float32)
    slope = extrapolated(slope[..., None].astype(np.float32), known)
    full = domain.shape[1], domain.shape[0]
    near = cv2.resize(slope[..., 0], full, interpolation=cv2.INTER_CUBIC) * distance
    far = cv2.resize(u.astype(np.float32), full, interpolation=cv2.INTER_CUBIC)
    weight = ramp(distance, 1.0 * step, 3.0 * step)
    return np.maximum(np.where(distance > 0, weight * far + (1 - weight) * np.maximum(near, 0), 0), 0).astype(
        np.float32
    )


def _poisson(domain: np.ndarray, held: np.ndarray, values: np.ndarray, source: float) -> np.ndarray:
    """Solve the five-point Poisson equation; the image border reflects (Neumann)."""
    free = domain & ~held
    count = int(free.sum())
    u = np.where(held, values, 0.0).astype(np.float64)
    if count == 0:
        return u
    number = np.full(domain.shape, -1)
    number[free] = np.arange(count)
    rows, columns = np.nonzero(free)
    right = np.full(count, source)
    diagonal = np.zeros(count)
    i, j, v = [], [], []
    for down, across in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        r, c = rows + down, columns + across
        inside = (r >= 0) & (r < domain.shape[0]) & (c >= 0) & (c < domain.shape[1])
        diagonal += inside
        r, c = np.clip(r, 0, domain.shape[0] - 1), np.clip(c, 0, domain.shape[1] - 1)
        joined = inside & free[r, c]
        i.append(np.flatnonzero(joined))
        j.append(number[r, c][joined])
        v.append(np.full(int(joined.sum()), -1.0))
        right += np.where(inside & held[r, c], values[r, c], 0)
    i.append(np.arange(count))
    j.append(np.arange(count))
    v.append(diagonal)
    matrix = csc_matrix((np.concatenate(v), (np.concatenate(i), np.concatenate(j))), (count, count))
    u[free] = splu(matrix).solve(right)
    return u
