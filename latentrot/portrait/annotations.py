"""Annotations of views for training data sets: landmarks, camera, depth, normals, and crops for face recognition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

from latentrot.data.images import write_image
from latentrot.errors import LatentrotError
from latentrot.faces.landmarks import estimate_landmarks
from latentrot.faces.recognition import check_crop_side, recognition_crop
from latentrot.faces.upright import five_of
from latentrot.files import create_folder
from latentrot.geometry.camera import camera_of, landmarks_at, view_matrix
from latentrot.geometry.export import camera_entry
from latentrot.geometry.head import Head
from latentrot.geometry.maps import depth_as_16_bit, normals_as_16_bit, surface_maps, write_16_bit
from latentrot.portrait.results import metadata_of
from latentrot.portrait.turns import Turn

if TYPE_CHECKING:
    from latentrot.portrait.photograph import Edited

__all__ = ["Annotated", "Annotation", "Annotations", "View", "annotate"]

Annotation: TypeAlias = Literal["landmarks", "camera", "depth", "normals"]


@dataclass(frozen=True)
class Annotations:
    """Annotations to write for each view.

    Args:
        kinds: any of landmarks, camera, depth, normals.
        crops: side in pixels of the crops aligned for face recognition; None: write no crops.
    """

    kinds: tuple[str, ...] = ()
    crops: int | None = None

    def __bool__(self) -> bool:
        return bool(self.kinds) or self.crops is not None

    def check(self) -> None:
        """Validate the options.

        Raises:
            LatentrotError: a kind is unknown, or the side of the crops is not supported.
        """
        if unknown := [kind for kind in self.kinds if kind not in get_args(Annotation)]:
            raise LatentrotError(f"--also {unknown[0]}: expected one or more of {', '.join(get_args(Annotation))}")
        if self.crops is not None:
            check_crop_side(self.crops)


@dataclass(frozen=True, eq=False)
class View:
    """One result of an edit, with landmarks and head of its largest face.

    Attributes:
        image: (h, w, 3) uint8.
        landmarks: (68, 2) pixels of the image; projected from the rotated head, or estimated if there is no head.
        head: 3-D head fitted to the photograph; None if the edit does not use geometry.
        turn: rotation relative to the source, degrees.
        whole: True if the whole head is rendered.
    """

    image: np.ndarray
    landmarks: np.ndarray
    head: Head | None
    turn: Turn
    whole: bool = False

    @classmethod
    def of(cls, edited: Edited, i: int) -> View:
        """Build the view of the i-th result of an edit.

        Raises:
            LatentrotError: only a crop was edited, or the landmarks are too uncertain.
        """
        variation, number = edited.variation_of(i)
        face, image = variation.faces[0], edited.image_at(i)
        if edited.is_square or face.alignment is None:
            raise LatentrotError("annotations need whole photographs; leave out --crop and --crop-only")
        turn = face.turns[number]
        if face.head is None:
            found = estimate_landmarks(image, face.alignment, device=edited.config.perception_device)
            return cls(image, found.require_sure().points, None, turn)
        return cls(image, landmarks_at(face.head, matrix_of(face.head, turn, face.whole)), face.head, turn, face.whole)

    def require_head(self, kind: str) -> tuple[Head, np.ndarray]:
        """Return the head and the (3, 3) rotation matrix of the view.

        Raises:
            LatentrotError: the edit does not use geometry.
        """
        if self.head is None:
            raise LatentrotError(f"--also {kind} needs the fitted 3-D head; use --rotator mesh or latent")
        return self.head, matrix_of(self.head, self.turn, self.whole)


def matrix_of(head: Head, turn: Turn, whole: bool) -> np.ndarray:
    """(3, 3) rotation matrix of a rotation, in the coordinates of the head's region."""
    return view_matrix(head, turn.yaw, turn.pitch, turn.roll, whole)


@dataclass(frozen=True)
class Annotated:
    """The annotations of the views of one photograph.

    Attributes:
        columns: for each view, extra columns of views.csv: file names of its crop, depth and normals.
        landmarks: for each view, a row of landmarks.csv: file, x0, y0 ... x67, y67, pixels.
        cameras: file name of a view -> entry of cameras.json.
        files: the image files written.
    """

    columns: list[dict[str, object]]
    landmarks: list[dict[str, object]]
    cameras: dict[str, dict[str, object]]
    files: list[Path]


def annotate(edited: Edited, names: Sequence[str], out: Path, wanted: Annotations) -> Annotated:
    """Write the annotation images of the views of a photograph, one subfolder per kind, named like the views.

    Args:
        edited: the edited photograph.
        names: file names of its views, relative to `out`.
        out: output folder.
        wanted: annotations to write.

    Returns:
        Table rows and file names; the tables are not written yet.

    Raises:
        LatentrotError: an annotation needs the 3-D head and the edit has none, or a file cannot be written.
    """
    columns, landmarks, cameras, metadata = [], [], {}, metadata_of(edited)
    for i, name in enumerate(names):
        view = View.of(edited, i)
        columns.append(write_images(view, out, name, wanted, metadata))
        if "landmarks" in wanted.kinds:
            landmarks.append({"file": name, **coordinates(view.landmarks)})
        if "camera" in wanted.kinds:
            head, turn = view.require_head("camera")
            cameras[name] = camera_entry(camera_of(head, turn), (view.image.shape[1], view.image.shape[0]))
    return Annotated(columns, landmarks, cameras, [out / str(name) for row in columns for name in row.values()])


def coordinates(landmarks: np.ndarray) -> dict[str, float]:
    """Convert (68, 2) landmarks to columns x0, y0 ... x67, y67."""
    return {f"{axis}{k}": round(float(v), 2) for k, p in enumerate(landmarks) for axis, v in zip("xy", p, strict=True)}


def write_images(view: View, out: Path, name: str, wanted: Annotations, metadata: dict[str, str]) -> dict[str, object]:
    """Write the annotation images of one view.

    Returns:
        Column of views.csv (crop, depth, normals) -> file name relative to `out`.
    """
    columns: dict[str, object] = {}
    if wanted.crops is not None:
        columns["crop"] = f"crops/{name}"
        crop = recognition_crop(view.image, five_of(view.landmarks), wanted.crops)
        create_folder((out / f"crops/{name}").parent)
        write_image(out / f"crops/{name}", crop, metadata)
    kinds = [kind for kind in ("depth", "normals") if kind in wanted.kinds]
    if kinds:
        depth, normals = surface_maps(*view.require_head(kinds[0]), view.whole)
        values = {"depth": depth_as_16_bit(depth), "normals": normals_as_16_bit(normals)}
        for kind in kinds:
            columns[kind] = f"{kind}/{name}"
            write_16_bit(out / f"{kind}/{name}", values[kind])
    return columns
