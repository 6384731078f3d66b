"""Small operations on images and maps: (h, w) or (h, w, c) float32 arrays."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.ndimage import map_coordinates

from latentrot.numerics import smoothstep

__all__ = [
    "blur",
    "blur_within",
    "continued",
    "curve_through",
    "dilated",
    "eroded",
    "extrapolated",
    "filled",
    "holes_filled",
    "mirrored_detail",
    "nearest",
    "ramp",
    "sample",
    "sample_at",
    "signed_distance",
    "values_at",
]


def blur(a: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur, edges repeated; a wide blur runs on a reduced image, which gives the same result."""
    a = np.ascontiguousarray(a, np.float32)
    shrink = int(sigma // 3)
    if shrink < 2 or min(a.shape[:2]) < 4 * shrink:
        return cv2.GaussianBlur(a, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE) if sigma > 0 else a
    size = -(-a.shape[1] // shrink), -(-a.shape[0] // shrink)
    small = cv2.resize(a, size, interpolation=cv2.INTER_AREA)
    scale = sigma * size[0] / a.shape[1], sigma * size[1] / a.shape[0]
    small = cv2.GaussianBlur(small, (0, 0), scale[0], None, scale[1], borderType=cv2.BORDER_REPLICATE)
    return cv2.resize(small, a.shape[1::-1], interpolation=cv2.INTER_LINEAR).reshape(a.shape)


def blur_within(image: np.ndarray, known: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Blur an image (h, w, c) over its known pixels only; also returns (h, w, 1), their share of the kernel."""
    share = blur(known.astype(np.float32), sigma)[..., None]
    return blur(image * known[..., None], sigma) / np.maximum(share, 1e-3), share


def ramp(a: np.ndarray, low: float, high: float) -> np.ndarray:
    """Smooth step: 0 up to `low`, 1 from `high` on; `low` may exceed `high`."""
    return smoothstep(a, low, high).astype(np.float32)


def sample(
    a: np.ndarray, x: np.ndarray, y: np.ndarray, how: int = cv2.INTER_LINEAR, border: int = cv2.BORDER_REPLICATE
) -> np.ndarray:
    """Values of a map at positions (edges at pixel borders)."""
    return cv2.remap(a, (x - 0.5).astype(np.float32), (y - 0.5).astype(np.float32), how, borderMode=border)


def sample_at(
    a: np.ndarray, places: np.ndarray, how: int = cv2.INTER_LINEAR, border: int = cv2.BORDER_REPLICATE
) -> np.ndarray:
    """Values of a map at (h, w, 2) positions, columns first, edges at pixel borders."""
    return sample(a, places[..., 0], places[..., 1], how, border)


def values_at(a: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Bilinear values of a map (h, w) at points (..., 2), columns first, edges repeated; slower than `sample_at`, exact."""
    places = np.stack([points[..., 1] - 0.5, points[..., 0] - 0.5])
    return map_coordinates(a, places, order=1, mode="nearest")


def _disc(radius: float) -> np.ndarray:
    size = 2 * max(1, round(radius)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))


def dilated(mask: np.ndarray, radius: float) -> np.ndarray:
    """Dilate a mask by a radius in pixels."""
    return cv2.dilate(mask.astype(np.uint8), _disc(radius)) > 0


def eroded(mask: np.ndarray, radius: float) -> np.ndarray:
    """Erode a mask by a radius in pixels; the image border does not erode it."""
    return cv2.erode(mask.astype(np.uint8), _disc(radius), borderType=cv2.BORDER_REPLICATE) > 0


def holes_filled(mask: np.ndarray) -> np.ndarray:
    """Fill the holes of a mask: everything that is not 4-connected to the image border outside it."""
    outside = np.pad(~mask, 1, constant_values=True).astype(np.uint8)
    labels = cv2.connectedComponents(outside, connectivity=4)[1]
    return labels[1:-1, 1:-1] != labels[0, 0]


def signed_distance(mask: np.ndarray) -> np.ndarray:
    """Distance in pixels to the mask's edge, positive inside."""
    inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    outside = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
    return np.where(mask, inside - 0.5, 0.5 - outside).astype(np.float32)


def nearest(known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the nearest known pixel for each pixel (itself if known). At least one pixel must be known."""
    _, labels = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    rows, columns = np.nonzero(known)
    labels = np.asarray(labels, np.int64)
    place = np.zeros(int(labels.max()) + 1, np.int64)
    place[labels[rows, columns]] = np.arange(len(rows))
    return rows[place[labels]], columns[place[labels]]


def extrapolated(a: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Fill unknown pixels with smooth values: push averages up a pyramid and pull them down into the gaps.

    Source: Gortler, Grzeszczuk, Szeliski, Cohen, "The Lumigraph", SIGGRAPH 1996, section 3.4.

    Args:
        a: (h, w, c) values.
        weight: (h, w) confidence, 0 to 1.
    """
    levels: list[tuple[np.ndarray, np.ndarray]] = [(a * weight[..., None], weight.astype(np.float32))]
    while min(levels[-1][1].shape) > 2:
        values, known = (cv2.pyrDown(v) for v in levels[-1])
        values = values[..., None] if values.ndim == 2 else values
        more = np.minimum(1, 2 * known) / np.maximum(known, 1e-6)
        levels.append((values * more[..., None], known * more))
    values, known = levels[-1]
    low = values / np.maximum(known, 1e-6)[..., None]
    for values, known in levels[-2::-1]:
        up = cv2.resize(low, known.shape[::-1], interpolation=cv2.INTER_LINEAR)
        low = values + (1 - np.clip(known, 0, 1))[..., None] * (up[..., None] if up.ndim == 2 else up)
    return low.astype(np.float32)


def mirrored_detail(image: np.ndarray, known: np.ndarray, sigma: float, limit: float) -> np.ndarray:
    """Detail of the known part finer than sigma, mirrored at its edge into the rest: (h, w, 3)."""
    low, _ = blur_within(image, known, sigma)
    fine = np.clip((image - low) * known[..., None], -limit, limit)
    rows, columns = nearest(known)
    height, width = known.shape
    y, x = np.mgrid[:height, :width]
    return fine[np.clip(2 * rows - y, 0, height - 1), np.clip(2 * columns - x, 0, width - 1)]


def filled(image: np.ndarray, known: np.ndarray, sigma: float = 0.0, limit: float = 14.0) -> np.ndarray:
    """Fill the unknown pixels of an image smoothly, with mirrored detail finer than sigma (sigma 0: without detail)."""
    if known.all() or not known.any():
        return image
    base = extrapolated(image, known.astype(np.float32))
    if sigma > 0:
        base = blur(base, 0.5 * sigma) + mirrored_detail(image, known, sigma, limit)
    return np.where(known[..., None], image, base).astype(np.float32)


def continued(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Continue the colours of known pixels (h, w) bool a few pixels beyond them, for a soft edge."""
    weight = known.astype(np.float32)
    near = cv2.blur(image * weight[..., None], (5, 5)) / np.maximum(cv2.blur(weight, (5, 5)), 1e-4)[..., None]
    return np.where(known[..., None], image, near)


def curve_through(points: np.ndarray, steps: int) -> np.ndarray:
    """Cubic spline with straight ends through points (n, 2), n >= 3, `steps` steps per interval: ((n - 1) steps + 1, 2).

    Implemented here because importing `scipy.interpolate` takes 0.1 s.
    """
    first, last = points[:1], points[-1:]
    longer = np.concatenate([2 * first - points[2:0:-1], points, 2 * last - points[-2:-4:-1]])
    at = 2 + np.linspace(0, len(points) - 1, (len(points) - 1) * steps + 1)
    return np.stack([map_coordinates(longer[:, k], at[None], order=3, mode="mirror") for k in (0, 1)], 1)
