"""The whole head of a photograph: skull, neck and hair, textured from the photograph, for large rotations.

The front-and-back surface of `latentrot.geometry.head` shows the photograph's pixels with little loss after small rotations,
but it has neither jaw, nape nor neck. Here the fitted face model is placed whole. A vertex is shown in the photograph's
colours where the photograph shows it, in those of its mirror vertex where it shows that one, and elsewhere in the skin's
colour under ambient light, with the difference to the visible colours diffused over the mesh.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from weakref import WeakKeyDictionary

import cv2
import numpy as np
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import splu

from latentrot.faces.parts import ACCESSORIES, CLOTHES, EARS, HAIR, NECK, SKIN
from latentrot.geometry.draw import draw
from latentrot.geometry.fields import blur, dilated, eroded, filled, ramp, values_at
from latentrot.geometry.head import Head
from latentrot.geometry.shell import Shell, angles, fit_shell, nearest_directions, typical_hair
from latentrot.geometry.surface import CONTOUR, load_surface, rotation, visible_contour
from latentrot.geometry.template import HeadTemplate, load_template
from latentrot.geometry.triangulate import edges_of
from latentrot.synthetic.raster import vertex_normals

__all__ = ["WholeHead", "build_whole_head", "whole_head"]

#: width (W) of the Gaussian that carries the landmarks' residuals over the mesh, and its ridge at contour and inner landmarks
RESIDUAL_WIDTH, CONTOUR_RIDGE, INNER_RIDGE = 0.13, 0.8, 0.15
#: middle of the head in the template: origin of the hair's shell
MIDDLE = np.array([0.0, -0.09, -0.214])
#: below these heights of the template (y, W) the head rotates with the skull, and not at all
RIGID, FIXED = 0.79, 1.23
#: axis of the neck in the template: z at heights y
NECK_Y, NECK_Z = (0.79, 1.0, 1.2), (-0.22, -0.29, -0.36)
#: visible area of the neck (share of W squared) below which its colour is not known
NECK_MIN = 0.005
#: bounds of the radius of the neck (W)
NECK_LIMITS = 0.28, 0.37
#: cosines of the angle to the viewer between which a vertex starts to be shown in its own colours; the same for ears
FACING, EAR_FACING = (0.15, 0.45), (0.45, 0.7)
#: distance (W) from the edge of the face beyond which everything on it, such as a beard, belongs to it
FACE = 0.1
#: a vertex farther than this (W) behind the visible surface is hidden
HIDDEN = 0.035
#: power of ambient visibility in the colour of skin that is not seen, and the least visibility
AMBIENT, DARKEST = 0.8, 0.12
#: pull of the diffused difference towards 0, relative to a vertex's links
PULL = 0.05


@dataclass(frozen=True, eq=False)
class WholeHead:
    """A whole head in the photograph's pose. Positions in its region, z over the head's rim.

    Args:
        points: (v, 3) vertices.
        normals: (v, 3) unit, outward.
        seen: (v,) float32, 1 where the photograph shows the vertex, as far as the surface alone decides.
        ratio: (v, 3) float32 colour of a vertex over that of its mirror vertex.
        base: (v, 3) float32 synthesized colours.
        rigid: (v,) 1 where a vertex rotates with the head, 0 at the lower end of the neck.
        skin: (h, w) float32, 1 where the photograph shows skin or something on the face.
        bare: (h, w) float32, 1 well inside bare skin, which may be mirrored.
        covered: (h, w) float32, 1 where clothes or hanging hair hide the neck.
        collar: row at which the neck ends.
        neck: middle column and half width of the neck at the collar.
        shell: the hair.
        behind: (h, w, 3) float32, the image without the head.
    """

    points: np.ndarray
    normals: np.ndarray
    seen: np.ndarray
    ratio: np.ndarray
    base: np.ndarray
    rigid: np.ndarray
    skin: np.ndarray
    bare: np.ndarray
    covered: np.ndarray
    collar: float
    neck: tuple[float, float]
    shell: Shell
    behind: np.ndarray

    @cached_property
    def values(self) -> np.ndarray:
        """(v, 16) what is interpolated: source, its mirror, both seen, ratio, base, normal, height in the template."""
        template = load_template()
        across = template.mirror
        return np.column_stack(
            [self.points[:, :2], self.points[across, :2], self.seen, self.seen[across], self.ratio, self.base,
             self.normals, template.mean[:, 1]]
        )  # fmt: skip


#: the whole heads built so far, kept as long as their heads
_BUILT: WeakKeyDictionary[Head, WholeHead] = WeakKeyDictionary()


def whole_head(head: Head) -> WholeHead:
    """The whole head of a head; built once."""
    if head not in _BUILT:
        _BUILT[head] = build_whole_head(head)
    return _BUILT[head]


def build_whole_head(head: Head) -> WholeHead:
    """Place the head template, fit the hair, and take the colours from the photograph."""
    template, width = load_template(), head.region.width
    axes = rotation(0, 0, -head.fit.roll_deg) @ head.fit.axes
    collar, neck = find_neck(head)
    shape = slim_neck(template, template.shape(head.fit.weights), neck[1] / width)
    points = pulled_to_landmarks(head, template, placed(head, shape))
    centre = placed(head, MIDDLE[None])[0]
    cover = ~template.ear & (template.mean[:, 1] < 1.06)
    shell = fit_shell(head, points[cover], centre, axes)
    points = under_the_hair(points, template, centre, shell, width)
    normals = vertex_normals(points.copy(), template.faces.astype(np.int64))
    seen = visible_vertices(head, template, points, normals)
    skin, bare = skin_masks(head)
    ratio, base = complete(head, template, points, seen, bare)
    return WholeHead(
        points=points,
        normals=normals,
        seen=seen.astype(np.float32),
        ratio=ratio.astype(np.float32),
        base=base.astype(np.float32),
        rigid=ramp(template.mean[:, 1], FIXED, RIGID).astype(np.float64),
        skin=skin,
        bare=bare,
        covered=covered_neck(head, collar),
        collar=collar,
        neck=neck,
        shell=shell,
        behind=without_head(head, neck),
    )


# --- shape --------------------------------------------------------------------------------------------------------------


def placed(head: Head, shape: np.ndarray) -> np.ndarray:
    """Template positions (n, 3) -> positions in the region, z over the head's rim."""
    fit, region = head.fit, head.region
    points = shape @ fit.axes.T * fit.scale
    ends = fit.landmarks[[0, 16]].mean(0)
    forward = (rotation(0, 0, -fit.roll_deg) @ fit.axes)[:, 2]
    rim = ends[2] * region.scale - head.config.axis_behind * region.width * forward[2]
    depth = head.config.depth_scale * (points[:, 2] * region.scale - rim)
    return np.column_stack([region.to_region(points[:, :2] + fit.shift), depth])


