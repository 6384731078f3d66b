"""ICT Face Model Light: convert a clone of its repository to arrays, and read these.

Source: Li, Bladin, Zhao et al., "Learning Formation of Physically-Based Face Attributes", CVPR 2020; the light version is
published under the MIT licence by the USC Institute for Creative Technologies. Lengths are centimetres; x grows to the
viewer's right, y upwards, z towards the viewer.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from latentrot.errors import LatentrotError
from latentrot.files import write_atomically

__all__ = ["IctModel", "import_ict", "read_ict", "write_ict"]

VERTICES, IDENTITIES, EXPRESSIONS = 26719, 100, 57
NEUTRAL = "generic_neutral_mesh.obj"


@dataclass(frozen=True, eq=False)
class IctModel:
    """Arrays of the face model.

    Args:
        base: (v, 3) float32 the mean face, in cm.
        faces: (t, 3) int32 triangles.
        uvfaces: (t, 3) int32 triangles in `uv`.
        uv: (u, 2) float32 texture positions.
        mat: (t,) int8 material of each triangle, index into `mats`.
        mats: names of the materials.
        ids: (100, v, 3) float16 identity modes, for coefficients of standard deviation 1.
        expr: (e, v, 3) float16 expression modes, for coefficients 0 to 1.
        expr_names: names of the expressions.
    """

    base: np.ndarray
    faces: np.ndarray
    uvfaces: np.ndarray
    uv: np.ndarray
    mat: np.ndarray
    mats: np.ndarray
    ids: np.ndarray
    expr: np.ndarray
    expr_names: np.ndarray


def read_ict(path: Path | str) -> IctModel:
    """Read the arrays written by `write_ict`.

    Raises:
        LatentrotError: the file is missing or of another kind, or the topology differs from ICT Face Model Light.
    """
    path = Path(path)
    if not path.is_file():
        raise LatentrotError(
            f"no face model at {path}; clone ICT Face Model Light's repository and run "
            f"`latentrot heads import CLONE --out {path}`"
        )
    try:
        with np.load(path, allow_pickle=False) as arrays:
            model = IctModel(**{name: arrays[name] for name in IctModel.__dataclass_fields__})
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise LatentrotError(f"{path} is not a face model made by `latentrot heads import`: {error}") from error
    shape = (len(model.base), len(model.ids), len(model.expr))
    if shape != (VERTICES, IDENTITIES, EXPRESSIONS):
        raise LatentrotError(
            f"{path} has {shape[0]} vertices, {shape[1]} identity and {shape[2]} expression modes; expected ICT Face "
            f"Model Light's {VERTICES}, {IDENTITIES} and {EXPRESSIONS}"
        )
    return model


def write_ict(model: IctModel, path: Path | str) -> None:
    """Write the arrays as .npz, atomically."""
    path = Path(path)
    if path.suffix != ".npz":
        raise LatentrotError(f"face model {path}: expected a name ending in .npz, not {path.suffix!r}")

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:  # given a path, numpy would append a suffix
            np.savez_compressed(file, **vars(model))

    write_atomically(path, write)


# --- a clone of the repository --------------------------------------------------------------------------------------


def import_ict(clone: Path | str) -> IctModel:
    """Read a clone of ICT Face Model Light's repository.

    Args:
        clone: the clone, or the folder FaceXModel inside it.

    Returns:
        The model; quadrilaterals are split into triangles at their first corner.

    Raises:
        LatentrotError: files are missing, unreadable, or inconsistent.
    """
    folder = Path(clone)
    folder = folder / "FaceXModel" if (folder / "FaceXModel").is_dir() else folder
    if not (folder / NEUTRAL).is_file():
        raise LatentrotError(f"no {NEUTRAL} in {folder}; give a clone of ICT Face Model Light's repository")
    base, uv, corners, materials = _read_obj(folder / NEUTRAL)
    names = sorted(p.stem for p in folder.glob("*.obj") if p.name != NEUTRAL)
    identities = [n for n in names if n.startswith("identity")]
    expressions = [n for n in names if not n.startswith("identity")]
    if not identities or not expressions:
        raise LatentrotError(
            f"{folder} has {len(identities)} identity and {len(expressions)} expression meshes; expected identity000.obj "
            "and so on, and a mesh for each expression, as in ICT Face Model Light's FaceXModel"
        )
    mats = sorted(set(materials))
    triangles, owners = _triangulate(corners)
    return IctModel(
        base=base,
        faces=triangles[..., 0],
        uvfaces=triangles[..., 1],
        uv=uv,
        mat=np.array([mats.index(materials[i]) for i in owners], np.int8),
        mats=np.array(mats),
        ids=np.stack([_mode(folder / f"{n}.obj", base) for n in identities]),
        expr=np.stack([_mode(folder / f"{n}.obj", base) for n in expressions]),
        expr_names=np.array(expressions),
    )


def _mode(path: Path, base: np.ndarray) -> np.ndarray:
    """Difference of a mesh from the mean face: (v, 3) float16."""
    positions = _positions(path)
    if positions.shape != base.shape:
        raise LatentrotError(f"{path} has {len(positions)} vertices, {NEUTRAL} {len(base)}; clone the repository again")
    return (positions - base).astype(np.float16)


def _lines(path: Path) -> list[list[str]]:
    try:
        return [words for line in path.read_text().splitlines() if (words := line.split())]
    except (OSError, UnicodeDecodeError) as error:
        raise LatentrotError(f"cannot read {path}: {error}") from error


def _floats(path: Path, rows: list[list[str]], width: int) -> np.ndarray:
    try:
        return np.array([row[1 : width + 1] for row in rows], np.float32).reshape(len(rows), width)
    except ValueError as error:
        raise LatentrotError(f"{path} is not a readable OBJ file: {error}") from error


def _positions(path: Path) -> np.ndarray:
    return _floats(path, [words for words in _lines(path) if words[0] == "v"], 3)


def _read_obj(path: Path) -> tuple[np.ndarray, np.ndarray, list[list[tuple[int, int]]], list[str]]:
    """Positions (v, 3), texture positions (u, 2), polygons as (vertex, texture) corners, and their materials."""
    lines = _lines(path)
    polygons: list[list[tuple[int, int]]] = []
    materials: list[str] = []
    material = "none"
    for words in lines:
        if words[0] == "usemtl":
            material = words[1]
        elif words[0] == "f":
            polygons.append([_corner(path, word) for word in words[1:]])
            materials.append(material)
    if not polygons:
        raise LatentrotError(f"{path} has no faces; expected {NEUTRAL} of ICT Face Model Light")
    positions = _floats(path, [w for w in lines if w[0] == "v"], 3)
    return positions, _floats(path, [w for w in lines if w[0] == "vt"], 2), polygons, materials


def _corner(path: Path, word: str) -> tuple[int, int]:
    """Parse `7/3/1` as vertex 6 and texture position 2; OBJ counts from 1."""
    parts = word.split("/")
    try:
        return int(parts[0]) - 1, int(parts[1]) - 1 if len(parts) > 1 and parts[1] else -1
    except ValueError as error:
        raise LatentrotError(f"{path}: {word!r} is not a corner of a face, such as 7/3") from error


def _triangulate(polygons: list[list[tuple[int, int]]]) -> tuple[np.ndarray, list[int]]:
    """Split polygons into triangle fans: (t, 3, 2) int32 vertex and texture indices, and the polygon of each triangle."""
    triangles, owners = [], []
    for number, polygon in enumerate(polygons):
        for second, third in pairwise(polygon[1:]):
            triangles.append((polygon[0], second, third))
            owners.append(number)
    return np.array(triangles, np.int32), owners
