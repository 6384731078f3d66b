"""Reconstruct a mesh from views of a head: the visual hull of the silhouettes, with the colours and normals of the views."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from latentrot.data.frame import CROP_BOX
from latentrot.errors import LatentrotError, one_line
from latentrot.files import write_atomically
from latentrot.rotators.spin.cameras import DISTANCE_CM, FOCAL_PX, head_center, head_to_camera
from latentrot.rotators.spin.sample import SpinViews

__all__ = ["carve", "export_views", "project"]

#: min and max of the tested radii in cm, and their number
MIN_RADIUS, MAX_RADIUS, RADII = 2.0, 18.0, 65
#: subdivisions of the initial icosphere
SUBDIVISIONS = 5
#: number of smoothing iterations, which remove steps due to low-resolution silhouettes
SMOOTHINGS = 3
#: a point is outside if more than this share of the views that contain it show background there
MAX_BACKGROUND_SHARE = 0.12
#: min length of a drawn normal; shorter ones are background
MIN_NORMAL_LENGTH = 0.5
#: options of trimesh that write vertex normals, by suffix
EXPORT_OPTIONS = {
    ".glb": {"file_type": "glb", "include_normals": True},
    ".ply": {"file_type": "ply", "vertex_normal": True},
}


def project(points: np.ndarray, pose: torch.Tensor) -> np.ndarray:
    """Project points into views.

    Args:
        points: (n, 3) cm from the head's centre, in the axes of the head: x to the viewer's right in a frontal view.
        pose: (v, 2) degrees.

    Returns:
        (v, n, 2) columns and rows, 0 to 1 across the image.
    """
    turned = head_to_camera(pose)
    at = np.einsum("vij,nj->vni", turned.numpy(), points)
    centre = head_center(turned).numpy()[:, None]
    place = FOCAL_PX * at[..., :2] * [1, -1] / (DISTANCE_CM - at[..., 2:]) + centre
    return place / (CROP_BOX[2] - CROP_BOX[0]) + 0.5


def lookup(maps: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values (v, n, c) of maps (v, s, s, c) at positions (v, n, 2) from 0 to 1, and which positions are inside (v, n)."""
    side = maps.shape[1]
    inside = np.asarray(((place >= 0) & (place < 1)).all(-1))
    column, row = (np.clip((place[..., k] * side).astype(int), 0, side - 1) for k in (0, 1))
    return maps[np.arange(len(maps))[:, None], row, column], inside


def as_maps(views: SpinViews) -> np.ndarray:
    """Views as (v, s, s, 6) arrays."""
    return views.images.permute(0, 2, 3, 1).numpy()


def background_share(points: np.ndarray, views: SpinViews) -> np.ndarray:
    """(n,) share of the views that show background at each point (n, 3), among those that contain it."""
    solid = (np.linalg.norm(as_maps(views)[..., 3:], axis=-1, keepdims=True) > MIN_NORMAL_LENGTH).astype(np.float32)
    empty, shown = np.zeros(len(points)), np.zeros(len(points))
    for k in range(len(views)):
        place = project(points, views.pose[k : k + 1])
        value, inside = lookup(solid[k : k + 1], place)
        empty += (inside & (value[..., 0] == 0))[0]
        shown += inside[0]
    return np.where(shown > 0, empty / np.maximum(shown, 1), 1.0)


def carve(directions: np.ndarray, views: SpinViews) -> np.ndarray:
    """Radius of the head in each direction from its centre, cm: a soft visual hull under the assumption of a star shape.

    Source: Laurentini, "The visual hull concept for silhouette-based image understanding", PAMI 1994.

    Args:
        directions: (n, 3) unit vectors in the axes of the head.
        views: from all sides.

    Returns:
        (n,) radii, at least `MIN_RADIUS`.
    """
    radii = np.linspace(MIN_RADIUS, MAX_RADIUS, RADII)
    points = directions[:, None] * radii[:, None]  # (n, RADII, 3)
    outside = background_share(points.reshape(-1, 3), views).reshape(points.shape[:2]) > MAX_BACKGROUND_SHARE
    first = np.where(outside.any(1), outside.argmax(1), RADII - 1)
    return radii[np.maximum(first - 1, 0)]


def colour_points(points: np.ndarray, normals: np.ndarray, views: SpinViews) -> tuple[np.ndarray, np.ndarray]:
    """Colours (n, 3) uint8 and normals (n, 3) of surface points, a mean of the views weighted by how frontal they are."""
    maps = as_maps(views)
    place = project(points, views.pose)
    value, inside = lookup(maps, place)
    turned = head_to_camera(views.pose).numpy()
    facing = np.einsum("vj,nj->vn", turned[:, 2], normals)  # cosine to the viewing direction
    solid = np.linalg.norm(value[..., 3:], axis=-1) > MIN_NORMAL_LENGTH
    weight = np.where(inside & solid & (facing > 0.1), np.maximum(facing, 0) ** 6, 0) + 1e-9
    weight /= weight.sum(0)
    colour = np.einsum("vn,vnc->nc", weight, value[..., :3])
    drawn = np.einsum("vn,vji,vnj->ni", weight, turned, value[..., 3:])  # to the axes of the head
    length = np.linalg.norm(drawn, axis=1, keepdims=True)
    drawn = np.where(length > MIN_NORMAL_LENGTH, drawn / np.maximum(length, 1e-6), normals)
    return np.rint((np.clip(colour, -1, 1) + 1) * 127.5).astype(np.uint8), drawn


def export_views(views: SpinViews, path: Path) -> None:
    """Write a head as glTF (.glb) or PLY (.ply) with vertex colours and normals.

    Args:
        views: from all sides, with absolute poses.
        path: the file; its suffix selects the format.

    Raises:
        LatentrotError: the suffix is not supported, trimesh is missing, or the silhouettes do not intersect.
    """
    options = EXPORT_OPTIONS.get(path.suffix.lower())
    if options is None:
        raise LatentrotError(f"mesh {one_line(path)}: expected a name ending in {' or '.join(EXPORT_OPTIONS)}")
    try:
        import trimesh  # noqa: PLC0415  (optional)
    except ImportError as error:
        raise LatentrotError("writing a mesh needs trimesh: pip install 'latentrot[mesh]'") from error
    sphere = trimesh.creation.icosphere(subdivisions=SUBDIVISIONS)
    radii = carve(sphere.vertices, views)
    if not (radii > MIN_RADIUS).mean() > 0.5:
        raise LatentrotError(f"the silhouettes of the {len(views)} views do not intersect; no mesh is written")
    for _ in range(SMOOTHINGS):  # average each radius with the mean of its neighbours
        radii = (radii + np.array([radii[near].mean() for near in sphere.vertex_neighbors])) / 2
    hull = trimesh.Trimesh(sphere.vertices * radii[:, None], sphere.faces, process=False)
    colours, normals = colour_points(hull.vertices, hull.vertex_normals, views)
    mesh = trimesh.Trimesh(hull.vertices, hull.faces, vertex_normals=normals, vertex_colors=colours, process=False)
    write_atomically(path, lambda temporary: mesh.export(temporary, **options))
