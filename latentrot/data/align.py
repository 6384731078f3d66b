"""Bring a face into the CelebA frame, and bring what was made of it back into the photograph.

Coordinates are pixels with edges at pixel borders (the first pixel's centre lies at 0.5, 0.5), columns first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from latentrot.data.detail import SIDE, agreement, correlation, displaced, displacement, enlarged, reduced
from latentrot.data.frame import CROP_BOX
from latentrot.data.images import check_picture
from latentrot.errors import LatentrotError

__all__ = ["Alignment", "align_landmarks", "keep_light", "match_colours", "oval"]

#: mean landmarks of 1,001 aligned CelebA pictures by `latentrot.label.framing`'s repeated looks, made symmetric about the
#: frame's axis (column 89): left eye, right eye, nose tip, left and right mouth corner; left is the viewer's
MEAN_LANDMARKS = np.array([[69.57, 111.8], [108.43, 111.8], [89.0, 135.8], [71.49, 152.88], [106.51, 152.88]])
#: how far each of them says where the frame is. The eyes hold it; the mouth, which moves when the head turns or speaks,
#: only steadies it where the eyes draw together in profile, and the nose says nothing. CelebA's own frame gives the mouth
#: more: there the eyes draw together from 40 pixels apart to 35 as heads turn to 30 degrees.
LANDMARK_WEIGHTS = np.array([1.0, 1.0, 0.0, 0.01, 0.01])
#: a crop reaching over more pixels than this (edges repeated) comes from landmarks that are no face
MAX_CROP_PIXELS = 100_000_000
#: difference (of 255) at which a third of the photograph's own detail is still kept
DETAIL_TOLERANCE = 24.0
#: light kept from the source: over what distance (pixels of `SIDE`), what share, L*a*b* units at most
LIGHT_REACH, LIGHT_SHARE, LIGHT_LIMIT = 2.5, 0.8, 20.0
#: correlation of neighbourhoods from which, and up to which, they are taken for one part of the face under two lights
SAME_PART = (0.3, 0.8)
#: width of the fade at the rim of a pasted face. A wider one keeps more of the old outline, and with it of the old pose: by
#: an independent network five heads, pasted, had turned by 60% of what their crops had at 0.3, by 81% at 0.1; a narrower
#: one shows its rim
FEATHER = 0.18
#: deviations left alone by the colour match: L*a*b* units of the mean, share of the standard deviation
MEAN_TOLERANCE, SPREAD_TOLERANCE = 1.5, 0.1

Box = tuple[int, int, int, int]
Square = tuple[float, float, float, float]


# ---- the crop's own geometry ------------------------------------------------------------------------------------


def oval(columns: np.ndarray, rows: np.ndarray, feather: float = FEATHER) -> np.ndarray:
    """How much of a pasted head shows: 1 inside a rounded oval within the unit square, fading smoothly to 0 at its rim.

    Args:
        columns: positions across the crop, 0 (left edge) to 1.
        rows: positions down the crop, 0 (top edge) to 1; broadcast against `columns`.
        feather: width of the fade as a share of the oval's radius, over 0 and up to 1.

    Returns:
        float32 weights in [0, 1]; exactly 0 on and beyond the square's edge.

    Raises:
        LatentrotError: the feather is out of range.
    """
    if not 0 < feather <= 1:
        raise LatentrotError(f"feather={feather}; expected more than 0 and at most 1")
    across, down = np.abs(columns * 2 - 1) / 0.97, np.abs(rows * 2 - 1) / 0.99
    radius = (across**2.5 + down**2.5) ** 0.4  # between an ellipse and its box: the chin lies close to the crop's edge
    t = np.clip((1 - radius) / feather, 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


# ---- colours ----------------------------------------------------------------------------------------------------

RGB_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE_D65 = RGB_TO_XYZ.sum(1)


def _to_lab(rgb: np.ndarray) -> np.ndarray:
    """Colours (..., 3) in sRGB, 0 to 255 -> CIE L*a*b* under D65."""
    value = rgb / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    t = linear @ RGB_TO_XYZ.T / WHITE_D65
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def _from_lab(lab: np.ndarray) -> np.ndarray:
    """The inverse of `_to_lab`, clipped to what sRGB can show."""
    fy = (lab[..., 0] + 16) / 116
    f = np.stack([fy + lab[..., 1] / 500, fy, fy - lab[..., 2] / 200], -1)
    t = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))
    linear = np.clip((t * WHITE_D65) @ np.linalg.inv(RGB_TO_XYZ).T, 0, 1)
    return 255 * np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def match_colours(turned: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Give the turned face the source's mean and spread in L*a*b*, as far as they deviate by more than a turn explains.

    Source: Reinhard, Ashikhmin, Gooch, Shirley, "Color Transfer between Images", IEEE CG&A 21(5), 2001;
    the tolerance is added.

    Args:
        turned: (s, s, 3) numbers, 0 to 255.
        source: (s, s, 3) uint8.

    Returns:
        (s, s, 3) float64, 0 to 255; the same values as `turned` where nothing deviates.
    """
    side = (np.arange(len(turned)) + 0.5) / len(turned)
    face = oval(side, side[:, None], 0.3) > 0.5
    lab, wanted = _to_lab(turned.astype(np.float64)), _to_lab(source.astype(np.float64))
    mean, spread = lab[face].mean(0), lab[face].std(0) + 1e-6
    shift = wanted[face].mean(0) - mean
    shift = np.sign(shift) * np.maximum(np.abs(shift) - MEAN_TOLERANCE, 0)
    ratio = np.log((wanted[face].std(0) + 1e-6) / spread)
    ratio = np.clip(np.sign(ratio) * np.maximum(np.abs(ratio) - SPREAD_TOLERANCE, 0), -0.3, 0.3)  # 35 % at most
    if not shift.any() and not ratio.any():
        return turned.astype(np.float64)
    return _from_lab((lab - mean) * np.exp(ratio) + mean + shift)


