"""Transfer the change of a walk to a photograph: the motion-compensated difference of two decodings.

A decoded face hardly resembles the person, even without a walk. Therefore only the change between two decodings is applied to
the photograph:

1. the landmarks of the decoded unchanged latent (`start`) and of the walked one (`walked`) give the motion of the face; a
   thin-plate spline through their displacement warps the photograph and `start` alike;
2. the residual `walked - warp(start)`, which the warp does not explain, is added to the warped photograph, without the
   checkerboard of the highest frequencies, without its mean over each part of the head whose colour is preserved, and only
   inside the region of the property.

Without a change the photograph is returned bit for bit. The method is the motion-compensated prediction of video coding
(Netravali and Robbins, "Motion-Compensated Television Coding: Part I", Bell System Technical Journal 58(3), 1979) with
Bookstein's spline ("Principal Warps", IEEE TPAMI 11, 1989).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from scipy.fft import dctn, idctn

from latentrot.data.frame import CROP_BOX
from latentrot.directions.frequencies import frequency_bands
from latentrot.directions.properties import Property
from latentrot.directions.regions import WITH_WALKED_PARTS, FaceMap, region_mask
from latentrot.directions.warp import sample_source, source_positions, source_shift
from latentrot.faces.alignment import Alignment
from latentrot.faces.parts import PARTS
from latentrot.numerics import smoothstep

__all__ = ["Change", "apply_change", "combine_changes", "difference", "without_checkerboard", "without_part_means"]

#: range of frequencies, in half-waves per pixel, in which residuals are faded out, because long steps draw a checkerboard
CHECKERBOARD = (44 / 64, 60 / 64)
#: width of the fade at the edge of the crop, relative to its half width
EDGE = 0.12
#: darkening at which an occluder begins to be visible, and at which it is opaque
OPAQUE = (0.15, 0.4)
#: width of the fade of a warp inside its region, relative to the crop
INNER = 0.025
#: min brightness (0 to 2) for computing the gain of a change of brightness, and range of the gain minus 1
DARKEST, GAINS = 0.1, (-0.8, 1.0)
#: min residual that is added; smaller ones are invisible in eight bits
FAINT = 0.25 / 127.5
#: min displacement in pixels of the photograph
STILL = 0.02
#: rows of the photograph per band
BAND = 256


@dataclass(frozen=True, eq=False)
class Change:
    """The change of an edit, over the face crop.

    Attributes:
        residual: (n, n, 3) float32, added to images in [-1, 1]; exactly 0 where nothing changes.
        shift: (n, n, 2) float32 (column, row), displacement of each pixel to its source position, -1 to 1 across the crop.
        drawn: (n, n, 4) float32, occluding layer, RGB in [-1, 1] and opacity 0 to 1; None: no layer.
    """

    residual: np.ndarray
    shift: np.ndarray
    drawn: np.ndarray | None = None

    @property
    def is_nothing(self) -> bool:
        """Whether the change is zero."""
        return self.drawn is None and not (self.residual.any() or self.shift.any())


def difference(
    start: torch.Tensor,
    walked: torch.Tensor,
    landmarks: tuple[np.ndarray | None, np.ndarray | None],
    face: FaceMap,
    properties: Sequence[Property],
    walked_face: FaceMap | None = None,
) -> Change:
    """Compute the motion-compensated difference of two decodings, restricted to the regions of properties.

    Args:
        start: (1, 3, s, s) in [-1, 1], the decoded unchanged latent.
        walked: (1, 3, s, s), the decoded walk.
        landmarks: (68, 2) in `start` and in `walked`, -1 to 1 across; None: no landmarks, and no warp.
        face: parts of the head in the crop of the photograph.
        properties: the changed properties.
        walked_face: parts of the head in `walked`, for properties that move outlines, such as that of hair; None: `face`.

    Returns:
        The change; zero if `walked` equals `start`.
    """
    n, side = face.parts.shape[-1], start.shape[-1]
    if torch.equal(start, walked) or not properties:
        return Change(np.zeros((n, n, 3), np.float32), np.zeros((n, n, 2), np.float32))
    mask = joint_mask(properties, face, walked_face) * edge_fade(n)

    # motion: displacement of the landmarks, inside the regions
    shift, warping = torch.zeros(1, 2, side, side, dtype=torch.float64), np.zeros((n, n))
    before, after = landmarks
    if any(p.warp for p in properties) and before is not None and after is not None:
        warping = fade_to_outline(joint_mask([p for p in properties if p.warp], face, walked_face) * edge_fade(n))
        shift = source_shift(before, after, side)
        compensated = sample_source(start, source_positions(shift * resized(warping[None], side), side))
    else:
        compensated = start.double()

    # residual of the motion compensation
    residual = (walked.double() - compensated)[0].numpy()
    residual = without_checkerboard(residual)
    residual = without_part_means(residual, face, mask, properties)
    residual = faded_only(residual, start[0].double().numpy(), face, properties)
    if all(p.shades for p in properties):
        residual = shading_only(residual, start[0].double().numpy())

    if all(p.covers for p in properties):  # dark lenses only darken
        residual = np.minimum(residual, 0)

    # restrict to the regions
    fine = resized(residual, n)[0].permute(1, 2, 0).numpy() * mask[..., None]
    fine[np.abs(fine).max(-1) < FAINT] = 0
    moved = resized(shift[0].numpy(), n)[0].permute(1, 2, 0).numpy() * warping[..., None]
    drawn = occluding_layer(residual, walked, mask) if any(p.covers for p in properties) else None
    return Change(fine.astype(np.float32), moved.astype(np.float32), drawn)


def combine_changes(changes: Sequence[Change]) -> Change:
    """Combine changes of one crop: add the residuals, and take the warp of the first change."""
    first, *others = changes
    residual = np.stack([change.residual for change in changes]).sum(0)
    return Change(residual, first.shift, first.drawn) if others else first


def occluding_layer(residual: np.ndarray, walked: torch.Tensor, mask: np.ndarray) -> np.ndarray:
    """Occluding layer of a walk, opaque where the residual (3, s, s) darkens the image: (n, n, 4) as in `Change`."""
    size = cv2.GaussianBlur(-residual.mean(0), (0, 0), 0.75)
    opaque = resized(smoothstep(size, *OPAQUE)[None], len(mask))[0, 0].numpy().clip(0, 1) * mask
    image = resized(walked[0].numpy(), len(mask))[0].numpy().clip(-1, 1)
    return np.concatenate([image, opaque[None]]).transpose(1, 2, 0).astype(np.float32)


def joint_mask(properties: Sequence[Property], face: FaceMap, walked_face: FaceMap | None) -> np.ndarray:
    """Union of the regions of some properties, (n, n)."""
    masks = [region_mask(p.region, face) for p in properties]
    if walked_face is not None:
        masks += [region_mask(p.region, walked_face) for p in properties if p.region in WITH_WALKED_PARTS]
    return np.max(masks, axis=0)


def fade_to_outline(mask: np.ndarray) -> np.ndarray:
    """Fade a mask (n, n) smoothly to 0 towards its outline, so that a warp does not move the outline."""
    blurred = cv2.GaussianBlur(mask.astype(np.float64), (0, 0), INNER * len(mask), borderType=cv2.BORDER_REPLICATE)
    return smoothstep(blurred, 0.5, 0.95) * (mask > 0)


def edge_fade(n: int) -> np.ndarray:
    """(n, n) 1 inside the crop, falling to 0 at its edge."""
    ticks = np.abs((np.arange(n) + 0.5) * 2 / n - 1)
    return smoothstep(1 - np.maximum(ticks[:, None], ticks), 0.0, EDGE)


def resized(planes: np.ndarray, side: int) -> torch.Tensor:
    """(c, n, n) -> (1, c, side, side) float64, bicubic; antialiased where it becomes smaller."""
    x = torch.from_numpy(np.ascontiguousarray(planes, np.float64))[None]
    if side < planes.shape[-1]:
        return F.interpolate(x, size=side, mode="bilinear", antialias=True, align_corners=False)
    return F.interpolate(x, size=side, mode="bicubic", align_corners=False)


def without_checkerboard(residual: np.ndarray) -> np.ndarray:
    """Fade out the highest frequencies of a residual (c, s, s), which contain checkerboards."""
    low, high = (share * residual.shape[-1] for share in CHECKERBOARD)
    spectrum = np.asarray(dctn(residual, axes=(1, 2), norm="ortho"))
    return np.asarray(
        idctn(spectrum * (1 - smoothstep(frequency_bands(residual.shape[1:]), low, high)), axes=(1, 2), norm="ortho")
    )


def without_part_means(
    residual: np.ndarray, face: FaceMap, mask: np.ndarray, properties: Sequence[Property]
) -> np.ndarray:
    """Subtract the mean of a residual over each part of the head, except for parts in `keeps`.

    Args:
        residual: (3, s, s).
        face: parts of the head.
        mask: (n, n) weights of the mean.
        properties: the changed properties.
    """
    kept = {part for p in properties for part in p.keeps}
    weights = resized(face.parts, residual.shape[-1])[0].numpy().clip(0, 1)
    counts = resized(mask[None], residual.shape[-1])[0, 0].numpy().clip(0, 1)
    for name, part in zip(PARTS, weights, strict=True):
        weight = part * counts
        if name not in kept and weight.sum() > 1:
            residual = residual - part * (residual * weight).sum((1, 2), keepdims=True) / weight.sum()
    return residual


def faded_only(residual: np.ndarray, start: np.ndarray, face: FaceMap, properties: Sequence[Property]) -> np.ndarray:
    """Restrict a residual to changes of lightness and saturation in parts in `fades`, without changes of hue.

    Args:
        residual: (3, s, s).
        start: (3, s, s) in [-1, 1].
        face: parts of the head.
        properties: the changed properties.
    """
    fades = {part for p in properties for part in p.fades}
    if not fades:
        return residual
    grey = residual.mean(0, keepdims=True)
    hue = start - start.mean(0, keepdims=True)
    share = ((residual - grey) * hue).sum(0, keepdims=True) / ((hue**2).sum(0, keepdims=True) + 1e-3)
    greyer = grey + hue * np.clip(share, -1, 0)
    weights = resized(face.parts, residual.shape[-1])[0].numpy()
    where = sum(weights[PARTS.index(name)] for name in fades)
    return residual + np.clip(where, 0, 1) * (greyer - residual)


def shading_only(residual: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Convert a residual (3, s, s) to a gain on the brightness of an image (3, s, s) in [-1, 1], which preserves hues."""
    brightness = (start + 1).mean(0, keepdims=True)
    gain = residual.mean(0, keepdims=True) / np.maximum(brightness, DARKEST)
    return (start + 1) * np.clip(gain, *GAINS)


