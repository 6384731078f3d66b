"""Noise schedules from scheduler configurations, equal to those of diffusers bit for bit."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latentrot.diffusion.fingerprint import describe_noise
from latentrot.diffusion.folder import part_folder, read_json
from latentrot.errors import LatentrotError, one_line

__all__ = ["SCHEDULERS", "cumulative_products", "load_noise"]

PREDICTIONS = {"epsilon", "v_prediction", "sample"}
#: samplers with discrete levels of the variance-preserving process x = sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) noise; they
#: take different steps, but their models were trained on the same process
SCHEDULERS = (
    "DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "LMSDiscreteScheduler", "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler",
    "DEISMultistepScheduler", "UniPCMultistepScheduler",
)  # fmt: skip
#: options that can change the process, and the values with which they do not
STAYS = {"use_flow_sigmas": (None, False), "timestep_type": (None, "discrete")}
#: defaults common to all schedulers
DEFAULTS = {"num_train_timesteps": 1000, "beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02}


def cumulative_products(config: Mapping[str, Any]) -> np.ndarray:
    """Cumulative products of 1 - beta over the noise levels.

    Args:
        config: content of a pipeline's scheduler_config.json.

    Returns:
        (T,) float64, computed in float32.

    Raises:
        ValueError: the beta schedule is unknown, or the scheduler does not support zero terminal SNR.
    """
    betas = betas_of(config)
    if config.get("rescale_betas_zero_snr"):
        if config.get("_class_name") in ("PNDMScheduler", "LMSDiscreteScheduler"):
            raise ValueError("zero-terminal-SNR is only known for DDIM and DDPM schedulers")
        betas = with_zero_terminal_snr(betas)
    return torch.cumprod(1.0 - betas, dim=0).double().numpy()


def betas_of(config: Mapping[str, Any]) -> torch.Tensor:
    """(T,) float32 betas: the variance of the noise that each level adds."""
    if config.get("trained_betas") is not None:
        return torch.tensor(config["trained_betas"], dtype=torch.float32)
    name = config.get("beta_schedule", "linear")
    if name not in SCHEDULES:
        raise ValueError(f"beta schedule {name!r}; expected one of {', '.join(SCHEDULES)}")
    levels = int(config.get("num_train_timesteps", 1000))
    return SCHEDULES[name](float(config.get("beta_start", 0.0001)), float(config.get("beta_end", 0.02)), levels)


def linear_betas(start: float, end: float, levels: int) -> torch.Tensor:
    """Linear betas."""
    return torch.linspace(start, end, levels, dtype=torch.float32)


def scaled_linear_betas(start: float, end: float, levels: int) -> torch.Tensor:
    """Betas whose square roots are linear, as in latent diffusion."""
    return torch.linspace(start**0.5, end**0.5, levels, dtype=torch.float32) ** 2


def sigmoid(start: float, end: float, levels: int) -> torch.Tensor:
    """Betas on a logistic curve, as in GeoDiff."""
    return torch.sigmoid(torch.linspace(-6, 6, levels)) * (end - start) + start


def cosine(start: float, end: float, levels: int) -> torch.Tensor:
    """Squared-cosine schedule (Nichol and Dhariwal, "Improved Denoising Diffusion Probabilistic Models", 2021)."""
    return along(lambda share: math.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2, levels)


def laplace(start: float, end: float, levels: int) -> torch.Tensor:
    """Laplace schedule (Hang and Gu, "Improved Noise Schedule for Diffusion Training", 2024)."""

    def left(share: float) -> float:
        half = -0.5 * math.copysign(1, 0.5 - share) * math.log(1 - 2 * abs(0.5 - share) + 1e-6)
        return math.sqrt(math.exp(half) / (1 + math.exp(half)))

    return along(left, levels)


def along(left: Callable[[float], float], levels: int) -> torch.Tensor:
    """Betas for cumulative products `left(t)` at t from 0 to 1, clamped to .999."""
    shares = [i / levels for i in range(levels + 1)]
    return torch.tensor([min(1 - left(b) / left(a), 0.999) for a, b in itertools.pairwise(shares)], dtype=torch.float32)


SCHEDULES: dict[str, Callable[[float, float, int], torch.Tensor]] = {
    "linear": linear_betas,
    "scaled_linear": scaled_linear_betas,
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


def load_noise(folder: Path, index: dict[str, Any]) -> tuple[np.ndarray, str, str]:
    """Load the noise schedule of a pipeline.

    Args:
        folder: folder of the pipeline.
        index: content of its model_index.json.

    Returns:
        Cumulative products (T,) float64, description of the schedule, and prediction type.

    Raises:
        LatentrotError: the scheduler or an option of its configuration is not supported; the message names it.
    """
    config = read_json(part_folder(folder, "scheduler", "scheduler_config.json") / "scheduler_config.json", "scheduler")
    name = str(config.get("_class_name") or (index.get("scheduler") or [None, None])[1])
    refuse_other_path(folder, name, config)
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in PREDICTIONS:
        raise LatentrotError(
            f"{folder}: prediction type {prediction!r}; expected one of {', '.join(sorted(PREDICTIONS))}"
        )
    try:
        alpha_bar = cumulative_products(config)
        words = describe_noise({**DEFAULTS, **config})
    except (ValueError, TypeError, RuntimeError) as error:
        reason = one_line(error, 200)
        raise LatentrotError(f"{folder}: unsupported scheduler configuration: {reason}") from error
    if not ((alpha_bar >= 0) & (alpha_bar < 1)).all() or (np.diff(alpha_bar) >= 0).any():
        raise LatentrotError(
            f"{folder}: the noise does not increase with every level; check the betas of its scheduler"
        )
    return alpha_bar, words, prediction


def refuse_other_path(folder: Path, name: str, config: dict[str, Any]) -> None:
    """Refuse schedulers that are not variance-preserving."""
    if name not in SCHEDULERS:
        raise LatentrotError(
            f"{folder}: {name} is not a variance-preserving scheduler; expected one of "
            f"{', '.join(s.removesuffix('Scheduler') for s in SCHEDULERS)}"
        )
    for option, values in STAYS.items():
        if config.get(option) not in values:
            raise LatentrotError(
                f"{folder}: {name} with {option}={config[option]!r} is not supported; expected a variance-preserving path"
            )
    if config.get("rescale_betas_zero_snr") and name not in SCHEDULERS[:2]:
        raise LatentrotError(f"{folder}: zero-terminal-SNR is only known for DDIM and DDPM schedulers, not {name}")
