"""Choose the max step size of walks measured on the image: rotation and side effects over the limit.

    python experiments/walk_limit.py --people 20 --pairs 20

Reads ../shared/data/celeba (people held out), ../shared/data/ytf (pairs of frames of one scene: the second is the truth) and
data_labels/; the judge in ../shared/judge measures yaw and identity. Writes walk_limit.csv (means and standard errors by
limit and rotation) and walk_limit.png beside this script. All limits share sources, latents and probes.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import tyro
from solvers import SHARED, quick_dtype, strangers

from latentrot.data.arrays import to_tensor, to_uint8
from latentrot.data.celeba import FaceFolder
from latentrot.data.similarity import ssim_map
from latentrot.rotators.latent.rotator import LatentRotator, load_latent_rotator

HERE = Path(__file__).parent
LIMITS = (0.7, 1.0, 1.4, 2.0, 3.0)
TURNS = (-30.0, -15.0, 15.0, 30.0)
#: ranges of the rotation of real pairs, degrees: from, to, and nominal rotation in the table
SPANS = ((10.0, 20.0, 15.0), (24.0, 36.0, 30.0))


@dataclass(frozen=True)
class Case:
    """An image, the requested rotations, and the true images if known."""

    source: np.ndarray
    turns: tuple[float, ...]
    truth: np.ndarray | None = None


def cases_of_strangers(people: int, side: int) -> list[Case]:
    """Held-out people with four rotations each, without true images."""
    return [Case(crop, TURNS) for crop in FaceFolder(SHARED / "data" / "celeba").read_crops(strangers(people), side)]


def pairs_of(table: pd.DataFrame, span: tuple[float, float, float], number: int, seed: int) -> pd.DataFrame:
    """Pairs of a nearly frontal frame and a rotated frame of the same scene, one per person, balanced over both sides."""
    rows = table.reset_index()
    both = rows.merge(rows, on="clip", suffixes=("", "_to"))
    turn = both["yaw_deg_to"] - both["yaw_deg"]
    level = (both["pitch_deg_to"] - both["pitch_deg"]).abs() < 8
    fit = both[(both["yaw_deg"].abs() < 10) & level & turn.abs().between(span[0], span[1])].assign(turn=turn)
    mixed = fit.sample(frac=1, random_state=seed)
    sides = [mixed[np.sign(mixed["turn"]) == side].drop_duplicates("identity") for side in (-1, 1)]
    taken = sides[0].head(number // 2)
    other = sides[1][~sides[1]["identity"].isin(taken["identity"])].head(number - len(taken))
    return pd.concat([taken, other])


def cases_of_pairs(number: int, side: int) -> list[Case]:
    """Real pairs: `number` for each range of rotations."""
    root = SHARED / "data" / "ytf"
    folder = FaceFolder(root)
    table = pd.concat(
        [pd.read_csv(root / f"{name}.csv", index_col="image_id") for name in ("pose", "clip", "identity_CelebA")], axis=1
    )  # fmt: skip
    found = []
    for span in SPANS:
        pairs = pairs_of(table, span, number, seed=0)
        sources = folder.read_crops(list(pairs["image_id"]), side)
        truths = folder.read_crops(list(pairs["image_id_to"]), side)
        found += [Case(s, (float(t),), truth) for s, truth, t in zip(sources, truths, pairs["turn"], strict=True)]
    return found


def nominal_turn(turn: float) -> float:
    """Nominal rotation in the table."""
    return float(np.sign(turn) * min((abs(abs(turn) - span[2]), span[2]) for span in SPANS)[1])


def walk_case(rotator: LatentRotator, case: Case) -> dict[float, tuple[np.ndarray, Sequence[bool], np.ndarray]]:
    """For each limit: images (k, s, s, 3), whether each step was clamped, and rotations in degrees by the label network."""
    face = rotator.prepare(case.source)
    walked = face.walk()
    found = {}
    for limit in LIMITS:
        walked.limit = limit  # decoded probes are reused for the next limit
        steps = walked.measured_steps(case.turns)
        held = [abs(s) >= abs(m) for s, m in zip(steps, walked.max_steps(case.turns), strict=True)]
        found[limit] = to_uint8(walked.at(steps)), held, walked.change(steps)
    return found


def rows_of(
    case: Case, found: Mapping[Any, tuple[np.ndarray, Sequence[bool], np.ndarray]], judge: object, by: str = "limit"
) -> list[dict]:
    """One row per rotation and limit (or other key that `by` names)."""
    pictures = [case.source, *([] if case.truth is None else [case.truth])]
    stack = [*pictures, *(im for images, _, _ in found.values() for im in images)]
    yaw, who = judge.pose(stack)[:, 0], judge.identity(stack)  # type: ignore[attr-defined]
    rows, at = [], len(pictures)
    for way, (images, held, own) in found.items():
        for i, turn in enumerate(case.turns):
            row = {
                by: way, "asked": nominal_turn(turn), "turned_deg": yaw[at] - yaw[0], "held": held[i],
                "own_error_deg": abs(own[i] - turn), "identity": who[at] @ who[0],
            }  # fmt: skip
            if case.truth is None:
                row["yaw_error_deg"] = abs(yaw[at] - yaw[0] - turn)
            else:
                a, b = to_tensor(images[i]), to_tensor(case.truth)
                row |= {
                    "yaw_error_deg": abs(yaw[at] - yaw[1]),
                    "identity_truth": who[at] @ who[1],
                    "identity_pair": who[0] @ who[1],
                    "ssim_truth": float(ssim_map(a, b).mean((1, 2, 3))),
                    "ssim_unturned": float(ssim_map(to_tensor(case.source), b).mean((1, 2, 3))),
                    "squared_error": float((a - b).square().mean()),
                }
            rows.append(row)
            at += 1
    return rows


def summary(rows: list[dict], data: str) -> pd.DataFrame:
    """Means by limit and size of the rotation, and their standard errors."""
    table = pd.DataFrame(rows)
    table["asked"] = table["asked"].abs()
    table["turned_deg"] = table["turned_deg"].abs()
    groups = table.groupby(["limit", "asked"])
    found = groups.mean().join(groups.sem()[["yaw_error_deg", "identity"]].add_suffix("_se"))
    if "ssim_truth" in table:
        found = found.join(groups["ssim_truth"].sem().rename("ssim_truth_se"))
    return found.assign(turns=groups.size()).reset_index().assign(data=data)


def draw(table: pd.DataFrame, path: Path) -> None:
    """Plot the trade-off as one curve per rotation and set of people."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure((9, 3.2), layout="constrained")
    axes = figure.subplots(1, 3)
    measures = (("identity", "identity to the source"), ("identity_truth", "identity to the true frame"),
                ("ssim_truth", "SSIM to the true frame"))  # fmt: skip
    for axis, (measure, title) in zip(axes, measures, strict=True):
        for (data, asked), part in table.groupby(["data", "asked"]):
            if part[measure].notna().all():
                axis.plot(part["yaw_error_deg"], part[measure], "o-", label=f"{data}, {asked:.0f}°", markersize=3)
                for row in part.itertuples():
                    axis.annotate(f"{row.limit:g}", (row.yaw_error_deg, getattr(row, measure)), fontsize=6)
        axis.set(xlabel="yaw error, degrees", title=title)
        axis.legend(fontsize=7)
    figure.savefig(path, dpi=110)


