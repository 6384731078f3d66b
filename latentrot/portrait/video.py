"""Rotate the face in a video or an animated image: one face is followed, and what must not jump between frames is held.

`FaceTracker` says where the face is and smooths its landmarks and its yaw. Light and calibration are measured where the face
first appears, then held. A frame whose face cannot be rotated passes as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from latentrot.data.animation import check_encoder, open_animation, write_animation
from latentrot.data.images import Photograph, check_target
from latentrot.data.video import Video, VideoFrame, encode_mp4, is_video, open_video
from latentrot.directions.difference import apply_change
from latentrot.directions.properties import Wanted
from latentrot.errors import LatentrotError, one_line
from latentrot.faces.alignment import Alignment
from latentrot.files import check_writable, write_atomically
from latentrot.portrait.face import PreparedFace, prepare_face
from latentrot.portrait.follow import Follower
from latentrot.portrait.portrait import EditConfig, Portrait
from latentrot.portrait.results import earlier, synthetic_metadata
from latentrot.portrait.tracking import FaceTracker, SmoothedYaw, TrackedFace
from latentrot.portrait.turns import Turn
from latentrot.portrait.upscale import Upscaler
from latentrot.rotators.properties import PropertyEditor
from latentrot.rotators.protocol import Prepared, Rotator, capabilities_of

__all__ = ["VideoEditor", "check_video_out", "default_out", "edit_video"]


@dataclass(eq=False)
class VideoEditor:
    """Rotates one face through the frames of a video.

    Args:
        rotator: any.
        degrees: the rotation, or the pose to hold; > 0: nose to the viewer's right.
        config: pose or rotation, light, face.
        upscaler: restores what the rotator draws.
        wanted: properties; their steps are searched where the face first appears, then held.
        editor: of properties, where any are asked for.
        follower: the motion of another head by which this one's own motion is turned; None: every frame by the same degrees.

    Attributes:
        seen: frames so far.
        yaws: of the source and the rotated face, degrees, one pair for each frame rotated.
        refused: why a face that was found could not be rotated, the last reason.
    """

    rotator: Rotator
    degrees: float
    config: EditConfig = field(default_factory=EditConfig)
    upscaler: Upscaler | None = None
    wanted: Mapping[str, Wanted] = field(default_factory=dict)
    editor: PropertyEditor | None = None
    follower: Follower | None = None
    seen: int = 0
    yaws: list[tuple[float, float]] = field(default_factory=list)
    refused: str = ""
    like: Prepared | None = None
    yaw: SmoothedYaw = field(default_factory=SmoothedYaw)

    def __post_init__(self) -> None:
        self.steps: dict[str, float] = {}
        self.tracker = FaceTracker(self.config.face, self.config.perception_device)

    def edit(self, frame: np.ndarray, at: float) -> np.ndarray:
        """The next frame, rotated where there is a face: (h, w, 3) uint8 -> the same; `at` is when it shows, seconds."""
        self.seen += 1
        tracked = self.tracker.update(frame, at)
        if tracked is None:
            return frame
        if tracked.new:
            self.like, self.yaw = None, SmoothedYaw()
        try:
            face = self.prepared(frame, tracked, at)
            turn = Turn(self.degrees) if self.follower is None else self.follower.turn(at)
            edited = face.edit([turn], self.upscaler)
        except LatentrotError as error:  # a blur, a hand before the face: the next frame may do
            self.refused = str(error)
            return frame
        result = face.portrait.image.copy()
        edited.patch(0).paste(result)
        self.yaws.append((face.crop.yaw_deg, edited.turned.frames[0].yaw_deg))
        return result

    def prepared(self, frame: np.ndarray, tracked: TrackedFace, at: float) -> PreparedFace:
        """The face of a frame, calibrated as in the frame where it first appeared."""
        image = self.with_properties(frame, tracked.alignment)
        portrait = Portrait(Path(), Photograph(image, image), tracked.faces, (tracked.alignment,))
        face = prepare_face(portrait, tracked.alignment, self.rotator, self.config, self.like)
        face.crop = face.crop.at_yaw(self.yaw.update(face.crop.yaw_deg, at))
        if self.like is None:
            by = self.degrees - face.crop.yaw_deg if self.config.absolute else self.degrees
            if self.follower is not None:
                self.follower.reach = face.crop.reach
            ends = [by] if self.follower is None else list(self.follower.ends)
            self.like = face.crop = face.crop.calibrated(ends, steady=True)
        return face

    def with_properties(self, frame: np.ndarray, alignment: Alignment) -> np.ndarray:
        """The frame with the properties edited by the same steps as where the face first appeared."""
        if self.editor is None:
            return frame
        face = self.editor.prepare(frame, alignment)
        if self.like is None:
            self.steps = {name: face.step_for(name, wanted) for name, wanted in self.wanted.items()}
        return apply_change(frame, alignment, face.change(self.steps))

    def edit_all(self, frames: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
        """Frames with their times, rotated one at a time.

        Raises:
            LatentrotError: at the end, where none could be rotated.
        """
        for frame in frames:
            yield frame._replace(pixels=self.edit(frame.pixels, float(frame.start)))
        if not self.yaws:
            reason = self.refused or "no face found"
            raise LatentrotError(f"none of the {self.seen} frames could be turned: {reason}; nothing was written")

    def details(self) -> dict[str, object]:
        """Model and rotation, for metadata and report."""
        name = capabilities_of(self.rotator).name
        wanted = {n: f"{w.value:g}" if w.absolute else f"{w.value:+g}" for n, w in self.wanted.items()}
        told = {"properties": wanted} if wanted else {}
        if self.follower is not None:
            return {"model": name, **self.follower.details(), **told}
        return {"model": name, "requested_deg": self.degrees, "pose": self.config.absolute, **told}

    def report(self) -> dict[str, object]:
        """What was done, in plain numbers; yaws are means over the frames rotated, degrees."""
        turned = len(self.yaws)
        counts = {"frames": self.seen, "turned": turned, "unchanged": self.seen - turned}
        means = np.mean(self.yaws, axis=0).round(2).tolist() if turned else []
        yaws = dict(zip(("yaw_before_deg", "yaw_after_deg"), means, strict=False))
        return {**self.details(), **counts, "faces_followed": self.tracker.followed, **yaws}


# ---- files ------------------------------------------------------------------------------------------------------


def kinds_of(source: Path) -> tuple[str, ...]:
    """Suffixes that a turned video, or a turned animated image, may have; the first is the default."""
    if is_video(source):
        return (".mp4",)
    return (".gif", ".webp", ".mp4") if source.suffix.lower() == ".gif" else (".webp", ".gif", ".mp4")


def default_out(source: Path) -> Path:
    """NAME-turned in the current folder."""
    return Path(f"{source.stem}-turned{kinds_of(source)[0]}")


def check_video_out(out: Path, source: Path) -> None:
    """Refuse an output of the wrong kind, one that cannot be written, or that is the source.

    Raises:
        LatentrotError: naming it.
    """
    kinds = kinds_of(source)
    if out.suffix.lower() not in kinds:
        raise LatentrotError(
            f"cannot write {one_line(out)}: {one_line(source.name, 60)} moves; give --out a name in {' or '.join(kinds)}"
        )
    check_encoder(out)
    check_target(out)
    check_writable(out)
    if out.exists() and source.exists() and out.samefile(source):
        raise LatentrotError(f"{one_line(out)} is the video itself; choose another name")


def edit_video(
    path: Path,
    out: Path,
    load: Callable[[], VideoEditor],
    watch: Callable[[Iterator[VideoFrame], Video], Iterable[VideoFrame]] = lambda frames, video: frames,
) -> dict[str, Any]:
    """Turn the face in a video or an animated image; every frame keeps its time, and a video its sound.

    Args:
        path: the video or image.
        out: an .mp4, for an image also a .gif or .webp; a file of that name is replaced once the new one is whole.
        load: makes the editor, after the video was seen to be readable.
        watch: wraps the frames as they are turned, for a progress bar.

    Returns:
        The report.

    Raises:
        LatentrotError: a video that cannot be read, or in which no face could be turned; an output that cannot be written.
    """
    check_video_out(out, path)
    video = open_video(path) if is_video(path) else open_animation(path)
    editor = load()
    metadata = synthetic_metadata({**editor.details(), "video": True, **earlier(video.history)})

    frames = editor.edit_all(watch(video.frames, video))
    if out.suffix.lower() == ".mp4":
        write_atomically(out, lambda p: encode_mp4(p, frames, metadata, video))
    else:
        shown = list(frames)
        times = [round(1000 * f.seconds) for f in shown]
        write_animation(out, [f.pixels for f in shown], times, metadata, plays=video.plays)
    report: dict[str, Any] = {"input": str(path), "output": str(out), **editor.report(), "fps": round(video.fps, 3)}
    followed = editor.follower.warnings if editor.follower else []
    warnings = [*video.warnings, *capabilities_of(editor.rotator).warnings, *followed]
    return {**report, "sound": ", ".join(video.sound) or "none", "notes": warnings}
