"""From a photograph to a turned photograph: turn the faces that were found, put them back."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from latentrot.data.images import Photograph, resize, to_tensor
from latentrot.errors import LatentrotError
from latentrot.faces.alignment import Alignment
from latentrot.faces.estimate import estimate_light, estimate_pose, light_names
from latentrot.faces.network import load_labeler
from latentrot.geometry import Head, build_head, turn_for, turn_head
from latentrot.portrait.compose import Patch, fill_hidden, redraw
from latentrot.portrait.find import EditConfig, Found, find_faces
from latentrot.portrait.reify import reify
from latentrot.portrait.turns import Turn, as_turns
from latentrot.portrait.upscale import Upscaler
from latentrot.progress import Clock
from latentrot.rotators.latent import Frame, LatentRotator, Turned
from latentrot.rotators.mesh import MeshRotator
from latentrot.rotators.protocol import Rotator, rotate_many

__all__ = ["Edited", "TurnedFace", "edit_photograph", "turn_faces"]

#: side in pixels of the crops that rotators are given which work at any size
CROP_SIDE = 256
#: patches of all turns are kept while they take no more than so many bytes together; beyond, each is made when it is wanted
KEPT_BYTES = 200_000_000


@dataclass(frozen=True, eq=False)
class TurnedFace:
    """One face of a photograph and its turns.

    Attributes:
        turned: the crop's turns with their measurements; of a pasted face measured on the photograph that comes out.
        asked: the turns, by so many degrees.
        alignment: photograph -> CelebA frame; None for a picture that was a crop already.
        head: the head set up to be turned; None where only the square is turned.
        config: how it was turned.
        drawn: whether a model drew the turned face, or geometry alone made it.
        carried: for each turn the share of the face that the photograph itself shows.
    """

    turned: Turned
    asked: tuple[Turn, ...]
    alignment: Alignment | None
    head: Head | None = None
    config: EditConfig = field(default_factory=EditConfig)
    drawn: bool = True
    carried: tuple[float, ...] = ()
    kept: tuple[Patch, ...] = ()

    def patch(self, i: int) -> Patch:
        """The i-th turn in the photograph."""
        if self.kept:
            return self.kept[i]
        if self.head is None:
            raise LatentrotError("a square alone was turned; there is no photograph to put it into")
        turn = self.asked[i]
        carried = turn_head(self.head, turn_for(turn.yaw), turn.pitch)
        image = self.turned.frames[i].image if self.drawn else None
        if self.config.reify and image is not None:
            return redraw(self.head, carried, image)
        return fill_hidden(self.head, carried, image, self.config.trust)


@dataclass(frozen=True, eq=False)
class Edited:
    """A photograph and its turned versions.

    Attributes:
        path: the photograph.
        photograph: its pixels, and its own colours.
        faces: the faces turned, the largest first.
        model: name of the model, or of the rotator where it has none.
        notes: what the user should know, such as which of several faces was used.
        config: how they were turned.
        upscaler: name of the network that restored the crops; empty where none did.
    """

    path: Path
    photograph: Photograph
    faces: tuple[TurnedFace, ...]
    model: str
    notes: list[str]
    config: EditConfig = field(default_factory=EditConfig)
    upscaler: str = ""

    @property
    def photo(self) -> np.ndarray:
        """(h, w, 3) uint8 RGB, upright."""
        return self.photograph.pixels

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
        return self.config.crop_only or self.alignment is None

    @property
    def before(self) -> np.ndarray:
        """What the results are to be compared with: the photograph, or the square that was turned."""
        return self.turned.source if self.is_square else self.photo

    def photo_at(self, i: int) -> np.ndarray:
        """The i-th result: (h, w, 3) uint8, the photograph with every face turned, or the square alone."""
        if self.is_square:
            return self.turned.frames[i].image
        photo = self.photo.copy()
        for face in self.faces:
            face.patch(i).laid_on(photo)
        return photo


def turn_faces(
    found: Found,
    rotator: Rotator,
    turns: Sequence[Turn | float],
    config: EditConfig | None = None,
    upscaler: Upscaler | None = None,
) -> Edited:
    """Turn the faces found.

    Args:
        found: from `find_faces`.
        rotator: any; the geometric one turns the photograph itself, of the others the drawn face fills what was hidden.
        turns: by so many degrees, or to poses if `config.absolute`; plain numbers are yaws.
        config: how.
        upscaler: restores every drawn square.

    Raises:
        LatentrotError: a face that cannot be turned, and why.
    """
    config = config or EditConfig()
    asked = as_turns(turns)
    if any(t.pitch for t in asked) and (config.crop_only or not found.alignments):
        raise LatentrotError("a pitch needs the whole photograph; leave out --crop and --crop-only")
    clock = Clock(dict(found.seconds))
    faces, notes = [], [*found.notes, *getattr(rotator, "notes", ())]
    for alignment in found.alignments or (None,):
        face, more = turn_face(found, alignment, rotator, asked, config, upscaler, clock)
        faces.append(face)
        notes += more
    faces[0] = replace(faces[0], turned=replace(faces[0].turned, seconds=clock.seconds))
    name = "" if upscaler is None else upscaler.name
    return Edited(found.path, found.photograph, tuple(faces), model_name(rotator), notes, config, name)


def turn_face(
    found: Found,
    alignment: Alignment | None,
    rotator: Rotator,
    asked: Sequence[Turn],
    config: EditConfig,
    upscaler: Upscaler | None,
    clock: Clock,
) -> tuple[TurnedFace, list[str]]:
    """One face: set the head up, draw the turned face, put both together, measure what came out.

    Returns:
        The face, and notes for the user.
    """
    photo = found.photo
    building, notes = None, []
    with ThreadPoolExecutor(1) as pool:
        # the head
        if alignment is not None and not config.crop_only:
            mesh = MeshRotator(device=config.looks_on)
            building = pool.submit(build_head, photo, *mesh.look_at(photo, alignment, found.faces), mesh.config)
            if not isinstance(rotator, LatentRotator):  # others may call the geometry's kernels, which allow one caller
                wait([building])
            clock.lap("set up head")

        # what a model draws; a walk beside the head
        drawn = draw(photo, alignment, rotator, asked, config)
    head = None if building is None else building.result()
    if head is not None:
        notes += head.notes
    notes += beyond_reach(drawn, rotator) + held_short(drawn, rotator)
    if upscaler is not None:
        drawn = upscaler.upscale_turned(drawn)
    by = tuple(Turn(f.requested_deg, t.pitch) for f, t in zip(drawn.frames, asked, strict=True))
    clock.lap("draw", drawn.seconds)
    face = TurnedFace(drawn, by, alignment, head, config, not isinstance(rotator, MeshRotator))
    if head is None:
        return face, notes

    # in the photograph
    patches, frames = [], []
    side = max(64, min(CROP_SIDE, round(alignment.crop_side))) if alignment else CROP_SIDE
    for i, frame in enumerate(drawn.frames):
        patch = face.patch(i)
        patches.append(patch)
        frames.append(measured(photo, patch, frame, rotator, side, face))
        if sum(p.pixels.nbytes for p in patches) > KEPT_BYTES:
            patches.clear()
    clock.lap("put together")
    carried = tuple(p.carried for p in patches) if len(patches) == len(frames) else ()
    kept = tuple(patches) if len(patches) == len(frames) else ()
    return replace(face, turned=replace(drawn, frames=frames), carried=carried, kept=kept), notes


def draw(
    photo: np.ndarray, alignment: Alignment | None, rotator: Rotator, asked: Sequence[Turn], config: EditConfig
) -> Turned:
    """The square around a face and its turns as the rotator draws them; a geometric one draws none, it is asked later."""
    yaws = [t.yaw for t in asked]
    if isinstance(rotator, LatentRotator):
        square = photo if alignment is None else alignment.crop(photo, rotator.model.resolution)
        real = reify(square, rotator) if config.reify else square
        return rotator.turn(real, yaws, absolute=config.absolute, light=config.light)
    square = photo if alignment is None else alignment.crop(photo, CROP_SIDE)
    yaw, pitch, light = look(square, rotator, config.looks_on)
    by = [y - yaw if config.absolute else y for y in yaws]
    later = isinstance(rotator, MeshRotator) and alignment is not None and not config.crop_only
    images = [square] * len(by) if later else rotate_many(rotator, square, by)
    frames = [
        Frame(d, *((yaw, pitch, light) if later else look(im, rotator, config.looks_on)), im)
        for d, im in zip(by, images, strict=True)
    ]
    return Turned(square, square, yaw, pitch, light, frames, float("inf"))


def look(square: np.ndarray, rotator: Rotator, device: str | None = None) -> tuple[float, float, str]:
    """Yaw and pitch in degrees and the light of a square crop, by the label network that belongs to the rotator.

    One that has none is measured by that of the bundled faces, on `device` (None: the CPU).
    """
    network = rotator.label_network if isinstance(rotator, LatentRotator) else load_labeler(device=device)
    x = to_tensor(square)
    yaw, pitch = (float(v) for v in estimate_pose(x, labeler=network)[0, :2])
    return yaw, pitch, light_names(estimate_light(x, labeler=network))[0]


def measured(photo: np.ndarray, patch: Patch, frame: Frame, rotator: Rotator, side: int, face: TurnedFace) -> Frame:
    """A frame with pose and light as they are in the photograph that comes out; geometry's own square if none was drawn."""
    result = photo.copy()
    patch.laid_on(result)
    square = patch.alignment.crop(result, side)
    yaw, pitch, light = look(square, rotator, face.config.looks_on)
    image = frame.image if face.drawn else resize(square, side)
    return replace(frame, yaw_deg=yaw, pitch_deg=pitch, light=light, image=image)


