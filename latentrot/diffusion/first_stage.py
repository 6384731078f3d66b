"""First stages: invertible or learned maps between images and the diffusion space."""

from __future__ import annotations

import json
import logging
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F

from latentrot.diffusion.fingerprint import config_digest, weights_digest
from latentrot.diffusion.folder import load_part, read_json
from latentrot.errors import LatentrotError
from latentrot.files import check_format

__all__ = [
    "Autoencoder",
    "FirstStage",
    "Identity",
    "PixelUnshuffle",
    "load_first_stage",
    "mirror_latents",
    "save_pixel_unshuffle",
]

log = logging.getLogger(__name__)

#: version of first_stage.json, raised when an older version would misread it
STAGE_FORMAT = 1
STAGE_FILE = "first_stage.json"

#: scale of latents if the configuration states none. AutoencoderKL: that of Stable Diffusion, which early folders omit.
#: VQModel: none, since models such as CompVis/ldm-celebahq-256 were trained on unscaled latents, although diffusers assumes
#: Stable Diffusion's scale, with which its pipeline decodes wrong colours
UNSTATED_SCALE = {"VQModel": 1.0, "AutoencoderKL": 0.18215}


#: plausible standard deviation of scaled latents, for a batch and for a batch of fewer than FEW images
SPREAD, WIDE_SPREAD, FEW = (0.7, 1.3), (0.5, 2.0), 4


class FirstStage(Protocol):
    """Map between images (n, 3, h, w) in [-1, 1] and the diffusion space (n, c, h', w')."""

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Images -> diffusion space."""
        ...

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Diffusion space -> images."""
        ...

    @property
    def factor(self) -> int:
        """Side of the pixel block that is unshuffled into one position; mirroring a latent must account for it."""
        ...

    @property
    def pixels(self) -> int:
        """Image pixels per position of the diffusion space, along a side."""
        ...

    @property
    def channels(self) -> int:
        """Channels of the diffusion space."""
        ...

    @property
    def title(self) -> str:
        """Description that is equal only for first stages with equal latents."""
        ...


def mirror_latents(z: torch.Tensor, factor: int) -> torch.Tensor:
    """Mirror latents; the result approximates the latents of the mirrored images.

    Args:
        z: (n, c, h, w) latents.
        factor: `FirstStage.factor`.
    """
    if factor == 1:
        return z.flip(-1)
    return F.pixel_unshuffle(F.pixel_shuffle(z, factor).flip(-1), factor)


class Identity:
    """The identity map: the diffusion runs on pixels."""

    factor = pixels = 1
    channels = 3
    title = "identity"

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Return the images unchanged."""
        return x

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Return the images unchanged."""
        return z


