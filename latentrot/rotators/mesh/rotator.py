"""The geometry as a rotator of crops and photographs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from latentrot.bundles import bundled_part, trained_on
from latentrot.data.digests import folder_digest
from latentrot.faces.alignment import Alignment
from latentrot.faces.detect import Face
from latentrot.geometry import HeadFitter, MeshConfig, turn_head
from latentrot.geometry.turn import realign_crop

__all__ = ["MeshRotator"]


@dataclass(frozen=True)
class MeshRotator:
    """Rotates heads by geometry, without a diffusion model.

    Args:
        config: parameters of the geometry.
        device: device of the landmark and face parsing networks; None: the CPU.
    """

    config: MeshConfig = field(default_factory=MeshConfig)
    device: str | None = None

    name: ClassVar[str] = "mesh"
    properties: ClassVar[tuple[str, ...]] = ("yaw", "pitch")
    draws: ClassVar[bool] = False
    hint: ClassVar[str] = "geometry alone"

    @property
    def fitter(self) -> HeadFitter:
        """Fitter of the heads."""
        return HeadFitter(self.config, device=self.device)

    @property
    def learned_from(self) -> tuple[str, ...] | None:
        """Training data of the landmark and face parsing networks, from their card."""
        return trained_on(bundled_part("face"))

    @property
    def digests(self) -> dict[str, str]:
        """Digest of the landmark and face parsing networks."""
        folder = bundled_part("face")
        return {"face networks": folder_digest(folder)}

    def rotate(self, image: np.ndarray, degrees: float) -> np.ndarray:
        """Rotate a (s, s, 3) uint8 crop in the CelebA frame by degrees (> 0: nose to the viewer's right)."""
        return self.rotate_many(image, [degrees])[0]

    def rotate_many(self, image: np.ndarray, degrees: Sequence[float]) -> list[np.ndarray]:
        """Rotate a (s, s, 3) uint8 crop by each angle in degrees; the head is fitted once."""
        head = self.fitter.fit_crop(image)
        return [realign_crop(head, turn_head(head, yaw)) for yaw in degrees]

    def rotate_photograph(
        self, photograph: np.ndarray, face: Face | Alignment, degrees: Sequence[float]
    ) -> Iterator[np.ndarray]:
        """Rotate a face in a photograph by each yaw in degrees; the head is fitted once."""
        head = self.fitter.fit(photograph, face)
        for yaw in degrees:
            yield turn_head(head, yaw).image
