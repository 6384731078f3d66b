"""Shade a head with a key light and its shadow, a fill light and ambient light, and compute the image.

The order of all sums is such that mirroring a scene changes only signs, and the samples of a pixel are added as integers.
Therefore the image of a mirrored head is the mirrored image bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from latentrot.data.frame import CROP_BOX
from latentrot.errors import LatentrotError
from latentrot.kernels import kernel
from latentrot.numerics import smoothstep
from latentrot.synthetic.head_model import (
    CAMERA_CM,
    HeadModel,
    Scene,
    View,
    camera,
    hair_angles,
    landmarks,
    light_axes,
    scene,
)
from latentrot.synthetic.paint import EYE, HAIR, SKIN, TEETH
from latentrot.synthetic.raster import NOTHING, edge, rasterise
from latentrot.synthetic.sample import Background, HeadParameters

__all__ = ["Render", "render"]

#: classes in a mask; 0: background
FACE_CLASS, HAIR_CLASS = 1, 2
#: samples per side of a pixel; odd, so that one sample lies in its centre
SAMPLES = 3
#: shadow map: samples per side, and extent in cm
SHADOW_SIZE, SHADOW_CM = 256, 32.0
#: inverse of the unit of the integer sums of light
UNITS = 1 << 20
SMALLEST, LARGEST = 8, 1024


@dataclass(frozen=True, eq=False)
class Render:
    """An image of a head with exact maps and landmarks.

    Args:
        image: (s, s, 3) uint8 sRGB, the square crop of the CelebA frame.
        mask: (s, s) uint8 at the pixel centres: 0 background, 1 face (skin, eyes, mouth, neck, clothes), 2 hair; or None.
        normals: (s, s, 3) uint8 outward normals at the pixel centres, 0 to 255 for -1 to 1, with axes to the viewer's right,
            up and towards the viewer; 128 in the background; or None.
        landmarks: (5, 2) viewer's left and right eye, nose tip, mouth corners: columns and rows of the 178x218 frame.
    """

    image: np.ndarray
    mask: np.ndarray | None
    normals: np.ndarray | None
    landmarks: np.ndarray


class Surface(NamedTuple):
    """Geometry for shading: triangles in camera and light coordinates.

    Args:
        points: (v, 3) column and row in samples from the image's centre, and nearness.
        faces: (f, 3) vertices of each triangle.
        materials: (f,) material of each triangle.
        normals: (v, 3) outward unit normals.
        attributes: (v, 13) paint values; `_paint_skin` defines the columns.
        lit: (v, 3) vertices in the key light's axes, in samples of the shadow map.
    """

    points: np.ndarray
    faces: np.ndarray
    materials: np.ndarray
    normals: np.ndarray
    attributes: np.ndarray
    lit: np.ndarray


class Paints(NamedTuple):
    """Colours and lights for shading.

    Args:
        shadow: (m, m) depths reached by the key light.
        palette: (7, 3) linear colours by row.
        lights: (4, 3) direction of the key light, its colour, ambient colour, (fill, gaze to the right, gaze up).
    """

    shadow: np.ndarray
    palette: np.ndarray
    lights: np.ndarray


class Canvas(NamedTuple):
    """Output buffers of shading.

    Args:
        light: (s, s, 3) int64, light of each pixel, the sum of its samples.
        mask: (s, s) uint8 class at each pixel's centre.
        normals: (s, s, 3) normals at the pixel centres.
    """

    light: np.ndarray
    mask: np.ndarray
    normals: np.ndarray


def render(model: HeadModel, head: HeadParameters, size: int = 64, maps: bool = False) -> Render:
    """Render an image of a head.

    Args:
        model: from `load_head_model`.
        head: from `sample_head`.
        size: side of the image in pixels.
        maps: also render mask and normals.

    Raises:
        LatentrotError: the size is out of range.
    """
    if not SMALLEST <= size <= LARGEST:
        raise LatentrotError(f"size {size}: expected {SMALLEST} to {LARGEST} pixels a side")
    posed = scene(model, head)
    cut_from = model.head_faces
    faces = model.faces if not head.hair.bald else model.faces[:cut_from]
    # camera visibility
    points = _seen(posed, camera(model, head), size * SAMPLES)
    depth, seen = _empty(size * SAMPLES)
    rasterise(points, faces, posed.cut, cut_from, depth, seen)
    # light visibility
    direction = _direction(head.light.azimuth_deg, head.light.elevation_deg)
    lit = _along(posed.points, light_axes(direction), SHADOW_SIZE / SHADOW_CM)
    shadow, caster = _empty(SHADOW_SIZE)
    rasterise(lit, faces, posed.cut, cut_from, shadow, caster)
    # colours
    behind = _background(head.background, size, -1.0 if head.mirrored else 1.0)
    canvas = Canvas(np.zeros((size, size, 3), np.int64), np.zeros((size, size), np.uint8), np.zeros((size, size, 3)))
    surface = Surface(points, faces, model.mat, posed.normals, _attributes(model, head, posed), lit)
    _shade(seen, surface, Paints(shadow, _palette(head), _lights(head, direction)), behind, canvas)
    image = np.rint(255 * _to_srgb(canvas.light / (UNITS * SAMPLES**2))).astype(np.uint8)
    normals = np.rint(127.5 + 127.5 * canvas.normals).astype(np.uint8)
    return Render(image, canvas.mask if maps else None, normals if maps else None, landmarks(model, head))


def _empty(size: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full((size, size), -np.inf), np.full((size, size), NOTHING, np.int32)


def _seen(posed: Scene, view: View, samples: int) -> np.ndarray:
    """Points (v, 3) in samples from the image's centre, and their nearness."""
    scale = samples / (CROP_BOX[2] - CROP_BOX[0])
    nearness = 1 / (CAMERA_CM - posed.points[:, 2])
    column = (view.focal * posed.points[:, 0] * nearness + view.shift[0]) * scale
    row = (-view.focal * posed.points[:, 1] * nearness + view.shift[1]) * scale
    return np.stack([column, row, nearness], -1)


