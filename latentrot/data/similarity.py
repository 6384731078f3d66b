"""Similarity of two batches of images, image by image: PSNR, SSIM."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from latentrot.errors import LatentrotError

__all__ = ["decibels", "psnr", "ssim_map"]

WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2


def decibels(squared_error: torch.Tensor, min_error: float = 4e-16) -> torch.Tensor:
    """Peak signal-to-noise ratio for mean squared errors of images in [-1, 1]; errors are clamped to at least `min_error`."""
    return 10 * torch.log10(4 / squared_error.clamp(min=min_error))


def psnr(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(n, 3, h, w) images in [-1, 1] -> (n,) decibels; 160 for equal images."""
    return decibels((a.double() - b.to(a.device).double()).square().flatten(1).mean(1))


def window_mean(x: torch.Tensor) -> torch.Tensor:
    """Gaussian mean over windows completely inside the image."""
    t = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    kernel = torch.softmax(-(t**2) / (2 * SIGMA**2), 0).expand(x.shape[1], 1, 1, WINDOW)
    return F.conv2d(F.conv2d(x, kernel, groups=x.shape[1]), kernel.transpose(2, 3), groups=x.shape[1])


def ssim_map(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """SSIM of every window completely inside two batches of images in [-1, 1]: (n, c, h, w) -> (n, c, h - 10, w - 10).

    Source: Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural similarity", 2004.
    """
    a, b = (a.double() + 1) / 2, (b.to(a.device).double() + 1) / 2  # the luminance term needs black at zero
    if a.shape != b.shape or a.ndim != 4 or min(a.shape[2:]) < WINDOW:
        raise LatentrotError(
            f"images {tuple(a.shape)} and {tuple(b.shape)}: expected two batches of one shape, sides of at least {WINDOW}"
        )
    ma, mb = window_mean(a), window_mean(b)
    va, vb, cov = window_mean(a * a) - ma**2, window_mean(b * b) - mb**2, window_mean(a * b) - ma * mb
    structure = (2 * cov + C2) / (va + vb + C2)
    return structure * (2 * ma * mb + C1) / (ma**2 + mb**2 + C1)
