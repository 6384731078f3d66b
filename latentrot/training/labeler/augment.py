"""Geometric augmentation (position, size, roll) and photometric augmentation (exposure, colours, sharpness, noise)."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from latentrot.faces.network import CROP_SIZE
from latentrot.training.labeler.faces import CONTEXT_SIZE

__all__ = ["augment_photometric", "mirror_half", "pad_to_context", "uniform", "warp"]


class WarpConfig(Protocol):
    """Configuration of `warp`."""

    @property
    def scale(self) -> float:
        """Max relative change of the crops' size."""
        ...

    @property
    def shift(self) -> float:
        """Max shift of the crops in pixels of the 178x218 frame."""
        ...

    @property
    def roll(self) -> float:
        """Max roll of the crops in degrees."""
        ...


def uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """(n,) random numbers, uniform between low and high."""
    return torch.rand(n, generator=generator) * (high - low) + low


def warp(contexts: Tensor, config: WarpConfig, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Cut randomly shifted, scaled and rotated crops.

    Args:
        contexts: (n, c, 80, 80).
        config: max shift, scale and roll.
        generator: random generator.

    Returns:
        (n, c, 64, 64) crops, and (n,) their rotation in degrees, clockwise as seen by the viewer.
    """
    n = len(contexts)
    roll = uniform(n, -config.roll, config.roll, generator) * (uniform(n, 0, 1, generator) < 0.7)
    zoom = uniform(n, 1 - config.scale, 1 + config.scale, generator) * CROP_SIZE / CONTEXT_SIZE
    reach = config.shift / 128 * 2 * CROP_SIZE / CONTEXT_SIZE  # in units of half the side of the context
    cos, sin = roll.deg2rad().cos() * zoom, roll.deg2rad().sin() * zoom
    # the image rotates clockwise when the sampling positions rotate anticlockwise, as rows grow downwards
    across = torch.stack([cos, sin, uniform(n, -reach, reach, generator)], 1)
    down = torch.stack([-sin, cos, uniform(n, -reach, reach, generator)], 1)
    grid = F.affine_grid(torch.stack([across, down], 1), [n, 1, CROP_SIZE, CROP_SIZE], align_corners=False)
    return F.grid_sample(contexts, grid, padding_mode="border", align_corners=False), roll


def pad_to_context(crops: Tensor) -> Tensor:
    """Input of `warp`: pad (n, c, 64, 64) crops by their edges to 80 pixels; return (n, c, 80, 80) unchanged."""
    margin = (CONTEXT_SIZE - crops.shape[-1]) // 2
    return F.pad(crops, (margin,) * 4, mode="replicate") if margin else crops


def augment_photometric(x: Tensor, generator: torch.Generator) -> Tensor:
    """Augment exposure, contrast, gamma, tint, sharpness and noise: (n, 3, 64, 64) in [0, 1] -> in [-1, 1]."""
    n = len(x)

    def each(low: float, high: float) -> Tensor:
        return uniform(n, low, high, generator)[:, None, None, None]

    x = x.clamp(1e-4, 1) ** each(-0.4, 0.4).exp()
    tint = torch.rand(n, 3, 1, 1, generator=generator) * 0.16 + 0.92
    x = (x - 0.5) * each(0.7, 1.3) * tint + 0.5 + each(-0.15, 0.15)
    grey = each(0, 1) < 0.15
    x = torch.where(grey, x.mean(1, keepdim=True), x)
    coarse = int(torch.randint(16, 48, (1,), generator=generator))
    some = n // 4  # the batch is shuffled, so a fixed quarter is a random one
    small = F.interpolate(x[:some], size=coarse, mode="bilinear", antialias=True)
    x = torch.cat([F.interpolate(small, size=CROP_SIZE, mode="bilinear"), x[some:]])
    x = x + torch.randn(x.shape, generator=generator) * each(0, 0.04)
    return x.clamp(0, 1) * 2 - 1


def mirror_half(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mirror a random half of the images; returns them and (n,) bool, true where mirrored."""
    flip = torch.rand(len(x), generator=generator) < 0.5
    return torch.where(flip[:, None, None, None], x.flip(-1), x), flip
