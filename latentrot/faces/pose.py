"""Pose estimators by name."""

from __future__ import annotations

from pathlib import Path

import torch

from latentrot.errors import LatentrotError
from latentrot.faces.estimate import LabelerPose, PoseEstimator
from latentrot.faces.network import FaceLabeler, load_labeler

__all__ = ["POSE_ESTIMATORS", "load_pose_estimator"]

POSE_ESTIMATORS = ("bundled", "hopenet")


def load_pose_estimator(
    name: str = "bundled", weights: Path | str | None = None, device: torch.device | str | None = None,
    *, labeler: FaceLabeler | None = None,
) -> PoseEstimator:  # fmt: skip
    """Load a pose estimator.

    Args:
        name: bundled (a label network) or hopenet.
        weights: path or address of a published Hopenet snapshot; must be None for the bundled network.
        device: target device; None: the CPU.
        labeler: the label network for "bundled", on `device`; None: the bundled one.

    Raises:
        LatentrotError: the name is unknown, weights are missing or not expected, or the file is not a Hopenet snapshot.
    """
    if name == "bundled":
        if weights is not None:
            raise LatentrotError(
                f"weights {weights}: only hopenet takes weights; leave them out for the bundled network"
            )
        return LabelerPose(labeler or load_labeler(device=device))
    if name == "hopenet":
        from latentrot.faces.hopenet import EXPECTED, load_hopenet  # noqa: PLC0415  torchvision takes a while

        if weights is None:
            raise LatentrotError(f"hopenet comes without weights; give the path or the address of {EXPECTED}")
        return load_hopenet(weights, device)
    raise LatentrotError(f"no pose estimator {name!r}; there are {', '.join(POSE_ESTIMATORS)}")
