"""Alignment of a face to the CelebA frame.

Coordinates are pixels with edges at pixel borders (the first pixel's centre lies at 0.5, 0.5), columns first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from latentrot.data.arrays import check_image
from latentrot.data.frame import CROP_BOX
from latentrot.errors import LatentrotError

__all__ = ["Alignment", "align_landmarks", "crop_alignment"]

#: mean landmarks of 1,001 aligned CelebA images, found as in `latentrot.faces.framing` and symmetrised about the axis
#: of the frame (column 89): left eye, right eye, nose tip, left and right mouth corner; left is the viewer's
MEAN_LANDMARKS = np.array([[69.57, 111.8], [108.43, 111.8], [89.0, 135.8], [71.49, 152.88], [106.51, 152.88]])
#: weights of the landmarks in the alignment. The eyes determine it; the mouth, which moves with rotation and speech, only
#: stabilises it when the eyes are close together in profile; the nose is not used. CelebA's own frame weights the mouth
#: more: there the distance of the eyes falls from 40 pixels to 35 as heads turn to 30 degrees.
LANDMARK_WEIGHTS = np.array([1.0, 1.0, 0.0, 0.01, 0.01])
#: max area of a crop in pixels, including repeated edges; a larger one means that the landmarks are not those of a face
MAX_CROP_PIXELS = 100_000_000

Box = tuple[int, int, int, int]
Square = tuple[float, float, float, float]


# ---- the alignment ----------------------------------------------------------------------------------------------


def _warp(plane: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resample a float or uint8 array bicubically; output position p gets the value at input position matrix @ (p, 1)."""
    coefficients = tuple(float(v) for v in matrix.ravel())
    return np.array(
        Image.fromarray(plane).transform(size, Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)
    )


