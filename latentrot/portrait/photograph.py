"""From a photograph to an edited photograph: rotate the faces that were found, put them back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from latentrot.data.images import Photograph
from latentrot.errors import LatentrotError
from latentrot.faces.alignment import Alignment
from latentrot.portrait.asked import Asked, parse_set
from latentrot.portrait.face import EditedFace, prepare_face
from latentrot.portrait.portrait import EditConfig, Portrait, open_portrait
from latentrot.portrait.pose import open_pose
from latentrot.portrait.pose import pose_of as pose_of_face
from latentrot.portrait.properties import Appearance, StillRotator, edit_appearance
from latentrot.portrait.recipe import Recipe, digests_of
from latentrot.portrait.turns import Turn, as_turns
from latentrot.portrait.upscale import Upscaler
from latentrot.progress import Clock
from latentrot.rotators.protocol import RotatedCrops, Rotator, capabilities_of, load_rotator

if TYPE_CHECKING:
    from latentrot.rotators.properties import PropertyEditor, Wanted

__all__ = ["Edited", "Variation", "edit", "edit_photograph", "edit_portrait", "load_editor_for"]


@dataclass(frozen=True, eq=False)
class Variation:
    """One setting of the properties of a photograph, and the rotations of its faces.

    Attributes:
        appearance: the photograph with its properties edited.
        faces: the faces edited, the largest first.
    """

    appearance: Appearance
    faces: tuple[EditedFace, ...]


@dataclass(frozen=True, eq=False)
class Edited:
    """A photograph and its edited versions: every rotation asked for of every setting of its properties.

    Attributes:
        path: the photograph.
        photograph: its pixels, and its own colours.
        variations: one for each setting of the properties.
        model: name of the model, or of the rotator where it has none.
        warnings: what the user should know, such as which of several faces was used.
        config: how it was edited.
        upscaler: name of the network that restored the crops; empty where none did.
        recipe: by which the edit can be repeated, where it is known how the rotator was loaded.
    """

    path: Path
    photograph: Photograph
    variations: tuple[Variation, ...]
    model: str
    warnings: list[str]
    config: EditConfig = field(default_factory=EditConfig)
    upscaler: str = ""
    recipe: Recipe | None = None

    @property
    def source(self) -> np.ndarray:
        """(h, w, 3) uint8 RGB, the photograph, upright."""
        return self.photograph.pixels

    @cached_property
    def faces(self) -> tuple[EditedFace, ...]:
        """The faces edited, the largest first, with the results of all variations."""
        if len(self.variations) == 1:
            return self.variations[0].faces
        return tuple(map(joined, zip(*(v.faces for v in self.variations), strict=True)))

    @property
    def turned(self) -> RotatedCrops:
        """The results of the largest face."""
        return self.faces[0].turned

    @property
    def alignment(self) -> Alignment | None:
        """Of the largest face; None for an image that was a crop already."""
        return self.faces[0].alignment

    @property
    def count(self) -> int:
        """Results."""
        return len(self.turned.frames)

    @property
    def is_square(self) -> bool:
        """Whether the results are crops of the face alone."""
        return self.config.crop_only or self.alignment is None

    @property
    def before(self) -> np.ndarray:
        """What the results are to be compared with: the photograph, or the crop that was edited."""
        if not self.is_square:
            return self.source
        return self.source if self.alignment is None and self.variations[0].appearance.reports else self.turned.source

    def variation_of(self, i: int) -> tuple[Variation, int]:
        """The setting of the i-th result, and which of its rotations it is."""
        number, turn = divmod(i, self.count // len(self.variations))
        return self.variations[number], turn

    def image_at(self, i: int) -> np.ndarray:
        """The i-th result: (h, w, 3) uint8, the photograph with every face edited, or the crop alone."""
        if self.is_square:
            return self.turned.frames[i].image
        variation, turn = self.variation_of(i)
        image = self.source.copy()
        variation.appearance.patch.paste(image)
        for face in variation.faces:
            face.patch(turn).paste(image)
        return image

    @property
    def image(self) -> np.ndarray:
        """The first result."""
        return self.image_at(0)

    @property
    def report(self) -> dict[str, object]:
        """The edit in plain numbers: degrees, decibels, seconds."""
        from latentrot.portrait.results import report  # noqa: PLC0415  which writes what this module makes

        return report(self, None)

    def _repr_png_(self) -> bytes:
        """What a notebook shows: the edited photograph; of several results a strip of the face, the source first."""
        from latentrot.portrait.results import preview  # noqa: PLC0415

        return preview(self)

    def save(self, path: Path | str) -> list[Path]:
        """Write the edit: an image, a contact sheet, an animation or a folder, by the name of `path`.

        Returns:
            The files written.

        Raises:
            LatentrotError: the name says nothing that can be written, or is the photograph's own.
        """
        from latentrot.portrait.results import check_out, write_edited  # noqa: PLC0415

        check_out(Path(path), self.path, self.count)
        return write_edited(self, Path(path))


def joined(faces: Sequence[EditedFace]) -> EditedFace:
    """One face with the results of several variations, for reports; its patches stay with the variations."""
    first = faces[0]
    return replace(
        first,
        turned=replace(first.turned, frames=[frame for face in faces for frame in face.turned.frames]),
        asked=tuple(turn for face in faces for turn in face.asked),
        coverage=tuple(c for face in faces for c in face.coverage) if all(f.coverage for f in faces) else (),
        kept=(),
        head=None,
    )


def edit_portrait(
    portrait: Portrait,
    rotator: Rotator,
    turns: Sequence[Turn | float],
    config: EditConfig | None = None,
    upscaler: Upscaler | None = None,
    settings: Sequence[Mapping[str, Wanted]] = ({},),
    editor: PropertyEditor | None = None,
) -> Edited:
    """Edit properties of the chosen faces of a photograph, then rotate their heads.

    Args:
        portrait: from `open_portrait`.
        rotator: any; the face it draws fills what geometry cannot show, or geometry does all.
        turns: by so many degrees, or to poses if `config.absolute`; plain numbers are yaws.
        config: how.
        upscaler: restores every drawn crop.
        settings: of the properties, every one combined with every rotation; an empty one leaves them as they are.
        editor: of properties, where a setting names any.

    Raises:
        LatentrotError: a face that cannot be edited, and why.
    """
    config, can = config or EditConfig(), capabilities_of(rotator)
    asked = as_turns(turns)
    alone = all(t.yaw_alone for t in asked) and not config.whole_pose
    if not alone and (config.crop_only or not portrait.alignments):
        raise LatentrotError("a pitch or a roll needs the whole photograph; leave out --crop and --crop-only")
    clock = Clock(dict(portrait.seconds))
    variations = []
    for wanted in settings:
        appearance = edit_appearance(portrait, editor, wanted)
        if wanted:
            clock.lap("properties")
        faces = [
            prepare_face(appearance.portrait, alignment, rotator, config, clock=clock).edit(asked, upscaler, clock)
            for alignment in portrait.alignments or (None,)
        ]
        variations.append(Variation(appearance, tuple(faces)))
    told = [w for v in variations for w in (*v.appearance.warnings, *(w for face in v.faces for w in face.warnings))]
    warnings = [*portrait.warnings, *can.warnings, *dict.fromkeys(told)]
    first = variations[0].faces[0]
    timed = replace(first, turned=replace(first.turned, seconds=clock.seconds))
    variations[0] = replace(variations[0], faces=(timed, *variations[0].faces[1:]))
    name = "" if upscaler is None else upscaler.name
    return Edited(portrait.path, portrait.photograph, tuple(variations), can.name, warnings, config, name)


def edit_photograph(
    path: Path,
    rotator: Rotator,
    turns: Sequence[Turn | float],
    config: EditConfig | None = None,
    upscaler: Upscaler | None = None,
    settings: Sequence[Mapping[str, Wanted]] = ({},),
    editor: PropertyEditor | None = None,
) -> Edited:
    """Edit the face in a photograph: `open_portrait`, then `edit_portrait`, with their arguments and errors."""
    return edit_portrait(open_portrait(path, config), rotator, turns, config, upscaler, settings, editor)


def edit(
    photograph: Path | str,
    *,
    yaw: float | Sequence[float] | None = None,
    pitch: float = 0.0,
    to: float | None = None,
    set: Mapping[str, float | str] | None = None,
    rotator: Rotator | str = "latent",
    face: str = "largest",
    device: str | None = None,
    pose_of: Path | str | None = None,
) -> Edited:
    """Edit the face in a photograph.

    Args:
        photograph: the file.
        yaw: rotate BY so many degrees; > 0: nose to the viewer's right. Several: one result each.
        pitch: and BY so many degrees of pitch; > 0: looks up.
        to: rotate TO this yaw instead, degrees.
        set: properties: a number or an unsigned text changes TO it (`{"smile": 1, "age": 60}`), a signed text BY it
            (`{"age": "+20"}`); `{"light": "left"}`.
        rotator: what draws the rotated face, or its name: latent, mesh, pair, spin, or package.module:name.
        face: "largest", the number of a face, or "all".
        device: "cpu", "cuda" or "cuda:N"; None: cuda where there is one.
        pose_of: another photograph, whose face's yaw, pitch and roll the head takes; in place of yaw, pitch and to.

    Returns:
        The edited photograph: `.image`, `.report`, `.save(path)`.

    Raises:
        LatentrotError: an unreadable file, no face in it, or a face that cannot be edited, and why.
    """
    posed = pose_of is not None
    if posed and (yaw is not None or to is not None or pitch):
        raise LatentrotError("pose_of and yaw, pitch or to both say how the head turns; give one of them")
    config = EditConfig(absolute=posed or to is not None, face=face, device=device, whole_pose=posed)
    wanted = parse_set([f"{name}={value}" for name, value in (set or {}).items()])
    if yaw is None and to is None and not pitch and not wanted and not posed:
        raise LatentrotError("nothing to edit: expected yaw, to, pitch, pose_of or set")
    portrait = open_portrait(Path(photograph), config)
    yaws = [to] if to is not None else [float(y) for y in np.atleast_1d(0.0 if yaw is None else yaw)]
    other = open_pose(Path(pose_of), device) if pose_of is not None else None
    asked = Asked(tuple(Turn(y, pitch) for y in yaws), config.absolute, (wanted,))
    given = rotator if isinstance(rotator, str) else ""
    if asked.is_still:
        rotator = StillRotator()
    chosen = load_rotator(rotator, device=device) if isinstance(rotator, str) else rotator
    turns = asked.turns if other is None else (pose_of_face(other, chosen, device),)
    editor = load_editor_for(chosen, asked, device)
    edited = edit_portrait(portrait, chosen, turns, config, None, asked.settings, editor)
    asked = replace(asked, turns=tuple(turns), whole_pose=posed)
    recipe = Recipe.of(asked, config, rotator=given, digests=digests_of(chosen, editor))
    return replace(edited, recipe=recipe)


def load_editor_for(
    rotator: Rotator, asked: Asked, device: str | None = None, directions: Path | None = None
) -> PropertyEditor | None:
    """The editor of properties that goes with a rotator: of its model where properties come with that, else the bundled one.

    Args:
        rotator: rotates the heads.
        asked: without properties no editor is needed.
        device: where the model runs; None: cuda where there is one.
        directions: folder of directions of properties; None: those that come with the model.
    """
    if not any(asked.settings):
        return None
    from latentrot.rotators.properties import load_property_editor  # noqa: PLC0415  slow

    return load_property_editor(capabilities_of(rotator).property_model, directions, device)
