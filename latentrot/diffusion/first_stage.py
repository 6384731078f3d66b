"""First stages: invertible or learned maps between pictures and the space the diffusion runs in."""

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

#: of first_stage.json, raised when an older version would misread it
STAGE_FORMAT = 1
STAGE_FILE = "first_stage.json"

#: by what latents are multiplied where the configuration does not say: an AutoencoderKL is taken for Stable Diffusion's,
#: whose early folders left it out; latent diffusion models with a VQModel, such as CompVis/ldm-celebahq-256, were trained on
#: latents as they are, although diffusers fills in the other number and its pipeline then decodes other colours
UNSTATED_SCALE = {"VQModel": 1.0, "AutoencoderKL": 0.18215}


#: spread (standard deviation) of scaled latents that raises no doubt, of a batch and of fewer images than so many
SPREAD, WIDE_SPREAD, FEW = (0.7, 1.3), (0.5, 2.0), 4


class FirstStage(Protocol):
    """What stands between pictures (n, 3, h, w) in [-1, 1] and the diffusion's own space (n, c, h', w')."""

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Pictures -> diffusion space."""
        ...

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Diffusion space -> pictures."""
        ...

    @property
    def factor(self) -> int:
        """Pixels of a picture unshuffled into one position, as a side: what mirroring a latent has to undo."""
        ...

    @property
    def pixels(self) -> int:
        """Pixels of a picture that one position stands for, as a side."""
        ...

    @property
    def channels(self) -> int:
        """Channels of the diffusion's own space."""
        ...

    @property
    def title(self) -> str:
        """What it is, in words that differ where its latents do."""
        ...


def mirror_latents(z: torch.Tensor, factor: int) -> torch.Tensor:
    """The latents of the mirrored pictures, as far as the network treats left and right alike.

    Args:
        z: (n, c, h, w) latents.
        factor: the first stage's `factor`.
    """
    if factor == 1:
        return z.flip(-1)
    return F.pixel_unshuffle(F.pixel_shuffle(z, factor).flip(-1), factor)


class Identity:
    """The diffusion runs on pixels."""

    factor = pixels = 1
    channels = 3
    title = "identity"

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Return the pictures as they are."""
        return x

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Return the pictures as they are."""
        return z


class PixelUnshuffle:
    """Each factor x factor block of pixels becomes one position with factor² times the channels; lossless."""

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
        scale: latents are multiplied by it, after `shift` was taken from them; None: as the network's configuration has it.
        shift: see `scale`.
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
        """Pictures -> scaled latents (the mode of the posterior, so that encoding is deterministic)."""
        encoded = self.vae.encode(x.to(self.vae.dtype))
        z = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
        z = (z - self.shift) * self.scale
        self.check_spread(z)
        return z

    def check_spread(self, z: torch.Tensor) -> None:
        """Say once where scaled latents are not spread by about 1, as a diffusion is trained on: another scale is meant."""
        if self.measured:
            return
        self.measured = True
        spread = float(z.float().std())
        low, high = SPREAD if len(z) >= FEW else WIDE_SPREAD
        if not low <= spread <= high and spread > 0:
            log.warning(
                "%s: latents of the first %d images have a spread of %.2f at a scale of %g, where a diffusion expects about "
                "1: if images come out grey or garish, give --scale %.3g", type(self.vae).__name__, len(z), spread,
                self.scale, self.scale / spread,
            )  # fmt: skip

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Scaled latents -> pictures."""
        return self.vae.decode((z / self.scale + self.shift).to(self.vae.dtype)).sample


def load_first_stage(
    folder: Path, index: dict[str, Any], device: torch.device, *, scale: float | None = None, vae: Path | None = None
) -> FirstStage:
    """The first stage of a pipeline.

    Args:
        folder: of the pipeline.
        index: its model_index.json.
        device: of an autoencoder.
        scale: of its latents; None: as its config.json says, or as is usual for its kind.
        vae: an autoencoder's folder, or a pipeline's that has one, instead of the pipeline's own.

    Raises:
        LatentrotError: one of another kind, or a scale for none.
    """
    if vae is not None:
        home = next((vae / part for part in ("vqvae", "vae") if (vae / part / "config.json").is_file()), vae)
        kind = read_json(home / "config.json", "autoencoder").get("_class_name")
        return load_autoencoder(home, str(kind), device, scale)
    stage_file = folder / STAGE_FILE
    if stage_file.is_file():
        return lossless(stage_file)
    for part in ("vqvae", "vae"):
        if part in index:
            return load_autoencoder(folder / part, str((index[part] or [None, None])[1]), device, scale)
    if index.get("_class_name") == "LDMPipeline":  # three channels of latents would pass for colours
        raise LatentrotError(f"{folder}: an LDMPipeline without its autoencoder; give it: --vae FOLDER")
    if scale is not None:
        raise LatentrotError(f"--scale {scale:g}: {folder} has no autoencoder whose latents could be scaled")
    return Identity()


def save_pixel_unshuffle(folder: Path, factor: int) -> None:
    """Say in a pipeline's folder which lossless first stage it has; a factor of 1 is none."""
    stage = {"type": "pixel-unshuffle", "factor": factor} if factor > 1 else {"type": "identity"}
    (folder / STAGE_FILE).write_text(json.dumps({"format": STAGE_FORMAT, **stage}, indent=2) + "\n")


def lossless(stage_file: Path) -> FirstStage:
    """A first stage of ours."""
    stage = read_json(stage_file, "first stage")
    check_format(stage.get("format", 1), STAGE_FORMAT, stage_file)
    factor = stage.get("factor", 0)
    if stage.get("type") == "pixel-unshuffle" and isinstance(factor, int) and factor > 1:
        return PixelUnshuffle(factor)
    if stage.get("type") != "identity":
        raise LatentrotError(f"{stage_file}: {stage}; expected type identity, or pixel-unshuffle with a factor")
    return Identity()


def load_autoencoder(folder: Path, name: str, device: torch.device, given: float | None = None) -> Autoencoder:
    """An autoencoder, its latents scaled as its config.json says, or as is usual for its kind where that says nothing."""
    if name not in UNSTATED_SCALE:
        raise LatentrotError(f"{folder}: autoencoder {name}; expected VQModel or AutoencoderKL")
    stated = read_json(folder / "config.json", "autoencoder")
    if stated.get("latents_mean") is not None or stated.get("latents_std") is not None:
        raise LatentrotError(f"{folder}: latents normalised channel by channel (latents_mean), which is not understood")
    colours = (stated.get("in_channels", 3), stated.get("out_channels", 3))
    if colours != (3, 3):
        raise LatentrotError(
            f"{folder}: an autoencoder of {colours[0]} to {colours[1]} channels; expected 3 to 3 (RGB)"
        )
    scale, shift = stated.get("scaling_factor") if given is None else given, stated.get("shift_factor")
    if scale is None:
        scale = UNSTATED_SCALE[name]
        log.info("%s states no scaling_factor; taken for %g, as is usual for %s", folder, scale, name)
    try:
        scale, shift = float(scale), float(shift or 0)
    except (TypeError, ValueError) as error:
        raise LatentrotError(f"{folder}: scaling_factor {scale!r}, shift_factor {shift!r}; expected numbers") from error
    if not scale > 0:
        raise LatentrotError(f"{folder}: scaling_factor {scale}; expected a number above 0")
    import diffusers  # noqa: PLC0415  takes seconds, and most models need nothing of it

    vae = load_part(getattr(diffusers, name), folder, torch_dtype=torch.float32).to(device).eval()
    return Autoencoder(vae.requires_grad_(False), scale, shift)
