"""Find the step that turns one picture by a wanted angle: a one-dimensional root search on a measured calibration curve.

The average calibration says roughly how far a step turns a head. On one picture the truth is measured: a few probe steps are
decoded, the label network reads the change of yaw at each, and these pairs are the picture's calibration curve. The wanted
step is its root, the step at which the curve meets the wanted turn: bracketed by two measured neighbours, interpolated
linearly between them, then measured itself and added to the curve, which narrows the bracket.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from latentrot.directions.directions import Directions

__all__ = ["LIMIT", "CalibrationCurve", "clamp_step", "find_steps", "probe_steps"]

#: probe steps, as fractions of the step that the average calibration names for the farthest turn; those below the limit
PROBES = (0.4, 0.8, 1.4)
#: where pixels are carried, no step is longer than so many times the one by which the average picture has turned so nearly as
#: far as it ever does: beyond it a walk hardly turns and changes the person (`experiments/walk_limit.py`)
LIMIT, NEARLY = 1.4, 0.9
#: where they are not, so many times the average step for the turn, or for a turn by so many degrees where it is less: what is
#: decoded as it is goes on turning
SHORT_TURN_DEG = 20.0
#: how often a root is itself measured and the search goes on, and the error in degrees at which it ends
REFINEMENTS, TOLERANCE_DEG = 2, 1.0


@dataclass(frozen=True, eq=False)
class CalibrationCurve:
    """How far steps of several lengths turn one picture.

    Attributes:
        steps: (k,) nominal steps in any order, 0 (the picture as it is) among them.
        change: (k,) measured changes of yaw, degrees.
    """

    steps: np.ndarray
    change: np.ndarray

    def with_points(self, steps: Sequence[float], change: np.ndarray) -> CalibrationCurve:
        """The curve with further measured points."""
        return CalibrationCurve(np.append(self.steps, steps), np.append(self.change, change))

    def root(self, turn: float) -> float:
        """The step at which the curve first meets a wanted turn.

        Args:
            turn: wanted change of yaw, degrees.

        Returns:
            The root in the first bracket outwards from step 0, by linear interpolation. Where no bracket holds the turn, the
            measured step that turned farthest that way: beyond some length a step only spoils the picture.
        """
        if turn == 0:
            return 0.0
        sign = np.sign(turn)
        outwards = np.argsort(np.abs(self.steps))
        outwards = outwards[self.steps[outwards] * sign > 0]
        low, low_change = 0.0, 0.0
        for high, high_change in zip(self.steps[outwards], self.change[outwards], strict=True):
            if (high_change - turn) * sign >= 0:  # the bracket [low, high] holds the root
                span = high_change - low_change
                share = (turn - low_change) / span if span * sign > 0 else 1.0
                return float(low + (high - low) * share)
            low, low_change = high, high_change
        return float(self.steps[outwards[np.argmax(self.change[outwards] * sign)]]) if len(outwards) else 0.0


def probe_steps(lines: Directions, turns: Sequence[float], limit: float = LIMIT) -> list[float]:
    """Nominal steps to measure first: on each side up to the limit of the farthest turn (degrees) asked for."""
    farthest = (min([0.0, *turns]), max([0.0, *turns]))
    found = []
    for turn in farthest:
        if turn:
            longest = longest_step(lines, turn, limit)
            average = clamp_step(lines.nominal_for(turn), longest)
            found += [*(average * share for share in PROBES if abs(average * share) < abs(longest)), longest]
    return found


def longest_step(lines: Directions, turn: float, limit: float = LIMIT) -> float:
    """The longest nominal step that may be taken for a turn (degrees), signed as the turn."""
    if not turn:
        return 0.0
    side = np.sign(turn)
    if not lines.carry:
        return limit * lines.nominal_for(float(side * max(abs(turn), SHORT_TURN_DEG)))
    nominal, achieved = (
        side * np.array(steps)[:: int(side)] for steps in (lines.nominal, lines.achieved)
    )  # both rising
    return float(side * limit * np.interp(NEARLY * achieved[-1], achieved, nominal))


def clamp_step(step: float, longest: float) -> float:
    """A step, or the longest allowed (both signed, the same way) where it is longer."""
    return longest if abs(step) > abs(longest) else step


def find_steps(
    turns: Sequence[float],
    probes: Sequence[float],
    measure: Callable[[Sequence[float]], np.ndarray],
    longest: Sequence[float] | None = None,
    roughly: Callable[[Sequence[float]], np.ndarray] | None = None,
) -> list[float]:
    """Steps that meet the wanted turns on one picture.

    Args:
        turns: wanted changes of yaw, degrees.
        probes: nominal steps to measure first; none: every step is 0.
        measure: nominal steps -> (k,) changes of yaw in degrees, measured on the picture.
        longest: the longest step for each turn, signed as the turn; None: as long as it takes.
        roughly: a quicker `measure` for the probes and the first roots, which only say where to look.

    Returns:
        One nominal step for each turn, measured and corrected up to `REFINEMENTS` times.
    """
    if not probes:
        return [0.0] * len(turns)
    curve = CalibrationCurve(np.append(0.0, probes), np.append(0.0, (roughly or measure)(probes)))

    def root(i: int) -> float:
        step = curve.root(turns[i])
        return step if longest is None else clamp_step(step, longest[i])

    found = [root(i) for i in range(len(turns))]
    if roughly:  # most roots found so need no further one
        curve = curve.with_points(found, roughly(found))
        found = [root(i) for i in range(len(turns))]
    missed = list(range(len(turns)))
    for _ in range(REFINEMENTS):
        steps = [found[i] for i in missed]
        change = measure(steps)
        curve = curve.with_points(steps, change)
        wrong = [i for i, reached in zip(missed, change, strict=True) if abs(reached - turns[i]) > TOLERANCE_DEG]
        missed = [i for i in wrong if root(i) != found[i]]  # what is held at the limit stays there
        for i in missed:
            found[i] = root(i)
        if not missed:
            break
    return found
