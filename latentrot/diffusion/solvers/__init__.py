"""ODE solvers behind one interface: `invert`, `decode` and `evaluations` of each module's `SOLVER`.

In the angle a of `LatentModel` one DDIM step (Song, Meng, Ermon 2021) from a to b is a rotation in the plane of state and
velocity: x_b = cos(b - a) x_a + sin(b - a) v(x_a, a). All solvers are composed of it.
"""

from __future__ import annotations

from typing import Protocol

import torch

from latentrot.diffusion.load import LatentModel
from latentrot.diffusion.schedule import Schedule
from latentrot.diffusion.solvers import corrected, ddim, exact, fixed_point

__all__ = ["Solver", "solver_of"]


class Solver(Protocol):
    """A solver for both directions; states are (n, c, h, w) float64 in the diffusion space."""

    states: int
    """number of states per image that `invert` returns: 1: (n, c, h, w); 2: (n, 2, c, h, w), latents and residual latents"""
    residual_share: float
    """share of the residual latent that is kept after a walk (see `latentrot.directions.walk.walk`)"""
    any_steps: bool
    """whether decoding the same latents with another number of steps gives nearly the same images"""

    def evaluations(self, schedule: Schedule) -> tuple[int, int]:
        """Network evaluations per image: for inversion (without a tolerance) and for decoding."""
        ...

    def invert(
        self, model: LatentModel, state: torch.Tensor, schedule: Schedule, tolerance: float | None
    ) -> torch.Tensor:
        """(n, c, h, w) clean state -> latents."""
        ...

    def latents(
        self, model: LatentModel, state: torch.Tensor, schedule: Schedule, tolerance: float | None
    ) -> torch.Tensor:
        """(n, c, h, w) clean state -> (n, c, h, w) latents, without computing residual latents if possible."""
        ...

    def decode(self, model: LatentModel, z: torch.Tensor, schedule: Schedule) -> torch.Tensor:
        """Latents -> (n, c, h, w) clean state."""
        ...


KNOWN: dict[str, Solver] = {
    "corrected": corrected.SOLVER,
    "fixed-point": fixed_point.SOLVER,
    "exact": exact.SOLVER,
    "ddim": ddim.SOLVER,
}


def solver_of(schedule: Schedule) -> Solver:
    """The solver named by a schedule."""
    return KNOWN[schedule.solver]
