"""Invert images and decode latents along the deterministic ODE, with the same schedule in both directions."""

from __future__ import annotations

import torch

from latentrot.diffusion.load import LatentModel
from latentrot.diffusion.schedule import Schedule
from latentrot.diffusion.solvers import solver_of
from latentrot.errors import LatentrotError

__all__ = ["Schedule", "decode", "evaluations", "invert", "without_residual"]


def evaluations(schedule: Schedule) -> tuple[int, int]:
    """Network evaluations per image: for inversion and for decoding."""
    return solver_of(schedule).evaluations(schedule)


def resolve_schedule(steps: int | None, solver: str | None, schedule: Schedule | None) -> Schedule:
    """The given schedule, or the default one with steps and solver replaced."""
    if schedule is not None:
        if steps is not None or solver is not None:
            raise LatentrotError("give either a schedule or steps and solver, not both")
        return schedule
    default = Schedule()
    return Schedule(steps=default.steps if steps is None else steps, solver=solver or default.solver)


def check_batch(x: torch.Tensor, shapes: list[tuple[int, ...]], what: str) -> None:
    """Refuse a batch that is not of floating type, has none of the given shapes, or contains nan or inf."""
    if not torch.is_floating_point(x) or tuple(x.shape[1:]) not in shapes or not x.ndim:
        expected = " or ".join(f"(n, {', '.join(map(str, s))})" for s in shapes)
        raise LatentrotError(f"{what}: got {x.dtype} {tuple(x.shape)}, expected floats of shape {expected}")
    if not torch.isfinite(x).all():
        raise LatentrotError(f"{what}: contains NaN or infinity")


@torch.no_grad()
def invert(
    model: LatentModel, x: torch.Tensor, steps: int | None = None, solver: str | None = None,
    *, schedule: Schedule | None = None, tolerance: float | None = None, residual: bool = True,
) -> torch.Tensor:  # fmt: skip
    """Invert images: run the deterministic ODE from image to latent.

    Args:
        model: from `load_model`.
        x: (n, 3, h, w) images in [-1, 1] at the model's resolution.
        steps: steps in each direction (default: that of `Schedule`); evaluations per image: see `evaluations`.
        solver: "corrected", "fixed-point", "exact" or "ddim" (default: that of `Schedule`).
        schedule: complete schedule, instead of steps and solver.
        tolerance: iterate every fixed point until its root mean square residual is below this for all images of the batch
            (pixels in [-1, 1]), or up to twelve evaluations; None: the schedule's number of iterations, the same for every
            image.
        residual: False: compute only the latents, which are stored, averaged and walked; cheaper than with residual latents.

    Returns:
        (n, c, h', w') float32 latents on the CPU. The "corrected" and "exact" solvers return (n, 2, c, h', w'): `[:, 0]` are
        the latents, `[:, 1]` the residual latents that make the round trip exact; see `without_residual`.

    Raises:
        LatentrotError: x has the wrong shape or values that are not finite, or the schedule does not fit the model.
    """
    plan = resolve_schedule(steps, solver, schedule)
    check_batch(x, [(3, model.resolution, model.resolution)], "images")
    state = model.first_stage.encode(x.to(model.device, torch.float32)).double()
    solver_ = solver_of(plan)
    way = solver_.invert if residual else solver_.latents
    return way(model, state, plan, tolerance).to("cpu", torch.float32)


def without_residual(z: torch.Tensor) -> torch.Tensor:
    """Drop residual latents: (n, c, h, w) or (n, 2, c, h, w) -> (n, c, h, w)."""
    return z if z.ndim == 4 else z[:, 0]


@torch.no_grad()
def decode(
    model: LatentModel, z: torch.Tensor, steps: int | None = None, solver: str | None = None,
    *, schedule: Schedule | None = None,
) -> torch.Tensor:  # fmt: skip
    """Decode latents into images: deterministic, along the schedule used by `invert`.

    Args:
        model: from `load_model`.
        z: (n, c, h', w') latents, or (n, 2, c, h', w') latents with the residual latents of the solver.
        steps: steps in each direction, as for `invert`.
        solver: as for `invert`.
        schedule: complete schedule, instead of steps and solver.

    Returns:
        (n, 3, h, w) float32 images on the CPU, about [-1, 1], not clipped.

    Raises:
        LatentrotError: z has the wrong shape, or the schedule does not fit the model.
    """
    plan = resolve_schedule(steps, solver, schedule)
    solver_ = solver_of(plan)
    shapes = [model.latent_shape, (solver_.states, *model.latent_shape)]
    check_batch(z, shapes[: solver_.states], "latents")
    state = solver_.decode(model, z.to(model.device).double(), plan)
    return model.first_stage.decode(state.float()).float().cpu()
