"""Move one latent along the lines of its light group."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from latentrot.diffusion.solvers import solver_of
from latentrot.directions.directions import Directions
from latentrot.directions.frequencies import coarse_part, keep_octaves

__all__ = ["walk", "walk_offset"]

#: degrees within which a turn lets go of what it does not carry of a remainder: no picture of a sweep stands out
FADED_DEG = 5.0


def walk_offset(directions: Directions, nominal: torch.Tensor, yaw: float) -> torch.Tensor:
    """What to add to a latent to walk it: along its own side's line up to the frontal pose, beyond it along the other's.

    Averaging over people washes out fine structure, which is why a step must be several nominal degrees long to turn a head
    by one. What is coarse, the light and the colours, survives averaging: walked as far, it would change several times as
    much as it does with the pose. So frequencies below `directions.coarse` move by the degrees the head really turns.

    Args:
        directions: of the picture's light group.
        nominal: (k,) steps in nominal degrees, signed.
        yaw: the picture's own yaw in degrees.

    Returns:
        (k, c, h, w) float32 offsets; exactly zero for a zero step.
    """
    steps = nominal.to(torch.float64)
    left, right = directions.left.double(), directions.right.double()
    frontal = directions.nominal_for(-yaw)  # the step at which the walk crosses the frontal pose
    if not directions.coarse:
        return two_sided(steps, frontal, left, right).float()
    turns = torch.from_numpy(directions.turn_for(steps.numpy()))
    coarse = [coarse_slope(line, directions) for line in (left, right)]
    fine = two_sided(steps, frontal, left - coarse[0], right - coarse[1])
    return (fine + two_sided(turns, -yaw, *coarse)).float()


def two_sided(steps: torch.Tensor, frontal: float, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """(k,) steps along two slopes (c, h, w), which change over at the step `frontal` -> (k, c, h, w)."""
    steps = steps.reshape(-1, 1, 1, 1)
    on_left = steps.clamp(max=frontal) - min(0.0, frontal)
    on_right = steps.clamp(min=frontal) - max(0.0, frontal)
    return on_left * left + on_right * right


def coarse_slope(slope: torch.Tensor, directions: Directions) -> torch.Tensor:
    """The coarse frequencies of a slope, on the pixel grid: (c, h, w) float64 -> the same."""
    pixels = F.pixel_shuffle(slope, directions.space.factor).numpy()
    return F.pixel_unshuffle(torch.from_numpy(coarse_part(pixels, directions.coarse)), directions.space.factor)


def walk(
    z: torch.Tensor, directions: Directions, nominal: torch.Tensor, yaw: float, *, keep_norm: bool = True
) -> torch.Tensor:
    """Walk one latent along its lines.

    Args:
        z: (1, c, h, w) the picture's own latent; or (1, 2, c, h, w) with its remainder, of which the solver's share
            (`carried`) is kept beyond the first `FADED_DEG` degrees turned on average, and more of it before.
        directions: of its light group.
        nominal: (k,) steps in nominal degrees, signed.
        yaw: the picture's own yaw in degrees.
        keep_norm: scale each octave of spatial frequencies of a walked latent back to its source's length. Noise lives
            on a shell; a long straight walk leaves it, most of all in the few coarse frequencies the lines are made
            of, and the decoder answers with blown-out pictures.

    Returns:
        (k, c, h, w) float32 latents, or (k, 2, c, h, w); the source itself, bit for bit, for a zero step.
    """
    if z.ndim == 5:
        walked = walk(z[:, 0], directions, nominal, yaw, keep_norm=keep_norm)
        turned = torch.from_numpy(np.abs(directions.turn_for(nominal.numpy()))).to(walked)
        lost = (1 - solver_of(directions.space.schedule).carried) * (turned / FADED_DEG).clamp(max=1)
        return torch.stack([walked, (1 - lost)[:, None, None, None] * z[:, 1]], 1)
    walked = z + walk_offset(directions, nominal, yaw)
    if keep_norm:
        factor = directions.space.factor
        kept = keep_octaves(F.pixel_shuffle(z, factor).numpy(), F.pixel_shuffle(walked, factor).numpy())
        kept = F.pixel_unshuffle(torch.from_numpy(kept).float(), factor)
        walked = torch.where(nominal[:, None, None, None] == 0, z, kept)
    return walked
