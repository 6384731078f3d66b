"""The renderable head: visible part of the face model, hair, shape, pose and camera."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from latentrot.data.frame import CROP_BOX, MIRRORED_LANDMARKS
from latentrot.faces.alignment import LANDMARK_WEIGHTS, MEAN_LANDMARKS
from latentrot.kernels import kernel
from latentrot.synthetic.ict import IctModel, read_ict
from latentrot.synthetic.paint import EYE, HAIR, INNER, SKIN, TEETH, Paint, hair_cut, hair_volume, paint_model
from latentrot.synthetic.raster import NOTHING, rasterise, vertex_normals
from latentrot.synthetic.sample import HeadParameters

__all__ = [
    "ICT_PATH",
    "HeadModel",
    "Scene",
    "View",
    "camera",
    "landmarks",
    "light_axes",
    "load_head_model",
    "mouth_gap_cm",
    "scene",
]

#: default path of the converted face model
ICT_PATH = Path("../shared/data/ict/ict_face_model_light.npz")
#: number of leading vertices that form the head with neck and inside of the mouth, and the head without that inside
HEAD_VERTICES, OUTER_VERTICES = 13294, 11248
#: vertices around the viewer's left eye, right eye, nose tip and mouth corners
LANDMARKS = (
    (1507, 1542, 1537, 1528, 1518, 1511), (3742, 3751, 3756, 3721, 3725, 3732), (4857,), (5708,), (6213,)
)  # fmt: skip
#: vertices in the middle of the inner rims of the upper and the lower lip
INNER_LIPS = (5533, 5517)
#: distance of the camera from the middle of the head in cm, as for a portrait
CAMERA_CM = 130.0
#: middle of the head: origin of the hair's grid and centre of rotation
MIDDLE = np.array([0.0, 5.0, 0.5])
HAIR_COLUMNS, HAIR_ROWS = 121, 52
#: elevation in degrees below which long hair hangs down instead of following the head, and its length in cm per degree
HANG_DEG, HANG_CM = 0.0, 0.24


@dataclass(frozen=True, eq=False)
class HeadModel:
    """The renderable part of the face model and constants derived from it.

    Args:
        base: (n, 3) float32 the mean face in cm, visible vertices only.
        modes: (157, n, 3) float32 identity and expression modes.
        faces: (t, 3) int32 triangles of the head, then of the hair, whose vertices follow the head's.
        mat: (t,) int8 material of each triangle: SKIN, INNER, TEETH, EYE or HAIR.
        head_faces: number of triangles of the head.
        paint: paint maps of the head.
        hair_at: (r, c) int64 the vertex from which each point of the hair's grid grows.
        hair_rest: (r, c, 3) float64 the grid on the mean face.
        occlusion: (n,) float32 ambient visibility of each vertex, 0 to 1.
    """

    base: np.ndarray
    modes: np.ndarray
    faces: np.ndarray
    mat: np.ndarray
    head_faces: int
    paint: Paint
    hair_at: np.ndarray
    hair_rest: np.ndarray
    occlusion: np.ndarray


@dataclass(frozen=True, eq=False)
class Scene:
    """A posed head.

    Args:
        points: (v, 3) float64 positions in cm of the head's vertices, then the hair's; the camera looks along -z.
        normals: (v, 3) float64 outward unit normals.
        cut: (v,) float32, > 0 inside the hair.
    """

    points: np.ndarray
    normals: np.ndarray
    cut: np.ndarray


@dataclass(frozen=True)
class View:
    """A camera: frame position = centre + focal * (x, -y) / (CAMERA_CM - z) + shift.

    Args:
        focal: pixels of the 178x218 frame.
        shift: (2,) column and row in frame pixels from the crop's centre.
    """

    focal: float
    shift: tuple[float, float]


# --- the model ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def load_head_model(path: Path | str = ICT_PATH) -> HeadModel:
    """Load the face model and prepare it for rendering (some seconds); the last one is cached.

    Raises:
        LatentrotError: the file is missing, or the topology differs.
    """
    ict = read_ict(path)
    faces, mat, keep = _seen_faces(ict)
    base = np.ascontiguousarray(ict.base[keep])
    modes = np.ascontiguousarray(np.concatenate([ict.ids, ict.expr])[:, keep], np.float32)
    hair_at, hair_rest = _hair_grid(base)
    hair_faces = _grid_faces(len(base))
    return HeadModel(
        base=base,
        modes=modes,
        faces=np.concatenate([faces, hair_faces]),
        mat=np.concatenate([mat, np.full(len(hair_faces), HAIR, np.int8)]),
        head_faces=len(faces),
        paint=paint_model(base, faces, mat, MIDDLE),
        hair_at=hair_at,
        hair_rest=hair_rest,
        occlusion=ambient_visibility(base, faces),
    )


def _seen_faces(ict: IctModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Triangles other than lashes, tear films and eye sockets: (t, 3) faces, (t,) materials, kept vertices."""
    names = [str(n) for n in ict.mats]
    kinds = {"M_Face": SKIN, "M_BackHead": SKIN, "M_GumsTongue": INNER, "M_Teeth": TEETH,
             "M_ScleraLeft": EYE, "M_ScleraRight": EYE}  # fmt: skip
    mat = np.array([kinds.get(n, -1) for n in names], np.int8)[ict.mat]
    first = ict.faces.min(1)
    mat[(mat == SKIN) & (first >= OUTER_VERTICES)] = INNER
    mat[(mat == INNER) & (first >= HEAD_VERTICES) & (ict.faces.max(1) < 14062)] = -1  # eye sockets
    keep = np.unique(np.concatenate([np.arange(OUTER_VERTICES), ict.faces[mat >= 0].ravel()]))
    place = np.full(len(ict.base), -1, np.int32)
    place[keep] = np.arange(len(keep), dtype=np.int32)
    return place[ict.faces[mat >= 0]], mat[mat >= 0], keep


