"""Spatial frequencies of slopes and latents on the pixel grid, by the discrete cosine transform."""

from __future__ import annotations

import numpy as np
from scipy.fft import dctn, idctn

__all__ = ["coarse_part", "frequency_bands", "keep_octaves", "shrink_noise"]


def frequency_bands(shape: tuple[int, ...]) -> np.ndarray:
    """(h, w) radial frequency of each coefficient of a cosine transform, rounded to whole half-waves per image."""
    rows, columns = np.indices(shape)
    return np.hypot(rows, columns).round().astype(int)


def coarse_part(image: np.ndarray, below: int) -> np.ndarray:
    """Low-pass: the part of a (c, h, w) image below `below` half-waves per image -> (c, h, w) float64."""
    spectrum = np.asarray(dctn(image, axes=(1, 2), norm="ortho"))
    spectrum[:, frequency_bands(image.shape[1:]) >= below] = 0
    return np.asarray(idctn(spectrum, axes=(1, 2), norm="ortho"))


def keep_octaves(source: np.ndarray, walked: np.ndarray) -> np.ndarray:
    """Scale every octave of spatial frequencies of walked latents to its norm in their source.

    Args:
        source: (1, c, h, w) on the pixel grid.
        walked: (k, c, h, w).

    Returns:
        (k, c, h, w) float64: each octave of `walked`, scaled to the norm of that octave in `source`.
    """
    spectrum = np.asarray(dctn(walked, axes=(2, 3), norm="ortho"))
    own = np.asarray(dctn(source, axes=(2, 3), norm="ortho"))
    octave = np.floor(np.log2(np.maximum(frequency_bands(source.shape[2:]), 1))).astype(int)
    for i in range(octave.max() + 1):
        inside = octave == i
        length = np.linalg.norm(spectrum[:, :, inside], axis=(1, 2))
        target = np.linalg.norm(own[:, :, inside], axis=(1, 2))
        spectrum[:, :, inside] *= (target / np.maximum(length, 1e-30))[:, None, None]
    return np.asarray(idctn(spectrum, axes=(2, 3), norm="ortho"))


def shrink_noise(image: np.ndarray, power: float = 1.0) -> np.ndarray:
    """Remove the white estimation noise from a slope by Wiener shrinkage per spatial frequency.

    A latent is mostly white noise, and so is a mean over a few thousand latents: most of the norm of a raw slope is
    estimation error, spread evenly over all frequencies, while the signal that turns a head is smooth. The noise floor is
    estimated from the highest frequencies of the slope.

    Args:
        image: (c, h, w) slope on the pixel grid.
        power: exponent of the Wiener gain: 1 is the full gain, 0 leaves the slope unchanged.

    Returns:
        (c, h, w), of smaller norm than the input.
    """
    spectrum = np.asarray(dctn(image, axes=(1, 2), norm="ortho"))
    band = frequency_bands(image.shape[1:])
    density = np.bincount(band.ravel(), (spectrum**2).mean(0).ravel()) / np.bincount(band.ravel())
    floor = np.median(density[min(image.shape[1:]) // 2 :])
    gain = np.clip(1 - floor / np.maximum(density, 1e-30), 0, 1) ** power
    return np.asarray(idctn(spectrum * gain[band], axes=(1, 2), norm="ortho"))
