"""Shared numeric helpers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from latentrot.errors import LatentrotError

__all__ = ["check_degrees", "smoothstep"]


def smoothstep(value: Any, low: float, high: float) -> Any:
    """Cubic step of a number or an array: 0 up to `low`, 1 from `high` on, smooth in between."""
    t = np.minimum(1.0, np.maximum(0.0, (value - low) / (high - low)))
    return t * t * (3 - 2 * t)


def check_degrees(degrees: Sequence[float], reach: float = 90.0) -> None:
    """Refuse rotations that are not finite or exceed a maximum.

    Args:
        degrees: rotations in degrees.
        reach: max absolute rotation in degrees.

    Raises:
        LatentrotError: a rotation is invalid; the message quotes it.
    """
    for turn in degrees:
        if not abs(turn) <= reach:  # also refuses nan
            raise LatentrotError(f"a rotation by {turn} degrees: expected a number from {-reach:g} to {reach:g}")
