"""Networks built around the U-Net of an unconditional pixel model: initialise and save them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from safetensors.torch import save_file
from torch import Tensor

from latentrot.diffusion.first_stage import PixelUnshuffle
from latentrot.diffusion.load import LatentModel, load_model
from latentrot.diffusion.scheduler import read_scheduler
from latentrot.errors import LatentrotError
from latentrot.files import write_atomically

__all__ = ["begin_pixels", "save_network"]


def begin_pixels(
    start: str, device: str | None, user: str
) -> tuple[LatentModel, PixelUnshuffle, DDIMScheduler, UNet2DModel]:
    """Load the pixel model that a network starts from: its first stage, its schedule, and its U-Net in single precision.

    Args:
        start: a diffusers folder, a Hub id or a bundled model.
        device: torch device.
        user: the network to start, for error messages.

    Raises:
        LatentrotError: there is no such model, it is a latent diffusion model, or it does not predict the velocity.
    """
    model = load_model(start, device)
    stage = model.first_stage
    if not isinstance(stage, PixelUnshuffle):
        if stage.factor != 1 or model.latent_shape[0] != 3:
            raise LatentrotError(f"{start} is a latent diffusion model; {user} needs a pixel model to start from")
        stage = PixelUnshuffle(1)
    if model.prediction_type != "v_prediction":
        raise LatentrotError(
            f"{start} predicts {model.prediction_type}; {user} needs a model that predicts v_prediction"
        )
    plain = UNet2DModel.from_pretrained(model.folder / "unet", torch_dtype=torch.float32)
    return model, stage, read_scheduler(model.folder / "scheduler"), plain


def save_network(
    folder: Path, unet: Any, scheduler: DDIMScheduler, weights: dict[str, Tensor], part: str, header: dict[str, str]
) -> None:
    """Write a network in half precision: U-Net and schedule in diffusers' format, the rest as one file, last.

    Args:
        folder: target folder; created if missing.
        unet: the U-Net of the network, for its configuration.
        scheduler: the schedule.
        weights: of the whole network; names of U-Net weights begin with `unet.`.
        part: name of the file for the other weights.
        header: metadata of that file.
    """
    kinds: dict[bool, dict[str, Tensor]] = {True: {}, False: {}}
    for name, tensor in weights.items():
        kinds[name.startswith("unet.")][name.removeprefix("unet.")] = tensor.detach().cpu().half().contiguous()
    (folder / "unet").mkdir(parents=True, exist_ok=True)
    unet.register_to_config(_name_or_path=None)  # do not publish a local path
    unet.save_config(folder / "unet")
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    write_atomically(path, lambda p: save_file(kinds[True], p, metadata={"format": "pt"}))
    scheduler.save_pretrained(folder / "scheduler")
    write_atomically(folder / part, lambda p: save_file(kinds[False], p, metadata=header))
