"""Render a whole head after a rotation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np

from latentrot.geometry.camera import angle_of
from latentrot.geometry.draw import draw
from latentrot.geometry.fields import blur, continued, ramp, sample_at, values_at
from latentrot.geometry.head import Head
from latentrot.geometry.layer import Layer
from latentrot.geometry.shading import relight, relit_gain, smooth_gain, unit
from latentrot.geometry.shell import enlarged, grid_places, opaque_hair, texels_at
from latentrot.geometry.template import load_template
from latentrot.geometry.whole import whole_head

__all__ = ["Correction", "hair_texture", "skin_texture", "whole_layer", "whole_mesh"]

#: correction of synthesized colours: points and unit normals (h, w, 3) in the source's pose -> differences (h, w, 3)
Correction: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]
#: a correction is evaluated at every such texel of the skin
COARSE = 4

#: brightness of the inner side of the hair
INNER = 0.7
#: values of a shell's alpha between which hair becomes opaque, seen from outside and from inside
HAIR_ALPHA, INNER_ALPHA = (0.28, 0.72), (0.35, 0.65)
#: hair less than this (W) behind the skin is shown: both lie on the scalp
CLOSE = 0.015
#: heights of the template (y, W) between which the neck begins, which clothes may cover, and between which it ends
NECK, NECK_END = (0.78, 0.86), (1.27, 1.13)
#: distance (W) above the collar from which the neck is drawn in to the photograph's
DRAWN_IN = 0.5
#: width in W of the head's soft edge
EDGE = 0.012


@dataclass(frozen=True, eq=False)
class Drawn:
    """A rasterised surface of a rotated head.

    Args:
        colours: (h, w, 3) float32.
        alpha: (h, w) float32.
        known: (h, w) float32, 1 where the source's own pixel is shown.
        source: (h, w, 2) float32 source positions in the region.
        normals: (h, w, 3) float32 normals in the source's pose.
        depth: (h, w) float32 depth.
    """

    colours: np.ndarray
    alpha: np.ndarray
    known: np.ndarray
    source: np.ndarray
    normals: np.ndarray
    depth: np.ndarray


def whole_layer(head: Head, turn: np.ndarray, light_follows: bool) -> Layer:
    """Render the region with its whole head rotated; the surroundings stay where they are.

    Args:
        head: from `latentrot.geometry.head.build_head`.
        turn: (3, 3) rotation about the head's axis in its region.
        light_follows: the light rotates with the head.
    """
    # skin, then the inner side of the hair behind it, then hair in front of both
    skin, shell = draw_skin(head, turn), rotated_shell(head, turn)
    hair = draw_hair(head, shell, skin.depth)
    inner, inner_alpha = draw_inner_hair(head, shell)
    under, over = skin.alpha[..., None], hair.alpha[..., None]
    colours = inner + (skin.colours - inner) * under
    colours = colours + (hair.colours - colours) * over
    alpha = np.maximum(np.maximum(skin.alpha, inner_alpha), hair.alpha)
    solid, hairy = alpha > 0.5, hair.alpha > 0.5
    colours = continued(colours, solid)
    known = np.where(hairy, hair.known, skin.known * skin.alpha)
    gain = np.ones(alpha.shape, np.float32)
    if not light_follows and head.shading.strength > 0:
        normals = np.where(hairy[..., None], hair.normals, skin.normals)
        gain = scene_gain(head, turn, normals, known, solid, hairy)
        colours = relight(colours, gain)
    soft = soft_edge(alpha, head.region.width)
    behind, bare = whole_head(head).behind, head.behind[1]
    rows, columns = np.mgrid[: len(alpha), : alpha.shape[1]].astype(np.float32) + 0.5
    still = np.stack([columns, rows], -1) + (1 - bare)[..., None]  # a filled pixel is not the photograph's
    source = np.where(hairy[..., None], hair.source, skin.source)
    return Layer(
        image=np.clip(behind + (colours - behind) * soft[..., None], 0, 255),
        source=np.where(soft[..., None] > 0.5, source, still).astype(np.float32),
        coverage=(bare + soft * (known - bare)).astype(np.float32),
        head=soft,
        gain=(1 + soft * (gain - 1)).astype(np.float32),
    )


def draw_skin(head: Head, turn: np.ndarray) -> Drawn:
    """Rasterise and colour skull, face, ears and neck."""
    template, whole, points = load_template(), whole_head(head), rotated_skin(head, turn)
    v, shown, depth = draw(points, template.faces, whole.values, np.ones(len(template.faces)), head.region.size)
    colours, known = skin_colours(head, v)
    height = v[..., 15]
    alpha = (shown > 0) * (1 - ramp(height, *NECK) * whole.covered) * ramp(height, *NECK_END)
    return Drawn(colours, alpha.astype(np.float32), known, v[..., :2], v[..., 12:15], depth)


def skin_colours(head: Head, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colours (h, w, 3) of interpolated `WholeHead.values` (h, w, 16), and (h, w) the share of the photograph's own pixel."""
    whole, source, mirror = whole_head(head), v[..., 0:2], v[..., 2:4]
    known = v[..., 4] * sample_at(whole.skin, source)
    mirrored = np.clip(v[..., 5] * sample_at(whole.bare, mirror) - known, 0, 1)  # where that side shows more
    own = sample_at(head.image, source, cv2.INTER_CUBIC)
    other = sample_at(head.image, mirror, cv2.INTER_CUBIC) * v[..., 6:9]
    k, m = known[..., None], mirrored[..., None]
    colours = np.clip(own * k + other * m + v[..., 9:12] * (1 - k - m), 0, 255)
    return colours, known


