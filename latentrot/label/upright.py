"""Where a face lies and how it leans, told by its 68 landmarks: the upright square that estimators and rotators work in."""

from __future__ import annotations

import numpy as np

__all__ = ["MIRRORED_68", "face_width", "five_of", "mirrored", "similarity_to", "upright_square"]

#: landmarks (multi-PIE order) of a mirrored face in the order of one that is not
MIRRORED_68 = np.array(
    [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47, 46, 39, 38, 37, 36,
     41, 40, 54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
)  # fmt: skip
#: distance from between the brows to the chin of a frontal face, as a share of its width
NASION_TO_CHIN = 0.87


def mirrored(points: np.ndarray, width: float) -> np.ndarray:
    """Landmarks (68, 2) as they lie in the mirrored picture of a width in pixels, in their own order."""
    flipped = points[MIRRORED_68].astype(np.float64)
    flipped[:, 0] = width - flipped[:, 0]
    return flipped


def five_of(points: np.ndarray) -> np.ndarray:
    """(68, 2) landmarks -> (5, 2) eye centres, nose tip, mouth corners, as a detector gives them."""
    return np.stack([points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]])


def face_width(points: np.ndarray) -> float:
    """W in pixels: the distance of the face's edges at ear height, or of a turned face what its height says."""
    across = np.linalg.norm(points[16] - points[0])
    return float(max(across, np.linalg.norm(points[8] - points[27]) / NASION_TO_CHIN))


def down_of(points: np.ndarray) -> np.ndarray:
    """(2,) unit vector from eyes to mouth, steadied by the eyes' line where the face is frontal enough to show it."""
    left, right, _, *mouth = five_of(points)
    eyes = right - left
    down = np.mean(mouth, 0) - (left + right) / 2 + np.array([-eyes[1], eyes[0]])
    return down / max(np.linalg.norm(down), 1e-9)


def similarity_to(centre: np.ndarray, down: np.ndarray, scale: float, size: int) -> np.ndarray:
    """(2, 3) photograph -> square of `size` pixels around a point, upright, so many of its pixels a photograph pixel."""
    linear = scale * np.array([[down[1], -down[0]], [down[0], down[1]]])
    return np.column_stack([linear, size / 2 - linear @ centre])


def upright_square(points: np.ndarray, size: int, widths: float, lift: float = 0.15) -> np.ndarray:
    """The upright square around a head.

    Args:
        points: (68, 2) landmarks, photograph pixels.
        size: side of the square in its own pixels.
        widths: side of the square in face widths.
        lift: how far its centre lies above the middle of the landmarks, face widths.

    Returns:
        (2, 3) float64: square position = matrix @ (column, row, 1) of the photograph.
    """
    width, down = face_width(points), down_of(points)
    turned = points @ np.array([[down[1], down[0]], [-down[0], down[1]]])
    middle = (turned.min(0) + turned.max(0)) / 2
    centre = np.array([[down[1], -down[0]], [down[0], down[1]]]).T @ middle
    return similarity_to(centre - lift * width * down, down, size / (widths * width), size)
