"""Export the head as a textured mesh, with the camera that projects it onto the head in the photograph."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from latentrot.errors import LatentrotError, one_line
from latentrot.files import write_atomically
from latentrot.geometry.camera import MeshPose, camera_of, frontal
from latentrot.geometry.head import Head

__all__ = ["MESHES", "as_mesh", "camera_entry", "export_head", "mesh_files"]

#: suffixes of the supported mesh formats
MESHES = (".glb", ".obj", ".ply")
#: step of the exported mesh's grid in region pixels
STEP = 3
#: material of an OBJ: the unlit texture, without highlights
MATERIAL = "newmtl head\nKa 1 1 1\nKd 1 1 1\nKs 0 0 0\nillum 1\nmap_Kd {texture}\n"


def as_mesh(head: Head, pose: MeshPose = "photograph") -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Convert a head to a closed mesh: front and back surface, joined at their rims.

    Args:
        head: fitted to a photograph.
        pose: frontal, or as in the photograph.

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
    if pose == "frontal":
        points = frontal(head, points)
    return points, faces[:, ::-1], np.column_stack([place[:, 0], 1 - place[:, 1]]), texture


def _rim_edges(faces: np.ndarray) -> np.ndarray:
    """Boundary edges (edges of one triangle only), in the orientation of their triangle: (m, 2)."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    _, first, count = np.unique(np.sort(edges, axis=1), axis=0, return_index=True, return_counts=True)
    return edges[first[count == 1]]


def mesh_files(path: Path) -> list[Path]:
    """List the files of an exported mesh: the mesh; for an OBJ also material and texture; and the camera.

    Raises:
        LatentrotError: the suffix is not supported.
    """
    if path.suffix.lower() not in MESHES:
        raise LatentrotError(
            f"mesh {one_line(path)}: expected a name ending in {', '.join(MESHES)}, not {path.suffix!r}"
        )
    beside = (".mtl", ".texture.png") if path.suffix.lower() == ".obj" else ()
    return [path, *(path.with_suffix(s) for s in (*beside, ".camera.json"))]


def export_head(head: Head, path: Path | str, pose: MeshPose = "photograph") -> list[Path]:
    """Write a head, each file atomically.

    Args:
        head: fitted to a photograph.
        path: .glb (glTF, its texture inside), .obj (with .mtl and .texture.png beside it) or .ply (colours at
            the points).
        pose: frontal, or as in the photograph.

    Returns:
        The files written, the last one the camera (.camera.json).

    Raises:
        LatentrotError: trimesh is not installed, the suffix is wrong, or a file cannot be written.
    """
    path = Path(path)
    files = mesh_files(path)
    if path.suffix.lower() == ".obj":
        write_obj(path, *as_mesh(head, pose))
    else:
        write_with_trimesh(path, *as_mesh(head, pose))
    height, width = head.photograph.shape[:2]
    entry = camera_entry(camera_of(head, pose=pose), (width, height))
    text = json.dumps({"kind": "latentrot camera", "format": 1, "pose": pose, **entry}, indent=1) + "\n"
    write_atomically(files[-1], lambda p: p.write_text(text, encoding="utf-8"))
    return files


def camera_entry(camera: np.ndarray, size: tuple[int, int]) -> dict[str, object]:
    """Convert a (3, 4) camera and the image's width and height to a JSON entry."""
    return {"camera": camera.round(9).tolist(), "width": size[0], "height": size[1]}


def write_with_trimesh(
    path: Path, points: np.ndarray, faces: np.ndarray, place: np.ndarray, texture: np.ndarray
) -> None:
    """Write a mesh as glTF or PLY; arguments from `as_mesh`."""
    try:
        import trimesh  # noqa: PLC0415  (optional)
        from trimesh.visual import TextureVisuals  # noqa: PLC0415
        from trimesh.visual.material import PBRMaterial  # noqa: PLC0415
    except ImportError as error:
        raise LatentrotError(
            f"writing {one_line(path)} needs trimesh: pip install 'latentrot[mesh]'; an .obj does not"
        ) from error
    if path.suffix.lower() == ".ply":
        row, column = ((1 - place[:, 1]) * len(texture)).astype(int), (place[:, 0] * texture.shape[1]).astype(int)
        colours = texture[row.clip(0, len(texture) - 1), column.clip(0, texture.shape[1] - 1)]
        mesh = trimesh.Trimesh(points, faces, vertex_colors=colours, process=False)
    else:
        material = PBRMaterial(baseColorTexture=Image.fromarray(texture), metallicFactor=0.0, roughnessFactor=1.0)
        mesh = trimesh.Trimesh(points, faces, visual=TextureVisuals(uv=place, material=material), process=False)
    write_atomically(path, lambda temporary: mesh.export(temporary, file_type=path.suffix.lower()[1:]))


def write_obj(path: Path, points: np.ndarray, faces: np.ndarray, place: np.ndarray, texture: np.ndarray) -> None:
    """Write a mesh as Wavefront OBJ, its material and its texture; arguments from `as_mesh`."""
    material, image = path.with_suffix(".mtl"), path.with_suffix(".texture.png")
    content = io.BytesIO()
    Image.fromarray(texture).save(content, "PNG")
    write_atomically(image, lambda p: p.write_bytes(content.getvalue()))
    write_atomically(material, lambda p: p.write_text(MATERIAL.format(texture=image.name), encoding="utf-8"))
    lines = [f"mtllib {material.name}", "usemtl head"]
    lines += [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in points]
    lines += [f"vt {u:.6f} {v:.6f}" for u, v in place]
    lines += [f"f {a}/{a} {b}/{b} {c}/{c}" for a, b, c in faces + 1]
    write_atomically(path, lambda p: p.write_text("\n".join(lines) + "\n", encoding="utf-8"))
