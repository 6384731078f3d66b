"""Composite a rotated face into its photograph: geometry warps what the photograph shows, a drawn face fills what it hid.

A model draws a rotated face coarsely and not quite as the person is; the photograph's own pixels, warped on the surface of
the head, are sharp and right wherever they were seen. So the drawn face is used only where the rotated head shows what the
source did not, and only for the coarse part of the image; its colours are fitted to what surrounds it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from latentrot.data.frame import CROP_BOX
from latentrot.errors import LatentrotError
from latentrot.faces.alignment import Alignment
from latentrot.faces.upright import face_width
from latentrot.geometry import Head, TurnedHead
from latentrot.geometry.fields import blur
from latentrot.portrait.portrait import TRUST, EditConfig
from latentrot.portrait.turns import Turn

__all__ = ["Patch", "changed_patch", "compose", "fill_hidden", "replace_face"]

#: the drawn face's colours are fitted over this distance, and by this much at most
FIT_REACH, FIT_LIMIT = 0.15, 0.4
#: width of the fade at the drawn face's rim, face widths
RIM = 0.08


@dataclass(frozen=True, eq=False)
class Patch:
    """The part of a photograph that an edit changed.

    Args:
        box: left, top, right, bottom in pixels of the photograph.
        pixels: (h, w, 3) uint8.
        coverage: share of the face's pixels that the photograph itself shows; the others are drawn or extrapolated. NaN
            where it is not known.
        alignment: where a crop in the CelebA frame lies on the turned head.
    """

    box: tuple[int, int, int, int]
    pixels: np.ndarray
    coverage: float
    alignment: Alignment

    def paste(self, photograph: np.ndarray) -> None:
        """Change a photograph in place."""
        left, top, right, bottom = self.box
        photograph[top:bottom, left:right] = self.pixels


def compose(head: Head, turn: Turn, drawn: np.ndarray | None, config: EditConfig) -> Patch:
    """One rotation of one head in its photograph.

    Args:
        head: set up from the photograph.
        turn: by so many degrees.
        drawn: (s, s, 3) uint8, the rotated face in the CelebA frame as a model drew it; None: geometry alone.
        config: how.
    """
    turned = head.turn(turn.yaw, turn.pitch, turn.roll, light_follows=config.light_follows)
    if config.reify and drawn is not None:
        return replace_face(head, turned, drawn)
    return fill_hidden(head, turned, drawn, config.trust)


def changed_patch(before: np.ndarray, after: np.ndarray, alignment: Alignment) -> Patch:
    """What a rotator that edits whole photographs changed.

    Args:
        before: (h, w, 3) uint8.
        after: the same photograph edited.
        alignment: where the face lies.

    Raises:
        LatentrotError: a photograph of another size or type.
    """
    if after.shape != before.shape or after.dtype != before.dtype:
        raise LatentrotError(
            f"the rotator returned a photograph of {after.shape} {after.dtype}; expected {before.shape} {before.dtype}"
        )
    changed = (after != before).any(2)
    if not changed.any():
        return Patch((0, 0, 0, 0), after[:0, :0], 1.0, alignment)
    rows, columns = (np.flatnonzero(changed.any(axis)) for axis in (1, 0))
    left, top, right, bottom = box = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    return Patch(box, after[top:bottom, left:right].copy(), float("nan"), alignment)


def fill_hidden(head: Head, turned: TurnedHead, drawn: np.ndarray | None, trust: float = TRUST) -> Patch:
    """The turned head with what the source hid filled from a drawn face.

    Args:
        head: set up from the photograph.
        turned: from `turn_head`.
        drawn: (s, s, 3) uint8, the turned face in the CelebA frame as a model drew it; None: geometry alone.
        trust: how far the drawn face replaces what the geometry continued, 0 to 1.
    """
    left, top, right, bottom = box = head.region.box()
    window = np.s_[top:bottom, left:right]
    pixels, coverage = turned.image[window], turned.coverage[window]
    face = face_mask(turned.landmarks - [left, top], pixels.shape[:2]) * turned.head[window]
    shown = float((coverage * face).sum() / max(face.sum(), 1e-6))
    hidden = trust * face * (1 - coverage)
    alignment = turned.alignment
    if drawn is None or not (hidden > 0.02).any():
        return Patch(box, pixels, shown, alignment)
    placed = warp_crop_to_image(alignment, drawn, box)
    grain = max(0.6, 0.5 * alignment.crop_side / len(drawn))
    base = blur(pixels.astype(np.float32), grain)
    fitted = fit_colours(placed, base, coverage * face, FIT_REACH * face_width(turned.landmarks))
    weight = blur(hidden, grain)[..., None]
    result = pixels + weight * (fitted - base)
    return Patch(box, np.rint(np.clip(result, 0, 255)).astype(np.uint8), shown, alignment)


def replace_face(head: Head, turned: TurnedHead, drawn: np.ndarray) -> Patch:
    """The turned head with its whole face replaced by a drawn one, for a face redrawn before it was turned."""
    left, top, right, bottom = box = head.region.box()
    pixels = turned.image[top:bottom, left:right]
    face = face_mask(turned.landmarks - [left, top], pixels.shape[:2])[..., None]
    alignment = turned.alignment
    result = pixels * (1 - face) + warp_crop_to_image(alignment, drawn, box) * face
    return Patch(box, np.rint(np.clip(result, 0, 255)).astype(np.uint8), 0.0, alignment)


def face_mask(landmarks: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """How far each pixel belongs to the face: the landmarks' hull, raised to the middle of the forehead: (h, w) float32."""
    width = face_width(landmarks)
    down = landmarks[48:68].mean(0) - landmarks[36:48].mean(0)
    up = -down / max(np.linalg.norm(down), 1e-6)
    outline = np.concatenate([landmarks, landmarks[17:27] + 0.28 * width * up])
    hull = cv2.convexHull(np.round((outline - 0.5) * 16).astype(np.int32))
    mask = np.zeros(shape, np.uint8)
    cv2.fillConvexPoly(mask, hull, 255, shift=4)
    inside = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    return np.clip(inside / max(RIM * width, 1.0), 0, 1).astype(np.float32)


