"""Rotate a head and composite it into its photograph."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from latentrot.errors import LatentrotError
from latentrot.faces.alignment import Alignment, align_landmarks
from latentrot.faces.upright import centred, five_of
from latentrot.geometry.calibration import surface_yaw
from latentrot.geometry.camera import angle_of, image_motion, landmarks_at, out_of_plane, turn_matrix
from latentrot.geometry.composite import composite
from latentrot.geometry.draw import BACK, FRONT, NONE, draw
from latentrot.geometry.ears import Ear, draw_ear
from latentrot.geometry.fields import blur, continued, dilated, eroded, ramp, sample, sample_at, values_at
from latentrot.geometry.head import Head
from latentrot.geometry.layer import Layer, mixed
from latentrot.geometry.shading import head_gain, relight
from latentrot.geometry.surroundings import warp_surroundings
from latentrot.geometry.whole_view import whole_layer

__all__ = ["TurnedHead", "realign_crop", "turn_head", "turn_surfaces", "whole_or_mixed", "whole_share"]

#: distance from the head, in W, over which the relighting fades out on the neck
BESIDE = 0.15

#: rotations (degrees) between which a whole head takes over from the front surface
MIX_DEG = (4.0, 14.0)
#: distances from the rotated head (shares of W) between which loose hair is removed, after small and large rotations; and
#: the rotations (degrees) between which they change
LOOSE_HAIR, LARGE_DEG = ((0.06, 0.12), (0.015, 0.05)), (25.0, 45.0)
#: rotations (degrees) from which the edge of the unrotated head is removed: not at all, and completely
STALE_DEG = (15.0, 30.0)


@dataclass(frozen=True, eq=False)
class TurnedHead:
    """A photograph with its head rotated.

    Args:
        image: (h, w, 3) uint8, the whole photograph; unmoved pixels equal the source bit for bit.
        coverage: (h, w) float32, 1 where the source shows what is visible, 0 where it is synthesized.
        head: (h, w) float32, alpha of the head.
        landmarks: (68, 2) rotated landmarks, photograph pixels.
        yaw_deg: the head's new yaw, by the fitted face.
        pitch_deg: its new pitch.
        whole: the whole head is shown, which leaves nothing to fill.
    """

    image: np.ndarray
    coverage: np.ndarray
    head: np.ndarray
    landmarks: np.ndarray
    yaw_deg: float
    pitch_deg: float
    whole: bool = False

    @property
    def alignment(self) -> Alignment:
        """Alignment of the CelebA frame to the rotated head."""
        height, width = self.image.shape[:2]
        return align_landmarks(five_of(self.landmarks), (width, height))


def realign_crop(head: Head, turned: TurnedHead) -> np.ndarray:
    """Warp a rotated crop so that its face is aligned to the CelebA frame again.

    The head rotates about an axis behind the face, so a rotation shifts the face. Edges are repeated.

    Args:
        head: of a crop in the CelebA frame.
        turned: from `turn_head`.

    Returns:
        (s, s, 3) uint8; unchanged bit for bit if nothing was rotated.
    """
    size = (turned.image.shape[1], turned.image.shape[0])
    was = head.region.to_photo(head.landmarks[:, :2])
    if np.allclose(was, turned.landmarks):
        return turned.image
    there, here = (align_landmarks(five_of(points), size).matrix for points in (was, turned.landmarks))
    linear = np.linalg.solve(here[:, :2], there[:, :2])
    shift = np.linalg.solve(here[:, :2], there[:, 2] - here[:, 2])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    matrix = centred(np.column_stack([linear, shift]))
    return np.asarray(cv2.warpAffine(turned.image, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE))


def turn_head(
    head: Head,
    yaw: float = 0.0,
    pitch: float = 0.0,
    roll: float = 0.0,
    light_follows: bool = False,
    whole: bool | None = None,
) -> TurnedHead:
    """Rotate a head BY degrees, as measured on the result, and composite it into its photograph.

    Args:
        head: from `build_head`.
        yaw: > 0: nose to the viewer's right.
        pitch: > 0: looks up.
        roll: > 0: leans clockwise.
        light_follows: the light rotates with the head, even if `MeshConfig.light_follows` is False.
        whole: render the whole head, not its front and back surface; None: if `Head.needs_whole`. Choose one for all views
            of a sweep, so that nothing jumps.

    Raises:
        LatentrotError: an angle that is not finite or exceeds `MeshConfig.yaw_reach`.
    """
    whole = head.needs_whole(yaw, pitch, roll) if whole is None else whole
    return turn_surfaces(head, yaw if whole else surface_yaw(yaw), pitch, roll, light_follows, whole)


def turn_surfaces(
    head: Head,
    yaw: float,
    pitch: float = 0.0,
    roll: float = 0.0,
    light_follows: bool = False,
    whole: bool = False,
) -> TurnedHead:
    """Rotate a head like `turn_head`, but by uncalibrated degrees of the surfaces, and whole only if `whole`."""
    reach = head.config.yaw_reach
    if not all(np.isfinite(v) and abs(v) <= reach for v in (yaw, pitch, roll)):
        raise LatentrotError(
            f"rotation by {yaw}, {pitch}, {roll} degrees; expected angles from -{reach:g} to {reach:g}"
        )
    turn = turn_matrix(head, yaw, pitch, roll)
    landmarks = landmarks_at(head, turn)
    pose = head.pose[0] + yaw, head.pose[1] + pitch
    if yaw == pitch == roll == 0:
        ones = np.ones(head.photograph.shape[:2], np.float32)
        return TurnedHead(head.photograph.copy(), ones, ones, landmarks, *pose, whole)
    follows = light_follows or head.config.light_follows
    layer = whole_or_mixed(head, turn, follows) if whole else _turned_layer(head, turn, follows)
    return TurnedHead(*_composited(head, layer), landmarks, *pose, whole)


def whole_share(turn: np.ndarray) -> float:
    """Share of the whole head in its mix with the front surface, 0 to 1, after a rotation (3, 3)."""
    return float(ramp(np.array(angle_of(turn)), *MIX_DEG))


def whole_or_mixed(head: Head, turn: np.ndarray, light_follows: bool) -> Layer:
    """Render the whole head; after small rotations mix it with the front surface, which shows the source itself at 0."""
    share = whole_share(turn)
    if share == 0:
        return _turned_layer(head, turn, light_follows)
    whole = whole_layer(head, turn, light_follows)
    return whole if share == 1 else mixed(_turned_layer(head, turn, light_follows), whole, share)


def _turned_layer(head: Head, turn: np.ndarray, light_follows: bool) -> Layer:
    """Render the region with its head rotated."""
    config, width = head.config, head.region.width
    yaw = yaw_of(turn)
    source, shown = _rasterised(head, turn)
    direction = image_motion(turn)
    length = float(np.linalg.norm(direction))
    direction = direction / length if length > 1e-6 else np.array([1.0, 0.0])
    around, inside, left = warp_surroundings(shown, source, head.outline, direction, width, config)
    around = _off_the_head(head, around, inside, width)
    alpha = blur(ramp(inside, 0.0, max(2.0, config.edge * width)), 0.7)
    ears = [(ear, ear.weight(yaw)) for ear in head.ears if ear.weight(yaw) > 0]
    skin, kept = _skin(head, turn, source, shown, ears)
    rest = sample_at(head.plate, around, cv2.INTER_CUBIC)
    rest_kept = sample(head.plate_kept, around[..., 0], around[..., 1])
    angle = out_of_plane(turn)
    if angle > STALE_DEG[0]:
        left = np.maximum(left, _stale(head, around, inside, angle))
    if left.any():
        behind, seen = head.behind
        rest, rest_kept = rest + left[..., None] * (behind - rest), rest_kept + left * (seen - rest_kept)
    for ear, weight in ears:
        colours, share = draw_ear(ear, turn, head.axis, head.region.size)
        share *= weight
        both = alpha + share * (1 - alpha)
        over = share / np.maximum(both, 1e-6)
        skin, kept, alpha = skin + over[..., None] * (colours - skin), kept * (1 - over), both
    if light_follows or head.shading.strength == 0:
        gain = around_gain = np.ones_like(alpha)
    else:
        gain = _gain(head, turn, source, shown)
        around_gain = 1 + _beside(head, around, inside) * (gain - 1)
        skin, rest = relight(skin, gain), relight(rest, around_gain)
    a = alpha[..., None]
    image = np.clip(rest * (1 - a) + skin * a, 0, 255)
    return Layer(
        image=image,
        source=np.where(a > 0.5, source, around).astype(np.float32),
        coverage=(rest_kept * (1 - alpha) + kept * alpha),
        head=alpha,
        gain=around_gain + alpha * (gain - around_gain),
    )


def _off_the_head(head: Head, around: np.ndarray, inside: np.ndarray, width: float) -> np.ndarray:
    """Move source positions that lie on the head to its edge, so that the surroundings do not show the head."""
    at_edge = sample_at(head.outside, around, cv2.INTER_NEAREST)
    depth = sample_at(head.outline.to_rest, around)
    rows, columns = np.mgrid[: depth.shape[0], : depth.shape[1]].astype(np.float32) + 0.5
    far = ramp(np.hypot(around[..., 0] - columns, around[..., 1] - rows), 0.08 * width, 0.2 * width)
    far *= np.maximum(around[..., 1], rows) < head.outline.lobe  # neck and clothes, below, are excluded
    # where the surroundings are displaced far and stretched, not even the edge of the head may be visible
    fallen = blur(ramp(depth + 4 * far, 1.0, 4.0) * ramp(inside, 1.0, -2.0), 1.5)[..., None]
    return around + fallen * (blur(at_edge, 1.5) - around)


def _stale(head: Head, around: np.ndarray, inside: np.ndarray, angle: float) -> np.ndarray:
    """(h, w) 1 where the surroundings would show the edge of the unrotated head, away from the rotated head.

    Close to the rotated head loose hair stays; after large rotations, which move other parts to the outline, less of it.
    """
    width = head.region.width
    near, far = np.array(LOOSE_HAIR[0]) + ramp(np.array(angle), *LARGE_DEG) * np.subtract(LOOSE_HAIR[1], LOOSE_HAIR[0])
    shows = sample_at(head.fringed, around)
    rows = np.arange(len(inside), dtype=np.float32)[:, None]
    above = ramp(rows, head.outline.lobe, head.outline.lobe - 0.3 * width)
    return shows * above * ramp(-inside, near * width, far * width) * ramp(np.array(angle), *STALE_DEG)


def turned_surfaces(head: Head, turn: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rotated surfaces: (2n, 3) points in the region, front then back, (t, 3) triangles and (t,) surface of each."""
    mesh, yaw = head.mesh, yaw_of(turn)
    front, back = head.front.copy(), head.back.copy()
    for ear in head.ears:
        if (away := ear.weight(-yaw)) > 0:  # the ear disappears behind the cheek
            front[:, 2] *= 1 - away * values_at(ear.behind + ear.below, mesh.points)
        if (towards := ear.weight(yaw)) > 0:  # end the head at the front of the ear, not in a corner behind it
            drawn_in = towards * values_at(ear.ends, mesh.points)
            edge = np.interp(mesh.points[:, 1], np.arange(len(ear.edge)) + 0.5, ear.edge)
            for part in (front, back):
                part[:, 0] += drawn_in * (edge - part[:, 0])
    points = (np.concatenate([front, back]) - head.axis) @ turn.T + head.axis
    faces = np.concatenate([mesh.faces, mesh.faces[:, ::-1] + len(mesh.points)])
    return points, faces, np.repeat([FRONT, BACK], len(mesh.faces))


