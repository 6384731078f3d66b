"""What several parts compute alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from latentrot.errors import LatentrotError

__all__ = ["check_degrees", "smoothstep"]


def smoothstep(value: Any, low: float, high: float) -> Any:
    """0 up to `low`, 1 from `high` on, a cubic without corners in between; of numbers or of arrays."""
    t = np.minimum(1.0, np.maximum(0.0, (value - low) / (high - low)))
    return t * t * (3 - 2 * t)


def check_degrees(degrees: Sequence[float], reach: float = 90.0) -> None:
    """Refuse turns that are no numbers, or longer than a turn can be.

    Args:
        degrees: the turns.
        reach: the longest, either way.

    Raises:
        LatentrotError: naming the turn.
    """
    for turn in degrees:
        if not abs(turn) <= reach:  # false of nan, too
            raise LatentrotError(f"a turn by {turn} degrees; expected a number from {-reach:g} to {reach:g}")
