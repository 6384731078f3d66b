"""One step between two noise levels, either way."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch

from latentrot.diffusion.load import LatentModel

__all__ = ["MOST_EVALUATIONS", "Step", "accelerate", "rms", "rotate", "rotated_from", "steps_of"]

#: earlier iterations of a step that Anderson acceleration combines with the latest
MEMORY = 2
#: evaluations after which a step that does not reach its tolerance is left as it is
MOST_EVALUATIONS = 12


@dataclass(frozen=True)
class Step:
    """A step of the path, from its cleaner to its noisier end.

    Attributes:
        low: noise level of the cleaner end, -1 for the picture itself.
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
    """The steps of a path, from the picture to the latent."""
    return [Step(i, k, model.angle(i), model.angle(k)) for i, k in itertools.pairwise(levels)]


def rotate(state: torch.Tensor, velocity: torch.Tensor, turn: float) -> torch.Tensor:
    """A DDIM step: what the ODE does over an angle (> 0: towards noise) while the network's prediction stays the same."""
    return math.cos(turn) * state + math.sin(turn) * velocity


def rotated_from(state: torch.Tensor, velocity: torch.Tensor, turn: float) -> torch.Tensor:
    """The noisier state that a DDIM step back over `turn`, with the velocity given, takes to `state`."""
    return (state + math.sin(turn) * velocity) / math.cos(turn)


def invert_step(
    model: LatentModel, state: torch.Tensor, guess: torch.Tensor, step: Step, least: int, tolerance: float | None
) -> torch.Tensor:
    """The state at the noisier end from which the explicit decoding step arrives at `state`.

    Implicit, since the velocity it needs is the one at the noisier end: iterated to its fixed point.

    Args:
        model: the model.
        state: (n, c, h, w) at the cleaner end.
        guess: of the answer.
        step: the step.
        least: evaluations to spend.
        tolerance: go on until the root mean square residual of every picture is below it; None: spend `least`.
            Looking at it waits for the device once an iteration, which is less than the evaluations it saves.
    """
    tried: list[tuple[torch.Tensor, torch.Tensor]] = []  # (mapped state, residual) of the last iterations
    for done in range(1, (least if tolerance is None else MOST_EVALUATIONS) + 1):
        mapped = solve_for_noisier(model, state, guess, model.velocity(guess, step.high), step)
        tried = [*tried[-MEMORY:], (mapped, mapped - guess)]
        guess = accelerate(tried)
        if tolerance is not None and done >= least and rms(tried[-1][1]).max() < tolerance:
            break
    return guess


def solve_for_noisier(
    model: LatentModel, state: torch.Tensor, noisier: torch.Tensor, velocity: torch.Tensor, step: Step
) -> torch.Tensor:
    """One fixed-point iteration: the x_b from which a decoding step arrives at `state`, holding the prediction fixed.

    What is held is what the network predicts: the velocity, or, for a network that predicts the noise, the noise. To hold
    the velocity there would fold the iterate back into itself and diverge on long steps.
    """
    a, b = step.a, step.b
    if model.prediction_type == "epsilon":
        noise = math.cos(b) * velocity + math.sin(b) * noisier
        return (math.cos(b) * state + math.sin(b - a) * noise) / math.cos(a)
    return rotated_from(state, velocity, step.turn)


def accelerate(tried: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """The next iterate of a fixed point: the combination of the last ones whose residual is least, for each picture.

    Next to the picture the map hardly contracts, and plain iteration swings. Source: Anderson, "Iterative Procedures for
    Nonlinear Integral Equations", J. ACM 12(4), 1965, in the form of Walker and Ni, SIAM J. Numer. Anal. 49(4), 2011.

    Args:
        tried: (mapped state, residual) of the iterations so far, oldest first, each (n, ...).

    Returns:
        (n, ...) the mapped state of a first iteration, the combination after it.
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
    """(n, ...) -> (n,) root mean square of each picture."""
    return x.square().flatten(1).mean(1).sqrt()