def yaw_of(turn: np.ndarray) -> float:
    """Yaw in degrees of a rotation."""
    return float(np.degrees(np.arcsin(np.clip(turn[0, 2], -1, 1))))


def without_slivers(shown: np.ndarray, width: float) -> np.ndarray:
    """Largest connected area in which a surface is visible, without thin slivers at its edges.

    Args:
        shown: (h, w), > 0 where the surface is visible.
        width: W in pixels.

    Returns:
        (h, w) bool.
    """
    sliver = 0.014 * width
    whole = dilated(eroded(shown > 0, sliver), sliver) & (shown > 0)
    count, parts, sizes, _ = cv2.connectedComponentsWithStats(whole.astype(np.uint8), connectivity=4)
    return parts == 1 + sizes[1:, cv2.CC_STAT_AREA].argmax() if count > 2 else whole


def _rasterised(head: Head, turn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rasterise the rotated surfaces: (h, w, 2) source positions and (h, w) which surface each pixel shows."""
    points, faces, kind = turned_surfaces(head, turn)
    source, shown, _ = draw(points, faces, np.concatenate([head.mesh.points] * 2), kind, head.region.size)
    return source, np.where(without_slivers(shown, head.region.width), shown, NONE).astype(np.uint8)


def _skin(
    head: Head, turn: np.ndarray, source: np.ndarray, shown: np.ndarray, ears: list[tuple[Ear, float]]
) -> tuple[np.ndarray, np.ndarray]:
    """Colours of the head's pixels, and the weight of the source's own pixel in each, 0 to 1; without the rotated ears."""
    colours, mirrored_border = head.colours, cv2.BORDER_REFLECT
    slope = sample_at(head.slope, source)
    larger = blur(turn[2, 2] - turn[2, 0] * slope[..., 0] - turn[2, 1] * slope[..., 1], 1.5)
    as_hair = sample_at(colours.hair, source) * ramp(larger, *head.config.stretch)
    as_hair = np.maximum(as_hair, sample_at(colours.near_hair, source) * ramp(larger, *head.config.torn))
    front = sample_at(colours.front, source, cv2.INTER_CUBIC, mirrored_border)
    for ear, weight in ears:
        as_hair = np.maximum(as_hair, weight * sample_at(ear.behind, source))
        torn = sample_at(ear.before, source) * ramp(larger, *head.config.torn)
        bare = weight * np.maximum(sample_at(ear.below, source), torn)[..., None]
        front = front + bare * (sample_at(ear.skin, source) - front)
    back = shown == BACK
    displacement = -head.config.back_depth * head.region.width * turn[:2, 2]  # as the back of the head moves
    strands = _shifted(colours.strands, float(displacement[0]), float(displacement[1]))
    tone = np.where(back[..., None], sample_at(colours.back_tone, source), sample_at(colours.tone, source))
    as_hair = np.where(back, 1.0, as_hair).astype(np.float32)
    as_hair = np.maximum(blur(as_hair, head.config.fade * head.region.width), back)
    h = as_hair[..., None]
    skin = front * (1 - h) + (tone + strands) * h
    kept = sample_at(colours.kept, source) * (1 - as_hair) * (shown == FRONT)
    if head.symmetry.strength > 0:
        mirrored, share = _mirrored(head, source, shown)
        skin, kept = skin + (mirrored - skin) * share[..., None], kept * (1 - share)
    return continued(skin, shown > 0), kept


def _gain(head: Head, turn: np.ndarray, source: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """(h, w) gain that keeps the light fixed in the scene."""
    hair, width = head.outline.hair, head.region.width
    return head_gain(head.shading, head.normals, hair, turn, source, shown > 0, shown == BACK, width)


def _beside(head: Head, around: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """(h, w) weight of the head's gain on neck and hanging hair: it fades out from jaw and hair, so that no edge shows."""
    person = sample_at(blur(head.outline.person.astype(np.float32), 1.0), around)
    return person * ramp(inside, -BESIDE * head.region.width, 0.0)


def _shifted(image: np.ndarray, right: float, down: float) -> np.ndarray:
    """Shift an image by a number of pixels, mirrored beyond its edges."""
    matrix = np.array([[1, 0, right], [0, 1, down]], np.float32)
    size = (image.shape[1], image.shape[0])
    return np.asarray(cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT))


