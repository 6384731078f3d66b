"""Estimate pose and light of face crops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from latentrot.data.arrays import to_tensor
from latentrot.errors import LatentrotError
from latentrot.faces.network import CROP_SIZE, LIGHTS, POSE_SCALE, FaceLabeler, load_labeler

__all__ = ["LIGHTS", "LabelerPose", "PoseEstimator", "estimate_light", "estimate_pose", "light_names", "pose_and_light"]

#: number of images per forward pass
CHUNK = 256
#: min probability for a light to count as known
SURE = 0.6
#: name of an unknown light
UNSURE = "unsure"
#: factors of yaw, pitch and roll when the image is mirrored
MIRROR_SIGNS = (-1.0, 1.0, -1.0)


def check_crops(x: Tensor) -> None:
    """Refuse a tensor that is not a batch of square RGB crops, (n, 3, h, h) float.

    Raises:
        LatentrotError: the tensor has another shape or an integer type.
    """
    if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] != x.shape[3] or x.shape[2] < 8:
        raise LatentrotError(f"crops of shape {tuple(x.shape)}: expected (n, 3, h, h), square, at least 8 pixels wide")
    if not x.is_floating_point():
        raise LatentrotError(f"crops of type {x.dtype} and shape {tuple(x.shape)}: expected floats in [-1, 1]")


def resize_crops(x: Tensor, size: int = CROP_SIZE) -> Tensor:
    """Check crops and resize them to a network's input: (n, 3, h, h) float -> (n, 3, size, size) float32.

    Raises:
        LatentrotError: the tensor has another shape or an integer type.
    """
    check_crops(x)
    x = x.float()
    if x.shape[-1] == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", antialias=True, align_corners=False)


class PoseEstimator(Protocol):
    """An estimator of head pose, for `estimate_pose`, which averages it over the image and its mirror image."""

    @property
    def name(self) -> str:
        """Name in reports."""
        ...

    @property
    def crop_size(self) -> int:
        """Side of its input in pixels; read images at this size to avoid resampling."""
        ...

    def __call__(self, x: Tensor) -> Tensor:
        """Estimate, without mirroring.

        Args:
            x: (n, 3, h, h) crops in the CelebA frame, float in [-1, 1], of any size.

        Returns:
            (n, 3) float32 degrees on x's device: yaw (> 0: nose to the viewer's right), pitch (> 0: looking up), roll
            (> 0: leaning clockwise as seen by the viewer).
        """
        ...


@dataclass(frozen=True)
class LabelerPose:
    """The pose trunk of a label network as a `PoseEstimator`.

    Args:
        network: the label network, in evaluation mode.
    """

    network: FaceLabeler
    name: str = "bundled"
    crop_size: int = CROP_SIZE

    def __call__(self, x: Tensor) -> Tensor:
        """(n, 3, h, h) -> (n, 3) degrees; see `PoseEstimator`."""
        return (self.network.pose(resize_crops(x.to(self.network.device))) * POSE_SCALE).to(x.device)


@torch.no_grad()
def estimate_pose(
    x: Tensor, *, estimator: PoseEstimator | None = None, labeler: FaceLabeler | None = None, mirror: bool = True
) -> Tensor:
    """Estimate the head pose.

    Args:
        x: (n, 3, h, h) crops in the CelebA frame, float in [-1, 1], of any size.
        estimator: the estimator; None: the label network.
        labeler: the label network if `estimator` is None, on any device; None: the bundled one.
        mirror: average with the mirrored image, so that mirroring an image negates yaw and roll exactly, whatever the
            estimator.

    Returns:
        (n, 3) float32 degrees: yaw (> 0: nose to the viewer's right), pitch (> 0: looking up), roll (> 0: leaning
        clockwise as seen by the viewer).

    Raises:
        LatentrotError: `x` is not a batch of square RGB crops.
    """
    check_crops(x)
    estimate = estimator or LabelerPose(labeler or load_labeler(device=x.device))
    parts = []
    for crop in x.float().split(CHUNK):
        pose = estimate(crop)
        if mirror:  # mirrored before any resizing: resizing a mirrored image rounds differently
            pose = (pose + estimate(crop.flip(-1)) * torch.tensor(MIRROR_SIGNS, device=pose.device)) / 2
        parts.append(pose)
    return torch.cat(parts)


@torch.no_grad()
def estimate_light(x: Tensor, *, labeler: FaceLabeler | None = None, mirror: bool = True) -> Tensor:
    """Estimate from which side of the image the main light comes.

    Args:
        x: (n, 3, h, h) crops in the CelebA frame, float in [-1, 1], of any size.
        labeler: the network, on any device; None: the bundled one.
        mirror: average with the mirrored image, so that mirroring an image swaps left and right exactly.

    Returns:
        (n, 3) float32 probabilities in the order of LIGHTS: left, center, right, as the viewer sees it.

    Raises:
        LatentrotError: `x` is not a batch of square RGB crops.
    """
    net = labeler or load_labeler(device=x.device)
    parts = []
    for crop in resize_crops(x.to(net.device)).split(CHUNK):
        light = net.light(crop).softmax(1)
        if mirror:
            light = (light + net.light(crop.flip(-1)).softmax(1).flip(1)) / 2
        parts.append(light.to(x.device))
    return torch.cat(parts)


def light_names(probabilities: Tensor, min_probability: float = 0.0) -> list[str]:
    """The most probable light of each image, or "unsure".

    Args:
        probabilities: (n, 3) as returned by `estimate_light`.
        min_probability: probability (0 to 1) below which a light is "unsure"; the package reports errors at `SURE`.

    Returns:
        n names: "left", "center", "right" or "unsure".

    Raises:
        LatentrotError: the tensor has another shape, or `min_probability` is not between 0 and 1.
    """
    if probabilities.ndim != 2 or probabilities.shape[1] != len(LIGHTS):
        raise LatentrotError(f"probabilities of shape {tuple(probabilities.shape)}: expected (n, {len(LIGHTS)})")
    if not 0 <= min_probability <= 1:
        raise LatentrotError(f"min_probability={min_probability}: expected a probability, 0 to 1")
    best, which = probabilities.max(1)
    return [LIGHTS[int(i)] if p >= min_probability else UNSURE for p, i in zip(best, which, strict=True)]


def pose_and_light(image: np.ndarray, labeler: FaceLabeler | None = None) -> tuple[float, float, str]:
    """Yaw and pitch in degrees and the most probable light of one (s, s, 3) uint8 crop; `labeler` as in `estimate_pose`."""
    x = to_tensor(image)
    yaw, pitch = (float(v) for v in estimate_pose(x, labeler=labeler)[0, :2])
    return yaw, pitch, light_names(estimate_light(x, labeler=labeler))[0]
