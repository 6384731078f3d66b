"""Where each view is seen from, as a map of rays: for every place of a view the camera's position and the way it looks.

The head turns before a camera that stays, which is a camera that goes round a head that stays. All views of a sample are told
relative to one of them, the first that is given: what is known of a photograph's own pose is an estimate, what is asked for
is a turn from there. Without a given view they are told relative to the face's front.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from latentrot.data.frame import CROP_BOX

__all__ = ["DISTANCE", "FOCAL", "FREQUENCIES", "RAY_CHANNELS", "held_at", "ray_map", "reference_of", "rotation"]

#: the camera of `latentrot.synthetic.head_model.camera` for the mean face: distance in cm, focal length in pixels of the
#: 178x218 frame, middle of the five landmarks in cm from the head's, and the row it is held at, from the middle of the crop
DISTANCE, FOCAL = 130.0, 745.0
LANDMARKS, LANDMARK_ROW = (0.0, -1.6, 8.7), -8.8
#: each coordinate is also told as sine and cosine of itself times 2^k pi
FREQUENCIES = 5
RAY_CHANNELS = 6 * (1 + 2 * FREQUENCIES)


def rotation(pose: Tensor) -> Tensor:
    """Poses (..., 2), yaw and pitch in degrees -> (..., 3, 3) from the head to the camera, x right, y up, z to the viewer."""
    yaw, pitch = torch.deg2rad(pose.double()).unbind(-1)
    one, none = torch.ones_like(yaw), torch.zeros_like(yaw)

    def matrix(*rows: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return torch.stack([torch.stack(row, -1) for row in rows], -2)

    nod = matrix((one, none, none), (none, pitch.cos(), pitch.sin()), (none, -pitch.sin(), pitch.cos()))
    turn = matrix((yaw.cos(), none, yaw.sin()), (none, one, none), (-yaw.sin(), none, yaw.cos()))
    return turn @ nod


def reference_of(pose: Tensor, given: Tensor) -> Tensor:
    """The pose that all others are told relative to: the first view's if it is given, else the front: (b, p, 2) -> (b, 2)."""
    return pose[:, 0] * given[:, :1]


def ray_map(pose: Tensor, reference: Tensor, size: int) -> Tensor:
    """What the network is told of the cameras.

    Args:
        pose: (b, p, 2) yaw and pitch in degrees.
        reference: (b, 2), from `reference_of`.
        size: side of the map.

    Returns:
        (b, p, RAY_CHANNELS, size, size) float32: position in camera distances, unit direction, and their sines and cosines.
    """
    turned = rotation(pose)  # (b, p, 3, 3)
    to_reference = rotation(reference)[:, None] @ turned.transpose(-1, -2)
    rays = torch.cat(torch.broadcast_tensors(*_camera_rays(turned, size)), -1).unflatten(-1, (2, 3))
    rays = torch.einsum("bpij,bpyxkj->bpkiyx", to_reference, rays).flatten(2, 3)  # (b, p, 6, size, size)
    phases = rays[:, :, None] * (math.pi * 2.0 ** torch.arange(FREQUENCIES, dtype=rays.dtype))[:, None, None, None]
    waves = torch.cat([phases.sin(), phases.cos()], 2).flatten(2, 3)
    return torch.cat([rays, waves], 2).float()


def _camera_rays(turned: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Positions (1, 1, 1, 1, 3) and directions (b, p, size, size, 3) in each view's own axes."""
    shift = held_at(turned)
    width = CROP_BOX[2] - CROP_BOX[0]
    place = ((torch.arange(size, dtype=turned.dtype) + 0.5) / size - 0.5) * width
    x = ((place - shift[..., :1]) / FOCAL)[..., None, :].expand(*shift.shape[:-1], size, size)
    y = (-(place - shift[..., 1:]) / FOCAL)[..., :, None].expand_as(x)
    way = torch.stack([x, y, -torch.ones_like(x)], -1)
    origin = turned.new_tensor([0, 0, 1]).expand(1, 1, 1, 1, 3)
    return origin, way / way.norm(dim=-1, keepdim=True)


def held_at(turned: Tensor) -> Tensor:
    """Where the head's middle lies in an image, (..., 2) frame pixels from the crop's: the landmarks' middle stays."""
    held = turned @ torch.tensor(LANDMARKS, dtype=turned.dtype)
    at = FOCAL * held[..., :2] * held.new_tensor([1, -1]) / (DISTANCE - held[..., 2:])
    return held.new_tensor([0, LANDMARK_ROW]) - at
