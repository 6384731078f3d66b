"""Entry points for torch.hub.

`torch.hub.load("latentrot", "hopenet", weights="hopenet_robust_alpha1.pkl", source="local", trust_repo=True)` from the folder
above a checkout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latentrot.faces.estimate import LabelerPose
    from latentrot.faces.hopenet import HopenetPose

dependencies = ["safetensors", "torch", "torchvision"]


def hopenet(weights: str | None = None, device: str | None = None) -> HopenetPose:
    """Hopenet for crops in the CelebA frame: (n, 3, h, h) in [-1, 1] -> (n, 3) degrees of yaw, pitch and roll.

    Args:
        weights: path or address of a published snapshot; None leaves the network untrained.
        device: where to put it; None is the CPU.
    """
    from latentrot.faces.hopenet import load_hopenet  # noqa: PLC0415  hub imports this file before it checks what is there

    return load_hopenet(weights, device)


def labeler(device: str | None = None) -> LabelerPose:
    """The bundled network for crops in the CelebA frame: (n, 3, h, h) in [-1, 1] -> (n, 3) degrees of yaw, pitch and roll.

    Args:
        device: where to put it; None is the CPU.
    """
    from latentrot.faces.estimate import LabelerPose  # noqa: PLC0415
    from latentrot.faces.network import load_labeler  # noqa: PLC0415

    return LabelerPose(load_labeler(device=device))
