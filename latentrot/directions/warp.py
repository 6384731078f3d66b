"""Warp the pixels of an image by the motion of the face in a walk.

A walk generates the whole image anew, and the result resembles the person less with every degree. But it shows how the face
moves: landmarks are estimated in the walked image and in the decoded unchanged latent (from the same decoder, so that errors
of the landmark network cancel). A thin-plate spline (Bookstein, "Principal Warps", IEEE TPAMI 11, 1989) warps the source by
this motion. The walk fills disoccluded and occluded regions: where a source pixel would be stretched over several pixels, the
rotation reveals a surface that the source shows obliquely or not at all; where several pixels would be compressed into one,
they have moved behind the face. Warping the visible part and synthesizing the disoccluded part follows Siarohin et al.,
"First Order Motion Model for Image Animation" (NeurIPS 2019).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from latentrot.data.arrays import to_uint8
from latentrot.data.frame import CROP_BOX
from latentrot.errors import LatentrotError
from latentrot.faces.alignment import Alignment
from latentrot.faces.face_networks import LandmarkNetwork, load_face_network
from latentrot.faces.landmarks import UNSURE, estimate_landmarks_of
from latentrot.numerics import smoothstep

__all__ = ["landmarks_of_crops", "warp_to_walk"]

#: radius beyond which nothing moves, relative to the max distance of a landmark from the mean; number of fixed points on it
REACH, ANCHORS = 2.0, 24
#: regularisation of the spline, which smooths it instead of interpolating every landmark exactly
STIFFNESS = 1e-4
#: source pixels per output pixel, by area: below the first value the walk is shown, above the second one the source
UNCOVERED, SHOWN = 0.25, 0.6
#: source pixels per output pixel, by area: from the first to the second value the source fades out in favour of the walk
BEGINS, BEHIND = 3.0, 6.0
#: samples per side for antialiasing compressed pixels; range of compression over which the antialiased value fades in
SUPERSAMPLING, ONE, SEVERAL = 4, 1.2, 2.0
#: max grid points per side at which the spline is evaluated; larger images interpolate between them
MAX_GRID = 64
#: grid cells per side for matching the walk's colours to the source's
CELLS = 8
#: share of visible source around a cell at which the cell gets half of the colour correction
HALF_SUPPORT = 0.1


def warp_to_walk(
    source: torch.Tensor, start: torch.Tensor, walked: torch.Tensor, device: str | None = None
) -> torch.Tensor:
    """Warp the pixels of an image by the motion of the face in walked images.

    Args:
        source: (1, 3, s, s) in [-1, 1], the face crop.
        start: (1, 3, s, s), the decoded unchanged latent.
        walked: (k, 3, s, s), the decoded latents of k walks.
        device: device of the landmark network; the CPU by default.

    Returns:
        (k, 3, s, s): the source's pixels where they are visible, the walk elsewhere; the source itself where nothing has
        moved, and the walk where no face is found.
    """
    before, *after = landmarks_of_crops(torch.cat([start, walked]), device) if len(walked) else [None]
    if before is None:
        return walked
    shown = [
        image[None] if points is None else warp_between(source, before, image[None], points)
        for image, points in zip(walked, after, strict=True)
    ]
    return torch.cat(shown)


def landmarks_of_crops(images: torch.Tensor, device: str | None = None) -> list[np.ndarray | None]:
    """Landmarks of (n, 3, s, s) face crops in [-1, 1]: (68, 2) per crop, -1 to 1 across it; None if there is no face."""
    side, (left, top, right, _) = images.shape[-1], CROP_BOX
    scale = (right - left) / side
    frame = Alignment(np.array([[scale, 0, left], [0, scale, top]], np.float64), (side, side))
    # raises if the network is missing; a missing face must not raise below
    load_face_network(LandmarkNetwork, device=device)
    try:
        found = estimate_landmarks_of(list(to_uint8(images)), [frame] * len(images), device=device)
    except LatentrotError:  # the landmarks of one crop do not fit a face
        return [None] if len(images) == 1 else [landmarks_of_crops(p[None], device)[0] for p in images]
    return [None if f.spread > UNSURE else f.points * 2 / side - 1 for f in found]


def warp_between(source: torch.Tensor, before: np.ndarray, walked: torch.Tensor, after: np.ndarray) -> torch.Tensor:
    """Warp the source from its landmarks to those of one walked image: (1, 3, s, s)."""
    side = source.shape[-1]
    shift = source_shift(before, after, min(side, MAX_GRID))
    comes_from = source_positions(shift, side)
    own = sample_source(source, comes_from)
    often = F.avg_pool2d(sample_source(source, source_positions(shift, SUPERSAMPLING * side)), SUPERSAMPLING)
    pressed = smoothstep(stretch_of(comes_from)[1], ONE, SEVERAL)
    own = (own + torch.from_numpy(pressed) * (often - own)).float()
    shown = source_visibility(comes_from).float()[None, None]
    drawn = walked + _nearby(own - walked, shown)
    return (drawn + shown * (own - drawn)).clamp(-1, 1)


def sample_source(source: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Sample the source at positions from -1 to 1 across it: (1, 3, s, s), (k, k, 2) -> (1, 3, k, k) float64."""
    return F.grid_sample(source.double(), positions[None], mode="bicubic", padding_mode="border", align_corners=False)


