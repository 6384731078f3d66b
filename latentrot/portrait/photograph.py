"""Edit a photograph end to end: edit the properties of its faces, rotate their heads, composite the results."""

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
from latentrot.portrait.edit_request import EditRequest, parse_set
from latentrot.portrait.face import EditedFace, prepare_face
from latentrot.portrait.portrait import EditConfig, Portrait, open_portrait
from latentrot.portrait.pose import open_pose
from latentrot.portrait.pose import pose_of as pose_of_face
from latentrot.portrait.properties import Appearance, StillRotator, edit_appearance
from latentrot.portrait.recipe import Recipe, digests_of
from latentrot.portrait.turns import Turn, as_turns
from latentrot.portrait.upscale import Upscaler
from latentrot.progress import Clock
from latentrot.rotators.protocol import RotatedCrops, Rotator, capabilities_of
from latentrot.rotators.registry import load_rotator

if TYPE_CHECKING:
    from latentrot.rotators.properties import PropertyEditor, Wanted

__all__ = ["Edited", "Variation", "edit", "edit_photograph", "edit_portrait", "load_editor_for"]


@dataclass(frozen=True, eq=False)
class Variation:
    """The results of one setting of the properties: the edited appearance, and every rotation of each face.

    Attributes:
        appearance: the photograph after the edit of its properties.
        faces: the edited faces, the largest first.
    """

    appearance: Appearance
    faces: tuple[EditedFace, ...]


