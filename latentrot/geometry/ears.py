"""Ears: frontal photographs show only their edges; a rotated head shows a mean ear in their place, with their colours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from latentrot.faces.parts import ACCESSORIES, BACKGROUND, EARS, HAIR, SKIN
from latentrot.geometry.draw import draw
from latentrot.geometry.ear import load_ear
from latentrot.geometry.fields import blur, blur_within, dilated, eroded, extrapolated, ramp
from latentrot.geometry.outline import Outline

__all__ = ["Ear", "draw_ear", "find_ears", "lobes_under_hair"]

#: min visible area of an ear, as a share of W squared
SEEN = 0.008
#: above this share of hair or hat over the upper half of an ear, the ear counts as covered; below, as present but not visible
COVERED = 0.42
#: sines of the head's yaw: above the first the far ear is hidden; above the second the near ear is fully visible, kept
HIDDEN, SHOWN = 0.2, 0.5
#: bounds of the scale of the mean ear when it is fitted to the photograph's
HEIGHTS, WIDTHS = (0.85, 1.1), (0.7, 1.3)
#: top and bottom of the mean ear, and its outward extent seen from the front, in its own units
TOP, BOTTOM, OUT = 0.0, 0.38, 0.12
#: distance beside the edge point of the face at which an ear begins, in W
BEGINS = 0.04
#: min and max distance of the lobe below that point, in W
LOBE = 0.3, 0.42
#: a head that extends less than this beside the edge points of the face is narrower than its landmarks, in W
FLAT = 0.06
#: min and max brightness of an ear relative to the cheek
LIGHT = 0.65, 1.15
#: depth of the drawn ear relative to the mean ear: the head it lies on is flatter, too
DEEP = 0.75
#: share of ambient light, which reaches the hollows
EVEN = 0.55
#: rotations in degrees between which the mean ear replaces the photograph's
FROM_DEG, WHOLE_DEG = 4.0, 12.0


@dataclass(frozen=True, eq=False)
class Ear:
    """The mean ear fitted to an ear of the photograph.

    Args:
        side: 1 on the viewer's right, -1 on the left.
        points: (v, 3) in the region, z over the rim.
        faces: (t, 3) clockwise in the image when seen from outside.
        shade: (v,) brightness.
        whole: (v,) 0 where the ear meets the head, 1 elsewhere.
        down: (v,) 0 at its top, 1 at its lobe.
        colours: (2, 3) of the photograph's ear at top and lobe.
        behind: (h, w) float32, the photograph's ear where hair is behind it.
        below: (h, w) float32, the photograph's ear where skin is behind it.
        ends: (h, w) float32, hairless part of the head under the ear, which a rotation would turn into a corner.
        edge: (h,) float32 column at which the head ends under the ear, per row.
        before: (h, w) float32, skin between the cheek and the ear, which a rotation towards it stretches.
        skin: (h, w, 3) float32, colours of the cheek, extrapolated.
    """

    side: int
    points: np.ndarray
    faces: np.ndarray
    shade: np.ndarray
    whole: np.ndarray
    down: np.ndarray
    colours: np.ndarray
    behind: np.ndarray
    below: np.ndarray
    ends: np.ndarray
    edge: np.ndarray
    before: np.ndarray
    skin: np.ndarray

    def weight(self, yaw_deg: float) -> float:
        """Weight of the ear after a rotation in degrees: 1 when the rotation shows its side of the head."""
        return float(ramp(np.array(-self.side * yaw_deg), FROM_DEG, WHOLE_DEG))


def find_ears(
    image: np.ndarray,
    outline: Outline,
    parts: np.ndarray,
    height: np.ndarray,
    landmarks: np.ndarray,
    axes: np.ndarray,
    width: float,
) -> tuple[Ear, ...]:
    """Fit the visible ears of a head; ears under hair and on the far side of a turned head are left out.

    Args:
        image: (h, w, 3) the region's image.
        outline: its masks.
        parts: (7, h, w) probabilities.
        height: (h, w) of the front surface over the rim.
        landmarks: (68, 3) on the face in the region, z over the rim.
        axes: (3, 3) rotation from the head's axes to the region's.
        width: W in pixels.
    """
    bare = outline.head & ~dilated(outline.face, 0.01 * width) & (parts[BACKGROUND] < 0.5)
    bare &= parts[SKIN] + parts[EARS] > parts[HAIR] + parts[ACCESSORIES]
    no_hair = 1 - blur(parts[HAIR], 0.01 * width)
    found = []
    for side, mark, out, down in _sides(landmarks, outline.head.shape, width):
        near = (np.abs(out) < 0.02) & (down > 0) & (down < 0.25)
        cheek = eroded(outline.face & (out > -0.3) & (out < -0.05) & (down > 0) & (down < 0.4), 0.02 * width)
        covered = _is_covered(outline, parts, out, down)
        if not -SHOWN < side * axes[0, 2] < HIDDEN or covered or not near.any() or not cheek.any():
            continue
        root = np.array([mark[0], mark[1], max(mark[2], np.percentile(height[near], 75))])
        reach = float(np.where(outline.head & (down > 0) & (down < 0.25), out, -1).max())
        root[0] += side * width * min(0.0, reach - FLAT)
        here = bare & (out > -0.04) & (down > -0.15) & (down < 0.55)
        found.append(_laid(image, outline, here, cheek, no_hair, side, root, axes, width))
    return tuple(found)


def lobes_under_hair(outline: Outline, parts: np.ndarray, landmarks: np.ndarray, width: float) -> np.ndarray:
    """(h, w) bool, visible parts of ears that hair covers (lobes, rings): a rotation would stretch them to a whole ear.

    Args:
        outline: masks.
        parts: (7, h, w) probabilities.
        landmarks: (68, 2 or more) in the region.
        width: W in pixels.
    """
    lobes = np.zeros_like(outline.head)
    for _, _, out, down in _sides(landmarks, outline.head.shape, width):
        if _is_covered(outline, parts, out, down):
            lobes |= outline.head & ~outline.face & (out > -0.1) & (out < 0.25) & (down > 0.05) & (down < 0.6)
    return lobes & (parts[HAIR] < 0.5)


def _sides(
    landmarks: np.ndarray, shape: tuple[int, ...], width: float
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """For each side: -1 or 1, the edge point of the face, and the (h, w) distances outwards of it and below it, in W."""
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32) + 0.5
    for side, mark in ((-1, landmarks[0]), (1, landmarks[16])):
        yield side, mark, side * (columns - mark[0]) / width, (rows - mark[1]) / width


def _is_covered(outline: Outline, parts: np.ndarray, out: np.ndarray, down: np.ndarray) -> bool:
    """Whether hair or a hat covers the upper half of an ear; `out` and `down` are (h, w) distances from `_sides`."""
    beside = outline.head & (out > 0) & (out < 0.2) & (down > 0.05) & (down < 0.25)
    return bool(beside.any()) and float((parts[HAIR] + parts[ACCESSORIES])[beside].mean()) > COVERED


def _laid(
    image: np.ndarray, outline: Outline, here: np.ndarray, cheek: np.ndarray, bare: np.ndarray, side: int,
    root: np.ndarray, axes: np.ndarray, width: float,
) -> Ear:  # fmt: skip
    """Fit the mean ear to the ear pixels `here`, next to the skin `cheek`; `bare` is 1 where there is no hair."""
    model = load_ear()
    rows, columns = np.mgrid[: here.shape[0], : here.shape[1]].astype(np.float32) + 0.5
    out, down = side * (columns - root[0]) / width, (rows - root[1]) / width
    wide, tall, lower = WIDTHS[0], 1.0, 0.0
    skin = np.median(image[cheek], axis=0)
    colours = np.stack([skin, skin])
    if here.sum() > SEEN * width**2:
        reach = np.where(here, out, 0).max(1)
        seen = np.flatnonzero(reach > 0.5 * reach.max())
        top, bottom = down[seen[[0, -1]], 0]
        wide = np.clip(np.percentile(out[here], 95) / OUT, *WIDTHS)
        tall = np.clip((bottom - top) / (BOTTOM - TOP), *HEIGHTS)
        lower = np.clip((top + bottom) / 2 - tall * (TOP + BOTTOM) / 2, -0.04, 0.04)
        middle, own = np.median(down[here]), np.median(image[here], axis=0)
        halves = [np.median(image[here & half], axis=0) for half in (down <= middle, down >= middle)]
        colours = np.stack([np.clip(0.5 * (half + own), LIGHT[0] * skin, LIGHT[1] * skin) for half in halves])
    placed = (model.points * np.array([side * wide, tall, DEEP])) @ axes.T + np.array([0, lower, 0])
    outer = blur((dilated(here, 0.02 * width) & (out > BEGINS)).astype(np.float32), 0.012 * width)
    upper = ramp(down, 0.3, 0.15)
    below, beneath = outer * (1 - upper), ramp(down, *LOBE)
    under = outline.head & ~outline.face & (out > -0.3)
    count = under.shape[1]
    jaw = count - outline.face[:, ::-1].argmax(1) if side > 0 else outline.face.argmax(1)
    jaw = np.where(outline.face.any(1), jaw, root[0])
    before = ramp(out, -0.22, -0.1) * ramp(down, 0.0, 0.08) * ramp(down, 0.6, 0.5) * bare
    return Ear(
        side=side,
        points=(root + width * placed).astype(np.float32),
        faces=model.faces[:, ::side],
        shade=model.shade,
        whole=model.whole,
        down=np.clip((model.points[:, 1] - TOP) / (BOTTOM - TOP), 0, 1),
        colours=colours,
        behind=outer * upper,
        below=below,
        ends=np.maximum(below, blur(under.astype(np.float32), 0.012 * width) * beneath * bare),
        edge=(root[0] + side * BEGINS * width) * (1 - beneath[:, 0]) + jaw * beneath[:, 0],
        before=before * (1 - outer),
        skin=blur(extrapolated(image, cheek.astype(np.float32)), 0.02 * width),
    )


def draw_ear(ear: Ear, turn: np.ndarray, axis: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Render a rotated ear.

    Args:
        ear: from `find_ears`.
        turn: (3, 3) rotation.
        axis: (3,) the fixed point.
        size: width and height of the region.

    Returns:
        (h, w, 3) float32 colours, extrapolated slightly beyond the ear, and (h, w) float32 alpha.
    """
    points, kind = (ear.points - axis) @ turn.T + axis, np.ones(len(ear.faces))
    values, shown, _ = draw(points, ear.faces, np.column_stack([ear.shade, ear.down, ear.whole]), kind, size)
    shade, down, whole = np.split(values, 3, axis=-1)
    colours = (ear.colours[0] * (1 - down) + ear.colours[1] * down) * (EVEN + (1 - EVEN) * shade)
    known = shown > 0
    near, _ = blur_within(colours.astype(np.float32), known, 1.5)
    return blur(np.where(known[..., None], colours, near), 0.7), blur(known * whole[..., 0], 0.8)
