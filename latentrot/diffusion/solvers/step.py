"""One step between two noise levels, in either direction."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch

from latentrot.diffusion.load import LatentModel

__all__ = ["MAX_EVALUATIONS", "Step", "accelerate", "rms", "rotate", "rotated_from", "steps_of"]

#: number of earlier iterations that Anderson acceleration combines with the latest
MEMORY = 2
#: evaluations after which a step stops without reaching its tolerance
MAX_EVALUATIONS = 12


@dataclass(frozen=True)
class Step:
    """A step of the path, from its cleaner to its noisier end.

    Attributes:
        low: noise level of the cleaner end, -1 for the image itself.
        high: noise level of the noisier end.
        a: angle of the cleaner end, radians.
        b: angle of the noisier end.
    """

    low: int
    high: int
    a: float
    b: float

    @property
    def turn(self) -> float:
        """Angle between the ends, radians, > 0."""
        return self.b - self.a


def steps_of(model: LatentModel, levels: list[int]) -> list[Step]:
    """The steps of a path, from the image to the latent."""
    return [Step(i, k, model.angle(i), model.angle(k)) for i, k in itertools.pairwise(levels)]


def rotate(state: torch.Tensor, velocity: torch.Tensor, turn: float) -> torch.Tensor:
    """A DDIM step: integrate the ODE over an angle (> 0: towards noise) with a constant prediction."""
    return math.cos(turn) * state + math.sin(turn) * velocity


def rotated_from(state: torch.Tensor, velocity: torch.Tensor, turn: float) -> torch.Tensor:
    """The noisier state from which a DDIM step back over `turn`, with the given velocity, leads to `state`."""
    return (state + math.sin(turn) * velocity) / math.cos(turn)


def invert_step(
    model: LatentModel,
    state: torch.Tensor,
    guess: torch.Tensor,
    step: Step,
    min_evaluations: int,
    tolerance: float | None,
) -> torch.Tensor:
    """Find the state at the noisier end from which the explicit decoding step leads to `state`.

    The inverse step is implicit, because it needs the velocity at the noisier end, and is solved by fixed-point iteration.

    Args:
        model: the model.
        state: (n, c, h, w) at the cleaner end.
        guess: initial guess of the result.
        step: the step.
        min_evaluations: min number of evaluations.
        tolerance: iterate until the root mean square residual of every image is below it; None: `min_evaluations`.
            The comparison synchronises with the device once per iteration, which costs less than the evaluations it saves.
    """
    tried: list[tuple[torch.Tensor, torch.Tensor]] = []  # (mapped state, residual) of the last iterations
    for done in range(1, (min_evaluations if tolerance is None else MAX_EVALUATIONS) + 1):
        mapped = solve_for_noisier(model, state, guess, model.velocity(guess, step.high), step)
        tried = [*tried[-MEMORY:], (mapped, mapped - guess)]
        guess = accelerate(tried)
        if tolerance is not None and done >= min_evaluations and rms(tried[-1][1]).max() < tolerance:
            break
    return guess


def solve_for_noisier(
    model: LatentModel, state: torch.Tensor, noisier: torch.Tensor, velocity: torch.Tensor, step: Step
) -> torch.Tensor:
    """One fixed-point iteration: the x_b from which a decoding step leads to `state` if the prediction is held constant.

    The prediction is the velocity or, for a network that predicts the noise, the noise. Holding the velocity of a
    noise-predicting network constant would make the iteration diverge on long steps.
    """
    a, b = step.a, step.b
    if model.prediction_type == "epsilon":
        noise = math.cos(b) * velocity + math.sin(b) * noisier
        return (math.cos(b) * state + math.sin(b - a) * noise) / math.cos(a)
    return rotated_from(state, velocity, step.turn)


def accelerate(tried: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """Anderson acceleration: combine the last iterates of each image so that the residual is minimal.

    Near the image the map is hardly contracting, and plain iteration oscillates. Source: Anderson, "Iterative Procedures for
    Nonlinear Integral Equations", J. ACM 12(4), 1965, in the form of Walker and Ni, SIAM J. Numer. Anal. 49(4), 2011.

    Args:
        tried: (mapped state, residual) of the iterations so far, oldest first, each (n, ...).

    Returns:
        (n, ...) the mapped state in the first iteration, later the combination.
    """
    mapped, residual = tried[-1]
    if len(tried) == 1:
        return mapped
    gains = torch.stack([(residual - r).flatten(1) for _, r in tried[:-1]], 1)  # (n, k, d)
    normal = gains @ gains.transpose(1, 2)
    ridge = 1e-9 * normal.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-30)
    normal = normal + ridge[:, None, None] * torch.eye(normal.shape[1], dtype=normal.dtype, device=normal.device)
    weights = torch.linalg.solve(normal, gains @ residual.flatten(1)[:, :, None])  # (n, k, 1)
    changes = torch.stack([(mapped - m).flatten(1) for m, _ in tried[:-1]], 1)
    return mapped - (weights * changes).sum(1).reshape(mapped.shape)


def rms(x: torch.Tensor) -> torch.Tensor:
    """(n, ...) -> (n,) root mean square of each image."""
    return x.square().flatten(1).mean(1).sqrt()
