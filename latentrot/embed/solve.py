"""Picture -> latent -> picture along the deterministic ODE, the same schedule both ways.

In the angle a of `LatentModel` one DDIM step (Song, Meng, Ermon 2021) from a to b is a rotation in the plane of state and
velocity: x_b = cos(b - a) x_a + sin(b - a) v(x_a, a). Decoding takes these explicit steps from noise to picture. Its exact
inverse is implicit: the velocity it needs is the one at the *noisier* end, which is not known yet.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch

from latentrot.embed.model import LatentModel
from latentrot.errors import LatentrotError

__all__ = ["Schedule", "decode", "evaluations", "invert"]

SOLVERS = ("fixed-point", "ddim")
#: evaluations of the first inverse steps: next to the picture the ODE is stiff and there is no history to extrapolate
FIRST_EVALUATIONS = (5, 3, 2)
#: earlier iterations of a step that Anderson acceleration combines with the latest
MEMORY = 2
#: evaluations after which a step that does not reach its tolerance is left as it is
MOST_EVALUATIONS = 12


@dataclass(frozen=True)
class Schedule:
    """The discrete path between picture and latent; one object serves both ways and is written into every artefact.

    Args:
        steps: steps each way.
        solver: how the implicit inverse step is solved: "fixed-point" iterates it, "ddim" takes the velocity at the
            cleaner end instead (the usual, inexact inversion).
        iterations: network evaluations per inverse step of the fixed-point solver; its first three steps take
            at least 5, 3 and 2.
        depth: how far towards pure noise the path goes, as a share of the noise levels (0 to 1]. The last tenth is left
            out by default: there the network's velocity is hardly a function of the picture, and inverts worst.
    """

    steps: int = 12
    solver: str = "fixed-point"
    iterations: int = 1
    depth: float = 0.9

    def __post_init__(self) -> None:
        for name, low in (("steps", 1), ("iterations", 1)):
            if getattr(self, name) < low:
                raise LatentrotError(f"{name}={getattr(self, name)}: expected at least {low}")
        if self.solver not in SOLVERS:
            raise LatentrotError(f"solver {self.solver!r}: expected one of {', '.join(SOLVERS)}")
        if not 0 < self.depth <= 1:
            raise LatentrotError(f"depth={self.depth}: expected a share of the noise levels, above 0 and at most 1")

    def levels(self, model: LatentModel) -> list[int]:
        """Noise levels from the clean picture (-1) to the latent: steps + 1 strictly rising integers."""
        deepest = round(self.depth * len(model.alpha_bar))
        levels = [round(deepest * k / self.steps) - 1 for k in range(self.steps + 1)]
        if any(b <= a for a, b in itertools.pairwise(levels)):
            raise LatentrotError(f"{self.steps} steps do not fit into {deepest} noise levels; take fewer steps")
        if model.prediction_type == "epsilon" and model.alpha_bar[levels[-1]] <= 0:
            raise LatentrotError(
                "the schedule ends at pure noise (zero terminal SNR), where a network that predicts the noise says nothing "
                "of the picture; use depth < 1 or a model with v or sample prediction"
            )
        return levels


def evaluations_of_step(schedule: Schedule, step: int) -> int:
    """Network evaluations of one inverse step of the fixed-point solver."""
    first = FIRST_EVALUATIONS[step] if step < len(FIRST_EVALUATIONS) else 1
    return max(first, schedule.iterations)


def evaluations(schedule: Schedule) -> tuple[int, int]:
    """Network evaluations per picture: for inversion and for decoding."""
    if schedule.solver == "ddim":
        return schedule.steps, schedule.steps
    return 1 + sum(evaluations_of_step(schedule, k) for k in range(schedule.steps)), schedule.steps


def resolve_schedule(steps: int | None, solver: str | None, schedule: Schedule | None) -> Schedule:
    """A schedule object as it is, or the default one with steps and solver replaced."""
    if schedule is not None:
        if steps is not None or solver is not None:
            raise LatentrotError("give either a schedule or steps and solver, not both")
        return schedule
    default = Schedule()
    return Schedule(steps=default.steps if steps is None else steps, solver=solver or default.solver)


def check_batch(x: torch.Tensor, shape: tuple[int, ...], what: str) -> None:
    """Refuse anything but a finite float batch of the shape the model has."""
    if not torch.is_floating_point(x) or x.ndim != 4 or tuple(x.shape[1:]) != shape:
        raise LatentrotError(
            f"{what}: got {x.dtype} {tuple(x.shape)}, expected floats of shape (n, {', '.join(map(str, shape))})"
        )
    if not torch.isfinite(x).all():
        raise LatentrotError(f"{what}: contains NaN or infinity")


@torch.no_grad()
def invert(
    model: LatentModel, x: torch.Tensor, steps: int | None = None, solver: str | None = None,
    *, schedule: Schedule | None = None, tolerance: float | None = None,
) -> torch.Tensor:  # fmt: skip
    """Embed pictures: run the deterministic ODE from picture to latent.

    Args:
        model: from `load_model`.
        x: (n, 3, h, w) pictures in [-1, 1] at the model's resolution.
        steps: steps each way (default: `Schedule`'s); evaluations per picture: see `evaluations`.
        solver: "fixed-point" or "ddim" (default: `Schedule`'s).
        schedule: instead of steps and solver, a whole schedule.
        tolerance: go on with every fixed point until its root mean square residual is below this for all pictures of the
            batch (pixels in [-1, 1]), or `MOST_EVALUATIONS` are spent; None spends what the schedule says, which is the
            same for every picture.

    Returns:
        (n, c, h', w') float32 latents on the CPU.

    Raises:
        LatentrotError: wrong shape or range of x, or an impossible schedule.
    """
    plan = resolve_schedule(steps, solver, schedule)
    check_batch(x, (3, model.resolution, model.resolution), "pictures")
    levels = plan.levels(model)
    state = model.first_stage.encode(x.to(model.device, torch.float32)).double()

    if plan.solver == "ddim":
        return ddim_inverse(model, state, levels).to("cpu", torch.float32)
    solved: list[tuple[float, torch.Tensor]] = []  # (angle, velocity) of the last two points
    for step, (low, high) in enumerate(itertools.pairwise(levels)):
        a, b = model.angle(low), model.angle(high)
        # first guess: the velocity at b extrapolated from the points before, which costs no evaluation
        velocity = extrapolate(solved, b) if solved else model.velocity(state, high)
        noisier = (state + math.sin(b - a) * velocity) / math.cos(b - a)
        least = evaluations_of_step(plan, step)
        tried: list[tuple[torch.Tensor, torch.Tensor]] = []  # (mapped state, residual) of the last iterations
        for done in range(1, (least if tolerance is None else MOST_EVALUATIONS) + 1):
            mapped = solve_for_noisier(model, state, noisier, model.velocity(noisier, high), a, b)
            tried = [*tried[-MEMORY:], (mapped, mapped - noisier)]
            noisier = accelerate(tried)
            if tolerance is not None and done >= least and rms(tried[-1][1]).max() < tolerance:
                break
        # the velocity with which a decoding step leads from this very state to the one before
        solved = [*solved[-1:], (b, (math.cos(b - a) * noisier - state) / math.sin(b - a))]
        state = noisier
    return state.to("cpu", torch.float32)


def ddim_inverse(model: LatentModel, state: torch.Tensor, levels: list[int]) -> torch.Tensor:
    """The usual inversion, kept for comparison: each step takes the velocity at its cleaner end."""
    for a, b in itertools.pairwise(levels):
        turn = model.angle(b) - model.angle(a)
        state = math.cos(turn) * state + math.sin(turn) * model.velocity(state, max(a, 0))
    return state


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


def extrapolate(points: list[tuple[float, torch.Tensor]], angle: float) -> torch.Tensor:
    """The velocity at an angle, from one point (constant) or two (linear)."""
    if len(points) == 1:
        return points[0][1]
    (a, va), (b, vb) = points
    return vb + (vb - va) * ((angle - b) / (b - a))


def solve_for_noisier(
    model: LatentModel, state: torch.Tensor, noisier: torch.Tensor, velocity: torch.Tensor, a: float, b: float
) -> torch.Tensor:
    """One fixed-point iteration: the x_b from which a decoding step arrives at `state`, holding the prediction fixed.

    What is held is what the network predicts: the velocity, or, for a network that predicts the noise, the noise. To hold
    the velocity there would fold the iterate back into itself and diverge on long steps.
    """
    if model.prediction_type == "epsilon":
        noise = math.cos(b) * velocity + math.sin(b) * noisier
        return (math.cos(b) * state + math.sin(b - a) * noise) / math.cos(a)
    return (state + math.sin(b - a) * velocity) / math.cos(b - a)


@torch.no_grad()
def decode(
    model: LatentModel, z: torch.Tensor, steps: int | None = None, solver: str | None = None,
    *, schedule: Schedule | None = None,
) -> torch.Tensor:  # fmt: skip
    """Turn latents into pictures: deterministic DDIM along the schedule `invert` used.

    Args:
        model: from `load_model`.
        z: (n, c, h', w') latents.
        steps: steps each way, the same as for `invert`.
        solver: the solver `invert` used; decoding is the same explicit step for all of them.
        schedule: instead of steps and solver, a whole schedule.

    Returns:
        (n, 3, h, w) float32 pictures on the CPU, about [-1, 1], not clipped.

    Raises:
        LatentrotError: wrong shape of z or an impossible schedule.
    """
    plan = resolve_schedule(steps, solver, schedule)
    check_batch(z, model.latent_shape, "latents")
    levels = plan.levels(model)
    state = z.to(model.device).double()
    for b, a in itertools.pairwise(levels[::-1]):
        turn = model.angle(b) - model.angle(a)
        state = math.cos(turn) * state - math.sin(turn) * model.velocity(state, b)
    return model.first_stage.decode(state.float()).float().cpu()
