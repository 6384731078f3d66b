"""Plain DDIM in both directions: the usual, inexact inversion, for comparison."""

from __future__ import annotations

import torch

from latentrot.diffusion.load import LatentModel
from latentrot.diffusion.schedule import Schedule
from latentrot.diffusion.solvers.step import rotate, steps_of

__all__ = ["SOLVER", "Ddim", "decode_ddim"]


def decode_ddim(model: LatentModel, z: torch.Tensor, schedule: Schedule) -> torch.Tensor:
    """Explicit DDIM steps from latent to image."""
    for step in reversed(steps_of(model, schedule.levels(model))):
        z = rotate(z, model.velocity(z, step.high), -step.turn)
    return z


class Ddim:
    """Explicit DDIM steps in both directions; inversion and decoding do not match exactly."""

    states = 1
    residual_share = 1.0
    any_steps = True

    def evaluations(self, schedule: Schedule) -> tuple[int, int]:
        """One per step."""
        return schedule.steps, schedule.steps

    def invert(
        self, model: LatentModel, state: torch.Tensor, schedule: Schedule, tolerance: float | None
    ) -> torch.Tensor:
        """Explicit DDIM steps from image to latent; the tolerance is ignored."""
        for step in steps_of(model, schedule.levels(model)):
            state = rotate(state, model.velocity(state, max(step.low, 0)), step.turn)
        return state

    def latents(
        self, model: LatentModel, state: torch.Tensor, schedule: Schedule, tolerance: float | None
    ) -> torch.Tensor:
        """As `invert`: there is no residual latent."""
        return self.invert(model, state, schedule, tolerance)

    def decode(self, model: LatentModel, z: torch.Tensor, schedule: Schedule) -> torch.Tensor:
        """Explicit DDIM steps from latent to image."""
        return decode_ddim(model, z, schedule)


SOLVER = Ddim()
