"""Similarity of two batches of images, image by image: PSNR, SSIM, MS-SSIM."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from latentrot.errors import LatentrotError

__all__ = ["decibels", "ms_ssim", "psnr", "similarity_maps", "ssim"]

#: weights of the scales, finest first (Wang, Simoncelli, Bovik 2003); small images use only the first ones
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2


def decibels(squared_error: torch.Tensor, min_error: float = 4e-16) -> torch.Tensor:
    """Peak signal-to-noise ratio for mean squared errors of images in [-1, 1]; errors are clamped to at least `min_error`."""
    return 10 * torch.log10(4 / squared_error.clamp(min=min_error))


def psnr(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(n, 3, h, w) images in [-1, 1] -> (n,) decibels; 160 for equal images."""
    return decibels((a.double() - b.to(a.device).double()).square().flatten(1).mean(1))


def blur(x: torch.Tensor) -> torch.Tensor:
    """Gaussian mean over the windows that lie completely inside."""
    t = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    kernel = torch.softmax(-(t**2) / (2 * SIGMA**2), 0).expand(x.shape[1], 1, 1, WINDOW)
    return F.conv2d(F.conv2d(x, kernel, groups=x.shape[1]), kernel.transpose(2, 3), groups=x.shape[1])


def similarity_maps(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """SSIM, and its contrast-structure term alone, of every window completely inside: (n, c, h - 10, w - 10) each."""
    a, b = (a.double() + 1) / 2, (b.to(a.device).double() + 1) / 2  # the luminance term needs black at zero
    if a.shape != b.shape or a.ndim != 4 or min(a.shape[2:]) < WINDOW:
        raise LatentrotError(
            f"images {tuple(a.shape)} and {tuple(b.shape)}: expected two batches alike, sides of at least {WINDOW}"
        )
    ma, mb = blur(a), blur(b)
    va, vb, cov = blur(a * a) - ma**2, blur(b * b) - mb**2, blur(a * b) - ma * mb
    structure = (2 * cov + C2) / (va + vb + C2)
    return structure * (2 * ma * mb + C1) / (ma**2 + mb**2 + C1), structure


def mean_similarities(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Means over windows and channels of SSIM and of its contrast-structure term: (n,), (n,)."""
    whole, structure = similarity_maps(a, b)
    return whole.mean((1, 2, 3)), structure.mean((1, 2, 3))


def ssim(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Structural similarity (Wang, Bovik, Sheikh, Simoncelli 2004) of (n, 3, h, w) images in [-1, 1] -> (n,), 1: equal."""
    return mean_similarities(a, b)[0]


def ms_ssim(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Multi-scale SSIM -> (n,), 1: equal. A side of 64 has room for three of the five scales."""
    room = int(math.log2(max(1, min(a.shape[2:]) / WINDOW))) + 1
    weights = torch.tensor(SCALES[:room], dtype=torch.float64, device=a.device)
    weights = weights / weights.sum()
    result = torch.ones(len(a), dtype=torch.float64, device=a.device)
    for i, weight in enumerate(weights):
        whole, structure = mean_similarities(a, b)
        last = i == len(weights) - 1
        result = result * (whole if last else structure).clamp(min=0) ** weight
        if not last:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return result
