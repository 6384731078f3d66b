"""Make a painted or drawn face photograph-like.

The latent of an image unlike the training data differs from white noise: in some octaves of spatial frequencies its norm is
too large, in others too small. Scaled towards the norms of white noise, it decodes into a more photograph-like face with the
same features and position.

The task is from Asperti, Colasuonno, Guerra, "Portrait Reification with Generative Diffusion Models", 2023, who use a learned
embedding.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy.fft import dctn, idctn

from latentrot.directions.frequencies import frequency_bands

__all__ = ["reify", "towards_noise"]

#: strength on a logarithmic scale; at 1 colours fade, because latents of real faces do not have exactly these norms
STRENGTH = 0.5


def towards_noise(image: np.ndarray, strength: float = STRENGTH) -> np.ndarray:
    """Move the norm of every octave of spatial frequencies towards that of unit white noise.

    Args:
        image: (c, h, w) latent on the pixel grid.
        strength: 0: unchanged, 1: the norm of white noise.

    Returns:
        (c, h, w) float64.
    """
    spectrum = np.asarray(dctn(image, axes=(1, 2), norm="ortho"))
    octave = np.floor(np.log2(np.maximum(frequency_bands(image.shape[1:]), 1))).astype(int)
    for i in range(octave.max() + 1):
        inside = octave == i
        rms = np.sqrt(np.mean(spectrum[:, inside] ** 2))
        spectrum[:, inside] *= max(rms, 1e-30) ** -strength
    return np.asarray(idctn(spectrum, axes=(1, 2), norm="ortho"))


def reify(z: torch.Tensor, factor: int) -> torch.Tensor:
    """Scale the octaves of a painted face's latent towards white noise.

    Args:
        z: (1, c, h, w), without a residual latent.
        factor: pixel-unshuffle factor of the first stage (1: none).

    Returns:
        (1, c, h, w) float32.
    """
    moved = towards_noise(F.pixel_shuffle(z, factor)[0].numpy())
    return F.pixel_unshuffle(torch.from_numpy(moved).float()[None], factor)
