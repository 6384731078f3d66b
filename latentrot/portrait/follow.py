"""A head that follows the motion of another: the pose of a driving video moves a still photograph, or a face in a video.

Only the pose is taken, as it changes since the driving face first appears: yaw, pitch and roll, each smoothed over time. What
lies beyond the reach is held there, and said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from latentrot.data.animation import check_encoder, fit_side, is_animated, open_animation, write_animation
from latentrot.data.images import check_target
from latentrot.data.video import Video, VideoFrame, encode_mp4, is_video, open_video
from latentrot.directions.properties import Wanted
from latentrot.errors import LatentrotError, one_line
from latentrot.files import check_writable, write_atomically
from latentrot.portrait.face import PreparedFace, prepare_face
from latentrot.portrait.portrait import EditConfig, Portrait
from latentrot.portrait.pose import pose_in
from latentrot.portrait.properties import edit_appearance
from latentrot.portrait.results import LONGEST_SIDE, earlier, synthetic_metadata
from latentrot.portrait.tracking import FaceTracker, SmoothedYaw
from latentrot.portrait.turns import Turn
from latentrot.portrait.upscale import Upscaler
from latentrot.rotators.properties import PropertyEditor
from latentrot.rotators.protocol import Rotator, capabilities_of

__all__ = ["REACH", "Follower", "Motion", "check_follow_out", "follow_photograph", "open_motion", "read_motion"]

#: how far a head is rotated to follow another, degrees to either side; beyond, what is seen is mostly made up
REACH = Turn(40.0, 25.0, 20.0)
#: what a still photograph that follows may be written as
KINDS = (".mp4", ".gif", ".webp")

Watch = Callable[[Iterator[VideoFrame], Video], Iterable[VideoFrame]]


@dataclass(frozen=True, eq=False)
class Motion:
    """How a head moves in a video.

    Attributes:
        path: of the video.
        frames: start and duration of each of its frames, seconds.
        times: when the face is seen, seconds, rising.
        poses: (n, 3) yaw, pitch and roll then, relative to when it first appears, smoothed, degrees.
        fps: mean frames per second.
    """

    path: Path
    frames: tuple[tuple[Fraction, Fraction], ...]
    times: np.ndarray
    poses: np.ndarray
    fps: float

    def at(self, seconds: float) -> Turn:
        """The rotation since the beginning; where the face is not seen, between its neighbours, and held after the end."""
        return Turn(*(float(np.interp(seconds, self.times, column)) for column in self.poses.T))

    @property
    def ends(self) -> tuple[float, float]:
        """The farthest yaws to either side, 0 among them."""
        return min(0.0, float(self.poses[:, 0].min())), max(0.0, float(self.poses[:, 0].max()))


def open_motion(path: Path) -> Video:
    """Open the driving video, or animated image.

    Raises:
        LatentrotError: it is neither, or cannot be read.
    """
    if is_video(path):
        return open_video(path)
    if is_animated(path):
        return open_animation(path)
    raise LatentrotError(f"--follow {one_line(path)}: expected a video or an animated image")


def read_motion(video: Video, rotator: Rotator, device: str | None = None, watch: Watch = lambda f, _: f) -> Motion:
    """Measure how the largest head of a video moves.

    Args:
        video: from `open_motion`; its frames are used up.
        rotator: its label network measures yaw and pitch.
        device: where networks run; None: cuda where there is one, else the CPU.
        watch: wraps the frames as they are measured, for a progress bar.

    Raises:
        LatentrotError: no face is seen in it.
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
        except LatentrotError:  # a blur, a hand before the face: the next frame may do
            continue
        angles = np.array([pose.yaw, pose.pitch, pose.roll])
        if tracked.new:  # after a cut the head goes on from where it was
            smoothed = [SmoothedYaw() for _ in range(3)]
            start = angles - (poses[-1] if poses else 0)
        poses.append(np.array([s.update(a, at) for s, a in zip(smoothed, angles, strict=True)]) - start)
        times.append(at)
    if not times:
        raise LatentrotError(f"--follow {one_line(video.path)}: no face is seen in its {len(frames)} frames")
    return Motion(video.path, tuple(frames), np.array(times), np.array(poses), video.fps)


