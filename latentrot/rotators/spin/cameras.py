"""Camera conditioning: ray maps, which hold the camera's position and the ray's direction for every pixel of a view.

A head that rotates in front of a fixed camera is equivalent to a camera that orbits a fixed head. Cameras are given relative
to the first given view, because the pose of a photograph is only estimated while the requested rotation is exact; without a
given view they are relative to the frontal pose.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from latentrot.data.frame import CROP_BOX

__all__ = [
    "DISTANCE_CM",
    "FOCAL_PX",
    "FREQUENCIES",
    "RAY_CHANNELS",
    "head_center",
    "head_to_camera",
    "ray_map",
    "reference_pose",
]

#: camera of `latentrot.synthetic.head_model.camera` for the mean face: distance in cm, focal length in pixels of the
#: 178x218 frame, centre of the five landmarks in cm from the head's centre, and its row in pixels from the crop's centre
DISTANCE_CM, FOCAL_PX = 130.0, 745.0
LANDMARKS_CM, LANDMARK_ROW_PX = (0.0, -1.6, 8.7), -8.8
#: number of frequencies of the positional encoding: sine and cosine of each coordinate times 2^k pi
FREQUENCIES = 5
RAY_CHANNELS = 6 * (1 + 2 * FREQUENCIES)


def head_to_camera(pose: Tensor) -> Tensor:
    """Poses (..., 2), yaw and pitch in degrees -> rotation matrices (..., 3, 3); x right, y up, z towards the viewer."""
    yaw, pitch = torch.deg2rad(pose.double()).unbind(-1)
    one, zero = torch.ones_like(yaw), torch.zeros_like(yaw)

    def matrix(*rows: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return torch.stack([torch.stack(row, -1) for row in rows], -2)

    pitched = matrix((one, zero, zero), (zero, pitch.cos(), pitch.sin()), (zero, -pitch.sin(), pitch.cos()))
    yawed = matrix((yaw.cos(), zero, yaw.sin()), (zero, one, zero), (-yaw.sin(), zero, yaw.cos()))
    return yawed @ pitched


def reference_pose(pose: Tensor, given: Tensor) -> Tensor:
    """Reference pose of each sample: the pose of its first view if that is a given one, else frontal; (b, p, 2) -> (b, 2)."""
    return pose[:, 0] * given[:, :1]


def ray_map(pose: Tensor, reference: Tensor, size: int) -> Tensor:
    """Compute the ray maps of the cameras, an input of the network.

    Args:
        pose: (b, p, 2) yaw and pitch in degrees.
        reference: (b, 2), from `reference_pose`.
        size: side of the map in pixels.

    Returns:
        (b, p, RAY_CHANNELS, size, size) float32: position in units of the camera distance, unit direction, and the
        positional encoding of both.
    """
    turned = head_to_camera(pose)  # (b, p, 3, 3)
    to_reference = head_to_camera(reference)[:, None] @ turned.transpose(-1, -2)
    rays = torch.cat(torch.broadcast_tensors(*_camera_rays(turned, size)), -1).unflatten(-1, (2, 3))
    rays = torch.einsum("bpij,bpyxkj->bpkiyx", to_reference, rays).flatten(2, 3)  # (b, p, 6, size, size)
    phases = rays[:, :, None] * (math.pi * 2.0 ** torch.arange(FREQUENCIES, dtype=rays.dtype))[:, None, None, None]
    waves = torch.cat([phases.sin(), phases.cos()], 2).flatten(2, 3)
    return torch.cat([rays, waves], 2).float()


def _camera_rays(turned: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Positions (1, 1, 1, 1, 3) and unit directions (b, p, size, size, 3) in the axes of each camera."""
    shift = head_center(turned)
    width = CROP_BOX[2] - CROP_BOX[0]
    column = ((torch.arange(size, dtype=turned.dtype) + 0.5) / size - 0.5) * width
    x = ((column - shift[..., :1]) / FOCAL_PX)[..., None, :].expand(*shift.shape[:-1], size, size)
    y = (-(column - shift[..., 1:]) / FOCAL_PX)[..., :, None].expand_as(x)
    direction = torch.stack([x, y, -torch.ones_like(x)], -1)
    origin = turned.new_tensor([0, 0, 1]).expand(1, 1, 1, 1, 3)
    return origin, direction / direction.norm(dim=-1, keepdim=True)


def head_center(turned: Tensor) -> Tensor:
    """Image position (..., 2) of the head's centre, frame pixels from the crop's centre; the landmarks' centre is fixed."""
    landmarks = turned @ torch.tensor(LANDMARKS_CM, dtype=turned.dtype)
    at = FOCAL_PX * landmarks[..., :2] * landmarks.new_tensor([1, -1]) / (DISTANCE_CM - landmarks[..., 2:])
    return landmarks.new_tensor([0, LANDMARK_ROW_PX]) - at
