"""Load a diffusion model of faces as the velocity field of a deterministic ODE."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError

from latentrot.bundles import LABELER_FILE, bundled_folder, part_in
from latentrot.devices import resolve_device
from latentrot.diffusion.allocator import keep_large_blocks
from latentrot.diffusion.fingerprint import Fingerprint, unet_config_digest, weights_digest
from latentrot.diffusion.first_stage import FirstStage, load_first_stage
from latentrot.diffusion.folder import find_folder, load_part, part_folder, pipeline_index, read_json, weights_in
from latentrot.diffusion.noise import load_noise
from latentrot.diffusion.precision import computes_bfloat16
from latentrot.diffusion.unet import WEIGHTS, UNet, load_unet
from latentrot.errors import LatentrotError
from latentrot.faces.network import FaceLabeler, load_labeler

if TYPE_CHECKING:
    from diffusers.models.unets.unet_2d import UNet2DModel

__all__ = ["LatentModel", "as_velocity", "load_model", "read_network", "resolve_dtype"]

log = logging.getLogger(__name__)

PIPELINES = {"DDIMPipeline", "DDPMPipeline", "LDMPipeline"}


@dataclass(frozen=True)
class LatentModel:
    """An unconditional diffusion model as one ODE on the quarter circle from image to noise.

    With x = cos(a) x0 + sin(a) noise, the angle a running from 0 (image) to pi/2 (noise), the probability-flow ODE is
    dx/da = v(x, a), v = cos(a) noise - sin(a) x0, whatever the network was trained to predict.

    Attributes:
        name: as passed to `load_model`: a folder, a Hub id or a bundled model's name.
        folder: folder of the model; it may also contain directions and a label network (see `latentrot.bundles`).
        unet: the network in evaluation mode: `latentrot.diffusion.unet.UNet` if it supports all blocks, else diffusers';
            both have the same interface.
        alpha_bar: (T,) float64, cumulative products of the schedule, decreasing with the noise level.
        prediction_type: epsilon, v_prediction or sample.
        noise: description of the noise schedule.
        first_stage: images <-> diffusion space.
        resolution: side of the images in pixels.
        latent_shape: (c, h, w) of one latent.
        device: device of the network.
        dtype: precision of the network's evaluations; states are always kept in float64.
        fingerprint: everything that affects a latent.
        digest: digest of the weights, a part of the fingerprint.
    """

    name: str
    folder: Path
    unet: UNet | UNet2DModel
    alpha_bar: np.ndarray
    prediction_type: str
    noise: str
    first_stage: FirstStage
    resolution: int
    latent_shape: tuple[int, int, int]
    device: torch.device
    dtype: torch.dtype

    @cached_property
    def digest(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the U-Net's weights."""
        return weights_digest(self.unet)

    @property
    def fingerprint(self) -> Fingerprint:
        """Identifies the model, so that directions and latents of another model are refused."""
        return Fingerprint(
            weights=self.digest,
            network=unet_config_digest(self.unet.config),
            prediction=self.prediction_type,
            noise=self.noise,
            first_stage=self.first_stage.title,
        )

    @cached_property
    def labeler(self) -> FaceLabeler:
        """The label network in the model's folder, else the bundled one; on the model's device."""
        if part_in(self.folder, LABELER_FILE) is None:
            return load_labeler(device=self.device)
        return load_labeler(self.name if bundled_folder(self.name) else self.folder, self.device)

    def angle(self, level: int) -> float:
        """Angle in radians of a noise level; level -1 is the clean image at angle 0."""
        return 0.0 if level < 0 else float(np.arccos(np.sqrt(self.alpha_bar[level])))

    def velocity(self, x: torch.Tensor, level: int) -> torch.Tensor:
        """Right-hand side of the ODE at a noise level.

        Args:
            x: (n, c, h, w) state.
            level: noise level, 0 to T - 1.

        Returns:
            (n, c, h, w) velocity dx/da per radian, in x's dtype; differentiable in x (the weights are frozen).
        """
        sample = x.to(self.device, torch.float32)
        if self.device.type == "cpu":
            sample = sample.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            out = self.unet(sample, level).sample
        return as_velocity(out.to(x.dtype), x, self.alpha_bar[level], self.prediction_type)


def as_velocity(out: torch.Tensor, x: torch.Tensor, alpha_bar: float, prediction_type: str) -> torch.Tensor:
    """Convert a network's output to the velocity dx/da.

    Args:
        out: output of the network, of the state's shape.
        x: the state.
        alpha_bar: cumulative product of the schedule at the state's noise level.
        prediction_type: type of the output: v_prediction, epsilon or sample.
    """
    if prediction_type == "v_prediction":
        return out
    cos, sin = float(np.sqrt(alpha_bar)), float(np.sqrt(1 - alpha_bar))
    return (out - sin * x) / cos if prediction_type == "epsilon" else (cos * x - out) / sin


def read_network(folder: Path) -> UNet | UNet2DModel:
    """Load the network in a folder with float32 weights; falls back to diffusers for unsupported blocks or file names.

    Raises:
        LatentrotError: the weights are missing, damaged, or of another network.
    """
    chosen = weights_in(folder)
    if chosen == {"use_safetensors": True, "variant": None} and (folder / WEIGHTS).is_file():
        try:
            own = load_unet(folder, read_json(folder / "config.json", "U-Net"))
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            raise LatentrotError(f"{folder}: cannot load its weights: {str(error).splitlines()[0]}") from error
        if own is not None:
            return own
    from diffusers.models.unets.unet_2d import UNet2DModel  # noqa: PLC0415  takes seconds

    return load_part(UNet2DModel, folder, torch_dtype=torch.float32)


