"""diffusers' DDIM scheduler, with the types that its own signatures leave open."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler

__all__ = ["add_noise", "prediction_type_of", "read_scheduler", "velocity_of"]


def read_scheduler(folder: Path, *, clip_sample: bool | None = None) -> DDIMScheduler:
    """The scheduler in a folder; `clip_sample` takes the place of what its scheduler_config.json says, if given."""
    changes: dict[str, Any] = {} if clip_sample is None else {"clip_sample": clip_sample}
    return cast("DDIMScheduler", DDIMScheduler.from_pretrained(folder, **changes))


def prediction_type_of(scheduler: DDIMScheduler) -> str:
    """What a network trained with it predicts: v_prediction, epsilon or sample."""
    return str(scheduler.config["prediction_type"])


def add_noise(scheduler: DDIMScheduler, x0: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """The states at noise levels, (n,) whole numbers of any kind."""
    return scheduler.add_noise(x0, noise, cast("torch.IntTensor", levels))


def velocity_of(scheduler: DDIMScheduler, x0: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """What a v_prediction network is asked for at noise levels, (n,) whole numbers of any kind."""
    return scheduler.get_velocity(x0, noise, cast("torch.IntTensor", levels))
