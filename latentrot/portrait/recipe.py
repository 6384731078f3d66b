"""Repeatable edits: the report of an edit records its options and networks, so that it can be applied to another image."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentrot.directions.properties import by, to
from latentrot.errors import LatentrotError, one_line
from latentrot.files import check_format
from latentrot.portrait.edit_request import EditRequest
from latentrot.portrait.portrait import EditConfig
from latentrot.portrait.turns import Turn
from latentrot.rotators.protocol import capabilities_of

if TYPE_CHECKING:
    from latentrot.rotators.properties import PropertyEditor
    from latentrot.rotators.protocol import Rotator

__all__ = ["CONFIG", "Recipe", "digests_of", "read_recipe"]

FORMAT = 1
#: fields of `EditConfig` that a recipe records
CONFIG = ("light", "face", "crop", "crop_only", "reify", "trust", "light_follows")


@dataclass(frozen=True)
class Recipe:
    """The record of an edit, with which it can be repeated.

    Attributes:
        request: rotations and settings of properties.
        config: fields of `EditConfig` listed in `CONFIG`.
        rotator: name of the rotator, or package.module:name; empty if an object was given.
        options: options of the rotator that differ from their defaults.
        follow: path of the driving video, if any.
        upscale: path of the weights of the restoration network, if any.
        digests: kind of network or directions -> hash of its contents.
    """

    request: EditRequest
    config: Mapping[str, Any]
    rotator: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    follow: str | None = None
    upscale: str | None = None
    digests: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, request: EditRequest, config: EditConfig, **made_with: Any) -> Recipe:
        """Build the recipe of an edit; keyword arguments set the remaining attributes."""
        return cls(request, {name: getattr(config, name) for name in CONFIG}, **made_with)

    def as_json(self) -> dict[str, object]:
        """Convert to the JSON entry "edit" of a report."""
        settings = [{name: str(w) for name, w in setting.items()} for setting in self.request.settings]
        turns = [[turn.yaw, turn.pitch, turn.roll] for turn in self.request.turns]
        request = {
            "turns": turns,
            "absolute": self.request.absolute,
            "whole_pose": self.request.whole_pose,
            "settings": settings,
        }
        rest = {f.name: getattr(self, f.name) for f in fields(self)[1:]}
        return {"format": FORMAT, **request, **{name: value for name, value in rest.items() if value not in (None, {})}}

    @classmethod
    def from_json(cls, told: Mapping[str, Any], path: Path) -> Recipe:
        """Parse the output of `as_json`.

        Args:
            told: entry "edit" of a report.
            path: the report, for error messages.

        Raises:
            LatentrotError: the format is newer, or an entry is missing or of another type.
        """
        check_format(told.get("format"), FORMAT, path)
        try:
            turns = tuple(Turn(*map(float, turn)) for turn in told["turns"])
            settings = tuple(
                {str(n): by(float(v)) if v[0] in "+-" else to(float(v)) for n, v in s.items()} for s in told["settings"]
            )
            request = EditRequest(turns, bool(told["absolute"]), settings, bool(told["whole_pose"]))
            rest = {f.name: told[f.name] for f in fields(cls)[2:] if f.name in told}
            return cls(request, {name: told["config"][name] for name in CONFIG}, **rest)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise LatentrotError(f"{one_line(path)}: the recorded edit is invalid ({one_line(error)})") from error

    def require_same(self, digests: Mapping[str, str]) -> None:
        """Check that networks and directions are those of the recorded edit.

        Raises:
            LatentrotError: a digest differs; the message names it and both values.
        """
        for name in sorted({*self.digests, *digests}):
            mine, here = self.digests.get(name, "none"), digests.get(name, "none")
            if mine != here:
                raise LatentrotError(
                    f"--edit: the report records {name} {mine}, but here it is {here}; use the recorded network or directions"
                )


def read_recipe(path: Path) -> Recipe:
    """Read the recipe from a report.json, or from the saved output of `latentrot edit --json`.

    Raises:
        LatentrotError: the file is missing, is not a report, or was written before reports recorded their edit.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
        told = json.loads(text if text.count("\n{") == 0 else text.splitlines()[0])
    except (OSError, ValueError) as error:
        raise LatentrotError(f"cannot read the report {one_line(path)}: {one_line(error)}") from error
    if not isinstance(told, dict) or not isinstance(told.get("edit"), dict):
        raise LatentrotError(
            f"{one_line(path)} records no edit; give a report.json of latentrot edit, or its saved --json output"
        )
    recipe = Recipe.from_json(told["edit"], path)
    if not recipe.rotator:
        raise LatentrotError(f"{one_line(path)}: its edit was made with a rotator object, which no command can load")
    return recipe


def digests_of(rotator: Rotator, editor: PropertyEditor | None) -> dict[str, str]:
    """Hash the networks and directions of an edit.

    Returns:
        Kind of network or directions -> hexadecimal digest.
    """
    found = dict(capabilities_of(rotator).digests)
    if editor is None:
        return found
    sha = hashlib.sha256()
    for directions in editor.directions:
        sha.update(json.dumps([asdict(p) for p in directions.properties], default=str, sort_keys=True).encode())
        for name, vector in sorted(directions.vectors.items()):
            sha.update(name.encode() + vector.cpu().float().numpy().tobytes())
    return {**found, "property model": editor.model.fingerprint.key, "property directions": sha.hexdigest()[:16]}
