"""Do lines fitted on people who resemble the source turn it better than the lines of all?

    python experiments/similar.py --store LATENTS --labels LABELS.parquet

LATENTS and LABELS: latents of photographs in ../shared/data/celeba with one depth, and their labels from `latentrot label`.
Rotates held-out people of ../shared/data/celeba, and frames of ../shared/data/ytf to a second frame of the scene; the judge
in ../shared/judge measures yaw and identity. All ways share sources, latents and the calibration of the lines of all; step
sizes are measured on each image. Writes similar.csv beside this script: means by way and rotation, and paired differences
from the lines of all.

Ways: `interactions`, the lines of all with slopes that depend on gender, age, glasses and smile of the source, from one
regression; `same gender` and `other gender`, lines fitted on one gender alone. The last two differ in likeness, not in the
number of latents by much.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import tyro
from solvers import SHARED, quick_dtype
from walk_limit import Case, cases_of_pairs, cases_of_strangers, rows_of
from walk_ways import DEFAULT, summary

from latentrot.data.arrays import to_tensor
from latentrot.diffusion.first_stage import mirror_latents
from latentrot.diffusion.load import load_model
from latentrot.directions.directions import Directions
from latentrot.directions.fit import FitConfig, fit_lights, training_rows
from latentrot.directions.joint import ridge_slopes, sums_of
from latentrot.directions.property_fit import shrink_slope
from latentrot.directions.statistics import MIRRORED_LIGHT
from latentrot.faces.attributes import AttributeNetwork, attributes_beside
from latentrot.faces.estimate import LIGHTS
from latentrot.faces.table import describe, read_labels
from latentrot.rotators.latent.rotator import LatentRotator
from latentrot.store.latent_store import LatentStore

HERE = Path(__file__).parent
#: attributes shared with the source, with their scale
TRAITS = {"p_Male": 1.0, "p_Smiling": 1.0, "p_Eyeglasses": 1.0, "age_years": 0.1}
SIDES = ("left", "right")

Lines = dict[str, Directions]


@dataclass(frozen=True)
class Similar:
    """Options of the experiment.

    Args:
        store: folder of the latents.
        labels: table of labels.
        people: number of held-out people, rotated by 15 and 30 degrees to both sides.
        pairs: number of real pairs about 15 degrees apart, and of pairs about 30 degrees apart.
        calibrate: number of images for the calibration of each light.
    """

    store: Path
    labels: Path
    people: int = 30
    pairs: int = 12
    calibrate: int = 8


def traits(table: pd.DataFrame) -> pd.DataFrame:
    """Values of the shared attributes."""
    return table[list(TRAITS)].astype(float) * pd.Series(TRAITS)


def interactions(store: LatentStore, rows: pd.DataFrame, light: str) -> dict[tuple[str, str], torch.Tensor]:
    """Change of the slope of each side per unit of each trait, for one light; mirrored latents are included."""
    values = traits(rows) - traits(rows).mean()
    x, z = [], []
    for names, latents in store.batches(set(rows.index)):
        for side, sign in ((light, 1.0), (MIRRORED_LIGHT.get(light, light), -1.0)):
            lit = (rows.loc[names, "light"] == side).to_numpy()
            yaw = sign * rows.loc[names, "yaw_deg"].to_numpy(float)[lit]
            own = values.loc[names].to_numpy()[lit]
            hinges = np.stack([yaw.clip(max=0), yaw.clip(min=0)], 1)
            crossed = (hinges[:, :, None] * own[:, None]).reshape(len(own), -1)
            x.append(np.concatenate([np.ones((len(own), 1)), hinges, own, crossed], 1))
            seen = latents if sign > 0 else mirror_latents(latents, store.space.factor)
            z.append(seen[torch.tensor(lit)].flatten(1))
    names = ["1", *SIDES, *TRAITS, *(f"{side} {trait}" for side in SIDES for trait in TRAITS)]
    slopes, _ = ridge_slopes(sums_of(np.concatenate(x), torch.cat(z).half().numpy(), names))
    vectors = {(s, t): shrink_slope(slopes[f"{s} {t}"], store.space, 1.0) for s in SIDES for t in TRAITS}
    return {key: torch.from_numpy(v.reshape(store.space.shape)).float() for key, v in vectors.items()}


def ways_of(
    case: Case,
    lines: dict[str, Lines],
    slopes: dict[str, dict[tuple[str, str], torch.Tensor]],
    mean: pd.Series,
    described: pd.DataFrame,
) -> dict[str, Lines]:
    """The lines of each way for one source."""
    own = (traits(described).iloc[0] - mean).to_dict()
    genders = ("male", "female") if described["p_Male"].iloc[0] > 0.5 else ("female", "male")
    varied = {
        light: replace(one, **{
            side: getattr(one, side) + sum(own[t] * slopes[light][side, t] for t in TRAITS) for side in SIDES
        })
        for light, one in lines["all"].items()
    }  # fmt: skip
    return {
        DEFAULT: lines["all"], "interactions": varied, "same gender": lines[genders[0]], "other gender": lines[genders[1]],
    }  # fmt: skip


def measured(
    rotator: LatentRotator, cases: list[Case], ways: list[dict[str, Lines]], judge: object, data: str
) -> list[dict]:
    """Rotate all cases in all ways: a row per rotation and way."""
    rows = []
    for number, (case, some) in enumerate(zip(cases, ways, strict=True)):
        face, found = rotator.prepare(case.source), {}
        for way, lines in some.items():
            result = replace(face, rotator=replace(rotator, directions=lines)).rotate(case.turns)
            shown = np.stack([frame.image for frame in result.frames])
            turned = np.array([frame.yaw_deg for frame in result.frames]) - result.yaw_deg
            found[way] = shown, [frame.clamped for frame in result.frames], turned
        cells = rows_of(case, found, judge, by="way")
        turns = list(case.turns) * len(some)
        rows += [row | {"case": number, "turn": turn, "data": data} for row, turn in zip(cells, turns, strict=True)]
        print(f"{data} {number + 1} of {len(cases)}", flush=True)
    return rows


def main(options: Similar) -> None:
    """Fit, rotate, measure, and write the table."""
    sys.path.insert(0, str(SHARED / "judge"))
    import judge  # type: ignore[import-not-found]  # noqa: PLC0415

    model = load_model(dtype=quick_dtype())
    attributes: AttributeNetwork | None = attributes_beside(model.folder)
    store, labels = LatentStore(options.store), read_labels(options.labels)
    rows = training_rows(labels.loc[labels.index.intersection(store.image_ids())], FitConfig.where, FitConfig.held_out)
    kept = {"all": rows, "male": rows[rows["p_Male"] > 0.5], "female": rows[rows["p_Male"] <= 0.5]}
    plain = FitConfig(calibrate=0)
    full = replace(plain, calibrate=options.calibrate)
    calibrated = {d.light: d for d in fit_lights(store, rows, LIGHTS, full, model=model)}
    lines: dict[str, Lines] = {"all": calibrated}
    for name in ("male", "female"):
        fitted = {d.light: d for d in fit_lights(store, kept[name], LIGHTS, plain)}
        lines[name] = {k: replace(calibrated[k], left=one.left, right=one.right) for k, one in fitted.items()}
    slopes = {light: interactions(store, rows, light) for light in LIGHTS}
    print({name: len(part) for name, part in kept.items()}, flush=True)

    rotator, side = LatentRotator(model, calibrated), model.resolution
    found: list[dict] = []
    for data, cases in (
        ("strangers", cases_of_strangers(options.people, side)), ("real pairs", cases_of_pairs(options.pairs, side)),
    ):  # fmt: skip
        crops = [describe(to_tensor(case.source), labeler=model.labeler, attributes=attributes) for case in cases]
        ways = [ways_of(c, lines, slopes, traits(rows).mean(), d) for c, d in zip(cases, crops, strict=True)]
        found += measured(rotator, cases, ways, judge, data)
        table = summary(pd.DataFrame(found)).rename(index={DEFAULT: "all"}, level="way")
        table.to_csv(HERE / "similar.csv")
        print(table.round(3).to_string(), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    main(tyro.cli(Similar, description=__doc__))
