"""Baselines of evaluations: the unchanged image and the mirror image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from latentrot.numerics import check_degrees
from latentrot.rotators.options import RotatorOptions

__all__ = ["MirrorOptions", "MirrorRotator", "NothingOptions", "NothingRotator"]


@dataclass(frozen=True)
class NothingRotator:
    """Returns the image unchanged."""

    name: ClassVar[str] = "nothing"
    learned_from: ClassVar[tuple[str, ...]] = ()

    def rotate(self, image: np.ndarray, degrees: float) -> np.ndarray:
        """Return a copy of a (s, s, 3) uint8 crop."""
        check_degrees([degrees], 180)
        return image.copy()


@dataclass(frozen=True)
class MirrorRotator:
    """Returns the mirror image, with the opposite yaw and light."""

    name: ClassVar[str] = "mirror"
    learned_from: ClassVar[tuple[str, ...]] = ()

    def rotate(self, image: np.ndarray, degrees: float) -> np.ndarray:
        """Mirror a (s, s, 3) uint8 crop."""
        check_degrees([degrees], 180)
        return image[:, ::-1].copy()


@dataclass(frozen=True)
class NothingOptions(RotatorOptions):
    """No options."""

    offered: ClassVar[bool] = False

    def load(self, device: str | None = None, dtype: str | None = None) -> NothingRotator:
        """See `RotatorOptions.load`."""
        return NothingRotator()


@dataclass(frozen=True)
class MirrorOptions(RotatorOptions):
    """No options."""

    offered: ClassVar[bool] = False

    def load(self, device: str | None = None, dtype: str | None = None) -> MirrorRotator:
        """See `RotatorOptions.load`."""
        return MirrorRotator()
