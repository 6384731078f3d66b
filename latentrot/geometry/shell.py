"""Hair as a shell around the whole head: a surface over azimuth and elevation, its extent, and its texture.

The shell starts on the skull and is scaled until its silhouette is that of the head in the photograph. Where the photograph
does not show how far the hair extends, the mirrored side does; where neither does, the hair continues backwards at the height
at which it was last visible, above a typical hairline.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

from latentrot.faces.parts import ACCESSORIES, BACKGROUND, HAIR
from latentrot.geometry.draw import draw
from latentrot.geometry.fields import (
    blur,
    eroded,
    extrapolated,
    mirrored_detail,
    ramp,
    sample_at,
    values_at,
)
from latentrot.geometry.head import Head
from latentrot.geometry.shading import unit
from latentrot.synthetic.raster import vertex_normals

__all__ = ["Shell", "fit_shell"]

#: vertices of the shell: columns over azimuth, rows over elevation; texels per vertex
COLUMNS, ROWS, TEXELS = 121, 52, 6
#: directions in the image in which the silhouettes of shell and head are compared, and iterations
DIRECTIONS, ROUNDS = 180, 5
#: lowest elevation (degrees) of short hair over azimuth (degrees; 0: forehead, 90: ear, 180: nape)
SHORT = np.array(
    [[0, 26], [40, 25], [54, 19], [62, 6], [80, 2], [106, 4], [114, -20], [128, -40], [145, -45], [180, -57]]
)
#: lowest elevation of long hair; the elevation from which it hangs; its length in W per degree below
LONG_DEG, HANG_DEG, HANG = -62.0, -8.0, 0.0177
#: distance (degrees) from its edge over which hair thickens, and its thickness at the edge relative to that inside
TAPER_DEG, TAPER = 22.0, 0.25
#: irregularity of the synthesized edge of the hair
EDGE_NOISE = 0.12
#: share of the typical colour in synthesized hair far from the visible hair; distances (texels) over which it takes over
TONE, TONE_FAR = 0.75, (12, 72)
#: elevations (degrees) between which the crown begins, and shares of hair on its visible part between which it has hair
CROWN, COVERED = (30.0, 45.0), (0.3, 0.6)
#: azimuth (degrees) of the middle of the crown, and height (degrees) of its highest visible part
MIDDLE, TOP_DEG = 30.0, 30.0
#: distances (W) from the silhouette of a seam that may be a parsing error, and of the skin or hair below it
SEAM, BELOW_SEAM = (0.012, 0.045), (0.07, 0.14)
#: distances of their colours, in grey values, between which the seam becomes hair
APART = (40.0, 60.0)
#: azimuths (degrees) between which a head with hair has some down to the typical hairline, whatever the parser says
SIDES = (62.0, 80.0)
#: azimuth (degrees) from which hair may hang beside the neck without hair above it
NAPE_DEG = 125.0
#: presence of hair below which a triangle of the shell is not drawn
ALPHA_MIN = 0.2
#: degrees of elevation over which the colour of a hat gives way to that of the hair below it
BRIM_DEG = 6.0
#: lengths, in vertices, over which synthesized hair detail is smoothed along and across the strands
COMBED = (2.5, 0.2)
#: shade of the back of the head
BACK_SHADE = 0.12


@dataclass(frozen=True, eq=False)
class Shell:
    """The hair around a head, or the bare scalp.

    Args:
        points: (ROWS, COLUMNS, 3) in the region, z over the rim.
        normals: (ROWS, COLUMNS, 3) unit, outward.
        alpha: (h, w) float32 presence of hair, TEXELS per vertex.
        known: (h, w) float32, 1 where the photograph shows the texel.
        colours: (h, w, 3) float32 synthesized colours.
        hairy: False for a bare scalp, whose shape the shell gives, but which is drawn as skin.
        long: 0 to 1.
    """

    points: np.ndarray
    normals: np.ndarray
    alpha: np.ndarray
    known: np.ndarray
    colours: np.ndarray
    hairy: bool
    long: float

    @cached_property
    def faces(self) -> np.ndarray:
        """(t, 3) int32 triangles with hair: a transparent one would hide the hair behind it."""
        if not self.hairy:
            return shell_faces()[:0]
        size = self.points.shape[1::-1]
        most = cv2.resize(
            cv2.dilate(self.alpha, np.ones((TEXELS, TEXELS), np.uint8)), size, interpolation=cv2.INTER_AREA
        )
        return shell_faces()[(most.ravel()[shell_faces()] > ALPHA_MIN).any(1)]


def angles() -> tuple[np.ndarray, np.ndarray]:
    """Azimuth (COLUMNS,) and elevation (ROWS,) of the shell's vertices in degrees; azimuth 0: front, > 0: x > 0."""
    return np.linspace(-180, 180, COLUMNS), np.linspace(90, -80, ROWS)