@kernel
def _along(points: np.ndarray, axes: np.ndarray, scale: float) -> np.ndarray:
    """Points (v, 3) in a light's axes, in samples of its map."""
    out = np.empty_like(points)
    for v in range(points.shape[0]):
        for k in range(3):
            out[v, k] = scale * (axes[k, 0] * points[v, 0] + axes[k, 1] * points[v, 1] + axes[k, 2] * points[v, 2])
    return out


def _direction(azimuth_deg: float, elevation_deg: float) -> np.ndarray:
    azimuth, elevation = np.radians(azimuth_deg), np.radians(elevation_deg)
    flat = np.cos(elevation)
    return np.array([flat * np.sin(azimuth), np.sin(elevation), flat * np.cos(azimuth)])


# --- colours --------------------------------------------------------------------------------------------------------


def _to_linear(rgb: object) -> np.ndarray:
    """SRGB 0 to 255 -> linear light 0 to 1."""
    value = np.asarray(rgb, np.float64) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def _to_srgb(light: np.ndarray) -> np.ndarray:
    """Linear light -> sRGB 0 to 1, with highlight roll-off."""
    rolled = np.where(light < 0.7, light, 0.7 + 0.3 * np.tanh((light - 0.7) / 0.3))
    return np.where(rolled <= 0.0031308, rolled * 12.92, 1.055 * np.maximum(rolled, 1e-9) ** (1 / 2.4) - 0.055)


#: rows of the palette
SKIN_ROW, LIP_ROW, HAIR_ROW, BROW_ROW, IRIS_ROW, CLOTH_ROW, NUMBERS_ROW = range(7)


