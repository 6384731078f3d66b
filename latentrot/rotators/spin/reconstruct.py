"""A head as a mesh from its views: the hull of their silhouettes, its normals and colours those that were drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from latentrot.data.frame import CROP_BOX
from latentrot.errors import LatentrotError, one_line
from latentrot.files import write_atomically
from latentrot.rotators.spin.cameras import DISTANCE, FOCAL, held_at, rotation
from latentrot.rotators.spin.sample import SpinViews

__all__ = ["carve", "export_views", "seen_in"]

#: radii that are tried, cm, and how many
NEAREST, MAX_DISTANCE, STEPS = 2.0, 18.0, 65
#: of the sphere whose points are moved: each halves its edges
FINENESS = 5
#: rounds of smoothing, against the grain of small silhouettes
SMOOTHINGS = 3
#: a place is outside where this share of the views that show it have background there
OUTSIDE = 0.12
#: a drawn normal shorter than this is background
BACKGROUND = 0.5
#: what trimesh is told for normals at the points, by suffix
WRITTEN_WITH = {
    ".glb": {"file_type": "glb", "include_normals": True},
    ".ply": {"file_type": "ply", "vertex_normal": True},
}


def seen_in(points: np.ndarray, pose: torch.Tensor) -> np.ndarray:
    """Where points appear in views.

    Args:
        points: (n, 3) cm from the head's middle, in its own axes: x to the viewer's right when it faces the viewer.
        pose: (v, 2) degrees.

    Returns:
        (v, n, 2) columns and rows as shares of the image's side.
    """
    turned = rotation(pose)
    at = np.einsum("vij,nj->vni", turned.numpy(), points)
    centre = held_at(turned).numpy()[:, None]
    place = FOCAL * at[..., :2] * [1, -1] / (DISTANCE - at[..., 2:]) + centre
    return place / (CROP_BOX[2] - CROP_BOX[0]) + 0.5


def lookup(maps: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values (v, n, c) of maps (v, s, s, c) at shares of their side (v, n, 2), and where those lie inside (v, n)."""
    side = maps.shape[1]
    inside = np.asarray(((place >= 0) & (place < 1)).all(-1))
    column, row = (np.clip((place[..., k] * side).astype(int), 0, side - 1) for k in (0, 1))
    return maps[np.arange(len(maps))[:, None], row, column], inside


def as_maps(views: SpinViews) -> np.ndarray:
    """Views as (v, s, s, 6) arrays."""
    return views.images.permute(0, 2, 3, 1).numpy()


def emptiness(points: np.ndarray, views: SpinViews) -> np.ndarray:
    """(n,) share of the views that show background where a point (n, 3) is, among those in which it is seen at all."""
    solid = (np.linalg.norm(as_maps(views)[..., 3:], axis=-1, keepdims=True) > BACKGROUND).astype(np.float32)
    empty, shown = np.zeros(len(points)), np.zeros(len(points))
    for k in range(len(views)):
        place = seen_in(points, views.pose[k : k + 1])
        value, inside = lookup(solid[k : k + 1], place)
        empty += (inside & (value[..., 0] == 0))[0]
        shown += inside[0]
    return np.where(shown > 0, empty / np.maximum(shown, 1), 1.0)


def carve(directions: np.ndarray, views: SpinViews) -> np.ndarray:
    """How far the head reaches in each direction from its middle, cm: until a share of the views show background.

    Laurentini, "The visual hull concept for silhouette-based image understanding", PAMI 1994, made soft, of a head taken for
    star-shaped about its middle.

    Args:
        directions: (n, 3) unit vectors in the head's axes.
        views: from all around.

    Returns:
        (n,) radii, at least `NEAREST`.
    """
    radii = np.linspace(NEAREST, MAX_DISTANCE, STEPS)
    points = directions[:, None] * radii[:, None]  # (n, STEPS, 3)
    outside = emptiness(points.reshape(-1, 3), views).reshape(points.shape[:2]) > OUTSIDE
    first = np.where(outside.any(1), outside.argmax(1), STEPS - 1)
    return radii[np.maximum(first - 1, 0)]


def painted(points: np.ndarray, normals: np.ndarray, views: SpinViews) -> tuple[np.ndarray, np.ndarray]:
    """Colours (n, 3) uint8 and normals (n, 3) of a surface's points, from the views that see them best."""
    maps = as_maps(views)
    place = seen_in(points, views.pose)
    value, inside = lookup(maps, place)
    turned = rotation(views.pose).numpy()
    facing = np.einsum("vj,nj->vn", turned[:, 2], normals)  # towards each camera
    solid = np.linalg.norm(value[..., 3:], axis=-1) > BACKGROUND
    weight = np.where(inside & solid & (facing > 0.1), np.maximum(facing, 0) ** 6, 0) + 1e-9
    weight /= weight.sum(0)
    colour = np.einsum("vn,vnc->nc", weight, value[..., :3])
    drawn = np.einsum("vn,vji,vnj->ni", weight, turned, value[..., 3:])  # back to the head's axes
    length = np.linalg.norm(drawn, axis=1, keepdims=True)
    drawn = np.where(length > BACKGROUND, drawn / np.maximum(length, 1e-6), normals)
    return np.rint((np.clip(colour, -1, 1) + 1) * 127.5).astype(np.uint8), drawn


def export_views(views: SpinViews, path: Path) -> None:
    """Write a head as glTF (.glb) or PLY (.ply) with colours and normals at its points, whole or not at all.

    Args:
        views: from all around; poses relative to the head's front.
        path: the file; its suffix chooses the format.

    Raises:
        LatentrotError: another suffix, trimesh is missing, or the silhouettes have nothing in common.
    """
    options = WRITTEN_WITH.get(path.suffix.lower())
    if options is None:
        raise LatentrotError(f"mesh {one_line(path)}: expected a name ending in {' or '.join(WRITTEN_WITH)}")
    try:
        import trimesh  # noqa: PLC0415  (optional)
    except ImportError as error:
        raise LatentrotError("writing a mesh needs trimesh: pip install 'latentrot[mesh]'") from error
    sphere = trimesh.creation.icosphere(subdivisions=FINENESS)
    radii = carve(sphere.vertices, views)
    if not (radii > NEAREST).mean() > 0.5:
        raise LatentrotError(f"the silhouettes of the {len(views)} views have too little in common; no mesh is written")
    for _ in range(SMOOTHINGS):  # each radius, and the mean of its neighbours'
        radii = (radii + np.array([radii[near].mean() for near in sphere.vertex_neighbors])) / 2
    hull = trimesh.Trimesh(sphere.vertices * radii[:, None], sphere.faces, process=False)
    colours, normals = painted(hull.vertices, hull.vertex_normals, views)
    mesh = trimesh.Trimesh(hull.vertices, hull.faces, vertex_normals=normals, vertex_colors=colours, process=False)
    write_atomically(path, lambda temporary: mesh.export(temporary, **options))