def draw_hair(head: Head, points: np.ndarray, skin_depth: np.ndarray) -> Drawn:
    """Rasterise and colour the outer side of the hair at `rotated_shell`, where the skin's depth (h, w) does not hide it."""
    shell = whole_head(head).shell
    flat = shell.points.reshape(-1, 3)
    values = np.column_stack([grid_places(), flat[:, :2], shell.normals.reshape(-1, 3)])
    v, shown, depth = draw(points, shell.faces, values, np.ones(len(shell.faces)), head.region.size)
    places, source = v[..., :2], v[..., 2:4]
    known, made = texels_at(shell.known, places), texels_at(shell.colours, places)
    image = sample_at(head.image, source, cv2.INTER_CUBIC)
    colours = np.clip(made + known[..., None] * (image - made), 0, 255)
    near = (depth > skin_depth - CLOSE * head.region.width) & (shown > 0)
    alpha = ramp(texels_at(shell.alpha, places), *HAIR_ALPHA) * blur(near.astype(np.float32), 0.7) * (shown > 0)
    return Drawn(colours, alpha, known, source, v[..., 4:7], depth)


def skin_texture(head: Head, side: int, correct: Correction | None = None) -> np.ndarray:
    """(side, 2 * side, 3) colours of the skin, laid out by the template's texture positions; see `Correction`."""
    v, shown = skin_texels(head, side)
    colours, known = skin_colours(head, v)
    if correct is not None:
        coarse, _ = skin_texels(head, side // COARSE)
        colours += (1 - known)[..., None] * enlarge(correct(coarse[..., [0, 1, 16]], coarse[..., 12:15]), v.shape)
    return continued(colours.clip(0, 255), shown)


def skin_texels(head: Head, side: int) -> tuple[np.ndarray, np.ndarray]:
    """(side, 2 * side, 17) `WholeHead.values` and depth of every texel of the skin; (side, 2 * side) bool, which are used."""
    template = load_template()
    values = np.column_stack([whole_head(head).values, whole_head(head).points[:, 2]])
    places = np.column_stack([template.uv * [side, -side] + [0, side], np.zeros(len(template.uv))])
    a, b, c = (places[template.uv_faces[:, i]] for i in range(3))
    flipped = np.cross(b - a, c - a)[:, 2] < 0
    faces = np.where(flipped[:, None], template.uv_faces[:, ::-1], template.uv_faces)
    v, shown, _ = draw(places, faces, values[template.corners], np.ones(len(faces)), (2 * side, side))
    return v, shown > 0


def hair_texture(head: Head, correct: Correction | None = None) -> np.ndarray:
    """(h, w, 3) colours of the hair, laid out by azimuth and elevation; see `Correction`."""
    shell = whole_head(head).shell
    image = sample_at(head.image, enlarged(shell.points)[..., :2], cv2.INTER_CUBIC)
    made = shell.colours
    if correct is not None:
        made = (made + enlarge(correct(shell.points, shell.normals), made.shape)).clip(0, 255)
    return made + shell.known[..., None] * (image - made)


def enlarge(maps: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Resample maps (h, w, c) to the height and width of `shape`."""
    return cv2.resize(maps.astype(np.float32), shape[1::-1], interpolation=cv2.INTER_LINEAR)


def draw_inner_hair(head: Head, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colours (h, w, 3) and alpha (h, w) of the inner side of the hair at `rotated_shell`."""
    shell = whole_head(head).shell
    places, shown, _ = draw(points, shell.faces[:, ::-1], grid_places(), np.ones(len(shell.faces)), head.region.size)
    alpha = np.where(shown > 0, ramp(texels_at(shell.alpha, places), *INNER_ALPHA), 0.0)
    return INNER * blur(texels_at(shell.colours, places), 1.0), alpha.astype(np.float32)


def scene_gain(
    head: Head, turn: np.ndarray, normals: np.ndarray, known: np.ndarray, solid: np.ndarray, hairy: np.ndarray
) -> np.ndarray:
    """(h, w) gain that keeps the light fixed in the scene. Synthesized colours are those of a surface facing the viewer.

    Args:
        head: its shading.
        turn: (3, 3) rotation.
        normals: (h, w, 3) in the source's pose.
        known: (h, w) share of the source's own pixels.
        solid: (h, w) bool, where the head is seen.
        hairy: (h, w) bool, where hair is seen.
    """
    there = solid & normals.any(-1)
    own, share = unit(normals[there]).astype(np.float32), known[there][:, None]
    lit = unit(own * share + np.array([0, 0, 1], np.float32) * (1 - share))
    log_gain = np.zeros(solid.shape, np.float32)
    turned = own @ turn.T.astype(np.float32)
    log_gain[there] = relit_gain(head.shading, lit, turned, hairy[there].astype(np.float32))
    return smooth_gain(log_gain, there, head.region.width)


def soft_edge(alpha: np.ndarray, width: float) -> np.ndarray:
    """(h, w) alpha that fades out towards the edge of a head of alpha (h, w)."""
    inside = cv2.distanceTransform((alpha > 0.5).astype(np.uint8), cv2.DIST_L2, 5)
    return blur(np.minimum(blur(alpha, 0.8), ramp(inside, 0.0, max(1.5, EDGE * width))), 0.7)


def rotated_skin(head: Head, turn: np.ndarray) -> np.ndarray:
    """(v, 3) rotated vertices of the template: the neck twists, and is drawn in to the photograph's at the collar."""
    whole, width = whole_head(head), head.region.width
    points = rotated(whole.points, head.axis, turn, whole.rigid)
    middle, half = whole.neck
    near = ramp(points[:, 1], whole.collar - DRAWN_IN * width, whole.collar) * (1 - whole.rigid**2)
    aside = points[:, 0] - middle
    points[:, 0] -= np.sign(aside) * np.maximum(np.abs(aside) - half, 0) * near
    return points


def rotated_shell(head: Head, turn: np.ndarray) -> np.ndarray:
    """(n, 3) rotated vertices of the hair's shell."""
    points = whole_head(head).shell.points.reshape(-1, 3)
    return (points - head.axis) @ turn.T + head.axis


def whole_mesh(head: Head, turn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The opaque surface of the rotated whole head: (n, 3) points in the region, and (t, 3) triangles."""
    whole, template = whole_head(head), load_template()
    skin, hair = rotated_skin(head, turn), rotated_shell(head, turn)
    hidden = ramp(template.mean[:, 1], *NECK) * values_at(whole.covered, skin[:, :2]) > 0.5
    bare = template.faces[~(hidden | (template.mean[:, 1] > np.mean(NECK_END)))[template.faces].any(1)]
    return np.concatenate([skin, hair]), np.concatenate([bare, opaque_hair(whole.shell) + len(skin)])


def rotated(points: np.ndarray, centre: np.ndarray, turn: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Rotate points (n, 3) about `centre` by shares (n,) of the angle of a rotation (3, 3): Rodrigues' formula."""
    angle = np.radians(angle_of(turn))
    vector = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
    about = vector / max(float(np.linalg.norm(vector)), 1e-12)
    offset = points - centre
    along = (offset @ about)[:, None] * about
    sin, cos = np.sin(share * angle)[:, None], np.cos(share * angle)[:, None]
    return centre + along + (offset - along) * cos + np.cross(about, offset) * sin
