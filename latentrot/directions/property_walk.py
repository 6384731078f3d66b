"""Walk one latent along directions of several properties, at one or two depths, and decode it.

The latents of an image at two depths lie on one ODE path: decoding the deep latent passes the middle depth. The offset at the
middle depth is added there, so that all offsets together cost one decoding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from latentrot.diffusion.load import LatentModel
from latentrot.diffusion.schedule import Schedule
from latentrot.diffusion.solvers.step import rotate, steps_of
from latentrot.directions.frequencies import keep_octaves
from latentrot.errors import LatentrotError

__all__ = ["decode_walked", "invert_through", "walked"]


def walked(z: torch.Tensor, offsets: torch.Tensor, factor: int) -> torch.Tensor:
    """Add offsets to latents, and scale every octave of spatial frequencies to its length in the source.

    Args:
        z: (1, c, h, w) one source, or (k, c, h, w) the source of each offset.
        offsets: (k, c, h, w).
        factor: pixel-unshuffle factor of the first stage.

    Returns:
        (k, c, h, w) float32; equal to the source bit for bit if the offset is zero.
    """
    sources = z.expand(len(offsets), -1, -1, -1)
    moved = []
    for source, offset in zip(sources.split(1), offsets.split(1), strict=True):
        if not offset.any():
            moved.append(source.float())
            continue
        pixels = (F.pixel_shuffle(v.double(), factor).numpy() for v in (source, source + offset))
        kept = torch.from_numpy(keep_octaves(*pixels)).float()
        moved.append(F.pixel_unshuffle(kept, factor))
    return torch.cat(moved)


@torch.no_grad()
def invert_through(model: LatentModel, x: torch.Tensor, schedule: Schedule, levels: list[int]) -> list[torch.Tensor]:
    """Invert images by explicit DDIM steps, and return the latents at several noise levels of the path.

    Args:
        model: the model.
        x: (n, 3, h, w) in [-1, 1] at the model's resolution.
        schedule: schedule of the deepest latents.
        levels: ascending noise levels, each one of the schedule's.

    Returns:
        For each level (n, c, h', w') float32 on the CPU.
    """
    state = model.first_stage.encode(x.to(model.device, torch.float32)).double()
    kept = []
    for step in steps_of(model, schedule.levels(model)):
        if len(kept) == len(levels):
            break
        state = rotate(state, model.velocity(state, max(step.low, 0)), step.turn)
        if step.high == levels[len(kept)]:
            kept.append(state.float().cpu())
    if len(kept) != len(levels):
        raise LatentrotError(
            f"noise levels {levels}: {schedule} passes {schedule.levels(model)}; use directions of one model"
        )
    return kept


@torch.no_grad()
def decode_walked(
    model: LatentModel, z: torch.Tensor, schedule: Schedule, offsets: dict[int, torch.Tensor] | None = None
) -> torch.Tensor:
    """Decode latents by explicit DDIM steps, and add offsets when the path reaches given noise levels.

    Args:
        model: the model.
        z: (k, c, h, w) latents of the schedule.
        schedule: schedule of the path.
        offsets: noise level -> (k, c, h, w) offsets.

    Returns:
        (k, 3, h, w) float32 on the CPU, clamped to [-1, 1].
    """
    state = z.to(model.device).double()
    for step in reversed(steps_of(model, schedule.levels(model))):
        if offsets and step.high in offsets:
            moved = walked(state.float().cpu(), offsets[step.high], model.first_stage.factor)
            state = moved.to(model.device).double()
        state = rotate(state, model.velocity(state, step.high), -step.turn)
    return model.first_stage.decode(state.float()).float().cpu().clamp(-1, 1)
