"""Learned perceptual distance of two images, where what it takes is at hand: nothing is fetched."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from latentrot.data.images import to_tensor

__all__ = ["alexnet_weights", "lpips_at_hand"]


def alexnet_weights() -> Path:
    """Where torchvision keeps its AlexNet once something has fetched it."""
    from torchvision.models import AlexNet_Weights  # noqa: PLC0415

    return Path(torch.hub.get_dir()) / "checkpoints" / Path(AlexNet_Weights.IMAGENET1K_V1.url).name


def lpips_at_hand() -> Callable[[np.ndarray, np.ndarray], float] | None:
    """LPIPS (Zhang, Isola, Efros, Shechtman, Wang, 2018) on AlexNet, by torchmetrics.

    Returns:
        A distance of two (h, w, 3) uint8 images of at least 32 pixels to a side, 0 for equal ones; None where torchmetrics
        is not installed or torchvision's AlexNet was never fetched.
    """
    if find_spec("torchmetrics") is None or not alexnet_weights().is_file():
        return None
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity  # noqa: PLC0415

    metric = LearnedPerceptualImagePatchSimilarity(net_type="alex")
    return lambda a, b: float(metric(to_tensor(a), to_tensor(b)))
