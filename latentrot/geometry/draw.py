"""A triangle rasteriser with a depth buffer, in parallel bands."""

from __future__ import annotations

import numpy as np

from latentrot.kernels import in_bands, kernel

__all__ = ["BACK", "FRONT", "NONE", "draw"]

#: what a pixel shows: nothing, the front surface, the back surface
NONE, FRONT, BACK = 0, 1, 2
NOTHING = -1e9


def draw(
    points: np.ndarray, faces: np.ndarray, values: np.ndarray, kind: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rasterise the triangles that face the viewer (clockwise in the image); nearer triangles hide farther ones.

    Args:
        points: (n, 3) positions, edges at pixel borders, z towards the viewer.
        faces: (t, 3) vertices.
        values: (n, k) values to interpolate.
        kind: (t,) kind of each triangle, greater than 0.
        size: width and height of the image.

    Returns:
        (h, w, k) values, (h, w) kinds (0: nothing), (h, w) depths.
    """
    width, height = size
    value = np.zeros((height, width, values.shape[1]), np.float32)
    shown = np.zeros((height, width), np.uint8)
    depth = np.full((height, width), NOTHING, np.float32)
    in_bands(
        _draw, height,
        np.ascontiguousarray(points, np.float32), np.ascontiguousarray(faces, np.int32),
        np.ascontiguousarray(values, np.float32), np.ascontiguousarray(kind, np.uint8), value, shown, depth,
    )  # fmt: skip
    return value, shown, depth


@kernel(fastmath=True, error_model="numpy")
def _draw(first, last, points, faces, values, kind, value, shown, depth):  # noqa: ANN001, ANN202  (numba)
    width = shown.shape[1]
    for t in range(len(faces)):
        i, j, k = faces[t]
        ay, by, cy = points[i, 1], points[j, 1], points[k, 1]
        top = max(first, int(np.ceil(min(ay, by, cy) - 0.5)))
        bottom = min(last - 1, int(np.floor(max(ay, by, cy) - 0.5)))
        if top > bottom:
            continue
        ax, bx, cx = points[i, 0], points[j, 0], points[k, 0]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area <= 1e-9:
            continue
        left = max(0, int(np.ceil(min(ax, bx, cx) - 0.5)))
        right = min(width - 1, int(np.floor(max(ax, bx, cx) - 0.5)))
        for row in range(top, bottom + 1):
            y = row + 0.5
            for column in range(left, right + 1):
                x = column + 0.5
                a = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / area
                b = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / area
                c = 1 - a - b
                if a < -1e-4 or b < -1e-4 or c < -1e-4:
                    continue
                z = a * points[i, 2] + b * points[j, 2] + c * points[k, 2]
                if z > depth[row, column]:
                    depth[row, column] = z
                    shown[row, column] = kind[t]
                    for v in range(values.shape[1]):
                        value[row, column, v] = a * values[i, v] + b * values[j, v] + c * values[k, v]
