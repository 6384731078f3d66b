"""Mean faces of CelebA by light (rows) and pose (columns), compared with the published statistics.

Writes mean_faces.png and mean_faces.csv beside this script: per cell the number of images and their variance (mean
over pixels and channels, pixels in [0, 1]), and the mean squared difference between neighbouring means. The mirror image of
each image is counted in the mirrored cell, as in the publication (Asperti, Colasuonno, Guerra, 2024).

    python experiments/mean_faces.py --data ../shared/data/celeba
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tyro
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from latentrot.data.celeba import FaceFolder
from latentrot.faces.estimate import LIGHTS

HERE = Path(__file__).parent
LABELS = HERE.parent / "data_labels"
POSES = ("left", "center", "right")
#: published: variance of the cells, rows light left, center, right, columns pose left, center, right
VARIANCE = np.array([[0.060, 0.057, 0.059], [0.053, 0.050, 0.053], [0.059, 0.057, 0.060]])
#: published: mean squared difference between neighbours in a row (3, 2) and in a column (2, 3)
IN_ROW = np.array([[0.0066, 0.0045], [0.0054, 0.0054], [0.0045, 0.0066]])
IN_COLUMN = np.array([[0.0041, 0.0050, 0.0026], [0.0026, 0.0050, 0.0041]])


@dataclass(frozen=True)
class MeanFaces:
    """Mean faces by light and pose."""

    data: Path
    """CelebA folder"""
    light: Path = LABELS / "celeba_light.csv"
    """image_id, light, confidence"""
    pose: Path = LABELS / "celeba_pose.csv"
    """image_id, yaw_deg"""
    out: Path = HERE
    """output folder of mean_faces.png and mean_faces.csv"""
    central: float = 10.0
    """max absolute yaw of central poses, degrees"""
    sure: float = 0.6
    """min confidence of the light label; other images are left out"""
    size: int = 64
    """side of the crops in pixels"""


def cell_of(light: np.ndarray, yaw_deg: np.ndarray, central: float) -> np.ndarray:
    """Cell of each image, (n,): 3 * light + pose, 0 to 8."""
    row = np.array([LIGHTS.index(name) for name in light])
    column = 1 + (yaw_deg > central).astype(int) - (yaw_deg < -central).astype(int)
    return row * 3 + column


def moments(crops: np.ndarray, cell: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count, mean and variance per cell, including mirror images.

    Args:
        crops: (n, h, w, 3) uint8.
        cell: (n,) from `cell_of`.

    Returns:
        (3, 3) counts, (3, 3, h, w, 3) means in [0, 1], (3, 3) variances, means over pixels and channels.
    """
    count = np.zeros(9)
    total = np.zeros((9, *crops.shape[1:]))
    squares = np.zeros_like(total)
    for chunk in np.array_split(np.arange(len(crops)), max(1, len(crops) // 500)):
        x = crops[chunk] / 255.0
        for pictures, cells in ((x, cell[chunk]), (x[:, :, ::-1], 8 - cell[chunk])):  # mirrored: both axes swap
            np.add.at(total, cells, pictures)
            np.add.at(squares, cells, pictures**2)
            count += np.bincount(cells, minlength=9)
    mean = total / count[:, None, None, None]
    variance = (squares / count[:, None, None, None] - mean**2).mean((1, 2, 3))
    return count.reshape(3, 3).astype(int), mean.reshape(3, 3, *crops.shape[1:]), variance.reshape(3, 3)


def neighbours(mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean squared difference of neighbouring means: (3, 3, h, w, 3) -> in rows (3, 2), in columns (2, 3)."""
    return np.square(np.diff(mean, axis=1)).mean((2, 3, 4)), np.square(np.diff(mean, axis=0)).mean((2, 3, 4))


def draw(mean: np.ndarray, count: np.ndarray, variance: np.ndarray) -> Figure:
    """The grid of mean faces."""
    figure = Figure(figsize=(7, 7.6), layout="constrained")
    axes = figure.subplots(3, 3)
    for (i, j), axis in np.ndenumerate(axes):
        axis.imshow(mean[i, j])
        axis.set(xticks=[], yticks=[])
        axis.set_xlabel(f"{count[i, j]} pictures, variance {variance[i, j]:.3f}", fontsize=9)
        if i == 0:
            axis.set_title(f"head {POSES[j]}")
        if j == 0:
            axis.set_ylabel(f"light {LIGHTS[i]}")
    return figure


def table(count: np.ndarray, variance: np.ndarray, in_row: np.ndarray, in_column: np.ndarray) -> pd.DataFrame:
    """Table of measured and published statistics, one row per statistic."""
    rows = []
    for what, ours, published in (
        ("pictures", count, np.full((3, 3), np.nan)),
        ("variance", variance, VARIANCE),
        ("difference in row", in_row, IN_ROW),
        ("difference in column", in_column, IN_COLUMN),
    ):
        for (i, j), value in np.ndenumerate(ours):
            rows.append((what, i, j, round(float(value), 4), published[i, j]))
    return pd.DataFrame(rows, columns=["figure", "row", "column", "measured", "published"])


def main(options: MeanFaces) -> None:
    """Read, average, draw, write."""
    light = pd.read_csv(options.light, index_col="image_id")
    pose = pd.read_csv(options.pose, index_col="image_id")
    light = light[(light["confidence"] >= options.sure) & light["light"].isin(LIGHTS)]
    labels = light.join(pose, how="inner")
    crops = FaceFolder(options.data).read_crops(list(labels.index), options.size)
    cell = cell_of(labels["light"].to_numpy(), labels["yaw_deg"].to_numpy(), options.central)
    count, mean, variance = moments(crops, cell)
    figures = table(count, variance, *neighbours(mean))
    options.out.mkdir(parents=True, exist_ok=True)
    figures.to_csv(options.out / "mean_faces.csv", index=False)
    FigureCanvasAgg(draw(mean, count, variance)).print_png(str(options.out / "mean_faces.png"))
    print(figures.to_string(index=False))


if __name__ == "__main__":
    main(tyro.cli(MeanFaces, description=__doc__))
