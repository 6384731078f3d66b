"""Figure of the method in four panels, plotted from real latents: invert, average, fit two lines, walk.

    python experiments/method.py

Plots latents of rendered heads of one illumination class (see rendered.py) in the plane of the first two principal components
of their centroids; the lines are fitted to the centroids only. Writes method.png and method.csv (positions of the centroids,
and the share of their variance explained by the plane and by each component) beside this script.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from rendered import HERE, Rendered
from sklearn.decomposition import PCA

from latentrot.data.arrays import to_uint8
from latentrot.diffusion.solve import decode
from latentrot.directions.directions import Directions
from latentrot.directions.lines import Centroids, YawDirections
from latentrot.directions.walk import walk

STEPS = np.linspace(-30, 30, 7)


@dataclass(frozen=True)
class Method:
    """Options."""

    heads: Rendered = field(default_factory=Rendered)
    """number of heads"""
    light: str = "left"
    """illumination class to plot"""


def panel(axes: Axes, title: str, points: np.ndarray, yaw: np.ndarray, faint: float) -> None:
    """Plot latents as points, coloured by yaw."""
    axes.scatter(*points.T, c=yaw, cmap="coolwarm", vmin=-45, vmax=45, s=7, alpha=faint, linewidths=0)
    axes.set(title=title, xlabel="first component", ylabel="second component")
    axes.margins(0.12)


def draw_lines(axes: Axes, plane: PCA, centroids: Centroids, lines: Directions) -> None:
    """Plot the two fitted lines, and as thick segments with the same centre their length without estimation noise."""
    middle, fitted = len(centroids.counts_) // 2, YawDirections().fit_centroids(centroids)
    sides = ((fitted.left_, lines.left, slice(None, middle + 1)), (fitted.right_, lines.right, slice(middle, None)))
    for line, shrunk, part in sides:
        ends = centroids.yaw_[part][[0, -1]]
        at = np.average(centroids.yaw_[part], weights=centroids.counts_[part])
        for slope, width in ((line.slope_, 1), (shrunk.numpy().ravel(), 3)):
            through = line.intercept_ + at * line.slope_ + np.outer(ends - at, slope)
            axes.plot(*plane.transform(through).T, color="black", linewidth=width)


def main(options: Method) -> None:
    """Embed, project, and write the figure."""
    rendered = options.heads
    store = rendered.latents()
    points, yaw = rendered.points(store, options.light)
    centroids = Centroids().fit(points, yaw)
    means, at, counts = centroids.means_, centroids.yaw_, centroids.counts_
    plane = PCA(2).fit(means)
    components = np.asarray(plane.components_)
    components[0] *= np.sign(components[0] @ (means[-1] - means[0]))  # negative yaw (viewer's left) on the left
    plane.components_ = components
    lines = rendered.rotator.directions[options.light]

    # walk of one unseen head of this illumination class
    source = next(row for row in rendered.sources if rendered.truth.lights[row] == options.light)
    face = rendered.rotator.prepare(rendered.truth.images[source], options.light)
    steps = torch.tensor([lines.step_for(turn) for turn in STEPS])
    walked = walk(face.latent, lines, steps, face.yaw_deg)
    shown = to_uint8(decode(rendered.model, walked, schedule=lines.space.schedule).clamp(-1, 1))

    figure = Figure(figsize=(13, 11), layout="constrained")
    (a, b), (c, d) = figure.subplots(2, 2)
    cloud, middles = plane.transform(points), plane.transform(means)
    panel(a, "(a) latents of heads lit from one side, by yaw", cloud, yaw, 0.7)
    for axes, title in (
        (b, "(b) mean latent of each yaw bin"),
        (c, "(c) one line for each side (thick: without noise)"),
    ):
        panel(axes, title, cloud, yaw, 0.15)
        axes.scatter(*middles.T, c=at, cmap="coolwarm", vmin=-45, vmax=45, s=130, edgecolors="black")
    draw_lines(c, plane, centroids, lines)
    panel(d, "(d) a head's own latent walked along them", cloud, yaw, 0.15)
    path = plane.transform(walked.flatten(1).numpy())
    d.plot(*path.T, color="black", linewidth=1)
    for place, picture in zip(path, shown, strict=True):
        d.add_artist(AnnotationBbox(OffsetImage(picture, zoom=0.8), place, pad=0.1))
    figure.savefig(HERE / "method.png", dpi=80)

    table = pd.DataFrame({"yaw_deg": at, "latents": counts, "first": middles[:, 0], "second": middles[:, 1]})
    held = plane.explained_variance_ratio_
    table.assign(share_first=held[0], share_second=held[1]).round(3).to_csv(HERE / "method.csv", index=False)
    print(table.round(2).to_string(index=False), held.round(3))


if __name__ == "__main__":
    main(tyro.cli(Method, description=__doc__))
