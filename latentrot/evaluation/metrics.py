"""Similarity of two uint8 images, in units of [0, 1], and confidence intervals of means."""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import bootstrap

from latentrot.data import similarity
from latentrot.errors import LatentrotError

__all__ = ["bootstrap_mean", "grey", "identity_rank", "squared_error", "ssim"]

#: ITU-R BT.601 luma of red, green, blue
LUMA = np.array([0.299, 0.587, 0.114])


def grey(images: np.ndarray) -> np.ndarray:
    """Luma of images: (..., 3) uint8 -> (...) float64 in [0, 1]."""
    return images @ LUMA / 255


def check_pair(a: np.ndarray, b: np.ndarray) -> None:
    """Refuse two images that differ in shape or are not uint8 RGB.

    Raises:
        LatentrotError: an image is not (h, w, 3) uint8, or the sizes differ.
    """
    if a.shape != b.shape or a.ndim != 3 or a.shape[-1] != 3 or a.dtype != np.uint8 or b.dtype != np.uint8:
        raise LatentrotError(
            f"images of shapes {a.shape} and {b.shape}, types {a.dtype} and {b.dtype}: expected two (h, w, 3) uint8"
        )


def squared_error(a: np.ndarray, b: np.ndarray, region: np.ndarray | None = None) -> float:
    """Mean squared difference of two (h, w, 3) uint8 images over pixels and channels, in units of [0, 1]; NaN for no pixels.

    Args:
        a: (h, w, 3) uint8.
        b: image of the same shape and type.
        region: (h, w) bool, pixels to compare; None: all.

    Raises:
        LatentrotError: an image is not (h, w, 3) uint8, or the sizes differ.
    """
    check_pair(a, b)
    squares = np.square((a.astype(np.float64) - b) / 255)
    return mean_in(squares.mean(-1), region)


def ssim(a: np.ndarray, b: np.ndarray, region: np.ndarray | None = None) -> float:
    """Structural similarity of the luma of two images, at most 1.

    11x11 Gaussian windows of standard deviation 1.5 (see `latentrot.data.similarity.ssim_map`).

    Args:
        a: (h, w, 3) uint8, at least 11 pixels to a side.
        b: image of the same shape and type.
        region: (h, w) bool, centres of the windows to average; None: all.

    Raises:
        LatentrotError: an image is not (h, w, 3) uint8 or is too small, or the sizes differ.
    """
    check_pair(a, b)
    x, y = (torch.from_numpy(grey(p))[None, None] * 2 - 1 for p in (a, b))
    values = similarity.ssim_map(x, y)[0, 0].numpy()
    edge = similarity.WINDOW // 2
    return mean_in(values, None if region is None else region[edge:-edge, edge:-edge])


def mean_in(values: np.ndarray, region: np.ndarray | None) -> float:
    """Mean of (h, w) values over a region; NaN if it is empty."""
    chosen = values if region is None else values[region]
    return float(chosen.mean()) if chosen.size else float("nan")


def identity_rank(image: np.ndarray, gallery: np.ndarray, true: int, region: np.ndarray) -> int:
    """Rank of the true head in a gallery by the cosine of the deviations from the gallery's mean, inside a region.

    The cosine does not depend on the norm of a deviation, so a blurred image does not match the head nearest to the mean.

    Args:
        image: (h, w, 3) uint8, the rotated image.
        gallery: (n, h, w, 3) uint8, true images of n heads in the same pose and light.
        true: index of the true head in the gallery.
        region: (h, w) bool, the pixels to compare.

    Returns:
        1 (no other head is more similar) to n.
    """
    heads = gallery[:, region].reshape(len(gallery), -1) / 255.0  # (n, pixels x 3)
    deviations, own = heads - heads.mean(0), image[region].ravel() / 255.0 - heads.mean(0)
    cosine = deviations @ own / np.maximum(np.linalg.norm(deviations, axis=1) * np.linalg.norm(own), 1e-12)
    return 1 + int(np.sum(cosine > cosine[true] + 1e-12))


def bootstrap_mean(values: np.ndarray, resamples: int = 2000, seed: int = 0) -> np.ndarray:
    """Mean with a 95% confidence interval (percentile bootstrap over rows).

    Args:
        values: (n, ...) one row per independent unit, such as a person; all columns are resampled together.
        resamples: number of resamples.
        seed: seed of the resampling.

    Returns:
        (3, ...) mean, lower end and upper end; the ends are NaN for a single row.

    Raises:
        LatentrotError: there are no rows.
    """
    if not len(values):
        raise LatentrotError("no values to average: expected at least one person")
    if len(values) == 1:
        return np.stack([values[0], np.full_like(values[0], np.nan), np.full_like(values[0], np.nan)])
    drawn = bootstrap(
        (values,), np.mean, n_resamples=resamples, batch=200, axis=0, confidence_level=0.95, method="percentile",
        rng=np.random.default_rng(seed),
    )  # fmt: skip
    return np.stack([values.mean(0), drawn.confidence_interval.low, drawn.confidence_interval.high])
