"""Find the step size for a requested rotation of one image: a 1-D root search on a measured calibration curve.

The average calibration gives only a rough step size, so the rotation is measured on the image: a few probe steps are decoded,
and the label network measures the change of yaw of each. These pairs form the calibration curve of the image. The step size
is the root of the curve minus the requested rotation: it is bracketed by two measured points and interpolated linearly; then
its own rotation is measured and added to the curve, which narrows the bracket.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from latentrot.directions.directions import Directions

__all__ = ["LIMIT", "CalibrationCurve", "clamp_step", "find_steps", "probe_steps"]

#: probe steps, as multiples of the average step for the largest requested rotation; probes beyond the max step are dropped
PROBES = (0.4, 0.8, 1.4)
#: with warping: max step as a multiple of the step at which the average image reaches the share NEARLY of its max rotation;
#: larger steps hardly rotate the head further but change the identity (`experiments/walk_limit.py`)
LIMIT, NEARLY = 1.4, 0.9
#: without warping: max step as a multiple of the average step for the rotation, or for this rotation in degrees if that is
#: larger, because the decoded image continues to rotate
SHORT_TURN_DEG = 20.0
#: max number of refinements of the roots, and error in degrees at which the search stops
REFINEMENTS, TOLERANCE_DEG = 2, 1.0


@dataclass(frozen=True, eq=False)
class CalibrationCurve:
    """Measured rotations of one image for several step sizes.

    Attributes:
        steps: (k,) step sizes in any order; includes 0, the source itself.
        change: (k,) measured changes of yaw, degrees.
    """

    steps: np.ndarray
    change: np.ndarray

    def with_points(self, steps: Sequence[float], change: np.ndarray) -> CalibrationCurve:
        """The curve with additional measured points."""
        return CalibrationCurve(np.append(self.steps, steps), np.append(self.change, change))

    def root(self, turn: float) -> float:
        """The first step size at which the curve reaches a requested rotation.

        Args:
            turn: requested change of yaw, degrees.

        Returns:
            The root in the first bracket outwards from step 0, by linear interpolation. If no bracket contains the rotation:
            the measured step with the largest rotation in the same direction, because larger steps only degrade the image.
        """
        if turn == 0:
            return 0.0
        sign = np.sign(turn)
        outwards = np.argsort(np.abs(self.steps))
        outwards = outwards[self.steps[outwards] * sign > 0]
        low, low_change = 0.0, 0.0
        for high, high_change in zip(self.steps[outwards], self.change[outwards], strict=True):
            if (high_change - turn) * sign >= 0:  # [low, high] brackets the root
                span = high_change - low_change
                share = (turn - low_change) / span if span * sign > 0 else 1.0
                return float(low + (high - low) * share)
            low, low_change = high, high_change
        return float(self.steps[outwards[np.argmax(self.change[outwards] * sign)]]) if len(outwards) else 0.0


def probe_steps(directions: Directions, turns: Sequence[float], limit: float = LIMIT) -> list[float]:
    """Step sizes to measure first: on each side up to the max step for the largest requested rotation (degrees)."""
    farthest = (min([0.0, *turns]), max([0.0, *turns]))
    found = []
    for turn in farthest:
        if turn:
            longest = max_step(directions, turn, limit)
            average = clamp_step(directions.step_for(turn), longest)
            found += [*(average * share for share in PROBES if abs(average * share) < abs(longest)), longest]
    return found


def max_step(directions: Directions, turn: float, limit: float = LIMIT) -> float:
    """Max step size for a rotation in degrees, with the sign of the rotation."""
    if not turn:
        return 0.0
    side = np.sign(turn)
    if not directions.carry:
        return limit * directions.step_for(float(side * max(abs(turn), SHORT_TURN_DEG)))
    step_sizes, achieved = (
        side * np.array(steps)[:: int(side)] for steps in (directions.step_sizes, directions.achieved)
    )  # both rising
    return float(side * limit * np.interp(NEARLY * achieved[-1], achieved, step_sizes))


def clamp_step(step: float, longest: float) -> float:
    """Clamp a step to `longest`, the max step of the same sign."""
    return longest if abs(step) > abs(longest) else step


def find_steps(
    turns: Sequence[float],
    probes: Sequence[float],
    measure: Callable[[Sequence[float]], np.ndarray],
    longest: Sequence[float] | None = None,
    roughly: Callable[[Sequence[float]], np.ndarray] | None = None,
) -> list[float]:
    """Find the step sizes for requested rotations of one image.

    Args:
        turns: requested changes of yaw, degrees.
        probes: step sizes to measure first; if empty, every step is 0.
        measure: step sizes -> (k,) changes of yaw in degrees, measured on the image.
        longest: max step for each rotation, with its sign; None: unlimited.
        roughly: a faster, less accurate `measure` for the probes and the first roots.

    Returns:
        One step size for each rotation, refined up to `REFINEMENTS` times.
    """
    if not probes:
        return [0.0] * len(turns)
    curve = CalibrationCurve(np.append(0.0, probes), np.append(0.0, (roughly or measure)(probes)))

    def root(i: int) -> float:
        step = curve.root(turns[i])
        return step if longest is None else clamp_step(step, longest[i])

    found = [root(i) for i in range(len(turns))]
    if roughly:  # refine the first roots cheaply; most then need no further refinement
        curve = curve.with_points(found, roughly(found))
        found = [root(i) for i in range(len(turns))]
    missed = list(range(len(turns)))
    for _ in range(REFINEMENTS):
        steps = [found[i] for i in missed]
        change = measure(steps)
        curve = curve.with_points(steps, change)
        wrong = [i for i, reached in zip(missed, change, strict=True) if abs(reached - turns[i]) > TOLERANCE_DEG]
        missed = [i for i in wrong if root(i) != found[i]]  # clamped steps cannot be refined
        for i in missed:
            found[i] = root(i)
        if not missed:
            break
    return found
