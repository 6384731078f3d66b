"""The request of an edit, parsed from command-line options: rotations, and settings of properties."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latentrot.directions.properties import Wanted, by, to
from latentrot.errors import LatentrotError
from latentrot.portrait.turns import Turn, parse_turns

__all__ = ["EditRequest", "parse_edit", "parse_set"]

#: values that are words: light=left sets the property light_left to LIT
SIDES = {"light": ("left", "right")}
#: probability of a side; 1 would need the longest step, which draws hard shadows
LIT = 0.8
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)$")


@dataclass(frozen=True)
class EditRequest:
    """The request of an edit: each rotation combined with each setting of properties.

    Attributes:
        turns: rotations in degrees.
        absolute: True if their yaws are target yaws; False if they are relative to the source.
        settings: property name -> change or target value; an empty setting changes no property.
        whole_pose: True if their pitches and rolls are targets, too.
    """

    turns: tuple[Turn, ...]
    absolute: bool = False
    settings: tuple[dict[str, Wanted], ...] = ({},)
    whole_pose: bool = False

    @property
    def count(self) -> int:
        """Number of results."""
        return len(self.turns) * len(self.settings)

    @property
    def is_still(self) -> bool:
        """Whether only properties are edited and no head is rotated."""
        return any(self.settings) and not self.absolute and not any(t.yaw or not t.yaw_alone for t in self.turns)


def parse_edit(
    deg: float | None = None,
    to_yaw: float | None = None,
    sweep: str | None = None,
    pitch: str | None = None,
    words: Sequence[str] = (),
) -> EditRequest:
    """Parse the options of `latentrot edit`.

    Args:
        deg: yaw to rotate BY, degrees; > 0: nose to the viewer's right.
        to_yaw: yaw to rotate TO, degrees.
        sweep: FIRST:LAST:COUNT of yaw, or NAME=FIRST:LAST:COUNT of a property.
        pitch: degrees to rotate BY, or FIRST:LAST:COUNT; > 0: looks up.
        words: NAME=VALUE settings of properties.

    Raises:
        LatentrotError: no option requests an edit, options exclude each other, or they request over 200 results.
    """
    fixed = parse_set(words)
    of_property = sweep is not None and "=" in sweep
    swept = parse_property_sweep(sweep) if sweep is not None and of_property else [{}]
    if again := set(fixed) & set(swept[0]):
        raise LatentrotError(f"--set and --sweep both name {', '.join(again)}; give it once")
    settings = tuple({**fixed, **one} for one in swept)
    rotates = deg is not None or to_yaw is not None or pitch is not None or (sweep is not None and not of_property)
    turns, absolute = ([Turn()], False)
    if rotates or not any(settings):
        turns, absolute = parse_turns(deg, to_yaw, None if of_property else sweep, pitch)
    request = EditRequest(tuple(turns), absolute, settings)
    if request.count > 200:
        raise LatentrotError(f"--sweep and --pitch request {request.count} results; expected at most 200")
    return request


def parse_set(words: Sequence[str]) -> dict[str, Wanted]:
    """Parse settings such as smile=+1, age=60 or light=left: a signed value changes BY, an unsigned one TO.

    Raises:
        LatentrotError: a word is not NAME=VALUE, or two words name the same property.
    """
    wanted: dict[str, Wanted] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if name in SIDES and value in SIDES[name]:
            name, value = f"{name}_{value}", str(LIT)
        if not equals or not NUMBER.match(value):
            sides = " or ".join(f"{n}={side}" for n, known in SIDES.items() for side in known)
            raise LatentrotError(
                f"--set {word}: expected NAME=VALUE, for example smile=+1 (by 1), age=60 (to 60) or {sides}"
            )
        if name in wanted:
            raise LatentrotError(f"--set {word}: {name} is named twice; give one value")
        wanted[name] = by(float(value)) if value[0] in "+-" else to(float(value))
    return wanted


def parse_property_sweep(text: str) -> list[dict[str, Wanted]]:
    """Parse the sweep of a property: "smile=-1:1:5" gives five changes BY -1 to +1, evenly spaced.

    Raises:
        LatentrotError: the text is not NAME=FIRST:LAST:COUNT, or COUNT is not 2 to 200.
    """
    name, _, values = text.partition("=")
    parts = values.split(":")
    if len(parts) != 3 or not all(NUMBER.match(p) for p in parts[:2]) or not parts[2].isdecimal():
        raise LatentrotError(f"--sweep {text}: expected NAME=FIRST:LAST:COUNT, for example smile=-1:1:5")
    first, last, count = float(parts[0]), float(parts[1]), int(parts[2])
    if not 2 <= count <= 200:
        raise LatentrotError(f"--sweep {text}: expected 2 to 200 values")
    return [{name: by(float(v))} for v in np.linspace(first, last, count)]
