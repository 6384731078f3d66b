"""Head pose transfer: the head motion of a driving video rotates the head in a photograph or in another video.

Only the change of the pose since the driving face first appears is transferred: yaw, pitch and roll, each smoothed over
time. Angles beyond the reach are clamped, and a warning states how many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from latentrot.data.animation import (
    check_animation_target,
    is_animated,
    open_video_or_animation,
    shrink_to_side,
    write_frames,
)
from latentrot.data.video import Video, VideoFrame, is_video
from latentrot.directions.properties import Wanted
from latentrot.errors import LatentrotError, one_line
from latentrot.files import is_same_file
from latentrot.portrait.face import PreparedFace, prepare_face
from latentrot.portrait.portrait import EditConfig, Portrait
from latentrot.portrait.pose import pose_in
from latentrot.portrait.properties import edit_appearance
from latentrot.portrait.results import LONGEST_SIDE, previous_edit, synthetic_metadata
from latentrot.portrait.tracking import FaceTracker, SmoothedYaw
from latentrot.portrait.turns import Turn
from latentrot.portrait.upscale import Upscaler
from latentrot.rotators.properties import PropertyEditor
from latentrot.rotators.protocol import Rotator, capabilities_of

__all__ = ["REACH", "Follower", "Motion", "check_follow_out", "follow_photograph", "open_motion", "read_motion"]

#: max rotation by a driving head, degrees to either side; beyond it, most visible pixels would be synthesized
REACH = Turn(60.0, 40.0, 30.0)
#: suffixes of the result of a photograph with a driving video
KINDS = (".mp4", ".gif", ".webp")

Watch = Callable[[Iterator[VideoFrame], Video], Iterable[VideoFrame]]


@dataclass(frozen=True, eq=False)
class Motion:
    """Motion of a head in a video.

    Attributes:
        path: video file.
        frames: start and duration of each frame, seconds.
        times: (n,) start of each frame in which the face is visible, seconds, increasing.
        poses: (n, 3) smoothed yaw, pitch and roll at these times, relative to the first, degrees.
        fps: mean frames per second.
    """

    path: Path
    frames: tuple[tuple[Fraction, Fraction], ...]
    times: np.ndarray
    poses: np.ndarray
    fps: float

    def at(self, seconds: float) -> Turn:
        """Rotation since the first visible frame; interpolated linearly between visible frames, constant after the last."""
        return Turn(*(float(np.interp(seconds, self.times, column)) for column in self.poses.T))


def open_motion(path: Path) -> Video:
    """Open a driving video or animated image.

    Raises:
        LatentrotError: the file is neither, or cannot be read.
    """
    if not (is_video(path) or is_animated(path)):
        raise LatentrotError(f"--follow {one_line(path)}: expected a video or an animated image")
    return open_video_or_animation(path)


def read_motion(video: Video, rotator: Rotator, device: str | None = None, watch: Watch = lambda f, _: f) -> Motion:
    """Measure the motion of the largest head in a video.

    Args:
        video: from `open_motion`; its frame iterator is consumed.
        rotator: its label network measures yaw and pitch.
        device: device of the networks; None: cuda if available, else the CPU.
        watch: wraps the frame iterator, for a progress bar.

    Raises:
        LatentrotError: no frame shows a face.
    """
    tracker = FaceTracker(device=EditConfig(device=device).perception_device)
    smoothed, start = [SmoothedYaw() for _ in range(3)], np.zeros(3)
    frames, times, poses = [], [], []
    for frame in watch(video.frames, video):
        frames.append((frame.start, frame.seconds))
        at = float(frame.start)
        tracked = tracker.update(frame.pixels, at)
        if tracked is None:
            continue
        try:
            pose = pose_in(frame.pixels, tracked.alignment, rotator, device)
        except LatentrotError:  # blur or occlusion: the next frame may succeed
            continue
        angles = np.array([pose.yaw, pose.pitch, pose.roll])
        if tracked.new:  # after a cut the motion continues from the last pose
            smoothed = [SmoothedYaw() for _ in range(3)]
            start = angles - (poses[-1] if poses else 0)
        poses.append(np.array([s.update(a, at) for s, a in zip(smoothed, angles, strict=True)]) - start)
        times.append(at)
    if not times:
        raise LatentrotError(
            f"--follow {one_line(video.path)}: no face found in its {len(frames)} frames; give another video"
        )
    return Motion(video.path, tuple(frames), np.array(times), np.array(poses), video.fps)


@dataclass(eq=False)
class Follower:
    """Rotations of a head that follows a driving head, clamped to the reach.

    Args:
        motion: motion of the driving head.
        reach: min and max calibrated yaw, degrees, as in `PreparedFace.reach`; None: limited by `REACH` only.

    Attributes:
        frames: number of rotations computed so far.
        clamped: number of clamped rotations so far.
    """

    motion: Motion
    reach: tuple[float, float] | None = None
    frames: int = 0
    clamped: int = 0

    @property
    def yaws(self) -> tuple[float, float]:
        """Min and max yaw within the reach, degrees."""
        low, high = self.reach or (-REACH.yaw, REACH.yaw)
        return max(low, -REACH.yaw), min(high, REACH.yaw)

    @property
    def turns(self) -> list[Turn]:
        """The clamped rotations of the whole motion, beginning with none."""
        return [Turn(), *(self.within(Turn(*map(float, pose))) for pose in self.motion.poses)]

    def within(self, turn: Turn) -> Turn:
        """Clamp a rotation to the reach."""
        low, high = self.yaws
        return Turn(
            float(np.clip(turn.yaw, low, high)),
            float(np.clip(turn.pitch, -REACH.pitch, REACH.pitch)),
            float(np.clip(turn.roll, -REACH.roll, REACH.roll)),
        )

    def turn(self, seconds: float) -> Turn:
        """The clamped rotation at a time in seconds; also updates the counts."""
        wanted = self.motion.at(seconds)
        turn = self.within(wanted)
        self.frames += 1
        self.clamped += turn != wanted
        return turn

    @property
    def warnings(self) -> list[str]:
        """Warnings for the user."""
        low, high = self.yaws
        reach = f"yaw {low:+.0f} to {high:+.0f}, pitch {REACH.pitch:.0f}, roll {REACH.roll:.0f} degrees"
        return [f"{self.clamped} of {self.frames} frames are clamped to the reach ({reach})"] if self.clamped else []

    def details(self) -> dict[str, object]:
        """Name of the driving video, for metadata and report."""
        return {"follows": self.motion.path.name}


def check_follow_out(out: Path, *sources: Path) -> None:
    """Refuse an output with an unsupported suffix, one that cannot be written, or one of the sources.

    Raises:
        LatentrotError: the output is refused.
    """
    check_animation_target(out, KINDS, "--follow writes a video or an animation")
    if any(is_same_file(out, source) for source in sources):
        raise LatentrotError(f"{one_line(out)} is one of the sources; choose another name")


@dataclass(eq=False)
class FollowedPhotograph:
    """A photograph whose head follows a driving head.

    Attributes:
        face: the prepared, calibrated face.
        follower: supplies the rotations.
        whole: whether the whole head is rendered.
        upscaler: restoration network, applied to each generated crop.
        yaws: measured yaw of each result so far, degrees.
    """

    face: PreparedFace
    follower: Follower
    whole: bool
    upscaler: Upscaler | None = None
    yaws: list[float] = field(default_factory=list)

    def frames(self) -> Iterator[VideoFrame]:
        """Yield one result for each frame of the motion, with its start and duration."""
        for start, seconds in self.follower.motion.frames:
            edited = self.face.edit([self.follower.turn(float(start))], self.upscaler, whole=self.whole)
            image = self.face.portrait.image.copy()
            edited.patch(0).paste(image)
            self.yaws.append(edited.turned.frames[0].yaw_deg)
            yield VideoFrame(shrink_to_side(image, LONGEST_SIDE), start, seconds)


def follow_photograph(
    portrait: Portrait,
    motion: Motion,
    out: Path,
    rotator: Rotator,
    config: EditConfig | None = None,
    upscaler: Upscaler | None = None,
    wanted: Mapping[str, Wanted] | None = None,
    editor: PropertyEditor | None = None,
    watch: Callable[[Iterator[VideoFrame]], Iterable[VideoFrame]] = lambda frames: frames,
) -> dict[str, Any]:
    """Animate a photograph with the motion of a driving head, at the frame times of the driving video; max side 1280 pixels.

    Args:
        portrait: from `open_portrait`.
        motion: from `read_motion`.
        out: .mp4, .gif or .webp, checked by `check_follow_out`.
        rotator: a rotator of crops; rotators of whole photographs cannot change pitch and roll.
        config: options of the edit.
        upscaler: restoration network, applied to each generated crop.
        wanted: property name -> change or target; edited once, before the rotation.
        editor: property editor; needed if `wanted` names a property.
        watch: wraps the iterator of results, for a progress bar.

    Returns:
        The report, ready for JSON.

    Raises:
        LatentrotError: the face cannot be edited, or the file cannot be written.
    """
    config = config or EditConfig()
    appearance = edit_appearance(portrait, editor, wanted or {})
    face = prepare_face(appearance.portrait, portrait.alignments[0], rotator, config)
    follower = Follower(motion, face.reach)
    still = FollowedPhotograph(face, follower, face.steady(follower.turns), upscaler)
    name = capabilities_of(rotator).name
    told = {n: str(w) for n, w in (wanted or {}).items()}
    details = {"model": name, **follower.details(), **({"properties": told} if told else {})}
    metadata = synthetic_metadata({**details, "video": True, **previous_edit(portrait.photograph.history)})
    frames = watch(still.frames())
    write_frames(out, frames, metadata)
    warnings = [*portrait.warnings, *capabilities_of(rotator).warnings, *appearance.warnings, *follower.warnings]
    seen = {"frames": follower.frames, "turned": follower.frames, "unchanged": 0, "held": follower.clamped}
    seen["face_seen"] = len(motion.times)
    mean = round(float(np.mean(still.yaws)), 2)
    yaws = {
        "yaw_before_deg": round(face.crop.yaw_deg, 2),
        "yaw_after_deg": mean,
        "yaws_deg": np.round(still.yaws, 2).tolist(),
    }
    return {"input": str(portrait.path), "output": str(out), **details, **seen, **yaws, "fps": round(motion.fps, 3),
            "notes": warnings}  # fmt: skip