def keep_light(turned: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Give each part of the turned face most of the brightness and colour it had in the source.

    A walk to another pose drags the light along and draws shadows that are nobody's. Where a neighbourhood of the turned
    face is found again in the source (`latentrot.data.detail`), what differs over a distance is taken back; edges, and
    parts that come into view, stay as the model drew them.

    Args:
        turned: (s, s, 3) uint8.
        source: (s, s, 3) uint8.

    Returns:
        (s, s, 3) float64, 0 to 255; the values of `turned` for equal crops.
    """
    if np.array_equal(turned, source):
        return turned.astype(np.float64)
    field = displacement(source, turned)
    was, now = _to_lab(displaced(reduced(source), field)), _to_lab(reduced(turned))
    side = (np.arange(SIDE) + 0.5) / SIDE
    low, high = SAME_PART
    found = np.clip((correlation(was[..., 0] * 2.55, now[..., 0] * 2.55) - low) / (high - low), 0, 1)
    weight = (found * oval(side, side[:, None], 0.5))[..., None]
    apart = weight * np.clip(was - now, -LIGHT_LIMIT, LIGHT_LIMIT)
    reach = (LIGHT_REACH, LIGHT_REACH, 0)
    difference = gaussian_filter(apart, reach) / (gaussian_filter(weight, reach) + 0.15)  # little where little is found
    return _from_lab(_to_lab(turned.astype(np.float64)) + LIGHT_SHARE * enlarged(difference, len(turned)))


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
        check_picture(photo, "photograph")
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

    def _mask_in(self, box: Box, feather: float) -> np.ndarray:
        """The oval over the photograph's pixels in a box -> (h, w) float32."""
        left, top, right, bottom = box
        to_unit = _inverse(self._crop_to_photo(1))
        x, y = np.arange(left, right) + 0.5, (np.arange(top, bottom) + 0.5)[:, None]
        columns = to_unit[0, 0] * x + to_unit[0, 1] * y + to_unit[0, 2]
        rows = to_unit[1, 0] * x + to_unit[1, 1] * y + to_unit[1, 2]
        return oval(columns, rows, feather)

    def _pasted_box(self) -> Box:
        left, top, right, bottom = self._bounds()
        width, height = self.photo_size
        return max(left, 0), max(top, 0), min(right, width), min(bottom, height)

    def mask(self, feather: float = FEATHER) -> np.ndarray:
        """How much of a pasted face shows at each pixel of the photograph.

        Args:
            feather: width of the fade as a share of the oval's radius, over 0 and up to 1.

        Returns:
            (h, w) float32 in [0, 1], the photograph's size; exactly 0 outside the crop.

        Raises:
            LatentrotError: the feather is out of range.
        """
        left, top, right, bottom = box = self._pasted_box()
        full = np.zeros((self.photo_size[1], self.photo_size[0]), np.float32)
        if left < right and top < bottom:
            full[top:bottom, left:right] = self._mask_in(box, feather)
        return full

    def _bring_back(self, plane: np.ndarray, box: Box) -> np.ndarray:
        """A square (s, s) float plane in crop coordinates, resampled onto the photograph's pixels in a box."""
        left, top, right, bottom = box
        # where the crop is finer than the photograph it is first reduced to its grain
        size = min(len(plane), max(1, round(self.crop_side)))
        picture = Image.fromarray(plane.astype(np.float32))
        if size < len(plane):
            picture = picture.resize((size, size), Image.Resampling.LANCZOS)
        matrix = _compose(_inverse(self._crop_to_photo(size)), np.array([[1, 0, left], [0, 1, top]], np.float64))
        edge = 3  # pixels repeated at the edge, where bicubic needs neighbours
        padded = np.pad(np.asarray(picture), edge, mode="edge")
        return _warp(padded, matrix + np.array([[0, 0, edge], [0, 0, edge]]), (right - left, bottom - top))

    def _carried(self, fine: np.ndarray, source: np.ndarray, turned: np.ndarray, box: Box) -> np.ndarray:
        """The detail (h, w, 3) of a box of the photograph as it lies on the turned face, as far as that can be told."""
        field = displacement(source, turned)
        to_photo = self._crop_to_photo(len(field[0]))[:, :2]
        in_photo = [self._bring_back(plane, box) for plane in np.tensordot(to_photo, field, 1)]
        weight = np.clip(self._bring_back(agreement(source, turned, field), box), 0, 1)
        return weight[..., None] * displaced(fine, np.stack(in_photo))

    def paste(
        self,
        photo: np.ndarray,
        source_crop: np.ndarray,
        turned_crop: np.ndarray,
        feather: float = FEATHER,
        colours: bool = True,
        detail: bool = True,
    ) -> np.ndarray:
        """Put a changed face back into its photograph, keeping the photograph's own detail where the face is unchanged.

        What is added is the difference between the two crops, which is as coarse as the models are; the photograph's
        finer detail stays. Where the difference is large the detail no longer belongs there (it would show as a ghost):
        it gives way to the detail of where that part of the face came from (`latentrot.data.detail`), or, where that
        cannot be told, to the crop itself. Equal crops return the photograph bit for bit; pixels outside the mask
        always stay so.

        Args:
            photo: (h, w, 3) uint8, the photograph aligned.
            source_crop: (s, s, 3) uint8, the face as it went in: `crop` of the photograph, or the model's own
                reconstruction of it, whose errors then cancel.
            turned_crop: (s, s, 3) uint8, the face as it came out.
            feather: width of the fade at the mask's rim as a share of its radius, over 0 and up to 1.
            colours: keep the source's light (`keep_light`) and match the turned face's colours to the source's, as far as
                they deviate (`match_colours`), first.
            detail: carry the photograph's detail along with the face; off: it is dropped where the face changes.

        Returns:
            (h, w, 3) uint8, a new array.

        Raises:
            LatentrotError: the photograph is not the one aligned, the crops are not squares of one size, or the
                feather is out of range.
        """
        self._check_photo(photo)
        for crop in (source_crop, turned_crop):
            check_picture(crop, "crop")
        if source_crop.shape != turned_crop.shape or source_crop.shape[0] != source_crop.shape[1]:
            raise LatentrotError(
                f"crops of {source_crop.shape} and {turned_crop.shape}; expected two squares of one size"
            )
        pasted = photo.copy()
        left, top, right, bottom = box = self._pasted_box()
        if left >= right or top >= bottom:
            return pasted
        # crop coordinates: what changed, and how much of the photograph's detail survives the change
        source = source_crop.astype(np.float64)
        turned = turned_crop.astype(np.float64)
        if colours:
            turned = match_colours(keep_light(turned_crop, source_crop), source_crop)
        change = turned - source
        extent = gaussian_filter(np.abs(change).max(-1), len(source) / 48)
        lost = 1 - np.exp(-((extent / DETAIL_TOLERANCE) ** 2))  # exactly 0 where nothing changed
        # the same in the photograph
        back = partial(self._bring_back, box=box)
        mask = self._mask_in(box, feather)[..., None]
        here = photo[top:bottom, left:right].astype(np.float32)
        coarse = np.stack([back(source[..., c]) for c in range(3)], -1)
        added = np.stack([back(change[..., c]) for c in range(3)], -1)
        gone = np.clip(back(lost), 0, 1)[..., None]
        fine = here - coarse
        carried = self._carried(fine, source, turned, box) if detail else 0
        result = here + mask * (added - gone * (fine - carried))
        pasted[top:bottom, left:right] = np.rint(np.clip(result, 0, 255)).astype(np.uint8)
        return pasted


def align_landmarks(landmarks: np.ndarray, photo_size: tuple[int, int]) -> Alignment:
    """The similarity transform (turn, scale, shift; never a reflection) that takes a face into the CelebA frame.

    Weighted least squares over the five points, in closed form: with points as complex numbers a similarity is
    z -> a z + b, and a is one regression coefficient (the planar case of Umeyama, "Least-Squares Estimation of
    Transformation Parameters Between Two Point Patterns", IEEE TPAMI 13(4), 1991).

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
    given, wanted = points @ [1, 1j], MEAN_LANDMARKS @ [1, 1j]
    given_mean, wanted_mean = weights @ given, weights @ wanted
    given, wanted = given - given_mean, wanted - wanted_mean
    power = float(weights @ np.abs(given) ** 2)
    a = (weights * given.conj()) @ wanted / power if power > 0 else 0j
    width, height = photo_size
    crop_side = (CROP_BOX[2] - CROP_BOX[0]) / abs(a) if a else np.inf
    if not (1 <= crop_side**2 <= MAX_CROP_PIXELS) or abs(given_mean) > 10 * (width + height):
        raise LatentrotError(
            f"the landmarks {points.round(1).tolist()} are not those of a face in a {width}x{height} photo"
        )
    b = wanted_mean - a * given_mean
    matrix = np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])
    return Alignment(matrix, (int(width), int(height)))