def warp_crop_to_image(alignment: Alignment, crop: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """A crop in the CelebA frame on the photograph's pixels in a box, edges repeated: (h, w, 3) float32."""
    left, top, right, bottom = box
    scale = len(crop) / (CROP_BOX[2] - CROP_BOX[0])
    to_crop = scale * (alignment.matrix - np.array([[0, 0, CROP_BOX[0]], [0, 0, CROP_BOX[1]]]))
    to_crop[:, 2] += to_crop[:, :2] @ np.array([left + 0.5, top + 0.5]) - 0.5
    size = (right - left, bottom - top)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(crop.astype(np.float32), to_crop, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)


def fit_colours(drawn: np.ndarray, wanted: np.ndarray, known: np.ndarray, reach: float) -> np.ndarray:
    """Give a drawn face the colours that its surroundings have.

    Args:
        drawn: (h, w, 3) float32, 0 to 255.
        wanted: the same, right where `known`.
        known: (h, w) float32 weights.
        reach: over how many pixels colours are compared.

    Returns:
        (h, w, 3) float32, `drawn` times a gain that changes slowly: near known pixels theirs, far from them the mean one.
    """
    k = known[..., None]
    near = [blur(v * k, reach) for v in (wanted, drawn)]
    overall = [float((v * k).sum()) / max(float(known.sum()), 1e-6) / 3 for v in (wanted, drawn)]
    weight = 0.02
    gain = (near[0] + weight * overall[0] + 1e-3) / (near[1] + weight * overall[1] + 1e-3)
    return drawn * np.clip(gain, 1 - FIT_LIMIT, 1 / (1 - FIT_LIMIT))
