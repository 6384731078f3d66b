"""Read a photograph and find the faces to turn in it; a picture that will not do is refused before a network is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latentrot.data.images import Photograph, read_photograph
from latentrot.devices import resolve_device
from latentrot.errors import LatentrotError, one_line
from latentrot.faces.alignment import Alignment
from latentrot.faces.detect import Face, choose_face, detect_upright
from latentrot.faces.frame_check import check_crop
from latentrot.faces.framing import frame_face
from latentrot.progress import Clock

__all__ = ["TRUST", "EditConfig", "Found", "find_faces", "upright_note"]

#: how far the drawn face is trusted where the source shows nothing, 0 to 1
TRUST = 0.6
#: quarter turns counterclockwise, in words
ROTATIONS = {1: "90 degrees counterclockwise", 2: "180 degrees", 3: "90 degrees clockwise"}


@dataclass(frozen=True)
class EditConfig:
    """How the faces of a photograph are turned.

    Args:
        absolute: turns are poses to reach.
        light: auto, left, center or right: the group whose lines are walked.
        face: "largest", the number of a face, or "all".
        crop: the picture is already a square crop in the CelebA frame.
        crop_only: the result is the turned square alone.
        reify: bring a painted face towards the photographs the model knows first.
        trust: how far a drawn face replaces what the geometry continued where the source showed nothing, 0 to 1.
        device: where the networks run that look at the picture; None: cuda where there is one, else the CPU.
    """

    absolute: bool = False
    light: str = "auto"
    face: str = "largest"
    crop: bool = False
    crop_only: bool = False
    reify: bool = False
    trust: float = TRUST
    device: str | None = None

    @property
    def looks_on(self) -> str:
        """The device of the networks that look at the picture.

        Raises:
            LatentrotError: there is no such device.
        """
        return str(resolve_device(self.device))


@dataclass(frozen=True, eq=False)
class Found:
    """A photograph and the faces to turn in it.

    Attributes:
        path: the picture file.
        photograph: its pixels, and its own colours.
        alignments: photograph -> CelebA frame, one a face, the largest face first; empty for a picture that is a crop
            already.
        notes: what the user should know, such as which of several faces was chosen.
        seconds: by stage.
        faces: everybody's in the photograph, also those that are not turned.
    """

    path: Path
    photograph: Photograph
    alignments: tuple[Alignment, ...]
    notes: tuple[str, ...]
    seconds: dict[str, float]
    faces: tuple[Face, ...] = ()

    @property
    def photo(self) -> np.ndarray:
        """(h, w, 3) uint8 RGB, upright."""
        return self.photograph.pixels


def find_faces(path: Path, config: EditConfig | None = None) -> Found:
    """Read a photograph and find the faces to turn; needs no model, so that a bad picture is refused at once.

    Raises:
        LatentrotError: an unreadable picture, no face in it, no such face, or no square crop of one in the frame.
    """
    config = config or EditConfig()
    clock = Clock()
    photograph = read_photograph(path)
    photo, notes = photograph.pixels, list(photograph.notes)
    height, width = photo.shape[:2]
    clock.lap("read")
    if config.crop:
        if height != width:
            raise LatentrotError(f"{one_line(path)} is {width}x{height}; --crop expects a square face crop")
        if not config.reify:  # the detector need not know a painted face
            check_crop(photo, path, config.looks_on)
        return Found(path, photograph, (), tuple(notes), clock.seconds)
    faces, turns = detect_upright(photo, config.looks_on)
    if turns:
        photograph = photograph.rotated(turns)
        photo = photograph.pixels
        notes.append(upright_note(turns))
    if config.face == "all" and faces:
        chosen = faces
    else:
        one, note = choose_face(faces, config.face)
        chosen, notes = [one], [*notes, note] if note else notes
    alignments = tuple(frame_face(photo, f.landmarks, config.looks_on) for f in chosen)
    clock.lap("find face")
    return Found(path, photograph, alignments, tuple(notes), clock.seconds, tuple(faces))


def upright_note(turns: int) -> str:
    """What the user is told of a photograph that was turned by quarter turns counterclockwise."""
    return f"the photograph lies on its side: turned by {ROTATIONS[turns]}, and the result is upright"