def load_model(
    name_or_path: str | Path | None = None, device: str | None = None, dtype: str | torch.dtype | None = None,
    *, scale: float | None = None, vae: str | Path | None = None,
) -> LatentModel:  # fmt: skip
    """Load a diffusion model of faces.

    Args:
        name_or_path: a diffusers folder, a Hub id, a folder of the Hub's cache, the name of a bundled model, or None for the
            bundled faces. Unconditional DDIM, DDPM and latent diffusion pipelines are supported.
        device: torch device; by default cuda if available, else cpu.
        dtype: precision of the network's evaluations, "float32", "bfloat16" or "float16"; float32 by default.
        scale: factor on an autoencoder's latents, if its configuration is wrong.
        vae: folder or Hub id of an autoencoder, for a pipeline without one.

    Raises:
        LatentrotError: the model or the device does not exist, or the pipeline is of an unsupported kind.
    """
    name, folder = find_folder(name_or_path)
    index = pipeline_index(folder)
    if index.get("_class_name") not in PIPELINES:
        raise LatentrotError(
            f"{name}: a {index.get('_class_name')} pipeline; expected an unconditional one ({', '.join(sorted(PIPELINES))})"
        )
    target = resolve_device(device)
    precision = resolve_dtype(dtype, target)
    if target.type == "cpu":
        keep_large_blocks()
    alpha_bar, noise, prediction = load_noise(folder, index)
    home = part_folder(folder, "unet", "config.json")
    config = read_json(home / "config.json", "U-Net")
    first_stage = load_first_stage(folder, index, target, scale=scale, vae=None if vae is None else find_folder(vae)[1])
    size = check_unet(name, config, first_stage)
    unet: Any = read_network(home)  # diffusers' `to` is untyped
    unet = unet.to(target).eval().requires_grad_(False)
    if target.type == "cpu":
        unet = unet.to(memory_format=torch.channels_last)
    return LatentModel(
        name=name,
        folder=folder,
        unet=unet,
        alpha_bar=alpha_bar,
        prediction_type=prediction,
        noise=noise,
        first_stage=first_stage,
        resolution=size * first_stage.pixels,
        latent_shape=(first_stage.channels, size, size),
        device=target,
        dtype=precision,
    )


def check_unet(name: str, config: dict[str, Any], first_stage: FirstStage) -> int:
    """Check that a U-Net is a function of state and noise level only; returns the side of its states.

    Args:
        name: name of the model.
        config: the U-Net's config.json.
        first_stage: the first stage of the model.

    Raises:
        LatentrotError: an option is not supported; the message names it.
    """
    kind, into, out = (
        config.get("_class_name", "UNet2DModel"),
        config.get("in_channels", 3),
        config.get("out_channels", 3),
    )
    if kind != "UNet2DModel":
        raise LatentrotError(f"{name}: its U-Net is a {kind}; expected an unconditional UNet2DModel")
    for option in ("num_class_embeds", "class_embed_type"):
        if config.get(option) is not None:
            raise LatentrotError(
                f"{name}: a class-conditional U-Net ({option} {config[option]}); expected an unconditional one"
            )
    if into != first_stage.channels:
        grey = "; greyscale models are not supported" if into == 1 else ""
        alone = (
            "; pass its autoencoder with --vae FOLDER" if into in (4, 16) and first_stage.title == "identity" else ""
        )
        raise LatentrotError(
            f"{name}: its U-Net takes {into} channels, but its first stage ({first_stage.title}) gives "
            f"{first_stage.channels}{grey}{alone}"
        )
    if out != into:
        learned = ": networks that also predict the variance are not supported" if out == 2 * into else ""
        raise LatentrotError(
            f"{name}: its U-Net takes {into} channels and gives {out}{learned}; expected equal numbers"
        )
    return side_of(name, config)


def side_of(name: str, config: dict[str, Any]) -> int:
    """Side of a U-Net's states, from its config.json.

    Raises:
        LatentrotError: the side is not stated, the states are not square, or they cannot be halved at every level.
    """
    stated = config.get("sample_size")
    sides = stated if isinstance(stated, list) else [stated]
    if not sides or len(set(sides)) != 1 or not isinstance(sides[0], int) or sides[0] < 1:
        raise LatentrotError(f"{name}: its U-Net's sample_size is {stated}; expected one number, the side of a square")
    halvings = len(config.get("down_block_types", range(4))) - 1
    if sides[0] % 2**halvings:
        raise LatentrotError(
            f"{name}: its U-Net halves states of {sides[0]} pixels {halvings} times; expected a multiple of {2**halvings}"
        )
    return sides[0]


def resolve_dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """Parse a precision (None: float32); warns if the device only emulates it."""
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "bfloat16" and not computes_bfloat16(device):
        log.warning("%s has no bfloat16 arithmetic: it is emulated, several times slower than float32", device)
    known = {None: torch.float32, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in known:
        raise LatentrotError(f"dtype {dtype!r}; expected float32, bfloat16 or float16")
    return known[dtype]
