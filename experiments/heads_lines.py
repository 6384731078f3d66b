"""Ablate the fit of the yaw lines: one or two lines, with or without the light filter, and other options.

    python experiments/heads_lines.py

Uses rendered heads, whose true views are known (see rendered.py). All variants share sources and latents. Each variant is
walked twice: with the step sizes of the default's calibration, which compares how far the directions rotate, and with step
sizes measured on each image, which compares images at equal rotation. Writes heads_lines.csv beside this script.
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import tyro
from rendered import HERE, LINES, Rendered, lines_by_light
from turning import one_line, random_lines

from latentrot.directions.directions import Directions
from latentrot.directions.fit import fit_directions, slope_of
from latentrot.directions.lines import CentroidLine
from latentrot.store.latent_store import LatentStore

Lines = dict[str, Directions]
BARE = replace(LINES, calibrate=0)


def with_steps_of(lines: Lines, model: Lines) -> Lines:
    """Give lines the calibration of other lines, so that both are walked with the same step sizes."""
    return {k: replace(d, step_sizes=model[k].step_sizes, achieved=model[k].achieved) for k, d in lines.items()}


def regression(rendered: Rendered, store: LatentStore, default: Lines) -> Lines:
    """Fit the two lines to all latents instead of their centroids."""
    found = {}
    for light, lines in default.items():
        points, yaw = rendered.points(store, light)
        sides = {"left": yaw < BARE.width / 2, "right": yaw > -BARE.width / 2}
        slopes = {
            side: slope_of(CentroidLine().fit(points[inside], yaw[inside]), store.space, BARE)
            for side, inside in sides.items()
        }
        found[light] = replace(lines, **slopes)
    return found


def ways(rendered: Rendered, store: LatentStore) -> dict[str, tuple[Lines, bool]]:
    """Variants: name -> lines with the default's calibration, and whether walks keep the length of each octave."""
    default = lines_by_light(rendered, store, calibrate=True)
    everyone = fit_directions(store, rendered.labels, "any", BARE)
    variants = {
        "no light filter": {k: replace(d, left=everyone.left, right=everyone.right) for k, d in default.items()},
        "one line": one_line(default, store, rendered.labels),
        "regression on all points": regression(rendered, store, default),
        "bins of 5 degrees": lines_by_light(rendered, store, replace(BARE, width=5.0, min_count=1)),
        "bins of 30 degrees": lines_by_light(rendered, store, replace(BARE, width=30.0)),
        "only smiling heads fitted": lines_by_light(rendered, store, replace(BARE, where="Smiling == 1", min_count=1)),
        "coarse frequencies by the step, too": {k: replace(d, coarse=0) for k, d in default.items()},
        "slopes not shrunk": lines_by_light(rendered, store, replace(BARE, shrink=False)),
        "random direction": {k: random_lines(d, i) for i, (k, d) in enumerate(default.items())},
    }
    found = {"two lines, light group": (default, True), "the same, length not kept": (default, False)}
    return found | {name: (with_steps_of(lines, default), True) for name, lines in variants.items()}


def main(rendered: Rendered) -> None:
    """Fit, walk, measure, and write the table."""
    tables = []
    for name, (lines, keep_norm) in ways(rendered, rendered.latents()).items():
        tables.append(rendered.compare_both(name, lines, keep_norm))
        print(tables[-1].iloc[:, :8].round(4).to_string(index=False), flush=True)
        pd.concat(tables).round(4).to_csv(HERE / "heads_lines.csv", index=False)


if __name__ == "__main__":
    main(tyro.cli(Rendered, description=__doc__))
