"""Spatial frequencies of slopes and latents on the pixel grid, by the discrete cosine transform."""

from __future__ import annotations

import numpy as np
from scipy.fft import dctn, idctn

__all__ = ["coarse_part", "frequency_bands", "keep_octaves", "shrink_noise"]


def frequency_bands(shape: tuple[int, ...]) -> np.ndarray:
    """(h, w) radial frequency of each coefficient of a cosine transform, rounded to whole half-waves per picture."""
    rows, columns = np.indices(shape)
    return np.hypot(rows, columns).round().astype(int)


def coarse_part(picture: np.ndarray, below: int) -> np.ndarray:
    """What of a (c, h, w) picture varies by fewer than `below` half-waves over it -> (c, h, w) float64."""
    spectrum = np.asarray(dctn(picture, axes=(1, 2), norm="ortho"))
    spectrum[:, frequency_bands(picture.shape[1:]) >= below] = 0
    return np.asarray(idctn(spectrum, axes=(1, 2), norm="ortho"))


def keep_octaves(source: np.ndarray, walked: np.ndarray) -> np.ndarray:
    """Scale every octave of spatial frequencies of some pictures to the length it has in their source.

    Args:
        source: (1, c, h, w) on the pixel grid.
        walked: (k, c, h, w).

    Returns:
        (k, c, h, w) float64, the directions of `walked` with the lengths of `source`, octave by octave.
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


def shrink_noise(picture: np.ndarray, power: float = 1.0) -> np.ndarray:
    """Take the white noise of estimation out of a slope, by Wiener shrinkage per spatial frequency.

    A latent is mostly white noise, so a mean over few thousand of them still is: most of a raw slope's length is
    estimation error, spread evenly over all frequencies, while what turns a head is smooth. The noise floor is read off
    the slope's own finest frequencies.

    Args:
        picture: (c, h, w) slope on the pixel grid.
        power: of the gain: 1 shrinks as Wiener does, 0.5 by the square root of that, 0 not at all.

    Returns:
        (c, h, w) of smaller length.
    """
    spectrum = np.asarray(dctn(picture, axes=(1, 2), norm="ortho"))
    band = frequency_bands(picture.shape[1:])
    density = np.bincount(band.ravel(), (spectrum**2).mean(0).ravel()) / np.bincount(band.ravel())
    floor = np.median(density[min(picture.shape[1:]) // 2 :])
    gain = np.clip(1 - floor / np.maximum(density, 1e-30), 0, 1) ** power
    return np.asarray(idctn(spectrum * gain[band], axes=(1, 2), norm="ortho"))
