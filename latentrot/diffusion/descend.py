"""Embed by gradient descent on the latent, through the decoder: the alternative to running the ODE backwards.

After Asperti, Evangelista, Marro, Merizzi, "Image Embedding for Denoising Generative Models", 2023. It needs no inverse and
no exactness of any solver, only many times the work; what it finds is a latent that decodes into the picture, not the one
the ODE leads to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.utils.checkpoint import checkpoint

from latentrot.data.similarity import decibels
from latentrot.diffusion.load import LatentModel
from latentrot.diffusion.schedule import Schedule
from latentrot.diffusion.solve import check_batch, without_remainder
from latentrot.diffusion.solvers import solver_of
from latentrot.errors import LatentrotError

__all__ = ["Descended", "DescentConfig", "descend"]


@dataclass(frozen=True)
class DescentConfig:
    """How the descent goes.

    Args:
        target_db: a picture that comes back this well is left as it is.
        iterations: at most so many, each a decoding and its gradient.
        rate: Adam's step, in units of the latent.
    """

    target_db: float = 40.0
    iterations: int = 100
    rate: float = 0.03


@dataclass(frozen=True, eq=False)
class Descended:
    """What a descent found.

    Attributes:
        latents: (n, c, h, w) float32, each the best seen.
        psnr_db: (n,) how well they decode into the pictures, before any clipping.
        iterations: that were made.
    """

    latents: torch.Tensor
    psnr_db: torch.Tensor
    iterations: int


class Recomputed:
    """A model whose evaluations are done again on the way back instead of being kept: memory of one step, not of all."""

    def __init__(self, model: LatentModel) -> None:
        self.model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def velocity(self, x: torch.Tensor, level: int) -> torch.Tensor:
        """As the model's."""
        return checkpoint(self.model.velocity, x, level, use_reentrant=False)


def decode_with_gradient(model: LatentModel, z: torch.Tensor, schedule: Schedule) -> torch.Tensor:
    """(n, c, h, w) latents -> (n, c, h, w) states of the pictures, from which gradients flow back."""
    recomputed = cast("LatentModel", Recomputed(model))  # all but `velocity` is the model's
    return solver_of(schedule).decode(recomputed, z, schedule)


def descend(
    model: LatentModel,
    x: torch.Tensor,
    start: torch.Tensor,
    schedule: Schedule | None = None,
    config: DescentConfig | None = None,
) -> Descended:
    """Find latents that decode into pictures.

    Args:
        model: from `load_model`.
        x: (n, 3, h, w) pictures in [-1, 1] at the model's resolution.
        start: (n, c, h', w') latents to start from: noise, those of `invert`, or those of `embed_with`. Remainders are left
            out, so that the plain inverse's beside them start lower than the fixed point's.
        schedule: of the decoding.
        config: when to stop.

    Raises:
        LatentrotError: wrong shapes.
    """
    plan, config = schedule or Schedule(), config or DescentConfig()
    check_batch(x, [(3, model.resolution, model.resolution)], "pictures")
    start = without_remainder(start)
    check_batch(start, [model.latent_shape], "latents")
    if len(start) != len(x):
        raise LatentrotError(f"{len(x)} pictures and {len(start)} latents to start from: expected as many")
    with torch.no_grad():
        aim = model.first_stage.encode(x.to(model.device, torch.float32)).double()
    z = start.to(model.device).double().requires_grad_()
    optimizer = torch.optim.Adam([z], lr=config.rate)
    best, best_db = z.detach().clone(), torch.full((len(x),), -torch.inf, dtype=torch.float64, device=model.device)
    done = 0
    while True:
        error = (decode_with_gradient(model, z, plan) - aim).square().flatten(1).mean(1)
        db = decibels(error.detach())
        better = db > best_db
        best[better], best_db = z.detach()[better], torch.maximum(db, best_db)
        waiting = best_db < config.target_db
        if done == config.iterations or not waiting.any():
            return Descended(best.float().cpu(), best_db.cpu(), done)
        optimizer.zero_grad()
        # of the logarithm, so that a picture nearly there still gets a gradient; those that are there get none
        (error.log() * waiting).sum().backward()
        optimizer.step()
        done += 1
