"""Textures of the head's front and back surface: the photograph with cleaned rims, and synthesized hair."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from latentrot.geometry.config import MeshConfig
from latentrot.geometry.fields import blur, blur_within, dilated, eroded, extrapolated, filled, ramp
from latentrot.geometry.hair import LOCK, own_hair, strands_of, typical_hair, visible_hair
from latentrot.geometry.outline import Outline, cheeks_of

__all__ = ["Textures", "make_textures"]


#: brightness of the neck under the ears relative to the cheeks
SHADE = 0.75
#: height of an ear, in W
EAR = 0.4
#: an accessory on the head with a larger area than this (share of W squared) is a hat, not glasses
HAT = 0.15
#: shares of hair along the crown between which bare skin at the rim stops being extended to the back
FULL = 0.6, 0.8


@dataclass(frozen=True, eq=False)
class Textures:
    """Textures on the region's grid.

    Args:
        front: (h, w, 3) float32, the photograph with its rim replaced by colours from inside.
        kept: (h, w) float32, 1 where `front` is the photograph.
        tone: (h, w, 3) float32, blurred colours of the hair in front.
        back_hair: (h, w, 3) float32, blurred colours of hair at the back of the head, and of skin below it.
        back_tone: (h, w, 3) float32, blurred colours of the back of the head, with bare skin where the front has it.
        strands: (h, w, 3) float32, zero-mean hair detail, defined everywhere.
        hair: (h, w) float32, weight with which a pixel may be redrawn as hair.
        near_hair: (h, w) float32, the same for skin next to hair, where the depth is discontinuous.
        strand: (h, w) bool, hair whose colour is certainly that of hair; without hair, the scalp.
        hairy: whether there is enough hair for `tone`, `back_hair`, `back_tone` and `strands` to be those of hair.
    """

    front: np.ndarray
    kept: np.ndarray
    tone: np.ndarray
    back_hair: np.ndarray
    back_tone: np.ndarray
    strands: np.ndarray
    hair: np.ndarray
    near_hair: np.ndarray
    strand: np.ndarray
    hairy: bool


def make_textures(
    image: np.ndarray,
    outline: Outline,
    seen: np.ndarray,
    lobes: np.ndarray,
    width: float,
    config: MeshConfig,
) -> Textures:
    """Build the textures from the region's image and its masks.

    Args:
        image: (h, w, 3) the region's image.
        outline: its masks.
        seen: (h, w) bool, pixels that lie within the photograph.
        lobes: (h, w) bool, visible parts of ears that hair covers.
        width: W in pixels.
        config: parameters.
    """
    inside, sigma = outline.to_background, LOCK * width
    clean = _clean(outline, seen, width, config)
    # at the silhouette the parser tends to report background instead of hair: use the class found further inside
    inner = outline.head & (inside > 0.03 * width)
    hair = extrapolated(outline.hair[..., None], inner.astype(np.float32))[..., 0]
    front = _cleaned(image, clean, hair, width)
    hairy, strand = visible_hair(outline, clean, width)
    locks = strand & (outline.hat < 0.3) & (inside > config.hair_rim * width)
    if hairy:
        strand = own_hair(image, strand, outline, width)
    near, weight = blur_within(image, strand, sigma)
    typical = typical_hair(image, strand, inside, width)
    usual, around = blur_within(image, typical, 5 * sigma)
    usual = extrapolated(usual, ramp(around[..., 0], 0.0, 0.02))
    own = near + config.usual_hair * (usual - near)  # a dark lock beside the face would be stretched visibly
    tone = extrapolated(own, (weight[..., 0] > 0.05).astype(np.float32))
    back_hair = _behind(image, typical, outline, width, config)
    seam = ramp(inside, 0.0, 0.2 * width)[..., None]  # at the rim the back continues the colours of the front
    covered = hairy * ramp(blur(hair, sigma), 0.3, 0.7)[..., None]
    ending = blur(front, 0.6 * sigma)
    ending = ending + covered * (tone - ending)
    bare = _bald(hair, outline, width)[..., None] if hairy else np.float32(1)
    back_tone = back_hair + (1 - seam) * np.maximum(covered, bare) * (ending - back_hair)
    under, below = _under_a_hat(image, outline, strand & ~outline.face, width)
    tone, back_hair, back_tone = (
        (a * (1 - below) + under * below).astype(np.float32) for a in (tone, back_hair, back_tone)
    )
    return Textures(
        front=np.clip(front, 0, 255),
        kept=blur(clean.astype(np.float32), 1.0),
        tone=tone,
        back_hair=back_hair,
        back_tone=back_tone,
        strands=config.strands * strands_of(image - near, locks, width) if hairy else np.zeros_like(front),
        hair=hairy * (ramp(hair, 0.3, 0.7) * (1 - blur(dilated(outline.face, 0.01 * width).astype(np.float32), 2))),
        near_hair=hairy * _near_hair(strand, lobes, outline, width),
        strand=eroded(strand, 0.01 * width),
        hairy=hairy,
    )


def _clean(outline: Outline, seen: np.ndarray, width: float, config: MeshConfig) -> np.ndarray:
    """(h, w) bool, the head without its rim, whose pixels mix with the background."""
    inside = outline.to_background
    rim = config.skin_rim + (config.hair_rim - config.skin_rim) * ramp(outline.hair, 0.2, 0.6)
    depth = np.maximum(blur(rim * width, 0.02 * width), 1.5)
    room = 0.4 * (cv2.distanceTransform((~outline.face).astype(np.uint8), cv2.DIST_L2, 5) + np.maximum(inside, 0))
    clear = outline.clear | eroded(outline.face, 0.04 * width) | (inside > 0.1 * width)
    return outline.head & seen & clear & (inside > np.minimum(depth, np.maximum(room, 1.5)))


def _behind(image: np.ndarray, typical: np.ndarray, outline: Outline, width: float, config: MeshConfig) -> np.ndarray:
    """(h, w, 3) colours of the back of the head: shaded hair, and skin of the neck below the ears."""
    far = extrapolated(image, typical.astype(np.float32))
    middle = np.median(image[typical], axis=0)
    tone = np.clip(blur(far, LOCK * width), 0, 255) * 0.75 + 0.25 * middle.astype(np.float32)
    return _nape(tone * config.back_shade, image, outline, width)


def _bald(hair: np.ndarray, outline: Outline, width: float) -> np.ndarray:
    """(h, w) weight with which skin above the ears continues on the back: 0 under a full crown, at bare temples."""
    rows = np.arange(len(hair))[:, None]
    upper = ramp(rows, outline.lobe - 0.3 * width, outline.lobe - 0.5 * width)
    crown = outline.head & (outline.to_background < 0.06 * width) & (upper > 0.5)
    full = ramp(hair[crown].mean(), *FULL) if crown.any() else 0.0
    return (1 - full) * upper


def _cleaned(image: np.ndarray, clean: np.ndarray, hair: np.ndarray, width: float) -> np.ndarray:
    """The image with its rim filled from inside, hair and other pixels separately so that their colours do not mix."""
    kinds = [clean & (hair > 0.6), clean & (hair < 0.4)]
    if min(kind.sum() for kind in kinds) < 0.01 * width**2:
        return filled(image, clean, 0.025 * width, 8.0)
    as_hair, as_skin = (filled(image, kind, 0.025 * width, 8.0) for kind in kinds)
    return np.where(clean[..., None], image, as_skin + ramp(hair, 0.3, 0.7)[..., None] * (as_hair - as_skin)).astype(
        np.float32
    )


def _near_hair(strand: np.ndarray, lobes: np.ndarray, outline: Outline, width: float) -> np.ndarray:
    """Skin next to hair: at the side of the face, ear lobes under hair, and the neck between jaw and hair."""
    rows = np.arange(len(strand))[:, None]
    side = dilated(strand & (rows > outline.lobe - 0.6 * width), 0.05 * width) & outline.face
    neck = dilated(strand, 0.15 * width) & ~outline.face & (rows > outline.lobe)
    return blur((side | neck | lobes).astype(np.float32), 2)


def _nape(tone: np.ndarray, image: np.ndarray, outline: Outline, width: float) -> np.ndarray:
    """Set the back of the head below the ears to the shaded skin colour of the neck, except where hair hangs."""
    rows = np.arange(len(tone))[:, None]
    cheeks = cheeks_of(outline, width)
    if not cheeks.any():
        return tone
    bare = 1 - ramp(_hair_at_rim(outline, width), 0.15, 0.45)
    weight = (ramp(rows, outline.lobe - 0.12 * width, outline.lobe + 0.02 * width) * bare)[..., None]
    return (tone * (1 - weight) + SHADE * np.median(image[cheeks], axis=0) * weight).astype(np.float32)


def _under_a_hat(image: np.ndarray, outline: Outline, hair: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Colour of the head below a hat's brim: the visible hair, or shaded skin down from the ears if no hair is visible.

    Returns:
        (3,) the colour, and (h, 1, 1) its weight per row: 0 everywhere without a hat.
    """
    hat, none = outline.head & (outline.hat > 0.5), (np.zeros(3), np.zeros((len(image), 1, 1), np.float32))
    if hat.sum() < HAT * width**2:
        return none
    rows = np.arange(len(hat))[:, None]
    lowest = len(hat) - 1 - hat[::-1].argmax(0)
    brim = float(np.percentile(lowest[hat.any(0)], 75))
    own = hair & (outline.hat < 0.2) & (rows > brim)
    shown, shade = own, 1.0
    if own.sum() <= 0.004 * width**2:
        shown, shade, brim = cheeks_of(outline, width), SHADE, max(brim, outline.lobe - EAR * width)
    if not shown.any():
        return none
    below = ramp(rows, brim + 0.05 * width, brim + 0.11 * width)[..., None]  # the brim is lower at the back
    return shade * np.median(image[shown], axis=0), below


def _hair_at_rim(outline: Outline, width: float) -> np.ndarray:
    """(h, w) share of hair at the two ends of each row, weighted towards the nearer end."""
    head, band = outline.head, max(2, round(0.08 * width))
    count = head.shape[1]
    known = np.asarray(head.any(1), np.float32)
    first, last = head.argmax(1), count - 1 - head[:, ::-1].argmax(1)
    columns = np.arange(count)[None]
    ends = []
    for near in (columns - first[:, None], last[:, None] - columns):
        rim = head & (near < band)
        share = (outline.hair * rim).sum(1) / np.maximum(rim.sum(1), 1)
        column = np.repeat(share[:, None, None], 3, axis=1).astype(np.float32)
        ends.append(blur(extrapolated(column, np.repeat(known[:, None], 3, axis=1))[:, :1, 0], 0.02 * width))
    right = np.clip((columns - first[:, None]) / np.maximum(last - first, 1)[:, None], 0, 1)
    return (ends[0].reshape(-1, 1) * (1 - right) + ends[1].reshape(-1, 1) * right).astype(np.float32)