def source_shift(before: np.ndarray, after: np.ndarray, side: int) -> torch.Tensor:
    """Displacement from each pixel of a turned image to its position in the source.

    Args:
        before: (68, 2) landmarks in the source, -1 to 1 across the image.
        after: (68, 2) landmarks in the turned image.
        side: number of grid points per side at which the spline is evaluated.

    Returns:
        (1, 2, side, side) float64 (column, row) in the same unit; 0 far from the face.
    """
    middle = after.mean(0)
    reach = REACH * np.linalg.norm(after - middle, axis=1).max()
    angles = np.arange(ANCHORS) * 2 * np.pi / ANCHORS
    held = middle + reach * np.stack([np.cos(angles), np.sin(angles)], 1)
    pixels = pixel_positions(side).reshape(-1, 2)
    shift = thin_plate(
        np.concatenate([after, held]), np.concatenate([before - after, np.zeros_like(held)]), pixels, STIFFNESS
    )
    shift *= smoothstep(1 - np.linalg.norm(pixels - middle, axis=1) / reach, 0.0, 0.15)[:, None]
    return torch.from_numpy(shift.reshape(1, side, side, 2)).permute(0, 3, 1, 2)


def source_positions(shift: torch.Tensor, side: int) -> torch.Tensor:
    """Source position of each of side x side pixels: `source_shift`, (1, 2, k, k), -> (side, side, 2) (column, row)."""
    fine = shift if side == shift.shape[-1] else F.interpolate(shift, (side, side), mode="bicubic")
    return torch.from_numpy(pixel_positions(side)) + fine[0].permute(1, 2, 0)


def pixel_positions(side: int) -> np.ndarray:
    """Positions of the pixels of an image, (side, side, 2) (column, row) from -1 to 1 across it."""
    ticks = (np.arange(side) + 0.5) * 2 / side - 1
    return np.stack(np.meshgrid(ticks, ticks), -1)


def thin_plate(at: np.ndarray, values: np.ndarray, where: np.ndarray, stiffness: float) -> np.ndarray:
    """Thin-plate spline through values at n points: (n, 2), (n, c), (m, 2) -> (m, c).

    Equal to `scipy.interpolate.RBFInterpolator`, which takes 0.1 s to import.
    """
    n = len(at)
    system = np.zeros((n + 3, n + 3))
    system[:n, :n] = _bending(at, at) + stiffness * np.eye(n)
    system[:n, n], system[:n, n + 1 :] = 1, at
    system[n:, :n] = system[:n, n:].T
    weights = np.linalg.solve(system, np.concatenate([values, np.zeros((3, values.shape[1]))]))
    return _bending(where, at) @ weights[:n] + weights[n] + where @ weights[n + 1 :]


def _bending(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """r^2 log r between points: (m, 2), (n, 2) -> (m, n)."""
    squared = np.square(a[:, None] - b).sum(-1)
    return squared * np.log(np.maximum(squared, 1e-12)) / 2


def stretch_of(comes_from: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Source pixels per output pixel: by area, (s, s), < 0 for back-facing surfaces; and the max along a line, (s, s)."""
    down, across = np.gradient(comes_from.numpy(), 2 / len(comes_from), axis=(0, 1))
    area = across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0]
    return area, np.maximum(np.linalg.norm(across, axis=-1), np.linalg.norm(down, axis=-1))


def source_visibility(comes_from: torch.Tensor) -> torch.Tensor:
    """Visibility of the source in each pixel, from the local stretch: (s, s, 2) -> (s, s), 0 to 1."""
    unit = 2 / len(comes_from)
    area, _ = stretch_of(comes_from)
    inside = 1 + unit / 2 - comes_from.abs().amax(-1).numpy()
    seen = np.clip((area - UNCOVERED) / (SHOWN - UNCOVERED), 0, 1) * np.clip(inside / unit, 0, 1)
    share = torch.from_numpy(smoothstep(seen, 0.0, 1.0) * (1 - smoothstep(area, BEGINS, BEHIND)))
    return F.avg_pool2d(F.pad(share[None, None], (1, 1, 1, 1), mode="replicate"), 3, 1)[0, 0]


def _nearby(difference: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
    """Extrapolate a known difference smoothly to where it is unknown: (1, 3, s, s), (1, 1, s, s) -> (1, 3, s, s)."""
    cells = F.adaptive_avg_pool2d(torch.cat([difference * shown, shown], 1), CELLS)
    wide = F.avg_pool2d(F.pad(cells, (1, 1, 1, 1), mode="replicate"), 3, 1)
    known = wide[:, :3] / (wide[:, 3:] + HALF_SUPPORT)
    return F.interpolate(known, size=difference.shape[-2:], mode="bilinear", align_corners=False)
