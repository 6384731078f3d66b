"""diffusers' DDIM scheduler with precise types."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler

__all__ = ["add_noise", "prediction_type_of", "read_scheduler", "velocity_of"]


def read_scheduler(folder: Path, *, clip_sample: bool | None = None) -> DDIMScheduler:
    """Load the scheduler in a folder; `clip_sample`, if given, overrides its scheduler_config.json."""
    changes: dict[str, Any] = {} if clip_sample is None else {"clip_sample": clip_sample}
    return cast("DDIMScheduler", DDIMScheduler.from_pretrained(folder, **changes))


def prediction_type_of(scheduler: DDIMScheduler) -> str:
    """Prediction type of networks trained with it: v_prediction, epsilon or sample."""
    return str(scheduler.config["prediction_type"])


def add_noise(scheduler: DDIMScheduler, x0: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """States at noise levels, (n,) integers of any dtype."""
    return scheduler.add_noise(x0, noise, cast("torch.IntTensor", levels))


def velocity_of(scheduler: DDIMScheduler, x0: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """Training target of a v_prediction network at noise levels, (n,) integers of any dtype."""
    return scheduler.get_velocity(x0, noise, cast("torch.IntTensor", levels))