def find_neck(head: Head) -> tuple[float, tuple[float, float]]:
    """Row at which clothes cover the neck, and middle column and half width of the neck there, in region pixels."""
    width, middle, parts = head.region.width, head.region.middle[0], head.parts
    near = slice(max(0, int(middle - 0.45 * width)), int(middle + 0.45 * width))
    clothes = (parts[CLOTHES] > 0.5)[:, near]
    clothes[: int(head.outline.lobe)] = False
    rows = len(clothes)
    collar = float(np.percentile(np.where(clothes.any(0), clothes.argmax(0), rows), 25))
    row = int(np.clip(min(collar - 0.02 * width, head.outline.chin + 0.1 * width), 0, rows - 1))
    bare = (parts[NECK] + parts[SKIN])[max(0, row - 2) : row + 3].mean(0) > 0.5
    columns = np.flatnonzero(bare & (np.abs(np.arange(len(bare)) - middle) < 0.5 * width))
    low, high = NECK_LIMITS[0] * width, NECK_LIMITS[1] * width
    if len(columns) < 0.3 * width:
        return collar, (float(middle), high)
    half = float(np.clip(np.ptp(columns) / 2, low, high))
    return collar, (float(columns.mean()), half)


def slim_neck(template: HeadTemplate, shape: np.ndarray, radius: float) -> np.ndarray:
    """Limit the neck of a shape (v, 3) to a radius in W; it widens upwards into skull and jaw."""
    y = template.mean[:, 1].astype(np.float64)
    middle = np.interp(y, NECK_Y, NECK_Z)
    away = np.hypot(shape[:, 0], shape[:, 2] - middle)
    limit = np.interp(y, (0.25, 0.42, 0.55, 0.75), (2.0, radius + 0.12, radius + 0.03, radius))
    backwards = shape[:, 2] - middle
    share = np.maximum(ramp(y, 0.65, 0.8) * (backwards < 0.3), ramp(backwards, 0.15, -0.15))  # not the jaw
    factor = 1 - share * np.maximum(away - limit, 0) * 0.94 / np.maximum(away, 1e-6)
    slim = shape.copy()
    slim[:, 0] *= factor
    slim[:, 2] = middle + (shape[:, 2] - middle) * factor
    return slim


