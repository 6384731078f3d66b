"""Track one face through the frames of a video.

| | filter over time |
|---|---|
| landmarks of the crop | 1 euro filter: less smoothing for faster motion |
| yaw of the source | low-pass filter |

A face that is lost or jumps starts a new track.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from latentrot.faces.alignment import MEAN_LANDMARKS, Alignment, align_landmarks
from latentrot.faces.detect import Face, choose_face, detect_faces
from latentrot.faces.framing import frame_face

__all__ = ["FaceTracker", "SmoothedYaw", "TrackedFace"]

#: cutoff frequency of nearly still landmarks, hertz, and its increase per frame pixel per second
MIN_CUTOFF, CUTOFF_SLOPE = 1.0, 0.05
#: cutoff frequency for the yaw of the source, hertz
YAW_CUTOFF = 2.0
#: max motion per frame, in distances between the eyes, and max time without a detection, in seconds; beyond
#: either, a new track starts
MAX_MOVE, MAX_LOST = 1.0, 0.5


def low_pass_share(hertz: float | np.ndarray, seconds: float) -> float | np.ndarray:
    """Smoothing factor of a first-order low-pass filter, 0 to 1, for a time step in seconds."""
    return 1 / (1 + 1 / (2 * np.pi * hertz * seconds))


@dataclass(eq=False)
class SmoothedLandmarks:
    """Landmarks smoothed by the 1 euro filter: strong smoothing when still, little when moving fast.

    Source: Casiez, Roussel, Vogel, "1 Euro Filter: A Simple Speed-based Low-pass Filter for Noisy Input in Interactive
    Systems", CHI 2012.

    Attributes:
        value: (5, 2) photograph pixels.
        speed: (5, 1) smoothed speed, pixels per second.
    """

    value: np.ndarray
    speed: np.ndarray = field(default_factory=lambda: np.zeros((5, 1)))

    def update(self, points: np.ndarray, seconds: float, scale: float) -> np.ndarray:
        """Filter the next points after a time step in seconds; `scale` is frame pixels per photograph pixel."""
        now = np.linalg.norm(points - self.value, axis=1, keepdims=True) / seconds
        self.speed = self.speed + low_pass_share(1.0, seconds) * (now - self.speed)
        self.value = self.value + low_pass_share(MIN_CUTOFF + CUTOFF_SLOPE * scale * self.speed, seconds) * (
            points - self.value
        )
        return self.value


@dataclass(eq=False)
class SmoothedYaw:
    """An angle smoothed over time by a low-pass filter.

    Attributes:
        degrees: the smoothed angle.
        last: time of the last measurement, seconds; None before the first one.
    """

    degrees: float = 0.0
    last: float | None = None

    def update(self, degrees: float, at: float) -> float:
        """Filter a measurement and return the smoothed angle, degrees."""
        share = 1.0 if self.last is None else float(low_pass_share(YAW_CUTOFF, at - self.last))
        self.degrees, self.last = self.degrees + share * (degrees - self.degrees), at
        return self.degrees


@dataclass(frozen=True, eq=False)
class TrackedFace:
    """The tracked face in one frame.

    Attributes:
        alignment: similarity transform from the frame to the CelebA frame.
        new: whether a new track starts with this frame.
        faces: all faces of the frame.
    """

    alignment: Alignment
    new: bool
    faces: tuple[Face, ...]


@dataclass(eq=False)
class FaceTracker:
    """Tracks one face from frame to frame.

    Args:
        face: "largest", or the number of the face in the first frame of a track.
        device: device of the detector; the CPU by default.

    Attributes:
        points: landmarks of the tracked face; None if no face is tracked.
        missed: number of frames since the last detection, including this one.
        last: time of the last detection, seconds.
        followed: number of tracks so far.
    """

    face: str = "largest"
    device: str | None = None
    points: SmoothedLandmarks | None = None
    missed: int = 0
    last: float = 0.0
    followed: int = 0

    def update(self, frame: np.ndarray, at: float) -> TrackedFace | None:
        """Find the face in the next frame.

        Args:
            frame: (h, w, 3) uint8.
            at: start time of the frame, seconds.

        Returns:
            The tracked face; None if it is not detected.
        """
        self.missed += 1
        faces = detect_faces(frame, self.device)
        face = self._find(faces, at)
        if face is None:
            return None
        alignment, new = frame_face(frame, face.landmarks, self.device), self.points is None
        seen = alignment.to_photo(MEAN_LANDMARKS)
        if self.points is None:
            self.points = SmoothedLandmarks(seen)
            self.followed += 1
        else:
            points = self.points.update(seen, at - self.last, alignment.scale)
            alignment = align_landmarks(points, (frame.shape[1], frame.shape[0]))
        self.missed, self.last = 0, at
        return TrackedFace(alignment, new, tuple(faces))

    def _find(self, faces: list[Face], at: float) -> Face | None:
        """Choose the face of the current track, or of a new track if it is lost."""
        if self.missed > 1 and at - self.last > MAX_LOST:
            self.points = None
        if self.points is None:
            there = self.face == "largest" or int(self.face) < len(faces)
            return choose_face(faces, self.face)[0] if faces and there else None
        was = self.points.value[:2]
        near = min(faces, key=lambda f: np.linalg.norm(f.landmarks[:2] - was), default=None)
        if near is None:
            return None
        moved = np.linalg.norm((near.landmarks[:2] - was).mean(0))
        if moved > MAX_MOVE * np.linalg.norm(was[1] - was[0]) * self.missed:
            self.points = None  # a cut in the video
        return near
