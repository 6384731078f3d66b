"""The turn by geometry behind the protocol that all ways of turning share, and on whole photographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from latentrot.bundles import bundled_part, trained_on
from latentrot.data.align import MEAN_LANDMARKS, Alignment
from latentrot.data.frame import CROP_BOX
from latentrot.data.images import check_picture
from latentrot.errors import LatentrotError
from latentrot.label.detect import Face
from latentrot.rotate.mesh.calibration import turn_for
from latentrot.rotate.mesh.config import MeshConfig
from latentrot.rotate.mesh.head import Head, build_head
from latentrot.rotate.mesh.turn import Turned, reframed, turn_head

__all__ = ["MeshRotator", "face_of_crop"]


@dataclass(frozen=True)
class MeshRotator:
    """Turns a photograph by the geometry of the head in it; needs no diffusion model.

    Args:
        config: parameters.
        largest_spread: landmarks that scatter more than this (`latentrot.label.landmarks`) are no face's.
        device: where the networks of landmarks and parts run; the CPU by default.
    """

    config: MeshConfig = field(default_factory=MeshConfig)
    largest_spread: float = 0.12
    device: str | None = None

    @property
    def learned_from(self) -> tuple[str, ...] | None:
        """Data sets that the networks of landmarks and parts learned from, as their card says."""
        return trained_on(bundled_part("face"))

    def rotate(self, image: np.ndarray, degrees: float) -> np.ndarray:
        """Turn a (s, s, 3) uint8 crop in the CelebA frame by degrees (> 0: nose to the viewer's right)."""
        return self.rotate_many(image, [degrees])[0]

    def rotate_many(self, image: np.ndarray, degrees: Sequence[float]) -> list[np.ndarray]:
        """Turn a (s, s, 3) uint8 crop by each of degrees; the head is set up once."""
        check_picture(image, "crop")
        if image.shape[0] != image.shape[1]:
            raise LatentrotError(
                f"a crop of {image.shape[1]}x{image.shape[0]} pixels; expected a square in the CelebA frame"
            )
        head = self.head_of(image, face_of_crop(len(image)))
        return [reframed(head, turn_head(head, turn_for(turn))) for turn in degrees]

    def head_of(self, photograph: np.ndarray, face: Face | Alignment) -> Head:
        """Set up the head of a face found in a photograph, (h, w, 3) uint8; turn it by `turn_head`.

        Raises:
            LatentrotError: landmarks cannot be found with any certainty, or are no face's.
        """
        from latentrot.label.landmarks import estimate_landmarks  # noqa: PLC0415  (loads networks)
        from latentrot.label.parts import estimate_parts  # noqa: PLC0415

        found = estimate_landmarks(photograph, face.landmarks if isinstance(face, Face) else face, device=self.device)
        if found.spread > self.largest_spread:
            raise LatentrotError(
                f"the face's landmarks are found only to within {100 * found.spread:.0f}% of its width; it is hidden, "
                "blurred or turned too far: choose another face or photograph"
            )
        parts = estimate_parts(photograph, found.points, device=self.device)
        return build_head(photograph, found.points, parts, self.config)

    def rotate_photograph(
        self, photograph: np.ndarray, face: Face | Alignment, degrees: float, pitch: float = 0.0, roll: float = 0.0
    ) -> Turned:
        """Turn one face of a photograph by degrees of yaw, as they are seen, pitch and roll."""
        return turn_head(self.head_of(photograph, face), turn_for(degrees), pitch, roll)


def face_of_crop(side: int) -> Face:
    """Where the face lies in a crop in the CelebA frame of a given size."""
    left, top, right, _ = CROP_BOX
    scale = side / (right - left)
    return Face(
        box=(0.12 * side, 0.05 * side, 0.88 * side, 0.98 * side),
        score=1.0,
        landmarks=(MEAN_LANDMARKS - np.array([left, top])) * scale,
    )