def pulled_to_landmarks(head: Head, template: HeadTemplate, points: np.ndarray) -> np.ndarray:
    """Move the mesh in the image plane so that its landmarks come closer to the detected ones: kernel ridge regression."""
    surface, fit, width = load_surface(), head.fit, head.region.width
    modes = np.concatenate([surface.identities, surface.expressions]).astype(np.float64)
    used = surface.landmarks.copy()
    used[:CONTOUR] = visible_contour(surface, fit.weights, modes, fit.axes)
    own = placed(head, surface.mean[used] + np.tensordot(fit.weights, modes[:, used], 1))[:, :2]

    def kernel(a: np.ndarray) -> np.ndarray:
        squared = ((a[:, None] - own[None]) ** 2).sum(-1)
        return np.exp(-squared / (2 * (RESIDUAL_WIDTH * width) ** 2))

    ridge = np.r_[np.full(CONTOUR, CONTOUR_RIDGE), np.full(len(own) - CONTOUR, INNER_RIDGE)]
    weights = np.linalg.solve(kernel(own) + np.diag(ridge), head.marks - own)
    pulled = points.copy()
    pulled[:, :2] += kernel(points[:, :2]) @ weights
    return pulled


def under_the_hair(
    points: np.ndarray, template: HeadTemplate, centre: np.ndarray, shell: Shell, width: float
) -> np.ndarray:
    """Move the vertices of the scalp inside the hair, those of a bare scalp down onto the shell: its silhouette."""
    offset = points - centre
    radius = np.linalg.norm(offset, axis=1)
    around = (shell.points - centre).reshape(-1, 3)
    near = nearest_directions(around, offset, 3)
    rows, columns = shell.points.shape[:2]
    alpha = cv2.resize(shell.alpha, (columns, rows), interpolation=cv2.INTER_AREA).ravel()[near].mean(1)
    covered = np.where(template.ear, np.clip(2.5 * (alpha - 0.5), 0, 1), np.clip(1.6 * alpha, 0, 1))
    scalp = np.where(template.ear, 0, typical_hair(*np.meshgrid(*angles())).ravel()[near].mean(1))
    reach = np.linalg.norm(around, axis=1)[near].mean(1)
    inside = np.minimum(radius, reach - 0.012 * width) if shell.hairy else reach
    moved = covered * (inside - radius) + np.maximum(scalp - covered, 0) * np.minimum(reach - radius, 0)
    return centre + offset * (1 + np.where(template.mean[:, 1] < 0.45, moved, 0) / radius)[:, None]


# --- colours ------------------------------------------------------------------------------------------------------------


