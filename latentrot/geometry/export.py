"""Export the head as a textured mesh, with the camera that projects it onto the head in the photograph."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from latentrot.errors import LatentrotError, one_line
from latentrot.files import write_atomically
from latentrot.geometry.camera import AXES, MeshPose, camera_of, frontal
from latentrot.geometry.head import Head
from latentrot.geometry.shell import TEXELS, grid_places
from latentrot.geometry.template import boundary_loops, load_template
from latentrot.geometry.whole import whole_head
from latentrot.geometry.whole_view import Correction, hair_texture, skin_texture

__all__ = ["MESHES", "as_mesh", "camera_entry", "export_head", "mesh_files"]

#: suffixes of the supported mesh formats
MESHES = (".glb", ".obj", ".ply")
#: side in pixels of each half of the skin's texture; height of the template (y, W) at which the neck is cut
SIDE, NECK_BOTTOM = 1024, 1.13
#: material of an OBJ: the unlit texture, without highlights
MATERIAL = "newmtl head\nKa 1 1 1\nKd 1 1 1\nKs 0 0 0\nillum 1\nmap_Kd {texture}\nmap_d {texture}\n"


def as_mesh(
    head: Head, pose: MeshPose = "photograph", correct: Correction | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Convert a head to a textured mesh: skin, closed below the neck, and the hair around it.

    Args:
        head: fitted to a photograph.
        pose: frontal, or as in the photograph.
        correct: corrects the colours that the photograph does not show.

    Returns:
        (n, 3) points in face widths, x to the viewer's right, y up, z to the viewer; (t, 3) triangles, counter-clockwise
        from outside; (n, 2) texture coordinates from the lower left corner; (h, w, 4) uint8 texture, whose alpha cuts out
        the hair.
    """
    parts = [skin_part(head, correct), hair_part(head, correct)]
    height, widths = max(len(p[3]) for p in parts), [p[3].shape[1] for p in parts]
    texture = np.zeros((height, sum(widths), 4), np.uint8)
    points, faces, places = [], [], []
    for (own, triangles, place, colours), left in zip(parts, (0, widths[0]), strict=True):
        texture[: len(colours), left : left + colours.shape[1]] = colours.round().clip(0, 255)
        faces.append(triangles + sum(map(len, points)))
        points.append((own - head.axis) / head.region.width * AXES)
        places.append((place + np.array([left, 0])) / [texture.shape[1], height])
    x, y = np.concatenate(places).T
    everything = np.concatenate(points)
    return (
        frontal(head, everything) if pose == "frontal" else everything,
        np.concatenate(faces)[:, ::-1],
        np.clip(np.column_stack([x, 1 - y]), 0, 1),
        texture,
    )


def skin_part(head: Head, correct: Correction | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Points in the region, clockwise triangles, texture positions in pixels, and the texture, of skull, ears and neck."""
    template = load_template()
    kept = (template.mean[:, 1] < NECK_BOTTOM)[template.faces].all(1)
    points, place = whole_head(head).points[template.corners], template.uv * [SIDE, -SIDE] + [0, SIDE]
    number = np.zeros(len(template.mean), np.int64)
    number[template.corners[::-1]] = np.arange(len(template.corners))[::-1]
    rim = number[max(boundary_loops(template.faces[kept]), key=len)]
    ring = len(points) + np.arange(len(rim))  # of one colour, so with vertices of its own
    bottom = np.stack([np.roll(ring, -1), ring, np.full(len(rim), len(points) + len(rim))], 1)
    points = np.concatenate([points, points[rim], points[rim].mean(0, keepdims=True)])
    place = np.concatenate([place, np.repeat(place[rim[:1]], len(rim) + 1, axis=0)])
    texture = np.dstack([skin_texture(head, SIDE, correct), np.full((SIDE, 2 * SIDE), 255)])
    return points, np.concatenate([template.uv_faces[kept], bottom]), place, texture


def hair_part(head: Head, correct: Correction | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The same of the hair; without hair, no triangles."""
    shell = whole_head(head).shell
    texture = np.dstack([hair_texture(head, correct), 255 * shell.alpha])
    return shell.points.reshape(-1, 3), shell.faces, (grid_places() + 0.5) * TEXELS, texture


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


def export_head(
    head: Head, path: Path | str, pose: MeshPose = "photograph", correct: Correction | None = None
) -> list[Path]:
    """Write a head, each file atomically.

    Args:
        head: fitted to a photograph.
        path: .glb (glTF, its texture inside), .obj (with .mtl and .texture.png beside it) or .ply (colours at
            the points).
        pose: frontal, or as in the photograph.
        correct: corrects the colours that the photograph does not show.

    Returns:
        The files written, the last one the camera (.camera.json).

    Raises:
        LatentrotError: trimesh is not installed, the suffix is wrong, or a file cannot be written.
    """
    path = Path(path)
    files = mesh_files(path)
    if path.suffix.lower() == ".obj":
        write_obj(path, *as_mesh(head, pose, correct))
    else:
        write_with_trimesh(path, *as_mesh(head, pose, correct))
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
        opaque = (colours[:, 3] >= 128)[faces].all(1)
        mesh = trimesh.Trimesh(points, faces[opaque], vertex_colors=colours[:, :3], process=False)
    else:
        material = PBRMaterial(
            baseColorTexture=Image.fromarray(texture),
            metallicFactor=0.0,
            roughnessFactor=1.0,
            alphaMode="MASK",
            doubleSided=True,
        )
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
