"""What several parts compute alike."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["smoothstep"]


def smoothstep(value: Any, low: float, high: float) -> Any:
    """0 up to `low`, 1 from `high` on, a cubic without corners in between; of numbers or of arrays."""
    t = np.minimum(1.0, np.maximum(0.0, (value - low) / (high - low)))
    return t * t * (3 - 2 * t)
