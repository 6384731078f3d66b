"""A z-buffer rasteriser on a grid of samples; a mirrored scene gives the mirrored result bit for bit.

Columns are counted from the axis of the image: the centre of sample i of n lies at i + 0.5 - n/2. Mirroring a triangle then
only changes signs of columns and products, and no rounding. Of two triangles at the same depth the first in the list is
visible, mirrored or not.
"""

from __future__ import annotations

import numpy as np

from latentrot.kernels import kernel

__all__ = ["NOTHING", "edge", "rasterise", "vertex_normals"]

#: value of a sample without a triangle
NOTHING = -1


@kernel
def edge(ax: float, ay: float, bx: float, by: float, px: float, py: float) -> float:
    """Twice the signed area of the triangle a, b, p."""
    return (bx - ax) * (py - ay) - (by - ay) * (px - ax)


@kernel
def rasterise(
    points: np.ndarray, faces: np.ndarray, cut: np.ndarray, cut_from: int, depth: np.ndarray, seen: np.ndarray
) -> None:
    """Find the nearest triangle at every sample.

    Args:
        points: (v, 3) float64 column and row in samples from the centre of the grid, and nearness (larger is nearer).
        faces: (t, 3) int32.
        cut: (v,) float32; a triangle is transparent where the interpolated value is below 0 (beyond the hair).
        cut_from: index of the first triangle to which `cut` applies.
        depth: (h, w) float64, receives the visible depth; must be initialised with -inf.
        seen: (h, w) int32, receives the visible triangle; must be initialised with NOTHING.
    """
    height, width = depth.shape
    half_w, half_h = width / 2, height / 2
    for t in range(faces.shape[0]):
        a, b, c = faces[t]
        ax, ay, az = points[a, 0], points[a, 1], points[a, 2]
        bx, by, bz = points[b, 0], points[b, 1], points[b, 2]
        cx, cy, cz = points[c, 0], points[c, 1], points[c, 2]
        low_x, high_x = min(ax, bx, cx), max(ax, bx, cx)
        low_y, high_y = min(ay, by, cy), max(ay, by, cy)
        if high_x < -half_w or low_x > half_w or high_y < -half_h or low_y > half_h:
            continue
        area = edge(ax, ay, bx, by, cx, cy)
        if area == 0.0:
            continue
        # slightly enlarged bounds; the exact, symmetric inside test follows below
        first_i = max(0, int(np.ceil(low_x + half_w - 0.501)))
        last_i = min(width - 1, int(np.floor(high_x + half_w - 0.499)))
        first_j = max(0, int(np.ceil(low_y + half_h - 0.501)))
        last_j = min(height - 1, int(np.floor(high_y + half_h - 0.499)))
        for j in range(first_j, last_j + 1):
            py = j + 0.5 - half_h
            for i in range(first_i, last_i + 1):
                px = i + 0.5 - half_w
                wa = edge(bx, by, cx, cy, px, py) / area
                wb = edge(cx, cy, ax, ay, px, py) / area
                wc = edge(ax, ay, bx, by, px, py) / area
                if wa < 0 or wb < 0 or wc < 0:
                    continue
                z = wa * az + wb * bz + wc * cz
                if z <= depth[j, i]:
                    continue
                if t >= cut_from and wa * cut[a] + wb * cut[b] + wc * cut[c] < 0:
                    continue
                depth[j, i] = z
                seen[j, i] = t


@kernel
def vertex_normals(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals (v, 3): the area-weighted mean of the normals of the adjacent triangles."""
    normals = np.zeros_like(points)
    for t in range(faces.shape[0]):
        a, b, c = faces[t]
        ux, uy, uz = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
        vx, vy, vz = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for v in faces[t]:
            normals[v, 0] += nx
            normals[v, 1] += ny
            normals[v, 2] += nz
    for v in range(normals.shape[0]):
        x, y, z = normals[v, 0], normals[v, 1], normals[v, 2]
        length = np.sqrt(x * x + y * y + z * z) + 1e-12
        normals[v, 0], normals[v, 1], normals[v, 2] = x / length, y / length, z / length
    return normals
