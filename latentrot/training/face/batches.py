"""Batches of the face networks: crops with geometric and photometric augmentation."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from latentrot.faces.face_networks import (
    LANDMARK_SIDE,
    PARTS_SIDE,
)
from latentrot.faces.parts import REGION_WIDTHS
from latentrot.faces.upright import MIRRORED_68
from latentrot.training.face.config import FaceTrainConfig
from latentrot.training.face.faces import MARGIN, UNKNOWN, Faces

#: share of the parsing squares to which another head is added, and range of its distance in face widths
NEIGHBOURS = 0.4
NEIGHBOUR_WIDTHS = (0.9, 1.7)


def rows_at(step: int, weights: np.ndarray, config: FaceTrainConfig) -> np.ndarray:
    """Indices of the squares of a step, drawn with the given weights from seed and step."""
    rng = np.random.default_rng((config.seed, step))
    return rng.choice(len(weights), config.batch_size, p=weights / weights.sum())


def placements(n: int, config: FaceTrainConfig, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random placements of the network's input square in the stored square.

    Returns:
        (n, 2, 3) matrices from positions in the input square to positions in the stored square, both -1 to 1; (n,) bool,
        True for mirrored squares.
    """

    def uniform(limit: float) -> Tensor:
        return (torch.rand(n, generator=generator) * 2 - 1) * limit

    angle, shift_x, shift_y = torch.deg2rad(uniform(config.roll)), uniform(config.shift * 2), uniform(config.shift * 2)
    zoom = torch.exp(uniform(math.log1p(config.scale))) / MARGIN
    flip = torch.rand(n, generator=generator) < 0.5
    sign = torch.where(flip, -1.0, 1.0)
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    first = torch.stack([cos * sign, -sin, shift_x / MARGIN], -1)
    second = torch.stack([sin * sign, cos, shift_y / MARGIN], -1)
    return torch.stack([first, second], 1), flip


def augment_photometric(x: Tensor, generator: torch.Generator) -> Tensor:
    """Augment images (n, 3, h, w) photometrically: colour, grey, blur, noise, occluders."""
    n, size = len(x), x.shape[-1]

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=generator)

    x = (x - x.mean((1, 2, 3), keepdim=True)) * draw(0.6, 1.35, 1, 1, 1) + x.mean((1, 2, 3), keepdim=True)
    x = x * draw(0.85, 1.15, 3, 1, 1) + draw(-0.25, 0.25, 1, 1, 1)
    grey = x.mean(1, keepdim=True).expand_as(x)
    x = torch.where((draw(0, 1) < 0.15)[:, None, None, None], grey, x)
    small = F.interpolate(x, size=round(float(draw(0.18, 0.5)[0]) * size), mode="area")
    soft = F.interpolate(small, size=size, mode="bilinear", align_corners=False)
    x = torch.where((draw(0, 1) < 0.4)[:, None, None, None], soft, x)
    x = x + torch.randn(x.shape, generator=generator) * draw(0, 0.08, 1, 1, 1)
    across = torch.linspace(-1, 1, size)
    centre, half = draw(-1, 1, 2), draw(0.08, 0.35, 2)
    covered = ((across - centre[:, :1]).abs() < half[:, :1])[:, None, :] & (
        (across - centre[:, 1:]).abs() < half[:, 1:]
    )[:, :, None]
    covered &= (draw(0, 1) < 0.25)[:, None, None]
    return torch.where(covered[:, None], draw(-1, 1, 3, 1, 1), x).clamp(-1, 1)


def squares_at(
    faces: Faces, step: int, config: FaceTrainConfig, size: int
) -> tuple[Tensor, Tensor, Tensor, np.ndarray]:
    """Augmented squares of one step, their placements, which are mirrored, and their rows in `faces`."""
    x, matrix, flip, rows, generator = clean_squares_at(faces, step, config, size)
    return augment_photometric(x, generator), matrix, flip, rows


def clean_squares_at(
    faces: Faces, step: int, config: FaceTrainConfig, size: int
) -> tuple[Tensor, Tensor, Tensor, np.ndarray, torch.Generator]:
    """As `squares_at`, but before photometric augmentation; also returns the random generator."""
    rows = rows_at(step, faces.weights, config)
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    matrix, flip = placements(len(rows), config, generator)
    kept = torch.from_numpy(faces.images[rows]).permute(0, 3, 1, 2).float() / 127.5 - 1
    grid = F.affine_grid(matrix, [len(rows), 3, size, size], align_corners=False)
    x = F.grid_sample(kept, grid, padding_mode="border", align_corners=False)
    return x, matrix, flip, rows, generator


def landmark_batch(faces: Faces, step: int, config: FaceTrainConfig) -> tuple[Tensor, Tensor]:
    """(b, 3, 128, 128) images and (b, 68, 2) landmarks, -1 to 1."""
    x, matrix, flip, rows = squares_at(faces, step, config, LANDMARK_SIDE)
    kept = torch.from_numpy(faces.targets[rows]) / faces.images.shape[1] * 2 - 1
    points = torch.linalg.solve(matrix[:, :, :2], (kept - matrix[:, None, :, 2]).transpose(1, 2)).transpose(1, 2)
    order = torch.from_numpy(MIRRORED_68)
    return x, torch.where(flip[:, None, None], points[:, order], points)


def parts_batch(faces: Faces, step: int, config: FaceTrainConfig) -> tuple[Tensor, Tensor, np.ndarray]:
    """(b, 3, 256, 256) images, (b, 256, 256) parts, and the data set of each image."""
    x, matrix, _, rows, generator = clean_squares_at(faces, step, config, PARTS_SIDE)
    grid = F.affine_grid(matrix, [len(rows), 1, PARTS_SIDE, PARTS_SIDE], align_corners=False)
    masks = torch.from_numpy(faces.targets[rows]).float()[:, None]
    beyond = (grid.abs() > 1).any(-1)
    y = F.grid_sample(masks, grid, mode="nearest", padding_mode="border", align_corners=False)[:, 0].long()
    y = torch.where(beyond, UNKNOWN, y)
    return augment_photometric(with_neighbours(x, y, generator), generator), y, faces.groups[rows]


def with_neighbours(x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
    """Paste the head of another image beside and behind the head, and label it as background.

    Source: Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation", CVPR 2021.

    Args:
        x: (n, 3, s, s) images.
        y: (n, s, s) parts.
        generator: random generator.
    """
    n, size = len(x), x.shape[-1]
    others, theirs = x.roll(1, 0), y.roll(1, 0)
    chosen = torch.rand(n, generator=generator) < NEIGHBOURS
    low, high = (size * widths / REGION_WIDTHS for widths in NEIGHBOUR_WIDTHS)
    across = (low + (high - low) * torch.rand(n, generator=generator)) * torch.randn(n, generator=generator).sign()
    down = (torch.rand(n, generator=generator) - 0.5) * 0.3 * size
    out = x.clone()
    for i in torch.nonzero(chosen).flatten().tolist():
        shift = round(float(down[i])), round(float(across[i]))
        head = moved((theirs[i] > 0) & (theirs[i] != UNKNOWN), shift)
        out[i] = torch.where(head & (y[i] == 0), moved(others[i], shift), x[i])
    return out


def moved(x: Tensor, shift: tuple[int, int]) -> Tensor:
    """Shift (..., h, w) down and to the right, filled with 0."""
    down, across = shift
    return F.pad(x, (across, -across, down, -down))  # negative padding crops
