"""Load a diffusion model of faces and ask it one thing: the velocity of the deterministic ODE."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError

from latentrot.bundles import bundled_folder, labeler_in
from latentrot.errors import LatentrotError
from latentrot.label.network import FaceLabeler, load_labeler
from latentrot.models.allocator import keep_large_blocks
from latentrot.models.first_stage import Autoencoder, FirstStage, Identity, PixelUnshuffle
from latentrot.models.folder import find_folder, read_json
from latentrot.models.noise import cumulative_products
from latentrot.models.precision import computes_bfloat16
from latentrot.models.unet import UNet, load_unet

if TYPE_CHECKING:
    from diffusers import UNet2DModel

__all__ = ["LatentModel", "as_velocity", "load_model"]

log = logging.getLogger(__name__)

PIPELINES = {"DDIMPipeline", "DDPMPipeline", "LDMPipeline"}
AUTOENCODERS = ("VQModel", "AutoencoderKL")
PREDICTIONS = {"epsilon", "v_prediction", "sample"}


@dataclass(frozen=True)
class LatentModel:
    """An unconditional diffusion model seen as one ODE on the quarter circle from picture to noise.

    With x = cos(a) x0 + sin(a) noise, the angle a running from 0 (picture) to pi/2 (noise), the probability-flow ODE is
    dx/da = v(x, a), v = cos(a) noise - sin(a) x0, whatever the network was trained to predict.

    Attributes:
        name: what was asked for: a folder, a Hub id or a bundled model's name.
        folder: where it lies on disk; directions and a label network may lie beside it (see `latentrot.bundles`).
        unet: the network, in evaluation mode: the package's own where it is made of blocks that `latentrot.models.unet` has,
            else diffusers'; both are asked alike.
        alpha_bar: (T,) float64, the schedule's cumulative products, falling with the noise level.
        prediction_type: epsilon, v_prediction or sample.
        first_stage: pictures <-> the diffusion's own space.
        resolution: side in pixels of the pictures.
        latent_shape: (c, h, w) of one latent.
        device: where the network runs.
        dtype: precision of the network's evaluations; states are kept in float64 all the same.
        digest: first 16 hexadecimal digits of the weights' SHA-256.
    """

    name: str
    folder: Path
    unet: UNet | UNet2DModel
    alpha_bar: np.ndarray
    prediction_type: str
    first_stage: FirstStage
    resolution: int
    latent_shape: tuple[int, int, int]
    device: torch.device
    dtype: torch.dtype

    @cached_property
    def digest(self) -> str:
        """Identifies the weights, so that lines fitted with others are refused."""
        sha = hashlib.sha256()
        for key, tensor in sorted(self.unet.state_dict().items()):
            sha.update(key.encode())
            sha.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
        return sha.hexdigest()[:16]

    @cached_property
    def labeler(self) -> FaceLabeler:
        """The label network that belongs to the model: the one in its folder, else the one of the bundled faces."""
        if labeler_in(self.folder) is None:
            return load_labeler()
        return load_labeler(self.name if bundled_folder(self.name) else self.folder)

    def angle(self, level: int) -> float:
        """Angle in radians of a noise level; level -1 is the clean picture at angle 0."""
        return 0.0 if level < 0 else float(np.arccos(np.sqrt(self.alpha_bar[level])))

    def velocity(self, x: torch.Tensor, level: int) -> torch.Tensor:
        """The ODE's right-hand side at a noise level, in x's precision.

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
    """The velocity dx/da of a state, whatever a network predicts.

    Args:
        out: the network's answer, of the state's shape.
        x: the state.
        alpha_bar: the schedule's cumulative product at the state's noise level.
        prediction_type: what the answer is: v_prediction, epsilon or sample.
    """
    if prediction_type == "v_prediction":
        return out
    cos, sin = float(np.sqrt(alpha_bar)), float(np.sqrt(1 - alpha_bar))
    return (out - sin * x) / cos if prediction_type == "epsilon" else (cos * x - out) / sin


def load_schedule(folder: Path) -> tuple[np.ndarray, str]:
    """The schedule's cumulative products (T,) float64 and the prediction type, as the pipeline's scheduler has them."""
    config = read_json(folder / "scheduler" / "scheduler_config.json", "scheduler")
    try:
        alpha_bar = cumulative_products(config)
    except (KeyError, ValueError, TypeError) as error:
        raise LatentrotError(f"{folder}: its scheduler's configuration is not understood: {error}") from error
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in PREDICTIONS:
        raise LatentrotError(
            f"{folder}: prediction type {prediction!r}; expected one of {', '.join(sorted(PREDICTIONS))}"
        )
    return alpha_bar, prediction


