"""Turning one face many times, as a page or a notebook does: each step's result is kept for the next.

`open_photograph` finds the faces, `take_face` embeds one of them and measures its calibration curve (the slow part, once),
`turn_subject` makes a turned photograph in two decodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from latentrot.data.animation import fit_side, there_and_back
from latentrot.data.frame import CROP_BOX
from latentrot.data.images import read_photograph, strip
from latentrot.directions.search import CalibrationCurve
from latentrot.errors import LatentrotError
from latentrot.faces.alignment import Alignment
from latentrot.faces.detect import Face, detect_upright
from latentrot.faces.framing import frame_face
from latentrot.faces.identity import IdentityNetwork
from latentrot.geometry import Head, turn_for, turn_head
from latentrot.portrait.compose import fill_hidden
from latentrot.portrait.find import upright_note
from latentrot.portrait.photograph import CROP_SIDE, look
from latentrot.portrait.results import synthetic_metadata
from latentrot.rotators.latent import Embedded, Frame, LatentRotator
from latentrot.rotators.mesh import MeshRotator
from latentrot.rotators.protocol import Rotator, rotate_many

__all__ = [
    "MAX_TURN",
    "Photograph",
    "Subject",
    "View",
    "animation",
    "close_up",
    "face_strip",
    "likeness",
    "mark_faces",
    "open_photograph",
    "provenance",
    "sweep_of",
    "take_face",
    "turn_subject",
]

#: the farthest turn to either side that a calibration curve is measured for, degrees
MAX_TURN = 40.0
#: longer photographs are shrunk to this side, so that a turn is pasted and shown at once (pixels)
MAX_SIDE = 1600
#: so many of the largest faces can be chosen from
MAX_FACES = 9
#: crops whose likeness is told have this side, pixels
LIKENESS_SIDE = 240
#: how far a close-up reaches beyond the face crop, as a share of the crop's side
AROUND = 0.4


@dataclass(frozen=True, eq=False)
class Photograph:
    """A photograph and its faces.

    Attributes:
        picture: (h, w, 3) uint8 RGB, upright, no side over `MAX_SIDE`.
        faces: at least one, largest first.
        shrunk: the file is larger than the picture.
        notes: what the visitor should know, as an edit says it.
    """

    picture: np.ndarray
    faces: list[Face]
    shrunk: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Subject:
    """One face of a photograph, ready to be turned.

    Attributes:
        photo: the photograph.
        alignment: photograph -> CelebA frame.
        head: the head set up to be turned.
        face: the crop, its latent, pose and light.
        curve: how far steps of several lengths turn this very face.
        reach: turns in degrees within which the lines of its light were calibrated.
    """

    photo: Photograph
    alignment: Alignment
    head: Head
    face: Embedded
    curve: CalibrationCurve
    reach: tuple[float, float]

    def within_reach(self, degrees: float) -> bool:
        """Whether a turn lies in the range the lines were calibrated on."""
        return self.reach[0] <= degrees <= self.reach[1]


@dataclass(frozen=True, eq=False)
class View:
    """A turned photograph.

    Attributes:
        frame: the turned crop with its measurements.
        picture: (h, w, 3) uint8, the photograph with the turned face in it.
    """

    frame: Frame
    picture: np.ndarray


def open_photograph(path: Path, device: str | None = None) -> Photograph:
    """Read a photograph and find its faces.

    Args:
        path: of the file.
        device: where the detector runs; the CPU by default.

    Raises:
        LatentrotError: an unreadable, too large or too small picture, or no face in it.
    """
    read = read_photograph(path)
    picture = fit_side(read.pixels, MAX_SIDE)
    faces, turns = detect_upright(picture, device)
    if not faces:
        raise LatentrotError("no face found in the photograph; give one with a larger, clearer face")
    notes = (*read.notes, *([upright_note(turns)] if turns else []))
    upright = np.ascontiguousarray(np.rot90(picture, turns))
    return Photograph(upright, faces[:MAX_FACES], picture is not read.pixels, notes)


def take_face(photo: Photograph, index: int, rotator: LatentRotator, light: str = "auto") -> Subject:
    """Embed one face and measure its steps up to `MAX_TURN` degrees to both sides.

    Args:
        photo: from `open_photograph`.
        index: number of the face, 0 for the largest.
        rotator: from `load_latent_rotator`.
        light: left, center or right; auto estimates it.

    Raises:
        LatentrotError: no such face, or no lines for the light.
    """
    if not 0 <= index < len(photo.faces):
        raise LatentrotError(f"no face {index}; the photograph has {len(photo.faces)}, counted from 0")
    device = str(rotator.model.device)
    alignment = frame_face(photo.picture, photo.faces[index].landmarks, device)
    face = rotator.keep_decoded(rotator.embed(alignment.crop(photo.picture, rotator.model.resolution), light))
    curve = rotator.measure_curve(face, [-MAX_TURN, MAX_TURN])
    head = MeshRotator(device=device).head_of(photo.picture, alignment, photo.faces)
    return Subject(photo, alignment, head, face, curve, rotator.lines_of(face.light).reach)


def turn_subject(
    subject: Subject, degrees: Sequence[float], walk: LatentRotator, rotator: Rotator | None = None
) -> list[View]:
    """Turn a face by each of `degrees` (> 0: nose to the viewer's right).

    The walk takes two decodes: the first measures the curve's roots for the turns; the second is of the roots of the curve so
    refined.

    Args:
        subject: from `take_face`.
        degrees: by how much.
        walk: the rotator that the face was taken with.
        rotator: draws the turned face instead of the walk; the geometric one draws none.

    Raises:
        LatentrotError: a turn that is not within `MAX_TURN` degrees.
    """
    for turn in degrees:
        if not abs(turn) <= MAX_TURN:
            raise LatentrotError(f"a turn of {turn} degrees: expected between {-MAX_TURN:.0f} and {MAX_TURN:.0f}")
    if rotator is not None and rotator is not walk:
        return turned_by(rotator, subject, degrees, walk)
    curve = walk.refine_curve(subject.face, subject.curve, degrees)
    turned = walk.turn(subject.face, degrees, curve=curve)
    return [View(f, carried(subject, f.requested_deg, f.image)[0]) for f in turned.frames]


def turned_by(rotator: Rotator, subject: Subject, degrees: Sequence[float], walk: LatentRotator) -> list[View]:
    """Turns by another rotator than the walk, measured on the photographs that come out by the walk's label network."""
    square = subject.alignment.crop(subject.photo.picture, CROP_SIDE)
    alone = isinstance(rotator, MeshRotator)
    squares = [None] * len(degrees) if alone else rotate_many(rotator, square, degrees)
    views = []
    for turn, drawn in zip(degrees, squares, strict=True):
        picture, alignment = carried(subject, turn, drawn)
        result = alignment.crop(picture, CROP_SIDE)
        views.append(View(Frame(turn, *look(result, walk), result if drawn is None else drawn), picture))
    return views


def carried(subject: Subject, degrees: float, drawn: np.ndarray | None) -> tuple[np.ndarray, Alignment]:
    """The photograph with its head turned, what was hidden filled from a drawn face, and where the turned face lies."""
    picture = subject.photo.picture.copy()
    patch = fill_hidden(subject.head, turn_head(subject.head, turn_for(degrees)), drawn)
    patch.laid_on(picture)
    return picture, patch.alignment


def likeness(subject: Subject, view: View, network: IdentityNetwork) -> float:
    """The cosine of the person in a turned photograph to the one in the source, by an identity network the user has."""
    return network.likeness(*(subject.alignment.crop(p, LIKENESS_SIDE) for p in (subject.photo.picture, view.picture)))


def sweep_of(subject: Subject, count: int) -> list[float]:
    """Turns in degrees, evenly from one end of what a subject's lines reach to the other; at most `MAX_TURN`."""
    low, high = np.clip(subject.reach, -MAX_TURN, MAX_TURN)
    return [float(v) for v in np.linspace(low, high, count)]


# ---- pictures to show ---------------------------------------------------------------------------------------------


def close_up(subject: Subject, picture: np.ndarray) -> np.ndarray:
    """The upright part of a photograph around a face: (h, w, 3) uint8, at the photograph's own grain.

    Args:
        subject: whose face.
        picture: the photograph or a turned version, (h, w, 3) uint8 of its size.
    """
    left, top, right, bottom = CROP_BOX
    margin = AROUND * (right - left)
    corners = np.array([[left, top], [right, top], [left, bottom], [right, bottom]], np.float64)
    outer = subject.alignment.to_photo(corners + margin * np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]]))
    height, width = picture.shape[:2]
    low = np.clip(np.floor(outer.min(0)), 0, None).astype(int)
    high = np.minimum(np.ceil(outer.max(0)), [width, height]).astype(int)
    return picture[low[1] : high[1], low[0] : high[0]]


