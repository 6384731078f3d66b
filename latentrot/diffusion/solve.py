"""Picture -> latent -> picture along the deterministic ODE, the same schedule both ways."""

from __future__ import annotations

import torch

from latentrot.diffusion.load import LatentModel
from latentrot.diffusion.schedule import Schedule
from latentrot.diffusion.solvers import solver_of
from latentrot.errors import LatentrotError

__all__ = ["Schedule", "decode", "evaluations", "invert", "without_remainder"]


def evaluations(schedule: Schedule) -> tuple[int, int]:
    """Network evaluations per picture: for inversion and for decoding."""
    return solver_of(schedule).evaluations(schedule)


def resolve_schedule(steps: int | None, solver: str | None, schedule: Schedule | None) -> Schedule:
    """A schedule object as it is, or the default one with steps and solver replaced."""
    if schedule is not None:
        if steps is not None or solver is not None:
            raise LatentrotError("give either a schedule or steps and solver, not both")
        return schedule
    default = Schedule()
    return Schedule(steps=default.steps if steps is None else steps, solver=solver or default.solver)


def check_batch(x: torch.Tensor, shapes: list[tuple[int, ...]], what: str) -> None:
    """Refuse anything but a finite float batch of a shape the model has."""
    if not torch.is_floating_point(x) or tuple(x.shape[1:]) not in shapes or not x.ndim:
        expected = " or ".join(f"(n, {', '.join(map(str, s))})" for s in shapes)
        raise LatentrotError(f"{what}: got {x.dtype} {tuple(x.shape)}, expected floats of shape {expected}")
    if not torch.isfinite(x).all():
        raise LatentrotError(f"{what}: contains NaN or infinity")


@torch.no_grad()
def invert(
    model: LatentModel, x: torch.Tensor, steps: int | None = None, solver: str | None = None,
    *, schedule: Schedule | None = None, tolerance: float | None = None, remainder: bool = True,
) -> torch.Tensor:  # fmt: skip
    """Embed pictures: run the deterministic ODE from picture to latent.

    Args:
        model: from `load_model`.
        x: (n, 3, h, w) pictures in [-1, 1] at the model's resolution.
        steps: steps each way (default: `Schedule`'s); evaluations per picture: see `evaluations`.
        solver: "corrected", "fixed-point", "exact" or "ddim" (default: `Schedule`'s).
        schedule: instead of steps and solver, a whole schedule.
        tolerance: go on with every fixed point until its root mean square residual is below this for all pictures of the
            batch (pixels in [-1, 1]), or twelve evaluations are spent on it; None spends what the schedule says, which
            is the same for every picture.
        remainder: False: latents alone, as they are stored, averaged and walked, for what these alone cost.

    Returns:
        (n, c, h', w') float32 latents on the CPU. The "corrected" and "exact" solvers return (n, 2, c, h', w'): `[:, 0]` are
        the latents, `[:, 1]` the remainders by which pictures come back; see `without_remainder`.

    Raises:
        LatentrotError: wrong shape or range of x, or an impossible schedule.
    """
    plan = resolve_schedule(steps, solver, schedule)
    check_batch(x, [(3, model.resolution, model.resolution)], "pictures")
    state = model.first_stage.encode(x.to(model.device, torch.float32)).double()
    solver_ = solver_of(plan)
    way = solver_.invert if remainder else solver_.latents
    return way(model, state, plan, tolerance).to("cpu", torch.float32)


def without_remainder(z: torch.Tensor) -> torch.Tensor:
    """(n, c, h, w) or (n, 2, c, h, w) latents of any solver -> (n, c, h, w): what is stored, averaged and walked."""
    return z if z.ndim == 4 else z[:, 0]


@torch.no_grad()
def decode(
    model: LatentModel, z: torch.Tensor, steps: int | None = None, solver: str | None = None,
    *, schedule: Schedule | None = None,
) -> torch.Tensor:  # fmt: skip
    """Turn latents into pictures: deterministic, along the schedule `invert` used.

    Args:
        model: from `load_model`.
        z: (n, c, h', w') latents, or (n, 2, c, h', w') latents and remainders of a solver that has them.
        steps: steps each way, the same as for `invert`.
        solver: the solver `invert` used.
        schedule: instead of steps and solver, a whole schedule.

    Returns:
        (n, 3, h, w) float32 pictures on the CPU, about [-1, 1], not clipped.

    Raises:
        LatentrotError: wrong shape of z or an impossible schedule.
    """
    plan = resolve_schedule(steps, solver, schedule)
    solver_ = solver_of(plan)
    shapes = [model.latent_shape, (solver_.states, *model.latent_shape)]
    check_batch(z, shapes[: solver_.states], "latents")
    state = solver_.decode(model, z.to(model.device).double(), plan)
    return model.first_stage.decode(state.float()).float().cpu()
