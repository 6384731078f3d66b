"""Figures of the accuracy of labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from latentrot.errors import LatentrotError

__all__ = ["confusion_figure", "yaw_error_figure"]

#: width of the bins of the mean absolute error, degrees
BIN_DEG = 10.0


def confusion_figure(counts: np.ndarray, truths: Sequence[str], answers: Sequence[str], title: str = "") -> Figure:
    """Plot a confusion matrix.

    Args:
        counts: (len(truths), len(answers)) number of images in each cell.
        truths: names of the rows.
        answers: names of the columns.
        title: title of the figure.

    Returns:
        A figure; each cell is shaded by its share of the row, and shows share and number.

    Raises:
        LatentrotError: `counts` has another shape.
    """
    if counts.shape != (len(truths), len(answers)):
        raise LatentrotError(f"counts of shape {counts.shape}: expected ({len(truths)}, {len(answers)})")
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(1.6 + 1.2 * len(answers), 1.6 + 0.9 * len(truths)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), s in np.ndenumerate(share):
        text = f"{s:.1%}\n{counts[row, column]:d}"
        axes.text(column, row, text, ha="center", va="center", color="white" if s > 0.5 else "black")
    axes.set_xticks(range(len(answers)), answers)
    axes.set_yticks(range(len(truths)), truths)
    axes.set(xlabel="estimated", ylabel="true", title=title)
    return figure


def yaw_error_figure(truth_deg: np.ndarray, estimated_deg: np.ndarray, title: str = "") -> Figure:
    """Plot the error of the yaw against the true yaw.

    Args:
        truth_deg: (n,) reference yaw.
        estimated_deg: (n,) estimated yaw.
        title: title of the figure.

    Returns:
        A figure with one point per image (estimated minus reference) and the mean absolute error of each bin.

    Raises:
        LatentrotError: the arrays differ in shape, are not one-dimensional, or are empty.
    """
    if truth_deg.ndim != 1 or truth_deg.shape != estimated_deg.shape or not len(truth_deg):
        raise LatentrotError(
            f"yaws of shapes {truth_deg.shape} and {estimated_deg.shape}: expected one shape (n,), n > 0"
        )
    error = estimated_deg - truth_deg
    centres, mean = binned_mean(truth_deg, np.abs(error), BIN_DEG)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.plot(truth_deg, error, ".", markersize=3, alpha=0.4, label="one image: estimated minus reference")
    axes.plot(centres, mean, "o-", color="black", markersize=4, label=f"mean absolute error per {BIN_DEG:g} degrees")
    axes.set(xlabel="reference yaw (degrees)", ylabel="error of the yaw (degrees)", title=title)
    axes.legend(loc="best", fontsize="small")
    return figure


def binned_mean(place: np.ndarray, value: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the values in each bin of `place`; bins are centred on multiples of `width`: (centres, means)."""
    bins = np.round(place / width).astype(int)
    filled = np.unique(bins)
    return filled * width, np.array([value[bins == b].mean() for b in filled])
