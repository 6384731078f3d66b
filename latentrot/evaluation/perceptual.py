"""LPIPS, if torchmetrics and its weights are installed; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from latentrot.data.arrays import to_tensor

__all__ = ["alexnet_weights", "installed_lpips"]


def alexnet_weights() -> Path:
    """The file in which torchvision caches the weights of AlexNet."""
    from torchvision.models import AlexNet_Weights  # noqa: PLC0415

    return Path(torch.hub.get_dir()) / "checkpoints" / Path(AlexNet_Weights.IMAGENET1K_V1.url).name


def installed_lpips() -> Callable[[np.ndarray, np.ndarray], float] | None:
    """LPIPS (Zhang, Isola, Efros, Shechtman, Wang, 2018) on AlexNet, by torchmetrics.

    Returns:
        A function of two (h, w, 3) uint8 images with sides of at least 32 pixels, 0 for equal images; None if torchmetrics is
        not installed or the weights of AlexNet are not in torchvision's cache.
    """
    if find_spec("torchmetrics") is None or not alexnet_weights().is_file():
        return None
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity  # noqa: PLC0415

    metric = LearnedPerceptualImagePatchSimilarity(net_type="alex")
    return lambda a, b: float(metric(to_tensor(a), to_tensor(b)))
