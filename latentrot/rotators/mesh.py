"""The turn by geometry behind the protocol that all ways of turning share, and on whole photographs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from latentrot.bundles import bundled_part, trained_on
from latentrot.data.frame import CROP_BOX
from latentrot.data.images import check_crop
from latentrot.faces.alignment import MEAN_LANDMARKS, Alignment
from latentrot.faces.detect import Face
from latentrot.faces.landmarks import UNSURE, estimate_landmarks
from latentrot.faces.parts import Parts, estimate_parts, without_others
from latentrot.faces.upright import five_of
from latentrot.geometry.calibration import turn_for
from latentrot.geometry.config import MeshConfig
from latentrot.geometry.head import Head, build_head
from latentrot.geometry.turn import reframed, turn_head

__all__ = ["MeshRotator", "face_of_crop"]


@dataclass(frozen=True)
class MeshRotator:
    """Turns a photograph by the geometry of the head in it; needs no diffusion model.

    Args:
        config: parameters.
        largest_spread: landmarks that scatter more than this (`latentrot.faces.landmarks`) are no face's.
        device: where the networks of landmarks and parts run; the CPU by default.
    """

    config: MeshConfig = field(default_factory=MeshConfig)
    largest_spread: float = UNSURE
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
        check_crop(image)
        head = self.head_of(image, face_of_crop(len(image)))
        return [reframed(head, turn_head(head, turn_for(turn))) for turn in degrees]

    def head_of(self, photograph: np.ndarray, face: Face | Alignment, faces: Sequence[Face] = ()) -> Head:
        """Set up the head of a face found in a photograph; turn it by `turn_head`.

        Args:
            photograph: (h, w, 3) uint8.
            face: where it lies.
            faces: all that were found in the photograph; the others' heads are not turned along.

        Raises:
            LatentrotError: landmarks cannot be found with any certainty, or are no face's.
        """
        return build_head(photograph, *self.look_at(photograph, face, faces), self.config)

    def look_at(
        self, photograph: np.ndarray, face: Face | Alignment, faces: Sequence[Face] = ()
    ) -> tuple[np.ndarray, Parts]:
        """What `build_head` needs of a face found in a photograph, (68, 2) landmarks and parts; as `head_of`."""
        near = face.landmarks if isinstance(face, Face) else face
        marks = estimate_landmarks(photograph, near, device=self.device).require_sure(self.largest_spread).points
        parts = estimate_parts(photograph, marks, device=self.device)
        return marks, without_others(parts, five_of(marks), [f.landmarks for f in faces])

    def rotate_photograph(
        self, photograph: np.ndarray, face: Face | Alignment, degrees: Sequence[float]
    ) -> Iterator[np.ndarray]:
        """Whole photographs of one face turned by each of degrees of yaw, as they are seen; the head is set up once."""
        head = self.head_of(photograph, face)
        for turn in degrees:
            yield turn_head(head, turn_for(turn)).picture


def face_of_crop(side: int) -> Face:
    """Where the face lies in a crop in the CelebA frame of a given size."""
    left, top, right, _ = CROP_BOX
    scale = side / (right - left)
    return Face(
        box=(0.12 * side, 0.05 * side, 0.88 * side, 0.98 * side),
        score=1.0,
        landmarks=(MEAN_LANDMARKS - np.array([left, top])) * scale,
    )
