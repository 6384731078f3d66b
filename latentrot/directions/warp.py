"""Carry a picture's own pixels to where a walk has put the face.

A walk redraws the whole picture, and what it redraws resembles the person less with every degree. But it knows where things
go: the landmarks of the face, found in the walked picture and in the one decoded from the latent as it is, say how each
part of it has moved. Both are found in pictures of the same decoder, so that what the landmark network gets wrong in one it
gets wrong in the other. A thin-plate spline (Bookstein, "Principal Warps", IEEE TPAMI 11, 1989) takes the source's pixels
along, and the walk draws what they do not show: where a pixel of the source would be stretched over several, a turn has
uncovered what the source saw at a slant or not at all; where many would be pressed into one, it has taken them behind the
face. To warp what is seen and draw what is uncovered is the way of Siarohin et al., "First Order Motion Model for Image
Animation" (NeurIPS 2019).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from latentrot.data.frame import CROP_BOX
from latentrot.data.images import to_uint8
from latentrot.errors import LatentrotError
from latentrot.faces.alignment import Alignment
from latentrot.faces.face_networks import LandmarkNetwork, load_face_network
from latentrot.faces.landmarks import UNSURE, estimate_landmarks_of
from latentrot.numerics import smoothstep

__all__ = ["carry", "landmarks_of_crops"]

#: beyond so many times the distance of the farthest landmark from their middle nothing moves; so many points hold it
REACH, HELD_POINTS = 2.0, 24
#: the stiffness of the spline: how far it may miss a landmark rather than bend
STIFFNESS = 1e-4
#: where a pixel of the source covers more than 1 / so much of one, the walk is shown; more than 1 / so much: the source
UNCOVERED, SHOWN = 0.25, 0.6
#: where so many pixels of the source are pressed into one they begin to lie behind the face, and do: the walk is shown, too
BEGINS, BEHIND = 3.0, 6.0
#: looks a side at the source for each pixel into which several are pressed: from so many a pixel on, and wholly
LOOKS, ONE, SEVERAL = 4, 1.2, 2.0
#: places a side at which the spline is asked; larger pictures take what lies between
FINEST = 64
#: cells a side over which the walk's colours are brought to the source's
CELLS = 8
#: a cell whose surroundings the source shows to this share takes half of the colours it would need
FADING = 0.1


def carry(source: torch.Tensor, start: torch.Tensor, walked: torch.Tensor, device: str | None = None) -> torch.Tensor:
    """Turn a picture's own pixels as its latent was walked.

    Args:
        source: (1, 3, s, s) in [-1, 1], the face crop.
        start: (1, 3, s, s), its latent decoded as it is.
        walked: (k, 3, s, s), its latent decoded after k walks.
        device: where the landmark network runs; the CPU by default.

    Returns:
        (k, 3, s, s): the source's pixels where it shows what the walk shows, the walk elsewhere; the source itself where the
        walk has moved nothing, and the walk where no face is found.
    """
    before, *after = landmarks_of_crops(torch.cat([start, walked]), device) if len(walked) else [None]
    if before is None:
        return walked
    shown = [
        picture[None] if points is None else carried(source, before, picture[None], points)
        for picture, points in zip(walked, after, strict=True)
    ]
    return torch.cat(shown)


def landmarks_of_crops(pictures: torch.Tensor, device: str | None = None) -> list[np.ndarray | None]:
    """(n, 3, s, s) face crops in [-1, 1] -> (68, 2) landmarks of each, -1 to 1 across it; None where there is no face."""
    side, (left, top, right, _) = pictures.shape[-1], CROP_BOX
    scale = (right - left) / side
    frame = Alignment(np.array([[scale, 0, left], [0, scale, top]], np.float64), (side, side))
    load_face_network(
        LandmarkNetwork, device=device
    )  # a network that is missing is told, a face that is missing is not
    try:
        found = estimate_landmarks_of(list(to_uint8(pictures)), [frame] * len(pictures), device=device)
    except LatentrotError:  # the landmarks of one cannot be any face's
        return [None] if len(pictures) == 1 else [landmarks_of_crops(p[None], device)[0] for p in pictures]
    return [None if f.spread > UNSURE else f.points * 2 / side - 1 for f in found]


def carried(source: torch.Tensor, before: np.ndarray, walked: torch.Tensor, after: np.ndarray) -> torch.Tensor:
    """The source taken along from its landmarks to those of one walked picture: (1, 3, s, s)."""
    side = source.shape[-1]
    shift = source_shift(before, after, min(side, FINEST))
    comes_from = source_positions(shift, side)
    own = seen_at(source, comes_from)
    often = F.avg_pool2d(seen_at(source, source_positions(shift, LOOKS * side)), LOOKS)
    pressed = smoothstep(stretches(comes_from)[1], ONE, SEVERAL)
    own = (own + torch.from_numpy(pressed) * (often - own)).float()
    shown = shown_share(comes_from).float()[None, None]
    drawn = walked + _nearby(own - walked, shown)
    return (drawn + shown * (own - drawn)).clamp(-1, 1)


def seen_at(source: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """The source at positions -1 to 1 across it: (1, 3, s, s), (k, k, 2) -> (1, 3, k, k) float64."""
    return F.grid_sample(
        source.double(), positions[None], mode="bicubic", padding_mode="border", align_corners=False
    )  # fmt: skip


def source_shift(before: np.ndarray, after: np.ndarray, side: int) -> torch.Tensor:
    """How far from each pixel of a turned picture its place in the source lies.

    Args:
        before: (68, 2) landmarks in the source, -1 to 1 across the picture.
        after: (68, 2) where they are moved to.
        side: at how many places a side the spline is asked.

    Returns:
        (1, 2, side, side) float64 (column, row) in the same unit; far from the face 0.
    """
    middle = after.mean(0)
    reach = REACH * np.linalg.norm(after - middle, axis=1).max()
    angles = np.arange(HELD_POINTS) * 2 * np.pi / HELD_POINTS
    held = middle + reach * np.stack([np.cos(angles), np.sin(angles)], 1)
    pixels = pixel_positions(side).reshape(-1, 2)
    shift = thin_plate(
        np.concatenate([after, held]), np.concatenate([before - after, np.zeros_like(held)]), pixels, STIFFNESS
    )
    shift *= smoothstep(1 - np.linalg.norm(pixels - middle, axis=1) / reach, 0.0, 0.15)[:, None]
    return torch.from_numpy(shift.reshape(1, side, side, 2)).permute(0, 3, 1, 2)


def source_positions(shift: torch.Tensor, side: int) -> torch.Tensor:
    """Where each of side x side pixels lies in the source: `source_shift`, (1, 2, k, k), -> (side, side, 2) (column, row)."""
    fine = shift if side == shift.shape[-1] else F.interpolate(shift, (side, side), mode="bicubic")
    return torch.from_numpy(pixel_positions(side)) + fine[0].permute(1, 2, 0)


def pixel_positions(side: int) -> np.ndarray:
    """Where the pixels of a picture lie, (side, side, 2) (column, row) from -1 to 1 across it."""
    ticks = (np.arange(side) + 0.5) * 2 / side - 1
    return np.stack(np.meshgrid(ticks, ticks), -1)


def thin_plate(at: np.ndarray, values: np.ndarray, where: np.ndarray, stiffness: float) -> np.ndarray:
    """The smoothest surface through values given at n points: (n, 2), (n, c), (m, 2) -> (m, c)."""
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


def stretches(comes_from: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """How many pixels of the source, (s, s), a pixel covers (< 0 where it shows their back), and how many in a row."""
    down, across = np.gradient(comes_from.numpy(), 2 / len(comes_from), axis=(0, 1))
    area = across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0]
    return area, np.maximum(np.linalg.norm(across, axis=-1), np.linalg.norm(down, axis=-1))


def shown_share(comes_from: torch.Tensor) -> torch.Tensor:
    """How much of each pixel the source shows, by how far it is stretched there: (s, s, 2) -> (s, s), 0 to 1."""
    unit = 2 / len(comes_from)
    area, _ = stretches(comes_from)
    inside = 1 + unit / 2 - comes_from.abs().amax(-1).numpy()
    seen = np.clip((area - UNCOVERED) / (SHOWN - UNCOVERED), 0, 1) * np.clip(inside / unit, 0, 1)
    share = torch.from_numpy(smoothstep(seen, 0.0, 1.0) * (1 - smoothstep(area, BEGINS, BEHIND)))
    return F.avg_pool2d(F.pad(share[None, None], (1, 1, 1, 1), mode="replicate"), 3, 1)[0, 0]


def _nearby(difference: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
    """A difference where it is known, continued smoothly to where it is not: (1, 3, s, s), (1, 1, s, s) -> (1, 3, s, s)."""
    cells = F.adaptive_avg_pool2d(torch.cat([difference * shown, shown], 1), CELLS)
    wide = F.avg_pool2d(F.pad(cells, (1, 1, 1, 1), mode="replicate"), 3, 1)
    known = wide[:, :3] / (wide[:, 3:] + FADING)
    return F.interpolate(known, size=difference.shape[-2:], mode="bilinear", align_corners=False)
