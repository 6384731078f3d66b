"""How fast a diffusion model's noise grows, from its scheduler's configuration, as diffusers computes it: bit for bit."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

__all__ = ["cumulative_products"]


def cumulative_products(config: Mapping[str, Any]) -> np.ndarray:
    """The cumulative products of 1 - beta over the noise levels.

    Args:
        config: as in a pipeline's scheduler_config.json.

    Returns:
        (T,) float64, computed in float32.

    Raises:
        ValueError: an unknown beta schedule, or zero terminal SNR for a scheduler that has none.
    """
    betas = betas_of(config)
    if config.get("rescale_betas_zero_snr"):
        if config.get("_class_name") in ("PNDMScheduler", "LMSDiscreteScheduler"):
            raise ValueError("zero-terminal-SNR is only known for DDIM and DDPM schedulers")
        betas = with_zero_terminal_snr(betas)
    return torch.cumprod(1.0 - betas, dim=0).double().numpy()


def betas_of(config: Mapping[str, Any]) -> torch.Tensor:
    """(T,) float32, the share of noise that each level adds."""
    if config.get("trained_betas") is not None:
        return torch.tensor(config["trained_betas"], dtype=torch.float32)
    name = config.get("beta_schedule", "linear")
    if name not in SCHEDULES:
        raise ValueError(f"beta schedule {name!r}; expected one of {', '.join(SCHEDULES)}")
    levels = int(config.get("num_train_timesteps", 1000))
    return SCHEDULES[name](float(config.get("beta_start", 0.0001)), float(config.get("beta_end", 0.02)), levels)


def linear(start: float, end: float, levels: int) -> torch.Tensor:
    """Straight from the first to the last."""
    return torch.linspace(start, end, levels, dtype=torch.float32)


def scaled_linear(start: float, end: float, levels: int) -> torch.Tensor:
    """The square of a straight line: latent diffusion's."""
    return torch.linspace(start**0.5, end**0.5, levels, dtype=torch.float32) ** 2


def sigmoid(start: float, end: float, levels: int) -> torch.Tensor:
    """A logistic curve: GeoDiff's."""
    return torch.sigmoid(torch.linspace(-6, 6, levels)) * (end - start) + start


def cosine(start: float, end: float, levels: int) -> torch.Tensor:
    """The squared cosine of Nichol and Dhariwal, "Improved Denoising Diffusion Probabilistic Models", 2021."""
    return along(lambda share: math.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2, levels)


def laplace(start: float, end: float, levels: int) -> torch.Tensor:
    """A Laplace distribution of the noise (Hang and Gu, "Improved Noise Schedule for Diffusion Training", 2024)."""

    def left(share: float) -> float:
        half = -0.5 * math.copysign(1, 0.5 - share) * math.log(1 - 2 * abs(0.5 - share) + 1e-6)
        return math.sqrt(math.exp(half) / (1 + math.exp(half)))

    return along(left, levels)


def along(left: Callable[[float], float], levels: int) -> torch.Tensor:
    """The betas of a curve of cumulative products over the share of the levels, none above .999."""
    shares = [i / levels for i in range(levels + 1)]
    return torch.tensor([min(1 - left(b) / left(a), 0.999) for a, b in itertools.pairwise(shares)], dtype=torch.float32)


SCHEDULES: dict[str, Callable[[float, float, int], torch.Tensor]] = {
    "linear": linear,
    "scaled_linear": scaled_linear,
    "squaredcos_cap_v2": cosine,
    "sigmoid": sigmoid,
    "laplace": laplace,
}


def with_zero_terminal_snr(betas: torch.Tensor) -> torch.Tensor:
    """Stretch a schedule so that its last level is pure noise (Lin et al., "Common Diffusion Noise Schedules", 2024)."""
    root = torch.cumprod(1.0 - betas, dim=0).sqrt()
    first, last = root[0].clone(), root[-1].clone()
    root = (root - last) * (first / (first - last))
    left = root**2
    return 1 - torch.cat([left[:1], left[1:] / left[:-1]])