def apply_change(photograph: np.ndarray, alignment: Alignment, change: Change) -> np.ndarray:
    """Apply a change to a photograph at full resolution.

    Args:
        photograph: (h, w, 3) uint8 RGB.
        alignment: alignment of the face.
        change: change of the face crop.

    Returns:
        (h, w, 3) uint8; pixels without a change are equal bit for bit.
    """
    result = photograph.copy()
    if change.is_nothing:
        return result
    n, half = change.residual.shape[0], (CROP_BOX[2] - CROP_BOX[0]) / 2
    to_crop = alignment.matrix * (n / (2 * half))
    to_crop[:, 2] -= np.array(CROP_BOX[:2]) * (n / (2 * half))
    to_photograph = np.linalg.inv(alignment.matrix[:, :2]) * half
    left, top, right, bottom = bounds_of(alignment, photograph.shape[1], photograph.shape[0])
    for first in range(top, bottom, BAND):
        band = np.s_[first : min(first + BAND, bottom), left:right]

        # positions in the crop
        columns, rows = np.meshgrid(np.arange(left, right) + 0.5, np.arange(band[0].start, band[0].stop) + 0.5)
        at = [to_crop[i, 0] * columns + to_crop[i, 1] * rows + to_crop[i, 2] - 0.5 for i in range(2)]
        at = [v.astype(np.float32) for v in at]

        # warp
        shift = cv2.remap(change.shift, at[0], at[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT).astype(
            np.float64
        )
        shift = shift @ to_photograph.T
        own = photograph[band]
        if np.abs(shift).max() > STILL:
            place = [(v + shift[..., i] - 0.5).astype(np.float32) for i, v in enumerate((columns, rows))]
            seen = sample_photograph(photograph, *place)
            own = np.where((np.abs(shift).max(-1) > STILL)[..., None], seen, own)

        # add the residual
        residual = cv2.remap(change.residual, at[0], at[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT) * 127.5
        edited = own + residual

        # draw the occluding layer
        if change.drawn is not None:
            layer = cv2.remap(change.drawn, at[0], at[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
            edited = edited + layer[..., 3:] * ((layer[..., :3] + 1) * 127.5 - edited)
        result[band] = np.clip(np.round(edited), 0, 255).astype(np.uint8)
    return result


def sample_photograph(photograph: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Sample a photograph at float positions (pixel centres are integers), edges repeated: (h, w, 3) uint8."""
    low = [max(0, int(np.floor(v.min())) - 3) for v in (columns, rows)]
    high = [int(np.ceil(v.max())) + 4 for v in (columns, rows)]
    around = np.ascontiguousarray(photograph[low[1] : high[1], low[0] : high[0]])
    return cv2.remap(around, columns - low[0], rows - low[1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def bounds_of(alignment: Alignment, width: int, height: int) -> tuple[int, int, int, int]:
    """The smallest box of whole pixels of the photograph around the face crop: left, top, right, bottom."""
    left, top, right, bottom = CROP_BOX
    corners = alignment.to_photo(np.array([[left, top], [right, top], [left, bottom], [right, bottom]], np.float64))
    low, high = np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int)
    return max(0, low[0]), max(0, low[1]), min(width, high[0]), min(height, high[1])
