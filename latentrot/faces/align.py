"""Align a folder of photographs to the CelebA frame, the input format of `label`, `embed` and `train`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latentrot.data.celeba import is_image_file
from latentrot.data.frame import FRAME_HEIGHT, FRAME_WIDTH
from latentrot.data.images import read_photograph, write_image
from latentrot.errors import LatentrotError, one_line
from latentrot.faces.alignment import Alignment
from latentrot.faces.detect import detect_upright
from latentrot.faces.framing import frame_face
from latentrot.files import output_names

__all__ = ["Aligned", "align_folder", "align_image", "identity_table", "people_of", "photographs_in", "transform_table"]

#: max enlargement of a face; with a larger one most of the frame would be interpolated
MAX_ENLARGEMENT = 8.0


@dataclass(frozen=True, eq=False)
class Aligned:
    """Result of aligning one photograph.

    Attributes:
        path: the photograph.
        name: name of the aligned image.
        alignment: photograph -> CelebA frame; None if it failed.
        faces: number of faces found.
        quarters: number of counterclockwise quarter turns that made the photograph upright before the alignment.
        error: why it could not be aligned; empty on success.
    """

    path: Path
    name: str
    alignment: Alignment | None = None
    faces: int = 0
    quarters: int = 0
    error: str = ""


def photographs_in(source: Path) -> list[Path]:
    """Photographs in a folder and its subfolders, sorted; or the given file.

    Raises:
        LatentrotError: there are no photographs.
    """
    if source.is_file():
        return [source]
    found = sorted(Path(root) / name for root, _, names in os.walk(source) for name in names if is_image_file(name))
    if not found:
        raise LatentrotError(f"no photographs in {one_line(source)}; give a folder of photographs, or one photograph")
    return found


def people_of(paths: Sequence[Path], source: Path) -> dict[Path, str]:
    """The person in each photograph: the subfolder of `source` in which it lies.

    Raises:
        LatentrotError: a photograph lies in no subfolder.
    """
    if loose := [path for path in paths if source in (path, path.parent)]:
        raise LatentrotError(
            f"{len(loose)} of {len(paths)} photographs lie in no subfolder of {one_line(source)}, such as "
            f"{one_line(loose[0].name)}; expected one subfolder per person"
        )
    return {path: path.relative_to(source).parts[0] for path in paths}


def align_image(image: np.ndarray, alignment: Alignment, size: int | None = None) -> np.ndarray:
    """Align a photograph to the CelebA frame: (218, 178, 3), or the (size, size, 3) face crop; uint8."""
    if size is not None:
        return alignment.crop(image, size)
    beside = (FRAME_HEIGHT - FRAME_WIDTH) // 2
    return alignment.crop(image, FRAME_HEIGHT, (-beside, 0, FRAME_WIDTH + beside, FRAME_HEIGHT))[:, beside:-beside]


def align_folder(
    paths: Sequence[Path], out: Path, size: int | None = None, device: str | None = None
) -> Iterator[Aligned]:
    """Align the largest face of each photograph and write it.

    Args:
        paths: the photographs.
        out: an existing folder; images are written as PNG under the photographs' names.
        size: side of the square; None: the whole 178x218 frame.
        device: device of the detector; the CPU by default.

    Yields:
        The result of each photograph, after its image is written.
    """
    for path, name in zip(paths, output_names(paths, ".png"), strict=True):
        try:
            yield _align_one(path, out / name, size, device)
        except LatentrotError as error:
            yield Aligned(path, name, error=one_line(error))


def _align_one(path: Path, target: Path, size: int | None, device: str | None) -> Aligned:
    photograph = read_photograph(path)
    faces, quarters = detect_upright(photograph.pixels, device)
    if not faces:
        raise LatentrotError("no face found in it")
    image = np.ascontiguousarray(np.rot90(photograph.pixels, quarters))
    alignment = frame_face(image, faces[0].landmarks, device)
    if alignment.scale > MAX_ENLARGEMENT:
        raise LatentrotError(f"its largest face is {alignment.crop_side:.0f} pixels wide; expected at least 16")
    write_image(target, align_image(image, alignment, size))
    return Aligned(path, target.name, alignment, len(faces), quarters)


def transform_table(aligned: Sequence[Aligned], source: Path) -> list[dict[str, object]]:
    """One row per aligned image: source, transform (a b c; d e f) from (column, row, 1) to the frame, quarter turns."""
    base = source if source.is_dir() else source.parent
    return [
        {
            "image_id": a.name,
            "source": a.path.relative_to(base).as_posix(),
            **dict(zip("abcdef", a.alignment.matrix.ravel().round(6).tolist(), strict=True)),
            "roll_deg": round(a.alignment.roll_deg, 3),
            "scale": round(a.alignment.scale, 6),
            "faces": a.faces,
            "quarter_turns": a.quarters,
        }
        for a in aligned
        if a.alignment is not None
    ]


def identity_table(aligned: Sequence[Aligned], people: Mapping[Path, str]) -> list[dict[str, object]]:
    """One row per aligned image: the person in it, from `people_of`."""
    return [{"image_id": a.name, "identity": people[a.path]} for a in aligned if a.alignment is not None]
