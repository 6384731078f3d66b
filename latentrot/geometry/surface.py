"""A small statistical face surface, and its fit to the 68 landmarks of a photograph.

The surface is a piece of ICT Face Model Light (Li, Bladin, Zhao et al., "Learning Formation of Physically-Based Face
Attributes", CVPR 2020; MIT licence): the face and the front of the head, decimated, with its first identity modes and a few
expressions. Lengths are widths of the mean face (from landmark 0 to landmark 16); x grows to the viewer's right, y
*downwards*, z towards the viewer. The fit estimates a weak perspective (rotation, scale, shift) and the mode coefficients.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from latentrot.bundles import HOME
from latentrot.errors import LatentrotError
from latentrot.synthetic.ict import IctModel
from latentrot.synthetic.pieces import load_piece, write_piece

__all__ = [
    "SURFACE_PATH",
    "FaceSurface",
    "SurfaceFit",
    "fit_surface",
    "load_surface",
    "make_surface",
    "rotation",
    "visible_contour",
    "write_surface",
]

KIND = "face surface"
#: path of the bundled surface
SURFACE_PATH = HOME / "head" / "face_surface.safetensors"
#: vertices of ICT Face Model Light at the 68 landmarks of the multi-PIE order (from its own repository)
ICT_LANDMARKS = (
    1225, 1888, 1052, 367, 1719, 1722, 2199, 1447, 966, 3661, 4390, 3927, 3924, 2608, 3272, 4088, 3443,  # jaw
    268, 493, 1914, 2044, 1401, 3615, 4240, 4114, 2734, 2509,  # brows
    978, 4527, 4942, 4857, 1140, 2075, 1147, 4269, 3360,  # nose
    1507, 1542, 1537, 1528, 1518, 1511, 3742, 3751, 3756, 3721, 3725, 3732,  # eyes
    5708, 5695, 2081, 0, 4275, 6200, 6213, 6346, 6461, 5518, 5957, 5841,  # lips outside
    5702, 5711, 5533, 6216, 6207, 6470, 5517, 5966,  # lips inside
)  # fmt: skip
#: number of vertices of the face with ears and front of the neck, which come first; of these, the face alone
ICT_FACE, ICT_NARROW = 9409, 6706
#: number of identity modes kept, and the expressions that landmarks can show
IDENTITIES = 20
EXPRESSIONS = (
    "jawOpen", "mouthSmile_L", "mouthSmile_R", "mouthPucker", "mouthFunnel", "browInnerUp_L", "browInnerUp_R",
    "browDown_L", "browDown_R", "eyeBlink_L", "eyeBlink_R", "mouthUpperUp_L", "mouthUpperUp_R", "mouthLowerDown_L",
    "mouthLowerDown_R",
)  # fmt: skip
#: cell size for merging vertices, cm; height below which the neck is cut off, cm
GRAIN_CM, LOWEST_CM = 0.5, -10.5
#: number of points on the path along which a contour landmark slides when the cheek hides it
SLIDES = 9
CONTOUR = 17


@dataclass(frozen=True, eq=False)
class FaceSurface:
    """The mean face and its modes of variation. Lengths in mean face widths.

    Args:
        mean: (v, 3) float32.
        identities: (m, v, 3) float32, for coefficients of standard deviation 1.
        expressions: (e, v, 3) float32, for coefficients 0 to 1.
        faces: (t, 3) int32, clockwise in image coordinates when seen from the front.
        landmarks: (68,) int64 vertices.
        slides: (17, SLIDES) int64 vertices a contour landmark may slide to, from the landmark towards the middle of the face.
        narrow: (v,) bool, the face without ears and neck.
    """

    mean: np.ndarray
    identities: np.ndarray
    expressions: np.ndarray
    faces: np.ndarray
    landmarks: np.ndarray
    slides: np.ndarray
    narrow: np.ndarray


@dataclass(frozen=True, eq=False)
class SurfaceFit:
    """A surface fitted to a photograph.

    Args:
        points: (v, 3) float64 vertices in photograph pixels, z towards the viewer.
        landmarks: (68, 3) its landmarks; contour landmarks at their vertices, not at the silhouette.
        axes: (3, 3) rotation from the head's axes (right, down, forward) to the photograph's.
        yaw_deg: nose to the viewer's right.
        pitch_deg: looks up.
        roll_deg: leans clockwise.
        width: frontal width of the face in pixels.
        error: root mean square distance of the 51 inner landmarks, as a share of the width.
        weights: (m,) coefficients of the identities, then of the expressions.
        scale: photograph pixels per mean face width.
        shift: (2,) photograph position of the origin between the ears.
    """

    points: np.ndarray
    landmarks: np.ndarray
    axes: np.ndarray
    yaw_deg: float
    pitch_deg: float
    roll_deg: float
    width: float
    error: float
    weights: np.ndarray
    scale: float
    shift: np.ndarray


# --- build, read and write --------------------------------------------------------------------------------------------


def make_surface(ict: IctModel) -> FaceSurface:
    """Decimate the face model to what fitting and inflating need."""
    base = ict.base[:ICT_FACE].astype(np.float64)
    corners = ict.faces[(ict.faces < ICT_FACE).all(1)]
    keep, place = _thinned(base)
    triangles = place[corners[:, ::-1]]  # y points downwards, which reverses the orientation
    whole = (triangles >= 0).all(1) & (np.diff(np.sort(triangles, axis=1), axis=1) > 0).all(1)
    triangles = np.unique(_from_smallest(triangles[whole]), axis=0)
    flip, unit = np.array([1.0, -1.0, 1.0]), np.ptp(base[list(ICT_LANDMARKS[:CONTOUR]), 0])
    middle = base[[ICT_LANDMARKS[0], ICT_LANDMARKS[16]]].mean(0)
    names = [str(n) for n in ict.expr_names]
    modes = ict.ids[:IDENTITIES], ict.expr[[names.index(n) for n in EXPRESSIONS]]
    identities, expressions = ((m[:, keep].astype(np.float64) * flip / unit).astype(np.float32) for m in modes)
    mean = ((base[keep] - middle) * flip / unit).astype(np.float32)
    landmarks = place[list(ICT_LANDMARKS)].astype(np.int64)
    return FaceSurface(
        mean=mean,
        identities=identities,
        expressions=expressions,
        faces=triangles.astype(np.int32),
        landmarks=landmarks,
        slides=_slides(mean, landmarks, keep < ICT_NARROW),
        narrow=keep < ICT_NARROW,
    )


def _thinned(base: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep one vertex per cell and every landmark -> (v,) kept vertices, (n,) new index of each vertex (-1: dropped)."""
    used = np.flatnonzero(base[:, 1] > LOWEST_CM)
    cube = np.floor(base[used] / GRAIN_CM).astype(np.int64)
    centre = (cube + 0.5) * GRAIN_CM
    order = np.argsort(np.linalg.norm(base[used] - centre, axis=1), kind="stable")
    _, first, which = np.unique(cube[order], axis=0, return_index=True, return_inverse=True)
    keep = np.unique(np.concatenate([used[order][first], ICT_LANDMARKS]))
    place = np.full(len(base), -1, np.int64)
    place[used[order]] = np.searchsorted(keep, used[order][first])[which.ravel()]
    place[keep] = np.arange(len(keep))
    return keep, place