def _palette(head: HeadParameters) -> np.ndarray:
    """(7, 3) linear colours; the last row contains brow half width, stubble and blush."""
    skin = _to_linear(head.skin)
    lip = skin * (1 - head.lips * np.array([0.30, 0.58, 0.50])) + head.lips * np.array([0.03, 0.0, 0.0])
    hair = _to_linear(head.hair.rgb)
    grey = _to_linear((120, 112, 106)) if head.hair.colour == "gray" else hair
    brow = skin + head.brow_dark * (np.minimum(grey, _to_linear((92, 66, 48))) * 0.7 - skin)
    numbers = np.array([head.brow_cm, head.stubble, head.blush])
    return np.stack([skin, lip, hair, brow, _to_linear(head.iris), _to_linear(head.cloth), numbers])


def _lights(head: HeadParameters, direction: np.ndarray) -> np.ndarray:
    """(4, 3): direction of the key light, its colour, ambient colour, (fill, gaze to the right, gaze up)."""
    light = head.light
    tint = np.array([1 + 0.08 * light.warmth, 1.0, 1 - 0.10 * light.warmth])
    fill = np.array([light.fill, *head.gaze])
    return np.stack([direction, light.strength * tint, light.ambient * (2 - tint), fill])


def _attributes(model: HeadModel, head: HeadParameters, posed: Scene) -> np.ndarray:
    """(v, 13) float32, for the head's vertices, then the hair's; `_paint_skin` defines the columns."""
    paint, count = model.paint, len(model.base)
    table = np.zeros((len(posed.points), 13), np.float32)
    table[:, 0] = posed.cut
    columns = (
        paint.lips,
        paint.brow,
        paint.lid,
        paint.iris[:, 0],
        paint.iris[:, 1],
        paint.red,
        paint.beard,
        paint.cloth,
    )
    table[:count, 1:9] = np.stack(columns, -1)
    table[:count, 9] = model.occlusion
    table[:count, 10:13] = paint.rest
    azimuth, elevation = hair_angles()
    table[count:, 10] = np.broadcast_to(azimuth, model.hair_at.shape).ravel()
    table[count:, 11] = np.broadcast_to(elevation[:, None], model.hair_at.shape).ravel()
    table[count:, 12] = head.hair.noise % 1009
    table[count:, 9] = 1.0
    return table


# --- the background -------------------------------------------------------------------------------------------------


def _background(background: Background, size: int, flip: float) -> np.ndarray:
    """The background behind a head: (size, size, 3) linear light."""
    at = (np.arange(size) + 0.5 - size / 2) / (size / 2)
    columns, rows = np.broadcast_arrays(flip * at[None, :], at[:, None])
    angle = np.radians(background.angle_deg)
    along = 0.5 + 0.35 * (np.cos(angle) * columns + np.sin(angle) * rows)
    blobs = sum(
        0.6**k * _noise(columns * background.scale * 2**k, rows * background.scale * 2**k, background.noise + k)
        for k in range(3)
    )
    mix = np.clip(along + background.amount * blobs, 0, 1)[..., None]
    first, second = _to_linear(background.first), _to_linear(background.second)
    return first + mix * (second - first)


def _noise(columns: np.ndarray, rows: np.ndarray, seed: int) -> np.ndarray:
    """Smooth noise, -1 to 1, cells of side 1."""
    values = np.random.default_rng(seed).uniform(-1, 1, (32, 32))
    i, j = np.floor(columns).astype(int), np.floor(rows).astype(int)
    u, v = columns - i, rows - j
    u, v = smoothstep(u, 0, 1), smoothstep(v, 0, 1)
    top = values[j % 32, i % 32] * (1 - u) + values[j % 32, (i + 1) % 32] * u
    bottom = values[(j + 1) % 32, i % 32] * (1 - u) + values[(j + 1) % 32, (i + 1) % 32] * u
    return top * (1 - v) + bottom * v


# --- a sample -------------------------------------------------------------------------------------------------------


_step = kernel(smoothstep)


