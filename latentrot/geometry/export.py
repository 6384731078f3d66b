"""Export the head as a textured mesh in one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from latentrot.errors import LatentrotError
from latentrot.files import write_atomically
from latentrot.geometry.head import Head

__all__ = ["as_mesh", "export_head"]

#: step of the exported mesh's grid in region pixels
STEP = 3


def as_mesh(head: Head) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The closed head: front and back surface, joined at their rims.

    Returns:
        (n, 3) points in face widths, x to the viewer's right, y up, z to the viewer; (t, 3) triangles, counter-clockwise
        from outside; (n, 2) texture coordinates from the lower left corner; (h, 2w, 3) uint8 texture, front then back.
    """
    from latentrot.geometry.head import lift_mesh  # noqa: PLC0415
    from latentrot.geometry.triangulate import triangulate_mask  # noqa: PLC0415

    mesh = triangulate_mask(head.outline.to_rest, STEP)
    front, back = lift_mesh(mesh, head.outline, head.front_u, head.back_u, head.region.width)
    count = len(mesh.points)
    rims = _rim_edges(mesh.faces)
    skirt = np.concatenate(
        [np.column_stack([rims[:, 1], rims[:, 0], rims[:, 0] + count]),
         np.column_stack([rims[:, 1], rims[:, 0] + count, rims[:, 1] + count])]
    )  # fmt: skip
    faces = np.concatenate([mesh.faces, mesh.faces[:, ::-1] + count, skirt])
    points = (np.concatenate([front, back]) - head.axis) / head.region.width * np.array([1, -1, 1])
    width, height = head.region.size
    place = np.concatenate([mesh.points, mesh.points + np.array([width, 0])]) / [2 * width, height]
    hair = head.colours.back_tone + head.colours.strands
    texture = np.concatenate([head.colours.front, hair], 1).round().clip(0, 255).astype(np.uint8)
    return points, faces[:, ::-1], np.column_stack([place[:, 0], 1 - place[:, 1]]), texture


def _rim_edges(faces: np.ndarray) -> np.ndarray:
    """Boundary edges (edges of one triangle only), in the orientation of their triangle: (m, 2)."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    _, first, count = np.unique(np.sort(edges, axis=1), axis=0, return_index=True, return_counts=True)
    return edges[first[count == 1]]


def export_head(head: Head, path: Path | str) -> None:
    """Write a head as glTF (.glb) with an embedded texture, atomically.

    Raises:
        LatentrotError: trimesh is not installed, the suffix is wrong, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".glb":
        raise LatentrotError(f"mesh {path}: expected a name ending in .glb, not {path.suffix!r}")
    try:
        import trimesh  # noqa: PLC0415  (optional)
        from trimesh.visual import TextureVisuals  # noqa: PLC0415
        from trimesh.visual.material import PBRMaterial  # noqa: PLC0415
    except ImportError as error:
        raise LatentrotError("writing a mesh needs trimesh: pip install 'latentrot[mesh]'") from error
    points, faces, place, texture = as_mesh(head)
    material = PBRMaterial(baseColorTexture=Image.fromarray(texture), metallicFactor=0.0, roughnessFactor=1.0)
    mesh = trimesh.Trimesh(points, faces, visual=TextureVisuals(uv=place, material=material), process=False)
    write_atomically(path, lambda temporary: mesh.export(temporary, file_type="glb"))
