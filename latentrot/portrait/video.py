"""Turn the face in a video or an animated picture: one face is followed, and what may not jump between frames is held.

| | over time |
|---|---|
| landmarks of the crop | smoothed, less so the faster they move |
| yaw of the source | smoothed |
| light, and how far a step turns this face | measured where the face first appears, then held |

A face that is lost or jumps is a new one. Frames without it pass as they are.

`FaceFollower` says where the face is, a `FaceTurner` draws it turned, `VideoTurner` leads frames through both and puts the
turned head together as in a photograph. A frame whose face cannot be turned passes as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from latentrot.data.animation import check_encoder, open_animation, write_animation
from latentrot.data.images import check_target
from latentrot.data.video import Frame, Video, encode_mp4, is_video, open_video
from latentrot.directions.search import CalibrationCurve
from latentrot.errors import LatentrotError, one_line
from latentrot.faces.alignment import MEAN_LANDMARKS, Alignment, align_landmarks
from latentrot.faces.detect import Face, choose_face, detect_faces
from latentrot.faces.framing import frame_face
from latentrot.files import check_writable, write_atomically
from latentrot.geometry import turn_for, turn_head, turned_alignment
from latentrot.portrait.compose import fill_hidden
from latentrot.portrait.find import EditConfig
from latentrot.portrait.photograph import CROP_SIDE, look, model_name
from latentrot.portrait.results import earlier, synthetic_metadata
from latentrot.portrait.upscale import Upscaler
from latentrot.rotators.latent import LatentRotator
from latentrot.rotators.mesh import MeshRotator
from latentrot.rotators.protocol import Rotator

__all__ = ["FaceTurner", "VideoTurner", "check_video_out", "default_out", "edit_video"]

#: how slowly landmarks that hardly move follow (hertz), and how much faster they follow at each frame pixel a second
SLOWEST, HASTE = 1.0, 0.05
#: how slowly the source's yaw follows, hertz
YAW_HERTZ = 2.0
#: a face that moves further than this between frames, or is lost for longer, is another one (distances between its eyes;
#: seconds)
FURTHEST, LOST = 1.0, 0.5


# ---- following a face -------------------------------------------------------------------------------------------


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
class Yaw:
    """A face's yaw over time, smoothed.

    Attributes:
        degrees: > 0: nose to the viewer's right.
        last: when it was measured last, seconds; None: not yet.
    """

    degrees: float = 0.0
    last: float | None = None

    def update(self, degrees: float, at: float) -> float:
        """Take in a measurement."""
        share = 1.0 if self.last is None else float(follow(YAW_HERTZ, at - self.last))
        self.degrees, self.last = self.degrees + share * (degrees - self.degrees), at
        return self.degrees


@dataclass(eq=False)
class FaceFollower:
    """Finds the same face again from frame to frame.

    Args:
        face: "largest", or the number of a face where it first appears.
        device: where the detector runs; the CPU by default.

    Attributes:
        points: its landmarks; None while no face is followed.
        missed: frames since it was seen last, this one included.
        last: when it was seen last, seconds.
        followed: faces so far, one after another.
    """

    face: str = "largest"
    device: str | None = None
    points: Smoothed | None = None
    missed: int = 0
    last: float = 0.0
    followed: int = 0

    def update(self, frame: np.ndarray, at: float) -> tuple[Alignment, bool] | None:
        """Where the face is.

        Args:
            frame: (h, w, 3) uint8, the next one.
            at: when it shows, seconds.

        Returns:
            Photograph -> CelebA frame, and whether this face is a new one; None where it is not seen.
        """
        self.missed += 1
        face = self._find(detect_faces(frame, self.device), at)
        if face is None:
            return None
        alignment, new = frame_face(frame, face.landmarks, self.device), self.points is None
        seen = alignment.to_photo(MEAN_LANDMARKS)
        if self.points is None:
            self.points = Smoothed(seen)
            self.followed += 1
        else:
            points = self.points.update(seen, at - self.last, alignment.scale)
            alignment = align_landmarks(points, (frame.shape[1], frame.shape[0]))
        self.missed, self.last = 0, at
        return alignment, new

    def _find(self, faces: list[Face], at: float) -> Face | None:
        """The face that is followed; another where it is lost."""
        if self.missed > 1 and at - self.last > LOST:
            self.points = None
        if self.points is None:
            there = self.face == "largest" or int(self.face) < len(faces)
            return choose_face(faces, self.face)[0] if faces and there else None
        was = self.points.value[:2]
        near = min(faces, key=lambda f: np.linalg.norm(f.landmarks[:2] - was), default=None)
        if near is None:
            return None
        moved = np.linalg.norm((near.landmarks[:2] - was).mean(0))
        if moved > FURTHEST * np.linalg.norm(was[1] - was[0]) * self.missed:
            self.points = None  # a cut
        return near


# ---- turning it -------------------------------------------------------------------------------------------------


class FaceTurner(Protocol):
    """Draws one face, which is followed through frames, turned; made anew for each face that appears."""

    def draw(self, frame: np.ndarray, alignment: Alignment, at: float) -> tuple[np.ndarray | None, float, float]:
        """Draw the face of the next frame it is seen in.

        Args:
            frame: (h, w, 3) uint8 RGB.
            alignment: where the face is: photograph -> CelebA frame.
            at: when the frame shows, seconds.

        Returns:
            (s, s, 3) uint8, the turned crop, None to leave all to geometry; the yaw before, smoothed, and the turn, degrees.
        """
        ...


@dataclass(eq=False)
class WalkingFace:
    """Draws by the walk in latent space; light and calibration curve are those of the face's first frame.

    Args:
        rotator: from `load_latent_rotator`.
        degrees: the turn, or the pose to hold; > 0: nose to the viewer's right.
        config: pose or turn; the light of the first frame.
        upscaler: restores the turned crops.
    """

    rotator: LatentRotator
    degrees: float
    config: EditConfig
    upscaler: Upscaler | None = None
    yaw: Yaw = field(default_factory=Yaw)
    curve: CalibrationCurve | None = None

    def draw(self, frame: np.ndarray, alignment: Alignment, at: float) -> tuple[np.ndarray | None, float, float]:
        """See `FaceTurner`."""
        absolute, first = self.config.absolute, self.yaw.last is None
        found = self.rotator.embed(alignment.crop(frame, self.rotator.model.resolution), self.config.light)
        found = replace(found, yaw_deg=self.yaw.update(found.yaw_deg, at))
        if first:
            self.config = replace(self.config, light=found.light)
            turn = self.degrees - found.yaw_deg if absolute else self.degrees
            if self.rotator.measure:
                self.curve = self.rotator.refine_curve(found, self.rotator.measure_curve(found, [turn]), [turn])
        result = self.rotator.turn(found, [self.degrees], absolute=absolute, curve=self.curve)
        shown = result if self.upscaler is None else self.upscaler.upscale_turned(result)
        return shown.frames[0].image, found.yaw_deg, result.frames[0].requested_deg


@dataclass(eq=False)
class RotatedFace:
    """Draws by any other rotator, each frame by itself; the geometric one leaves all to geometry.

    Args:
        rotator: any.
        degrees: the turn, or the pose to hold; > 0: nose to the viewer's right.
        config: pose or turn.
    """

    rotator: Rotator
    degrees: float
    config: EditConfig
    yaw: Yaw = field(default_factory=Yaw)

    def draw(self, frame: np.ndarray, alignment: Alignment, at: float) -> tuple[np.ndarray | None, float, float]:
        """See `FaceTurner`."""
        square = alignment.crop(frame, CROP_SIDE)
        yaw = self.yaw.update(look(square, self.rotator, self.config.looks_on)[0], at)
        by = self.degrees - yaw if self.config.absolute else self.degrees
        return None if isinstance(self.rotator, MeshRotator) else self.rotator.rotate(square, by), yaw, by


@dataclass(eq=False)
class VideoTurner:
    """Turns one face through the frames of a video.

    Args:
        rotator: any.
        degrees: the turn, or the pose to hold; > 0: nose to the viewer's right.
        config: pose or turn, light, face.
        upscaler: restores what the walk draws.

    Attributes:
        seen: frames so far.
        yaws: of the source and the turned face, degrees, one pair a frame turned.
        refused: why a face that was found could not be turned, the last reason.
    """

    rotator: Rotator
    degrees: float
    config: EditConfig = field(default_factory=EditConfig)
    upscaler: Upscaler | None = None
    seen: int = 0
    yaws: list[tuple[float, float]] = field(default_factory=list)
    refused: str = ""

    def __post_init__(self) -> None:
        self.follower = FaceFollower(self.config.face, self.config.looks_on)
        self.turner = self.begin()

    def begin(self) -> FaceTurner:
        """What draws a face that appears."""
        if isinstance(self.rotator, LatentRotator):
            return WalkingFace(self.rotator, self.degrees, self.config, self.upscaler)
        return RotatedFace(self.rotator, self.degrees, self.config)

    def turn(self, frame: np.ndarray, at: float) -> np.ndarray:
        """The next frame, turned where there is a face: (h, w, 3) uint8 -> the same; `at` is when it shows, seconds."""
        self.seen += 1
        found = self.follower.update(frame, at)
        if found is None:
            return frame
        alignment, new = found
        if new:
            self.turner = self.begin()
        try:
            head = MeshRotator(device=self.config.looks_on).head_of(frame, alignment)
            drawn, yaw, by = self.turner.draw(frame, alignment, at)
            turned = turn_head(head, turn_for(by))
        except LatentrotError as error:  # a blur, a hand before the face: the next frame may do
            self.refused = str(error)
            return frame
        result = frame.copy()
        fill_hidden(head, turned, drawn, self.config.trust).laid_on(result)
        self.yaws.append(
            (yaw, look(turned_alignment(turned).crop(result, CROP_SIDE), self.rotator, self.config.looks_on)[0])
        )
        return result

    def turn_all(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Frames with their times, turned one at a time.

        Raises:
            LatentrotError: at the end, where none could be turned.
        """
        for frame in frames:
            yield frame._replace(pixels=self.turn(frame.pixels, float(frame.start)))
        if not self.yaws:
            reason = self.refused or "no face found"
            raise LatentrotError(f"none of the {self.seen} frames could be turned: {reason}; nothing was written")

    def details(self) -> dict[str, object]:
        """Model and turn, for metadata and report."""
        return {"model": model_name(self.rotator), "requested_deg": self.degrees, "pose": self.config.absolute}

    def report(self) -> dict[str, object]:
        """What was done, in plain numbers; yaws are means over the frames turned, degrees."""
        turned = len(self.yaws)
        counts = {"frames": self.seen, "turned": turned, "unchanged": self.seen - turned}
        means = np.mean(self.yaws, axis=0).round(2).tolist() if turned else []
        yaws = dict(zip(("yaw_before_deg", "yaw_after_deg"), means, strict=False))
        return {**self.details(), **counts, "faces_followed": self.follower.followed, **yaws}