def main(people: int = 20, pairs: int = 20, sheet: Path | None = None) -> None:
    """Walk, measure, and write table and figure.

    Args:
        people: number of held-out people to rotate by 15 and 30 degrees.
        pairs: number of real pairs about 15 degrees apart, and of pairs about 30 degrees apart.
        sheet: output .png with some of the images: a row per source and rotation, a column per limit; None: none.
    """
    sys.path.insert(0, str(SHARED / "judge"))
    import judge  # type: ignore[import-not-found]  # noqa: PLC0415

    rotator = load_latent_rotator(dtype=quick_dtype())
    side, tables, strips = rotator.model.resolution, [], []
    for data, cases in (("strangers", cases_of_strangers(people, side)), ("real pairs", cases_of_pairs(pairs, side))):
        rows: list[dict] = []
        for n, case in enumerate(cases):
            found = walk_case(rotator, case)
            rows += rows_of(case, found, judge)
            still = [case.source] if case.truth is None else [case.source, case.truth]
            strips += [
                np.concatenate([*still, *(images[i] for images, _, _ in found.values())], 1)
                for i in range(len(case.turns))
            ]
            print(f"{data} {n + 1} of {len(cases)}", flush=True)
        tables.append(summary(rows, data))
        table = pd.concat(tables).set_index(["data", "limit", "asked"]).round(3)
        table.to_csv(HERE / "walk_limit.csv")
        print(table.to_string(), flush=True)
    draw(pd.concat(tables), HERE / "walk_limit.png")
    if sheet is not None:
        save_sheet(strips, sheet)


def save_sheet(strips: list[np.ndarray], path: Path) -> None:
    """Stack strips vertically; shorter ones are padded."""
    from PIL import Image  # noqa: PLC0415

    width = max(s.shape[1] for s in strips)
    rows = [np.pad(s, ((0, 0), (0, width - s.shape[1]), (0, 0))) for s in strips]
    Image.fromarray(np.concatenate(rows)).save(path)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    tyro.cli(main, description=__doc__)
