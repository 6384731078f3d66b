"""An ear model cut from ICT Face Model Light, with the shade in its hollows, which frontal photographs do not show.

Lengths are widths of the mean face, measured from the contour landmark in front of the ear; x grows away from the head, y
*downwards*, z towards the viewer of a frontal face. The model is the ear on the viewer's right; the other one is mirrored.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from latentrot.bundles import HOME
from latentrot.geometry.surface import ICT_FACE, ICT_LANDMARKS, ICT_NARROW, rotation
from latentrot.geometry.triangulate import edges_of
from latentrot.synthetic.ict import IctModel
from latentrot.synthetic.pieces import load_piece, write_piece
from latentrot.synthetic.raster import NOTHING, rasterise

__all__ = ["EAR_PATH", "EarModel", "load_ear", "make_ear", "write_ear"]

KIND = "ear"
#: path of the bundled ear
EAR_PATH = HOME / "head" / "ear.safetensors"
#: box around an ear of the face model, in mean face widths from the contour landmark
LOWEST, HIGHEST, INNERMOST, FOREMOST = 0.42, -0.06, -0.05, -0.005
#: number of light directions for measuring the shade of the hollows, and side in pixels of the renderings
LIGHTS, SIDE = 200, 700
#: width of the fade at the cut, and depth beyond which an edge is the ear canal and not the cut, in mean face widths
FADE, DEEP = 0.05, -0.03
#: a point farther than this behind the visible surface is shaded, mean face widths
BEHIND = 0.006


@dataclass(frozen=True, eq=False)
class EarModel:
    """The mean ear on the viewer's right.

    Args:
        points: (v, 3) float32.
        faces: (t, 3) int32, clockwise in image coordinates when seen from outside.
        shade: (v,) float32 brightness under light from all outer directions, 1 on average.
        whole: (v,) float32, 0 at the cut from the head, rising to 1 a little away from it.
    """

    points: np.ndarray
    faces: np.ndarray
    shade: np.ndarray
    whole: np.ndarray


def make_ear(ict: IctModel) -> EarModel:
    """Cut the ear out of the face model and measure how dark its hollows are."""
    base, marks = ict.base[:ICT_FACE].astype(np.float64), list(ICT_LANDMARKS)
    points = (base - base[marks[16]]) * np.array([1.0, -1.0, 1.0]) / np.ptp(base[marks[:17], 0])
    faces = ict.faces[(ict.faces < ICT_FACE).all(1)][:, ::-1].astype(np.int32)
    inside = (np.arange(ICT_FACE) >= ICT_NARROW) & (points[:, 1] < LOWEST) & (points[:, 1] > HIGHEST)
    inside &= (points[:, 0] > INNERMOST) & (points[:, 2] < FOREMOST)
    shade = _light_from_outside(points, faces)[inside]
    number = np.full(ICT_FACE, -1)
    number[inside] = np.arange(inside.sum())
    kept, own = number[faces], points[inside]
    kept = kept[(kept >= 0).all(1)]
    return EarModel(
        points=own.astype(np.float32),
        faces=kept.astype(np.int32),
        shade=(shade / shade.mean()).astype(np.float32),
        whole=np.clip(_off_the_cut(own, kept) / FADE, 0, 1).astype(np.float32),
    )


def _light_from_outside(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(v,) share of the lights on the viewer's right that reach each point: the share of renderings that show it."""
    reached, rng = np.zeros(len(points)), np.random.default_rng(0)
    whole = np.zeros(len(points), np.float32), len(faces)  # nothing is cut off
    for yaw, pitch in zip(
        np.degrees(np.arcsin(rng.uniform(-1, 0.2, LIGHTS))), rng.uniform(-50, 50, LIGHTS), strict=True
    ):
        turned = points @ rotation(yaw, pitch).T
        placed = np.column_stack([turned[:, :2] * SIDE / 3, turned[:, 2]])
        depth, seen = np.full((SIDE, SIDE), -np.inf), np.full((SIDE, SIDE), NOTHING, np.int32)
        rasterise(placed, faces, *whole, depth, seen)
        column, row = np.clip(np.round(placed[:, :2] + SIDE / 2 - 0.5).astype(int), 0, SIDE - 1).T
        reached += turned[:, 2] > depth[row, column] - BEHIND
    return reached / LIGHTS


def _off_the_cut(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(v,) distance to the boundary edges of the mesh; the boundary of the ear canal does not count."""
    edges = np.sort(edges_of(faces), axis=1)
    edges, times = np.unique(edges, axis=0, return_counts=True)
    cut = points[np.unique(edges[times == 1])]
    cut = cut[cut[:, 0] > DEEP]
    return np.linalg.norm(points[:, None] - cut, axis=-1).min(1)


def write_ear(ear: EarModel, path: Path | str = EAR_PATH) -> None:
    """Write an ear in half precision, atomically."""
    write_piece(Path(path), KIND, vars(ear))


@lru_cache(maxsize=1)
def load_ear(path: Path | str = EAR_PATH) -> EarModel:
    """Read an ear; the last one is cached.

    Raises:
        LatentrotError: the file is missing or holds something else.
    """
    return load_piece(path, KIND, EarModel)
