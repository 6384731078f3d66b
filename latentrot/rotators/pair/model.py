"""The pair model as a whole: network, schedule, the way from images to states; read and written as a folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from latentrot.bundles import bundled_part, missing_bundle
from latentrot.devices import resolve_device
from latentrot.diffusion.backbone import begin_pixels, save_network
from latentrot.diffusion.first_stage import Autoencoder, PixelUnshuffle, load_first_stage, save_pixel_unshuffle
from latentrot.diffusion.folder import find_folder, read_json
from latentrot.diffusion.scheduler import read_scheduler
from latentrot.errors import LatentrotError, one_line
from latentrot.faces.person import PersonNetwork, load_person_network
from latentrot.files import read_tensors
from latentrot.rotators.pair.config import PairConfig
from latentrot.rotators.pair.network import LatentNetwork, PixelNetwork, widened
from latentrot.rotators.pair.options import DEFAULT

__all__ = [
    "AutoencoderSpace",
    "PairModel",
    "PixelSpace",
    "Space",
    "begin_model",
    "load_pair_model",
    "save_pair_model",
]

#: what is not in the diffusers folder itself: the poses' embedding, with what the model is
PART = "pair.safetensors"
KIND, FORMAT = "latentrot pair model", 1
PIPELINE = "StableDiffusionImageVariationPipeline"
#: the identity network that an embedding begins as
ENCODER = ("spin64", "person.safetensors")
#: channels of a condition: the image, and where the source shows it
CHANNELS = 4


class Space(Protocol):
    """What stands between images in [-1, 1] and a backbone's states and conditions."""

    def encode(self, x: Tensor) -> Tensor:
        """(n, 3, s, s) -> states."""
        ...

    def decode(self, z: Tensor) -> Tensor:
        """States -> (n, 3, s, s)."""
        ...

    def condition(self, c: Tensor) -> Tensor:
        """(n, 4, s, s) image in [-1, 1] and 0 to 1 where the source shows it -> what the network takes."""
        ...


@dataclass(frozen=True)
class PixelSpace:
    """States and conditions are pixels, unshuffled.

    Args:
        stage: the first stage.
    """

    stage: PixelUnshuffle

    def encode(self, x: Tensor) -> Tensor:
        """(n, 3, s, s) -> (n, 3 f², s / f, s / f)."""
        return self.stage.encode(x)

    def decode(self, z: Tensor) -> Tensor:
        """The way back."""
        return self.stage.decode(z)

    def condition(self, c: Tensor) -> Tensor:
        """(n, 4, s, s) -> (n, 4 f², s / f, s / f)."""
        return self.stage.encode(c)


@dataclass(frozen=True)
class EmbeddedSpace(PixelSpace):
    """States are pixels, unshuffled; of a condition the network embeds the image."""

    def condition(self, c: Tensor) -> Tensor:
        """(n, 4, s, s) -> (n, 3, s, s)."""
        return c[:, :3]


@dataclass(frozen=True, eq=False)
class AutoencoderSpace:
    """States are an autoencoder's latents, conditions an image encoder's embeddings; both stay as they are.

    Args:
        stage: the autoencoder.
        encoder: a `CLIPVisionModelWithProjection`.
        mean: (3,) of the images it takes.
        deviation: (3,) of the images it takes.
    """

    stage: Autoencoder
    encoder: Any
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """(n, 3, s, s) -> (n, c, h, w)."""
        self.stage.vae.to(x.device)  # of several devices each has its own; nothing happens where it is there already
        return self.stage.encode(x).float()

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """The way back."""
        return self.stage.decode(z).float()

    @torch.no_grad()
    def condition(self, c: Tensor) -> Tensor:
        """(n, 4, s, s) -> (n, d): the encoder sees the image alone."""
        self.encoder.to(c.device)
        size = self.encoder.config.image_size
        x = F.interpolate(c[:, :3], size=(size, size), mode="bicubic", antialias=True, align_corners=False)
        mean, deviation = (c.new_tensor(v)[:, None, None] for v in (self.mean, self.deviation))
        return self.encoder((x / 2 + 0.5 - mean) / deviation).image_embeds.float()