def _mirrored(head: Head, source: np.ndarray, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colours from across the plane of symmetry, and their weight: higher where the source shows that side better."""
    mirror = head.symmetry
    x, y, z = mirror.across(source[..., 0], source[..., 1], sample_at(mirror.height, source))
    there = np.stack([x, y], -1)
    on_surface = np.clip(1.6 - np.abs(z - sample_at(mirror.height, there)) / (0.09 * head.region.width), 0, 1)
    better = sample_at(mirror.visible, there) - sample_at(mirror.visible, source)
    inside = ramp(sample_at(head.outline.to_rest, there), 0, 0.02 * head.region.width)
    share = np.clip(better, 0, 1) * np.clip(2.5 * better, 0, 1) * on_surface * inside * (shown == FRONT)
    colours = sample_at(head.colours.front, there, cv2.INTER_CUBIC) * sample_at(mirror.ratio, source)
    return np.clip(colours, 0, 255), mirror.strength * blur(share, 1.5)


# --- composite into the photograph ------------------------------------------------------------------------------------


def _composited(head: Head, layer: Layer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The photograph with the rotated region, its coverage, and the head's alpha."""
    region, photograph = head.region, head.photograph
    left, top, right, bottom = box = region.box()
    soft = 0.35 * max(region.scale, 1e-6) if region.scale > 1 else 0.0
    rows, columns = np.mgrid[: region.size[1], : region.size[0]].astype(np.float32)
    still = np.maximum(*(np.abs(layer.source[..., i] - p - 0.5) for i, p in enumerate((columns, rows)))) < 1e-3
    displacement = blur(((~still) | (layer.head > 1e-3)).astype(np.float32), 1.0)
    for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):  # values at the border count for all pixels beyond it
        displacement[edge] = 0
    images = blur(head.image, soft), blur(layer.image, soft)
    fields = layer.gain * layer.coverage * _smoothly(layer.source), displacement, layer.coverage, layer.head
    laid = composite(photograph, box, region.matrix, region.inverse, images, layer.source, fields)
    image = photograph.copy()
    coverage, alpha = np.ones(photograph.shape[:2], np.float32), np.zeros(photograph.shape[:2], np.float32)
    for whole, part in zip((image, coverage, alpha), laid, strict=True):
        whole[top:bottom, left:right] = part
    return image, coverage, alpha


def _smoothly(source: np.ndarray) -> np.ndarray:
    """(h, w) 1 where neighbouring pixels have neighbouring source positions, 0 at jumps and where the image is compressed."""
    across, down = (np.maximum(*np.abs(np.diff(source, axis=i)).transpose(2, 0, 1)) for i in (1, 0))
    jump = np.zeros(source.shape[:2], np.float32)
    jump[:, 1:] = across
    jump[1:] = np.maximum(jump[1:], down)
    return blur((~dilated(jump > 2.5, 1.0)).astype(np.float32), 0.7)
