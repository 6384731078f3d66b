"""Geometric condition of the multi-view model: each view as the head fitted to the photograph looks from its camera.

As in the rendered training data the head rotates while light and background stay fixed, the weighted centre of its five
landmarks keeps its position in the image, and the scale of the image does not change with the pose.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from torch import Tensor

from latentrot.data.frame import CROP_BOX
from latentrot.faces.alignment import LANDMARK_WEIGHTS, Alignment
from latentrot.faces.upright import centred, five_of
from latentrot.geometry import Head
from latentrot.geometry.camera import AXES, angle_of, turn_matrix
from latentrot.geometry.draw import draw
from latentrot.geometry.fields import blur, ramp, sample_at
from latentrot.geometry.turn import whole_or_mixed, whole_share, without_slivers
from latentrot.geometry.whole import whole_head
from latentrot.geometry.whole_view import whole_mesh
from latentrot.synthetic.raster import vertex_normals

__all__ = ["HeadCamera", "HeadView", "ProjectedColours", "aligned_centre", "colour_differences", "composed"]

#: the smallest difference of poses in degrees that is rendered; below it the source itself is shown
SAME_POSE_DEG = 0.05
#: a point farther than this behind the visible surface is hidden, face widths; power of the cosine to the viewer in weights
HIDDEN, FACING_POWER = 0.06, 4
#: weight of no difference in the mean of the views of a point
UNSEEN_WEIGHT = 0.5
#: blur of differences, in pixels of the generated views: finer ones are misplaced edges
SMOOTH_PX = 1.5
#: differences beside the head of which none and all is added, grey values, and the blur of their size, view sides
BESIDE, BESIDE_BLUR = (25.0, 50.0), 1 / 60


@dataclass(frozen=True, eq=False)
class HeadView:
    """A fitted head seen by a camera.

    Args:
        image: (s, s, 3) float32, 0 to 255.
        normals: (s, s, 3) float32 unit normals of the surface in the camera's frame, 0 in the background.
        coverage: (s, s) float32, 1 where the source's own pixel is shown.
        head: (s, s) float32 alpha of the head.
    """

    image: np.ndarray
    normals: np.ndarray
    coverage: np.ndarray
    head: np.ndarray

    def reduced(self, size: int) -> HeadView:
        """The view averaged to another size."""
        if len(self.image) == size:
            return self
        maps = (self.image, self.normals, self.coverage, self.head)
        return HeadView(*(cv2.resize(m, (size, size), interpolation=cv2.INTER_AREA) for m in maps))

    def as_condition(self) -> np.ndarray:
        """(GEOMETRY_CHANNELS, s, s) uint8."""
        normals = (self.normals + 1) * 127.5
        masks = 255 * np.stack([self.coverage, self.head], -1)
        channels = np.concatenate([self.image, normals, masks], -1)
        return np.ascontiguousarray(np.rint(channels.clip(0, 255)).astype(np.uint8).transpose(2, 0, 1))


@dataclass(frozen=True, eq=False)
class HeadCamera:
    """Views of a fitted head, in the face crop of the CelebA frame that the head was fitted in.

    Args:
        head: fitted to a photograph or crop.
        to_unit: (2, 3) position in the photograph -> position in the crop, 0 to 1.
        pose: (2,) yaw and pitch in degrees that the multi-view model takes for those of the source.
        side: side of the rendered views in pixels.
    """

    head: Head
    to_unit: np.ndarray
    pose: Tensor
    side: int
    _rendered: dict[tuple[float, float], HeadView] = field(default_factory=dict)

    @classmethod
    def of_crop(cls, head: Head, pose: Tensor, side: int) -> HeadCamera:
        """Camera for a head fitted to a square crop."""
        return cls(head, np.eye(2, 3) / len(head.photograph), pose, side)

    @classmethod
    def of_photograph(cls, head: Head, alignment: Alignment, pose: Tensor, side: int) -> HeadCamera:
        """Camera for a head fitted to a photograph."""
        left, top, right, _ = CROP_BOX
        matrix = alignment.matrix - np.array([[0, 0, left], [0, 0, top]])
        return cls(head, matrix / (right - left), pose, side)

    def rendered(self, pose: Tensor) -> HeadView:
        """The view in a pose (2,) in degrees; each pose is rendered once."""
        key = round(float(pose[0]), 3), round(float(pose[1]), 3)
        if key not in self._rendered:
            self._rendered[key] = self.view(*key)
        return self._rendered[key]

    def conditions(self, poses: Tensor, size: int) -> Tensor:
        """Conditions (n, GEOMETRY_CHANNELS, size, size) uint8 of views in poses (n, 2), in degrees."""
        views = [self.rendered(pose) for pose in poses]
        return torch.from_numpy(np.stack([view.reduced(size).as_condition() for view in views]))

    def view(self, yaw: float, pitch: float) -> HeadView:
        """Render the view in a pose.

        Args:
            yaw: degrees, > 0: nose to the viewer's right.
            pitch: degrees, > 0: looks up.
        """
        head, turn, size = self.head, self.turn(yaw, pitch), self.side
        to_crop = size * self.to_unit
        fixed, moved = chained(to_crop, head.region.inverse), size * self.from_region(turn)
        normals = normals_in(head, turn, moved, size)
        if angle_of(turn) < SAME_POSE_DEG:
            ones = np.ones((size, size), np.float32)
            alpha = (np.abs(normals).max(-1) > 0).astype(np.float32)
            return HeadView(resampled(head.photograph.astype(np.float32), to_crop, size), normals, ones, alpha)
        layer = whole_or_mixed(head, turn, head.config.light_follows)
        maps = np.dstack([layer.image, layer.coverage, layer.head])
        still = np.dstack([whole_head(head).behind, head.behind[1], np.zeros_like(layer.head)])
        front, back = resampled(maps, moved, size), resampled(still, fixed, size)
        alpha = front[..., 4:]
        over = back + alpha * (front - back)  # the head moves over a background at rest
        share = whole_share(turn)  # of a hardly rotated head the surroundings move with it
        mixed = np.concatenate([over[..., :4], alpha], -1) * share + front * (1 - share)
        return HeadView(mixed[..., :3], normals, mixed[..., 3].clip(0, 1), mixed[..., 4].clip(0, 1))

    def turn(self, yaw: float, pitch: float) -> np.ndarray:
        """(3, 3) rotation of the head to a pose."""
        by = float(yaw - self.pose[0] + 180) % 360 - 180
        return turn_matrix(self.head, by, float(pitch - self.pose[1]), 0.0)

    def from_region(self, turn: np.ndarray) -> np.ndarray:
        """(2, 3) position of the rotated head in its region -> position in the view, 0 to 1."""
        matrix = chained(self.to_unit, self.head.region.inverse)
        matrix[:, 2] += matrix[:, :2] @ (landmark_centre(self.head, np.eye(3)) - landmark_centre(self.head, turn))
        return matrix

    def landmarks(self, yaw: float, pitch: float) -> np.ndarray:
        """(68, 2) landmarks of the head in a pose, 0 to 1 across the view."""
        turn = self.turn(yaw, pitch)
        moved = (self.head.landmarks - self.head.axis) @ turn.T + self.head.axis
        matrix = self.from_region(turn)
        return moved[:, :2] @ matrix[:, :2].T + matrix[:, 2]


def landmark_centre(head: Head, turn: np.ndarray) -> np.ndarray:
    """(2,) centre of the five landmarks of a rotated head in its region, weighted as in the alignment."""
    moved = (head.landmarks - head.axis) @ turn.T + head.axis
    return aligned_centre(moved)


def aligned_centre(points: np.ndarray) -> np.ndarray:
    """(2,) centre of the five landmarks among 68 points (68, 2 or 3) by `LANDMARK_WEIGHTS`: nearly that of the eyes."""
    return np.average(five_of(points)[:, :2], axis=0, weights=LANDMARK_WEIGHTS)


def chained(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """(2, 3) affine map that applies `first` (2, 3), then `second` (2, 3)."""
    return np.column_stack([second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2] + second[:, 2]])


def resampled(maps: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Warp maps (h, w, c) by a (2, 3) similarity, averaging where it reduces: (size, size, c) float32; edges repeated."""
    scale = scale_of(matrix)
    finer = max(1, round(1 / scale))  # samples per side of a pixel
    fine = centred(matrix * finer)
    out = cv2.warpAffine(
        maps.astype(np.float32), fine, (size * finer,) * 2, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return out.reshape(size, finer, size, finer, -1).mean((1, 3)) if finer > 1 else out


def normals_in(head: Head, turn: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Normals (size, size, 3) of the rotated whole head in the image that `matrix` (2, 3) maps the region to."""
    points, faces = whole_mesh(head, turn)
    placed = projected(points, matrix)
    values, shown, _ = draw(placed, faces, vertex_normals(placed, faces), np.ones(len(faces)), (size, size))
    there = without_slivers(shown, head.region.width * scale_of(matrix))[..., None]
    length = np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-6)
    return np.where(there, values / length * AXES, 0).astype(np.float32)


def projected(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Map points (..., 3) of the region by a (2, 3) similarity, which also scales their depth."""
    place = points[..., :2] @ matrix[:, :2].T + matrix[:, 2]
    return np.concatenate([place, points[..., 2:] * scale_of(matrix)], -1)


def scale_of(matrix: np.ndarray) -> float:
    """Scale of a (2, 3) similarity."""
    return float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))


