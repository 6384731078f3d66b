"""Measure the reconstruction error of each solver, image -> latent -> image, per network evaluation, on held-out people.

    python experiments/round_trip.py --people 24

Reads ../shared/data/celeba; writes round_trip.csv beside this script. "diffusers" is the baseline: a plain loop over
DDIMInverseScheduler and DDIMScheduler with the model's configuration and without clipping. All solvers share images, weights
and precision; evaluations are network calls per image from image to latent and back.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import tyro

from latentrot.data.arrays import to_tensor
from latentrot.data.celeba import FaceFolder, held_out
from latentrot.data.similarity import psnr
from latentrot.diffusion.load import LatentModel, load_model
from latentrot.diffusion.solve import Schedule, decode, invert
from latentrot.evaluation.bench.plain import PlainLoop
from latentrot.rotators.latent.rotator import TOLERANCE

CELEBA = Path("../shared/data/celeba")
STEPS = (12, 20, 50)


def plainly(loop: PlainLoop, x: torch.Tensor) -> torch.Tensor:
    """Invert and decode (n, 3, h, w) images with the schedulers of diffusers."""
    return loop.decode(loop.invert(x))


def ways() -> dict[str, Callable[[LatentModel, torch.Tensor], torch.Tensor]]:
    """Solvers: name -> function that inverts and decodes images."""

    def ours(schedule: Schedule, tolerance: float | None = None) -> Callable[[LatentModel, torch.Tensor], torch.Tensor]:
        return lambda model, x: decode(
            model, invert(model, x, schedule=schedule, tolerance=tolerance), schedule=schedule
        )

    found: dict[str, Callable[[LatentModel, torch.Tensor], torch.Tensor]] = {}
    for steps in STEPS:
        found[f"diffusers, {steps} steps"] = lambda model, x, steps=steps: plainly(PlainLoop.of(model, steps), x)
        found[f"ddim, {steps} steps, depth 0.9"] = ours(Schedule(steps=steps, solver="ddim"))
    for steps in (12, 20):
        found[f"fixed-point, {steps} steps, depth 0.9"] = ours(Schedule(steps, "fixed-point"))
        found[f"fixed-point, {steps} steps, depth 0.9, to a tolerance"] = ours(
            Schedule(steps, "fixed-point"), TOLERANCE
        )
    found["fixed-point, 12 steps, depth 1"] = ours(Schedule(solver="fixed-point", depth=1.0))
    found["fixed-point, 12 steps, depth 1, to a tolerance"] = ours(Schedule(solver="fixed-point", depth=1.0), TOLERANCE)
    return found


def count_evaluations(model: LatentModel) -> list[int]:
    """Count network calls: return a list to which each call appends its batch size."""
    calls: list[int] = []
    model.unet.register_forward_hook(lambda net, given, out: calls.append(len(given[0])))
    return calls


def main(people: int = 24) -> None:
    """Invert, decode, and write the table.

    Args:
        people: number of held-out people.
    """
    folder, model = FaceFolder(CELEBA), load_model()
    identities = folder.identities
    strangers = identities[held_out(identities.to_numpy())].drop_duplicates().sample(people, random_state=0)
    x = to_tensor(folder.read_crops(list(strangers.index), model.resolution))
    calls, rows = count_evaluations(model), []
    for name, there_and_back in ways().items():
        calls.clear()
        # one by one: the tolerance applies to each image
        decibels = np.array([float(psnr(there_and_back(model, p[None]).clamp(-1, 1), p[None])) for p in x])
        rows.append((name, sum(calls) / len(x), decibels.mean(), decibels.min(), len(x)))
        print(f"{name:50} {rows[-1][1]:6.1f} evaluations, {rows[-1][2]:5.1f} dB, least {rows[-1][3]:5.1f}", flush=True)
    table = pd.DataFrame(rows, columns=["way", "evaluations", "psnr_db", "least_db", "people"])
    table.round(1).to_csv(Path(__file__).with_suffix(".csv"), index=False)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