def _from_smallest(triangles: np.ndarray) -> np.ndarray:
    """Rotate each triangle to start at its smallest vertex, keeping its orientation."""
    start = triangles.argmin(1)[:, None]
    return np.take_along_axis(triangles, (start + np.arange(3)) % 3, axis=1)


def _slides(mean: np.ndarray, landmarks: np.ndarray, narrow: np.ndarray) -> np.ndarray:
    """Vertices between each contour landmark and the middle of the face, at its height: (17, SLIDES)."""
    skin = np.flatnonzero(narrow & (mean[:, 2] > 0))
    rows = []
    for number in range(CONTOUR):
        own = mean[landmarks[number]].astype(np.float64)
        middle = np.array([0.0, own[1] - 0.12 * (number in range(5, 12)), mean[landmarks[30], 2]])
        row = [landmarks[number]]
        for step in np.linspace(0, 0.75, SLIDES)[1:]:
            wanted = own + step * (middle - own)
            towards = mean[skin] - wanted
            off = np.linalg.norm(towards * np.array([1.0, 1.0, 0.35]), axis=1)
            row.append(skin[off.argmin()])
        rows.append(row)
    return np.array(rows, np.int64)


def write_surface(surface: FaceSurface, path: Path | str = SURFACE_PATH) -> None:
    """Write a surface in half precision, atomically."""
    write_piece(Path(path), KIND, vars(surface), expressions=json.dumps(EXPRESSIONS))