def _hair_grid(base: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The hair's grid on the scalp: rows from the crown down, columns by azimuth, from the back via the left to the back.

    Returns:
        (r, c) the root vertex of each point, and (r, c, 3) its position on the mean face, with the ears smoothed away.
    """
    outer = base[:OUTER_VERTICES].astype(np.float64)
    scalp = np.flatnonzero((np.abs(outer[:, 0]) < 7.9) & (outer[:, 1] > -12))
    offset = outer[scalp] - MIDDLE
    radius = np.linalg.norm(offset, axis=1)
    directions = hair_directions()
    nearest = cKDTree(offset / radius[:, None]).query(directions.reshape(-1, 3))[1]
    radii = gaussian_filter(radius[nearest].reshape(HAIR_ROWS, HAIR_COLUMNS), 1.5, mode=("nearest", "wrap"))
    return scalp[nearest].reshape(radii.shape), MIDDLE + radii[..., None] * directions


def hair_angles() -> tuple[np.ndarray, np.ndarray]:
    """Azimuth (c,) and elevation (r,) of the hair's grid in degrees; azimuth 0 is the front, positive towards positive x."""
    return np.linspace(-180, 180, HAIR_COLUMNS), np.linspace(90, -80, HAIR_ROWS)


def hair_directions() -> np.ndarray:
    """Directions of the hair's grid from the middle of the head: (r, c, 3) unit vectors."""
    azimuth, elevation = (np.radians(a) for a in hair_angles())
    flat = np.cos(elevation)[:, None]
    up = np.broadcast_to(np.sin(elevation)[:, None], (HAIR_ROWS, HAIR_COLUMNS))
    return np.stack([flat * np.sin(azimuth), up, flat * np.cos(azimuth)], -1)


def _grid_faces(first: int) -> np.ndarray:
    """Two triangles per cell of the hair's grid, with vertex numbers from `first`."""
    at = first + np.arange(HAIR_ROWS * HAIR_COLUMNS, dtype=np.int32).reshape(HAIR_ROWS, HAIR_COLUMNS)
    a, b, c, d = at[:-1, :-1], at[1:, :-1], at[1:, 1:], at[:-1, 1:]
    return np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)], 2).reshape(-1, 3)


