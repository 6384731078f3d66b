"""Depth and normals of a head in a view, as 16-bit images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from latentrot.errors import LatentrotError, one_line
from latentrot.files import write_atomically
from latentrot.geometry.camera import AXES
from latentrot.geometry.draw import draw
from latentrot.geometry.head import Head
from latentrot.geometry.turn import turned_surfaces, without_slivers
from latentrot.geometry.whole_view import whole_mesh
from latentrot.synthetic.raster import vertex_normals

__all__ = [
    "DEPTH_UNIT",
    "DEPTH_ZERO",
    "depth_as_16_bit",
    "depth_of",
    "normals_as_16_bit",
    "surface_maps",
    "write_16_bit",
]

#: encoding of 16-bit depths: value at the depth of the head's axis, and values per face width; 0 marks the background
DEPTH_ZERO, DEPTH_UNIT = 32_768, 16_384


def surface_maps(head: Head, turn: np.ndarray, whole: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Depth and normal maps of a rotated head in its photograph; the mean ears that replace hidden ones are left out.

    Args:
        head: fitted to the photograph.
        turn: (3, 3) rotation in its region, from `latentrot.geometry.camera.view_matrix`.
        whole: of the whole head, not of its front and back surface.

    Returns:
        (h, w) float32 depths in face widths, relative to the head's axis, positive towards the viewer, NaN outside the
        head; (h, w, 3) float32 unit normals, x to the viewer's right, y up, z towards the viewer, 0 outside the head.
    """
    region = head.region
    points, faces = whole_mesh(head, turn) if whole else turned_surfaces(head, turn)[:2]
    left, top, right, bottom = region.box()
    placed = np.column_stack([region.to_photo(points[:, :2]) - [left, top], points[:, 2] / region.width])
    in_pixels = placed * [1, 1, region.width / region.scale]
    size = right - left, bottom - top
    values, shown, depth = draw(placed, faces, vertex_normals(in_pixels, faces), np.ones(len(faces)), size)
    there = without_slivers(shown, region.width / region.scale)
    width, height = region.photo_size
    depths, normals = np.full((height, width), np.nan, np.float32), np.zeros((height, width, 3), np.float32)
    depths[top:bottom, left:right][there] = depth[there]
    length = np.maximum(np.linalg.norm(values[there], axis=1, keepdims=True), 1e-6)
    normals[top:bottom, left:right][there] = values[there] / length * AXES
    return depths, normals


def depth_as_16_bit(depth: np.ndarray) -> np.ndarray:
    """Encode (h, w) depths in face widths as (h, w) uint16; NaN becomes 0."""
    levels = np.clip(np.rint(DEPTH_ZERO + DEPTH_UNIT * np.nan_to_num(depth)), 1, 65_535)
    return np.where(np.isnan(depth), 0, levels).astype(np.uint16)


def depth_of(values: np.ndarray) -> np.ndarray:
    """Decode the output of `depth_as_16_bit`: (h, w) uint16 -> (h, w) float32 face widths, NaN outside the head."""
    depth = (values.astype(np.float32) - DEPTH_ZERO) / DEPTH_UNIT
    return np.where(values == 0, np.nan, depth).astype(np.float32)


def normals_as_16_bit(normals: np.ndarray) -> np.ndarray:
    """Encode (h, w, 3) unit normals as (h, w, 3) uint16: -1 to 1 become 1 to 65535, outside the head 0."""
    there = normals.any(2, keepdims=True)
    return np.where(there, np.rint(32_768 + 32_767 * normals), 0).astype(np.uint16)


def write_16_bit(path: Path, values: np.ndarray) -> None:
    """Write (h, w) or (h, w, 3) uint16 as a PNG.

    Raises:
        LatentrotError: it cannot be written.
    """
    done, content = cv2.imencode(".png", values if values.ndim == 2 else values[..., ::-1])
    if not done:
        raise LatentrotError(f"cannot store {values.shape} {values.dtype} values in {one_line(path)}")
    write_atomically(path, lambda p: p.write_bytes(content.tobytes()))
