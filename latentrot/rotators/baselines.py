"""What any rotator has to beat: doing nothing, and mirroring the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from latentrot.numerics import check_degrees
from latentrot.rotators.options import RotatorOptions

__all__ = ["MirrorOptions", "MirrorRotator", "NothingOptions", "NothingRotator"]


@dataclass(frozen=True)
class NothingRotator:
    """Returns the image as it is."""

    name: ClassVar[str] = "nothing"
    learned_from: ClassVar[tuple[str, ...]] = ()

    def rotate(self, image: np.ndarray, degrees: float) -> np.ndarray:
        """A (s, s, 3) uint8 crop, whatever the degrees -> the same."""
        check_degrees([degrees], 180)
        return image.copy()


@dataclass(frozen=True)
class MirrorRotator:
    """Returns the mirrored image: the yaw changes its sign, and the light its side."""

    name: ClassVar[str] = "mirror"
    learned_from: ClassVar[tuple[str, ...]] = ()

    def rotate(self, image: np.ndarray, degrees: float) -> np.ndarray:
        """A (s, s, 3) uint8 crop, whatever the degrees -> its mirror image."""
        check_degrees([degrees], 180)
        return image[:, ::-1].copy()


@dataclass(frozen=True)
class NothingOptions(RotatorOptions):
    """None."""

    offered: ClassVar[bool] = False

    def load(self, device: str | None = None, dtype: str | None = None) -> NothingRotator:
        """See `RotatorOptions.load`."""
        return NothingRotator()


@dataclass(frozen=True)
class MirrorOptions(RotatorOptions):
    """None."""

    offered: ClassVar[bool] = False

    def load(self, device: str | None = None, dtype: str | None = None) -> MirrorRotator:
        """See `RotatorOptions.load`."""
        return MirrorRotator()
