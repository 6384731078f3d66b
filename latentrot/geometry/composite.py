"""Composite a rotated region into its photograph, in parallel bands.

The region's grid has another resolution than the photograph. The detail that the grid cannot represent (photograph minus the
resampled region) is sampled at the source position of each pixel and added.
"""

from __future__ import annotations

import numpy as np

from latentrot.kernels import in_bands, kernel

__all__ = ["composite"]

#: weights below this leave the photograph's pixel unchanged
MIN_WEIGHT = 1e-3


def composite(
    photograph: np.ndarray,
    box: tuple[int, int, int, int],
    to_region: np.ndarray,
    to_photo: np.ndarray,
    images: tuple[np.ndarray, np.ndarray],
    source: np.ndarray,
    fields: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Composite the rotated region into the part of a photograph inside a box.

    Args:
        photograph: (h, w, 3) uint8.
        box: left, top, right, bottom.
        to_region: (2, 3) photograph positions -> region positions.
        to_photo: (2, 3) the inverse.
        images: the region before and after the rotation, (r, c, 3) float32.
        source: (r, c, 2) source position in the region of each of its pixels.
        fields: (r, c) each: weight of the fine detail, whether the pixel changed, coverage (how far the source shows what is
            visible), alpha of the head.

    Returns:
        (bottom - top, right - left, 3) uint8; coverage and the head's alpha, float32.
    """
    left, top, right, bottom = box
    pixels = photograph[top:bottom, left:right].copy()
    coverage, alpha = np.ones(pixels.shape[:2], np.float32), np.zeros(pixels.shape[:2], np.float32)
    maps = np.ascontiguousarray(np.concatenate([source, np.stack(fields, -1)], -1), np.float32)
    before, after = (np.ascontiguousarray(p, np.float32) for p in images)
    in_bands(
        _composite, len(pixels), np.ascontiguousarray(photograph), left, top, to_region.astype(np.float64),
        to_photo.astype(np.float64), before, after, maps, pixels, coverage, alpha,
    )  # fmt: skip
    return pixels, coverage, alpha


@kernel(inline="always", fastmath=True)
def _linear(a, x, y, k):  # noqa: ANN001, ANN202  (numba)
    """Bilinear value of channel k at a position; edges are repeated."""
    height, width = a.shape[:2]
    x, y = min(max(x - 0.5, 0.0), width - 1.0), min(max(y - 0.5, 0.0), height - 1.0)
    i, j = min(int(x), width - 2), min(int(y), height - 2)
    p, q = x - i, y - j
    upper = (1 - p) * a[j, i, k] + p * a[j, i + 1, k]
    return (1 - q) * upper + q * ((1 - p) * a[j + 1, i, k] + p * a[j + 1, i + 1, k])


@kernel(inline="always", fastmath=True)
def _weights(t, w):  # noqa: ANN001, ANN202
    """Catmull-Rom cubic weights."""
    w[0] = t * (-0.5 + t * (1.0 - 0.5 * t))
    w[1] = 1.0 + t * t * (-2.5 + 1.5 * t)
    w[2] = t * (0.5 + t * (2.0 - 1.5 * t))
    w[3] = t * t * (-0.5 + 0.5 * t)


@kernel(inline="always", fastmath=True)
def _cubic(a, x, y, wx, wy, out):  # noqa: ANN001, ANN202
    """Cubic values of three channels at a position; edges are repeated."""
    height, width = a.shape[:2]
    x, y = min(max(x - 0.5, 0.0), width - 1.0), min(max(y - 0.5, 0.0), height - 1.0)
    i, j = int(x), int(y)
    _weights(x - i, wx)
    _weights(y - j, wy)
    out[0] = out[1] = out[2] = 0.0
    for r in range(4):
        row = min(max(j + r - 1, 0), height - 1)
        for c in range(4):
            column = min(max(i + c - 1, 0), width - 1)
            w = wy[r] * wx[c]
            for k in range(3):
                out[k] += w * a[row, column, k]


@kernel(fastmath=True, error_model="numpy")
def _composite(first, last, photograph, left, top, there, back, before, after, maps, pixels, coverage, alpha):  # noqa: ANN001, ANN202
    width = coverage.shape[1]
    for row in range(first, last):
        wx, wy, new, old = np.empty(4), np.empty(4), np.empty(3), np.empty(3)
        for column in range(width):
            px, py = left + column + 0.5, top + row + 0.5
            x = there[0, 0] * px + there[0, 1] * py + there[0, 2]
            y = there[1, 0] * px + there[1, 1] * py + there[1, 2]
            alpha[row, column] = min(max(_linear(maps, x, y, 5), 0.0), 1.0)
            if _linear(maps, x, y, 3) <= MIN_WEIGHT:
                continue
            from_x, from_y, trust = _linear(maps, x, y, 0), _linear(maps, x, y, 1), _linear(maps, x, y, 2)
            coverage[row, column] = min(max(_linear(maps, x, y, 4), 0.0), 1.0)
            _cubic(after, x, y, wx, wy, new)
            if trust > MIN_WEIGHT:
                source_x = back[0, 0] * from_x + back[0, 1] * from_y + back[0, 2]
                source_y = back[1, 0] * from_x + back[1, 1] * from_y + back[1, 2]
                _cubic(before, from_x, from_y, wx, wy, old)
                for k in range(3):
                    new[k] += trust * (_linear(photograph, source_x, source_y, k) - old[k])
            for k in range(3):
                pixels[row, column, k] = np.uint8(min(max(new[k] + 0.5, 0.0), 255.0))
