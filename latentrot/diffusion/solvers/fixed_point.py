"""DDIM decoding and its inverse, whose implicit steps are solved by fixed-point iteration from an extrapolated guess."""

from __future__ import annotations

import math

import torch

from latentrot.diffusion.load import LatentModel
from latentrot.diffusion.schedule import Schedule
from latentrot.diffusion.solvers.ddim import Ddim
from latentrot.diffusion.solvers.step import invert_step, rotated_from, steps_of

__all__ = ["FIRST_EVALUATIONS", "SOLVER", "FixedPoint", "first_guess"]

#: min evaluations of the first inverse steps: near the image the ODE is stiff, and there are no points to extrapolate from
FIRST_EVALUATIONS = (5, 3, 2)


def evaluations_of_step(schedule: Schedule, step: int) -> int:
    """Network evaluations of one inverse step."""
    first = FIRST_EVALUATIONS[step] if step < len(FIRST_EVALUATIONS) else 1
    return max(first, schedule.iterations)


def first_guess(model: LatentModel, state: torch.Tensor, level: int, turn: float) -> torch.Tensor:
    """Guess for the first step: the velocity at its noisier level, evaluated at the clean state; one evaluation."""
    return rotated_from(state, model.velocity(state, level), turn)


def extrapolate(points: list[tuple[float, torch.Tensor]], angle: float) -> torch.Tensor:
    """Extrapolate the velocity to an angle, from one point (constant) or two (linear)."""
    if len(points) == 1:
        return points[0][1]
    (a, va), (b, vb) = points
    return vb + (vb - va) * ((angle - b) / (b - a))


class FixedPoint(Ddim):
    """The inverse of DDIM decoding, exact up to a tolerance; any DDIM decoder can decode its latents."""

    def evaluations(self, schedule: Schedule) -> tuple[int, int]:
        """`schedule.iterations` per inverse step, more for the first three; one per decoding step."""
        return 1 + sum(evaluations_of_step(schedule, k) for k in range(schedule.steps)), schedule.steps

    def invert(
        self, model: LatentModel, state: torch.Tensor, schedule: Schedule, tolerance: float | None
    ) -> torch.Tensor:
        """Solve each step for the state at its noisier end; the initial guess uses the extrapolated velocity."""
        solved: list[tuple[float, torch.Tensor]] = []  # (angle, velocity) of the last two points
        for k, step in enumerate(steps_of(model, schedule.levels(model))):
            if solved:
                guess = rotated_from(state, extrapolate(solved, step.b), step.turn)
            else:
                guess = first_guess(model, state, step.high, step.turn)
            noisier = invert_step(model, state, guess, step, evaluations_of_step(schedule, k), tolerance)
            # the velocity of the decoding step from this state to the one before
            solved = [*solved[-1:], (step.b, (math.cos(step.turn) * noisier - state) / math.sin(step.turn))]
            state = noisier
        return state


SOLVER = FixedPoint()
