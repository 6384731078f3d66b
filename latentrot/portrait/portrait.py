"""A photograph and the faces in it; an image that will not do is refused before a network is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from latentrot.data.animation import fit_side
from latentrot.data.images import Photograph, read_photograph
from latentrot.devices import resolve_device
from latentrot.errors import LatentrotError, one_line
from latentrot.faces.alignment import Alignment
from latentrot.faces.detect import Face, choose_face, detect_upright
from latentrot.faces.framing import frame_face
from latentrot.progress import Clock

__all__ = ["TRUST", "EditConfig", "Portrait", "open_portrait", "read_portrait"]

#: weight of the drawn face where the source shows nothing, 0 to 1
TRUST = 0.6
#: quarter turns counterclockwise, in words
ROTATIONS = {1: "90 degrees counterclockwise", 2: "180 degrees", 3: "90 degrees clockwise"}


@dataclass(frozen=True)
class EditConfig:
    """How the faces of a photograph are edited.

    Args:
        absolute: rotations are poses to reach, not amounts to rotate by: of yaw.
        whole_pose: ... of pitch and roll, too.
        light: auto, left, center or right: the illumination class whose directions are walked.
        face: "largest", the number of a face, or "all".
        crop: the image is already a square crop in the CelebA frame.
        crop_only: the result is the rotated crop alone.
        reify: bring a painted face towards the photographs the model knows first.
        trust: weight of a drawn face against what geometry extrapolates where the source shows nothing, 0 to 1.
        light_follows: the light rotates with the head; else it stays where it was in the room.
        device: where the networks run that look at the image; None: cuda where there is one, else the CPU.
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
        """The device of the networks that look at the image.

        Raises:
            LatentrotError: there is no such device.
        """
        return str(resolve_device(self.device))


@dataclass(frozen=True, eq=False)
class Portrait:
    """A photograph, the faces in it, and those of them that are edited.

    Attributes:
        path: the file.
        photograph: its pixels, and its own colours.
        faces: all faces found, the largest first; empty for a crop.
        alignments: photograph -> CelebA frame, one for each face that is edited; empty for a crop.
        warnings: what the user should know, such as which of several faces was chosen.
        seconds: by stage.
        shrunk: whether the file is larger than the photograph.
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
        """(h, w, 3) uint8 RGB, upright."""
        return self.photograph.pixels

    def align(self, face: Face, device: str | None = None) -> Alignment:
        """The similarity transform that takes one of the faces to the CelebA frame."""
        return frame_face(self.image, face.landmarks, device)


def open_portrait(path: Path, config: EditConfig | None = None, max_side: int | None = None) -> Portrait:
    """Read a photograph, find its faces and choose those to edit; needs no diffusion model.

    Args:
        path: of the file.
        config: how it is edited.
        max_side: a longer photograph is shrunk to this many pixels a side; None: it stays as large as it is.

    Raises:
        LatentrotError: an unreadable image, no face in it, no such face, not a square crop of one.
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
    """One face of several, and a warning where the choice was not the user's."""
    face, warning = choose_face(portrait.faces, which)
    return (face,), warning


def read_crop(path: Path, config: EditConfig) -> Portrait:
    """Read an image that is a square crop in the CelebA frame.

    Raises:
        LatentrotError: it cannot be read, is not square, or its face does not lie in the frame.
    """
    clock = Clock()
    photograph = read_photograph(path)
    height, width = photograph.pixels.shape[:2]
    if height != width:
        raise LatentrotError(f"{one_line(path)} is {width}x{height}; --crop expects a square face crop")
    clock.lap("read")
    if not config.reify:  # the detector need not know a painted face
        from latentrot.faces.frame_check import check_crop_frame  # noqa: PLC0415  which only crops need

        check_crop_frame(photograph.pixels, path, config.perception_device)
    return Portrait(path, photograph, warnings=photograph.warnings, seconds=clock.seconds)


def read_portrait(path: Path, config: EditConfig, max_side: int | None = None) -> Portrait:
    """Read a photograph and find the faces in it, upright; none is chosen.

    Args:
        path: of the file.
        config: says where the detector runs.
        max_side: a longer photograph is shrunk to this many pixels a side; None: it stays as large as it is.

    Raises:
        LatentrotError: an unreadable, too large or too small image.
    """
    clock = Clock()
    photograph = read_photograph(path)
    image = photograph.pixels if max_side is None else fit_side(photograph.pixels, max_side)
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
    """What the user is told of a photograph that was rotated by quarter turns counterclockwise."""
    return f"the photograph lies on its side: turned by {ROTATIONS[quarters]}, and the result is upright"
