"""Cameras that project the exported mesh of a head into the photograph, or into a rotated view of it.

The projection is a weak perspective, as the head was fitted: an affine camera whose last row is (0, 0, 0, 1). Lengths of a
mesh are face widths, its x grows to the viewer's right, y up, z towards the viewer; pixels have their edges at pixel borders,
so that the centre of the first one lies at (0.5, 0.5).
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from latentrot.geometry.calibration import surface_yaw
from latentrot.geometry.head import Head
from latentrot.geometry.surface import rotation

__all__ = [
    "AXES",
    "MeshPose",
    "angle_of",
    "camera_of",
    "frontal",
    "image_motion",
    "landmarks_at",
    "out_of_plane",
    "project",
    "turn_matrix",
    "view_matrix",
]

#: pose of an exported mesh: frontal, or as in the photograph but upright (roll removed)
MeshPose: TypeAlias = Literal["frontal", "photograph"]
#: factors that convert mesh axes (y up) to image axes (y down), and back
AXES = np.array([1.0, -1.0, 1.0])


def turn_matrix(head: Head, yaw: float, pitch: float, roll: float) -> np.ndarray:
    """(3, 3) rotation about the head's axis in its region, by uncalibrated mesh degrees."""
    return rotation(0, 0, roll) @ rotation(head.pose[0] + yaw, head.pose[1] + pitch) @ rotation(*head.pose).T


def image_motion(turn: np.ndarray) -> np.ndarray:
    """(2,) motion in the image of points in front of the axis, 2 sin(angle) long, of a rotation (3, 3)."""
    return np.array([turn[0, 2] - turn[2, 0], turn[1, 2] - turn[2, 1]])


def out_of_plane(turn: np.ndarray) -> float:
    """Degrees by which a rotation (3, 3) turns the head's front away from where it pointed; roll does not count."""
    return float(np.degrees(np.arccos(np.clip(turn[2, 2], -1, 1))))


def angle_of(turn: np.ndarray) -> float:
    """Degrees of a rotation (3, 3) about its own axis."""
    return float(np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))))


def view_matrix(
    head: Head, yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0, whole: bool | None = None
) -> np.ndarray:
    """(3, 3) rotation about the head's axis in its region by the angles of `latentrot.geometry.turn_head`."""
    whole = head.needs_whole(yaw, pitch, roll) if whole is None else whole
    return turn_matrix(head, yaw if whole else surface_yaw(yaw), pitch, roll)


def frontal(head: Head, points: np.ndarray) -> np.ndarray:
    """Rotate mesh points (n, 3) from the photograph's pose to the frontal pose."""
    return (points * AXES) @ rotation(*head.pose) * AXES


def camera_of(head: Head, turn: np.ndarray | None = None, pose: MeshPose = "frontal") -> np.ndarray:
    """Camera that projects an exported mesh onto the head in the photograph, or in a rotated view.

    Args:
        head: fitted to the photograph.
        turn: (3, 3) rotation in its region, from `view_matrix`; None: no rotation.
        pose: pose of the mesh.

    Returns:
        (3, 4) float64: (column, row, 1) in pixels of the photograph = camera @ (x, y, z, 1).
    """
    turn = np.eye(3) if turn is None else turn
    to_region = head.region.width * (turn @ rotation(*head.pose) if pose == "frontal" else turn) * AXES
    inverse = head.region.inverse
    camera = np.zeros((3, 4))
    camera[:2, :3] = inverse[:, :2] @ to_region[:2]
    camera[:2, 3] = inverse[:, :2] @ head.axis[:2] + inverse[:, 2]
    camera[2, 3] = 1
    return camera


def project(camera: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Project mesh points (n, 3) to (n, 2) pixels of the photograph."""
    return points @ camera[:2, :3].T + camera[:2, 3]


def landmarks_at(head: Head, turn: np.ndarray) -> np.ndarray:
    """Landmarks of the rotated head, (68, 2) photograph pixels, including self-occluded ones."""
    moved = (head.landmarks - head.axis) @ turn.T + head.axis
    return head.region.to_photo(moved[:, :2])
