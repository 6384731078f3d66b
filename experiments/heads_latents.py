"""Compare solvers and inversion depths for editing; lines are fitted to the latents of each, for the same heads.

    python experiments/heads_latents.py

Uses rendered heads, whose true views are known (see rendered.py). Each schedule embeds the same few hundred heads; lines of
each illumination class are fitted and calibrated on them, and the same unseen heads are rotated, with the step size measured
on each image. Writes heads_latents.csv beside this script: round trip and noise statistics of the unseen heads' latents, and
the measures of the rotations.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import torch
import tyro
from rendered import HERE, LINES, Rendered, lines_by_light
from solvers import noise_statistics

from latentrot.data.arrays import to_tensor
from latentrot.data.similarity import psnr
from latentrot.diffusion.schedule import Schedule
from latentrot.diffusion.solve import decode, evaluations, without_residual
from latentrot.rotators.latent.rotator import LatentRotator

PLANS = (
    Schedule(solver="fixed-point"),
    Schedule(solver="exact"),
    Schedule(solver="exact", steps=20),
    Schedule(solver="ddim", steps=20),
    Schedule(solver="fixed-point", depth=1.0),
    Schedule(solver="fixed-point", depth=0.7),
    Schedule(solver="fixed-point", depth=0.5),
)


def measured(rendered: Rendered, plan: Schedule) -> pd.DataFrame:
    """Embed, fit, rotate and measure on one schedule."""
    lines = lines_by_light(rendered, rendered.latents(plan), replace(LINES, min_count=1), calibrate=True)
    rotator = LatentRotator(rendered.model, lines)
    faces = rendered.embedded(rotator)
    z = torch.cat([face.latent for face in faces])
    back = decode(rendered.model, z, schedule=plan).clamp(-1, 1)
    db = psnr(back, to_tensor(np.stack([face.source for face in faces])))
    there, again = evaluations(plan)
    row = {"there": there, "back": again, "psnr_db": float(db.mean()), "least_db": float(db.min())}
    row |= noise_statistics(without_residual(z), rendered.model.first_stage.factor)
    name = f"{plan.solver}, {plan.steps} steps, depth {plan.depth:g}"
    return rendered.compare(name, rotator, faces).assign(**row)


def main(rendered: Rendered) -> None:
    """Measure the schedules one by one; the table is written after each."""
    tables = []
    for plan in PLANS:
        tables.append(measured(rendered, plan))
        print(tables[-1].round(3).to_string(index=False), flush=True)
        pd.concat(tables).round(4).to_csv(HERE / "heads_latents.csv", index=False)


if __name__ == "__main__":
    main(tyro.cli(Rendered, default=Rendered(fitted=300), description=__doc__))
