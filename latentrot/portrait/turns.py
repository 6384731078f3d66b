"""Requested rotations of the head, and their parsers: yaw, pitch and roll in degrees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from latentrot.errors import LatentrotError

__all__ = ["FURTHEST", "Turn", "as_turns", "parse_sweep", "parse_turns"]

#: max absolute angle of a requested rotation, degrees
FURTHEST = 90.0


@dataclass(frozen=True)
class Turn:
    """A rotation of the head in degrees: relative to the source, or a target pose, as `EditRequest.absolute` states.

    Args:
        yaw: > 0: nose to the viewer's right.
        pitch: > 0: looks up.
        roll: > 0: leans clockwise.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0

    @property
    def name(self) -> str:
        """The rotation as a part of a file name, such as yaw+15_pitch-20_roll+5; zero pitch and roll are omitted."""
        further = (("pitch", self.pitch), ("roll", self.roll))
        return f"yaw{round(self.yaw, 2):+g}" + "".join(f"_{name}{round(v, 2):+g}" for name, v in further if v)

    def to(self, pose: Turn) -> Turn:
        """The relative rotation from this pose to another."""
        return Turn(pose.yaw - self.yaw, pose.pitch - self.pitch, pose.roll - self.roll)

    @property
    def yaw_alone(self) -> bool:
        """Whether pitch and roll are 0."""
        return not (self.pitch or self.roll)


def as_turns(turns: Sequence[Turn | float]) -> list[Turn]:
    """Convert plain numbers, which are yaws in degrees, to rotations."""
    return [t if isinstance(t, Turn) else Turn(float(t)) for t in turns]


def parse_sweep(text: str, option: str = "--sweep") -> list[float]:
    """Parse FIRST:LAST:COUNT: "-30:30:7" gives seven angles from -30 to 30 degrees, evenly spaced.

    Raises:
        LatentrotError: the text has another form, an angle exceeds 90 degrees, or COUNT is not 2 to 200.
    """
    parts = text.split(":")
    try:
        first, last, count = float(parts[0]), float(parts[1]), int(parts[2])
    except (ValueError, IndexError) as error:
        raise LatentrotError(f"{option} {text}: expected FIRST:LAST:COUNT, for example -30:30:7") from error
    if len(parts) != 3 or not 2 <= count <= 200 or not max(abs(first), abs(last)) <= FURTHEST:
        raise LatentrotError(f"{option} {text}: expected FIRST:LAST:COUNT, within -90 and 90 degrees, 2 to 200 frames")
    return [float(v) for v in np.linspace(first, last, count)]


def parse_turns(
    deg: float | None = None, to: float | None = None, sweep: str | None = None, pitch: str | None = None
) -> tuple[list[Turn], bool]:
    """Parse the rotation options of `latentrot edit`.

    Args:
        deg: yaw to rotate BY, degrees.
        to: yaw to rotate TO, degrees.
        sweep: FIRST:LAST:COUNT of yaw.
        pitch: degrees, or FIRST:LAST:COUNT; each pitch is combined with each yaw.

    Returns:
        The rotations, and whether their yaws are targets.

    Raises:
        LatentrotError: several of deg, to and sweep are given, or none of them and no pitch; or an angle exceeds 90 degrees.
    """
    given = [name for name, value in (("deg", deg), ("to", to), ("sweep", sweep)) if value is not None]
    if len(given) > 1 or not (given or pitch is not None):
        got = " and ".join("--" + g for g in given) or "none of them"
        raise LatentrotError(f"give one of --deg, --to and --sweep (or only --pitch or --set); got {got}")
    yaws = (
        [0.0] if not given else parse_sweep(sweep) if sweep is not None else [float((deg if to is None else to) or 0)]
    )
    for yaw in yaws:
        if not abs(yaw) <= FURTHEST:
            raise LatentrotError(f"--{given[0]} {yaw}: expected between -90 and 90 degrees")
    turns = [Turn(yaw, p) for p, yaw in product(_pitches(pitch), yaws)]
    if len(turns) > 200:
        raise LatentrotError(f"--sweep and --pitch request {len(turns)} rotations; expected at most 200")
    return turns, to is not None


def _pitches(text: str | None) -> list[float]:
    if text is None:
        return [0.0]
    if ":" in text:
        return parse_sweep(text, "--pitch")
    try:
        pitch = float(text)
    except ValueError as error:
        raise LatentrotError(f"--pitch {text}: expected degrees, or FIRST:LAST:COUNT such as -20:20:3") from error
    if not abs(pitch) <= FURTHEST:
        raise LatentrotError(f"--pitch {text}: expected between -90 and 90 degrees")
    return [pitch]