def ambient_visibility(base: np.ndarray, faces: np.ndarray, directions: int = 64, size: int = 256) -> np.ndarray:
    """Ambient visibility of each vertex: the share of unoccluded directions on a Fibonacci sphere."""
    turn = np.arange(directions) * np.pi * (3 - np.sqrt(5))
    height = 1 - 2 * (np.arange(directions) + 0.5) / directions
    flat = np.sqrt(1 - height**2)
    points = base.astype(np.float64) - MIDDLE
    normals = vertex_normals(points, faces)
    free, total = np.zeros(len(base)), np.full(len(base), 1e-9)
    for direction in np.stack([flat * np.cos(turn), height, flat * np.sin(turn)], -1):
        seen = points @ light_axes(direction).T * (size / 48)
        depth = np.full((size, size), -np.inf)
        rasterise(
            seen, faces, np.zeros(len(base), np.float32), len(faces), depth, np.full(depth.shape, NOTHING, np.int32)
        )
        at = np.clip((seen[:, :2] + size / 2).astype(int), 0, size - 1)
        weight = np.maximum(normals @ direction, 0)
        free += weight * (seen[:, 2] > depth[at[:, 1], at[:, 0]] - 0.5 * size / 48)
        total += weight
    return np.clip(free / total, 0, 1).astype(np.float32)


# --- a head ---------------------------------------------------------------------------------------------------------


@kernel
def _add_modes(points: np.ndarray, modes: np.ndarray, weights: np.ndarray) -> None:
    """Add weights (k,) * modes (k, n, 3) to points (n, 3) in place, one by one, for a fixed order of summation."""
    flat = points.reshape(-1)
    for k in range(len(weights)):
        weight = weights[k]
        if weight != 0:
            mode = modes[k].reshape(-1)
            for i in range(flat.shape[0]):
                flat[i] += weight * mode[i]


def _shape(model: HeadModel, head: HeadParameters) -> np.ndarray:
    """(n, 3) float64 vertices of a person with an expression, frontal, not mirrored."""
    points = model.base.copy()
    _add_modes(points, model.modes, np.concatenate([head.identity, head.expression]).astype(np.float32))
    return points.astype(np.float64)