@kernel
def _lattice(i: int, j: int, k: int) -> float:
    """Hash of a lattice point to a number from -1 to 1."""
    h = np.uint32((i * 73856093) ^ (j * 19349663) ^ (k * 83492791))
    h = np.uint32((h ^ (h >> np.uint32(13))) * np.uint32(1274126177))
    h = np.uint32(h ^ (h >> np.uint32(16)))
    return (h & np.uint32(0xFFFF)) / 32767.5 - 1.0


@kernel
def _noise3(x: float, y: float, z: float) -> float:
    """Smooth 3-D noise, -1 to 1, cells of side 1."""
    i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
    u, v, w = x - i, y - j, z - k
    u, v, w = _step(u, 0.0, 1.0), _step(v, 0.0, 1.0), _step(w, 0.0, 1.0)
    total = 0.0
    for a in range(2):
        for b in range(2):
            for c in range(2):
                weight = (u if a else 1 - u) * (v if b else 1 - v) * (w if c else 1 - w)
                total += weight * _lattice(i + a, j + b, k + c)
    return total


@kernel
def _blend(colour: np.ndarray, other: np.ndarray, amount: float) -> None:
    for k in range(3):
        colour[k] += amount * (other[k] - colour[k])


@kernel
def _paint_skin(at: np.ndarray, palette: np.ndarray, colour: np.ndarray) -> bool:
    """Set the albedo of painted skin; returns True for hair on the scalp."""
    skin = palette[SKIN_ROW]
    brow_cm, stubble, blush = palette[NUMBERS_ROW]
    grain = (
        1
        + 0.05 * _noise3(at[10] * 0.9, at[11] * 0.9, at[12] * 0.9)
        + 0.04 * _noise3(at[10] * 3, at[11] * 3, at[12] * 3)
    )
    red = at[6] * (0.25 + 0.5 * blush)
    colour[0] = skin[0] * grain * (1 + 0.05 * red)
    colour[1] = skin[1] * grain * (1 - 0.34 * red)
    colour[2] = skin[2] * grain * (1 - 0.30 * red)
    beard = stubble * at[7] * (0.85 + 0.3 * _noise3(at[10] * 7, at[11] * 7, at[12] * 7))
    for k in range(3):
        colour[k] += max(0.0, beard) * (palette[HAIR_ROW, k] * 0.6 + 0.25 * skin[k] - colour[k])
    _blend(colour, palette[LIP_ROW], _step(at[1], -0.08, 0.12) * (1 - 0.25 * _noise3(at[10] * 6, at[11] * 1.5, 0.0)))
    hairs = brow_cm * (1 + 0.35 * _noise3(at[10] * 5 + at[11] * 3, at[11] * 5, 3.0))
    _blend(colour, palette[BROW_ROW], 0.92 * _step(at[2], -hairs - 0.12, -hairs + 0.16))
    lash = 0.72 * _step(at[3], -0.17, -0.02)
    for k in range(3):
        colour[k] *= 1 - lash * (0.85 + 0.05 * k)
    _blend(colour, palette[CLOTH_ROW], _step(at[8], -0.05, 0.05))
    scalp = _step(at[0], -2.0, 1.5)
    for k in range(3):
        colour[k] += scalp * (0.7 * palette[HAIR_ROW, k] - colour[k])
    return scalp > 0.5


@kernel
def _paint_eye(at: np.ndarray, palette: np.ndarray, gaze_x: float, gaze_y: float, colour: np.ndarray) -> None:
    x, y = at[4] - gaze_x, at[5] - gaze_y
    radius = np.sqrt(x * x + y * y)
    white = (0.66, 0.60, 0.56)
    iris = _step(-radius, -0.66, -0.58)
    pupil = _step(-radius, -0.27, -0.21)
    rim = 0.45 + 0.55 * _step(-radius, -0.64, -0.46)
    for k in range(3):
        colour[k] = white[k] + iris * (palette[IRIS_ROW, k] * rim - white[k])
        colour[k] *= 1 - 0.97 * pupil