def directions() -> np.ndarray:
    """(ROWS, COLUMNS, 3) unit vectors from the middle of the head, in its axes (y downwards)."""
    azimuth, elevation = (np.radians(a) for a in angles())
    flat = np.cos(elevation)[:, None]
    down = np.broadcast_to(-np.sin(elevation)[:, None], (ROWS, COLUMNS))
    return np.stack([flat * np.sin(azimuth), down, flat * np.cos(azimuth)], -1)


def typical_hair(azimuth: np.ndarray, elevation: np.ndarray, long: float = 0.0) -> np.ndarray:
    """Presence of hair, 0 to 1, above a typical hairline at angles (...) in degrees; `long`: 0 to 1."""
    side = np.abs(azimuth)
    lowest = np.interp(side, SHORT[:, 0], SHORT[:, 1])
    lowest += long * np.clip((side - 75) / 15, 0, 1) * (np.minimum(LONG_DEG, lowest) - lowest)
    return np.clip((elevation - lowest) / 6 + 0.5, 0, 1)


@lru_cache(maxsize=1)
def shell_faces() -> np.ndarray:
    """(t, 3) int32 triangles of the shell, clockwise in image coordinates when seen from outside."""
    at = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    a, b, c, d = at[:-1, :-1], at[1:, :-1], at[1:, 1:], at[:-1, 1:]
    return np.stack([np.stack([c, b, a], -1), np.stack([d, c, a], -1)], 2).reshape(-1, 3).astype(np.int32)


@lru_cache(maxsize=1)
def grid_places() -> np.ndarray:
    """(ROWS * COLUMNS, 2) column and row of the vertices."""
    column, row = np.meshgrid(np.arange(COLUMNS), np.arange(ROWS))
    return np.stack([column.ravel(), row.ravel()], 1).astype(np.float32)


