"""Textures of the head's two sheets: the photograph with cleaned rims, and hair that is laid on by arc length."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from latentrot.rotate.mesh.config import MeshConfig
from latentrot.rotate.mesh.fields import blur, dilated, eroded, extrapolated, filled, ramp
from latentrot.rotate.mesh.outline import Outline

__all__ = ["Textures", "make_textures"]


#: brightness of the neck under the ears against the cheeks
SHADE = 0.75


@dataclass(frozen=True, eq=False)
class Textures:
    """Textures on the region's grid.

    Args:
        front: (h, w, 3) float32, the photograph, its rim replaced from inside.
        kept: (h, w) float32, 1 where `front` is the photograph.
        tone: (h, w, 3) float32, blurred colours of the hair in front.
        back_tone: (h, w, 3) float32, blurred colours of the back of the head.
        strands: (h, w, 3) float32, the hair's detail, zero in the mean, everywhere.
        hair: (h, w) float32, how far a pixel may be redrawn as hair.
        near_hair: (h, w) float32, the same for skin that hair touches, where the surface jumps from one to the other.
        arc: (h, w, 2) float32, where to look detail up on the front sheet, by arc length from inside.
        back_arc: (h, w, 2) the same on the back sheet.
    """

    front: np.ndarray
    kept: np.ndarray
    tone: np.ndarray
    back_tone: np.ndarray
    strands: np.ndarray
    hair: np.ndarray
    near_hair: np.ndarray
    arc: np.ndarray
    back_arc: np.ndarray


def make_textures(
    image: np.ndarray,
    outline: Outline,
    front_u: np.ndarray,
    back_u: np.ndarray,
    seen: np.ndarray,
    width: float,
    config: MeshConfig,
) -> Textures:
    """Textures from the region's picture, its masks and its depths (u of both sheets)."""
    inside = outline.to_background
    rim = config.skin_rim + (config.hair_rim - config.skin_rim) * ramp(outline.hair, 0.2, 0.6)
    depth = np.maximum(blur(rim * width, 0.02 * width), 1.5)
    room = 0.4 * (cv2.distanceTransform((~outline.face).astype(np.uint8), cv2.DIST_L2, 5) + np.maximum(inside, 0))
    clear = outline.clear | eroded(outline.face, 0.04 * width)
    clean = outline.head & seen & clear & (inside > np.minimum(depth, np.maximum(room, 1.5)))
    front = _cleaned(image, clean, outline, width)
    strand = clean & (outline.hair > 0.6) & ~dilated(outline.face, 0.02 * width)
    rows = np.arange(len(strand))[:, None]
    hairy = (strand & (inside > 0.07 * width)).sum() >= 0.02 * width**2  # a thin seam is a mask that errs
    if not hairy:  # next to no hair: the scalp's skin
        strand = clean & ~outline.face & (rows < outline.lobe - 0.3 * width) & (inside > 0.07 * width)
    if strand.sum() < 0.005 * width**2:
        strand = clean & eroded(outline.face, 0.02 * width) & (rows < outline.lobe - 0.5 * width)
    if not strand.any():
        strand = clean if clean.any() else outline.head
    sigma = 0.03 * width
    deep = strand & (inside > 0.07 * width)  # masks err at their edge
    deep = deep if deep.sum() > 0.01 * width**2 else strand
    typical = deep & _typical(image, deep)
    far = extrapolated(image, typical.astype(np.float32))
    middle = np.median(image[typical], axis=0)
    back_tone = np.clip(blur(far, sigma), 0, 255) * 0.75 + 0.25 * middle.astype(np.float32)
    back_tone = _nape(back_tone * config.back_shade, image, outline, width)
    seam = ramp(inside, 0.0, 0.2 * width)[..., None]  # at the rim the back goes on as the front ends
    covered = ramp(blur(outline.hair, sigma), 0.3, 0.7)[..., None] if hairy else np.float32(1)
    back_tone = back_tone + (1 - seam) * covered * (blur(front, 0.6 * sigma) - back_tone)
    weight = blur(strand.astype(np.float32), sigma)[..., None]
    own = blur(image * strand[..., None], sigma) / np.maximum(weight, 1e-3)
    around = blur(typical.astype(np.float32), 5 * sigma)[..., None]
    usual = blur(image * typical[..., None], 5 * sigma) / np.maximum(around, 1e-3)
    own = own + config.usual_hair * (around > 0.01) * (usual - own)  # a dark lock beside the face would be drawn wide
    single = 0.4 * sigma  # wide locks would show that they repeat
    near = (
        blur(image * strand[..., None], single) / np.maximum(blur(strand.astype(np.float32), single), 1e-3)[..., None]
    )
    strands = filled(np.where(strand[..., None], image - near, 0), strand, 0.02 * width, 25.0)
    away = cv2.distanceTransform(strand.astype(np.uint8), cv2.DIST_L2, 5)
    thick = np.maximum(inside, 0) + away
    thick = extrapolated(thick[..., None].astype(np.float32), (strand & (inside < 0.1 * width)).astype(np.float32))[
        ..., 0
    ]
    least = config.hair_rim * width
    arc, back_arc = _arcs(inside, front_u, back_u, config.steep, least, np.maximum(blur(thick, sigma), 2 * least))
    return Textures(
        front=np.clip(front, 0, 255),
        kept=blur(clean.astype(np.float32), 1.0),
        tone=np.where(weight > 0.05, own, back_tone).astype(np.float32),
        back_tone=back_tone,
        strands=strands * np.float32(hairy),
        hair=hairy
        * (ramp(outline.hair, 0.3, 0.7) * (1 - blur(dilated(outline.face, 0.01 * width).astype(np.float32), 2))),
        near_hair=hairy * _near_hair(strand, outline, width),
        arc=arc,
        back_arc=back_arc,
    )


