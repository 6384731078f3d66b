"""Build a head from a photograph: landmarks, face parts, surface, texture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from latentrot.data.arrays import check_crop
from latentrot.data.frame import CROP_BOX
from latentrot.faces.alignment import MEAN_LANDMARKS, Alignment
from latentrot.faces.detect import Face
from latentrot.faces.landmarks import UNSURE, estimate_landmarks
from latentrot.faces.parts import Parts, estimate_parts, without_others
from latentrot.faces.upright import five_of
from latentrot.geometry.config import MeshConfig
from latentrot.geometry.head import Head, build_head

__all__ = ["HeadFitter", "face_of_crop"]


@dataclass(frozen=True)
class HeadFitter:
    """Fits heads to photographs.

    Args:
        config: parameters of the geometry.
        max_spread: faces whose landmarks scatter more than this (`latentrot.faces.landmarks`) are refused.
        device: device of the landmark and parsing networks; the CPU by default.
    """

    config: MeshConfig = field(default_factory=MeshConfig)
    max_spread: float = UNSURE
    device: str | None = None

    def fit(self, photograph: np.ndarray, face: Face | Alignment, faces: Sequence[Face] = ()) -> Head:
        """Build the head of one face; rotate it with `turn_head`.

        Args:
            photograph: (h, w, 3) uint8.
            face: the face, or its alignment.
            faces: all faces found in the photograph; the heads of the others do not move.

        Raises:
            LatentrotError: the landmarks are too uncertain or are not those of a face.
        """
        return build_head(photograph, *self.parse(photograph, face, faces), self.config)

    def fit_crop(self, image: np.ndarray) -> Head:
        """Build the head of a (s, s, 3) uint8 crop in the CelebA frame; errors as in `fit`."""
        check_crop(image)
        return self.fit(image, face_of_crop(len(image)))

    def parse(
        self, photograph: np.ndarray, face: Face | Alignment, faces: Sequence[Face] = ()
    ) -> tuple[np.ndarray, Parts]:
        """Estimate the inputs of `build_head`: (68, 2) landmarks and the face parts; arguments as in `fit`."""
        near = face.landmarks if isinstance(face, Face) else face
        marks = estimate_landmarks(photograph, near, device=self.device).require_sure(self.max_spread).points
        parts = estimate_parts(photograph, marks, device=self.device)
        return marks, without_others(parts, five_of(marks), [f.landmarks for f in faces])


def face_of_crop(side: int) -> Face:
    """The face box and landmarks in a crop of the CelebA frame, `side` pixels a side."""
    left, top, right, _ = CROP_BOX
    scale = side / (right - left)
    return Face(
        box=(0.12 * side, 0.05 * side, 0.88 * side, 0.98 * side),
        score=1.0,
        landmarks=(MEAN_LANDMARKS - np.array([left, top])) * scale,
    )