@kernel
def _paint_hair(at: np.ndarray, palette: np.ndarray, colour: np.ndarray) -> None:
    azimuth, along, seed = at[10], at[11], at[12]
    # strands run down the head: fine noise across, coarse noise along them; no noise at the crown, where all azimuths meet
    calm = _step(86.0 - along, 0.0, 25.0)
    strand = 0.55 * _noise3(azimuth * 0.55, along * 0.035, seed) + 0.45 * _noise3(azimuth * 1.4, along * 0.06, seed + 7)
    tone = 1 + calm * 0.5 * strand
    for k in range(3):
        colour[k] = palette[HAIR_ROW, k] * max(0.25, tone)


@kernel
def _lit(nearest, depth) -> float:  # noqa: ANN001  (numba: numbers)
    """1 if nothing is nearer to the light than a point, else 0."""
    return 1.0 if nearest <= depth else 0.0


@kernel
def _lookup(shadow: np.ndarray, u: float, v: float, depth: float) -> float:
    """Share of light at (u, v) samples from the centre of the map, bilinear between four neighbours; symmetric in u."""
    half = shadow.shape[0] // 2
    right = u >= 0
    a = abs(u) - 0.5
    i = int(np.floor(a))
    j = int(np.floor(v - 0.5))
    p, q = a - i, v - 0.5 - j
    if i + 1 >= half or j + half < 0 or j + half + 1 >= 2 * half:
        return 1.0
    near, far = (half + i, half + i + 1) if right else (half - 1 - i, half - 2 - i)
    top, bottom = half + j, half + j + 1
    upper = (1 - p) * _lit(shadow[top, near], depth) + p * _lit(shadow[top, far], depth)
    lower = (1 - p) * _lit(shadow[bottom, near], depth) + p * _lit(shadow[bottom, far], depth)
    return (1 - q) * upper + q * lower


@kernel
def _visible(shadow: np.ndarray, u: float, v: float, depth: float) -> float:
    """Share of the key light that reaches a point, from nine samples of the shadow map for a soft shadow."""
    apart = 2.0
    total = 0.0
    for row in range(-1, 2):
        w = v + row * apart
        sides = _lookup(shadow, u - apart, w, depth) + _lookup(shadow, u + apart, w, depth)
        total += sides + _lookup(shadow, u, w, depth)
    return total / 9


@kernel
def _shade(seen: np.ndarray, surface: Surface, paints: Paints, behind: np.ndarray, canvas: Canvas) -> None:
    """Shade every sample and add the samples of each pixel.

    Args:
        seen: (samples, samples) visible triangle of each sample, or NOTHING.
        surface: the triangles.
        paints: colours and lights.
        behind: (s, s, 3) linear light of the background.
        canvas: output.
    """
    points, attributes, vertex_normals, lit = surface.points, surface.attributes, surface.normals, surface.lit
    light, normals = canvas.light, canvas.normals
    height, width = seen.shape
    half_w, half_h = width / 2, height / 2
    at = np.empty(attributes.shape[1])
    normal, place, colour, out = np.empty(3), np.empty(3), np.empty(3), np.empty(3)
    for j in range(height):
        for i in range(width):
            row, column = j // SAMPLES, i // SAMPLES
            t = int(seen[j, i])
            if t == NOTHING:
                for k in range(3):
                    light[row, column, k] += int(UNITS * behind[row, column, k] + 0.5)
                continue
            a, b, c = surface.faces[t]
            px, py = i + 0.5 - half_w, j + 0.5 - half_h
            area = edge(points[a, 0], points[a, 1], points[b, 0], points[b, 1], points[c, 0], points[c, 1])
            wa = edge(points[b, 0], points[b, 1], points[c, 0], points[c, 1], px, py) / area
            wb = edge(points[c, 0], points[c, 1], points[a, 0], points[a, 1], px, py) / area
            wc = edge(points[a, 0], points[a, 1], points[b, 0], points[b, 1], px, py) / area
            for k in range(at.shape[0]):
                at[k] = wa * attributes[a, k] + wb * attributes[b, k] + wc * attributes[c, k]
            for k in range(3):
                normal[k] = wa * vertex_normals[a, k] + wb * vertex_normals[b, k] + wc * vertex_normals[c, k]
                place[k] = wa * lit[a, k] + wb * lit[b, k] + wc * lit[c, k]
            length = np.sqrt(normal[0] * normal[0] + normal[1] * normal[1] + normal[2] * normal[2]) + 1e-12
            turned = -1.0 if surface.materials[t] == HAIR and normal[2] < 0 else 1.0
            for k in range(3):
                normal[k] *= turned / length
            is_hair = _shade_sample(surface.materials[t], at, normal, place, paints, colour, out)
            for k in range(3):
                light[row, column, k] += int(UNITS * min(4.0, max(0.0, out[k])) + 0.5)
            if i % SAMPLES == SAMPLES // 2 and j % SAMPLES == SAMPLES // 2:
                canvas.mask[row, column] = HAIR_CLASS if is_hair else FACE_CLASS
                for k in range(3):
                    normals[row, column, k] = normal[k]


