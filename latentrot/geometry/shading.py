"""Shading of a head: spherical harmonics fitted to its skin, so that a rotation keeps the light fixed in the scene.

Distant light on a convex Lambertian surface gives a radiance that is a low-order polynomial of the surface normal: the
harmonics up to order 2 hold 99% of it, those up to order 1 nine tenths (Ramamoorthi and Hanrahan, "On the relationship
between radiance and irradiance", JOSA A 18(10), 2001; Basri and Jacobs, "Lambertian reflectance and linear subspaces",
PAMI 25(2), 2003). Skin is assumed to have one albedo. A rotated pixel is multiplied by the ratio of the shading at its
rotated normal to the shading at its source normal; shadows cast by nose and brow rotate with the face.

Normals are unit vectors (x right, y down, z to the viewer) in the head's region; luminance is linear, 0 to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from latentrot.geometry.fields import blur, blur_within, dilated, extrapolated, ramp, sample_at
from latentrot.geometry.outline import Outline

__all__ = [
    "Shading",
    "fit_harmonics",
    "fit_shading",
    "harmonics",
    "light_gain",
    "linear_luminance",
    "relight",
    "relit_gain",
    "surface_normals",
    "unit",
]

#: order of the harmonics: 2 gives lower errors on rendered heads, but higher ones on real pairs
ORDER = 1
#: exponent between pixel values and linear light; luminance of linear red, green, blue (ITU-R BT.709)
GAMMA, LUMINANCE = 2.2, (0.2126, 0.7152, 0.0722)
#: blur of the surface before its normals are taken, of the luminance, and of the gain, in W
NORMAL_BLUR, LUMINANCE_BLUR, GAIN_BLUR = 0.03, 0.01, 0.02
#: iterations of the robust fit; ridge on the harmonics of order 1 and more, as a share of the constant's weight
ROUNDS, RIDGE = 12, 0.05
#: robust weights, residuals in standard deviations: the weight is 1/2 at HALF; pixels darker than the fit by DARKER (brows,
#: beards, cast shadows) are multiplied by DARK_WEIGHT
HALF, DARKER, DARK_WEIGHT = 2.0, 1.5, 0.3
#: the fit uses skin whose normal has a z above FACING; it needs MIN_AREA (share of W squared) of such skin
FACING, MIN_AREA = 0.35, 0.05
#: explained shares of the luminance's variance between which the strength of relighting rises from 0 to 1
EXPLAINED = 0.05, 0.2
#: min shading as a share of that of a surface facing the viewer; bounds of the ratio of two shadings
AMBIENT, RATIO = 0.18, (0.45, 2.2)
#: strength on hair, whose fibres reflect light to all sides
HAIR = 0.5
#: landmarks around the eyes with brows, and around the mouth: their colours differ from the skin
FEATURES: tuple[Sequence[int], ...] = (
    (*range(17, 22), *range(36, 42)),
    (*range(22, 27), *range(42, 48)),
    range(48, 60),
)


@dataclass(frozen=True, eq=False)
class Shading:
    """Luminance of a head's skin as a function of its normal.

    Args:
        coefficients: (4,) or (9,) of `harmonics`, linear luminance.
        explained: share of the luminance's variance that they explain, 0 to 1.
        strength: 0 where the fit explains too little and the head is not relit, to 1.
    """

    coefficients: np.ndarray
    explained: float = 0.0
    strength: float = 0.0

    def __call__(self, normals: np.ndarray) -> np.ndarray:
        """(...) linear luminance at (..., 3) normals, never below the ambient share."""
        order, coefficients = int(np.sqrt(len(self.coefficients))) - 1, self.coefficients.astype(normals.dtype)
        facing = float(harmonics(np.array([0.0, 0.0, 1.0]), order) @ self.coefficients)
        return np.maximum(harmonics(normals, order) @ coefficients, AMBIENT * max(facing, 1e-4))


def harmonics(normals: np.ndarray, order: int = ORDER) -> np.ndarray:
    """Real spherical harmonics of order 1 or 2, without their constants.

    Args:
        normals: (..., 3) unit vectors.
        order: 1 or 2.

    Returns:
        (..., 4) or (..., 9), the constant first.

    Example:
        >>> harmonics(np.array([0.6, 0.0, 0.8]), 1)
        array([1. , 0.6, 0. , 0.8])
    """
    x, y, z = np.moveaxis(normals, -1, 0)
    basis = [np.ones_like(x), x, y, z]
    if order == 2:
        basis += [x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1]
    return np.stack(basis, -1)


def linear_luminance(image: np.ndarray) -> np.ndarray:
    """(h, w) linear luminance, 0 to 1, of (h, w, 3) pixel values, 0 to 255."""
    return (np.clip(image, 0, 255) / 255) ** GAMMA @ np.array(LUMINANCE, np.float32)


def surface_normals(slope: np.ndarray, head: np.ndarray, width: float) -> np.ndarray:
    """(h, w, 3) float32 normals of the front surface, smoothed.

    Args:
        slope: (h, w, 2) across and down.
        head: (h, w) bool, where the surface is.
        width: W in pixels.
    """
    smooth, _ = blur_within(slope, head, NORMAL_BLUR * width)
    return unit(np.dstack([-smooth, np.ones(smooth.shape[:2], np.float32)])).astype(np.float32)


def fit_harmonics(basis: np.ndarray, luminance: np.ndarray) -> tuple[np.ndarray, float]:
    """Robust least squares: Cauchy weights, and less weight on pixels darker than the fit.

    Args:
        basis: (n, k) from `harmonics`.
        luminance: (n,) linear.

    Returns:
        (k,) coefficients, and the share of the weighted variance that they explain, at most 1.
    """
    weight = np.ones(len(luminance))
    ridge = RIDGE * np.diag(np.r_[0.0, np.ones(basis.shape[1] - 1)])
    for _ in range(ROUNDS):
        weighted = basis * weight[:, None]
        coefficients = np.linalg.solve(basis.T @ weighted + weight.sum() * ridge, weighted.T @ luminance)
        residual = luminance - basis @ coefficients
        deviation = 1.4826 * np.median(np.abs(residual)) + 1e-6
        weight = _robust_weight(residual / deviation)
    mean = np.average(luminance, weights=weight)
    total, rest = weight @ (luminance - mean) ** 2, weight @ residual**2
    return coefficients, float((total - rest) / (total + 1e-9 * len(luminance)))


def _robust_weight(residual: np.ndarray) -> np.ndarray:
    """Weights, 0 to 1, of residuals in standard deviations."""
    return np.where(residual < -DARKER, DARK_WEIGHT, 1.0) / (1 + (residual / HALF) ** 2)


def fit_shading(
    image: np.ndarray, normals: np.ndarray, outline: Outline, landmarks: np.ndarray, width: float
) -> Shading:
    """Fit the shading of a head to its skin; strength 0 where there is little of it or the fit explains little.

    Args:
        image: (h, w, 3) the region's image.
        normals: (h, w, 3) of its surface.
        outline: masks.
        landmarks: (68, 2 or 3) in the region.
        width: W in pixels.
    """
    skin = outline.face & (outline.hair < 0.2) & (outline.hat < 0.2) & (normals[..., 2] > FACING)
    skin &= ~_features(landmarks, skin.shape, width)
    if skin.sum() < MIN_AREA * width**2:
        return Shading(np.eye(4)[0])
    luminance = blur(linear_luminance(image), LUMINANCE_BLUR * width)[skin]
    coefficients, explained = fit_harmonics(harmonics(normals[skin].astype(np.float64)), luminance.astype(np.float64))
    return Shading(coefficients, explained, float(ramp(np.array(explained), *EXPLAINED)))


def _features(landmarks: np.ndarray, shape: tuple[int, ...], width: float) -> np.ndarray:
    """(h, w) bool, eyes with brows, and mouth."""
    mask = np.zeros(shape, np.uint8)
    for marks in FEATURES:
        hull = cv2.convexHull(np.round(16 * (landmarks[list(marks), :2] - 0.5)).astype(np.int32))
        cv2.fillConvexPoly(mask, hull, 1, shift=4)
    return dilated(mask > 0, 0.02 * width)


def light_gain(
    shading: Shading, normals: np.ndarray, turn: np.ndarray, back: np.ndarray, hair: np.ndarray
) -> np.ndarray:
    """Logarithm of the gain on pixel values that keeps the light fixed in the scene, before smoothing.

    The back surface takes its colours from the head's rim, so its gain starts from the normal of the rim.

    Args:
        shading: of the head in the source.
        normals: (..., 3) of the front surface in the source.
        turn: (3, 3) rotation.
        back: (...) bool, where the back surface is seen.
        hair: (...) share of hair.
    """
    flat, behind = np.array([1, 1, 0], np.float32), np.array([1, 1, -1], np.float32)
    source = unit(np.where(back[..., None], normals * flat, normals))
    rotated = np.where(back[..., None], normals * behind, normals) @ turn.T
    return relit_gain(shading, source, rotated, hair)


def relit_gain(shading: Shading, source: np.ndarray, rotated: np.ndarray, hair: np.ndarray) -> np.ndarray:
    """Logarithm of the gain on pixel values between two normals, before smoothing.

    Args:
        shading: of the head in the source.
        source: (..., 3) unit normals under which the colours were seen.
        rotated: (..., 3) unit normals after the rotation.
        hair: (...) share of hair.
    """
    ratio = np.clip(shading(rotated) / shading(source), *RATIO)
    return shading.strength * (1 - (1 - HAIR) * hair) * np.log(ratio) / GAMMA


def smooth_gain(log_gain: np.ndarray, known: np.ndarray, width: float) -> np.ndarray:
    """(h, w) float32 gain, smoothed over the known pixels and continued beyond them."""
    share = blur(known.astype(np.float32), GAIN_BLUR * width)
    near = blur(log_gain * known, GAIN_BLUR * width) / np.maximum(share, 1e-3)
    return np.exp(extrapolated(near[..., None], np.clip(share, 0, 1))[..., 0])


def relight(colours: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """Colours (h, w, 3), 0 to 255, times (h, w) gains; bright ones keep their hue instead of being clipped."""
    room = np.maximum(1, 255 / np.maximum(colours.max(-1), 1))
    return colours * np.minimum(gain, room)[..., None]


def head_gain(
    shading: Shading, normals: np.ndarray, hair: np.ndarray, turn: np.ndarray, source: np.ndarray,
    shown: np.ndarray, back: np.ndarray, width: float,
) -> np.ndarray:  # fmt: skip
    """(h, w) float32 gain on the pixel values of a rotated head, continued around it.

    Args:
        shading: of the head in the source.
        normals: (h, w, 3) of its front surface.
        hair: (h, w) share of hair.
        turn: (3, 3) rotation.
        source: (h, w, 2) source position of every pixel.
        shown: (h, w) bool, where the head is seen.
        back: (h, w) bool, where its back surface is.
        width: W in pixels.
    """
    there, strands = sample_at(normals, source)[shown], sample_at(hair, source)[shown]
    log_gain = np.zeros(shown.shape, np.float32)
    log_gain[shown] = light_gain(shading, unit(there), turn.astype(np.float32), back[shown], strands)
    return smooth_gain(log_gain, shown, width)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) of length 1; zero stays zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6)
