"""The noise schedule of a published model, from its scheduler's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np

from latentrot.errors import LatentrotError, one_line
from latentrot.models.fingerprint import noise_in_words
from latentrot.models.folder import part_folder, read_json

__all__ = ["SCHEDULERS", "load_noise"]

PREDICTIONS = {"epsilon", "v_prediction", "sample"}
#: samplers of the one family whose path is x = sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) noise with discrete levels: how they
#: step through it is their own affair, the path they were trained on is not
SCHEDULERS = (
    "DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "LMSDiscreteScheduler", "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler",
    "DEISMultistepScheduler", "UniPCMultistepScheduler",
)  # fmt: skip
#: options that leave that path, and the values that stay on it
STAYS = {"use_flow_sigmas": (None, False), "timestep_type": (None, "discrete")}


def load_noise(folder: Path, index: dict[str, Any]) -> tuple[np.ndarray, str, str]:
    """The noise schedule of a pipeline.

    Args:
        folder: of the pipeline.
        index: its model_index.json.

    Returns:
        The cumulative products (T,) float64, the schedule in words, and the prediction type.

    Raises:
        LatentrotError: naming a scheduler of another path, or what is wrong with its configuration.
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
        scheduler = getattr(diffusers, name).from_config({k: v for k, v in config.items() if not k.startswith("_")})
        alpha_bar = scheduler.alphas_cumprod.double().numpy()
        words = noise_in_words(scheduler.config)
    except (NotImplementedError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        reason = one_line(error, 200)
        raise LatentrotError(f"{folder}: its scheduler's configuration is not understood: {reason}") from error
    if not ((alpha_bar >= 0) & (alpha_bar < 1)).all() or (np.diff(alpha_bar) >= 0).any():
        raise LatentrotError(f"{folder}: its noise does not rise from level to level; check the betas of its scheduler")
    return alpha_bar, words, prediction


def refuse_other_path(folder: Path, name: str, config: dict[str, Any]) -> None:
    """Refuse a scheduler whose path is not the variance-preserving one, by name."""
    if name not in SCHEDULERS:
        raise LatentrotError(
            f"{folder}: a model of {name}, whose path from picture to noise is another; expected one of "
            f"{', '.join(s.removesuffix('Scheduler') for s in SCHEDULERS)}"
        )
    for option, values in STAYS.items():
        if config.get(option) not in values:
            raise LatentrotError(f"{folder}: {name} with {option}={config[option]!r}, which is another path")
    if config.get("rescale_betas_zero_snr") and name not in SCHEDULERS[:2]:
        raise LatentrotError(f"{folder}: zero-terminal-SNR is only known for DDIM and DDPM schedulers, not {name}")
