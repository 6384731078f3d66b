"""Geometry of 68 landmarks: position, size and roll of a face, and the upright square used by estimators and rotators."""

from __future__ import annotations

import numpy as np

__all__ = [
    "MIRRORED_68",
    "centred",
    "cut_square",
    "face_width",
    "five_of",
    "mirrored",
    "similarity_to",
    "upright_square",
]

#: landmarks (multi-PIE order) of a mirrored face in the order of the original
MIRRORED_68 = np.array(
    [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47, 46, 39, 38, 37, 36,
     41, 40, 54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
)  # fmt: skip
#: distance from nasion to chin of a frontal face, as a share of its width
NASION_TO_CHIN = 0.87


def mirrored(points: np.ndarray, width: float) -> np.ndarray:
    """Mirror landmarks (68, 2) in an image of `width` pixels; the result is in the standard order."""
    flipped = points[MIRRORED_68].astype(np.float64)
    flipped[:, 0] = width - flipped[:, 0]
    return flipped


def five_of(points: np.ndarray) -> np.ndarray:
    """(68, 2) landmarks -> (5, 2) eye centres, nose tip and mouth corners, in the order of the detector."""
    return np.stack([points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]])


def face_width(points: np.ndarray) -> float:
    """Face width in pixels: distance of the face's edges at ear height or, for a turned face, an estimate from its height."""
    across = np.linalg.norm(points[16] - points[0])
    return float(max(across, np.linalg.norm(points[8] - points[27]) / NASION_TO_CHIN))


def down_of(points: np.ndarray) -> np.ndarray:
    """(2,) unit vector from eyes to mouth, averaged with the normal of the eye line, which has little weight in profile."""
    left, right, _, *mouth = five_of(points)
    eyes = right - left
    down = np.mean(mouth, 0) - (left + right) / 2 + np.array([-eyes[1], eyes[0]])
    return down / max(np.linalg.norm(down), 1e-9)


def similarity_to(centre: np.ndarray, down: np.ndarray, scale: float, size: int) -> np.ndarray:
    """(2, 3) matrix from the photograph to an upright square around `centre`, `size` pixels, scaled by `scale`."""
    linear = scale * np.array([[down[1], -down[0]], [down[0], down[1]]])
    return np.column_stack([linear, size / 2 - linear @ centre])


def upright_square(points: np.ndarray, size: int, widths: float, lift: float = 0.15) -> np.ndarray:
    """The upright square around a head.

    Args:
        points: (68, 2) landmarks, photograph pixels.
        size: side of the square in its own pixels.
        widths: side of the square in face widths.
        lift: height of its centre above the middle of the landmarks, face widths.

    Returns:
        (2, 3) float64: square position = matrix @ (column, row, 1) of the photograph.
    """
    width, down = face_width(points), down_of(points)
    turned = points @ np.array([[down[1], down[0]], [-down[0], down[1]]])
    middle = (turned.min(0) + turned.max(0)) / 2
    centre = np.array([[down[1], -down[0]], [down[0], down[1]]]).T @ middle
    return similarity_to(centre - lift * width * down, down, size / (widths * width), size)


def centred(matrix: np.ndarray) -> np.ndarray:
    """Convert a matrix between positions with edges at pixel borders to OpenCV's, between pixel centres."""
    moved = matrix.astype(np.float64).copy()
    moved[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    return moved


def cut_square(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Resample a square (similarity photograph -> square): (size, size, 3) uint8, antialiased, edges repeated."""
    import cv2  # noqa: PLC0415

    corners = np.array([[0, 0], [size, 0], [0, size], [size, size]], np.float64) - matrix[:, 2]
    around = corners @ np.linalg.inv(matrix[:, :2]).T
    low = np.clip(np.floor(around.min(0)).astype(int) - 4, 0, [image.shape[1] - 1, image.shape[0] - 1])
    high = np.maximum(np.ceil(around.max(0)).astype(int) + 4, low + 1)
    cut = np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]])
    moved = np.column_stack([matrix[:, :2], matrix[:, 2] + matrix[:, :2] @ low])
    shrink = np.sqrt(np.linalg.det(matrix[:, :2]))
    if shrink < 0.7:  # bilinear sampling has a support of two pixels only
        width, height = max(1, round(cut.shape[1] * shrink)), max(1, round(cut.shape[0] * shrink))
        moved = moved @ np.diag([cut.shape[1] / width, cut.shape[0] / height, 1])
        cut = cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA)
    return cv2.warpAffine(cut, centred(moved), (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
