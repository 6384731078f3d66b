"""Fit lines to latents: yaw bins, streaming centroids, and one weighted regression of latent on yaw for each side.

After Asperti, Colasuonno, Guerra, "Illumination and Shadows in Head Rotation", Electronics 13(15):3091, 2024.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self, cast

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags, TransformerTags
from sklearn.utils.validation import check_is_fitted, validate_data

from latentrot.errors import LatentrotError

__all__ = [
    "CentroidLine",
    "Centroids",
    "YawBins",
    "YawDirections",
    "add_by_group",
]

#: scikit-learn's validate_data, whose stubs are too narrow
validated = cast("Callable[..., Any]", validate_data)


class YawBins(TransformerMixin, BaseEstimator):
    """Yaw bins of equal width, the middle one centred on the frontal pose.

    Width and limit determine the bins, so yaw can be binned before fitting (`edges`, `assign`). As a transformer it maps
    columns of yaw to columns of bin numbers.

    Args:
        width: bin width in degrees.
        limit: the outermost bins end at or before +-limit degrees; larger yaws are left out.

    Attributes:
        edges_: (bins + 1,) rising bin edges in degrees.
    """

    def __init__(self, width: float = 10.0, limit: float = 45.0) -> None:
        self.width = width
        self.limit = limit

    @property
    def edges(self) -> np.ndarray:
        """(bins + 1,) rising bin edges in degrees."""
        if not 0 < self.width <= 2 * self.limit:
            raise LatentrotError(
                f"yaw bins of width {self.width} within +-{self.limit} degrees: no bin fits; expected width <= limit"
            )
        beside = int((self.limit - self.width / 2) / self.width + 1e-9)
        return (np.arange(2 * beside + 2) - beside - 0.5) * self.width

    def assign(self, yaw: np.ndarray) -> np.ndarray:
        """(n,) yaw in degrees -> (n,) bin numbers, -1 outside all bins.

        A yaw on an edge goes to the bin nearer the frontal pose on either side, so that mirrored poses share mirrored bins.
        """
        yaw, edges = np.asarray(yaw), self.edges
        outer = edges[edges > 0]
        beside = np.searchsorted(outer, np.abs(yaw), side="left")  # number of bins away from the middle one
        index = len(outer) - 1 + np.where(yaw < 0, -beside, beside)
        return np.where(beside < len(outer), index, -1)

    def fit(self, X: np.ndarray, y: object = None) -> Self:
        """Record the number of columns of (n, columns) yaw in degrees; the edges depend on width and limit only."""
        validated(self, X=X)
        self.edges_ = self.edges
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """(n, columns) yaw in degrees -> (n, columns) bin numbers, -1 outside all bins."""
        check_is_fitted(self, "edges_")
        return self.assign(np.asarray(validated(self, X=X, reset=False)))

    def __sklearn_tags__(self) -> Tags:
        """Declare integer output for any input dtype."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags = TransformerTags(preserves_dtype=[])
        return tags


