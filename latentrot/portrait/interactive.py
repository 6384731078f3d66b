"""Interactive edits of one face, for the page or a notebook; the slow preparation runs once.

`open_shrunk` finds the faces, `take_face` prepares one of them and calibrates its steps, `rotate_subject` rotates it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from latentrot.data.animation import forwards_and_backwards, shrink_to_side
from latentrot.data.arrays import strip
from latentrot.data.frame import CROP_BOX
from latentrot.data.images import Photograph
from latentrot.directions.properties import Wanted
from latentrot.errors import LatentrotError
from latentrot.faces.alignment import Alignment
from latentrot.faces.identity import IdentityNetwork
from latentrot.portrait.face import PreparedFace, prepare_face
from latentrot.portrait.portrait import EditConfig, Portrait, read_portrait
from latentrot.portrait.properties import StillRotator
from latentrot.portrait.results import synthetic_metadata
from latentrot.portrait.turns import FURTHEST, Turn
from latentrot.rotators.properties import InvertedFace, PropertyEditor
from latentrot.rotators.protocol import RotatedCrop, Rotator, capabilities_of

__all__ = [
    "RotatedPhotograph",
    "Subject",
    "animation",
    "close_up",
    "identity_similarity",
    "mark_faces",
    "open_shrunk",
    "provenance",
    "rotate_subject",
    "subject_strip",
    "sweep_of",
    "take_face",
]

#: rotation to either side for which rotators are calibrated, and which a sweep shows, degrees
CALIBRATED = 40.0
#: max side in pixels to which photographs are shrunk, for short response times
MAX_SIDE = 1600
#: max number of faces to choose from
MAX_FACES = 9
#: number of cached settings of properties, each with its prepared heads
KEPT_SETTINGS = 3
#: the rotator for edits of properties alone
STILL, STILL_ROTATOR = "still", StillRotator()
#: side of the crops for the identity network, pixels
IDENTITY_SIDE = 240
#: margin of a close-up around the face crop, relative to the side of the crop
AROUND = 0.4


@dataclass(eq=False)
class Subject:
    """One face of a photograph, prepared for each rotator on first use.

    Attributes:
        portrait: the photograph; its only alignment is that of the face.
        config: options of the edit.
        rotators: name -> rotator; the first one is prepared immediately.
        editor: editor of properties; None: no properties.
        prepared: the prepared face by name of the rotator.
        varied: cache of the face with edited properties, by setting.
    """

    portrait: Portrait
    config: EditConfig
    rotators: Mapping[str, Rotator]
    editor: PropertyEditor | None = None
    prepared: dict[str, PreparedFace] = field(default_factory=dict)
    varied: dict[tuple[tuple[str, Wanted], ...], Subject] = field(default_factory=dict)

    @property
    def face(self) -> PreparedFace:
        """The face, prepared for the first rotator."""
        return self.prepared_for(next(iter(self.rotators)))

    @property
    def alignment(self) -> Alignment:
        """Similarity transform from the photograph to the CelebA frame."""
        return self.portrait.alignments[0]

    @property
    def reach(self) -> tuple[float, float]:
        """Range of a sweep in degrees: `CALIBRATED`, or less for a rotator without geometry."""
        low, high = self.face.reach or (-CALIBRATED, CALIBRATED)
        return max(low, -CALIBRATED), min(high, CALIBRATED)

    def prepared_for(self, name: str) -> PreparedFace:
        """The face, prepared for a rotator and calibrated; rotators with the same head fitter share its head."""
        if name not in self.prepared:
            beside = next((f for f in self.prepared.values() if f.pending is not None), None)
            rotator = STILL_ROTATOR if name == STILL else self.rotators[name]
            face = prepare_face(self.portrait, self.alignment, rotator, self.config, beside=beside)
            face.crop = face.crop.calibrated([-CALIBRATED, CALIBRATED])
            self.prepared[name] = face
        return self.prepared[name]

    @cached_property
    def editable(self) -> InvertedFace:
        """The inverted face, for edits of properties."""
        if self.editor is None:
            raise LatentrotError("this model has no property directions")
        return self.editor.prepare(self.portrait.image, self.alignment)

    def with_properties(self, wanted: Mapping[str, Wanted]) -> Subject:
        """The face with edited properties; the last `KEPT_SETTINGS` are cached."""
        key = tuple(sorted(wanted.items(), key=lambda item: item[0]))
        if not key:
            return self
        if key not in self.varied:
            image, _ = self.editable.edit(wanted, measure=False)
            portrait = replace(self.portrait, photograph=Photograph(image, image))
            self.varied[key] = Subject(portrait, self.config, self.rotators)
        for old in list(self.varied)[:-KEPT_SETTINGS]:
            del self.varied[old]
        return self.varied[key]


@dataclass(frozen=True, eq=False)
class RotatedPhotograph:
    """A rotated photograph.

    Attributes:
        frame: the rotated crop with its measurements.
        image: (h, w, 3) uint8, the photograph with the rotated face in it.
        warnings: warnings for the user.
    """

    frame: RotatedCrop
    image: np.ndarray
    warnings: tuple[str, ...] = ()


def open_shrunk(path: Path, device: str | None = None) -> Portrait:
    """Read a photograph, downscale it to `MAX_SIDE`, and detect up to `MAX_FACES` faces, without choosing one.

    Args:
        path: image file.
        device: device of the detector; None: cuda if available, else the CPU.

    Raises:
        LatentrotError: the image is unreadable, too large or too small, or shows no face.
    """
    portrait = read_portrait(path, EditConfig(device=device), MAX_SIDE)
    if not portrait.faces:
        raise LatentrotError("no face found in the photograph; give one with a larger, clearer face")
    return portrait


def take_face(
    portrait: Portrait,
    index: int,
    rotators: Mapping[str, Rotator],
    light: str = "auto",
    device: str | None = None,
    editor: PropertyEditor | None = None,
) -> Subject:
    """Prepare one face and calibrate it up to `CALIBRATED` degrees to both sides.

    Args:
        portrait: from `open_shrunk`.
        index: number of the face, 0 for the largest.
        rotators: name -> rotator; the first is prepared now, the others on first use.
        light: left, center or right; auto: estimated.
        device: device of the perception networks; None: cuda if available, else the CPU.
        editor: property editor; None: properties cannot be edited.

    Raises:
        LatentrotError: the face does not exist, or the model has no directions for the light.
    """
    count = min(len(portrait.faces), MAX_FACES)
    if not 0 <= index < count:
        raise LatentrotError(f"no face {index}; the photograph has {count}, counted from 0")
    config = EditConfig(light=light, device=device)
    alignment = portrait.align(portrait.faces[index], config.perception_device)
    subject = Subject(replace(portrait, alignments=(alignment,)), config, rotators, editor)
    subject.prepared_for(next(iter(rotators)))
    return subject


def rotate_subject(
    subject: Subject,
    degrees: Sequence[float],
    name: str,
    pitch: float = 0.0,
    wanted: Mapping[str, Wanted] | None = None,
    roll: float = 0.0,
) -> list[RotatedPhotograph]:
    """Edit the properties of a face, then rotate it by each of `degrees` (> 0: nose to the viewer's right).

    Args:
        subject: from `take_face`.
        degrees: yaws to rotate by, degrees.
        name: name of the rotator.
        pitch: pitch to rotate by, degrees; > 0: looks up.
        wanted: property name -> change or target value.
        roll: roll to rotate by, degrees; > 0: leans clockwise.

    Raises:
        LatentrotError: a rotation exceeds `FURTHEST` degrees.
    """
    for turn in (*degrees, pitch, roll):
        if not abs(turn) <= FURTHEST:
            raise LatentrotError(f"a rotation by {turn} degrees: expected between {-FURTHEST:.0f} and {FURTHEST:.0f}")
    varied = subject.with_properties(wanted or {})
    still = varied is not subject and not pitch and not roll and not any(degrees)
    edited = varied.prepared_for(STILL if still else name).edit([Turn(turn, pitch, roll) for turn in degrees])
    results = []
    for i, frame in enumerate(edited.turned.frames):
        image = varied.portrait.image.copy()
        edited.patch(i).paste(image)
        results.append(RotatedPhotograph(frame, image, edited.warnings))
    return results


def identity_similarity(subject: Subject, rotated: RotatedPhotograph, network: IdentityNetwork) -> float:
    """Cosine between the identity embeddings of source and rotated face, by an identity network of the user."""
    images = subject.portrait.image, rotated.image
    return network.similarity(*(subject.alignment.crop(image, IDENTITY_SIDE) for image in images))


def sweep_of(subject: Subject, count: int) -> list[float]:
    """Evenly spaced rotations over the subject's reach, degrees."""
    return [float(v) for v in np.linspace(*subject.reach, count)]


# ---- images to show ---------------------------------------------------------------------------------------------


def close_up(subject: Subject, image: np.ndarray) -> np.ndarray:
    """Upright close-up of a face, (h, w, 3) uint8, at the photograph's resolution.

    Args:
        subject: the face.
        image: (h, w, 3) uint8, the photograph or an edited version of the same size.
    """
    left, top, right, bottom = CROP_BOX
    margin = AROUND * (right - left)
    corners = np.array([[left, top], [right, top], [left, bottom], [right, bottom]], np.float64)
    outer = subject.alignment.to_photo(corners + margin * np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]]))
    height, width = image.shape[:2]
    low = np.clip(np.floor(outer.min(0)), 0, None).astype(int)
    high = np.minimum(np.ceil(outer.max(0)), [width, height]).astype(int)
    return image[low[1] : high[1], low[0] : high[0]]