def _cleaned(image: np.ndarray, clean: np.ndarray, outline: Outline, width: float) -> np.ndarray:
    """The picture with its rim filled from inside: hair from hair, all else from all else, or each would colour the other."""
    inner = outline.head & (outline.to_background > 0.01 * width)
    share = extrapolated(outline.hair[..., None], inner.astype(np.float32))
    kinds = [clean & (outline.hair > 0.6), clean & (outline.hair < 0.4)]
    if min(kind.sum() for kind in kinds) < 0.01 * width**2:
        return filled(image, clean, 0.025 * width, 8.0)
    hair, skin = (filled(image, kind, 0.025 * width, 8.0) for kind in kinds)
    return np.where(clean[..., None], image, skin + ramp(share, 0.3, 0.7) * (hair - skin)).astype(np.float32)


def _near_hair(strand: np.ndarray, outline: Outline, width: float) -> np.ndarray:
    """Skin that hair touches: at the face's side, and the neck between jaw and hair."""
    rows = np.arange(len(strand))[:, None]
    side = dilated(strand & (rows > outline.lobe - 0.6 * width), 0.05 * width) & outline.face
    neck = dilated(strand, 0.15 * width) & ~outline.face & (rows > outline.lobe)
    return blur((side | neck).astype(np.float32), 2)


def _nape(tone: np.ndarray, image: np.ndarray, outline: Outline, width: float) -> np.ndarray:
    """Behind the ears, where no hair hangs, the head's back is the neck's skin, in the shade."""
    rows = np.arange(len(tone))[:, None]
    cheeks = outline.face & (rows > outline.lobe - 0.25 * width) & (outline.to_rest > 0.08 * width)
    if not cheeks.any():
        return tone
    bare = 1 - ramp(_hair_at_rim(outline, width), 0.15, 0.45)
    weight = (ramp(rows, outline.lobe - 0.12 * width, outline.lobe + 0.02 * width) * bare)[..., None]
    return (tone * (1 - weight) + SHADE * np.median(image[cheeks], axis=0) * weight).astype(np.float32)


def _hair_at_rim(outline: Outline, width: float) -> np.ndarray:
    """(h, w) how much hair the head has at both ends of a row, the nearer end counting more."""
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


def _typical(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Pixels neither much brighter nor much darker than a mask's middle half: no highlight, no background seen through."""
    light = image.mean(-1)
    low, middle, high = np.percentile(light[mask], (25, 50, 75))
    return (light > middle - 1.5 * (middle - low) - 4) & (light < middle + 1.5 * (high - middle) + 4)


def _arcs(
    inside: np.ndarray, front_u: np.ndarray, back_u: np.ndarray, steep: float, least: float, thick: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where a point near the silhouette looks its detail up, on the front sheet and on the back sheet.

    As far inwards from where the surface grows steep as it lies outwards of there on the surface; where that would leave
    the hair, back again. The profile is taken for a parabola, z^2 = g x, over the distance x to the silhouette; hair is
    good from `least` to `thick` (pixels from the silhouette).
    """
    x = np.maximum(inside, 0.25).astype(np.float64)
    smooth = blur(inside, 3.0)
    normal = np.stack([cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=3), cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=3)], -1)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-3)
    g, h = (np.clip(blur(u, 2.0) / x, 1.0, None) for u in (front_u, back_u))
    start = g / (4 * steep**2)
    rows, columns = np.mgrid[: inside.shape[0], : inside.shape[1]].astype(np.float64)
    place = np.stack([columns + 0.5, rows + 0.5], -1)

    def looked_up(arc: np.ndarray) -> np.ndarray:
        span = thick - least
        wave = np.abs((arc - least + span) % (2 * span) - span) + least  # to and fro between the two
        return (place + normal * (wave - inside)[..., None]).astype(np.float32)

    front = np.where(x < start, start + _parabola(start, g) - _parabola(x, g), x)
    return looked_up(front), looked_up(start + _parabola(start, g) + _parabola(x, h))


def _parabola(x: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Arc length of z^2 = g x from its vertex to x."""
    return np.sqrt(x * (x + g / 4)) + g / 4 * np.arcsinh(np.sqrt(4 * x / g))