def texels_at(texture: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Values of a texture at (..., 2) columns and rows of vertices."""
    return sample_at(texture, (places + 0.5) * TEXELS)


def opaque_hair(shell: Shell) -> np.ndarray:
    """(t, 3) triangles of a shell whose corners are all opaque."""
    thick = texels_at(shell.alpha, grid_places()[None])[0] > 0.5
    return shell.faces[thick[shell.faces].all(1)]


def enlarged(values: np.ndarray) -> np.ndarray:
    """Values (ROWS, COLUMNS, ...) at the vertices -> at the texels."""
    size = COLUMNS * TEXELS, ROWS * TEXELS
    return cv2.resize(np.ascontiguousarray(values, np.float32), size, interpolation=cv2.INTER_LINEAR)


def fit_shell(head: Head, skull: np.ndarray, centre: np.ndarray, axes: np.ndarray) -> Shell:
    """Fit the shell to the hair of a photograph.

    Args:
        head: its region, masks and colours.
        skull: (v, 3) vertices of skull and face in the region, without ears and neck.
        centre: (3,) middle of the head in the region.
        axes: (3, 3) rotation from the head's axes to the region's.
    """
    out = directions() @ axes.T
    out[..., 2] *= head.config.depth_scale
    out = unit(out)
    under = radii_of(skull - centre, out)
    hairy, long = head.hair_kind
    hair = soft_hair(head)
    radii = fit_silhouette(head, hair, centre, out, under)

    def extent_of(radii: np.ndarray) -> Extent:
        return Extent(head, hair, hang(head, centre + radii[..., None] * out, centre, axes, long), centre, hairy, long)

    alpha = cv2.resize(extent_of(radii).alpha(), (COLUMNS, ROWS), interpolation=cv2.INTER_AREA)
    extent = extent_of(tapered(radii, under, alpha, long, head.region.width))
    known, colours = extent.texture()
    return Shell(extent.points, extent.normals, extent.alpha(), known, colours, hairy, long)


def radii_of(offsets: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Distance (r, c) of a surface, given by offsets (n, 3) of its vertices, in directions (r, c, 3)."""
    near = nearest_directions(offsets, out.reshape(-1, 3), 4)
    return gaussian_filter(
        np.linalg.norm(offsets, axis=1)[near].mean(1).reshape(out.shape[:2]), 1.5, mode=("nearest", "wrap")
    )


def nearest_directions(offsets: np.ndarray, out: np.ndarray, count: int) -> np.ndarray:
    """(m, count) numbers of the vertices, given by offsets (n, 3), that lie nearest to directions (m, 3) of any length."""
    from scipy.spatial import cKDTree  # noqa: PLC0415  slow to import

    return np.asarray(cKDTree(unit(offsets)).query(unit(out), k=count)[1])


def soft_hair(head: Head) -> np.ndarray:
    """(h, w) share of hair, hat or glasses in what is not background."""
    hair = head.parts[HAIR] + head.parts[ACCESSORIES]
    return blur(hair / np.maximum(1 - head.parts[BACKGROUND], 0.05), 0.01 * head.region.width)


def fit_silhouette(head: Head, hair: np.ndarray, centre: np.ndarray, out: np.ndarray, skull: np.ndarray) -> np.ndarray:
    """Scale the radii (r, c) of the skull until the shell's silhouette is that of the head's mask, with `soft_hair`."""
    width, outline = head.region.width, head.outline
    angle = (np.arange(DIRECTIONS) + 0.5) / DIRECTIONS * 2 * np.pi - np.pi
    ray = np.stack([np.cos(angle), np.sin(angle)], -1)
    steps = np.arange(0, 1.6 * width, 1.0)
    inside = values_at(outline.to_rest, centre[:2] + steps[None, :, None] * ray[:, None]) > 0
    last = np.where(inside.any(1), len(steps) - 1 - inside[:, ::-1].argmax(1), 0).astype(float)
    inner = centre[:2] + np.maximum(last - 0.05 * width, 0)[:, None] * ray
    within = values_at(head.region.in_photograph.astype(np.float32), centre[:2] + (last + 2)[:, None] * ray) > 0.5
    hair_edge = (values_at(hair, inner) > 0.45) & (ray[:, 1] < 0.75)
    known = np.flatnonzero(((ray[:, 1] < -0.3) | hair_edge) & within)
    if not len(known):
        return skull
    far = np.abs(np.arange(DIRECTIONS)[:, None] - known)
    trust = np.clip(1 - np.minimum(far, DIRECTIONS - far).min(1) / 25, 0, 1)
    sideways = out[..., 0] ** 2 + out[..., 1] ** 2
    scale, radii = np.ones(DIRECTIONS), skull
    for _ in range(ROUNDS):
        offset = radii[..., None] * out[..., :2]
        at = np.arctan2(offset[..., 1], offset[..., 0])
        silhouette = np.ones(DIRECTIONS)
        cells = ((at + np.pi) / (2 * np.pi) * DIRECTIONS).astype(int) % DIRECTIONS
        np.maximum.at(silhouette, cells.ravel(), np.hypot(offset[..., 0], offset[..., 1]).ravel())
        ratio = np.interp(np.arange(DIRECTIONS), known, (last / silhouette)[known], period=DIRECTIONS)
        ratio = np.clip(gaussian_filter(ratio, 1.5, mode="wrap"), 0.8, 1.5)
        scale = np.clip(scale * (1 + (ratio - 1) * trust), 0.8, 1.7)
        here = np.interp((at + np.pi) / (2 * np.pi) * DIRECTIONS - 0.5, np.arange(DIRECTIONS), scale, period=DIRECTIONS)
        top = np.clip(scale[ray[:, 1] < -0.5].mean(), 0.92, 1.3) - 1
        depth = np.where(out[..., 2] < 0, 0.9, 0.5) * top  # hair is as thick behind, and half as thick in front
        radii = skull * (1 + (here - 1) * sideways + depth * (1 - sideways))
    return gaussian_filter(radii, 1.0, mode=("nearest", "wrap"))


def tapered(radii: np.ndarray, skull: np.ndarray, alpha: np.ndarray, long: float, width: float) -> np.ndarray:
    """Lower the shell onto the head towards the edge of the hair, in front of the ears; everywhere for short hair."""
    padded = np.pad(alpha, ((0, 0), (20, 20)), mode="wrap") > 0.5
    away = cv2.distanceTransform(padded.astype(np.uint8), cv2.DIST_L2, 5)[:, 20:-20] * 3.0
    azimuth, _ = angles()
    front = np.maximum(np.clip((115 - np.abs(azimuth)) / 30, 0, 1), 1 - long)[None]
    share = 1 - front * (1 - ramp(away, 0, TAPER_DEG)) * (1 - TAPER)
    lying = skull + 0.015 * width
    return gaussian_filter(
        np.where(radii > lying, lying + (radii - lying) * share, radii), 0.7, mode=("nearest", "wrap")
    )


def hang(head: Head, points: np.ndarray, centre: np.ndarray, axes: np.ndarray, long: float) -> np.ndarray:
    """Let long hair hang down from the height of the ears, as wide as in the photograph."""
    if long < 0.3:
        return points
    width, hair = head.region.width, head.parts[HAIR] > 0.5
    _, elevation = angles()
    first = int(np.argmin(np.abs(elevation - HANG_DEG)))
    hanging = points.copy()
    length = HANG * width * (HANG_DEG - elevation[first:])
    hanging[first:] = points[first] + axes[:, 1] * length[:, None, None]
    for row in range(first, ROWS):
        y = int(np.clip(hanging[row, :, 1].mean(), 0, len(hair) - 1))
        columns = np.flatnonzero(hair[max(0, y - 2) : y + 3].any(0))
        if len(columns) < 3:
            continue
        x = hanging[row, :, 0] - centre[0]
        ease = min(1.0, (row - first) / 4)
        for side, edge in ((-1, centre[0] - columns[0]), (1, columns[-1] - centre[0])):
            if edge > 0.2 * width:
                factor = np.clip(edge / max(float((side * x).max()), 1.0), 0.75, 1.5)
                hanging[row, side * x > 0, 0] = centre[0] + (x * (1 + (factor - 1) * ease))[side * x > 0]
    hanging[first:, :, 0] = gaussian_filter(hanging[first:, :, 0], (1.5, 0.5), mode=("nearest", "wrap"))
    return hanging


class Extent:
    """What the photograph shows of a shell: extent of the hair, and texture.

    Args:
        head: its region, masks and colours.
        hair: (h, w) from `soft_hair`.
        points: (ROWS, COLUMNS, 3) the shell.
        centre: (3,) middle of the head.
        hairy: the head has hair.
        long: how long it is, 0 to 1.
    """

    def __init__(
        self, head: Head, hair: np.ndarray, points: np.ndarray, centre: np.ndarray, hairy: bool, long: float
    ) -> None:
        self.head, self.points, self.hairy, self.long = head, points, hairy, long
        flat = points.reshape(-1, 3)
        normals = vertex_normals(flat.copy(), shell_faces().astype(np.int64)).reshape(points.shape)
        normals[:, 0] = normals[:, -1] = normals[:, 0] + normals[:, -1]
        normals = unit(normals)
        self.normals = normals if (normals * (points - centre)).sum() > 0 else -normals
        azimuth, elevation = angles()
        self.azimuth = enlarged(np.broadcast_to(azimuth, (ROWS, COLUMNS)))
        self.elevation = enlarged(np.broadcast_to(elevation[:, None], (ROWS, COLUMNS)))
        self.at, self.facing = enlarged(points), enlarged(self.normals[..., 2])
        width = head.region.width
        front = draw(flat, shell_faces(), flat[:, 2:], np.ones(len(shell_faces())), head.region.size)[2]
        nearest = sample_at(front, self.at, cv2.INTER_NEAREST)
        inside = sample_at(head.outline.to_background, self.at)
        within = sample_at(head.region.in_photograph.astype(np.float32), self.at)
        uncovered = (self.at[..., 2] > nearest - 0.04 * width) * within
        self.seen = ramp(self.facing, 0.02, 0.12) * ramp(inside, 0.0, 0.02 * width) * uncovered
        self.clear = ramp(self.facing, 0.12, 0.35) * ramp(inside, 0.01 * width, 0.05 * width) * uncovered
        brows = head.landmarks[17:27, 1].mean()
        face = sample_at(blur(eroded(head.outline.face, 0.03 * width).astype(np.float32), 1.0), self.at)
        below = ramp(self.at[..., 1], brows - 0.05 * width, brows + 0.05 * width)  # brows and glasses are no hair
        self.hair = sample_at(hair, self.at) * (1 - face * below)
        self.inside = inside / width

    def alpha(self) -> np.ndarray:
        """(h, w) float32 presence of hair."""
        side = np.abs(self.azimuth)
        prior = typical_hair(self.azimuth, self.elevation, self.long)
        if not self.hairy:
            return prior.astype(np.float32)
        covered = 1 - (1 - self.crown()) * ramp(self.elevation, *CROWN)
        prior *= covered
        mirrored = (1 - self.seen) * self.seen[:, ::-1]
        rest = np.maximum(1 - self.seen - mirrored, 0)
        alpha = (
            self.seen * self.hair + mirrored * self.hair[:, ::-1] + rest * np.maximum(prior, covered * self.continued())
        )
        alpha = grown_down(np.maximum(alpha, prior * ramp(side, *SIDES)))
        if self.long > 0.3:
            alpha *= ramp(self.elevation, -74, -50)
        alpha = gaussian_filter(alpha, 1.2 * TEXELS, mode=("nearest", "wrap"))
        unseen = 1 - 0.85 * blur(self.seen, TEXELS)
        return (alpha + 4 * EDGE_NOISE * unseen * edge_noise(alpha.shape) * alpha * (1 - alpha)).astype(np.float32)

    def crown(self) -> float:
        """Whether hair covers the crown, 0 to 1: as it covers the highest visible part of its middle; 1 if none is visible.

        The parser finds a seam of hair along the silhouette of most bald heads: it counts if it differs from the skin below.
        """
        middle = np.abs(self.azimuth[0]) < MIDDLE
        seen, hair, inside, elevation = (a[:, middle] for a in (self.seen, self.hair, self.inside, self.elevation))
        highest = np.where(seen > 0.5, elevation, -90).max(0)
        top = (seen > 0.5) & (elevation > highest - TOP_DEG) & (highest > CROWN[0])
        seam, below = (top & (inside > low) & (inside < high) for low, high in (SEAM, BELOW_SEAM))
        if not (seam.any() and below.any()):
            return 1.0
        colours = sample_at(self.head.image, self.at[:, middle])
        apart = np.linalg.norm(np.median(colours[seam], 0) - np.median(colours[below], 0))
        share = max(hair[below].mean(), hair[seam].mean() * ramp(np.array(apart), *APART))
        return float(ramp(np.array(share), *COVERED))

    def continued(self) -> np.ndarray:
        """(h, w) hair continued backwards at the heights at which it was last visible on each side."""
        count = self.seen.shape[1]
        half, result = count // 2, np.zeros_like(self.seen)
        for columns in (np.arange(half, count), np.arange(half - 1, -1, -1)):
            seen, hair = self.seen[:, columns] > 0.5, self.hair[:, columns]
            last = len(columns) - 1 - seen[:, ::-1].argmax(1)
            near = seen & (np.arange(len(columns))[None] > last[:, None] - 5 * TEXELS)
            known = (seen.any(1) & (last > 8 * TEXELS)).astype(float)
            height = (hair * near).sum(1) / np.maximum(near.sum(1), 1) * known
            share = gaussian_filter(known, TEXELS)
            height = gaussian_filter(height, TEXELS) / np.maximum(share, 1e-3) * np.clip(3 * share, 0, 1)
            reach = np.clip((self.elevation[:, columns] + 58) / 10, 0, 1)  # not down the neck
            beyond = np.arange(len(columns))[None] > last[:, None]
            result[:, columns] = height[:, None] * reach * beyond
        return result

    def texture(self) -> tuple[np.ndarray, np.ndarray]:
        """(h, w) float32 texels that the photograph shows, and (h, w, 3) float32 synthesized colours."""
        head, width = self.head, self.head.region.width
        image = np.clip(sample_at(head.image, self.at, cv2.INTER_CUBIC), 0, 255)
        shown = ramp(self.hair, 0.45, 0.8)
        known = cv2.erode((self.clear * shown).astype(np.float32), np.ones((TEXELS + 1, TEXELS + 1), np.uint8))
        known = blur(known, 1.5)
        sure = known > 0.6
        hat = sample_at(head.outline.hat, self.at)
        if head.colours.hairy:
            sure &= (sample_at(head.colours.strand.astype(np.float32), self.at) > 0.5) | (hat > 0.5)
        around = image.shape[1] // 2

        def wrap(a: np.ndarray) -> np.ndarray:
            return np.concatenate([a[:, -around:], a, a[:, :around]], 1)

        if not (self.hairy and sure.any()):
            return known, np.broadcast_to(image.mean((0, 1)), image.shape).astype(np.float32)
        visible = np.dstack([image, hat])
        low = blur(extrapolated(wrap(visible), wrap(sure.astype(np.float32))), TEXELS)[:, around:-around]
        low, hat = low[..., :3], low[..., 3:]
        below = self._below_the_hat(sure)
        hat = hat * (1 - below[..., None])
        distance = cv2.distanceTransform((~wrap(sure)).astype(np.uint8), cv2.DIST_L2, 5)[:, around:-around]
        far = ramp(distance, *TONE_FAR)[..., None]
        typical = sample_at(head.colours.back_hair, self._inwards(below)) / head.config.back_shade
        share = np.maximum(TONE * head.colours.hairy * far * (1 - hat), below[..., None])
        low = low + share * (np.clip(typical, 0, 255) - low)
        shade = 1 - BACK_SHADE * ramp(np.abs(self.azimuth), 90, 150)[..., None]
        mirrored = mirrored_detail(wrap(image), wrap(sure), TEXELS, 40.0)[:, around:-around]
        detail = mirrored + far * ((1 - hat) * self._strands(width) - mirrored)
        return known, np.clip(low * shade + detail, 0, 255).astype(np.float32)

    def _below_the_hat(self, sure: np.ndarray) -> np.ndarray:
        """(h, w) 1 below the brim of a hat, if the texels `sure` (h, w) show one."""
        hat = sure & (sample_at(self.head.outline.hat, self.at) > 0.5)
        if not (self.head.wears_a_hat and hat.any()):
            return np.zeros_like(self.elevation)
        brim = float(np.percentile(self.elevation[hat], 5))
        return ramp(self.elevation, brim, brim - BRIM_DEG)

    def _inwards(self, below: np.ndarray) -> np.ndarray:
        """(h, w, 2) region positions at which the colour of the back is read.

        They are drawn in from the sides, and lie above the nape, but at the lobes where `below` (h, w) a hat.
        """
        x, y = self.at[..., 0], self.at[..., 1]
        middle, outline = float(self.points[..., 0].mean()), self.head.outline
        reach, lobe, width = 0.75 * np.abs(x - middle).max(), outline.lobe, self.head.region.width
        above = np.minimum(y, lobe - 0.45 * width)
        rows = above + below * (lobe - 0.1 * width - above)
        return np.stack([np.clip(x, middle - reach, middle + reach), rows], -1)

    def _strands(self, width: float) -> np.ndarray:
        """(h, w, 3) hair detail laid out by arc length and combed down from the crown, the same on both sides."""
        radius = float(np.median(np.linalg.norm(self.points - self.points.mean((0, 1)), axis=-1)))
        x, y = np.radians(np.abs(self.azimuth)) * radius, -np.radians(self.elevation) * radius + 2 * width
        strands = self.head.colours.strands
        height, count = strands.shape[:2]
        laid = sample_at(strands, np.stack([folded(x, count), folded(y, height)], -1).astype(np.float32))
        combed = gaussian_filter(laid, (COMBED[0] * TEXELS, COMBED[1] * TEXELS, 0), mode="nearest")
        return combed * (laid.std() / max(float(combed.std()), 1e-6))


def grown_down(alpha: np.ndarray) -> np.ndarray:
    """Remove hair (h, w) in front of the nape that does not hang from hair above it: it belongs behind the neck."""
    size = COLUMNS, ROWS
    grown = cv2.resize(alpha.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    azimuth, elevation = angles()
    behind = np.abs(azimuth) > NAPE_DEG
    for row in np.flatnonzero(elevation < CROWN[0]):  # beside a bald crown there is hair without hair above
        above = grown[row - 1] if row % 2 else cv2.dilate(grown[row - 1][None], np.ones((1, 3), np.uint8))[0]
        grown[row] = np.where(behind, grown[row], np.minimum(grown[row], above))
    return np.minimum(alpha, enlarged(cv2.dilate(grown, np.ones((3, 3), np.uint8))))


def folded(a: np.ndarray, length: int) -> np.ndarray:
    """Positions reflected into 0 .. length - 1."""
    return np.abs((a + length) % (2 * (length - 1)) - (length - 1))


@lru_cache(maxsize=1)
def edge_noise(shape: tuple[int, int]) -> np.ndarray:
    """(h, w) noise of unit variance for the edge of synthesized hair: locks that hang down, equal on both sides."""
    rng = np.random.default_rng(0)
    fine, broad = (gaussian_filter(rng.normal(size=shape), (2 * TEXELS, s * TEXELS)) for s in (0.22, 0.6))
    noise = fine + 1.4 * broad
    noise = noise + noise[:, ::-1]
    return noise / noise.std()
