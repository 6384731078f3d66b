"""The pair model with its network, schedule and state space; functions that initialise, save and load it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from latentrot.bundles import bundled_part
from latentrot.devices import resolve_device
from latentrot.diffusion.backbone import load_initial_unet, load_pixels, read_part, save_network
from latentrot.diffusion.first_stage import Autoencoder, PixelUnshuffle, save_pixel_unshuffle
from latentrot.diffusion.folder import find_folder, read_json
from latentrot.diffusion.scheduler import read_scheduler
from latentrot.errors import LatentrotError, one_line
from latentrot.faces.person import PersonNetwork, load_person_network
from latentrot.rotators.pair.config import DEFAULT, PairConfig
from latentrot.rotators.pair.network import LatentNetwork, PixelNetwork, add_channels

__all__ = [
    "AutoencoderSpace",
    "PairModel",
    "PixelSpace",
    "Space",
    "initial_pair_model",
    "load_pair_model",
    "save_pair_model",
]

#: file of the weights outside the diffusers U-Net, with the model's settings in its header
PART = "pair.safetensors"
KIND, FORMAT = "latentrot pair model", 1
PIPELINE = "StableDiffusionImageVariationPipeline"
#: bundle and file of the identity network that initialises image embeddings
ENCODER = ("spin64", "person.safetensors")
#: number of channels of a condition: image and coverage
CHANNELS = 4


class Space(Protocol):
    """Converts images in [-1, 1] to the states and conditions of a backbone, and back."""

    def encode(self, x: Tensor) -> Tensor:
        """Images (n, 3, s, s) -> states."""
        ...

    def decode(self, z: Tensor) -> Tensor:
        """States -> images (n, 3, s, s)."""
        ...

    def condition(self, c: Tensor) -> Tensor:
        """Image in [-1, 1] and coverage 0 to 1, (n, 4, s, s) -> condition of the network."""
        ...


@dataclass(frozen=True)
class PixelSpace:
    """States and conditions are unshuffled pixels.

    Args:
        stage: the first stage.
    """

    stage: PixelUnshuffle

    def encode(self, x: Tensor) -> Tensor:
        """(n, 3, s, s) -> (n, 3 f², s / f, s / f)."""
        return self.stage.encode(x)

    def decode(self, z: Tensor) -> Tensor:
        """(n, 3 f², s / f, s / f) -> (n, 3, s, s)."""
        return self.stage.decode(z)

    def condition(self, c: Tensor) -> Tensor:
        """(n, 4, s, s) -> (n, 4 f², s / f, s / f)."""
        return self.stage.encode(c)


@dataclass(frozen=True)
class EmbeddedSpace(PixelSpace):
    """States are unshuffled pixels; the network embeds the image of the condition."""

    def condition(self, c: Tensor) -> Tensor:
        """(n, 4, s, s) -> (n, 3, s, s)."""
        return c[:, :3]


@dataclass(frozen=True, eq=False)
class AutoencoderSpace:
    """States are latents of an autoencoder, conditions are embeddings of an image encoder; both networks are frozen.

    Args:
        stage: the autoencoder.
        encoder: a `CLIPVisionModelWithProjection`.
        mean: (3,) mean that its inputs are normalised by.
        deviation: (3,) standard deviation that its inputs are normalised by.
    """

    stage: Autoencoder
    encoder: Any
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """(n, 3, s, s) -> (n, c, h, w)."""
        self.stage.vae.to(x.device)  # in a parallel run each device encodes its own batch
        return self.stage.encode(x).float()

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, 3, s, s)."""
        return self.stage.decode(z).float()

    @torch.no_grad()
    def condition(self, c: Tensor) -> Tensor:
        """(n, 4, s, s) -> (n, d), embeddings of the image without its coverage."""
        self.encoder.to(c.device)
        size = self.encoder.config.image_size
        x = F.interpolate(c[:, :3], size=(size, size), mode="bicubic", antialias=True, align_corners=False)
        mean, deviation = (c.new_tensor(v)[:, None, None] for v in (self.mean, self.deviation))
        return self.encoder((x / 2 + 0.5 - mean) / deviation).image_embeds.float()


