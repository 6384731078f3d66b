"""What each pixel around a head is: background, skin, hair, ears, neck, clothes, or something worn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latentrot.label.upright import centred, cut_square, upright_square

__all__ = ["PARTS", "REGION_LIFT", "REGION_WIDTHS", "Parts", "estimate_parts"]

#: the order of the probabilities; skin is the face with eyes, brows, nose and lips; accessories are hats, glasses, earrings
PARTS = ("background", "skin", "hair", "ears", "neck", "clothes", "accessories")
#: side of the square that is looked at, and how far its centre lies above the landmarks' middle, face widths
REGION_WIDTHS, REGION_LIFT = 3.2, 0.15


@dataclass(frozen=True, eq=False)
class Parts:
    """The parts around one head.

    Attributes:
        probabilities: (7, n, n) float32, in the order of `PARTS`, over an upright square.
        to_region: (2, 3) float64: square position = to_region @ (column, row, 1) of the photograph.
        unseen: share of the square that lies beyond the photograph, where its edge is repeated.
    """

    probabilities: np.ndarray
    to_region: np.ndarray
    unseen: float


def estimate_parts(
    picture: np.ndarray,
    landmarks: np.ndarray,
    side: int = 256,
    *,
    network: Path | None = None,
    device: str | None = None,
) -> Parts:
    """Tell the parts of a head and its surroundings apart.

    Args:
        picture: (h, w, 3) uint8 RGB.
        landmarks: (68, 2) photograph pixels.
        side: of the probabilities returned, pixels; the network sees 256.
        network: a file of `train-face`; None: the bundled one.
        device: torch device; the CPU by default.

    Returns:
        The parts, averaged with the mirrored picture's: mirroring the picture mirrors them exactly.

    Raises:
        LatentrotError: a network file that cannot be read.
    """
    import cv2  # noqa: PLC0415
    import torch  # noqa: PLC0415
    import torch.nn.functional as F  # noqa: PLC0415

    from latentrot.label.face_networks import PARTS_SIDE, PartsNetwork, load_face_network  # noqa: PLC0415

    matrix = upright_square(np.asarray(landmarks, np.float64), PARTS_SIDE, REGION_WIDTHS, REGION_LIFT)
    square = cut_square(picture, matrix, PARTS_SIDE)
    inside = cv2.warpAffine(np.ones(picture.shape[:2], np.uint8), centred(matrix), (PARTS_SIDE, PARTS_SIDE))
    model = load_face_network(PartsNetwork, network, device)
    x = torch.from_numpy(np.stack([square, square[:, ::-1]])).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.inference_mode():
        p = model(x.to(device or "cpu")).float().softmax(1)
        p = (p[:1] + p[1:].flip(-1)) / 2
        if side != PARTS_SIDE:
            p = F.interpolate(p, size=side, mode="bilinear", align_corners=False)
    scaled = matrix * (side / PARTS_SIDE)
    return Parts(p[0].cpu().numpy(), scaled, 1 - float(inside.mean()))
