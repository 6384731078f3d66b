"""Measure the number of heads that a yaw bin needs: agreement of lines fitted to disjoint samples, and their rotation.

    python experiments/heads_samples.py

Two disjoint sets of up to n latents are drawn from each yaw bin of an illumination class, and two lines are fitted to each
set. Writes heads_samples.csv with, for each n: the mean number of latents per bin; the cosine between the two fits, before
and after correction for estimation noise (mean and min over illumination classes and sides); the cosine of each fit to the
lines of all latents; and the rotation of unseen heads by the lines of the first fit, with the default's step sizes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch
import tyro
from rendered import HERE, LIGHTS, Rendered, lines_by_light

from latentrot.directions.directions import Directions
from latentrot.directions.fit import FitConfig, slope_of
from latentrot.directions.lines import YawBins, YawDirections
from latentrot.rotators.latent.rotator import LatentRotator
from latentrot.store.space import LatentSpace

SIDES = ("left", "right")


@dataclass(frozen=True)
class HeadsSamples:
    """Options."""

    heads: Rendered = field(default_factory=Rendered)
    """number of heads"""
    per_bin: tuple[int, ...] = (3, 10, 30, 100, 1_000_000)
    """max latents per bin and set"""
    seed: int = 0
    """seed of the random draws"""


def two_sets(bins: np.ndarray, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw two disjoint, equally large sets of rows, with up to n of each bin."""
    halves: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for b in np.unique(bins[bins >= 0]):
        rows = rng.permutation(np.flatnonzero(bins == b))
        size = min(n, len(rows) // 2)
        halves[0].append(rows[:size])
        halves[1].append(rows[size : 2 * size])
    return np.concatenate(halves[0]), np.concatenate(halves[1])


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine between two slopes of any shape."""
    return float(np.vdot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def slopes(fitted: YawDirections, space: LatentSpace, *, shrink: bool) -> dict[str, np.ndarray]:
    """Return the slopes of the lines of both sides."""
    lines = zip(SIDES, (fitted.left_, fitted.right_), strict=True)
    return {side: slope_of(line, space, FitConfig(shrink=shrink)).numpy() for side, line in lines}


def main(options: HeadsSamples) -> None:
    """Draw, fit, compare, walk, and write the table."""
    rendered, rng = options.heads, np.random.default_rng(options.seed)
    store = rendered.latents()
    default = lines_by_light(rendered, store, calibrate=True)
    groups = {light: rendered.points(store, light) for light in LIGHTS}
    rows = []
    for n in options.per_bin:
        lines: dict[str, Directions] = {}
        cosines: dict[str, list[float]] = {"raw": [], "shrunk": [], "to_all": []}
        held = []
        for light, (points, yaw) in groups.items():
            bins = YawBins().assign(yaw)
            halves = two_sets(bins, n, rng)
            held.append(len(halves[0]) / len(np.unique(bins[bins >= 0])))
            fitted = [YawDirections(min_count=1).fit(points[rows], yaw[rows]) for rows in halves]
            for name, shrink in (("raw", False), ("shrunk", True)):
                one, other = (slopes(half, store.space, shrink=shrink) for half in fitted)
                cosines[name] += [cosine(one[side], other[side]) for side in SIDES]
            whole = default[light]
            cosines["to_all"] += [cosine(one[side], getattr(whole, side).numpy()) for side in SIDES]
            lines[light] = replace(whole, **{side: torch.from_numpy(one[side]) for side in SIDES})
        table = rendered.compare(f"up to {n} a bin", LatentRotator(rendered.model, lines, measure=False))
        found = {"per_bin": n, "held": np.mean(held)}
        found |= {f"cosine_{k}": np.mean(v) for k, v in cosines.items()} | {"cosine_raw_least": min(cosines["raw"])}
        rows.append(table.drop(columns="way").assign(**found))
        print(rows[-1].iloc[:, [0, 2, *range(-6, 0)]].round(3).to_string(index=False), flush=True)
        pd.concat(rows).set_index("per_bin").round(4).to_csv(HERE / "heads_samples.csv")


if __name__ == "__main__":
    main(tyro.cli(HeadsSamples, description=__doc__))
