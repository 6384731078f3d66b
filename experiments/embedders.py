"""Compare inversion by the ODE with optimisation through the decoder, and with a trained encoder.

    python experiments/embedders.py --people 4 --iterations 60 --network runs/embedder/embedder.safetensors

Reads ../shared/data/celeba; the judge in ../shared/judge measures yaw and identity. Writes embedders.csv beside this script:
round trip, seconds, similarity of the latents to white noise, and results of the bundled lines, on held-out people.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import tyro
from solvers import SHARED, noise_statistics, strangers

from latentrot.data.arrays import to_tensor, to_uint8
from latentrot.data.celeba import FaceFolder
from latentrot.data.similarity import psnr
from latentrot.diffusion.descend import DescentConfig, descend
from latentrot.diffusion.load import LatentModel, load_model
from latentrot.diffusion.schedule import Schedule
from latentrot.diffusion.solve import decode, invert
from latentrot.directions.walk import walk
from latentrot.rotators.latent.rotator import TOLERANCE, load_latent_rotator
from latentrot.training.embedder import embed_with, load_embedder

TURNS = (-15.0, 15.0)


@dataclass(frozen=True)
class Embedders:
    """Options."""

    people: int = 4
    """number of held-out people"""
    iterations: int = 60
    """max iterations of the optimisation"""
    target: float = 40.0
    """PSNR in dB at which the optimisation stops"""
    network: Path | None = None
    """a trained encoder to measure as well"""


def ways(model: LatentModel, options: Embedders) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    """Embedders: name -> function from images to latents, on the schedule of the fixed-point solver."""
    plan = Schedule(solver="fixed-point")
    config = DescentConfig(target_db=options.target, iterations=options.iterations)
    noise = torch.randn(options.people, *model.latent_shape, generator=torch.Generator().manual_seed(0))

    def descended(x: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
        found = descend(model, x, start, plan, config)
        print("   ", found.iterations, "iterations", [round(v, 1) for v in found.psnr_db.tolist()], flush=True)
        return found.latents

    found: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "ODE, fixed point": lambda x: invert(model, x, schedule=plan),
        "ODE, fixed point to a tolerance": lambda x: invert(model, x, schedule=plan, tolerance=TOLERANCE),
        "ODE, plain inverse": lambda x: invert(model, x, solver="ddim"),
        "descent from noise": lambda x: descended(x, noise),
        "descent from the plain inverse": lambda x: descended(x, invert(model, x, solver="ddim")),
    }
    if options.network:
        network = load_embedder(options.network, model)
        found["network"] = lambda x: embed_with(network, model, x)
        found["descent from the network"] = lambda x: descended(x, embed_with(network, model, x))
    return found


def main(options: Embedders) -> None:
    """Embed, rotate, and write the table."""
    sys.path.insert(0, str(SHARED / "judge"))
    judge = importlib.import_module("judge")

    model = load_model()
    lines = load_latent_rotator(model).directions["center"]
    names = strangers(options.people)
    crops = FaceFolder(SHARED / "data" / "celeba").read_crops(names, model.resolution)
    yaws = pd.read_csv("data_labels/celeba_pose.csv", index_col="image_id")["yaw_deg"].loc[names].to_numpy()
    x = to_tensor(crops)
    steps = torch.tensor([0.0, *(lines.step_for(t) for t in TURNS)])
    rows = []
    for name, embed in ways(model, options).items():
        start = time.perf_counter()
        z = embed(x)
        spent = (time.perf_counter() - start) / len(x)
        walked = [walk(one[None], lines, steps, float(yaw)) for one, yaw in zip(z, yaws, strict=True)]
        shown = decode(model, torch.cat(walked)).clamp(-1, 1)
        pictures = to_uint8(shown).reshape(len(x), len(steps), *crops.shape[1:])
        yaw = np.stack([judge.pose([c, *p])[:, 0] for c, p in zip(crops, pictures, strict=True)])
        who = np.stack([judge.identity([c, *p]) for c, p in zip(crops, pictures, strict=True)])
        row = {"way": name, "people": len(x), "s_per_picture": spent}
        row |= {"psnr_db": float(psnr(shown[:: len(steps)], x).mean()), **noise_statistics(z, model.first_stage.factor)}
        for i, turn in enumerate(TURNS):
            row[f"turned_{turn:+.0f}"] = (yaw[:, 2 + i] - yaw[:, 0]).mean()
            row[f"identity_{turn:+.0f}"] = np.einsum("nd,nd->n", who[:, 2 + i], who[:, 0]).mean()
        rows.append(row)
        print({k: round(v, 2) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
        pd.DataFrame(rows).round(3).to_csv(Path(__file__).with_suffix(".csv"), index=False)


if __name__ == "__main__":
    main(tyro.cli(Embedders, description=__doc__))
