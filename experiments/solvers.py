"""What each solver brings back for its evaluations, how noise-like its latents are, and how well they turn.

    python experiments/solvers.py round-trip --people 8
    python experiments/solvers.py turning --pictures 1200 --people 12

Reads ../shared/data/celeba and data_labels/; the judge in ../shared/judge measures yaw and identity. Writes solvers.csv
(round trips and latents of people held out, at equal budgets of evaluations) and solvers_turning.csv (the bundled lines,
and lines fitted with each solver's own latents of the same pictures, all lights together, walked on the same strangers)
beside this script.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
import tyro

from latentrot.bench.plain import PlainLoop
from latentrot.data.celeba import FaceFolder, held_out
from latentrot.data.images import to_tensor, to_uint8
from latentrot.data.similarity import ms_ssim, psnr, ssim
from latentrot.devices import resolve_device
from latentrot.embed.schedule import Schedule
from latentrot.embed.solve import decode, evaluations, invert, without_remainder
from latentrot.fit.calibrate import calibrate, calibration_sources
from latentrot.fit.directions import Directions
from latentrot.fit.fit import FitConfig, chosen_rows, fit_directions
from latentrot.fit.walk import walk
from latentrot.models.load import LatentModel, load_model
from latentrot.models.precision import computes_bfloat16
from latentrot.rotate.latent.rotator import TOLERANCE, load_latent_rotator
from latentrot.store.latent_store import LatentStore
from latentrot.store.space import LatentSpace

#: where the store is kept by default
WORK = Path(tempfile.gettempdir()) / "latentrot-solvers"

SHARED = Path("../shared")
HERE = Path(__file__).parent
BUDGETS = (10, 20, 50, 100)
TURNS = (-30.0, -15.0, 15.0, 30.0)
BATCH = 16
#: ways compared by what they do to a walk
PLANS = (
    (Schedule(solver="fixed-point"), None),
    (Schedule(solver="fixed-point"), TOLERANCE),
    (Schedule(solver="exact"), None),
    (Schedule(solver="exact"), TOLERANCE),
    (Schedule(solver="exact", steps=20), None),
    (Schedule(solver="ddim", steps=20), None),
)


def within(budget: int, solver: str, iterations: int = 1) -> Schedule | None:
    """The schedule of most steps that spends at most `budget` evaluations each way; None: not even one step fits."""
    fitting = [Schedule(s, solver, iterations) for s in range(1, budget + 1)]
    fitting = [plan for plan in fitting if max(evaluations(plan)) <= budget]
    return fitting[-1] if fitting else None


def noise_statistics(z: torch.Tensor, factor: int) -> dict[str, float]:
    """How like unit white noise latents (n, c, h, w) are: length per dimension, correlation of neighbours, kurtosis."""
    x = F.pixel_shuffle(z.double(), factor)
    power = x.square().mean()
    return {
        "norm": float(power.sqrt()),
        "neighbours": float((x[..., 1:] * x[..., :-1]).mean() / power),
        "kurtosis": float(((x - x.mean()) ** 4).mean() / x.var() ** 2),
    }


def round_trip_statistics(model: LatentModel, x: torch.Tensor, back: torch.Tensor, z: torch.Tensor) -> dict[str, float]:
    """Fidelity of a round trip and the latents' noise."""
    back = back.clamp(-1, 1)
    db = psnr(back, x)
    return {
        "psnr_db": float(db.mean()),
        "least_db": float(db.min()),
        "ssim": float(ssim(back, x).mean()),
        "ms_ssim": float(ms_ssim(back, x).mean()),
        **noise_statistics(without_remainder(z), model.first_stage.factor),
    }


def strangers(n: int) -> list[str]:
    """Pictures of people held out, one each, nearly frontal."""
    labels = pd.read_csv("data_labels/celeba_pose.csv", index_col="image_id")
    identities = FaceFolder(SHARED / "data" / "celeba").identities
    far = identities[
        held_out(identities.to_numpy()) & (labels["yaw_deg"].reindex(identities.index).abs() < 12).to_numpy()
    ]
    return list(far.drop_duplicates().sample(n, random_state=0).index)


def round_trips(model: LatentModel, x: torch.Tensor) -> None:
    """Every solver at every budget -> solvers.csv."""
    rows = []

    def add(name: str, budget: int, spent: tuple[int, int], z: torch.Tensor, back: torch.Tensor) -> None:
        rows.append(
            {
                "solver": name,
                "budget": budget,
                "there": spent[0],
                "back": spent[1],
                **round_trip_statistics(model, x, back, z),
            }
        )
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
        pd.DataFrame(rows).assign(people=len(x)).round(4).to_csv(HERE / "solvers.csv", index=False)

    for budget in BUDGETS:
        for solver, iterations in (("fixed-point", 1), ("fixed-point", 2), ("exact", 1), ("ddim", 1)):
            plan = within(budget, solver, iterations)
            if plan is None:
                continue
            z = invert(model, x, schedule=plan)
            name = solver if iterations == 1 else f"{solver}, {iterations} iterations"
            add(f"{name}, {plan.steps} steps", budget, evaluations(plan), z, decode(model, z, schedule=plan))
        loop = PlainLoop.of(model, budget)
        z = loop.invert(x)
        add(f"diffusers, {budget} steps", budget, (budget, budget), z, loop.decode(z))


