"""From a photograph to a turned photograph: find the faces, turn their crops, paste them back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latentrot.data.align import Alignment
from latentrot.data.images import read_image, resize
from latentrot.edit.reify import reify
from latentrot.edit.upscale import Upscaler
from latentrot.errors import LatentrotError, one_line
from latentrot.label.detect import choose_face, detect_faces
from latentrot.label.framing import frame_face
from latentrot.rotate.latent.rotator import Clock, LatentRotator, Turned

__all__ = ["Edited", "Found", "TurnedFace", "edit_photograph", "find_faces", "parse_sweep", "turn_faces"]


@dataclass(frozen=True, eq=False)
class Found:
    """A photograph and the faces to turn in it.

    Attributes:
        path: the picture file.
        photo: (h, w, 3) uint8 RGB, upright.
        alignments: photograph -> CelebA frame, one a face, the largest face first; empty for a picture that is a crop
            already.
        notes: what the user should know, such as which of several faces was chosen.
        seconds: by stage.
    """

    path: Path
    photo: np.ndarray
    alignments: tuple[Alignment, ...]
    notes: tuple[str, ...]
    seconds: dict[str, float]


@dataclass(frozen=True, eq=False)
class TurnedFace:
    """One face of a photograph and its turns.

    Attributes:
        turned: the crop's turns with their measurements.
        alignment: photograph -> CelebA frame; None for a picture that was a crop already.
        replaced: (s, s, 3) uint8 of the turned crops' size, what a pasted turn takes the place of: the reconstruction,
            whose errors then cancel, or the crop as it was before it was made real.
    """

    turned: Turned
    alignment: Alignment | None
    replaced: np.ndarray


@dataclass(frozen=True, eq=False)
class Edited:
    """A photograph and its turned versions.

    Attributes:
        path: the photograph.
        photo: (h, w, 3) uint8 RGB, upright.
        faces: the faces turned, the largest first.
        model: name of the model.
        notes: what the user should know, such as which of several faces was used.
        crop_only: the result is the turned square alone, not pasted back.
        reified: the faces were made real first (`latentrot.edit.reify`).
        upscaler: name of the network that restored the crops; empty where none did.
    """

    path: Path
    photo: np.ndarray
    faces: tuple[TurnedFace, ...]
    model: str
    notes: list[str]
    crop_only: bool = False
    reified: bool = False
    upscaler: str = ""

    @property
    def turned(self) -> Turned:
        """The turns of the largest face."""
        return self.faces[0].turned

    @property
    def alignment(self) -> Alignment | None:
        """Of the largest face; None for a picture that was a crop already."""
        return self.faces[0].alignment

    @property
    def count(self) -> int:
        """Turns asked for."""
        return len(self.turned.frames)

    @property
    def is_square(self) -> bool:
        """Whether the results are squares of the face alone."""
        return self.crop_only or self.alignment is None

    @property
    def before(self) -> np.ndarray:
        """What the results are to be compared with: the photograph, or the square that was turned."""
        return self.turned.source if self.is_square else self.photo

    def photo_at(self, i: int) -> np.ndarray:
        """The i-th result: (h, w, 3) uint8, the photograph with every turned face pasted back, or the square alone.

        Made anew at every call: all frames of a long sweep of a large photograph would not fit into memory.
        """
        if self.is_square:
            return self.turned.frames[i].image
        photo = self.photo
        for face in self.faces:
            if face.alignment is not None:
                photo = face.alignment.paste(photo, face.replaced, face.turned.frames[i].image, detail=not self.reified)
        return photo

    @property
    def photos(self) -> list[np.ndarray]:
        """All results, one per turn asked for."""
        return [self.photo_at(i) for i in range(self.count)]


def parse_sweep(text: str) -> list[float]:
    """Read "-30:30:7": seven turns from -30 to 30 degrees."""
    parts = text.split(":")
    try:
        first, last, count = float(parts[0]), float(parts[1]), int(parts[2])
    except (ValueError, IndexError) as error:
        raise LatentrotError(f"--sweep {text}: expected FIRST:LAST:COUNT, for example -30:30:7") from error
    if len(parts) != 3 or not 2 <= count <= 200 or not max(abs(first), abs(last)) <= 90:
        raise LatentrotError(f"--sweep {text}: expected FIRST:LAST:COUNT, within -90 and 90 degrees, 2 to 200 frames")
    return [float(v) for v in np.linspace(first, last, count)]


def find_faces(path: Path, face: str = "largest", *, crop: bool = False) -> Found:
    """Read a photograph and find the faces to turn; needs no model, so that a bad picture is refused at once.

    Args:
        path: the picture file.
        face: "largest", the number of a face, or "all".
        crop: the picture is already a square crop in the CelebA frame: nothing is looked for.

    Raises:
        LatentrotError: an unreadable picture, no face in it, no such face, not a square crop.
    """
    clock = Clock()
    photo = read_image(path)
    height, width = photo.shape[:2]
    clock.lap("read")
    if crop:
        if height != width:
            raise LatentrotError(f"{one_line(path)} is {width}x{height}; --crop expects a square face crop")
        return Found(path, photo, (), (), clock.seconds)
    faces, notes = detect_faces(photo), []
    if face == "all" and faces:
        chosen = faces
    else:
        one, note = choose_face(faces, face)
        chosen, notes = [one], [note] if note else []
    alignments = tuple(frame_face(photo, f.landmarks) for f in chosen)
    clock.lap("find face")
    return Found(path, photo, alignments, tuple(notes), clock.seconds)


def turn_faces(
    found: Found,
    rotator: LatentRotator,
    degrees: Sequence[float],
    *,
    absolute: bool = False,
    light: str = "auto",
    crop_only: bool = False,
    reified: bool = False,
    upscaler: Upscaler | None = None,
) -> Edited:
    """Turn the faces found.

    Args:
        found: from `find_faces`.
        rotator: from `load_latent_rotator`.
        degrees: turns, or poses to reach if `absolute`; > 0: nose to the viewer's right.
        absolute: degrees are poses.
        light: auto, left, center or right.
        crop_only: the result is the turned square alone, at the model's resolution or the upscaler's.
        reified: bring a painted face towards the photographs the model knows first.
        upscaler: restores every turned crop, and what it replaces, before it is pasted.
    """
    faces, notes = [], list(found.notes)
    for alignment in found.alignments or (None,):
        square = found.photo if alignment is None else alignment.crop(found.photo, rotator.model.resolution)
        real = reify(square, rotator) if reified else square
        turned = rotator.turn(real, degrees, absolute=absolute, light=light)
        notes += beyond_reach(turned, rotator)
        shown = resize(square, rotator.model.resolution)
        if upscaler is not None:
            turned, shown = upscaler.upscale_turned(turned), upscaler(shown) if reified else shown
        replaced = shown if reified else turned.reconstruction
        faces.append(TurnedFace(turned, alignment, replaced))
    faces[0].turned.seconds.update(found.seconds)
    name = "" if upscaler is None else upscaler.name
    return Edited(found.path, found.photo, tuple(faces), rotator.model.name, notes, crop_only, reified, name)


def beyond_reach(turned: Turned, rotator: LatentRotator) -> list[str]:
    """A note where a turn is longer than what was calibrated."""
    low, high = rotator.lines_of(turned.light).reach
    beyond = [f.requested_deg for f in turned.frames if not low <= f.requested_deg <= high]
    return [f"{d:+.0f} degrees is beyond what was calibrated ({low:+.0f} to {high:+.0f})" for d in beyond[:1]]


def edit_photograph(
    path: Path,
    rotator: LatentRotator,
    degrees: Sequence[float],
    *,
    absolute: bool = False,
    light: str = "auto",
    face: str = "largest",
    crop: bool = False,
    crop_only: bool = False,
    reified: bool = False,
    upscaler: Upscaler | None = None,
) -> Edited:
    """Turn the face in a photograph: `find_faces`, then `turn_faces`, with their arguments and errors."""
    found = find_faces(path, face, crop=crop)
    return turn_faces(
        found, rotator, degrees, absolute=absolute, light=light, crop_only=crop_only, reified=reified, upscaler=upscaler
    )
