"""Bring a painted or drawn face towards the photographs a model knows.

Any image can be embedded and comes back as it was, but an image unlike what the model was trained on has a latent unlike
noise: some octaves of spatial frequencies are too long, others too short. Taken part of the way to the lengths of white noise
it is decoded as a face the model finds likelier, at the same place and of the same features.

After the idea of Asperti, Colasuonno, Guerra, "Portrait Reification with Generative Diffusion Models", 2023, by other means:
theirs is a learned embedding.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy.fft import dctn, idctn

from latentrot.directions.frequencies import frequency_bands

__all__ = ["reify", "towards_noise"]

#: share of the way, on a logarithmic scale; at 1 colours fade, since real faces do not quite lie on the shell either
STRENGTH = 0.5


def towards_noise(image: np.ndarray, strength: float = STRENGTH) -> np.ndarray:
    """Take the length of every octave of spatial frequencies part of the way to that of unit white noise.

    Args:
        image: (c, h, w) latent on the pixel grid.
        strength: 0 leaves it, 1 goes all the way.

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
    """The latent of a painted face -> that of a likelier one.

    Args:
        z: (1, c, h, w), without a residual latent.
        factor: pixel-unshuffle factor of the first stage (1: none).

    Returns:
        (1, c, h, w) float32.
    """
    moved = towards_noise(F.pixel_shuffle(z, factor)[0].numpy())
    return F.pixel_unshuffle(torch.from_numpy(moved).float()[None], factor)
