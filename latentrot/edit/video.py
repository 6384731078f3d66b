"""Turn the face in a video, frame by frame: one face is followed, and what may not jump from frame to frame is held.

| | over time |
|---|---|
| landmarks | smoothed, less so the faster they move; only the crop's place depends on them, not where the face is pasted |
| yaw and pitch of the source | smoothed |
| light, and how far a step turns this face | measured where the face first appears, then held |

A face that is lost or jumps is a new one. Frames without it pass as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from latentrot.data.align import MEAN_LANDMARKS, Alignment, align_landmarks
from latentrot.data.images import check_target
from latentrot.data.video import Video, encode_mp4, open_video
from latentrot.edit.compose import fill_hidden
from latentrot.edit.results import synthetic_notes
from latentrot.edit.upscale import Upscaler
from latentrot.errors import LatentrotError, one_line
from latentrot.files import write_atomically
from latentrot.label.detect import Face, choose_face, detect_faces
from latentrot.label.framing import frame_face
from latentrot.rotate.latent.rotator import Embedded, LatentRotator
from latentrot.rotate.latent.search import CalibrationCurve
from latentrot.rotate.mesh import MeshRotator, turn_head

__all__ = ["VideoTurner", "check_video_out", "edit_video"]

#: how slowly landmarks that hardly move follow (hertz), and how much faster they follow at each frame pixel a second
SLOWEST, HASTE = 1.0, 0.05
#: how slowly the source's yaw follows, hertz
YAW_HERTZ = 2.0
#: a face that moves further than this between frames, or is lost for longer, is another one (distances between its eyes;
#: seconds)
FURTHEST, LOST = 1.0, 0.5


def follow(hertz: float | np.ndarray, seconds: float) -> float | np.ndarray:
    """The share of the way a first-order low-pass filter goes to its input within so many seconds."""
    return 1 / (1 + 1 / (2 * np.pi * hertz * seconds))


@dataclass(eq=False)
class Smoothed:
    """Landmarks over time: still ones are held, quick ones are followed.

    Source: Casiez, Roussel, Vogel, "1 Euro Filter: A Simple Speed-based Low-pass Filter for Noisy Input in Interactive
    Systems", CHI 2012.

    Attributes:
        value: (5, 2) photograph pixels.
        speed: (5, 1) smoothed, pixels a second.
    """

    value: np.ndarray
    speed: np.ndarray = field(default_factory=lambda: np.zeros((5, 1)))

    def update(self, points: np.ndarray, seconds: float, grain: float) -> np.ndarray:
        """Take in the next points, so many seconds later; `grain` is frame pixels per photograph pixel."""
        now = np.linalg.norm(points - self.value, axis=1, keepdims=True) / seconds
        self.speed = self.speed + follow(1.0, seconds) * (now - self.speed)
        self.value = self.value + follow(SLOWEST + HASTE * grain * self.speed, seconds) * (points - self.value)
        return self.value


@dataclass(eq=False)
class Track:
    """One face followed.

    Attributes:
        points: its landmarks.
        light: the light group, measured at its first frame.
        curve: how far steps turn it, measured at its first frame; None to trust the average.
        yaw_deg: smoothed, degrees.
        last: number of the last frame it was seen in.
    """

    points: Smoothed
    light: str
    curve: CalibrationCurve | None
    yaw_deg: float
    last: int


@dataclass(eq=False)
class VideoTurner:
    """Turns one face through the frames of a video.

    Args:
        rotator: from `load_latent_rotator`.
        degrees: the turn, or the pose to hold if `absolute`; > 0: nose to the viewer's right.
        absolute: degrees are a pose.
        light: auto, left, center or right.
        face: "largest", or the number of a face where it first appears.
        upscaler: restores the turned crops.

    Attributes:
        seen: frames so far.
        turned: frames with a turned face.
        tracks: faces followed, one after another.
        yaws: sums of the source's and the turned yaw, degrees.
    """

    rotator: LatentRotator
    degrees: float
    absolute: bool = False
    light: str = "auto"
    face: str = "largest"
    upscaler: Upscaler | None = None
    seen: int = 0
    turned: int = 0
    tracks: int = 0
    yaws: np.ndarray = field(default_factory=lambda: np.zeros(2))
    track: Track | None = None

    def frames(self, frames: Iterable[np.ndarray], fps: float) -> Iterator[np.ndarray]:
        """Frames (h, w, 3) uint8, turned where there is a face, one at a time."""
        for frame in frames:
            self.seen += 1
            face = self._find(detect_faces(frame), fps)
            yield frame if face is None else self._turn(frame, face, fps)

    def _find(self, faces: list[Face], fps: float) -> Face | None:
        """The face that is followed; another where it is lost."""
        if self.track is not None and self.seen - self.track.last > max(1.0, LOST * fps):
            self.track = None
        if self.track is None:
            chosen = self.face if self.face == "largest" or int(self.face) < len(faces) else ""
            return choose_face(faces, chosen)[0] if faces and chosen else None
        was = self.track.points.value[:2]
        apart = np.linalg.norm(was[1] - was[0])
        near = min(faces, key=lambda f: np.linalg.norm(f.landmarks[:2] - was), default=None)
        if near is None:
            return None
        moved = np.linalg.norm((near.landmarks[:2] - was).mean(0))
        if moved > FURTHEST * apart * max(1, self.seen - self.track.last):
            self.track = None  # a cut
        return near

    def _turn(self, frame: np.ndarray, face: Face, fps: float) -> np.ndarray:
        """One frame with its face turned."""
        size, track = (frame.shape[1], frame.shape[0]), self.track
        alignment = frame_face(frame, face.landmarks)
        if track is not None:
            seen = alignment.to_photo(MEAN_LANDMARKS)
            points = track.points.update(seen, (self.seen - track.last) / fps, alignment.scale)
            alignment = align_landmarks(points, size)
        crop = alignment.crop(frame, self.rotator.model.resolution)
        found = self.rotator.embed(crop, self.light if track is None else track.light)
        if track is None:
            turn = self.degrees - found.yaw_deg if self.absolute else self.degrees
            curve = self.rotator.measure_curve(found, [turn]) if self.rotator.measure else None
            points = Smoothed(alignment.to_photo(MEAN_LANDMARKS))
            track = self.track = Track(points, found.light, curve, found.yaw_deg, self.seen)
            self.tracks += 1
        else:
            share = follow(YAW_HERTZ, (self.seen - track.last) / fps)
            track.yaw_deg += float(share) * (found.yaw_deg - track.yaw_deg)
            track.last = self.seen
        return self._paste(frame, alignment, replace(found, yaw_deg=track.yaw_deg), track.curve)

    def _paste(
        self, frame: np.ndarray, alignment: Alignment, found: Embedded, curve: CalibrationCurve | None
    ) -> np.ndarray:
        """The frame with the turned crop in it."""
        rotator = self.rotator if curve is not None else replace(self.rotator, measure=False)
        result = rotator.turn(found, [self.degrees], absolute=self.absolute, curve=curve)
        self.yaws += [found.yaw_deg, result.frames[0].yaw_deg]
        self.turned += 1
        if self.upscaler is not None:
            result = self.upscaler.upscale_turned(result)
        drawn, head = result.frames[0], MeshRotator().head_of(frame, alignment)
        picture = frame.copy()
        fill_hidden(head, turn_head(head, drawn.requested_deg), drawn.image).laid_on(picture)
        return picture

    def report(self) -> dict[str, object]:
        """What was done, in plain numbers; yaws are means over the frames turned, degrees."""
        before, after = (self.yaws / max(1, self.turned)).round(2).tolist()
        return {
            "requested_deg": self.degrees,
            "pose": self.absolute,
            "frames": self.seen,
            "turned": self.turned,
            "unchanged": self.seen - self.turned,
            "faces_followed": self.tracks,
            **({"yaw_before_deg": before, "yaw_after_deg": after} if self.turned else {}),
        }


def check_video_out(out: Path, source: Path) -> None:
    """Refuse an output that is no MP4, cannot be written, or is the source.

    Raises:
        LatentrotError: naming it.
    """
    if out.suffix.lower() != ".mp4":
        raise LatentrotError(f"cannot write {one_line(out)}: a turned video is an MP4; give --out a name in .mp4")
    check_target(out)
    if out.exists() and source.exists() and out.samefile(source):
        raise LatentrotError(f"{one_line(out)} is the video itself; choose another name")


def edit_video(
    path: Path,
    out: Path,
    load: Callable[[], VideoTurner],
    watch: Callable[[Iterator[np.ndarray], Video], Iterable[np.ndarray]] = lambda frames, video: frames,
) -> dict[str, object]:
    """Turn the face in a video; its sound is kept.

    Args:
        path: the video.
        out: an .mp4; a file of that name is replaced once the new one is whole.
        load: makes the turner, after the video was seen to be readable.
        watch: wraps the frames as they are written, for a progress bar.

    Returns:
        The report.

    Raises:
        LatentrotError: a video that cannot be read, or in which no face was found; an output that cannot be written.
    """
    check_video_out(out, path)
    video = open_video(path)
    turner = load()

    def write(to: Path) -> None:
        notes = synthetic_notes({"model": turner.rotator.model.name, "asked_deg": turner.degrees, "video": True})
        encode_mp4(to, watch(turner.frames(video.frames, video.fps), video), video.fps, notes, video)
        if not turner.turned:
            raise LatentrotError(
                f"no face found in any of the {turner.seen} frames of {one_line(path)}; nothing was written"
            )

    write_atomically(out, write)
    facts = {"input": str(path), "output": str(out), "model": turner.rotator.model.name}
    return {**facts, **turner.report(), "fps": video.fps, "sound": video.sound or "none"}