def visible_vertices(head: Head, template: HeadTemplate, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """(v,) weight with which the photograph shows a vertex: it faces the viewer, and nothing of the mesh is before it."""
    width, size = head.region.width, head.region.size
    front = draw(points, template.faces, points[:, 2:], np.ones(len(template.faces)), size)[2]
    behind = values_at(front, points[:, :2]) - points[:, 2]
    facing = np.where(template.ear, ramp(normals[:, 2], *EAR_FACING), ramp(normals[:, 2], *FACING))
    openings = np.zeros(front.shape, np.uint8)
    for marks in (range(36, 42), range(42, 48), range(60, 68)):  # lids and lips curve inwards
        cv2.fillPoly(openings, [np.round(16 * (head.marks[list(marks)] - 0.5)).astype(np.int32)], 1, shift=4)
    opening = values_at(dilated(openings > 0, 0.012 * width).astype(np.float32), points[:, :2])
    opening *= (behind < 0.16 * width) & (points[:, 2] > 0)
    return np.maximum(facing * (behind < HIDDEN * width), opening)


def skin_masks(head: Head) -> tuple[np.ndarray, np.ndarray]:
    """(h, w) float32 weights with which a pixel shows the head's skin, or what is on it, and bare skin well inside."""
    width, outline, parts = head.region.width, head.outline, head.parts
    skin = parts[SKIN] + parts[EARS] + parts[NECK]
    rows = np.arange(len(skin))[:, None]
    brows = head.landmarks[17:27, 1].mean()
    beard = blur((eroded(outline.face, FACE * width) & (rows > brows - 0.05 * width)).astype(np.float32), 1.0)
    size = max(1, int(0.025 * width))
    bare = ramp(cv2.erode(blur(skin, 1.0), np.ones((size, size), np.uint8)), 0.5, 0.85)
    inside = ramp(outline.to_background, 0.01 * width, 0.03 * width) * head.region.in_photograph
    shown = ramp(np.maximum(blur(skin + parts[ACCESSORIES], 0.006 * width), beard), 0.5, 0.85)
    below = ramp(rows, outline.chin - 0.1 * width, outline.chin + 0.02 * width)
    return (shown * inside * (1 - below * (1 - bare))).astype(np.float32), (bare * inside).astype(np.float32)


def complete(
    head: Head, template: HeadTemplate, points: np.ndarray, seen: np.ndarray, bare: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Colour ratios to the mirror vertices (v, 3), and colours (v, 3) of vertices that neither side shows."""
    width, across = head.region.width, template.mirror
    clean = values_at(bare, points[:, :2])
    known = (seen * clean) ** 2
    mirrored = np.maximum(known[across] - known, 0)
    colours, smooth = (
        np.stack([values_at(image[..., k], points[:, :2]) for k in range(3)], 1)
        for image in (head.image, blur(head.image, 0.03 * width))
    )
    both = known * known[across]
    ratio = np.log(np.clip((smooth + 12) / (smooth[across] + 12), 0.4, 2.5))
    ratio = np.exp(diffused(ratio, both, 0.2 * PULL))
    shown = known > 0.6
    if not shown.any():
        return ratio, np.broadcast_to(np.median(head.image[head.outline.head], 0), points.shape)
    tone = np.median(colours[shown & ~template.ear], 0)
    ear_tone = tone
    ears = eroded(head.parts[EARS] > 0.6, max(1.0, 0.012 * width))
    if ears.sum() > 15:
        own = np.median(head.image[ears], 0)
        lightness = own.mean() / max(tone.mean(), 1.0)
        ear_tone = 0.5 * tone + 0.5 * own * np.clip(lightness, 0.7, 1.1) / max(lightness, 1e-3)
    ambient = np.clip(template.visibility, DARKEST, 1)[:, None]
    model = np.where(template.ear[:, None], 1.08 * ear_tone * ambient**0.9, tone * ambient**AMBIENT)
    weight = np.where(template.ear, 0, known + mirrored)
    own_share = (known / np.maximum(known + mirrored, 1e-6))[:, None]
    visible = colours * own_share + colours[across] * ratio * (1 - own_share)
    rest = diffused(visible - model, weight, PULL)
    return ratio, np.clip(model + rest * np.where(template.ear, 0.35, 1.0)[:, None], 0, 255)


@lru_cache(maxsize=1)
def laplacian() -> csr_matrix:
    """(v, v) graph Laplacian of the template, links weighted by the inverse of their lengths."""
    template = load_template()
    edges = np.unique(np.sort(edges_of(template.faces), axis=1), axis=0)
    weight = 1 / np.maximum(np.linalg.norm(template.mean[edges[:, 0]] - template.mean[edges[:, 1]], axis=1), 2e-3)
    count = len(template.mean)
    links = csr_matrix((weight, (edges[:, 0], edges[:, 1])), (count, count))
    links = links + links.T
    return csr_matrix(diags(np.asarray(links.sum(1)).ravel()) - links)


def diffused(values: np.ndarray, weight: np.ndarray, pull: float) -> np.ndarray:
    """Values (v, k), smooth over the mesh, close to the given ones where `weight` (v,) is high, and to 0 far from them."""
    data = 300 * weight
    system = splu((laplacian() + diags(data + pull)).tocsc())
    return system.solve(data[:, None] * values)


def without_head(head: Head, neck: tuple[float, float]) -> np.ndarray:
    """(h, w, 3) the image without the head: background, and skin of the neck between jaw and collar."""
    width, outline, parts = head.region.width, head.outline, head.parts
    behind, _ = head.behind
    rows, columns = np.mgrid[: len(behind), : behind.shape[1]].astype(np.float32)
    skin = (parts[NECK] + parts[SKIN] > 0.5) & outline.person & ~head.with_fringe & (rows > outline.lobe)
    skin &= np.abs(columns - neck[0]) < 1.5 * neck[1]
    if skin.sum() < NECK_MIN * width**2:
        return behind
    middle, half = neck
    weight = ramp(np.abs(columns - middle), half, 0.8 * half) * ramp(rows, outline.lobe, outline.lobe + 0.2 * width)
    weight *= head.with_fringe
    return behind + weight[..., None] * (filled(head.image, skin, 0.02 * width) - behind)


def covered_neck(head: Head, collar: float) -> np.ndarray:
    """(h, w) float32, 1 where clothes or hair that hangs freely are in front of the neck, and beside it below the collar."""
    parts, width = head.parts, head.region.width
    rows = np.arange(parts.shape[1])[:, None]
    hanging = parts[HAIR] * (rows > head.outline.cut - 0.02 * width)
    bare = ramp(blur(parts[NECK] + parts[SKIN], 0.01 * width), 0.3, 0.6)
    beside = ramp(rows, collar, collar + 0.07 * width) * (1 - bare)
    return np.maximum(ramp(blur(parts[CLOTHES] + hanging, 0.008 * width), 0.3, 0.7), beside).astype(np.float32)
