"""First stages: invertible or learned maps between pictures and the space the diffusion runs in."""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F

__all__ = ["Autoencoder", "FirstStage", "Identity", "PixelUnshuffle", "mirror_latents"]


class FirstStage(Protocol):
    """What stands between pictures (n, 3, h, w) in [-1, 1] and the diffusion's own space (n, c, h', w')."""

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Pictures -> diffusion space."""
        ...

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Diffusion space -> pictures."""
        ...

    @property
    def block(self) -> int:
        """Pixels of a picture unshuffled into one position, as a side: what mirroring a latent has to undo."""
        ...


def mirror_latents(z: torch.Tensor, block: int) -> torch.Tensor:
    """The latents of the mirrored pictures, as far as the network treats left and right alike.

    Args:
        z: (n, c, h, w) latents.
        block: the first stage's `block`.
    """
    if block == 1:
        return z.flip(-1)
    return F.pixel_unshuffle(F.pixel_shuffle(z, block).flip(-1), block)


class Identity:
    """The diffusion runs on pixels."""

    block = 1

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Return the pictures as they are."""
        return x

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Return the pictures as they are."""
        return z


class PixelUnshuffle:
    """Each factor x factor block of pixels becomes one position with factor² times the channels; lossless."""

    def __init__(self, factor: int) -> None:
        self.factor = self.block = factor

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) -> (n, 3 factor², h / factor, w / factor)."""
        return F.pixel_unshuffle(x, self.factor)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """(n, 3 factor², h, w) -> (n, 3, h factor, w factor)."""
        return F.pixel_shuffle(z, self.factor)


class Autoencoder:
    """The autoencoder of a latent diffusion pipeline (VQModel or AutoencoderKL), with its scaling factor."""

    block = 1

    def __init__(self, vae: Any) -> None:
        self.vae = vae
        self.scaling = float(getattr(vae.config, "scaling_factor", 1.0))

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Pictures -> scaled latents (the mode of the posterior, so that encoding is deterministic)."""
        encoded = self.vae.encode(x.to(self.vae.dtype))
        z = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
        return z * self.scaling

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Scaled latents -> pictures."""
        return self.vae.decode((z / self.scaling).to(self.vae.dtype)).sample
