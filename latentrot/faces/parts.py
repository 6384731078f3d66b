"""Face parsing: background, skin, hair, ears, neck, clothes and accessories of each pixel around a head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from latentrot.faces.upright import centred, cut_square, upright_square
from latentrot.numerics import smoothstep

__all__ = ["PARTS", "REGION_LIFT", "REGION_WIDTHS", "Parts", "estimate_parts", "without_others"]

#: order of the probabilities; skin is the face with eyes, brows, nose and lips; accessories are hats, glasses, earrings
PARTS = ("background", "skin", "hair", "ears", "neck", "clothes", "accessories")
BACKGROUND, SKIN, HAIR, EARS, NECK, CLOTHES, ACCESSORIES = range(len(PARTS))
#: side of the parsed square, and height of its centre above the middle of the landmarks, face widths
REGION_WIDTHS, REGION_LIFT = 3.2, 0.15
#: size relative to the parsed face below which another face is far in the background and needs no correction
SMALLEST_OTHER = 0.4
#: ratio of the distances from a pixel to the other head and to the parsed head: up to the first value the pixel belongs to
#: the other person, from the second one on to the parsed person
THEIRS, OWN = 0.54, 0.69
#: distance between eyes and mouth, relative to the distance between the eyes of a frontal face
TALL = 1.05


@dataclass(frozen=True, eq=False)
class Parts:
    """Part probabilities around one head.

    Attributes:
        probabilities: (7, n, n) float32, in the order of `PARTS`, over an upright square.
        to_region: (2, 3) float64: square position = to_region @ (column, row, 1) of the photograph.
        unseen: share of the square outside the photograph, where the edge is repeated.
    """

    probabilities: np.ndarray
    to_region: np.ndarray
    unseen: float


def estimate_parts(
    image: np.ndarray,
    landmarks: np.ndarray,
    side: int = 256,
    *,
    network: Path | None = None,
    device: str | None = None,
) -> Parts:
    """Parse a head and its surroundings into parts.

    Args:
        image: (h, w, 3) uint8 RGB.
        landmarks: (68, 2) photograph pixels.
        side: side of the returned probabilities in pixels; the network's input has 256.
        network: file written by `train parts`; None: the bundled one.
        device: torch device; the CPU by default.

    Returns:
        The parts, averaged with those of the mirrored image, so that they are exactly equivariant to mirroring.

    Raises:
        LatentrotError: the network file cannot be read.
    """
    import cv2  # noqa: PLC0415
    import torch  # noqa: PLC0415
    import torch.nn.functional as F  # noqa: PLC0415

    from latentrot.faces.face_networks import PARTS_SIDE, PartsNetwork, load_face_network  # noqa: PLC0415

    matrix = upright_square(np.asarray(landmarks, np.float64), PARTS_SIDE, REGION_WIDTHS, REGION_LIFT)
    square = cut_square(image, matrix, PARTS_SIDE)
    inside = cv2.warpAffine(np.ones(image.shape[:2], np.uint8), centred(matrix), (PARTS_SIDE, PARTS_SIDE))
    model = load_face_network(PartsNetwork, network, device)
    x = torch.from_numpy(np.stack([square, square[:, ::-1]])).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.inference_mode():
        p = model(x.to(device or "cpu")).float().softmax(1)
        p = (p[:1] + p[1:].flip(-1)) / 2
        if side != PARTS_SIDE:
            p = F.interpolate(p, size=side, mode="bilinear", align_corners=False)
    scaled = matrix * (side / PARTS_SIDE)
    return Parts(p[0].cpu().numpy(), scaled, 1 - float(inside.mean()))


def without_others(parts: Parts, own: np.ndarray, faces: Sequence[np.ndarray]) -> Parts:
    """Remove the heads of other people; the network sometimes labels an adjacent head as part of the parsed one.

    The distance of a pixel to the eyes of each person is divided by the size of that person's face. A pixel is removed if
    the distance to another person is clearly smaller. Clothes are kept, because shoulders overlap.

    Args:
        parts: from `estimate_parts`.
        own: (5, 2) landmarks of the parsed face, photograph pixels, ordered as a detector returns them.
        faces: landmarks (5, 2) of all faces in the photograph; may include the parsed face.
    """
    middle, size = own[:2].mean(0), _size_of(own)
    others = [face for face in faces if np.linalg.norm(face[:2].mean(0) - middle) > size / 2]
    others = [face for face in others if _size_of(face) > SMALLEST_OTHER * size]
    if not others:
        return parts
    n = parts.probabilities.shape[-1]
    rows, columns = np.mgrid[:n, :n] + 0.5
    back = np.linalg.inv(parts.to_region[:, :2])
    places = (np.stack([columns, rows], -1) - parts.to_region[:, 2]) @ back.T
    here = np.linalg.norm(places - middle, axis=-1) / size
    there = np.min([np.linalg.norm(places - f[:2].mean(0), axis=-1) / _size_of(f) for f in others], axis=0)
    left = smoothstep(there / np.maximum(here, 1e-3), THEIRS, OWN).astype(np.float32)
    p = parts.probabilities.copy()
    on_head = [SKIN, HAIR, EARS, NECK, ACCESSORIES]
    p[BACKGROUND] += (p[on_head] * (1 - left)).sum(0)
    p[on_head] *= left
    return replace(parts, probabilities=p)


def _size_of(five: np.ndarray) -> float:
    """Size of a face in pixels: the eye distance or, for a turned face, an estimate of it from the face's height."""
    across = np.linalg.norm(five[1] - five[0])
    return float(max(across, np.linalg.norm(five[3:].mean(0) - five[:2].mean(0)) / TALL))
