"""Walk one latent along the directions of its illumination class."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from latentrot.diffusion.solvers import solver_of
from latentrot.directions.directions import Directions
from latentrot.directions.frequencies import coarse_part, keep_octaves

__all__ = ["walk", "walk_offset"]

#: rotation in degrees over which the residual latent fades to the solver's share, so that a sweep changes smoothly
FADED_DEG = 5.0


def walk_offset(directions: Directions, steps: torch.Tensor, yaw: float) -> torch.Tensor:
    """Offset of a walk: along the direction of the image's side up to the frontal pose, beyond it along that of the other.

    Averaging over people removes fine structure, so a rotation by one measured degree needs a step of several degrees of the
    fitted line. Coarse structure (light and colours) survives averaging; with the same step it would change several times as
    much as it does with the pose. So frequencies below `directions.coarse` are walked by measured degrees.

    Args:
        directions: directions of the image's illumination class.
        steps: (k,) signed step sizes.
        yaw: yaw of the image in degrees.

    Returns:
        (k, c, h, w) float32 offsets; exactly zero for a zero step.
    """
    steps = steps.to(torch.float64)
    left, right = directions.left.double(), directions.right.double()
    frontal = directions.step_for(-yaw)  # the step at which the walk reaches the frontal pose
    if not directions.coarse:
        return two_sided(steps, frontal, left, right).float()
    turns = torch.from_numpy(directions.turn_for(steps.numpy()))
    coarse = [coarse_slope(line, directions) for line in (left, right)]
    fine = two_sided(steps, frontal, left - coarse[0], right - coarse[1])
    return (fine + two_sided(turns, -yaw, *coarse)).float()


def two_sided(steps: torch.Tensor, frontal: float, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Offsets of (k,) steps along two slopes (c, h, w), switching at the step `frontal`: (k, c, h, w)."""
    steps = steps.reshape(-1, 1, 1, 1)
    on_left = steps.clamp(max=frontal) - min(0.0, frontal)
    on_right = steps.clamp(min=frontal) - max(0.0, frontal)
    return on_left * left + on_right * right


def coarse_slope(slope: torch.Tensor, directions: Directions) -> torch.Tensor:
    """The coarse frequencies of a slope, computed on the pixel grid: (c, h, w) float64 -> the same."""
    pixels = F.pixel_shuffle(slope, directions.space.factor).numpy()
    return F.pixel_unshuffle(torch.from_numpy(coarse_part(pixels, directions.coarse)), directions.space.factor)


def walk(
    z: torch.Tensor, directions: Directions, steps: torch.Tensor, yaw: float, *, keep_norm: bool = True
) -> torch.Tensor:
    """Walk one latent along its directions.

    Args:
        z: (1, c, h, w) latent of the image, or (1, 2, c, h, w) with its residual latent. The kept share of the residual
            latent falls from 1 without a rotation to the solver's `residual_share` at `FADED_DEG` degrees.
        directions: directions of its illumination class.
        steps: (k,) signed step sizes.
        yaw: yaw of the image in degrees.
        keep_norm: rescale each octave of spatial frequencies of a walked latent to its length in the source. Noise lies on
            a hypersphere; a long straight walk leaves it, mostly in the few low frequencies that dominate the directions,
            and the decoder then produces overexposed images.

    Returns:
        (k, c, h, w) float32 latents, or (k, 2, c, h, w); equal to the source bit for bit for a zero step.
    """
    if z.ndim == 5:
        walked = walk(z[:, 0], directions, steps, yaw, keep_norm=keep_norm)
        turned = torch.from_numpy(np.abs(directions.turn_for(steps.numpy()))).to(walked)
        lost = (1 - solver_of(directions.space.schedule).residual_share) * (turned / FADED_DEG).clamp(max=1)
        return torch.stack([walked, (1 - lost)[:, None, None, None] * z[:, 1]], 1)
    walked = z + walk_offset(directions, steps, yaw)
    if keep_norm:
        factor = directions.space.factor
        kept = keep_octaves(F.pixel_shuffle(z, factor).numpy(), F.pixel_shuffle(walked, factor).numpy())
        kept = F.pixel_unshuffle(torch.from_numpy(kept).float(), factor)
        walked = torch.where(steps[:, None, None, None] == 0, z, kept)
    return walked
