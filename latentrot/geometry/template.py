"""The whole head of a statistical face model: face, ears, skull and neck, closed at eyes and mouth.

The head is a piece of ICT Face Model Light (see `latentrot.geometry.surface`, whose axes, lengths and modes it shares) at
its full resolution. The surface there is what landmarks are fitted to; this head is what is rendered after large rotations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from latentrot.bundles import HOME
from latentrot.geometry.surface import EXPRESSIONS, ICT_FACE, ICT_LANDMARKS, ICT_NARROW, IDENTITIES
from latentrot.geometry.triangulate import edges_of
from latentrot.synthetic.ict import IctModel
from latentrot.synthetic.pieces import load_piece, write_piece

__all__ = ["TEMPLATE_PATH", "HeadTemplate", "load_template", "make_template", "write_template"]

KIND = "head template"
#: path of the bundled template
TEMPLATE_PATH = HOME / "head" / "head_template.safetensors"
#: extent of a boundary loop (mean face widths) below which it is closed: eyes and mouth, not the neck's lower end
LOOP_MAX = 0.6
#: box that holds an ear: beyond this |x|, between these y, behind this z
EAR_X, EAR_Y, EAR_Z = 0.495, (-0.07, 0.42), 0.02


@dataclass(frozen=True, eq=False)
class HeadTemplate:
    """The mean head and its modes of variation. Lengths in mean face widths, origin between the ears' contour landmarks.

    Args:
        mean: (v, 3) float32, x to the viewer's right, y downwards, z towards the viewer.
        modes: (m, v, 3) float32, identities then expressions, in the order of the fitted surface's weights.
        faces: (t, 3) int32, clockwise in image coordinates when seen from outside.
        mirror: (v,) int64, the vertex across the plane x = 0.
        ear: (v,) bool.
        visibility: (v,) float32 ambient visibility, 0 to 1.
        corners: (p,) int64 the vertex of each texture position; a vertex on a seam has several.
        uv: (p, 2) float32 texture positions, 0 to 2 to the right, 0 to 1 upwards.
        uv_faces: (t, 3) int32 `faces` as numbers of texture positions.
    """

    mean: np.ndarray
    modes: np.ndarray
    faces: np.ndarray
    mirror: np.ndarray
    ear: np.ndarray
    visibility: np.ndarray
    corners: np.ndarray
    uv: np.ndarray
    uv_faces: np.ndarray

    def shape(self, weights: np.ndarray) -> np.ndarray:
        """(v, 3) float64 vertices for (m,) mode coefficients."""
        return self.mean + np.tensordot(weights, self.modes, 1)


def make_template(ict: IctModel) -> HeadTemplate:
    """Cut the head out of the face model and close its eyes and mouth."""
    from scipy.spatial import cKDTree  # noqa: PLC0415  slow to import, as the next

    from latentrot.synthetic.head_model import OUTER_VERTICES, ambient_visibility  # noqa: PLC0415

    base = ict.base[:OUTER_VERTICES].astype(np.float64)
    names = [str(n) for n in ict.mats]
    skin = np.isin(ict.mat, [names.index("M_Face"), names.index("M_BackHead")])
    outside = skin & (ict.faces.max(1) < OUTER_VERTICES)
    outer, uv_faces = ict.faces[outside], ict.uvfaces[outside][:, ::-1]
    visibility = ambient_visibility(base.astype(np.float32), outer.astype(np.int32))
    flip, marks = np.array([1.0, -1.0, 1.0]), list(ICT_LANDMARKS)
    unit, origin = np.ptp(base[marks[:17], 0]), base[[marks[0], marks[16]]].mean(0)
    shown = [str(n) for n in ict.expr_names]
    modes = np.concatenate([ict.ids[:IDENTITIES], ict.expr[[shown.index(n) for n in EXPRESSIONS]]])
    modes = modes[:, :OUTER_VERTICES].astype(np.float64) * flip / unit
    mean = (base - origin) * flip / unit
    faces = outer[:, ::-1]  # y points downwards, which reverses the orientation
    loops = [loop for loop in boundary_loops(faces) if np.ptp(mean[loop], axis=0).max() < LOOP_MAX]
    fans = [np.stack([np.roll(loop, -1), loop, np.full(len(loop), len(mean) + k)], 1) for k, loop in enumerate(loops)]
    mean = np.concatenate([mean, np.stack([mean[loop].mean(0) for loop in loops])])
    modes = np.concatenate([modes, np.stack([modes[:, loop].mean(1) for loop in loops], 1)], 1)
    pairs, at = np.unique(np.stack([faces.ravel(), uv_faces.ravel()], 1), axis=0, return_inverse=True)
    first = np.zeros(len(base), np.int64)
    first[pairs[::-1, 0]] = np.arange(len(pairs))[::-1]
    uv, uv_fans = ict.uv[pairs[:, 1]].astype(np.float64), []
    for k, loop in enumerate(loops):
        ring = first[loop]
        uv_fans.append(np.stack([np.roll(ring, -1), ring, np.full(len(loop), len(uv) + k)], 1))
    uv = np.concatenate([uv, np.stack([uv[first[loop]].mean(0) for loop in loops])])
    mirror = np.asarray(cKDTree(mean).query(mean * [-1, 1, 1])[1], np.int64)
    mean = (mean + mean[mirror] * [-1, 1, 1]) / 2
    visibility = np.concatenate([visibility, [visibility[loop].mean() for loop in loops]])
    x, y, z = mean.T
    number = np.arange(len(mean))
    ear = (np.abs(x) > EAR_X) & (y > EAR_Y[0]) & (y < EAR_Y[1]) & (z < EAR_Z)
    ear &= (number >= ICT_NARROW) & (number < ICT_FACE)
    return HeadTemplate(
        mean=mean.astype(np.float32),
        modes=modes.astype(np.float32),
        faces=np.concatenate([faces, *fans]).astype(np.int32),
        mirror=mirror,
        corners=np.concatenate([pairs[:, 0], np.arange(len(base), len(mean))]),
        uv=uv.astype(np.float32),
        uv_faces=np.concatenate([at.reshape(-1, 3), *uv_fans]).astype(np.int32),
        ear=ear,
        visibility=((visibility + visibility[mirror]) / 2).astype(np.float32),
    )


def boundary_loops(faces: np.ndarray) -> list[np.ndarray]:
    """Closed chains of the edges (a, b) that belong to one triangle only, each as its vertices in order."""
    edges = edges_of(faces).tolist()
    every = {(a, b) for a, b in edges}
    following = {a: b for a, b in edges if (b, a) not in every}
    loops = []
    while following:
        start, at = next(iter(following.items()))
        loop = [start]
        del following[start]
        while at != start and at in following:
            loop.append(at)
            at = following.pop(at)
        loops.append(np.array(loop))
    return loops


def write_template(template: HeadTemplate, path: Path | str = TEMPLATE_PATH) -> None:
    """Write a template in half precision, atomically."""
    write_piece(Path(path), KIND, vars(template))


@lru_cache(maxsize=1)
def load_template(path: Path | str = TEMPLATE_PATH) -> HeadTemplate:
    """Read a template; the last one is cached.

    Raises:
        LatentrotError: the file is missing or holds something else.
    """
    return load_piece(path, KIND, HeadTemplate)
