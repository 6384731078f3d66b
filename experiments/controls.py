"""Baseline rotators for `evaluate --rotator controls:NAME` and the leaderboard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from latentrot.faces.alignment import Alignment
from latentrot.faces.detect import Face
from latentrot.geometry import TurnedHead, turn_head
from latentrot.geometry.turn import realign_crop
from latentrot.rotators.mesh.rotator import MeshRotator

__all__ = ["MeanFilled"]


class MeanFilled:
    """Geometry that fills hidden regions with the head's mean colour instead of hair, mirrored cheek or background."""

    def __init__(self) -> None:
        self.mesh = MeshRotator()
        self.learned_from = self.mesh.learned_from

    def rotate(self, image: np.ndarray, degrees: float) -> np.ndarray:
        """Turn a (s, s, 3) uint8 crop by degrees."""
        head = self.mesh.fitter.fit_crop(image)
        turned = turn_head(head, degrees)
        return realign_crop(head, replace(turned, image=filled(turned)))

    def rotate_photograph(
        self, photograph: np.ndarray, face: Face | Alignment, degrees: Sequence[float]
    ) -> Iterator[np.ndarray]:
        """Return one photograph per angle, with one face rotated by it."""
        head = self.mesh.fitter.fit(photograph, face)
        for turn in degrees:
            yield filled(turn_head(head, turn))


def filled(turned: TurnedHead) -> np.ndarray:
    """Replace pixels of the rotated head that are hidden in the source by the head's mean colour."""
    shown = turned.coverage[..., None]
    weight = turned.head[..., None] * shown
    mean = (turned.image * weight).sum((0, 1)) / np.maximum(weight.sum(), 1)
    return np.rint(turned.image * shown + mean * (1 - shown)).astype(np.uint8)
