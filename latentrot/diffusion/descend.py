"""Embed by gradient descent on the latent through the decoder, as an alternative to inverting the ODE.

After Asperti, Evangelista, Marro, Merizzi, "Image Embedding for Denoising Generative Models", 2023. The descent needs no
inverse solver, but many times the computation. It finds a latent that decodes into the image, which in general is not the
latent of the ODE.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.utils.checkpoint import checkpoint

from latentrot.data.similarity import decibels
from latentrot.diffusion.load import LatentModel
from latentrot.diffusion.schedule import Schedule
from latentrot.diffusion.solve import check_batch, without_residual
from latentrot.diffusion.solvers import solver_of
from latentrot.errors import LatentrotError

__all__ = ["DescentConfig", "DescentResult", "descend"]


@dataclass(frozen=True)
class DescentConfig:
    """Parameters of the descent.

    Args:
        target_db: round-trip PSNR in dB above which an image is not optimised further.
        iterations: max number of iterations, each a decoding and its gradient.
        rate: learning rate of Adam, in units of the latent.
    """

    target_db: float = 40.0
    iterations: int = 100
    rate: float = 0.03


@dataclass(frozen=True, eq=False)
class DescentResult:
    """Result of a descent.

    Attributes:
        latents: (n, c, h, w) float32, the best latent of each descent.
        psnr_db: (n,) PSNR of their decodings, before clipping.
        iterations: number of iterations.
    """

    latents: torch.Tensor
    psnr_db: torch.Tensor
    iterations: int


class Recomputed:
    """A model with gradient checkpointing, which recomputes evaluations in the backward pass to save memory."""

    def __init__(self, model: LatentModel) -> None:
        self.model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def velocity(self, x: torch.Tensor, level: int) -> torch.Tensor:
        """`LatentModel.velocity`, checkpointed."""
        return checkpoint(self.model.velocity, x, level, use_reentrant=False)


def decode_with_gradient(model: LatentModel, z: torch.Tensor, schedule: Schedule) -> torch.Tensor:
    """(n, c, h, w) latents -> (n, c, h, w) decoded states, differentiable."""
    recomputed = cast("LatentModel", Recomputed(model))  # delegates everything except `velocity`
    return solver_of(schedule).decode(recomputed, z, schedule)


def descend(
    model: LatentModel,
    x: torch.Tensor,
    start: torch.Tensor,
    schedule: Schedule | None = None,
    config: DescentConfig | None = None,
) -> DescentResult:
    """Find latents that decode into given images.

    Args:
        model: from `load_model`.
        x: (n, 3, h, w) images in [-1, 1] at the model's resolution.
        start: (n, c, h', w') initial latents: noise, or the results of `invert` or `embed_with`. Residual latents
            (solver "corrected") are ignored: the descent then starts from plain DDIM latents, whose PSNR is lower.
        schedule: schedule of the decoding.
        config: stopping criteria.

    Raises:
        LatentrotError: the shapes of the images or the latents are wrong.
    """
    plan, config = schedule or Schedule(), config or DescentConfig()
    check_batch(x, [(3, model.resolution, model.resolution)], "images")
    start = without_residual(start)
    check_batch(start, [model.latent_shape], "latents")
    if len(start) != len(x):
        raise LatentrotError(f"{len(x)} images and {len(start)} start latents; expected one latent per image")
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
            return DescentResult(best.float().cpu(), best_db.cpu(), done)
        optimizer.zero_grad()
        # minimise the log error, whose gradient does not vanish near the target; images that reached it are masked out
        (error.log() * waiting).sum().backward()
        optimizer.step()
        done += 1