class _YawEstimator(BaseEstimator):
    """Base of estimators fitted to latents X with their yaw y, which is required."""

    def __sklearn_tags__(self) -> Tags:
        """Declare that y is required."""
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    def _validated(
        self, X: np.ndarray, y: np.ndarray, *, reset: bool = True, min_count: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """(n, d) latents in their own dtype and (n,) float64 yaw; ValueError for fewer than `min_count` or invalid values."""
        latents, yaw = validated(self, X=X, y=y, y_numeric=True, reset=reset, ensure_min_samples=min_count)
        return np.asarray(latents), np.asarray(yaw, np.float64)


#: number of latents added at a time, so that they stay in the processor's cache in float64
ROWS = 16


def add_by_group(into: np.ndarray, X: np.ndarray, groups: np.ndarray) -> None:
    """Add each row to the sum of its group, in float64.

    Sums of half-precision numbers are exact in float64: all are multiples of 2^-24, and 53 bits hold 2^29 of them. So neither
    the order nor the partition changes the result, up to half a billion latents of ordinary size. (One matrix product with
    the indicator matrix of the groups takes four times as long, because nearly all of its factors are zero.)

    Args:
        into: (groups + 1, d) sums, changed in place; the last row sums the rows without a group.
        X: (n, d) rows of any floating type.
        groups: (n,) group of each row, -1 for none.
    """
    sums, x = torch.from_numpy(into), torch.from_numpy(np.ascontiguousarray(X))
    index = torch.from_numpy(np.where(groups < 0, len(into) - 1, groups).astype(np.int64))
    wide = torch.empty(ROWS, X.shape[1], dtype=torch.float64)
    single = torch.empty(ROWS, X.shape[1])
    for start in range(0, len(x), ROWS):
        rows = x[start : start + ROWS]
        if (
            rows.dtype == torch.float16
        ):  # converting via float32 is faster: CPUs have no direct half to double instruction
            rows = single[: len(rows)].copy_(rows)
        sums.index_add_(0, index[start : start + ROWS], wide[: len(rows)].copy_(rows))


class Centroids(_YawEstimator):
    """Mean latent of each yaw bin; streaming, float64, constant memory.

    Args:
        bins: the yaw bins; None: the default bins.

    Attributes:
        counts_: (bins,) number of latents per bin.
        means_: (bins, d) mean latents; NaN where a bin is empty.
        yaw_: (bins,) mean yaw per bin in degrees.
    """

    def __init__(self, bins: YawBins | None = None) -> None:
        self.bins = bins

    def partial_fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Add (n, d) latents with their (n,) yaw in degrees."""
        X, y = self._validated(X, y, reset=not hasattr(self, "counts_"))
        bins = self.bins or YawBins()
        index, number = bins.assign(y), len(bins.edges) - 1
        inside = index >= 0
        counts = np.bincount(index[inside], minlength=number)
        yaw = np.bincount(index[inside], y[inside], minlength=number)
        sums = np.zeros((number + 1, X.shape[1]))
        add_by_group(sums, X, index)
        return self.add(counts, sums[:number], yaw)

    def add(self, counts: np.ndarray, sums: np.ndarray, yaw: np.ndarray) -> Self:
        """Add (bins,) counts, (bins, d) sums of latents and (bins,) sums of yaw computed elsewhere."""
        if not hasattr(self, "counts_"):
            self.counts_ = np.zeros(len(counts), np.int64)
            self._sums, self._yaw = np.zeros(sums.shape), np.zeros(len(counts))
        if sums.shape != self._sums.shape:
            raise LatentrotError(f"sums {sums.shape}: expected (bins, d) = {self._sums.shape}")
        self.counts_ = self.counts_ + counts
        self._sums += sums
        self._yaw = self._yaw + yaw
        return self

    def merge(self, other: Self) -> Self:
        """Add the sums of another instance, as if its latents had been added here.

        Raises:
            LatentrotError: the bins or the shapes of the latents differ.
        """
        mine, theirs = (self.bins or YawBins()).edges, (other.bins or YawBins()).edges
        if not np.array_equal(mine, theirs):
            raise LatentrotError(
                f"bin edges {theirs.tolist()} cannot be merged into {mine.tolist()}; expected the same edges"
            )
        return self.add(other.counts_, other._sums, other._yaw) if hasattr(other, "counts_") else self

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Reset, then `partial_fit`."""
        for name in ("counts_", "_sums", "_yaw"):
            self.__dict__.pop(name, None)
        return self.partial_fit(X, y)

    @property
    def means_(self) -> np.ndarray:
        """(bins, d) mean latents."""
        check_is_fitted(self, "counts_")
        with np.errstate(invalid="ignore"):
            return self._sums / self.counts_[:, None]

    @property
    def yaw_(self) -> np.ndarray:
        """(bins,) mean yaw per bin, degrees."""
        check_is_fitted(self, "counts_")
        with np.errstate(invalid="ignore"):
            return self._yaw / self.counts_

    def grouped(self, groups: list[slice]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For groups of neighbouring bins: (k, d) mean latents, (k,) mean yaw in degrees, (k,) counts."""
        check_is_fitted(self, "counts_")
        counts = np.array([self.counts_[group].sum() for group in groups])
        means = np.stack([self._sums[group].sum(0) for group in groups]) / counts[:, None]
        return means, np.array([self._yaw[group].sum() for group in groups]) / counts, counts


def merge_outside_in(counts: np.ndarray, min_count: int) -> list[slice]:
    """Merge neighbouring bins from the outside in, until each group holds `min_count`; the last group takes leftover bins."""
    groups: list[slice] = []
    start = 0
    for stop in range(1, len(counts) + 1):
        if counts[start:stop].sum() >= min_count:
            groups.append(slice(start, stop))
            start = stop
    if groups:
        groups[-1] = slice(groups[-1].start, len(counts))
    return groups


def merge_bins(counts: np.ndarray, min_count: int) -> tuple[list[slice], int]:
    """Merge neighbouring yaw bins until each group holds enough latents.

    The middle group grows equally to both sides, so that it stays centred on the frontal pose; on each side of it, bins are
    merged from the outside in.

    Args:
        counts: (bins,) latents per bin, an odd number of bins.
        min_count: min number of latents per group.

    Returns:
        The groups as slices of the bins, in order, and the index of the middle group.

    Raises:
        LatentrotError: too few latents for a middle group and one group on each side of it.
    """
    min_count, middle = max(1, min_count), len(counts) // 2
    for reach in range(middle):
        low, high = middle - reach, middle + reach + 1
        left = merge_outside_in(counts[:low], min_count)
        right = merge_outside_in(counts[high:][::-1], min_count)
        if counts[low:high].sum() >= min_count and left and right:
            mirrored = [slice(len(counts) - g.stop, len(counts) - g.start) for g in reversed(right)]
            return [*left, slice(low, high), *mirrored], len(left)
    raise LatentrotError(
        f"{counts.sum()} latents, {counts[:middle].sum()} of heads turned left, {counts[middle]} frontal, "
        f"{counts[middle + 1 :].sum()} turned right: two lines need {min_count} of each; embed more images or loosen the "
        "filter"
    )


class CentroidLine(_YawEstimator):
    """Weighted linear regression of latent on yaw, fitted to centroids.

    Attributes:
        slope_: (d,) change of the latent per degree of yaw.
        intercept_: (d,) latent at yaw 0.
        r2_: share of the weighted variance of the centroids that the line explains, 0 to 1.
    """

    def fit(self, X: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> Self:
        """Fit to (k, d) centroids at (k,) yaw in degrees, weighted by (k,) counts."""
        X, y = self._validated(X, y)
        X = X.astype(np.float64, copy=False)
        w = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, np.float64)
        if w.shape != y.shape or not w.sum():
            raise LatentrotError(
                f"sample_weight {w.shape}, sum {w.sum()}: expected {len(y)} weights that are not all zero"
            )
        if np.ptp(y) == 0:
            raise LatentrotError(
                f"a line needs centroids at two different yaws; got {len(y)} sample(s) at {y.tolist()}"
            )
        w = w / w.sum()
        mean_y, mean_x = w @ y, w @ X
        dy, dx = y - mean_y, X - mean_x
        self.slope_ = (w * dy) @ dx / (w @ dy**2)
        self.intercept_ = mean_x - self.slope_ * mean_y
        total = w @ (dx**2).sum(1)
        residual = w @ ((dx - dy[:, None] * self.slope_) ** 2).sum(1)
        self.r2_ = float(1 - residual / total) if total > 0 else 1.0
        return self


class YawDirections(_YawEstimator):
    """Two lines through the centroids: heads turned left (yaw <= 0) and right (yaw >= 0), both through the middle bin.

    Args:
        bins: the yaw bins; None: the default bins.
        min_count: min number of latents per bin; smaller bins are merged with their neighbours (see `merge_bins`).

    Attributes:
        left_: CentroidLine of the bins at or left of frontal.
        right_: CentroidLine of the bins at or right of frontal.
        counts_: (k,) latents per bin after merging.
        edges_: (k + 1,) rising edges of those bins in degrees.
    """

    def __init__(self, bins: YawBins | None = None, min_count: int = 5) -> None:
        self.bins = bins
        self.min_count = min_count

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Fit to (n, d) latents with (n,) yaw in degrees."""
        X, y = self._validated(X, y, min_count=3)
        return self.fit_centroids(Centroids(self.bins).fit(X, y))

    def fit_centroids(self, centroids: Centroids) -> Self:
        """Fit to centroids computed elsewhere, for example while streaming a store.

        Raises:
            LatentrotError: too few latents, even after merging bins.
        """
        groups, middle = merge_bins(centroids.counts_, self.min_count)
        means, yaw, counts = centroids.grouped(groups)
        self.left_ = CentroidLine().fit(means[: middle + 1], yaw[: middle + 1], counts[: middle + 1])
        self.right_ = CentroidLine().fit(means[middle:], yaw[middle:], counts[middle:])
        self.counts_ = counts
        edges = (self.bins or YawBins()).edges
        self.edges_ = np.array([edges[0], *(edges[group.stop] for group in groups)])
        return self