@dataclass(eq=False)
class Follower:
    """The rotations by which a head follows a motion, held at the reach.

    Args:
        motion: of the other head.
        reach: yaws to either side within which the rotator was calibrated, as `Prepared.reach`; None: as far as `REACH`.

    Attributes:
        frames: rotations asked for so far.
        held: those of them that were held.
    """

    motion: Motion
    reach: tuple[float, float] | None = None
    frames: int = 0
    held: int = 0

    @property
    def yaws(self) -> tuple[float, float]:
        """The farthest yaws to either side."""
        low, high = self.reach or (-REACH.yaw, REACH.yaw)
        return max(low, -REACH.yaw), min(high, REACH.yaw)

    @property
    def ends(self) -> tuple[float, float]:
        """The farthest yaws that are asked for, for a calibration."""
        return max(self.motion.ends[0], self.yaws[0]), min(self.motion.ends[1], self.yaws[1])

    def turn(self, seconds: float) -> Turn:
        """The rotation at a time."""
        wanted = self.motion.at(seconds)
        low, high = self.yaws
        turn = Turn(
            float(np.clip(wanted.yaw, low, high)),
            float(np.clip(wanted.pitch, -REACH.pitch, REACH.pitch)),
            float(np.clip(wanted.roll, -REACH.roll, REACH.roll)),
        )
        self.frames += 1
        self.held += turn != wanted
        return turn

    @property
    def warnings(self) -> list[str]:
        """What the user should know."""
        low, high = self.yaws
        reach = f"yaw {low:+.0f} to {high:+.0f}, pitch {REACH.pitch:.0f}, roll {REACH.roll:.0f} degrees"
        return [f"{self.held} of {self.frames} frames are held at the reach ({reach})"] if self.held else []

    def details(self) -> dict[str, object]:
        """For metadata and report."""
        return {"follows": self.motion.path.name}


def check_follow_out(out: Path, *sources: Path) -> None:
    """Refuse an output of the wrong kind, one that cannot be written, or that is one of the sources.

    Raises:
        LatentrotError: naming it.
    """
    if out.suffix.lower() not in KINDS:
        raise LatentrotError(
            f"cannot write {one_line(out)}: what follows moves; give --out a name in {' or '.join(KINDS)}"
        )
    check_encoder(out)
    check_target(out)
    check_writable(out)
    for source in sources:
        if out.exists() and source.exists() and out.samefile(source):
            raise LatentrotError(f"{one_line(out)} is one of the sources; choose another name")


@dataclass(eq=False)
class Still:
    """A photograph whose head follows.

    Attributes:
        face: prepared and calibrated.
        follower: says the rotations.
        upscaler: restores what the rotator draws.
        yaws: of the rotated face, a frame each, degrees.
    """

    face: PreparedFace
    follower: Follower
    upscaler: Upscaler | None = None
    yaws: list[float] = field(default_factory=list)

    def frames(self) -> Iterator[VideoFrame]:
        """A frame for each of the motion's."""
        for start, seconds in self.follower.motion.frames:
            edited = self.face.edit([self.follower.turn(float(start))], self.upscaler)
            image = self.face.portrait.image.copy()
            edited.patch(0).paste(image)
            self.yaws.append(edited.turned.frames[0].yaw_deg)
            yield VideoFrame(fit_side(image, LONGEST_SIDE), start, seconds)


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
    """Write a photograph whose head follows a motion, with the motion's own times, no side over 1280 pixels.

    Args:
        portrait: from `open_portrait`.
        motion: from `read_motion`.
        out: .mp4, .gif or .webp, seen to be writable by `check_follow_out`.
        rotator: any that geometry goes along with.
        config: how the face is edited.
        upscaler: restores what the rotator draws.
        wanted: properties, edited once.
        editor: of properties, where any are asked for.
        watch: wraps the frames as they are made, for a progress bar.

    Returns:
        The report.

    Raises:
        LatentrotError: the face cannot be rotated, or the file not be written.
    """
    config = config or EditConfig()
    appearance = edit_appearance(portrait, editor, wanted or {})
    face = prepare_face(appearance.portrait, portrait.alignments[0], rotator, config)
    follower = Follower(motion, face.crop.reach)
    face.crop = face.crop.calibrated(list(follower.ends), steady=True)
    still = Still(face, follower, upscaler)
    name = capabilities_of(rotator).name
    told = {n: f"{w.value:g}" if w.absolute else f"{w.value:+g}" for n, w in (wanted or {}).items()}
    details = {"model": name, **follower.details(), **({"properties": told} if told else {})}
    metadata = synthetic_metadata({**details, "video": True, **earlier(portrait.photograph.history)})
    frames = watch(still.frames())
    if out.suffix.lower() == ".mp4":
        write_atomically(out, lambda p: encode_mp4(p, frames, metadata))
    else:
        shown = list(frames)
        write_animation(out, [f.pixels for f in shown], [round(1000 * f.seconds) for f in shown], metadata)
    warnings = [*portrait.warnings, *capabilities_of(rotator).warnings, *appearance.warnings, *follower.warnings]
    seen = {"frames": follower.frames, "turned": follower.frames, "unchanged": 0, "held": follower.held}
    seen["face_seen"] = len(motion.times)
    mean = round(float(np.mean(still.yaws)), 2)
    yaws = {
        "yaw_before_deg": round(face.crop.yaw_deg, 2),
        "yaw_after_deg": mean,
        "yaws_deg": np.round(still.yaws, 2).tolist(),
    }
    return {"input": str(portrait.path), "output": str(out), **details, **seen, **yaws, "fps": round(motion.fps, 3),
            "notes": warnings}  # fmt: skip
