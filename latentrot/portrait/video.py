"""Edit one tracked face in a video or an animated image.

`FaceTracker` tracks the face and smooths its landmarks and yaw over time. To avoid flicker, the light, the calibration and
the steps of properties are measured in the frame where the face first appears and reused for all later frames. A frame
whose face cannot be edited is copied unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from latentrot.data.animation import check_animation_target, open_video_or_animation, write_frames
from latentrot.data.images import Photograph
from latentrot.data.video import Video, VideoFrame, is_video
from latentrot.directions.difference import apply_change
from latentrot.directions.properties import Wanted
from latentrot.errors import LatentrotError, one_line
from latentrot.faces.alignment import Alignment
from latentrot.files import is_same_file
from latentrot.portrait.face import PreparedFace, prepare_face
from latentrot.portrait.follow import Follower
from latentrot.portrait.portrait import EditConfig, Portrait
from latentrot.portrait.results import previous_edit, synthetic_metadata
from latentrot.portrait.tracking import FaceTracker, SmoothedYaw, TrackedFace
from latentrot.portrait.turns import Turn
from latentrot.portrait.upscale import Upscaler
from latentrot.rotators.properties import PropertyEditor
from latentrot.rotators.protocol import Prepared, Rotator, capabilities_of

__all__ = ["VideoEditor", "check_video_out", "default_out", "edit_video"]


@dataclass(eq=False)
class VideoEditor:
    """Edits one face in the frames of a video.

    Args:
        rotator: any rotator.
        degrees: rotation in yaw, or target yaw of every frame if `config.absolute`; > 0: nose to the viewer's right.
        config: options of the edit.
        upscaler: restoration network, applied to each generated crop.
        wanted: property name -> change or target; steps are searched in the frame where the face first appears.
        editor: property editor; needed if `wanted` names a property.
        follower: motion of a driving head, added to the motion of the face; None: rotate every frame by `degrees`.

    Attributes:
        seen: number of frames so far.
        yaws: for each rotated frame, the yaws of source and result, degrees.
        refused: last reason why a detected face could not be edited.
        like: the face prepared in the frame where it first appeared.
        whole: whether the whole head is rendered, decided in that frame.
        yaw: temporal filter of the source's yaw.
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
    whole: bool | None = None
    yaw: SmoothedYaw = field(default_factory=SmoothedYaw)

    def __post_init__(self) -> None:
        self.steps: dict[str, float] = {}
        self.tracker = FaceTracker(self.config.face, self.config.perception_device)

    def edit(self, frame: np.ndarray, at: float) -> np.ndarray:
        """Edit the next frame; without a usable face it is returned unchanged.

        Args:
            frame: (h, w, 3) uint8.
            at: start time of the frame, seconds.

        Returns:
            (h, w, 3) uint8.
        """
        self.seen += 1
        tracked = self.tracker.update(frame, at)
        if tracked is None:
            return frame
        if tracked.new:
            self.like, self.whole, self.yaw = None, None, SmoothedYaw()
        try:
            face = self.prepared(frame, tracked, at)
            turn = Turn(self.degrees) if self.follower is None else self.follower.turn(at)
            edited = face.edit([turn], self.upscaler, whole=self.whole)
        except LatentrotError as error:  # blur or occlusion: the next frame may succeed
            self.refused = str(error)
            return frame
        result = face.portrait.image.copy()
        edited.patch(0).paste(result)
        self.yaws.append((face.crop.yaw_deg, edited.turned.frames[0].yaw_deg))
        return result

    def prepared(self, frame: np.ndarray, tracked: TrackedFace, at: float) -> PreparedFace:
        """Prepare the face of a frame with the calibration of the frame where it first appeared."""
        image = self.with_properties(frame, tracked.alignment)
        portrait = Portrait(Path(), Photograph(image, image), tracked.faces, (tracked.alignment,))
        face = prepare_face(portrait, tracked.alignment, self.rotator, self.config, self.like)
        face.crop = face.crop.at_yaw(self.yaw.update(face.crop.yaw_deg, at))
        if self.like is None:
            by = self.degrees - face.crop.yaw_deg if self.config.absolute else self.degrees
            if self.follower is not None:
                self.follower.reach = face.reach
            self.whole = face.steady([Turn(by)] if self.follower is None else self.follower.turns)
            self.like = face.crop
        return face

    def with_properties(self, frame: np.ndarray, alignment: Alignment) -> np.ndarray:
        """Edit properties with the steps found in the frame where the face first appeared."""
        if self.editor is None:
            return frame
        face = self.editor.prepare(frame, alignment)
        if self.like is None:
            self.steps = {name: face.step_for(name, wanted) for name, wanted in self.wanted.items()}
        return apply_change(frame, alignment, face.change(self.steps))

    def edit_all(self, frames: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
        """Edit frames one by one; each keeps its start and duration.

        Raises:
            LatentrotError: after the last frame, if no frame could be rotated.
        """
        for frame in frames:
            yield frame._replace(pixels=self.edit(frame.pixels, float(frame.start)))
        if not self.yaws:
            reason = self.refused or "no face found"
            raise LatentrotError(f"none of the {self.seen} frames could be turned: {reason}; nothing was written")

    def details(self) -> dict[str, object]:
        """Model, rotation and properties, for metadata and report."""
        name = capabilities_of(self.rotator).name
        wanted = {n: str(w) for n, w in self.wanted.items()}
        told = {"properties": wanted} if wanted else {}
        if self.follower is not None:
            return {"model": name, **self.follower.details(), **told}
        return {"model": name, "requested_deg": self.degrees, "pose": self.config.absolute, **told}

    def report(self) -> dict[str, object]:
        """Report, ready for JSON; yaws are means over the rotated frames, degrees."""
        turned = len(self.yaws)
        counts = {"frames": self.seen, "turned": turned, "unchanged": self.seen - turned}
        means = np.mean(self.yaws, axis=0).round(2).tolist() if turned else []
        yaws = dict(zip(("yaw_before_deg", "yaw_after_deg"), means, strict=False))
        return {**self.details(), **counts, "faces_followed": self.tracker.followed, **yaws}


# ---- files ------------------------------------------------------------------------------------------------------


def kinds_of(source: Path) -> tuple[str, ...]:
    """Suffixes allowed for the result of a video or an animated image; the first is the default."""
    if is_video(source):
        return (".mp4",)
    return (".gif", ".webp", ".mp4") if source.suffix.lower() == ".gif" else (".webp", ".gif", ".mp4")


def default_out(source: Path) -> Path:
    """Default output: NAME-turned in the current folder."""
    return Path(f"{source.stem}-turned{kinds_of(source)[0]}")


def check_video_out(out: Path, source: Path) -> None:
    """Refuse an output with an unsupported suffix, one that cannot be written, or the source itself.

    Raises:
        LatentrotError: the output is refused.
    """
    check_animation_target(out, kinds_of(source), f"{one_line(source.name, 60)} is animated")
    if is_same_file(out, source):
        raise LatentrotError(f"{one_line(out)} is the video itself; choose another name")


def edit_video(
    path: Path,
    out: Path,
    load: Callable[[], VideoEditor],
    watch: Callable[[Iterator[VideoFrame], Video], Iterable[VideoFrame]] = lambda frames, video: frames,
) -> dict[str, Any]:
    """Edit the face in a video or an animated image; frames keep their times, and a video its sound.

    Args:
        path: video or animated image.
        out: .mp4; for an animated image also .gif or .webp. An existing file is replaced atomically.
        load: builds the editor; called only after the video was opened, because it loads networks.
        watch: wraps the iterator of edited frames, for a progress bar.

    Returns:
        The report, ready for JSON.

    Raises:
        LatentrotError: the video cannot be read, no face in it could be edited, or the output cannot be written.
    """
    check_video_out(out, path)
    video = open_video_or_animation(path)
    editor = load()
    metadata = synthetic_metadata({**editor.details(), "video": True, **previous_edit(video.history)})

    frames = editor.edit_all(watch(video.frames, video))
    write_frames(out, frames, metadata, video)
    report: dict[str, Any] = {"input": str(path), "output": str(out), **editor.report(), "fps": round(video.fps, 3)}
    followed = editor.follower.warnings if editor.follower else []
    warnings = [*video.warnings, *capabilities_of(editor.rotator).warnings, *followed]
    return {**report, "sound": ", ".join(video.sound) or "none", "notes": warnings}