@dataclass(frozen=True, eq=False)
class PairModel:
    """A pair model.

    Attributes:
        name: what was asked for.
        backbone: pixel or latent.
        conditioned_on: mesh, source or embedding, as in `PairConfig`.
        network: see `latentrot.rotators.pair.network`.
        space: images <-> states.
        scheduler: noise levels.
        resolution: side in pixels of the images.
        state_shape: (c, h, w) of one state.
        pipeline: the folder whose parts are kept as they are (latent); None: there are none.
        folder: where it was read from; None: it is being trained.
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
        """(t,) float64, the schedule's cumulative products."""
        return self.scheduler.alphas_cumprod.double().numpy()

    @property
    def aligned(self) -> bool:
        """Whether a condition lies on the target: geometry has turned it there."""
        return self.conditioned_on == "mesh"

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def condition(self, c: Tensor) -> Tensor:
        """(n, 4, s, s) uint8 -> what the network takes."""
        x = c.to(self.device).float()
        return self.space.condition(torch.cat([x[:, :3] / 127.5 - 1, x[:, 3:] / 255], 1))


# --- the start of a run --------------------------------------------------------------------------------------------------


def begin_model(config: PairConfig, device: str | None = None) -> PairModel:
    """The model of a run before its first step.

    Raises:
        LatentrotError: no such model, or one that the backbone cannot be made of.
    """
    torch.manual_seed(config.seed)
    return _begin_pixel(config, device) if config.backbone == "pixel" else _begin_latent(config, device)


def _begin_pixel(config: PairConfig, device: str | None) -> PairModel:
    model, stage, scheduler, plain = begin_pixels(config.start, device, "--backbone pixel")
    pixels, embedded = stage.factor**2, config.condition == "embedding"
    unet = widened(plain, 0 if embedded else CHANNELS * pixels, pixels if config.condition == "mesh" else 0)
    encoder = load_person_network(bundled_part(ENCODER[0]) / ENCODER[1]) if embedded else None
    network = PixelNetwork(unet, scheduler.alphas_cumprod, (CHANNELS - 1) * pixels, encoder).to(model.device)
    return PairModel(
        config.start,
        "pixel",
        config.condition,
        network,
        space_of(config.condition, stage),
        scheduler,
        model.resolution,
        model.latent_shape,
    )


def space_of(condition: str, stage: PixelUnshuffle) -> PixelSpace:
    """The space of a pixel model that is shown so."""
    return EmbeddedSpace(stage) if condition == "embedding" else PixelSpace(stage)


def _begin_latent(config: PairConfig, device: str | None) -> PairModel:
    name, folder = find_folder(config.start)
    return _latent_model(name, folder, config.condition, resolve_device(device))