class PixelUnshuffle:
    """Moves each factor x factor block of pixels into factor² times the channels; lossless."""

    def __init__(self, factor: int) -> None:
        self.factor = self.pixels = factor
        self.channels = 3 * factor**2
        self.title = f"pixel-unshuffle {factor}"

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) -> (n, 3 factor², h / factor, w / factor)."""
        return F.pixel_unshuffle(x, self.factor)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """(n, 3 factor², h, w) -> (n, 3, h factor, w factor)."""
        return F.pixel_shuffle(z, self.factor)


class Autoencoder:
    """The autoencoder of a latent diffusion pipeline (VQModel or AutoencoderKL).

    Args:
        vae: the network.
        scale: factor on latents after `shift` is subtracted; None: from the network's configuration.
        shift: offset that is subtracted from latents before scaling.
    """

    factor = 1

    def __init__(self, vae: Any, scale: float | None = None, shift: float = 0.0) -> None:
        self.vae, self.shift, self.measured = vae, shift, False
        self.scale = float(vae.config["scaling_factor"]) if scale is None else scale
        self.pixels = 2 ** (len(vae.config["block_out_channels"]) - 1)
        self.channels = int(vae.config["latent_channels"])

    @cached_property
    def _title(self) -> str:
        kind, shifted = type(self.vae).__name__, f", shifted by {self.shift:g}" if self.shift else ""
        beside = ("sample_size", "scaling_factor", "shift_factor", "force_upcast")
        return f"{kind} {weights_digest(self.vae)} {config_digest(self.vae, beside)} scaled by {self.scale:g}{shifted}"

    @property
    def title(self) -> str:
        """Class, digest of weights and configuration, and scale."""
        return self._title

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Images -> scaled latents (the mode of the posterior, so that encoding is deterministic)."""
        encoded = self.vae.encode(x.to(self.vae.dtype))
        z = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
        z = (z - self.shift) * self.scale
        self.check_spread(z)
        return z

    def check_spread(self, z: torch.Tensor) -> None:
        """Warn once if the standard deviation of scaled latents is far from 1, which suggests a wrong scale."""
        if self.measured:
            return
        self.measured = True
        spread = float(z.float().std())
        low, high = SPREAD if len(z) >= FEW else WIDE_SPREAD
        if not low <= spread <= high and spread > 0:
            log.warning(
                "%s: latents of the first %d images have a standard deviation of %.2f at a scale of %g; a diffusion "
                "model expects about 1. If images come out grey or garish, give --scale %.3g",
                type(self.vae).__name__, len(z), spread, self.scale, self.scale / spread,
            )  # fmt: skip

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Scaled latents -> images."""
        return self.vae.decode((z / self.scale + self.shift).to(self.vae.dtype)).sample


def load_first_stage(
    folder: Path, index: dict[str, Any], device: torch.device, *, scale: float | None = None, vae: Path | None = None
) -> FirstStage:
    """Load the first stage of a pipeline.

    Args:
        folder: folder of the pipeline.
        index: content of its model_index.json.
        device: device of an autoencoder.
        scale: scale of the autoencoder's latents; None: from its config.json, else the usual value of its class.
        vae: folder of an autoencoder, or of a pipeline with one, to use instead of the pipeline's own.

    Raises:
        LatentrotError: the first stage is of an unsupported class, or a scale is given without an autoencoder.
    """
    if vae is not None:
        home = next((vae / part for part in ("vqvae", "vae") if (vae / part / "config.json").is_file()), vae)
        kind = read_json(home / "config.json", "autoencoder").get("_class_name")
        return load_autoencoder(home, str(kind), device, scale)
    stage_file = folder / STAGE_FILE
    if stage_file.is_file():
        return read_lossless_stage(stage_file)
    for part in ("vqvae", "vae"):
        if part in index:
            return load_autoencoder(folder / part, str((index[part] or [None, None])[1]), device, scale)
    if index.get("_class_name") == "LDMPipeline":  # otherwise three latent channels would be mistaken for RGB
        raise LatentrotError(f"{folder}: an LDMPipeline without its autoencoder; pass it with --vae FOLDER")
    if scale is not None:
        raise LatentrotError(
            f"--scale {scale:g}: {folder} has no autoencoder whose latents could be scaled; leave it out"
        )
    return Identity()


def save_pixel_unshuffle(folder: Path, factor: int) -> None:
    """Write the description of a lossless first stage into a pipeline's folder; a factor of 1 needs none."""
    stage = {"type": "pixel-unshuffle", "factor": factor} if factor > 1 else {"type": "identity"}
    (folder / STAGE_FILE).write_text(json.dumps({"format": STAGE_FORMAT, **stage}, indent=2) + "\n")


def read_lossless_stage(stage_file: Path) -> FirstStage:
    """Read the description of a lossless first stage written by `save_pixel_unshuffle`."""
    stage = read_json(stage_file, "first stage")
    check_format(stage.get("format", 1), STAGE_FORMAT, stage_file)
    factor = stage.get("factor", 0)
    if stage.get("type") == "pixel-unshuffle" and isinstance(factor, int) and factor > 1:
        return PixelUnshuffle(factor)
    if stage.get("type") != "identity":
        raise LatentrotError(f"{stage_file}: {stage}; expected type identity, or pixel-unshuffle with a factor")
    return Identity()


def load_autoencoder(folder: Path, name: str, device: torch.device, given: float | None = None) -> Autoencoder:
    """Load an autoencoder; without `given` the scale is that in its config.json, else the usual one of its class."""
    if name not in UNSTATED_SCALE:
        raise LatentrotError(f"{folder}: autoencoder {name}; expected VQModel or AutoencoderKL")
    stated = read_json(folder / "config.json", "autoencoder")
    if stated.get("latents_mean") is not None or stated.get("latents_std") is not None:
        raise LatentrotError(f"{folder}: latents normalised per channel (latents_mean) are not supported")
    colours = (stated.get("in_channels", 3), stated.get("out_channels", 3))
    if colours != (3, 3):
        raise LatentrotError(
            f"{folder}: an autoencoder with {colours[0]} input and {colours[1]} output channels; expected 3 and 3 (RGB)"
        )
    scale, shift = stated.get("scaling_factor") if given is None else given, stated.get("shift_factor")
    if scale is None:
        scale = UNSTATED_SCALE[name]
        log.info("%s states no scaling_factor; using %g, as is usual for %s", folder, scale, name)
    try:
        scale, shift = float(scale), float(shift or 0)
    except (TypeError, ValueError) as error:
        raise LatentrotError(f"{folder}: scaling_factor {scale!r}, shift_factor {shift!r}; expected numbers") from error
    if not scale > 0:
        raise LatentrotError(f"{folder}: scaling_factor {scale}; expected a number above 0")
    import diffusers  # noqa: PLC0415  takes seconds

    vae = load_part(getattr(diffusers, name), folder, torch_dtype=torch.float32).to(device).eval()
    return Autoencoder(vae.requires_grad_(False), scale, shift)