@lru_cache(maxsize=1)
def load_surface(path: Path | str = SURFACE_PATH) -> FaceSurface:
    """Read a surface; the last one is cached.

    Raises:
        LatentrotError: the file is missing or holds something else.
    """
    return load_piece(path, KIND, FaceSurface)


# --- fitting --------------------------------------------------------------------------------------------------------

#: iterations of the fit; scatter of inner and contour landmarks as a share of the width
ROUNDS, INNER_SCATTER, CONTOUR_SCATTER = 12, 0.012, 0.03
#: prior standard deviation of the expression coefficients around 0
EXPRESSION_SPREAD = 0.35


def rotation(yaw_deg: float, pitch_deg: float = 0.0, roll_deg: float = 0.0) -> np.ndarray:
    """(3, 3) rotation of a head, pitch first, then yaw, then roll; x right, y down, z to the viewer; signs as in DESIGN."""
    (sy, sp, sr), (cy, cp, cr) = (f(np.radians([yaw_deg, pitch_deg, roll_deg])) for f in (np.sin, np.cos))
    yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    pitch = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return roll @ yaw @ pitch


def angles_of(axes: np.ndarray) -> tuple[float, float, float]:
    """Yaw, pitch and roll in degrees of a rotation composed as in `rotation`."""
    # the last row is (-sin yaw, cos yaw sin pitch, cos yaw cos pitch), the first column cos yaw (cos roll, sin roll, .)
    yaw = np.arcsin(np.clip(-axes[2, 0], -1, 1))
    pitch = np.arctan2(axes[2, 1], axes[2, 2])
    roll = np.arctan2(axes[1, 0], axes[0, 0])
    return float(np.degrees(yaw)), float(np.degrees(pitch)), float(np.degrees(roll))