def _hair(model: HeadModel, head: HeadParameters, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions (r, c, 3) of the hair around a head (n, 3), and its extent (r, c), > 0 inside the hair."""
    azimuth, elevation = hair_angles()
    cut = hair_cut(head.hair, azimuth[None, :], elevation[:, None])
    volume = hair_volume(head.hair, azimuth[None, :], elevation[:, None], cut)
    grown = model.hair_rest + (points - model.base)[model.hair_at] + volume[..., None] * hair_directions()
    row = int(np.argmin(np.abs(elevation - HANG_DEG)))
    hanging = grown.copy()
    hanging[row:] = hanging[row]
    hanging[row:, :, 1] -= HANG_CM * (elevation[row] - elevation[row:, None])
    ease = min(1.0, 2.5 * head.hair.length)
    return grown + ease * (hanging - grown), cut


def _rotation(yaw_deg: float, pitch_deg: float, roll_deg: float) -> np.ndarray:
    """Rotation matrix of pitch, then yaw, then roll, so that yaw and pitch are azimuth and elevation of the nose."""
    (sy, sp, sr), (cy, cp, cr) = (f(np.radians([yaw_deg, pitch_deg, roll_deg])) for f in (np.sin, np.cos))
    pitch = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    roll = np.array([[cr, sr, 0], [-sr, cr, 0], [0, 0, 1]])
    return roll @ yaw @ pitch


@kernel
def _turn(points: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Points (v, 3) @ rotation.T in a fixed order of summation, so that a mirrored pose changes only signs."""
    turned = np.empty_like(points)
    for v in range(points.shape[0]):
        x, y, z = points[v, 0], points[v, 1], points[v, 2]
        for k in range(3):
            turned[v, k] = rotation[k, 0] * x + rotation[k, 1] * y + rotation[k, 2] * z
    return turned


def _flip(head: HeadParameters) -> np.ndarray:
    return np.array([-1.0 if head.mirrored else 1.0, 1.0, 1.0])


def scene(model: HeadModel, head: HeadParameters) -> Scene:
    """Pose the head and its hair."""
    points = _shape(model, head)
    grid, cut = _hair(model, head, points)
    points = np.concatenate([points, grid.reshape(-1, 3)])
    # compute normals before flipping; they are flipped with the points
    normals = vertex_normals(points, model.faces)
    rotation = _rotation(head.yaw_deg, head.pitch_deg, head.roll_deg)
    count = len(model.base)
    all_cut = np.concatenate([np.zeros(count), cut.ravel()]).astype(np.float32)
    all_cut[:count] = hair_cut(head.hair, model.paint.azimuth, model.paint.elevation) - 1e3 * model.paint.ear
    return Scene(_turn((points - MIDDLE) * _flip(head), rotation), _turn(normals * _flip(head), rotation), all_cut)


# --- the camera -----------------------------------------------------------------------------------------------------


def _some_points(model: HeadModel, head: HeadParameters, rows: list[int]) -> np.ndarray:
    """Some vertices (k, 3) of a person with an expression, frontal, not mirrored."""
    weights = np.concatenate([head.identity, head.expression]).astype(np.float64)
    moved = np.einsum("k,kvc->vc", weights, model.modes[:, rows].astype(np.float64), optimize=False)
    return model.base[rows].astype(np.float64) + moved


def mouth_gap_cm(model: HeadModel, head: HeadParameters) -> float:
    """Distance between the middles of the lips in cm."""
    upper, lower = _some_points(model, head, list(INNER_LIPS))
    return float(upper[1] - lower[1])


def _five_points(model: HeadModel, head: HeadParameters) -> np.ndarray:
    """The five landmarks (5, 3) of a person with an expression, relative to the middle of the head, frontal."""
    points = _some_points(model, head, [v for group in LANDMARKS for v in group])
    owner = np.repeat(np.arange(5), [len(group) for group in LANDMARKS])
    return np.stack([points[owner == k].mean(0) for k in range(5)]) - MIDDLE


def _project(points: np.ndarray, focal: float) -> np.ndarray:
    """(k, 3) -> (k, 2) frame pixels from the optical axis, rows downwards."""
    return focal * points[:, :2] * np.array([1, -1]) / (CAMERA_CM - points[:, 2:])


def camera(model: HeadModel, head: HeadParameters) -> View:
    """Frame a head as in CelebA, by one rule for all yaws.

    For all poses the scale is that of CelebA's alignment for this person in the frontal pose (eyes and mouth, with the
    weights of `latentrot.faces.alignment`). A similarity fitted to a turned face would enlarge it, by 14 % at 45 degrees,
    because its eyes are closer together, and is undefined near profile; the views of one head would then differ by more than
    their pose. The position is that of the alignment in the actual pose: the weighted centre of the five projected landmarks
    is that of CelebA's mean face. Roll is not removed.
    """
    weights = LANDMARK_WEIGHTS / LANDMARK_WEIGHTS.sum()
    five = _five_points(model, head)
    # use the axis of the crop: with an offset of half a pixel, mirrored heads would not give mirrored images
    wanted = MEAN_LANDMARKS - np.array([(CROP_BOX[0] + CROP_BOX[2]) / 2, (CROP_BOX[1] + CROP_BOX[3]) / 2])
    centre = weights @ wanted
    centre[0] = 0.0  # 0 up to rounding, because the mean face is symmetric
    front = _project(five, 1.0)
    front, spread = front - weights @ front, wanted - centre
    focal = float((weights @ (front * spread)).sum() / (weights @ front**2).sum())
    turned = _turn(five * _flip(head), _rotation(head.yaw_deg, head.pitch_deg, head.roll_deg))
    at = weights @ _project(turned, focal)
    return View(focal, (float(centre[0] - at[0]), float(centre[1] - at[1])))


def landmarks(model: HeadModel, head: HeadParameters) -> np.ndarray:
    """(5, 2) viewer's left and right eye, nose tip, left and right mouth corner: (column, row) in the 178x218 frame."""
    view = camera(model, head)
    turned = _turn(_five_points(model, head) * _flip(head), _rotation(head.yaw_deg, head.pitch_deg, head.roll_deg))
    middle = np.array([(CROP_BOX[0] + CROP_BOX[2]) / 2, (CROP_BOX[1] + CROP_BOX[3]) / 2])
    found = _project(turned, view.focal) + np.array(view.shift) + middle
    return found[MIRRORED_LANDMARKS] if head.mirrored else found


def light_axes(direction: np.ndarray) -> np.ndarray:
    """(3, 3) rows: unit vectors right, up and towards a light; a mirrored light mirrors them and negates `right`."""
    right = np.array([direction[2], 0.0, -direction[0]])
    length = np.sqrt(right[0] * right[0] + right[2] * right[2])
    right = right / length if length > 0 else np.array([1.0, 0.0, 0.0])
    return np.stack([right, np.cross(direction, right), direction])
