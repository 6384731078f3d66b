"""Initialise, load and save networks that extend the U-Net of an unconditional pixel model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from safetensors.torch import save_file
from torch import Tensor

from latentrot.bundles import missing_bundle
from latentrot.diffusion.first_stage import PixelUnshuffle, load_first_stage
from latentrot.diffusion.load import LatentModel, load_model
from latentrot.diffusion.scheduler import read_scheduler
from latentrot.errors import LatentrotError, one_line
from latentrot.files import read_tensors, write_atomically

__all__ = ["load_initial_unet", "load_pixels", "read_part", "save_network"]


def load_initial_unet(
    start: str, device: str | None, user: str
) -> tuple[LatentModel, PixelUnshuffle, DDIMScheduler, UNet2DModel]:
    """Load the pixel model from which a network is initialised: model, first stage, schedule, and U-Net in float32.

    Args:
        start: a diffusers folder, a Hub id or a bundled model.
        device: torch device.
        user: description of the network, for error messages.

    Raises:
        LatentrotError: the model does not exist, is a latent diffusion model, or does not predict the velocity.
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


def load_pixels(name: str, folder: Path, device: torch.device) -> tuple[UNet2DModel, DDIMScheduler, PixelUnshuffle]:
    """Load U-Net, schedule and first stage of a network saved by `save_network`; `name` is for error messages.

    Raises:
        LatentrotError: a file cannot be read.
    """
    try:
        unet = UNet2DModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
        scheduler = read_scheduler(folder / "scheduler")
        stage = load_first_stage(folder, {}, device)
    except (OSError, RuntimeError, ValueError) as error:
        raise LatentrotError(f"{name}: cannot load its weights: {one_line(error)}") from error
    return unet, scheduler, stage if isinstance(stage, PixelUnshuffle) else PixelUnshuffle(1)


def read_part(path: Path, name: str, kind: str, version: int, command: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read the header and the weights, as float32, of the file that `save_network` writes beside the U-Net.

    Args:
        path: the file.
        name: name of the model, for error messages.
        kind: required kind in the header.
        version: newest readable format.
        command: the command that makes such a model, for error messages.

    Raises:
        LatentrotError: the file is missing, damaged, or of another kind.
    """
    if not path.is_file():
        raise LatentrotError(
            missing_bundle(name)
            or f"no {kind.removeprefix('latentrot ')} at {one_line(name)} (no {path.name}); make one with: latentrot "
            f"{command}, and give RUN/model"
        )
    header, weights = read_tensors(path, kind, version, "copy the folder again")
    return header, {name: value.float() for name, value in weights.items()}


def save_network(
    folder: Path, unet: Any, scheduler: DDIMScheduler, weights: dict[str, Tensor], part: str, header: dict[str, str]
) -> None:
    """Write a network in half precision: U-Net and schedule in diffusers' format, then all other weights as one file.

    Args:
        folder: target folder; created if missing.
        unet: the U-Net of the network, for its configuration.
        scheduler: the schedule.
        weights: weights of the whole network; names of U-Net weights begin with `unet.`.
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
