"""A planted head: the bundled face surface with a pattern on it, so that true views are known."""

from dataclasses import dataclass

import numpy as np

from latentrot.geometry import MeshConfig, build_head
from latentrot.geometry.draw import draw
from latentrot.geometry.surface import load_surface, rotation

SIZE, WIDTH, CENTRE = (420, 400), 90.0, (200.0, 190.0)
SMALL = MeshConfig(smallest_px=120, largest_px=160, depth_scale=1.08)
MIRRORED = [
    *range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1), 45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41,
    40, 54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
]  # fmt: skip


@dataclass(frozen=True)
class PlantedParts:
    probabilities: np.ndarray
    to_region: np.ndarray


@dataclass(frozen=True)
class Planted:
    picture: np.ndarray
    landmarks: np.ndarray
    parts: PlantedParts
    face: np.ndarray


def pattern(x, y):
    """A colour for every place on the face: stripes, and a red nose."""
    red = 150 + 60 * np.sin(9 * x) * np.cos(7 * y) + 90 * np.exp(-((x**2 + (y - 0.22) ** 2) / 0.004))
    return np.stack([red, 120 + 50 * np.cos(11 * y + 2 * x), 100 + 40 * np.sin(8 * x + 1)], -1).clip(0, 255)


def planted(yaw=0.0, pitch=0.0, scale=1.0):
    surface = load_surface()
    width, height = (round(scale * v) for v in SIZE)
    turned = surface.mean.astype(float) @ rotation(yaw, pitch).T * WIDTH * scale
    points = turned + np.array([*CENTRE, 0]) * scale
    place, shown, _ = draw(points, surface.faces, surface.mean[:, :2], np.ones(len(surface.faces)), (width, height))
    rows, columns = np.mgrid[:height, :width]
    behind = np.stack([60 + 40 * columns / width, 70 + 30 * rows / height, 90 + 0 * rows], -1)
    picture = np.where((shown > 0)[..., None], pattern(place[..., 0], place[..., 1]), behind)
    parts = np.zeros((7, height, width), np.float32)
    parts[0], parts[1] = shown == 0, shown > 0
    marks = points[surface.landmarks, :2]
    return Planted(picture.round().astype(np.uint8), marks, PlantedParts(parts, np.eye(2, 3)), shown > 0)


def head_of(plant, config=SMALL):
    return build_head(plant.picture, plant.landmarks, plant.parts, config)


def mirrored(plant):
    """The planted head in a mirrored photograph."""
    marks = plant.landmarks[MIRRORED] * [-1, 1] + [plant.picture.shape[1], 0]
    parts = PlantedParts(plant.parts.probabilities[:, :, ::-1].copy(), np.eye(2, 3))
    return Planted(plant.picture[:, ::-1].copy(), marks, parts, plant.face[:, ::-1])
