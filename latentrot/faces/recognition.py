"""Crops for face recognition networks: five landmarks are aligned to the usual template of 112 pixels."""

from __future__ import annotations

import numpy as np

from latentrot.errors import LatentrotError
from latentrot.faces.alignment import similarity_between
from latentrot.faces.upright import cut_square

__all__ = ["TEMPLATE", "TEMPLATE_SIDE", "check_crop_side", "recognition_crop"]

#: eye centres, nose tip and mouth corners in a crop of `TEMPLATE_SIDE` pixels, between pixel centres, as ArcFace and most
#: networks after it were trained (Deng, Guo, Xue, Zafeiriou, CVPR 2019; github.com/deepinsight/insightface)
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
TEMPLATE_SIDE = 112
#: min and max side of a crop, pixels
SIDES = (32, 1024)


def check_crop_side(side: int) -> None:
    """Refuse an unsupported side of a crop.

    Raises:
        LatentrotError: the side is outside `SIDES`.
    """
    if not SIDES[0] <= side <= SIDES[1]:
        raise LatentrotError(f"--crops {side}: expected {SIDES[0]} to {SIDES[1]} pixels a side, usually 112 or 224")


def recognition_crop(image: np.ndarray, five: np.ndarray, side: int = TEMPLATE_SIDE) -> np.ndarray:
    """Crop a face for recognition, aligned by the least-squares similarity from five landmarks to the template.

    Args:
        image: (h, w, 3) uint8.
        five: (5, 2) eye centres, nose tip and mouth corners from the viewer's left, pixels with edges at pixel borders.
        side: side of the crop in pixels; the template is scaled to it.

    Returns:
        (side, side, 3) uint8, edges repeated outside the image.
    """
    template = (TEMPLATE + 0.5) * side / TEMPLATE_SIDE
    return cut_square(image, similarity_between(five, template), side)
