"""Durations by stage, and progress: a bar on a terminal, otherwise one line with an estimate."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from tqdm import tqdm

__all__ = ["Clock", "Progress", "duration"]

log = logging.getLogger(__name__)
#: seconds of work after which the remaining time is estimated
SAMPLE_S = 10.0


def duration(seconds: float) -> str:
    """Format a duration in seconds: "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Progress(tqdm):
    """A tqdm bar; if the output is not a terminal, one line with the estimated remaining time instead.

    Args:
        desc: name of the task, the first word of the line.
        total: total number of units.
        unit: name of a unit, singular.
        initial: number of units done in earlier runs.
        disable: None: show the bar on a terminal only; True: print nothing.
    """

    def __init__(
        self, desc: str, total: int, unit: str = "image", *, initial: int = 0, disable: bool | None = None
    ) -> None:
        super().__init__(desc=desc, total=total, unit=unit, initial=initial, disable=disable)
        self.what, self.left, self.units = desc, total - initial, unit
        self.begun, self.done, self.told = time.monotonic(), 0, disable is True

    def update(self, n: float | None = 1) -> bool | None:
        """Add n finished units; see tqdm."""
        self.done += n or 0
        elapsed = time.monotonic() - self.begun
        if not self.told and self.done and elapsed >= SAMPLE_S:
            self.told = True
            left = max(0, self.left - self.done)
            if self.disable and left:
                rest = duration(elapsed / self.done * left)
                log.info("%s: %d %ss in %s, about %s for the other %d", self.what, self.done, self.units,
                         duration(elapsed), rest, left)  # fmt: skip
        return super().update(n)


class Clock:
    """A stopwatch of stages.

    Args:
        seconds: stage name -> duration in seconds, updated in place; None: a new dictionary.
    """

    def __init__(self, seconds: dict[str, float] | None = None) -> None:
        self.seconds = seconds or {}
        self._last = time.perf_counter()

    def lap(self, stage: str, within: Mapping[str, float] | None = None) -> None:
        """Add the time since the last lap to a stage; `within` holds the durations of stages nested in it, in seconds."""
        now = time.perf_counter()
        inner = within or {}
        for name, spent in {**inner, stage: now - self._last - sum(inner.values())}.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + spent
        self._last = now