def mark_faces(photo: Photograph, chosen: int, side: int = 720) -> np.ndarray:
    """The photograph with a box around every face, the chosen one's in another colour; numbered from 1 if several.

    Args:
        photo: from `open_photograph`.
        chosen: number of the chosen face, 0 for the largest.
        side: longest side in pixels of the result.

    Returns:
        (h, w, 3) uint8.
    """
    small = fit_side(photo.picture, side)
    share = small.shape[1] / photo.picture.shape[1]
    canvas = Image.fromarray(small)
    pen, line = ImageDraw.Draw(canvas), max(2, max(small.shape[:2]) // 180)
    # the chosen box last, so that no other is drawn across it
    for index in sorted(range(len(photo.faces)), key=lambda i: i == chosen):
        left, top, right, bottom = (v * share for v in photo.faces[index].box)
        colour = "#ff8a1f" if index == chosen else "#ffffff"
        pen.rectangle((left, top, right, bottom), outline=colour, width=line)
        if len(photo.faces) > 1:
            pen.text((left + 2 * line, top + line), str(index + 1), colour, ImageFont.load_default(10 * line))
    return np.array(canvas)


def face_strip(subject: Subject, views: Sequence[View], side: int = 192) -> np.ndarray:
    """The source crop and the turned crops side by side, `side` pixels each: (side, w, 3) uint8."""
    pictures = [subject.photo.picture, *(v.picture for v in views)]
    return strip([subject.alignment.crop(p, side) for p in pictures])


def animation(subject: Subject, views: Sequence[View], side: int = 384) -> list[np.ndarray]:
    """Close-ups of the views there and back, no side over `side` pixels, for `write_animation`."""
    return there_and_back([fit_side(close_up(subject, v.picture), side) for v in views])


def provenance(model: str, views: Sequence[View]) -> dict[str, str]:
    """What a file of turned faces says of itself, for `write_image` and `write_animation`."""
    asked = [round(v.frame.requested_deg, 2) for v in views]
    return synthetic_metadata({"model": model, "asked_deg": asked})
