"""The pose of a face in another photograph, for a head to take."""

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
    """Read the photograph whose largest face's pose is to be taken.

    Raises:
        LatentrotError: it cannot be read, or shows no face.
    """
    return open_portrait(path, EditConfig(device=device))


def pose_of(portrait: Portrait, rotator: Rotator, device: str | None = None) -> Turn:
    """The pose of a photograph's chosen face; arguments and errors as of `pose_in`."""
    return pose_in(portrait.image, portrait.alignments[0], rotator, device)


def pose_in(image: np.ndarray, alignment: Alignment, rotator: Rotator, device: str | None = None) -> Turn:
    """The pose of a face, measured as `PreparedFace.pose` is: the same photograph has the same pose.

    Args:
        image: (h, w, 3) uint8.
        alignment: where the face lies.
        rotator: its label network measures yaw and pitch.
        device: where networks run; None: cuda where there is one, else the CPU.

    Raises:
        LatentrotError: its landmarks are too uncertain to say how it leans.
    """
    where = EditConfig(device=device).perception_device
    yaw, pitch, _ = measure(rotator, alignment.crop(image, capabilities_of(rotator).crop_side), where)
    marks = estimate_landmarks(image, alignment, device=where).require_sure().points
    return Turn(yaw, pitch, fit_surface(marks).roll_deg)
