"""Where the detail of a photograph goes when its face is turned: a displacement field between two coarse crops.

A model draws a turned face no finer than its own resolution. What is finer, the photograph has, at another place: it is
carried along the displacement that takes the coarse source into the coarse turned face, as far as that explains what is seen.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates

__all__ = ["SIDE", "agreement", "correlation", "displaced", "displacement", "enlarged", "reduced"]

#: the field is estimated on crops reduced to this side: a head moves smoothly, and the time stays the same for any model
SIDE = 64
#: blurs in pixels of that side, coarse to fine, and rounds of each
BLURS, ROUNDS = (4.0, 2.0, 1.0, 0.7), 6
#: standard deviation in pixels of the window over which a displacement is shared
WINDOW = 3.0
#: no point moves further, pixels of that side; beyond lies another part of the face
FURTHEST = 10.0
#: squared grey levels under which a gradient or a variance is noise
NOISE = 20.0
#: correlation from which, and up to which, a neighbourhood counts as found again
CORRELATION = (0.6, 0.9)
#: difference in colour (of 255) at which two thirds of the trust are gone
COLOUR_TOLERANCE = 64.0


def reduced(crop: np.ndarray) -> np.ndarray:
    """A square (s, s, 3) crop at `SIDE`, float64."""
    if len(crop) == SIDE:
        return crop.astype(np.float64)
    planes = [Image.fromarray(crop[..., c].astype(np.float32)) for c in range(3)]
    return np.stack(
        [np.asarray(p.resize((SIDE, SIDE), Image.Resampling.LANCZOS)) for p in planes], -1, dtype=np.float64
    )


def enlarged(picture: np.ndarray, side: int) -> np.ndarray:
    """The inverse of `reduced` for smooth pictures: (`SIDE`, `SIDE`, channels) -> (side, side, channels), bicubic."""
    if side == len(picture):
        return picture
    planes = [Image.fromarray(picture[..., c].astype(np.float32)) for c in range(picture.shape[2])]
    return np.stack(
        [np.asarray(p.resize((side, side), Image.Resampling.BICUBIC)) for p in planes], -1, dtype=np.float64
    )


def displaced(picture: np.ndarray, field: np.ndarray) -> np.ndarray:
    """A picture resampled along a field (bilinear, edges repeated).

    Args:
        picture: (h, w, channels) floats.
        field: (2, h, w) columns and rows in pixels; position p of the result shows position p + field[p].

    Returns:
        (h, w, channels) floats.
    """
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]].astype(np.float64)
    at = [rows + field[1], columns + field[0]]
    return np.stack(
        [map_coordinates(picture[..., c], at, order=1, mode="nearest") for c in range(picture.shape[2])], -1
    )


def displacement(source: np.ndarray, turned: np.ndarray) -> np.ndarray:
    """Where each point of the turned face was in the source, coarse to fine.

    Source: Lucas and Kanade, "An Iterative Image Registration Technique with an Application to Stereo Vision", IJCAI 1981,
    over colours, with a Gaussian window.

    Args:
        source: (s, s, 3) crop, 0 to 255.
        turned: the same of the turned face.

    Returns:
        (2, SIDE, SIDE) columns and rows in pixels of a crop of `SIDE`; exactly zero for equal crops.
    """
    source, turned = reduced(source), reduced(turned)
    field = np.zeros((2, SIDE, SIDE))
    for blur in BLURS:
        start, goal = (gaussian_filter(v, (blur, blur, 0)) for v in (source, turned))
        for _ in range(ROUNDS):
            field += _step(displaced(start, field), goal)
            field = gaussian_filter(np.clip(field, -FURTHEST, FURTHEST), (0, 1, 1))
    return field


def _step(moved: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """One Gauss-Newton step towards the goal, (2, h, w), at most a pixel each way."""
    down, across = np.gradient(moved, axis=(0, 1))
    error = goal - moved

    def window(product: np.ndarray) -> np.ndarray:
        return gaussian_filter(product.sum(-1), WINDOW)

    xx, yy, xy = window(across**2) + NOISE, window(down**2) + NOISE, window(across * down)
    ex, ey = window(across * error), window(down * error)
    step = np.stack([yy * ex - xy * ey, xx * ey - xy * ex]) / (xx * yy - xy**2)
    return np.clip(step, -1, 1)


def agreement(source: np.ndarray, turned: np.ndarray, field: np.ndarray) -> np.ndarray:
    """How far a displacement explains what is seen in the turned face.

    A neighbourhood is found again where the displaced source correlates with it (light may change) and its colour is not
    quite another (a cheek that covers the background has moved away).

    Args:
        source: (s, s, 3) crop, 0 to 255.
        turned: the same of the turned face.
        field: from `displacement`.

    Returns:
        (SIDE, SIDE) weights in [0, 1].
    """
    moved, turned = displaced(reduced(source), field), reduced(turned)
    apart = gaussian_filter(np.abs(moved - turned).max(-1), 1.5)
    low, high = CORRELATION
    t = np.clip((correlation(moved.mean(-1), turned.mean(-1)) - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t) * np.exp(-((apart / COLOUR_TOLERANCE) ** 2))


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Local correlation of two (h, w) pictures, 1 where both are flat."""

    def mean(v: np.ndarray) -> np.ndarray:
        return gaussian_filter(v, 2.0)

    covariance = mean(a * b) - mean(a) * mean(b) + NOISE / 2
    variances = (mean(a * a) - mean(a) ** 2 + NOISE / 2) * (mean(b * b) - mean(b) ** 2 + NOISE / 2)
    return covariance / np.sqrt(np.maximum(variances, 1e-9))