# --- generated colours -----------------------------------------------------------------------------------------------------


def colour_differences(images: np.ndarray, poses: Tensor, camera: HeadCamera) -> np.ndarray:
    """Smooth differences (n, s, s, 3) float32 of generated images from rendered views, in the colours of the source.

    A network draws all views with the same cast: the mean difference where the source is shown, on the head and beside it.

    Args:
        images: (n, s, s, 3) float32, 0 to 255.
        poses: (n, 2) degrees.
        camera: renders the views.
    """
    views = [camera.rendered(pose).reduced(images.shape[1]) for pose in poses]
    differences = images - np.stack([view.image for view in views])
    head, coverage = (np.stack([getattr(view, name) for view in views])[..., None] for name in ("head", "coverage"))
    for part in (head, 1 - head):
        known = coverage * part
        differences -= part * (known * differences).sum((0, 1, 2)) / (known.sum() + 1)
    return np.stack([blur(difference, SMOOTH_PX) for difference in differences])


def composed(difference: np.ndarray, view: HeadView) -> np.ndarray:
    """Add a difference (s, s, 3) to a larger rendered view where the source does not show it: (side, side, 3) uint8.

    Beside the head only large differences count: they cover the body, which is at rest in the rendered view. Small ones are
    a cast of the network that outlines what the source shows.
    """
    side = len(view.image)
    enlarged = cv2.resize(difference, (side, side), interpolation=cv2.INTER_CUBIC)
    large = ramp(blur(np.abs(enlarged).max(-1), BESIDE_BLUR * side), *BESIDE)
    share = (1 - view.coverage) * (view.head + (1 - view.head) * large)
    return np.rint((view.image + share[..., None] * enlarged).clip(0, 255)).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class ProjectedColours:
    """Correction of a head's synthesized colours: differences of views, projected onto the surface.

    A point takes the mean of the views, weighted by how frontally they show it.

    Args:
        camera: renders the head.
        differences: (n, s, s, 3) float32, from `colour_differences`.
        poses: (n, 2) degrees.
    """

    camera: HeadCamera
    differences: np.ndarray
    poses: Tensor

    def __call__(self, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
        """Differences (h, w, 3) at points and unit normals (h, w, 3) in the region; see `Correction`."""
        total = np.zeros(points.shape, np.float32)
        weights = np.full((*points.shape[:2], 1), UNSEEN_WEIGHT, np.float32)
        for difference, pose in zip(self.differences, self.poses, strict=True):
            found, weight = self.from_view(difference, pose, points, normals)
            total += weight * found
            weights += weight
        return total / weights

    def from_view(
        self, difference: np.ndarray, pose: Tensor, points: np.ndarray, normals: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Differences (h, w, 3) of one view at points and normals (h, w, 3), and their weights (h, w, 1)."""
        head, size = self.camera.head, len(difference)
        turn = self.camera.turn(float(pose[0]), float(pose[1]))
        matrix = size * self.camera.from_region(turn)
        mesh, faces = whole_mesh(head, turn)
        *_, depth = draw(projected(mesh, matrix), faces, mesh[:, :1], np.ones(len(faces)), (size, size))
        there = projected((points - head.axis) @ turn.T + head.axis, matrix)
        place = there[..., :2].astype(np.float32)
        found = sample_at(np.dstack([difference, self.camera.rendered(pose).reduced(size).head]), place)
        behind = sample_at(depth, place, cv2.INTER_NEAREST) - there[..., 2]
        seen = behind < HIDDEN * head.region.width * scale_of(matrix)
        inside = ((place > 0) & (place < size)).all(-1)
        facing = np.clip((normals @ turn.T)[..., 2], 0, 1) ** FACING_POWER
        return found[..., :3], (facing * seen * inside * found[..., 3])[..., None].astype(np.float32)
