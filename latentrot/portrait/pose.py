"""Measure the pose of a face in another photograph, as the target pose of an edit."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from latentrot.faces.alignment import Alignment
from latentrot.faces.landmarks import estimate_landmarks
from latentrot.geometry.surface import fit_surface
from latentrot.portrait.portrait import EditConfig, Portrait, open_portrait
from latentrot.portrait.turns import Turn
from latentrot.rotators.protocol import Rotator, capabilities_of, measure

__all__ = ["open_pose", "pose_in", "pose_of"]


def open_pose(path: Path, device: str | None = None) -> Portrait:
    """Read the photograph that supplies the target pose, and align its largest face.

    Raises:
        LatentrotError: the photograph cannot be read, or shows no face.
    """
    return open_portrait(path, EditConfig(device=device))


def pose_of(portrait: Portrait, rotator: Rotator, device: str | None = None) -> Turn:
    """Measure the pose of the chosen face in a photograph; see `pose_in` for arguments and errors."""
    return pose_in(portrait.image, portrait.alignments[0], rotator, device)


def pose_in(image: np.ndarray, alignment: Alignment, rotator: Rotator, device: str | None = None) -> Turn:
    """Measure the pose of a face in degrees, with the same estimators as `PreparedFace.pose`.

    Args:
        image: (h, w, 3) uint8.
        alignment: similarity transform from the image to the CelebA frame.
        rotator: its label network measures yaw and pitch.
        device: device of the networks; None: cuda if available, else the CPU.

    Raises:
        LatentrotError: the landmarks are too uncertain to measure the roll.
    """
    where = EditConfig(device=device).perception_device
    yaw, pitch, _ = measure(rotator, alignment.crop(image, capabilities_of(rotator).crop_side), where)
    marks = estimate_landmarks(image, alignment, device=where).require_sure().points
    return Turn(yaw, pitch, fit_surface(marks).roll_deg)