# ---- files ------------------------------------------------------------------------------------------------------


def kinds_of(source: Path) -> tuple[str, ...]:
    """Suffixes that a turned video, or a turned animated picture, may have; the first is the default."""
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
    load: Callable[[], VideoTurner],
    watch: Callable[[Iterator[Frame], Video], Iterable[Frame]] = lambda frames, video: frames,
) -> dict[str, Any]:
    """Turn the face in a video or an animated picture; every frame keeps its time, and a video its sound.

    Args:
        path: the video or picture.
        out: an .mp4, for a picture also a .gif or .webp; a file of that name is replaced once the new one is whole.
        load: makes the turner, after the video was seen to be readable.
        watch: wraps the frames as they are turned, for a progress bar.

    Returns:
        The report.

    Raises:
        LatentrotError: a video that cannot be read, or in which no face could be turned; an output that cannot be written.
    """
    check_video_out(out, path)
    video = open_video(path) if is_video(path) else open_animation(path)
    turner = load()
    metadata = synthetic_metadata({**turner.details(), "video": True, **earlier(video.history)})

    frames = turner.turn_all(watch(video.frames, video))
    if out.suffix.lower() == ".mp4":
        write_atomically(out, lambda p: encode_mp4(p, frames, metadata, video))
    else:
        shown = list(frames)
        times = [round(1000 * f.seconds) for f in shown]
        write_animation(out, [f.pixels for f in shown], times, metadata, plays=video.plays)
    report: dict[str, Any] = {"input": str(path), "output": str(out), **turner.report(), "fps": round(video.fps, 3)}
    notes = [*video.notes, *getattr(turner.rotator, "notes", ())]
    return {**report, "sound": ", ".join(video.sound) or "none", "notes": notes}