@kernel
def _shade_sample(
    kind: int,
    at: np.ndarray,
    normal: np.ndarray,
    place: np.ndarray,
    paints: Paints,
    colour: np.ndarray,
    out: np.ndarray,
) -> bool:
    """Write the light from one sample towards the camera to `out` (3,); returns True for hair."""
    palette, lights = paints.palette, paints.lights
    is_hair = kind == HAIR
    shine, gloss, open_ = 0.045, 14.0, at[9]
    soft_r, soft_g, soft_b = 0.0, 0.0, 0.0
    if kind == SKIN:
        is_hair = _paint_skin(at, palette, colour)
        soft_r, soft_g, soft_b = 0.30, 0.14, 0.10  # subsurface scattering, strongest in red
        shine = 0.045 + 0.06 * _step(at[1], -0.05, 0.1)
    elif kind == EYE:
        _paint_eye(at, palette, lights[3, 1], lights[3, 2], colour)
        shine, gloss, open_ = 0.9, 180.0, 0.75
    elif kind == HAIR:
        _paint_hair(at, palette, colour)
        shine, gloss = 0.05, 9.0
        soft_r, soft_g, soft_b = 0.2, 0.2, 0.2
    elif kind == TEETH:
        colour[0], colour[1], colour[2] = 0.62, 0.56, 0.46
        shine, gloss = 0.25, 60.0
        open_ = 0.15 + 0.85 * open_
    else:
        colour[0], colour[1], colour[2] = 0.22, 0.06, 0.055
        open_ = 0.5 * open_
    facing = normal[0] * lights[0, 0] + normal[1] * lights[0, 1] + normal[2] * lights[0, 2]
    arrives = _visible(paints.shadow, place[0], place[1], place[2] + 2.0 + 2.5 * (1 - max(0.0, facing)))
    around = open_ * (0.75 + 0.25 * normal[1])
    fill = lights[3, 0] * max(0.0, normal[2]) * open_
    # Blinn-Phong with the viewer at infinity on the z axis
    hx, hy, hz = lights[0, 0], lights[0, 1], lights[0, 2] + 1.0
    glint = max(0.0, normal[0] * hx + normal[1] * hy + normal[2] * hz) / np.sqrt(hx * hx + hy * hy + hz * hz)
    glint = shine * glint**gloss * arrives * _step(facing, 0.0, 0.2)
    for k in range(3):
        soft = soft_r if k == 0 else (soft_g if k == 1 else soft_b)
        direct = max(0.0, (facing + soft) / (1 + soft)) * (arrives + soft * 0.25 * (1 - arrives))
        out[k] = colour[k] * (lights[1, k] * direct + lights[2, k] * around + fill) + lights[1, k] * glint
    return is_hair
