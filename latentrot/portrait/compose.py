"""Composite a rotated face into its photograph: warped source pixels if visible, the generated face in disoccluded regions.

A generated face has a low resolution and resembles the person less. The source pixels, warped with the surface of the head,
are sharp and keep the identity. The generated face therefore fills only regions that the source hides, and only their low
frequencies; its colours are matched to the surrounding pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from latentrot.data.frame import CROP_BOX
from latentrot.errors import LatentrotError
from latentrot.faces.alignment import Alignment
from latentrot.faces.upright import face_width
from latentrot.geometry import Head, TurnedHead, turn_head
from latentrot.geometry.fields import blur
from latentrot.portrait.portrait import TRUST, EditConfig
from latentrot.portrait.turns import Turn

__all__ = ["Patch", "changed_patch", "compose", "fill_hidden", "replace_face"]

#: colour matching of the generated face: blur radius in face widths, and max relative change of the gain
FIT_REACH, FIT_LIMIT = 0.15, 0.4
#: width of the fade at the edge of the generated face, face widths
RIM = 0.08


@dataclass(frozen=True, eq=False)
class Patch:
    """The part of a photograph that an edit changed.

    Args:
        box: left, top, right, bottom in pixels of the photograph.
        pixels: (h, w, 3) uint8.
        coverage: share of the face's pixels visible in the source, 0 to 1; the others are generated or extrapolated. NaN
            if unknown.
        alignment: similarity transform from the photograph to the CelebA frame of the rotated head.
    """

    box: tuple[int, int, int, int]
    pixels: np.ndarray
    coverage: float
    alignment: Alignment

    def paste(self, photograph: np.ndarray, before: np.ndarray | None = None) -> None:
        """Write the pixels into a (h, w, 3) uint8 photograph, in place.

        Args:
            photograph: in which other faces may have been edited already.
            before: (h, w, 3) uint8, the photograph that the edit changed: pixels equal to it are left out, so that the
                patches of close faces do not undo each other.
        """
        left, top, right, bottom = self.box
        window = np.s_[top:bottom, left:right]
        changed = np.s_[:] if before is None else (self.pixels != before[window]).any(2)
        photograph[window][changed] = self.pixels[changed]


def compose(head: Head, turn: Turn, drawn: np.ndarray | None, config: EditConfig, whole: bool | None = None) -> Patch:
    """Rotate a head and composite it into its photograph.

    Args:
        head: fitted to the photograph.
        turn: rotation relative to the source, degrees.
        drawn: (s, s, 3) uint8, the generated face in the CelebA frame; None: geometry alone.
        config: options of the edit.
        whole: render the whole head, in which nothing is left to fill; None: if the rotation needs it.
    """
    turned = turn_head(head, turn.yaw, turn.pitch, turn.roll, config.light_follows, whole)
    if config.reify and drawn is not None:
        return replace_face(head, turned, drawn)
    return fill_hidden(head, turned, None if turned.whole else drawn, config.trust)


def changed_patch(before: np.ndarray, after: np.ndarray, alignment: Alignment) -> Patch:
    """Find the bounding box of the pixels that an edit of a whole photograph changed.

    Args:
        before: (h, w, 3) uint8 source.
        after: (h, w, 3) uint8 result.
        alignment: similarity transform from the photograph to the CelebA frame.

    Raises:
        LatentrotError: the result has another size or type than the source.
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
    """Composite a rotated head, and fill the regions that the source hides from a generated face.

    Args:
        head: fitted to the photograph.
        turned: from `turn_head`.
        drawn: (s, s, 3) uint8, the generated face in the CelebA frame; None: geometry alone.
        trust: weight of the generated face against the pixels that geometry extrapolates, 0 to 1.
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
    """Replace the whole face of a rotated head by a generated one; used with `EditConfig.reify`."""
    left, top, right, bottom = box = head.region.box()
    pixels = turned.image[top:bottom, left:right]
    face = face_mask(turned.landmarks - [left, top], pixels.shape[:2])[..., None]
    alignment = turned.alignment
    result = pixels * (1 - face) + warp_crop_to_image(alignment, drawn, box) * face
    return Patch(box, np.rint(np.clip(result, 0, 255)).astype(np.uint8), 0.0, alignment)


def face_mask(landmarks: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Soft face mask, (h, w) float32, 0 to 1: the convex hull of the landmarks, extended to the middle of the forehead."""
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
    """Warp a crop in the CelebA frame to the pixels of a box of the photograph: (h, w, 3) float32, edges replicated."""
    left, top, right, bottom = box
    scale = len(crop) / (CROP_BOX[2] - CROP_BOX[0])
    to_crop = scale * (alignment.matrix - np.array([[0, 0, CROP_BOX[0]], [0, 0, CROP_BOX[1]]]))
    to_crop[:, 2] += to_crop[:, :2] @ np.array([left + 0.5, top + 0.5]) - 0.5
    size = (right - left, bottom - top)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(crop.astype(np.float32), to_crop, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)


def fit_colours(drawn: np.ndarray, wanted: np.ndarray, known: np.ndarray, reach: float) -> np.ndarray:
    """Match the colours of a generated face to the source with a smooth gain.

    Args:
        drawn: (h, w, 3) float32, 0 to 255.
        wanted: (h, w, 3) float32, target colours, valid where `known` is large.
        known: (h, w) float32 weights, 0 to 1.
        reach: blur radius in pixels over which colours are compared.

    Returns:
        (h, w, 3) float32, `drawn` times the gain. Near known pixels the gain is the local colour ratio, far from them the
        mean ratio.
    """
    k = known[..., None]
    near = [blur(v * k, reach) for v in (wanted, drawn)]
    overall = [float((v * k).sum()) / max(float(known.sum()), 1e-6) / 3 for v in (wanted, drawn)]
    weight = 0.02
    gain = (near[0] + weight * overall[0] + 1e-3) / (near[1] + weight * overall[1] + 1e-3)
    return drawn * np.clip(gain, 1 - FIT_LIMIT, 1 / (1 - FIT_LIMIT))