def load_first_stage(folder: Path, index: dict[str, Any], device: torch.device) -> tuple[FirstStage, int]:
    """The first stage and how many pixels one latent position stands for."""
    stage_file = folder / "first_stage.json"
    if stage_file.is_file():
        stage = read_json(stage_file, "first stage")
        if stage.get("type") == "pixel-unshuffle" and int(stage.get("factor", 0)) > 1:
            return PixelUnshuffle(int(stage["factor"])), int(stage["factor"])
        if stage.get("type") != "identity":
            raise LatentrotError(f"{stage_file}: {stage}; expected type identity, or pixel-unshuffle with a factor")
        return Identity(), 1
    for part in ("vqvae", "vae"):
        if part in index:
            if index[part][1] not in AUTOENCODERS:
                raise LatentrotError(f"{folder}: autoencoder {index[part][1]}; expected {' or '.join(AUTOENCODERS)}")
            import diffusers  # noqa: PLC0415  takes seconds, and most models need nothing of it

            kind = getattr(diffusers, index[part][1])
            vae = kind.from_pretrained(folder / part).to(device).eval()
            return Autoencoder(vae), 2 ** (len(vae.config["block_out_channels"]) - 1)
    return Identity(), 1


def read_network(folder: Path) -> UNet | UNet2DModel:
    """The network in a folder, with float32 weights; diffusers reads what is made of other blocks than ours."""
    own = load_unet(folder, read_json(folder / "config.json", "network"))
    if own is not None:
        return own
    from diffusers import UNet2DModel  # noqa: PLC0415  takes seconds

    return UNet2DModel.from_pretrained(folder, torch_dtype=torch.float32)


def load_model(
    name_or_path: str | Path | None = None, device: str | None = None, dtype: str | torch.dtype | None = None
) -> LatentModel:
    """Load a diffusion model of faces.

    Args:
        name_or_path: a diffusers folder, a Hub id, the name of a bundled model, or None for the bundled faces.
            Unconditional DDIM, DDPM and latent diffusion pipelines are understood.
        device: torch device; by default cuda where there is one, else cpu.
        dtype: precision of the network's evaluations, "float32", "bfloat16" or "float16"; float32 by default.

    Raises:
        LatentrotError: no such model, no such device, or a pipeline of another kind.
    """
    name, folder = find_folder(name_or_path)
    index = read_json(folder / "model_index.json", "pipeline")
    if index.get("_class_name") not in PIPELINES:
        raise LatentrotError(
            f"{name}: a {index.get('_class_name')} pipeline; expected an unconditional one ({', '.join(sorted(PIPELINES))})"
        )
    where = resolve_device(device)
    if where.type == "cpu":
        keep_large_blocks()
    alpha_bar, prediction = load_schedule(folder)
    try:
        unet = read_network(folder / "unet").to(where).eval()
        first_stage, pixels = load_first_stage(folder, index, where)
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        if isinstance(error, LatentrotError):
            raise
        raise LatentrotError(f"{name}: cannot load its weights: {str(error).splitlines()[0]}") from error
    unet.requires_grad_(False)
    if where.type == "cpu":
        unet = unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    size, channels = int(unet.config["sample_size"]), int(unet.config["in_channels"])
    return LatentModel(
        name=name,
        folder=folder,
        unet=unet,
        alpha_bar=alpha_bar,
        prediction_type=prediction,
        first_stage=first_stage,
        resolution=size * pixels,
        latent_shape=(channels, size, size),
        device=where,
        dtype=resolve_dtype(dtype, where),
    )


def resolve_device(device: str | None) -> torch.device:
    """The device asked for, or the best there is."""
    try:
        where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=where)
    except (RuntimeError, AssertionError) as error:
        raise LatentrotError(f"device {device!r} is not available here; expected cpu, cuda or cuda:N") from error
    return where


def resolve_dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """The precision asked for; says so where the device only imitates it."""
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "bfloat16" and not computes_bfloat16(device):
        log.warning("%s has no bfloat16 arithmetic: it is imitated, and several times slower than float32", device)
    known = {None: torch.float32, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in known:
        raise LatentrotError(f"dtype {dtype!r}; expected float32, bfloat16 or float16")
    return known[dtype]
