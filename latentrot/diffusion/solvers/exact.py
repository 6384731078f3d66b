"""Two-step DDIM, explicit both ways: the way back is exact up to rounding, and second-order accurate.

From a state x at angle a, with p one step (of angle g) before it and n one step (of angle h) after it,

    n = rotate(x, v, h) + w (p - rotate(x, v, -g)),   w = (1 - cos h) / (1 - cos g):

the DDIM step onwards, corrected by what the DDIM step backwards misses of the known state. Read from right to left it gives
p from x and n, with the same single evaluation of v at x. With this w the errors of the two DDIM steps, which grow with the
square of their angles, cancel. It is the bidirectional explicit two-step scheme of least local error (O-BELM: Wang et al.,
"BELM: Bidirectional Explicit Linear Multi-step Sampler for Exact Inversion in Diffusion Models", NeurIPS 2024) written in the
angle, where it holds for every prediction type; w = 1 gives BDIA (Zhang, Lewis, Kleijn 2023), w < 1 damps. On photographs,
at 12 and 20 steps, w multiplied by .95 or .9 moved neither the edits nor the noise visibly, and enlarged the remainder.

Two neighbouring states would have to be kept. Instead of the second one its *remainder* is: what the DDIM step back from
the latent misses of it. It is about a hundredth of the latent, and nothing needs to be known about it: a walk moves the
latent and carries the remainder along, and the second state follows the first by way of the network. A latent without a
remainder (a mean, a sample of noise) is decoded as if it were zero. Both lie in one tensor, (n, 2, c, h, w), on an axis of
their own: a latent proper keeps its shape, so that stores, centroids and lines are the same for every solver.
"""

from __future__ import annotations

import itertools
import math

import torch

from latentrot.diffusion.load import LatentModel
from latentrot.diffusion.schedule import Schedule
from latentrot.diffusion.solvers.fixed_point import FIRST_EVALUATIONS, first_guess
from latentrot.diffusion.solvers.step import Step, invert_step, rotate, steps_of

__all__ = ["SOLVER", "Exact"]


def weight(before: Step, after: Step) -> float:
    """How strongly the miss of the step before corrects the step after."""
    return (1 - math.cos(after.turn)) / (1 - math.cos(before.turn))


class Exact:
    """Latent and remainder, (n, 2, c, h, w)."""

    states = 2
    carried = 1.0  # it is what the way back needs, not a detail of the picture
    any_steps = False  # the remainder belongs to its steps

    def evaluations(self, schedule: Schedule) -> tuple[int, int]:
        """One a step, and those of the first inverse step, which is iterated as by the fixed-point solver."""
        return 1 + FIRST_EVALUATIONS[0] + schedule.steps, schedule.steps

    def invert(
        self, model: LatentModel, state: torch.Tensor, schedule: Schedule, tolerance: float | None
    ) -> torch.Tensor:
        """The first step alone is implicit; how well it is solved matters to the latent, not to the way back."""
        steps = steps_of(model, schedule.levels(model))
        guess = first_guess(model, state, steps[0].high, steps[0].turn)
        before, state = state, invert_step(model, state, guess, steps[0], FIRST_EVALUATIONS[0], tolerance)
        for last, step in itertools.pairwise(steps):
            v = model.velocity(state, step.low)
            miss = before - rotate(state, v, -last.turn)
            before, state = state, rotate(state, v, step.turn) + weight(last, step) * miss
        remainder = before - rotate(state, model.velocity(state, steps[-1].high), -steps[-1].turn)
        return torch.stack([state, remainder], 1)

    def latents(
        self, model: LatentModel, state: torch.Tensor, schedule: Schedule, tolerance: float | None
    ) -> torch.Tensor:
        """The latents, which cost as much as both."""
        return self.invert(model, state, schedule, tolerance)[:, 0]

    def decode(self, model: LatentModel, z: torch.Tensor, schedule: Schedule) -> torch.Tensor:
        """The same equations read the other way."""
        steps = steps_of(model, schedule.levels(model))
        after, remainder = (z[:, 0], z[:, 1]) if z.ndim == 5 else (z, 0.0)
        state = rotate(after, model.velocity(after, steps[-1].high), -steps[-1].turn) + remainder
        for following, step in itertools.pairwise(reversed(steps)):
            v = model.velocity(state, step.high)
            miss = (after - rotate(state, v, following.turn)) / weight(step, following)
            after, state = state, rotate(state, v, -step.turn) + miss
        return state


SOLVER = Exact()
