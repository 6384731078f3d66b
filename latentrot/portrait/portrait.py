"""Read a photograph and find its faces; unusable images are refused before a diffusion model is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from latentrot.data.animation import shrink_to_side
from latentrot.data.images import Photograph, read_photograph
from latentrot.devices import resolve_device
from latentrot.errors import LatentrotError, one_line
from latentrot.faces.alignment import Alignment
from latentrot.faces.detect import Face, choose_face, detect_upright
from latentrot.faces.framing import frame_face
from latentrot.progress import Clock

__all__ = ["TRUST", "EditConfig", "Portrait", "open_portrait", "read_portrait"]

#: weight of the generated face in regions that the source hides, 0 to 1
TRUST = 0.6
#: number of counterclockwise quarter turns -> words for the warning
ROTATIONS = {1: "90 degrees counterclockwise", 2: "180 degrees", 3: "90 degrees clockwise"}


@dataclass(frozen=True)
class EditConfig:
    """Options of the edit of a photograph.

    Args:
        absolute: the yaws of rotations are target yaws; else they are relative to the source.
        light: auto, left, center or right: illumination class of the directions; auto: as the label network estimates.
        face: "largest", the number of a face (0 is the largest), or "all".
        crop: the image is already a square crop in the CelebA frame.
        crop_only: return the edited crop without compositing it into the photograph.
        reify: before the edit, move a painted face towards the model's training photographs.
        trust: weight of the generated face against pixels that geometry extrapolates, in regions that the source hides,
            0 to 1.
        light_follows: the light rotates with the head; else it stays fixed in the scene.
        device: device of the detection, landmark, parsing and label networks; None: cuda if available, else the CPU.
        whole_pose: with `absolute`, pitches and rolls are targets, too.
    """

    absolute: bool = False
    light: str = "auto"
    face: str = "largest"
    crop: bool = False
    crop_only: bool = False
    reify: bool = False
    trust: float = TRUST
    light_follows: bool = False
    device: str | None = None
    whole_pose: bool = False

    @property
    def perception_device(self) -> str:
        """Device of the detection, landmark, parsing and label networks.

        Raises:
            LatentrotError: the device does not exist.
        """
        return str(resolve_device(self.device))


@dataclass(frozen=True, eq=False)
class Portrait:
    """A photograph, its detected faces, and the alignments of the faces to edit.

    Attributes:
        path: image file.
        photograph: pixels, and the colour profile of the file.
        faces: all detected faces, the largest first; empty for a crop.
        alignments: for each face to edit, the transform from the photograph to the CelebA frame; empty for a crop.
        warnings: warnings for the user, such as which of several faces was chosen.
        seconds: stage name -> duration.
        shrunk: whether the photograph was downscaled on reading.
    """

    path: Path
    photograph: Photograph
    faces: tuple[Face, ...] = ()
    alignments: tuple[Alignment, ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    shrunk: bool = False

    @property
    def image(self) -> np.ndarray:
        """Upright pixels, (h, w, 3) uint8 RGB."""
        return self.photograph.pixels

    def align(self, face: Face, device: str | None = None) -> Alignment:
        """Estimate the similarity transform from the photograph to the CelebA frame of a face."""
        return frame_face(self.image, face.landmarks, device)


def open_portrait(path: Path, config: EditConfig | None = None, max_side: int | None = None) -> Portrait:
    """Read a photograph, detect its faces and align those to edit; loads no diffusion model.

    Args:
        path: image file.
        config: options of the edit.
        max_side: downscale the photograph if its longer side exceeds this, pixels; None: never.

    Raises:
        LatentrotError: the image is unreadable, shows no face or not the face of that number, or is not a square crop
            although `config.crop` is set.
    """
    config = config or EditConfig()
    if config.crop:
        return read_crop(path, config)
    clock = Clock()
    portrait = read_portrait(path, config, max_side)
    clock.lap("find face", portrait.seconds)
    chosen, warning = (portrait.faces, "") if config.face == "all" and portrait.faces else _one(portrait, config.face)
    alignments = tuple(portrait.align(face, config.perception_device) for face in chosen)
    clock.lap("find face")
    warnings = (*portrait.warnings, *filter(None, [warning]))
    return replace(portrait, alignments=alignments, warnings=warnings, seconds=clock.seconds)


def _one(portrait: Portrait, which: str) -> tuple[tuple[Face, ...], str]:
    """Choose one face; the warning is non-empty if one of several was chosen by default."""
    face, warning = choose_face(portrait.faces, which)
    return (face,), warning


def read_crop(path: Path, config: EditConfig) -> Portrait:
    """Read a square crop in the CelebA frame.

    Raises:
        LatentrotError: the image cannot be read, is not square, or its face is not aligned to the CelebA frame.
    """
    clock = Clock()
    photograph = read_photograph(path)
    height, width = photograph.pixels.shape[:2]
    if height != width:
        raise LatentrotError(f"{one_line(path)} is {width}x{height}; --crop expects a square face crop")
    clock.lap("read")
    if not config.reify:  # the detector may miss a painted face
        from latentrot.faces.frame_check import check_crop_frame  # noqa: PLC0415  needed for crops only

        check_crop_frame(photograph.pixels, path, config.perception_device)
    return Portrait(path, photograph, warnings=photograph.warnings, seconds=clock.seconds)


def read_portrait(path: Path, config: EditConfig, max_side: int | None = None) -> Portrait:
    """Read a photograph, rotate it upright and detect its faces, without choosing one.

    Args:
        path: image file.
        config: options of the edit; only the device is used.
        max_side: downscale the photograph if its longer side exceeds this, pixels; None: never.

    Raises:
        LatentrotError: the image is unreadable, too large or too small.
    """
    clock = Clock()
    photograph = read_photograph(path)
    image = photograph.pixels if max_side is None else shrink_to_side(photograph.pixels, max_side)
    shrunk = image is not photograph.pixels
    if shrunk:
        photograph = replace(photograph, pixels=image, stored=image, profile=b"")
    clock.lap("read")
    faces, quarters = detect_upright(image, config.perception_device)
    warnings = photograph.warnings
    if quarters:
        photograph = photograph.rotated(quarters)
        warnings = (*warnings, upright_warning(quarters))
    clock.lap("find face")
    return Portrait(path, photograph, tuple(faces), (), warnings, clock.seconds, shrunk)


def upright_warning(quarters: int) -> str:
    """Warning that a photograph was rotated by counterclockwise quarter turns."""
    return f"the photograph is not upright: it was rotated by {ROTATIONS[quarters]}, and the result is upright"