def model_name(rotator: Rotator) -> str:
    """What an edit says it was made by."""
    return (
        rotator.model.name if isinstance(rotator, LatentRotator) else getattr(rotator, "name", type(rotator).__name__)
    )


def beyond_reach(turned: Turned, rotator: Rotator) -> list[str]:
    """A note where a turn is longer than what was calibrated."""
    if not isinstance(rotator, LatentRotator):
        return []
    low, high = rotator.lines_of(turned.light).reach
    beyond = [f.requested_deg for f in turned.frames if not low <= f.requested_deg <= high]
    return [f"{d:+.0f} degrees is beyond what was calibrated ({low:+.0f} to {high:+.0f})" for d in beyond[:1]]


def held_short(turned: Turned, rotator: Rotator) -> list[str]:
    """A note where a walk was held at its longest step and falls short."""
    if not isinstance(rotator, LatentRotator):
        return []
    return [
        f"the drawn face is turned by {f.drawn_deg:+.0f} of {f.requested_deg:+.0f} degrees: longer steps than --limit "
        f"{rotator.limit:g} turn it little further and change the person"
        for f in turned.frames
        if f.held
    ]


def edit_photograph(
    path: Path,
    rotator: Rotator,
    turns: Sequence[Turn | float],
    config: EditConfig | None = None,
    upscaler: Upscaler | None = None,
) -> Edited:
    """Turn the face in a photograph: `find_faces`, then `turn_faces`, with their arguments and errors."""
    return turn_faces(find_faces(path, config), rotator, turns, config, upscaler)