def _latent_model(
    name: str, folder: Path, condition: str, device: torch.device, unet_folder: Path | None = None
) -> PairModel:
    """The parts of a pipeline of `PIPELINE`'s layout, its U-Net from another folder if one is given.

    Raises:
        LatentrotError: another layout, or parts that cannot be read.
    """
    index = read_json(folder / "model_index.json", "pipeline")
    if index.get("_class_name") != PIPELINE:
        raise LatentrotError(
            f"{name}: a {index.get('_class_name')} pipeline; --backbone latent starts from a {PIPELINE}"
        )
    try:
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel  # noqa: PLC0415
        from transformers import CLIPVisionModelWithProjection  # noqa: PLC0415  an extra
    except ImportError as error:
        raise LatentrotError("--backbone latent needs transformers; pip install 'latentrot[pair]'") from error
    try:
        # Any: the libraries' own `to` has no type
        unet: Any = UNet2DConditionModel.from_pretrained(unet_folder or folder / "unet", torch_dtype=torch.float32)
        encoder: Any = CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder")
        vae: Any = AutoencoderKL.from_pretrained(folder / "vae")
        scheduler = read_scheduler(folder / "scheduler", clip_sample=False)
        unet, encoder, vae = unet.to(device), encoder.to(device).eval(), vae.to(device).eval()
    except (OSError, RuntimeError, ValueError) as error:
        raise LatentrotError(f"{name}: cannot load its weights: {one_line(error)}") from error
    look = read_json(folder / "feature_extractor" / "preprocessor_config.json", "feature extractor")
    encoder.requires_grad_(False)
    vae.requires_grad_(False)
    pixels = 2 ** (len(vae.config["block_out_channels"]) - 1)
    size = int(unet.config["sample_size"])
    space = AutoencoderSpace(Autoencoder(vae), encoder, tuple(look["image_mean"]), tuple(look["image_std"]))
    network = LatentNetwork(unet).to(device)
    shape = (int(unet.config["in_channels"]), size, size)
    return PairModel(name, "latent", condition, network, space, scheduler, size * pixels, shape, folder)


# --- on the disk ----------------------------------------------------------------------------------------------------------


def save_pair_model(model: PairModel, weights: dict[str, Tensor], folder: Path) -> None:
    """Write a model as a folder, its network in half precision.

    Args:
        model: the model.
        weights: of its network, which are written instead of its own.
        folder: where to.
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
    """Read a model that `train pair` wrote.

    Args:
        name_or_path: a folder, or the name of a bundled one; None: the bundled one.
        device: torch device; by default cuda where there is one.

    Raises:
        LatentrotError: no such folder, or it holds no pair model.
    """
    name = DEFAULT if name_or_path is None else str(name_or_path)
    folder = bundled_part(name) if not Path(name).is_dir() else Path(name)
    header, weights = _read_part(name, folder)
    target = resolve_device(device)
    if header["backbone"] == "latent":
        model = _latent_model(name, Path(header["pipeline"]), header["condition"], target, folder / "unet")
    else:
        model = _load_pixel(name, folder, header, target)
    try:
        model.network.load_state_dict(weights | {f"unet.{k}": v for k, v in model.network.unet.state_dict().items()})
    except RuntimeError as error:
        raise LatentrotError(f"{name}: its weights do not fit: {one_line(error)}") from error
    model.network.eval().requires_grad_(False)
    return replace(model, folder=folder)


def _load_pixel(name: str, folder: Path, header: dict[str, str], device: torch.device) -> PairModel:
    try:
        unet = UNet2DModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
        scheduler = read_scheduler(folder / "scheduler")
        stage = load_first_stage(folder, {}, device)
    except (OSError, RuntimeError, ValueError) as error:
        raise LatentrotError(f"{name}: cannot load its weights: {one_line(error)}") from error
    states = (CHANNELS - 1) * (stage.factor**2 if isinstance(stage, PixelUnshuffle) else 1)
    encoder = PersonNetwork() if header["condition"] == "embedding" else None
    network = PixelNetwork(unet, scheduler.alphas_cumprod, states, encoder).to(device)
    if device.type == "cpu":
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    size = int(unet.config["sample_size"])
    space = space_of(header["condition"], stage if isinstance(stage, PixelUnshuffle) else PixelUnshuffle(1))
    return PairModel(
        name, "pixel", header["condition"], network, space, scheduler, size * stage.pixels, (states, size, size)
    )


def _read_part(name: str, folder: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The header and weights of `PART`."""
    path = folder / PART
    if not path.is_file():
        raise LatentrotError(
            missing_bundle(name)
            or f"no pair model at {one_line(name)} (no {PART}); make one with: latentrot train pair --data DIR --out RUN, "
            "and give RUN/model"
        )
    header, weights = read_tensors(path, KIND, FORMAT, "copy the folder again")
    return header, {name: value.float() for name, value in weights.items()}