def _compose(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Compose two 2x3 matrices: first `inner`, then `outer`."""
    return outer[:, :2] @ inner + np.pad(outer[:, 2:], ((0, 0), (2, 0)))


def _inverse(matrix: np.ndarray) -> np.ndarray:
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


@dataclass(frozen=True, eq=False)
class Alignment:
    """A similarity transform from a photograph to the 178x218 CelebA frame.

    Args:
        matrix: (2, 3) float64; frame position = matrix @ (column, row, 1).
        photo_size: width and height of the photograph in pixels.
    """

    matrix: np.ndarray
    photo_size: tuple[int, int]

    @property
    def scale(self) -> float:
        """Frame pixels per photograph pixel."""
        return float(np.sqrt(np.linalg.det(self.matrix[:, :2])))

    @property
    def roll_deg(self) -> float:
        """Roll of the head in the photograph, in degrees; positive is clockwise as seen by the viewer."""
        return float(np.degrees(np.arctan2(-self.matrix[1, 0], self.matrix[0, 0])))

    @property
    def crop_side(self) -> float:
        """Side of the face crop in photograph pixels."""
        return (CROP_BOX[2] - CROP_BOX[0]) / self.scale

    def to_frame(self, points: np.ndarray) -> np.ndarray:
        """Photograph positions (n, 2) -> positions in the 178x218 frame (n, 2)."""
        return points @ self.matrix[:, :2].T + self.matrix[:, 2]

    def to_photo(self, points: np.ndarray) -> np.ndarray:
        """Positions in the 178x218 frame (n, 2) -> photograph positions (n, 2)."""
        inverse = _inverse(self.matrix)
        return points @ inverse[:, :2].T + inverse[:, 2]

    def _crop_to_photo(self, size: int, box: Square = CROP_BOX) -> np.ndarray:
        """2x3 matrix: position in a crop of `size` pixels -> position in the photograph."""
        left, top, right, _ = box
        k = (right - left) / size
        return _compose(_inverse(self.matrix), np.array([[k, 0, left], [0, k, top]], np.float64))

    def _bounds(self, margin: int = 0, box: Square = CROP_BOX) -> Box:
        """Smallest upright box of whole photograph pixels around the crop; may extend beyond the photograph."""
        left, top, right, bottom = box
        corners = self.to_photo(np.array([[left, top], [right, top], [left, bottom], [right, bottom]], np.float64))
        low, high = np.floor(corners.min(0)) - margin, np.ceil(corners.max(0)) + margin
        return int(low[0]), int(low[1]), int(high[0]), int(high[1])

    def _check_photo(self, photo: np.ndarray) -> None:
        check_image(photo, "photograph")
        if (photo.shape[1], photo.shape[0]) != tuple(self.photo_size):
            raise LatentrotError(
                f"the photograph is {photo.shape[1]}x{photo.shape[0]}, but the alignment was computed for one of "
                f"{self.photo_size[0]}x{self.photo_size[1]}; pass that photograph"
            )

    def crop(self, image: np.ndarray, size: int, box: Square = CROP_BOX) -> np.ndarray:
        """The face crop of the photograph, upright and antialiased; edges are repeated outside the photograph.

        Args:
            image: (h, w, 3) uint8, the aligned photograph.
            size: side in pixels of the result.
            box: square of the frame to crop instead of the face crop: left, top, right, bottom in frame pixels.

        Returns:
            (size, size, 3) uint8.

        Raises:
            LatentrotError: the photograph has another size than the alignment, or the size is under 1.
        """
        self._check_photo(image)
        if size < 1:
            raise LatentrotError(f"a crop of {size} pixels a side; expected 1 or more")
        left, top, right, bottom = self._bounds(3, box)
        rows = np.clip(np.arange(top, bottom), 0, image.shape[0] - 1)
        columns = np.clip(np.arange(left, right), 0, image.shape[1] - 1)
        around = image[rows[:, None], columns]  # the crop's surroundings, edges repeated
        # the warp samples about once per photograph pixel; the following reduction antialiases
        side = size * max(1, int(np.ceil((box[2] - box[0]) / self.scale / size)))
        matrix = self._crop_to_photo(side, box) - np.array([[0, 0, left], [0, 0, top]])
        warped = Image.fromarray(_warp(around, matrix, (side, side)))
        return np.array(warped if side == size else warped.resize((size, size), Image.Resampling.LANCZOS))


def similarity_between(
    source_points: np.ndarray, target_points: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Least-squares similarity (rotation, scale and shift, never a reflection) between two point sets.

    In closed form: with points as complex numbers a similarity is z -> a z + b, and a is one regression coefficient (the
    planar case of Umeyama, "Least-Squares Estimation of Transformation Parameters Between Two Point Patterns", IEEE TPAMI
    13(4), 1991).

    Args:
        source_points: (k, 2) points.
        target_points: (k, 2) target of each source point.
        weights: (k,) weights with sum 1; None: equal.

    Returns:
        (2, 3) matrix; its scale is 0 if all source points coincide.
    """
    w = np.full(len(source_points), 1 / len(source_points)) if weights is None else weights
    z, t = source_points @ [1, 1j], target_points @ [1, 1j]
    z_mean, t_mean = w @ z, w @ t
    z, t = z - z_mean, t - t_mean
    power = float(w @ np.abs(z) ** 2)
    a = (w * z.conj()) @ t / power if power > 0 else 0j
    b = t_mean - a * z_mean
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def align_landmarks(landmarks: np.ndarray, photo_size: tuple[int, int]) -> Alignment:
    """The similarity transform (rotation, scale, shift; never a reflection) that aligns a face to the CelebA frame.

    Weighted least squares over the five points, see `similarity_between`.

    Args:
        landmarks: (5, 2) left eye, right eye, nose tip, left and right mouth corner, each (column, row) in photograph
            pixels; left is the viewer's.
        photo_size: width and height of the photograph in pixels.

    Returns:
        The alignment.

    Raises:
        LatentrotError: the array has another shape or contains nan or inf, or the points coincide or lie far outside the
            photograph.
    """
    points = np.asarray(landmarks, np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise LatentrotError(f"landmarks of shape {points.shape}; expected five finite (column, row) points")
    weights = LANDMARK_WEIGHTS / LANDMARK_WEIGHTS.sum()
    matrix = similarity_between(points, MEAN_LANDMARKS, weights)
    scale = float(np.hypot(*matrix[:, 0]))
    width, height = photo_size
    crop_side = (CROP_BOX[2] - CROP_BOX[0]) / scale if scale else np.inf
    if not (1 <= crop_side**2 <= MAX_CROP_PIXELS) or np.hypot(*(weights @ points)) > 10 * (width + height):
        raise LatentrotError(
            f"the landmarks {points.round(1).tolist()} are not those of a face in a {width}x{height} photograph"
        )
    return Alignment(matrix, (int(width), int(height)))


def crop_alignment(side: int) -> Alignment:
    """The alignment of an image that is already a face crop of `side` pixels."""
    left, top, right, _ = CROP_BOX
    scale = (right - left) / side
    return Alignment(np.array([[scale, 0, left], [0, scale, top]], np.float64), (side, side))
