"""Ablate inversion, fit and walk on photographs: solver, depth, shrinkage, octaves, light filter, warped pixels.

    python experiments/walk_ways.py

Reads ../shared/data/celeba (lines are fitted to people who are not held out, and tested on held-out people),
../shared/data/ytf (pairs of frames of one scene: the second is the truth) and data_labels/; the judge in ../shared/judge
measures yaw and identity. Each variant embeds the same photographs, fits and calibrates lines to these latents, and rotates
the same faces with step sizes measured on each image. Writes walk_ways.csv beside this script: means and
standard errors by variant and rotation, and paired differences from the default.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import tyro
from solvers import SHARED, labels_of_photographs, latents_of, pictures_to_fit, quick_dtype
from walk_limit import Case, cases_of_pairs, cases_of_strangers, rows_of, save_sheet

from latentrot.diffusion.load import LatentModel, load_model
from latentrot.diffusion.schedule import Schedule
from latentrot.diffusion.solvers import corrected
from latentrot.directions.fit import FitConfig, fit_lights
from latentrot.faces.estimate import LIGHTS
from latentrot.rotators.latent.rotator import LatentRotator

HERE = Path(__file__).parent
#: default folder of the latents
WORK = Path(tempfile.gettempdir()) / "latentrot-walk-ways"
DEFAULT = "default"
#: measures whose paired difference from the default is reported
COMPARED = ("yaw_error_deg", "identity", "identity_truth", "ssim_truth", "squared_error")


@dataclass(frozen=True)
class Way:
    """A variant of the method: options of the inversion, the fit and the walk."""

    schedule: Schedule = field(default_factory=Schedule)
    fit: FitConfig = field(default_factory=FitConfig)
    keep_norm: bool = True
    carry: bool = True
    remainder: float = corrected.SOLVER.residual_share
    lights: tuple[str, ...] = LIGHTS


WAYS = {
    DEFAULT: Way(),
    "fixed point": Way(Schedule(solver="fixed-point")),
    "exact": Way(Schedule(solver="exact")),
    "20 steps": Way(Schedule(steps=20)),
    "depth 1": Way(Schedule(depth=1.0)),
    "depth .7": Way(Schedule(depth=0.7)),
    "depth .5": Way(Schedule(depth=0.5)),
    "slopes not shrunk": Way(fit=FitConfig(shrink=False)),
    "length of octaves not kept": Way(keep_norm=False),
    "coarse frequencies by degrees": Way(fit=FitConfig(coarse=4)),
    "no light filter": Way(lights=("any",)),
    "as decoded": Way(carry=False),
    "as decoded, no remainder": Way(carry=False, remainder=0.0),
    "as decoded, all of the remainder": Way(carry=False, remainder=1.0),
}


@dataclass(frozen=True)
class Photographs:
    """Data of the fit.

    Args:
        model: the diffusion model.
        labels: image_id -> yaw_deg, light and identity of the photographs.
        root: folder of the latents.
    """

    model: LatentModel
    labels: pd.DataFrame
    root: Path

    def rotator(self, way: Way, calibrated_on: int) -> LatentRotator:
        """Fit and calibrate the lines of a variant."""
        store = latents_of(self.model, way.schedule, list(self.labels.index), self.root)
        config = replace(way.fit, carry=way.carry, calibrate=calibrated_on)
        lines = {d.light: d for d in fit_lights(store, self.labels, way.lights, config, model=self.model)}
        return LatentRotator(self.model, lines, keep_norm=way.keep_norm)


def measured(rotator: LatentRotator, cases: list[Case], way: str, judge: object) -> tuple[list[dict], list[np.ndarray]]:
    """Rotate all cases with one variant: rows of measures, and the images."""
    rows, pictures = [], []
    for number, case in enumerate(cases):
        result = rotator.prepare(case.source).rotate(case.turns)
        frames = result.frames
        shown = np.stack([frame.image for frame in frames])
        own = np.array([frame.yaw_deg for frame in frames]) - result.yaw_deg
        found = rows_of(case, {way: (shown, [frame.clamped for frame in frames], own)}, judge, by="way")
        rows += [row | {"case": number, "turn": turn} for row, turn in zip(found, case.turns, strict=True)]
        pictures += list(shown)
    return rows, pictures


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Means by set of people, variant and size of the rotation, with standard errors, and differences to the default."""
    table = table.assign(asked=table["asked"].abs(), turned_deg=table["turned_deg"].abs())
    keys = ["data", "way", "asked"]
    compared = [c for c in COMPARED if c in table]
    faces = pd.MultiIndex.from_frame(table[["data", "case", "turn"]])
    default = table[compared].set_axis(faces)[(table["way"] == DEFAULT).to_numpy()]
    less = table[compared] - default.loc[faces].to_numpy()
    less = less.join(table[keys]).groupby(keys, sort=False)
    groups = table.drop(columns=["case", "turn"]).groupby(keys, sort=False)
    found = groups.mean().join(groups[compared].sem().add_suffix("_se"))
    found = found.join(less.mean().add_suffix("_more")).join(less.sem().add_suffix("_more_se"))
    return found.assign(turns=groups.size()).round(4)


def main(
    people: int = 30,
    pairs: int = 24,
    fitted: int = 2000,
    calibrate: int = 16,
    work: Path = WORK,
    model: str = "faces64",
    only: tuple[str, ...] = (),
    sheet: Path | None = None,
) -> None:
    """Embed, fit, walk, measure, and write the table.

    Args:
        people: number of held-out people to rotate by 15 and 30 degrees.
        pairs: number of real pairs about 15 degrees apart, and of pairs about 30 degrees apart.
        fitted: number of photographs that lines are fitted to.
        calibrate: number of these for the calibration of each illumination class.
        work: folder of the latents.
        model: the diffusion model.
        only: variants besides the default; empty: all.
        sheet: output .png with some of the images: a row per source and rotation, a column per variant; None: none.
    """
    sys.path.insert(0, str(SHARED / "judge"))
    import judge  # type: ignore[import-not-found]  # noqa: PLC0415

    loaded = load_model(model, dtype=quick_dtype())
    labels = labels_of_photographs()
    photographs = Photographs(
        loaded, labels.loc[pictures_to_fit(labels, fitted)], work / loaded.digest[:8] / str(fitted)
    )
    side = loaded.resolution
    cases = {"strangers": cases_of_strangers(people, side), "real pairs": cases_of_pairs(pairs, side)}
    tables, columns = [], []
    for name, way in WAYS.items():
        if only and name not in (DEFAULT, *only):
            continue
        rotator, drawn = photographs.rotator(way, calibrate), []
        corrected.SOLVER.residual_share = way.remainder
        for data, some in cases.items():
            rows, pictures = measured(rotator, some, name, judge)
            tables.append(pd.DataFrame(rows).assign(data=data))
            drawn += pictures
        columns.append(drawn)
        found = summary(pd.concat(tables, ignore_index=True))
        found.to_csv(HERE / "walk_ways.csv")
        print(found.xs(name, level="way").round(3).to_string(), flush=True)
    if sheet is not None:
        turned = [(case, turn) for some in cases.values() for case in some for turn in case.turns]
        still = [[case.source] if case.truth is None else [case.source, case.truth] for case, _ in turned]
        save_sheet([np.concatenate([*s, *drawn], 1) for s, *drawn in zip(still, *columns, strict=True)], sheet)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
