"""Bring a face into the CelebA frame.

Coordinates are pixels with edges at pixel borders (the first pixel's centre lies at 0.5, 0.5), columns first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from latentrot.data.frame import CROP_BOX
from latentrot.data.images import check_image
from latentrot.errors import LatentrotError

__all__ = ["Alignment", "align_landmarks", "crop_alignment"]

#: mean landmarks of 1,001 aligned CelebA pictures by `latentrot.faces.framing`'s repeated looks, made symmetric about the
#: frame's axis (column 89): left eye, right eye, nose tip, left and right mouth corner; left is the viewer's
MEAN_LANDMARKS = np.array([[69.57, 111.8], [108.43, 111.8], [89.0, 135.8], [71.49, 152.88], [106.51, 152.88]])
#: how far each of them says where the frame is. The eyes hold it; the mouth, which moves when the head turns or speaks,
#: only steadies it where the eyes draw together in profile, and the nose says nothing. CelebA's own frame gives the mouth
#: more: there the eyes draw together from 40 pixels apart to 35 as heads turn to 30 degrees.
LANDMARK_WEIGHTS = np.array([1.0, 1.0, 0.0, 0.01, 0.01])
#: a crop reaching over more pixels than this (edges repeated) comes from landmarks that are no face
MAX_CROP_PIXELS = 100_000_000

Box = tuple[int, int, int, int]
Square = tuple[float, float, float, float]


# ---- the alignment ----------------------------------------------------------------------------------------------


def _warp(plane: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """One float or uint8 array resampled (bicubic): output position p shows input position matrix @ (p, 1)."""
    coefficients = tuple(float(v) for v in matrix.ravel())
    return np.array(
        Image.fromarray(plane).transform(size, Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)
    )


def _compose(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Two 2x3 matrices as one: first `inner`, then `outer`."""
    return outer[:, :2] @ inner + np.pad(outer[:, 2:], ((0, 0), (2, 0)))


def _inverse(matrix: np.ndarray) -> np.ndarray:
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


@dataclass(frozen=True, eq=False)
class Alignment:
    """Where a face lies in a photograph: a similarity transform from the photograph to the 178x218 CelebA frame.

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
        """How far the head leans in the photograph, in degrees; positive is clockwise as seen by the viewer."""
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
        """2x3: position in a crop of `size` pixels -> position in the photograph."""
        left, top, right, _ = box
        k = (right - left) / size
        return _compose(_inverse(self.matrix), np.array([[k, 0, left], [0, k, top]], np.float64))

    def _bounds(self, margin: int = 0, box: Square = CROP_BOX) -> Box:
        """The smallest upright box of whole photograph pixels around the crop; may reach beyond the photograph."""
        left, top, right, bottom = box
        corners = self.to_photo(np.array([[left, top], [right, top], [left, bottom], [right, bottom]], np.float64))
        low, high = np.floor(corners.min(0)) - margin, np.ceil(corners.max(0)) + margin
        return int(low[0]), int(low[1]), int(high[0]), int(high[1])

    def _check_photo(self, photo: np.ndarray) -> None:
        check_image(photo, "photograph")
        if (photo.shape[1], photo.shape[0]) != tuple(self.photo_size):
            raise LatentrotError(
                f"the photograph is {photo.shape[1]}x{photo.shape[0]}, the alignment belongs to one of "
                f"{self.photo_size[0]}x{self.photo_size[1]}; give the photograph it was made from"
            )

    def crop(self, image: np.ndarray, size: int, box: Square = CROP_BOX) -> np.ndarray:
        """The face crop of the photograph, upright and antialiased; edges are repeated outside the photograph.

        Args:
            image: (h, w, 3) uint8, the photograph aligned.
            size: side in pixels of the square returned.
            box: another square of the frame than the face crop: left, top, right, bottom in frame pixels.

        Returns:
            (size, size, 3) uint8.

        Raises:
            LatentrotError: the photograph has another size than the one aligned, or the size is under 1.
        """
        self._check_photo(image)
        if size < 1:
            raise LatentrotError(f"a crop of {size} pixels a side; expected 1 or more")
        left, top, right, bottom = self._bounds(3, box)
        rows = np.clip(np.arange(top, bottom), 0, image.shape[0] - 1)
        columns = np.clip(np.arange(left, right), 0, image.shape[1] - 1)
        around = image[rows[:, None], columns]  # the crop's surroundings, edges repeated
        # the warp samples about once per photograph pixel, and the reduction that follows antialiases
        side = size * max(1, int(np.ceil((box[2] - box[0]) / self.scale / size)))
        matrix = self._crop_to_photo(side, box) - np.array([[0, 0, left], [0, 0, top]])
        warped = Image.fromarray(_warp(around, matrix, (side, side)))
        return np.array(warped if side == size else warped.resize((size, size), Image.Resampling.LANCZOS))


def similarity_between(given: np.ndarray, wanted: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """The turn, scale and shift (never a reflection) that takes points to others with the least squared distance.

    In closed form: with points as complex numbers a similarity is z -> a z + b, and a is one regression coefficient (the
    planar case of Umeyama, "Least-Squares Estimation of Transformation Parameters Between Two Point Patterns", IEEE TPAMI
    13(4), 1991).

    Args:
        given: (k, 2) points.
        wanted: (k, 2) where they should come to lie.
        weights: (k,) how much each counts, 1 together; None: all alike.

    Returns:
        (2, 3) matrix; of scale 0 where all given points coincide.
    """
    w = np.full(len(given), 1 / len(given)) if weights is None else weights
    z, t = given @ [1, 1j], wanted @ [1, 1j]
    z_mean, t_mean = w @ z, w @ t
    z, t = z - z_mean, t - t_mean
    power = float(w @ np.abs(z) ** 2)
    a = (w * z.conj()) @ t / power if power > 0 else 0j
    b = t_mean - a * z_mean
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def align_landmarks(landmarks: np.ndarray, photo_size: tuple[int, int]) -> Alignment:
    """The similarity transform (turn, scale, shift; never a reflection) that takes a face into the CelebA frame.

    Weighted least squares over the five points, see `similarity_between`.

    Args:
        landmarks: (5, 2) left eye, right eye, nose tip, left and right mouth corner, each (column, row) in photograph
            pixels; left is the viewer's.
        photo_size: width and height of the photograph in pixels.

    Returns:
        The alignment.

    Raises:
        LatentrotError: another shape, values that are not finite, or points that coincide or lie far outside the
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
            f"the landmarks {points.round(1).tolist()} are not those of a face in a {width}x{height} photo"
        )
    return Alignment(matrix, (int(width), int(height)))


def crop_alignment(side: int) -> Alignment:
    """The alignment of an image that is a face crop already, of a side in pixels."""
    left, top, right, _ = CROP_BOX
    scale = (right - left) / side
    return Alignment(np.array([[scale, 0, left], [0, scale, top]], np.float64), (side, side))