def fit_surface(landmarks: np.ndarray, surface: FaceSurface | None = None) -> SurfaceFit:
    """Fit the surface to 68 landmarks: Gauss-Newton on pose and coefficients, with Gaussian priors on the coefficients.

    Args:
        landmarks: (68, 2) photograph pixels, multi-PIE order.
        surface: by default the bundled one.

    Raises:
        LatentrotError: another shape, values that are not finite, or coinciding points.
    """
    points = np.asarray(landmarks, np.float64)
    if points.shape != (68, 2) or not np.isfinite(points).all() or np.ptp(points, axis=0).min() < 1e-3:
        raise LatentrotError(f"landmarks of shape {points.shape}; expected (68, 2) finite, distinct points")
    surface = surface or load_surface()
    modes = np.concatenate([surface.identities, surface.expressions]).astype(np.float64)
    spread = np.r_[np.ones(len(surface.identities)), np.full(len(surface.expressions), EXPRESSION_SPREAD)]
    scatter = np.r_[np.full(CONTOUR, CONTOUR_SCATTER), np.full(68 - CONTOUR, INNER_SCATTER)]
    used, weights = surface.landmarks.copy(), np.zeros(len(modes))
    axes, scale, shift = _first_pose(points, surface.mean[used])
    for step in range(ROUNDS):
        shape, moved = surface.mean[used] + np.tensordot(weights, modes[:, used], 1), modes[:, used]
        here = shape @ axes.T
        residual = (points - shift - scale * here[:, :2]) / (scale * scatter[:, None])
        jacobian = _jacobian(here, moved @ axes.T, scale) / (scale * scatter[:, None])[..., None]
        free = 6 + (len(modes) if step >= 2 else 0)
        a = jacobian.reshape(-1, 6 + len(modes))[:, :free]
        prior = np.diag(np.r_[np.zeros(6), 1 / spread**2][:free])
        pull = np.r_[np.zeros(6), -weights / spread**2][:free]
        change = np.linalg.solve(a.T @ a + prior + 1e-9 * np.eye(free), a.T @ residual.ravel() + pull)
        axes = _small_rotation(change[:3]) @ axes
        scale, shift = scale * np.exp(np.clip(change[3], -0.5, 0.5)), shift + change[4:6]
        weights[: free - 6] += change[6:]
        used[:CONTOUR] = visible_contour(surface, weights, modes, axes)
    whole = (surface.mean + np.tensordot(weights, modes, 1)) @ axes.T * scale
    placed = whole + np.r_[shift, 0]
    yaw, pitch, roll = angles_of(axes)
    ends = surface.landmarks[[0, 16]]
    return SurfaceFit(
        points=placed,
        landmarks=placed[surface.landmarks],
        axes=axes,
        yaw_deg=yaw,
        pitch_deg=pitch,
        roll_deg=roll,
        width=float(np.linalg.norm(placed[ends[1]] - placed[ends[0]])),
        error=float(np.sqrt(np.mean(np.sum((placed[used, :2] - points)[CONTOUR:] ** 2, 1))) / scale),
        weights=weights,
        scale=float(scale),
        shift=shift,
    )


def _first_pose(points: np.ndarray, shape: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Rotation, scale and shift by linear least squares on the inner landmarks, orthonormalised."""
    inner = slice(CONTOUR, 68)
    p, q = points[inner] - points[inner].mean(0), shape[inner] - shape[inner].mean(0)
    rows = np.linalg.lstsq(q, p, rcond=None)[0].T
    scale = float(np.linalg.norm(rows, axis=1).mean())
    u, _, vt = np.linalg.svd(np.vstack([rows, np.cross(rows[0], rows[1]) / scale]))
    axes = u @ vt
    return axes, scale, points[inner].mean(0) - scale * (axes @ shape[inner].mean(0))[:2]


def _jacobian(here: np.ndarray, moved: np.ndarray, scale: float) -> np.ndarray:
    """(68, 2, 6 + modes): derivative of the image points by rotation vector, log scale, shift and coefficients."""
    x, y, z = here.T
    zero, one = np.zeros_like(x), np.ones_like(x)
    turn = scale * np.stack([np.stack([zero, z, -y], -1), np.stack([-z, zero, x], -1)], 1)
    grow = scale * here[:, :2, None]
    slide = np.stack([np.stack([one, zero], -1), np.stack([zero, one], -1)], 1)
    return np.concatenate([turn, grow, slide, scale * np.moveaxis(moved[..., :2], 0, -1)], -1)


def _small_rotation(vector: np.ndarray) -> np.ndarray:
    """Rotation matrix of a rotation vector (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


def visible_contour(surface: FaceSurface, weights: np.ndarray, modes: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Vertex on the slide of each contour landmark that lies farthest out in the image: (17,)."""
    slides = surface.slides
    shape = (surface.mean[slides] + np.tensordot(weights, modes[:, slides], 1)) @ axes.T
    middle = (surface.mean[surface.landmarks[27:36]] @ axes.T).mean(0)
    out = shape[:, 0, :2] - middle[:2]
    out[:, 1] *= np.where((np.arange(CONTOUR) < 5) | (np.arange(CONTOUR) > 11), 0.0, 1.0)
    reach = np.einsum("nkc,nc->nk", shape[..., :2], out / np.linalg.norm(out, axis=1, keepdims=True))
    return np.take_along_axis(slides, reach.argmax(1)[:, None], 1)[:, 0]
