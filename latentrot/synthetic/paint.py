"""Paint maps of the face model (lips, brows, irises, cheeks, beard, ears), and extent and volume of the hair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from matplotlib.path import Path as Polygon
from scipy.interpolate import splev, splprep
from scipy.spatial import cKDTree

from latentrot.numerics import smoothstep
from latentrot.synthetic.sample import Hair

__all__ = ["EYE", "HAIR", "INNER", "SKIN", "TEETH", "Paint", "hair_cut", "hair_volume", "paint_model"]

SKIN, INNER, TEETH, EYE, HAIR = range(5)
#: vertices of outlines: outer rim of the lips, the two brows (from the outer to the inner end), the lids
LIPS = [5708, 5695, 2081, 0, 4275, 6200, 6213, 6346, 6461, 5518, 5957, 5841]
BROWS = ([268, 493, 1914, 2044, 1401], [2509, 2734, 4114, 4240, 3615])
LIDS = ([1507, 1542, 1537, 1528, 1518, 1511], [3742, 3751, 3756, 3721, 3725, 3732])
COLLAR_CM = -13.5


@dataclass(frozen=True, eq=False)
class Paint:
    """Paint maps: one value per vertex of the head; distances are signed, in cm on the mean face, and > 0 inside.

    Args:
        lips: distance inside the rim of the lips.
        brow: negative distance from the middle line of a brow, scaled so that a brow has constant width.
        lid: negative distance from the rims of the lids.
        iris: (n, 2) position on the eyeball relative to its front pole, in cm; a large value outside the eyeballs.
        red: redness of cheeks, nose and ears, 0 to 1.
        beard: density of the beard, 0 to 1.
        cloth: distance below the collar.
        ear: 1 on the ears, else 0.
        azimuth: azimuth from the middle of the head, degrees, 0 at the front.
        elevation: elevation from the middle of the head, degrees.
        rest: (n, 3) positions on the mean face, cm.
    """

    lips: np.ndarray
    brow: np.ndarray
    lid: np.ndarray
    iris: np.ndarray
    red: np.ndarray
    beard: np.ndarray
    cloth: np.ndarray
    ear: np.ndarray
    azimuth: np.ndarray
    elevation: np.ndarray
    rest: np.ndarray


def paint_model(base: np.ndarray, faces: np.ndarray, mat: np.ndarray, middle: np.ndarray) -> Paint:
    """Compute all maps on the mean face (n, 3)."""
    rest = base.astype(np.float64)
    offset = rest - middle
    ear = _is_ear(rest)
    return Paint(
        lips=_lips(rest),
        brow=_brow(rest),
        lid=_lid(rest),
        iris=_iris(rest, np.unique(faces[mat == EYE])),
        red=_red(rest, ear),
        beard=_beard(rest),
        cloth=COLLAR_CM - rest[:, 1],
        ear=ear.astype(np.float64),
        azimuth=np.degrees(np.arctan2(offset[:, 0], offset[:, 2])),
        elevation=np.degrees(np.arctan2(offset[:, 1], np.hypot(offset[:, 0], offset[:, 2]))),
        rest=rest,
    )


def _curve(points: np.ndarray, closed: bool) -> np.ndarray:
    """A smooth curve through (k, d) points, sampled at 200 points: (200, d)."""
    points = np.concatenate([points, points[:1]]) if closed else points
    spline, _ = splprep(points.T, s=0, per=closed, k=3 if len(points) > 3 else 2)
    return np.stack(splev(np.linspace(0, 1, 200), cast("Any", spline)), -1)  # the stubs accept tuples only


def _lips(rest: np.ndarray) -> np.ndarray:
    outline = _curve(rest[LIPS, :2], True)
    distance = cKDTree(outline).query(rest[:, :2])[0]
    inside = Polygon(outline).contains_points(rest[:, :2]) & (rest[:, 2] > 7)
    return np.where(inside, distance, -distance - np.maximum(0, 8.5 - rest[:, 2]))


def _brow(rest: np.ndarray) -> np.ndarray:
    best = np.full(len(rest), 99.0)
    for line in BROWS:
        curve = _curve(rest[line], False)
        curve[:, 1] += 0.12
        distance, at = cKDTree(curve).query(rest)
        along = at / (len(curve) - 1)  # 0 at the outer end
        best = np.minimum(best, distance / (0.35 + 0.65 * smoothstep(along, 0, 0.7)))
    return -best


def _lid(rest: np.ndarray) -> np.ndarray:
    curves = np.concatenate([_curve(rest[line], True) for line in LIDS])
    return -np.asarray(cKDTree(curves).query(rest)[0])


def _iris(rest: np.ndarray, eyes: np.ndarray) -> np.ndarray:
    iris = np.full((len(rest), 2), 9.0)
    for side in (-1, 1):
        ball = eyes[side * rest[eyes, 0] > 0]
        centre = (rest[ball].max(0) + rest[ball].min(0)) / 2
        near = rest[ball, 2] > centre[2]
        iris[ball[near]] = (rest[ball] - centre)[near][:, :2]
    return iris


def _is_ear(rest: np.ndarray) -> np.ndarray:
    x, y, z = np.abs(rest[:, 0]), rest[:, 1], rest[:, 2]
    return (x > 7.35) & (y > -2) & (y < 6.3) & (z > -4) & (z < 2.6)


def _red(rest: np.ndarray, ear: np.ndarray) -> np.ndarray:
    x, y, z = np.abs(rest[:, 0]), rest[:, 1], rest[:, 2]
    cheek = np.exp(-(((x - 4.6) / 1.9) ** 2 + ((y - 0.3) / 1.6) ** 2)) * (z > 2)
    nose = np.exp(-((x / 1.2) ** 2 + ((y - 0.3) / 1.0) ** 2 + ((z - 12.8) / 1.3) ** 2))
    return np.clip(cheek + 0.8 * nose + 0.5 * ear, 0, 1)


def _beard(rest: np.ndarray) -> np.ndarray:
    x, y, z = np.abs(rest[:, 0]), rest[:, 1], rest[:, 2]
    chin = smoothstep(-y, 2.2 - 0.0, 4.2) * smoothstep(z, 1.0, 4.0) * smoothstep(y, -11, -8)
    moustache = np.exp(-((x / 2.2) ** 2 + ((y + 1.75) / 0.6) ** 2)) * (z > 9)
    sides = smoothstep(x, 5.2, 6.6) * smoothstep(-y, -1.5, 1.5) * smoothstep(z, 1.2, 3.2) * smoothstep(y, -9, -6)
    return np.clip(np.maximum(chin, np.maximum(moustache, sides)), 0, 1)


# --- hair -----------------------------------------------------------------------------------------------------------

#: azimuth -> lowest elevation of short hair in degrees: forehead (0: see Hair.hairline_deg), temples, sideburns, above the
#: ears, nape
SHORT_AZIMUTH = np.array([0, 22, 40, 54, 62, 69, 74, 80, 106, 114, 128, 145, 180], float)
SHORT_ELEVATION = np.array([0, 0, -1, -7, -20, -46, -46, -24, -22, -46, -60, -70, -74], float)


def _lattice(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, count)


def _wave(seed: int, at: np.ndarray, per_degree: float) -> np.ndarray:
    """Smooth noise, -1 to 1, as a function of an angle in degrees."""
    values = _lattice(seed, 64)
    place = (at + 200) * per_degree
    cell = np.floor(place).astype(int)
    part = place - cell
    part = smoothstep(part, 0, 1)
    return values[cell % 64] * (1 - part) + values[(cell + 1) % 64] * part


def hair_cut(hair: Hair, azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
    """Signed angular distance of a direction inside the hairline, degrees, seen from the middle of the head; < 0: no hair.

    Args:
        hair: the hair.
        azimuth: degrees, 0 at the front; broadcast against `elevation`.
        elevation: degrees; values below 0 are positions along hanging hair.
    """
    if hair.bald:
        return np.full(np.broadcast_shapes(np.shape(azimuth), np.shape(elevation)), -90.0)
    side = np.abs(azimuth)
    lowest = hair.hairline_deg + np.interp(side, SHORT_AZIMUTH, SHORT_ELEVATION)
    if hair.length > 0:
        bottom = -8 - 62 * hair.length
        behind = np.clip((side - hair.temples_deg) / 8, 0, 1)
        lowest = np.minimum(lowest, lowest + behind * (bottom - lowest))
    lowest = lowest - hair.fringe_deg * np.clip((58 - side) / 8, 0, 1)
    lowest = lowest + 1.8 * _wave(hair.noise, azimuth, 0.12) + 0.8 * _wave(hair.noise + 1, azimuth, 0.45)
    return elevation - lowest


def hair_volume(hair: Hair, azimuth: np.ndarray, elevation: np.ndarray, cut: np.ndarray) -> np.ndarray:
    """Distance of the hair from the scalp in cm; arguments as for `hair_cut`, and its result as `cut`."""
    rim = 0.03 + 0.97 * smoothstep(cut, -6, 34 if hair.length == 0 else 20)
    top = 0.55 + 0.45 * smoothstep(elevation, 0, 60)
    parting = 1 - 0.35 * np.exp(-(((azimuth - hair.parting) / 9) ** 2)) * smoothstep(elevation, 10, 40) * (
        hair.curl < 0.5
    )
    waves = _wave(hair.noise + 2, azimuth, 0.06) + 0.3 * _wave(
        hair.noise + 3, azimuth + 40 * np.sin(elevation / 25), 0.14
    )
    curls = hair.curl * 0.5 * _wave(hair.noise + 4, azimuth + 3 * elevation, 0.12) * smoothstep(cut, 0, 12)
    # all azimuths meet at the crown, so the volume must not depend on the azimuth there
    calm = smoothstep(90 - elevation, 0, 35)
    return hair.volume_cm * rim * (top * (1 + calm * (parting - 1)) * (1 + 0.22 * calm * waves) + calm * curls)
