"""From a photograph to an edited photograph: rotate the faces that were found, put them back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from latentrot.data.images import Photograph
from latentrot.errors import LatentrotError
from latentrot.faces.alignment import Alignment
from latentrot.portrait.face import EditedFace, prepare_face
from latentrot.portrait.portrait import EditConfig, Portrait, open_portrait
from latentrot.portrait.turns import Turn, as_turns
from latentrot.portrait.upscale import Upscaler
from latentrot.progress import Clock
from latentrot.rotators.protocol import RotatedCrops, Rotator, capabilities_of, load_rotator

__all__ = ["Edited", "edit", "edit_photograph", "edit_portrait"]


@dataclass(frozen=True, eq=False)
class Edited:
    """A photograph and its edited versions.

    Attributes:
        path: the photograph.
        photograph: its pixels, and its own colours.
        faces: the faces edited, the largest first.
        model: name of the model, or of the rotator where it has none.
        warnings: what the user should know, such as which of several faces was used.
        config: how they were edited.
        upscaler: name of the network that restored the crops; empty where none did.
    """

    path: Path
    photograph: Photograph
    faces: tuple[EditedFace, ...]
    model: str
    warnings: list[str]
    config: EditConfig = field(default_factory=EditConfig)
    upscaler: str = ""

    @property
    def source(self) -> np.ndarray:
        """(h, w, 3) uint8 RGB, the photograph, upright."""
        return self.photograph.pixels

    @property
    def turned(self) -> RotatedCrops:
        """The rotations of the largest face."""
        return self.faces[0].turned

    @property
    def alignment(self) -> Alignment | None:
        """Of the largest face; None for an image that was a crop already."""
        return self.faces[0].alignment

    @property
    def count(self) -> int:
        """Rotations asked for."""
        return len(self.turned.frames)

    @property
    def is_square(self) -> bool:
        """Whether the results are crops of the face alone."""
        return self.config.crop_only or self.alignment is None

    @property
    def before(self) -> np.ndarray:
        """What the results are to be compared with: the photograph, or the crop that was rotated."""
        return self.turned.source if self.is_square else self.source

    def image_at(self, i: int) -> np.ndarray:
        """The i-th result: (h, w, 3) uint8, the photograph with every face rotated, or the crop alone."""
        if self.is_square:
            return self.turned.frames[i].image
        image = self.source.copy()
        for face in self.faces:
            face.patch(i).paste(image)
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


def edit_portrait(
    portrait: Portrait,
    rotator: Rotator,
    turns: Sequence[Turn | float],
    config: EditConfig | None = None,
    upscaler: Upscaler | None = None,
) -> Edited:
    """Rotate the chosen faces of a photograph.

    Args:
        portrait: from `open_portrait`.
        rotator: any; the face it draws fills what geometry cannot show, or geometry does all.
        turns: by so many degrees, or to poses if `config.absolute`; plain numbers are yaws.
        config: how.
        upscaler: restores every drawn crop.

    Raises:
        LatentrotError: a face that cannot be rotated, and why.
    """
    config, can = config or EditConfig(), capabilities_of(rotator)
    asked = as_turns(turns)
    if any(t.pitch for t in asked) and (config.crop_only or not portrait.alignments):
        raise LatentrotError("a pitch needs the whole photograph; leave out --crop and --crop-only")
    clock = Clock(dict(portrait.seconds))
    faces = [
        prepare_face(portrait, alignment, rotator, config, clock=clock).edit(asked, upscaler, clock)
        for alignment in portrait.alignments or (None,)
    ]
    warnings = [*portrait.warnings, *can.warnings, *(w for face in faces for w in face.warnings)]
    faces[0] = replace(faces[0], turned=replace(faces[0].turned, seconds=clock.seconds))
    name = "" if upscaler is None else upscaler.name
    return Edited(portrait.path, portrait.photograph, tuple(faces), can.name, warnings, config, name)


def edit_photograph(
    path: Path,
    rotator: Rotator,
    turns: Sequence[Turn | float],
    config: EditConfig | None = None,
    upscaler: Upscaler | None = None,
) -> Edited:
    """Rotate the face in a photograph: `open_portrait`, then `edit_portrait`, with their arguments and errors."""
    return edit_portrait(open_portrait(path, config), rotator, turns, config, upscaler)


def edit(
    photograph: Path | str,
    *,
    yaw: float | Sequence[float] = 0.0,
    pitch: float = 0.0,
    to: float | None = None,
    rotator: Rotator | str = "latent",
    face: str = "largest",
    device: str | None = None,
) -> Edited:
    """Edit the face in a photograph.

    Args:
        photograph: the file.
        yaw: rotate BY so many degrees; > 0: nose to the viewer's right. Several: one result each.
        pitch: and BY so many degrees of pitch; > 0: looks up.
        to: rotate TO this yaw instead, degrees.
        rotator: what draws the rotated face, or its name: latent, mesh, pair, spin, or package.module:name.
        face: "largest", the number of a face, or "all".
        device: "cpu", "cuda" or "cuda:N"; None: cuda where there is one.

    Returns:
        The edited photograph: `.image`, `.report`, `.save(path)`.

    Raises:
        LatentrotError: an unreadable file, no face in it, or a face that cannot be edited, and why.
    """
    yaws = [to] if to is not None else [float(y) for y in np.atleast_1d(yaw)]
    config = EditConfig(absolute=to is not None, face=face, device=device)
    portrait = open_portrait(Path(photograph), config)
    chosen = load_rotator(rotator, device=device) if isinstance(rotator, str) else rotator
    return edit_portrait(portrait, chosen, [Turn(y, pitch) for y in yaws], config)