@dataclass(frozen=True, eq=False)
class PairModel:
    """A pair model.

    Attributes:
        name: name or path given to `load_pair_model`.
        backbone: pixel or latent.
        conditioned_on: mesh, source or embedding, as in `PairConfig`.
        network: see `latentrot.rotators.pair.network`.
        space: images <-> states.
        scheduler: the noise schedule.
        resolution: side of the images in pixels.
        state_shape: (c, h, w) of one state.
        pipeline: folder of the frozen parts of a latent backbone; None for a pixel backbone.
        folder: folder of the model; None during training.
    """

    name: str
    backbone: str
    conditioned_on: str
    network: PixelNetwork | LatentNetwork
    space: Space
    scheduler: DDIMScheduler
    resolution: int
    state_shape: tuple[int, int, int]
    pipeline: Path | None = None
    folder: Path | None = None

    @property
    def alpha_bar(self) -> np.ndarray:
        """(t,) float64, cumulative products of the schedule."""
        return self.scheduler.alphas_cumprod.double().numpy()

    @property
    def aligned(self) -> bool:
        """Whether the condition is aligned with the target, by geometry."""
        return self.conditioned_on == "mesh"

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(self.network.parameters()).device

    def condition(self, c: Tensor) -> Tensor:
        """(n, 4, s, s) uint8 -> condition of the network."""
        x = c.to(self.device).float()
        return self.space.condition(torch.cat([x[:, :3] / 127.5 - 1, x[:, 3:] / 255], 1))


# --- initialisation -------------------------------------------------------------------------------------------------------


def initial_pair_model(config: PairConfig, device: str | None = None) -> PairModel:
    """Build the model of a run before its first step.

    Raises:
        LatentrotError: the model does not exist, or does not fit the backbone.
    """
    torch.manual_seed(config.seed)
    return _initial_pixel(config, device) if config.backbone == "pixel" else _initial_latent(config, device)


def _initial_pixel(config: PairConfig, device: str | None) -> PairModel:
    model, stage, scheduler, plain = load_initial_unet(config.start, device, "--backbone pixel")
    pixels, embedded = stage.factor**2, config.condition == "embedding"
    unet = add_channels(plain, 0 if embedded else CHANNELS * pixels, pixels if config.condition == "mesh" else 0)
    encoder = load_person_network(bundled_part(ENCODER[0]) / ENCODER[1]) if embedded else None
    network = PixelNetwork(unet, scheduler.alphas_cumprod, (CHANNELS - 1) * pixels, encoder).to(model.device)
    space = space_of(config.condition, stage)
    return PairModel(
        config.start, "pixel", config.condition, network, space, scheduler, model.resolution, model.latent_shape
    )


def space_of(condition: str, stage: PixelUnshuffle) -> PixelSpace:
    """State space of a pixel model with a kind of condition."""
    return EmbeddedSpace(stage) if condition == "embedding" else PixelSpace(stage)


def _initial_latent(config: PairConfig, device: str | None) -> PairModel:
    name, folder = find_folder(config.start)
    return _latent_model(name, folder, config.condition, resolve_device(device))


