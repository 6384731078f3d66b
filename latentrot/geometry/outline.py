"""Masks of the region: the person, the head that rotates, and the face."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from latentrot.errors import LatentrotError
from latentrot.faces.parts import ACCESSORIES, BACKGROUND, CLOTHES, EARS, HAIR, NECK, SKIN
from latentrot.geometry.config import MeshConfig
from latentrot.geometry.draw import NONE, draw
from latentrot.geometry.fields import (
    blur,
    curve_through,
    dilated,
    eroded,
    extrapolated,
    holes_filled,
    signed_distance,
)
from latentrot.geometry.region import Region

__all__ = ["Outline", "cheeks_of", "find_outline"]

#: width of the face's rim as a share of W, and background probability above which a pixel of the rim is not the face
RIM, BACKGROUND_MIN = 0.12, 0.8
#: by how much farther a head in profile extends behind the ears than a frontal one beside them, relative to the latter
BEHIND = 0.6


@dataclass(frozen=True, eq=False)
class Outline:
    """Masks of the region, (h, w) each.

    Args:
        person: bool, foreground connected to the face.
        head: bool, the part that rotates: face, ears, hair down to where it hangs freely, hats and glasses.
        face: bool, from jaw to forehead.
        hair: float32, share of hair or hat in the person's part of a pixel, 0 to 1.
        hat: float32, share of hat, 0 to 1.
        clear: bool, certainly not background.
        to_background: float32, distance to the person's silhouette in pixels, positive inside.
        to_rest: float32, distance to the head's edge in pixels, positive inside.
        lobe: row of the ear lobes.
        cut: row below which hair hangs freely.
        chin: row of the chin.
    """

    person: np.ndarray
    head: np.ndarray
    face: np.ndarray
    hair: np.ndarray
    hat: np.ndarray
    clear: np.ndarray
    to_background: np.ndarray
    to_rest: np.ndarray
    lobe: float
    cut: float
    chin: float


def find_outline(
    probabilities: np.ndarray,
    landmarks: np.ndarray,
    face: np.ndarray,
    lobe: float,
    yaw_deg: float,
    region: Region,
    config: MeshConfig,
) -> Outline:
    """Build the masks from the part probabilities and the outline of the face.

    Args:
        probabilities: (7, h, w) of the parts in the region.
        landmarks: (68, 2) region positions.
        face: (h, w) bool, from `face_area`.
        lobe: row of the ear lobes.
        yaw_deg: yaw of the head in the photograph.
        region: the region.
        config: parameters.

    Raises:
        LatentrotError: the landmarks enclose no face.
    """
    width = region.width
    rows, columns = np.mgrid[: face.shape[0], : face.shape[1]].astype(np.float32)
    aside = (columns - region.middle[0]) / width
    aside = np.abs(np.where(aside * yaw_deg < 0, aside / (1 + BEHIND * abs(np.sin(np.radians(yaw_deg)))), aside))
    cut, chin = lobe + config.hair_cut * width, float(landmarks[8, 1])
    background = blur(probabilities[BACKGROUND], 0.01 * width) > BACKGROUND_MIN  # landmarks may lie beyond the cheek
    core = eroded(face, RIM * width)
    if not core.any():
        raise LatentrotError("the landmarks enclose no face: it is seen from behind; choose another face or photograph")
    face = _connected_to(core, face & ~background | core, 0.0)
    person = blur(1 - probabilities[BACKGROUND], 0.004 * width) > 0.5
    person = _connected_to(face, person | face, 0.02 * width)
    body = probabilities[NECK] + probabilities[CLOTHES]
    on_head = probabilities[[SKIN, HAIR, EARS, ACCESSORIES]].sum(0)
    upper = (rows < lobe + 0.03 * width) & (on_head > body)
    upper |= (rows < lobe + 0.15 * width) & (probabilities[EARS] > 0.5)
    hanging = (rows < cut) & (probabilities[HAIR] > np.maximum(probabilities[SKIN], body))
    above = (region.middle[1] - rows) / width
    reach = (aside < 1.1) & ((aside / 1.0) ** 2 + (np.maximum(above, 0) / 1.4) ** 2 < 1)
    head = (upper | hanging) & person & reach & ~((rows > lobe) & _below_jaw(landmarks, face.shape) & ~face)
    head = _connected_to(face, eroded(head, 0.012 * width) | face, 0.0)
    head = (dilated(head, 0.012 * width) & person & (upper | hanging)) | face
    head = holes_filled(blur(head.astype(np.float32), 0.008 * width) > 0.5) | face
    notch = eroded(dilated(head, 0.1 * width), 0.1 * width) & person & (rows < chin)  # between jaw, ear and hair
    head = _connected_to(face, blur((head | notch).astype(np.float32), 0.008 * width) > 0.5, 0.0)
    shown = blur(1 - probabilities[BACKGROUND], 0.01 * width)
    hair = blur(probabilities[HAIR] + probabilities[ACCESSORIES], 0.01 * width) / (shown + 0.02)
    hair *= ~eroded(face, 0.02 * width)
    return Outline(
        person=person | head,
        head=head,
        face=face,
        hair=np.clip(hair, 0, 1).astype(np.float32),
        hat=blur(probabilities[ACCESSORIES], 0.01 * width),
        clear=shown > 0.85,
        to_background=blur(signed_distance(person | head), 1.5),
        to_rest=blur(signed_distance(head), 1.2),
        lobe=lobe,
        cut=cut,
        chin=chin,
    )


def cheeks_of(outline: Outline, width: float) -> np.ndarray:
    """(h, w) bool, the lower sides of the face, well inside it."""
    rows = np.arange(len(outline.face))[:, None]
    return outline.face & (rows > outline.lobe - 0.25 * width) & (outline.to_rest > 0.08 * width)


def _connected_to(seed: np.ndarray, mask: np.ndarray, min_width: float) -> np.ndarray:
    """The component of a mask that contains most of a seed, holes filled; links narrower than `min_width` pixels are cut."""
    core = eroded(mask, min_width) | seed if min_width >= 1 else mask
    labels = cv2.connectedComponents(core.astype(np.uint8), connectivity=4)[1]
    own = labels == np.bincount(labels[seed]).argmax()
    kept = dilated(own, min_width) & mask if min_width >= 1 else own
    return holes_filled(kept | seed)


def _below_jaw(landmarks: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(h, w) bool, columns and rows below the jaw, where only neck and clothes are."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    left, right = landmarks[4, 0], landmarks[12, 0]
    return (columns > left) & (columns < right) & (rows > landmarks[[4, 12], 1].min())


def face_area(
    landmarks: np.ndarray, points: np.ndarray, faces: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Mask and depth of the face.

    Args:
        landmarks: (68, 2) region positions; those of the jaw bound the face below.
        points: (v, 3) the fitted surface in the region; its triangles bound the face above.
        faces: (t, 3) triangles of the face alone.
        size: width and height of the region.

    Returns:
        (h, w) bool, and (h, w) float32 depth, extrapolated smoothly outside.
    """
    _, shown, depth = draw(points, faces, points[:, :2], np.ones(len(faces)), size)
    width, height = size
    line = curve_through(landmarks[:17], 10)
    jaw = np.zeros((height, width), np.uint8)
    cv2.fillPoly(jaw, [np.round((line - 0.5) * 16).astype(np.int32)], 1, shift=4)
    order = np.argsort(line[:, 0])
    edge = np.interp(np.arange(width) + 0.5, line[order, 0], line[order, 1], left=-1, right=-1)
    ears = np.interp(np.arange(width) + 0.5, landmarks[[0, 16], 0], landmarks[[0, 16], 1])
    above = (np.arange(height)[:, None] + 0.5) < np.minimum(edge, ears)[None]
    seen = shown > NONE
    area = holes_filled((jaw > 0) | (seen & above))
    # at the jaw the surface curves inwards more steeply than a depth map can represent: extrapolate the depth from inside
    width = float(np.ptp(landmarks[:17, 0]))
    known = eroded(seen & area, 0.03 * width).astype(np.float32)
    smooth = blur(extrapolated(np.where(seen, depth, 0)[..., None], known)[..., 0], 0.01 * width)
    weight = blur(known, 0.01 * width)
    return area, (weight * np.where(seen, depth, smooth) + (1 - weight) * smooth).astype(np.float32)
