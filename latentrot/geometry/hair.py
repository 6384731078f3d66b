"""Hair: which pixels show it, and synthesized detail for the rest."""

from __future__ import annotations

import cv2
import numpy as np

from latentrot.geometry.fields import blur_within, dilated, eroded
from latentrot.geometry.outline import Outline, cheeks_of

__all__ = ["LOCK", "own_hair", "strands_of", "typical_hair", "visible_hair"]

#: scale of a lock of hair as a share of W: finer structure is detail, coarser structure is tone
LOCK = 0.03
#: max amplitude of the detail, in grey values of 255
MAX_DETAIL = 40.0
#: colours closer than this, in grey values, cannot be separated
MIN_COLOUR_DISTANCE = 60.0
#: a hair pixel is rejected only if it is this much nearer to another class's colour: highlights and shades are nearer, too
NEARER_RATIO = 0.3


def visible_hair(outline: Outline, clean: np.ndarray, width: float) -> tuple[bool, np.ndarray]:
    """Whether a head has hair, and (h, w) bool, the visible cover of the head above and behind: hair, else the scalp."""
    inside, rows = outline.to_background, np.arange(len(clean))[:, None]
    strand = clean & (outline.hair > 0.6) & ~dilated(outline.face, 0.02 * width)
    hairy = bool((strand & (inside > 0.04 * width)).sum() >= 0.03 * width**2)  # a thin seam is a parsing error
    if not hairy:
        strand = clean & ~outline.face & (rows < outline.lobe - 0.3 * width) & (inside > 0.07 * width)
    if strand.sum() < 0.005 * width**2:
        strand = clean & eroded(outline.face, 0.02 * width) & (rows < outline.lobe - 0.5 * width)
    if not strand.any():
        strand = clean if clean.any() else outline.head
    return hairy, strand


def own_hair(image: np.ndarray, hair: np.ndarray, outline: Outline, width: float) -> np.ndarray:
    """The hair mask without pixels that have the colour of the background or the skin."""
    own = np.median(image[typical_hair(image, hair, outline.to_background, width)], axis=0)
    behind = blur_within(image, ~dilated(outline.person, 0.03 * width), 0.1 * width)
    cheeks = cheeks_of(outline, width)
    skin = np.median(image[cheeks], axis=0) if cheeks.any() else own
    others = [np.where(behind[1] > 0.01, behind[0], own), skin]
    off = np.linalg.norm(image - own, axis=-1)
    kept = hair.copy()
    for other in others:
        apart = np.linalg.norm(other - own, axis=-1)
        kept &= (NEARER_RATIO * off < np.linalg.norm(image - other, axis=-1)) | (apart < MIN_COLOUR_DISTANCE)
    return kept if kept.sum() > 0.3 * hair.sum() else hair


def typical_hair(image: np.ndarray, strand: np.ndarray, inside: np.ndarray, width: float) -> np.ndarray:
    """Hair well inside the mask, where parsing is more reliable, without its brightest and darkest parts."""
    deep = strand & (inside > 0.07 * width)
    deep = deep if deep.sum() > 0.01 * width**2 else strand
    return deep & _typical(image, deep)


def _typical(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Pixels within the brightness range of the mask's middle half, widened: neither highlights nor background."""
    light = image.mean(-1)
    low, middle, high = np.percentile(light[mask], (25, 50, 75))
    return (light > middle - 1.5 * (middle - low) - 4) & (light < middle + 1.5 * (high - middle) + 4)


def strands_of(detail: np.ndarray, hair: np.ndarray, width: float) -> np.ndarray:
    """Synthesize hair detail everywhere, (h, w, 3), from the largest piece of `detail` (h, w, 3) in `hair` (h, w)."""
    left, top, right, bottom = _largest_box(hair, 0.03 * width)
    piece = np.clip(detail[top:bottom, left:right], -MAX_DETAIL, MAX_DETAIL)
    piece = piece - piece.mean(0) - piece.mean(1, keepdims=True) + piece.mean((0, 1))  # remove stripes
    return _quilted(piece, hair.shape, width)


def _largest_box(mask: np.ndarray, grain: float) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a large upright rectangle in a mask that is not narrow; one grain wide if there is none."""
    shrink = max(1, round(grain))
    small = mask[::shrink, ::shrink].astype(np.uint8)
    best, found = 0, (0, 0, 1, 1)
    for height in range(1, min(small.shape[0], 24) + 1):
        # runs of columns whose pixels are all in the mask, `height` rows deep
        whole = cv2.erode(small, np.ones((height, 1), np.uint8), anchor=(0, 0), borderValue=0)
        run = np.zeros(small.shape[0], int)
        for column in range(small.shape[1]):
            run = np.where(whole[:, column] > 0, run + 1, 0)
            row = int(run.argmax())
            size = run[row] * height * min(run[row], height)  # favours square pieces: narrow ones show as stripes
            if size > best:
                best, found = int(size), (column - int(run[row]) + 1, row, column + 1, row + height)
    left, top, right, bottom = (v * shrink for v in found)
    return left, top, right, bottom


def _quilted(detail: np.ndarray, shape: tuple[int, int], width: float) -> np.ndarray:
    """Detail everywhere like that of a sample: random patches of it overlap so that no repetition is visible.

    Source: Efros and Freeman, "Image Quilting for Texture Synthesis and Transfer", SIGGRAPH 2001; with soft edges instead of
    cuts, which is enough for zero-mean detail.

    Args:
        detail: (k, l, 3), zero-mean.
        shape: (h, w).
        width: W in pixels; beyond it in each direction the result is mirrored.

    Returns:
        (h, w, 3) float32, of the same variance.
    """
    rng = np.random.default_rng(0)
    high, wide = (round(min(0.7 * n, 0.25 * width)) for n in detail.shape[:2])
    if min(high, wide) < 0.04 * width:  # too little visible hair for a sample
        return np.zeros((*shape, 3), np.float32)
    window = np.outer(*(np.sin(np.pi * (np.arange(n) + 0.5) / n) for n in (high, wide)))[..., None]
    side = round(width)
    total, squares = np.zeros((side + 2 * high, side + 2 * wide, 3)), np.zeros((side + 2 * high, side + 2 * wide, 1))
    for row in range(0, side + high, max(1, high // 2)):
        for column in range(0, side + wide, max(1, wide // 2)):
            top, left = rng.integers(detail.shape[0] - high + 1), rng.integers(detail.shape[1] - wide + 1)
            part = detail[top : top + high, left : left + wide]
            total[row : row + high, column : column + wide] += window * part
            squares[row : row + high, column : column + wide] += window**2
    laid = (total / np.sqrt(np.maximum(squares, 1e-6)))[high:-high, wide:-wide]
    beyond = [(0, max(0, n - side)) for n in shape]
    return np.pad(laid, [*beyond, (0, 0)], "symmetric")[: shape[0], : shape[1]].astype(np.float32)