@dataclass(frozen=True, eq=False)
class Edited:
    """A photograph and the results of its edit: each setting of the properties combined with each rotation.

    Attributes:
        path: file of the photograph.
        photograph: pixels, and the colour profile of the file.
        variations: one for each setting of the properties.
        model: name of the model, or of the rotator if it has none.
        warnings: warnings for the user, such as which of several faces was chosen.
        config: options of the edit.
        upscaler: name of the restoration network; empty if there is none.
        recipe: record with which the edit can be repeated; None if it is unknown how the rotator was loaded.
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
        """The upright source photograph, (h, w, 3) uint8 RGB."""
        return self.photograph.pixels

    @cached_property
    def faces(self) -> tuple[EditedFace, ...]:
        """The edited faces, the largest first, each with the results of all variations."""
        if len(self.variations) == 1:
            return self.variations[0].faces
        return tuple(map(joined, zip(*(v.faces for v in self.variations), strict=True)))

    @property
    def turned(self) -> RotatedCrops:
        """The rotated crops of the largest face, of all variations."""
        return self.faces[0].turned

    @property
    def alignment(self) -> Alignment | None:
        """Transform from the photograph to the CelebA frame of the largest face; None if the image was already a crop."""
        return self.faces[0].alignment

    @property
    def count(self) -> int:
        """Number of results."""
        return len(self.turned.frames)

    @property
    def is_square(self) -> bool:
        """Whether the results are crops of the face alone."""
        return self.config.crop_only or self.alignment is None

    @property
    def before(self) -> np.ndarray:
        """The image to compare the results with: the source photograph, or the source crop."""
        if not self.is_square:
            return self.source
        return self.source if self.alignment is None and self.variations[0].appearance.reports else self.turned.source

    def variation_of(self, i: int) -> tuple[Variation, int]:
        """Return the variation of the i-th result, and the index of the result's rotation in it."""
        number, turn = divmod(i, self.count // len(self.variations))
        return self.variations[number], turn

    def image_at(self, i: int) -> np.ndarray:
        """Return the i-th result, (h, w, 3) uint8: the photograph with all edited faces, or the crop alone."""
        if self.is_square:
            return self.turned.frames[i].image
        variation, turn = self.variation_of(i)
        image = self.source.copy()
        variation.appearance.patch.paste(image)
        before = image.copy() if len(variation.faces) > 1 else None
        for face in variation.faces:
            face.patch(turn).paste(image, before)
        return image

    @property
    def image(self) -> np.ndarray:
        """The first result, (h, w, 3) uint8 RGB."""
        return self.image_at(0)

    @property
    def report(self) -> dict[str, object]:
        """Report of the edit, ready for JSON: poses in degrees, properties, PSNR in dB, seconds."""
        from latentrot.portrait.results import report  # noqa: PLC0415  results imports this module

        return report(self, None)

    def _repr_png_(self) -> bytes:
        """PNG that a notebook displays: the edited photograph; for several results a strip, the source face first."""
        from latentrot.portrait.results import preview  # noqa: PLC0415

        return preview(self)

    def save(self, path: Path | str) -> list[Path]:
        """Write the edit; the suffix of `path` selects an image, a strip, an animation or (no suffix) a folder.

        Returns:
            The files written.

        Raises:
            LatentrotError: the suffix is not supported, or `path` is the source photograph.
        """
        from latentrot.portrait.results import check_out, write_edited  # noqa: PLC0415

        check_out(Path(path), self.path, self.count)
        return write_edited(self, Path(path))


def joined(faces: Sequence[EditedFace]) -> EditedFace:
    """Merge the results of one face over several variations, for reports; patches and head are dropped."""
    first = faces[0]
    return replace(
        first,
        turned=replace(first.turned, frames=[frame for face in faces for frame in face.turned.frames]),
        turns=tuple(turn for face in faces for turn in face.turns),
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
        rotator: any rotator; its generated face fills the regions that the source hides. A rotator that generates none
            leaves them to geometry.
        turns: rotations relative to the source, degrees, or target poses if `config.absolute`; plain numbers are yaws.
        config: options of the edit.
        upscaler: restoration network, applied to each generated crop.
        settings: settings of the properties, each combined with each rotation; an empty one changes no property.
        editor: property editor; needed if a setting names a property.

    Raises:
        LatentrotError: a face cannot be edited; the message gives the reason.
    """
    config, can = config or EditConfig(), capabilities_of(rotator)
    rotations = as_turns(turns)
    alone = all(t.yaw_alone for t in rotations) and not config.whole_pose
    if not alone and (config.crop_only or not portrait.alignments):
        raise LatentrotError("pitch and roll need the whole photograph; leave out --crop and --crop-only")
    clock = Clock(dict(portrait.seconds))
    variations = []
    for wanted in settings:
        appearance = edit_appearance(portrait, editor, wanted)
        if wanted:
            clock.lap("properties")
        faces = [
            prepare_face(appearance.portrait, alignment, rotator, config, clock=clock).edit(rotations, upscaler, clock)
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
    """Open a photograph with `open_portrait` and edit it with `edit_portrait`; see these for arguments and errors."""
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
        photograph: image file.
        yaw: rotate BY this many degrees; > 0: nose to the viewer's right. A sequence gives one result per value.
        pitch: also rotate BY this many degrees of pitch; > 0: looks up.
        to: rotate TO this yaw instead, degrees.
        set: property name -> value. A number or an unsigned string changes TO the value (`{"smile": 1, "age": 60}`), a
            signed string BY it (`{"age": "+20"}`); the side of the light is a word (`{"light": "left"}`).
        rotator: a rotator, or its name: latent, mesh, pair, spin, or package.module:name.
        face: "largest", the number of a face (0 is the largest), or "all".
        device: "cpu", "cuda" or "cuda:N"; None: cuda if available, else the CPU.
        pose_of: another photograph; the head takes the yaw, pitch and roll of its largest face. Excludes yaw, pitch, to.

    Returns:
        The edited photograph: `.image`, `.report`, `.save(path)`.

    Raises:
        LatentrotError: the file is unreadable, shows no face, or a face cannot be edited; the message gives the reason.
    """
    posed = pose_of is not None
    if posed and (yaw is not None or to is not None or pitch):
        raise LatentrotError("pose_of excludes yaw, pitch and to: both set the pose; give one of them")
    config = EditConfig(absolute=posed or to is not None, face=face, device=device, whole_pose=posed)
    wanted = parse_set([f"{name}={value}" for name, value in (set or {}).items()])
    if yaw is None and to is None and not pitch and not wanted and not posed:
        raise LatentrotError("nothing to edit: expected yaw, to, pitch, pose_of or set")
    portrait = open_portrait(Path(photograph), config)
    yaws = [to] if to is not None else [float(y) for y in np.atleast_1d(0.0 if yaw is None else yaw)]
    other = open_pose(Path(pose_of), device) if pose_of is not None else None
    request = EditRequest(tuple(Turn(y, pitch) for y in yaws), config.absolute, (wanted,))
    given = rotator if isinstance(rotator, str) else ""
    if request.is_still:
        rotator = StillRotator()
    chosen = load_rotator(rotator, device=device) if isinstance(rotator, str) else rotator
    turns = request.turns if other is None else (pose_of_face(other, chosen, device),)
    editor = load_editor_for(chosen, request, device)
    edited = edit_portrait(portrait, chosen, turns, config, None, request.settings, editor)
    request = replace(request, turns=tuple(turns), whole_pose=posed)
    recipe = Recipe.of(request, config, rotator=given, digests=digests_of(chosen, editor))
    return replace(edited, recipe=recipe)


def load_editor_for(
    rotator: Rotator, request: EditRequest, device: str | None = None, directions: Path | None = None
) -> PropertyEditor | None:
    """Load the property editor for an edit; None if the edit changes no property.

    Args:
        rotator: if its model has property directions, the editor uses that model, else the bundled one.
        request: the requested edit.
        device: "cpu", "cuda" or "cuda:N"; None: cuda if available, else the CPU.
        directions: folder of property directions; None: those of the model.
    """
    if not any(request.settings):
        return None
    from latentrot.rotators.properties import load_property_editor  # noqa: PLC0415  slow

    return load_property_editor(capabilities_of(rotator).property_model, directions, device)
