"""Estimate 68 landmarks of a face and their expected error, by a small network on an enlarged CelebA frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latentrot.errors import LatentrotError
from latentrot.faces.alignment import Alignment, align_landmarks
from latentrot.faces.upright import MIRRORED_68, cut_square, face_width, five_of

__all__ = ["FRAME_CENTRE", "FRAME_REACH", "UNSURE", "Landmarks", "estimate_landmarks", "estimate_landmarks_of"]

#: the network's input square in the 178x218 frame: its centre (column, row), and half its side
FRAME_CENTRE, FRAME_REACH = np.array([89.0, 124.0]), 100.0
#: number of estimation rounds; each later round is placed by the landmarks of the previous one
ROUNDS = 2
#: expected error, as a share of the face's width, above which landmarks are rejected
UNSURE = 0.12


@dataclass(frozen=True, eq=False)
class Landmarks:
    """The landmarks of one face.

    Attributes:
        points: (68, 2) float64 (column, row) in photograph pixels with edges at pixel borders, in multi-PIE order: jaw from
            the viewer's left 0-16, brows 17-26, nose 27-35, eyes 36-47, mouth 48-67.
        spread: expected error, as a share of the face's width.
    """

    points: np.ndarray
    spread: float

    def require_sure(self, max_spread: float = UNSURE) -> Landmarks:
        """Return the landmarks if their expected error is small enough.

        Args:
            max_spread: max expected error, as a share of the face's width.

        Raises:
            LatentrotError: the expected error is larger.
        """
        if self.spread > max_spread:
            raise LatentrotError(
                f"the landmarks of the face are accurate only to within {100 * self.spread:.0f}% of its width; the face is "
                "hidden, blurred or turned too far: choose another face or photograph"
            )
        return self


def estimate_landmarks(
    image: np.ndarray, face: np.ndarray | Alignment, *, network: Path | None = None, device: str | None = None
) -> Landmarks:
    """Find the landmarks of a face.

    Args:
        image: (h, w, 3) uint8 RGB.
        face: (5, 2) eyes, nose tip and mouth corners from a detector, photograph pixels; or the alignment.
        network: file written by `train landmarks`; None: the bundled one.
        device: torch device; the CPU by default.

    Returns:
        The landmarks; mirroring the image mirrors them exactly.

    Raises:
        LatentrotError: the landmarks are not those of a face, or the network file cannot be read.
    """
    size = (image.shape[1], image.shape[0])
    alignment = face if isinstance(face, Alignment) else align_landmarks(np.asarray(face), size)
    return estimate_landmarks_of([image], [alignment], network=network, device=device)[0]


def estimate_landmarks_of(
    images: Sequence[np.ndarray],
    alignments: Sequence[Alignment],
    *,
    network: Path | None = None,
    device: str | None = None,
) -> list[Landmarks]:
    """Find the landmarks of one face in each of several images, in one batch; see `estimate_landmarks`."""
    for look in range(ROUNDS):
        found = _estimate_round(images, alignments, network, device)
        if not all(np.isfinite(points).all() for points, _ in found):
            raise LatentrotError("the landmark network returned nan or inf; use another network file")
        if look + 1 < ROUNDS:
            alignments = [
                align_landmarks(five_of(points), (p.shape[1], p.shape[0]))
                for p, (points, _) in zip(images, found, strict=True)
            ]
    return [Landmarks(points, float(off / face_width(points))) for points, off in found]


def _estimate_round(
    images: Sequence[np.ndarray], alignments: Sequence[Alignment], network: Path | None, device: str | None
) -> list[tuple[np.ndarray, float]]:
    """One round, averaged with the mirror image: for each image (68, 2) photograph pixels and the mean expected error."""
    import torch  # noqa: PLC0415

    from latentrot.faces.face_networks import LANDMARK_SIDE, LandmarkNetwork, load_face_network  # noqa: PLC0415

    offset = np.column_stack([np.zeros((2, 2)), FRAME_CENTRE - FRAME_REACH])
    scale = LANDMARK_SIDE / (2 * FRAME_REACH)
    squares = [
        cut_square(p, (alignment.matrix - offset) * scale, LANDMARK_SIDE)
        for p, alignment in zip(images, alignments, strict=True)
    ]
    model = load_face_network(LandmarkNetwork, network, device)
    both = np.stack([view for square in squares for view in (square, square[:, ::-1])])
    x = torch.from_numpy(both).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.inference_mode():
        positions, scatter = (v.cpu().double().numpy() for v in model(x.to(device or "cpu")))
    found = []
    for i, alignment in enumerate(alignments):
        seen, mirrored = positions[2 * i], positions[2 * i + 1][MIRRORED_68] * [-1, 1]
        apart = np.linalg.norm(seen - mirrored, axis=1).mean() / 2
        # the mean of a radial Laplace distribution is twice its scale
        expected = 2 * np.exp(scatter[2 * i : 2 * i + 2]).mean()
        points = alignment.to_photo((seen + mirrored) / 2 * FRAME_REACH + FRAME_CENTRE)
        found.append((points, max(expected, apart) * FRAME_REACH / alignment.scale))
    return found
