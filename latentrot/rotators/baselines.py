"""What any rotator has to beat: doing nothing, and mirroring the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from latentrot.numerics import check_degrees

__all__ = ["MirrorRotator", "NothingRotator"]


@dataclass(frozen=True)
class NothingRotator:
    """Returns the picture as it is."""

    learned_from: ClassVar[tuple[str, ...]] = ()

    def rotate(self, image: np.ndarray, degrees: float) -> np.ndarray:
        """A (s, s, 3) uint8 crop, whatever the degrees -> the same."""
        check_degrees([degrees], 180)
        return image.copy()


@dataclass(frozen=True)
class MirrorRotator:
    """Returns the mirrored picture: the yaw changes sign, and the light its side."""

    learned_from: ClassVar[tuple[str, ...]] = ()

    def rotate(self, image: np.ndarray, degrees: float) -> np.ndarray:
        """A (s, s, 3) uint8 crop, whatever the degrees -> its mirror image."""
        check_degrees([degrees], 180)
        return image[:, ::-1].copy()