def mark_faces(portrait: Portrait, chosen: int, side: int = 720) -> np.ndarray:
    """Draw a box around each face, the chosen one in another colour; several faces are numbered from 1.

    Args:
        portrait: from `open_shrunk`.
        chosen: number of the chosen face, 0 for the largest.
        side: longest side in pixels of the result.

    Returns:
        (h, w, 3) uint8.
    """
    faces = portrait.faces[:MAX_FACES]
    small = shrink_to_side(portrait.image, side)
    share = small.shape[1] / portrait.image.shape[1]
    canvas = Image.fromarray(small)
    pen, line = ImageDraw.Draw(canvas), max(2, max(small.shape[:2]) // 180)
    # draw the chosen box last, on top
    for index in sorted(range(len(faces)), key=lambda i: i == chosen):
        left, top, right, bottom = (v * share for v in faces[index].box)
        colour = "#ff8a1f" if index == chosen else "#ffffff"
        pen.rectangle((left, top, right, bottom), outline=colour, width=line)
        if len(faces) > 1:
            pen.text((left + 2 * line, top + line), str(index + 1), colour, ImageFont.load_default(10 * line))
    return np.array(canvas)


def subject_strip(subject: Subject, views: Sequence[RotatedPhotograph], side: int = 192) -> np.ndarray:
    """Source crop and rotated crops side by side, `side` pixels each: (side, w, 3) uint8."""
    images = [subject.portrait.image, *(v.image for v in views)]
    return strip([subject.alignment.crop(p, side) for p in images])


def animation(subject: Subject, views: Sequence[RotatedPhotograph], side: int = 384) -> list[np.ndarray]:
    """Close-ups of the views, played forwards then backwards, max side `side` pixels, for `write_animation`."""
    return forwards_and_backwards([shrink_to_side(close_up(subject, v.image), side) for v in views])


def provenance(
    rotator: Rotator, views: Sequence[RotatedPhotograph], wanted: Mapping[str, Wanted] | None = None
) -> dict[str, str]:
    """Metadata of a file with rotated faces, for `write_image` and `write_animation`."""
    degrees = [round(v.frame.requested_deg, 2) for v in views]
    told = {"properties": {name: f"{w.value:+g}" for name, w in wanted.items()}} if wanted else {}
    return synthetic_metadata({"model": capabilities_of(rotator).name, "asked_deg": degrees, **told})
