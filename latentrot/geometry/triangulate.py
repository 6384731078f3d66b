"""Triangle mesh over the pixels of a mask, cut between pixels at its edge (marching squares)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["PlanarMesh", "edges_of", "triangulate_mask"]


@dataclass(frozen=True, eq=False)
class PlanarMesh:
    """A planar triangle mesh.

    Args:
        points: (n, 2) float32 positions, edges at pixel borders.
        faces: (t, 3) int32, clockwise in the image.
        rim: (n,) bool, vertices on the mask's edge.
    """

    points: np.ndarray
    faces: np.ndarray
    rim: np.ndarray


def _polygons() -> list[np.ndarray]:
    """For each of the 16 cases (bit c: corner c inside) triangles of corners 0-3 and edge points 4-7, clockwise."""
    table = []
    for case in range(16):
        inside = [case >> c & 1 for c in range(4)]
        ring = []
        for c in range(4):
            ring += [c] * inside[c] + [4 + c] * (inside[c] != inside[(c + 1) % 4])
        table.append(
            np.array([(ring[0], ring[i], ring[i + 1]) for i in range(1, len(ring) - 1)], np.int64).reshape(-1, 3)
        )
    return table


POLYGONS = _polygons()


def triangulate_mask(field: np.ndarray, step: int = 1) -> PlanarMesh:
    """Triangulate the part of an image where a field is positive.

    Args:
        field: (h, w) float32, for example a signed distance in pixels, positive inside, given at pixel centres.
        step: grid spacing in pixels.
    """
    f = field[::step, ::step]
    height, width = f.shape
    inside = f > 0
    corners = [(0, 0), (0, 1), (1, 1), (1, 0)]  # row, column: clockwise in the image
    case = np.zeros((height - 1, width - 1), np.int64)
    for i, (r, c) in enumerate(corners):
        case |= inside[r : height - 1 + r, c : width - 1 + c].astype(np.int64) << i
    node = np.arange(height * width).reshape(height, width)
    across, down = height * width + node, 2 * height * width + node  # ids of edge points, by their first grid point
    rows, columns = np.nonzero(case)
    here = [node[rows + r, columns + c] for r, c in corners]
    edges = [across[rows, columns], down[rows, columns + 1], across[rows + 1, columns], down[rows, columns]]
    names = np.stack(here + edges, 1)
    faces = []
    for number, triangles in enumerate(POLYGONS):
        chosen = names[case[rows, columns] == number]
        if len(triangles) and len(chosen):
            faces.append(chosen[:, triangles].reshape(-1, 3))
    if not faces:
        return PlanarMesh(np.zeros((0, 2), np.float32), np.zeros((0, 3), np.int32), np.zeros(0, bool))
    used, numbered = np.unique(np.concatenate(faces), return_inverse=True)
    points, rim = _positions(used, f)
    return PlanarMesh((points * step + 0.5).astype(np.float32), numbered.reshape(-1, 3).astype(np.int32), rim)


def _positions(used: np.ndarray, f: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Grid positions (column, row) of point ids, and which of them are edge points."""
    count, width = f.size, f.shape[1]
    kind, first = used // count, used % count
    start = np.stack([first % width, first // width], 1).astype(np.float64)
    along = np.stack([kind == 1, kind == 2], 1).astype(np.float64)
    second = np.minimum(first + np.where(kind == 1, 1, np.where(kind == 2, width, 0)), count - 1)
    a, b = f.ravel()[first].astype(np.float64), f.ravel()[second].astype(np.float64)
    share = np.where(kind > 0, a / np.where(a == b, 1, a - b), 0)
    return start + along * share[:, None], kind > 0


def edges_of(faces: np.ndarray) -> np.ndarray:
    """(3t, 2) directed edges of triangles (t, 3): all first sides, all second, all third."""
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