def latents_of(model: LatentModel, plan: Schedule, names: list[str], root: Path) -> LatentStore:
    """Latents of photographs on a schedule, embedded if missing; `root` holds a store for each schedule."""
    folder = FaceFolder(SHARED / "data" / "celeba")
    store = LatentStore(root / f"latents-{plan.solver}-{plan.steps}-{plan.depth:g}")
    space = LatentSpace.of(model, plan)
    done = set(store.image_ids())
    todo = [p for p in names if p not in done]
    for i in range(0, len(todo), BATCH):
        batch = todo[i : i + BATCH]
        x = to_tensor(folder.read_crops(batch, model.resolution))
        store.append(batch, invert(model, x, schedule=plan, remainder=False), space)
    return store


def lines_for(model: LatentModel, plan: Schedule, labels: pd.DataFrame, root: Path, calibrated_on: int) -> Directions:
    """Embed pictures and fit one pair of lines through all lights, calibrated."""
    store = latents_of(model, plan, list(labels.index), root)
    config = FitConfig(calibrate=0, limit=35.0)
    lines = fit_directions(store, labels, "any", config)
    sources = calibration_sources(store, chosen_rows(labels, config), "any", calibrated_on, config.seed)
    return calibrate(lines, model, sources)


def turn_all(
    model: LatentModel,
    plan: Schedule,
    tolerance: float | None,
    lines: Directions,
    crops: np.ndarray,
    yaws: np.ndarray,
    judge: Any,
) -> list[dict[str, float]]:
    """Turn strangers by the calibrated steps (nothing measured on the picture); rows by turn."""
    pictures = []
    for crop, yaw in zip(crops, yaws, strict=True):
        z = invert(model, to_tensor(crop), schedule=plan, tolerance=tolerance)
        steps = torch.tensor([0.0, *(lines.nominal_for(t) for t in TURNS)])
        walked = walk(z, lines, steps, float(yaw))
        pictures.append([crop, *to_uint8(decode(model, walked, schedule=plan).clamp(-1, 1))])
    pose = np.stack([judge.pose(p)[:, 0] for p in pictures])
    who = np.stack([judge.identity(p) for p in pictures])
    change, same = pose - pose[:, :1], np.einsum("nkd,nd->nk", who, who[:, 0])
    return [
        {
            "requested_deg": turn,
            "turned_deg": change[:, 2 + i].mean(),
            "turned_sd": change[:, 2 + i].std(ddof=1),
            "identity": same[:, 2 + i].mean(),
            "identity_unturned": same[:, 1].mean(),
            "people": len(crops),
        }
        for i, turn in enumerate(TURNS)
    ]


def pictures_to_fit(labels: pd.DataFrame, n: int) -> list[str]:
    """People not held out, as many turned heads as frontal ones: the outer bins decide the slopes."""
    known = labels[~held_out(labels["identity"].to_numpy()) & (labels["yaw_deg"].abs() < 35)]
    mixed = known.sample(frac=1, random_state=0)
    in_turn = mixed.groupby(mixed["yaw_deg"] // 10).cumcount()  # one of every bin, then another, as long as there are
    return list(in_turn.sort_values(kind="stable").index[:n])


def quick_dtype() -> str | None:
    """The precision that the device computes quickly: bfloat16 where it has it, else a model's own."""
    return "bfloat16" if computes_bfloat16(resolve_device(None)) else None


def labels_of_photographs() -> pd.DataFrame:
    """Pose, light and identity of all photographs, by their id."""
    pose = pd.read_csv("data_labels/celeba_pose.csv", index_col="image_id")
    light = pd.read_csv("data_labels/celeba_light.csv", index_col="image_id")["light"]
    return pose.join(light).assign(identity=FaceFolder(SHARED / "data" / "celeba").identities)


def turning(model: LatentModel, n: int, people: int, calibrated_on: int, root: Path) -> None:
    """The bundled lines on every solver's latents; with n > 0 also lines of each solver's own -> solvers_turning.csv."""
    sys.path.insert(0, str(SHARED / "judge"))
    judge = importlib.import_module("judge")

    folder = FaceFolder(SHARED / "data" / "celeba")
    labels, names = labels_of_photographs(), strangers(people)
    crops, yaws = folder.read_crops(names, model.resolution), labels["yaw_deg"].loc[names].to_numpy()
    bundled = load_latent_rotator(model).directions["center"]
    rows = []
    for own in (False, True) if n else (False,):
        for plan, tolerance in PLANS:
            lines = (
                lines_for(model, plan, labels.loc[pictures_to_fit(labels, n)], root, calibrated_on) if own else bundled
            )
            fitted_with = f"its own {n} pictures" if own else "bundled"
            name = f"{plan.solver}, {plan.steps} steps" + (", to a tolerance" if tolerance else "")
            for row in turn_all(model, plan, tolerance, lines, crops, yaws, judge):
                rows.append({"solver": name, "lines": fitted_with, **row})
            print(pd.DataFrame(rows[-4:]).round(3).to_string(), flush=True)
            pd.DataFrame(rows).round(3).to_csv(HERE / "solvers_turning.csv", index=False)


def main(
    what: Annotated[Literal["round-trip", "turning"], tyro.conf.Positional],
    people: int = 8,
    pictures: int = 1200,
    calibrate: int = 8,
    work: Path = WORK,
) -> None:
    """Measure, write.

    Args:
        what: what is measured.
        people: strangers to measure on.
        pictures: of the store that lines are fitted to; 0: the bundled lines only.
        calibrate: pictures the lines are calibrated on.
        work: where that store is kept.
    """
    model = load_model()
    if what == "turning":
        turning(model, pictures, people, calibrate, work)
    else:
        crops = FaceFolder(SHARED / "data" / "celeba").read_crops(strangers(people), model.resolution)
        round_trips(model, to_tensor(crops))


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
