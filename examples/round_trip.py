"""Image to latent and back by each solver, in decibels: `python round_trip.py [STEPS]`."""

import sys

import numpy as np
import torch

import latentrot
from latentrot.bundles import bundled_example
from latentrot.data.arrays import to_tensor
from latentrot.data.images import read_image
from latentrot.diffusion.solve import evaluations

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 12
views = bundled_example("heads64") / "img_align_celeba"
x = to_tensor(np.stack([read_image(views / f"00000{i}.png") for i in (2, 4)]))  # (2, 3, 64, 64) in [-1, 1]

model = latentrot.load_model("heads64")
for solver in ("ddim", "fixed-point", "exact"):
    schedule = latentrot.Schedule(steps=steps, solver=solver)
    z = latentrot.invert(model, x, schedule=schedule)  # (2, 12, 32, 32); "exact" keeps a remainder beside it
    back = latentrot.decode(model, z, schedule=schedule)
    error = (back - x).double().square().mean()
    there, and_back = evaluations(schedule)
    print(f"{solver:12} {there} + {and_back} evaluations: {10 * torch.log10(4 / error):.1f} dB")