def _latent_model(
    name: str, folder: Path, condition: str, device: torch.device, unet_folder: Path | None = None
) -> PairModel:
    """Load a pair model from a `PIPELINE`, with the U-Net from `unet_folder` if given.

    Raises:
        LatentrotError: the folder is another pipeline, or a part of it cannot be read.
    """
    index = read_json(folder / "model_index.json", "pipeline")
    if index.get("_class_name") != PIPELINE:
        raise LatentrotError(f"{name} is a {index.get('_class_name')} pipeline; --backbone latent needs a {PIPELINE}")
    try:
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel  # noqa: PLC0415
        from transformers import CLIPVisionModelWithProjection  # noqa: PLC0415  an extra
    except ImportError as error:
        raise LatentrotError("--backbone latent needs transformers; pip install 'latentrot[pair]'") from error
    try:
        # Any, because the libraries' `to` is untyped
        unet: Any = UNet2DConditionModel.from_pretrained(unet_folder or folder / "unet", torch_dtype=torch.float32)
        encoder: Any = CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder")
        vae: Any = AutoencoderKL.from_pretrained(folder / "vae")
        scheduler = read_scheduler(folder / "scheduler", clip_sample=False)
        unet, encoder, vae = unet.to(device), encoder.to(device).eval(), vae.to(device).eval()
    except (OSError, RuntimeError, ValueError) as error:
        raise LatentrotError(f"{name}: cannot load its weights: {one_line(error)}") from error
    normalisation = read_json(folder / "feature_extractor" / "preprocessor_config.json", "feature extractor")
    encoder.requires_grad_(False)
    vae.requires_grad_(False)
    pixels = 2 ** (len(vae.config["block_out_channels"]) - 1)
    size = int(unet.config["sample_size"])
    space = AutoencoderSpace(Autoencoder(vae), encoder, *(tuple(normalisation[k]) for k in ("image_mean", "image_std")))
    network = LatentNetwork(unet).to(device)
    shape = (int(unet.config["in_channels"]), size, size)
    return PairModel(name, "latent", condition, network, space, scheduler, size * pixels, shape, folder)


# --- files ----------------------------------------------------------------------------------------------------------------


def save_pair_model(model: PairModel, weights: dict[str, Tensor], folder: Path) -> None:
    """Save a model as a folder, in half precision.

    Args:
        model: the model.
        weights: state dict of the network, such as averaged weights.
        folder: target folder.
    """
    header = {
        "kind": KIND, "format": str(FORMAT), "backbone": model.backbone, "condition": model.conditioned_on,
        "pipeline": "" if model.pipeline is None else str(model.pipeline),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(model.space, PixelSpace):
        save_pixel_unshuffle(folder, model.space.stage.factor)
    save_network(folder, model.network.unet, model.scheduler, weights, PART, header)


def load_pair_model(name_or_path: str | Path | None = None, device: str | None = None) -> PairModel:
    """Load a model saved by `train pair`.

    Args:
        name_or_path: a folder, or the name of a bundled model; None: the default one.
        device: torch device; None: cuda if available.

    Raises:
        LatentrotError: the folder is missing or does not contain a pair model.
    """
    name = DEFAULT if name_or_path is None else str(name_or_path)
    folder = bundled_part(name) if not Path(name).is_dir() else Path(name)
    header, weights = read_part(folder / PART, name, KIND, FORMAT, "train pair --data DIR --out RUN")
    target = resolve_device(device)
    if header["backbone"] == "latent":
        model = _latent_model(name, Path(header["pipeline"]), header["condition"], target, folder / "unet")
    else:
        model = _load_pixel(name, folder, header, target)
    try:
        model.network.load_state_dict(weights | {f"unet.{k}": v for k, v in model.network.unet.state_dict().items()})
    except RuntimeError as error:
        raise LatentrotError(f"{name}: its weights do not fit its network: {one_line(error)}") from error
    model.network.eval().requires_grad_(False)
    return replace(model, folder=folder)


def _load_pixel(name: str, folder: Path, header: dict[str, str], device: torch.device) -> PairModel:
    unet, scheduler, stage = load_pixels(name, folder, device)
    states = (CHANNELS - 1) * stage.pixels**2
    encoder = PersonNetwork() if header["condition"] == "embedding" else None
    network = PixelNetwork(unet, scheduler.alphas_cumprod, states, encoder).to(device)
    if device.type == "cpu":
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    size = int(unet.config["sample_size"])
    space = space_of(header["condition"], stage)
    shape = (states, size, size)
    return PairModel(name, "pixel", header["condition"], network, space, scheduler, size * stage.pixels, shape)
