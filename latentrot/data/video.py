"""Videos in and out, frame by frame through ffmpeg (imageio-ffmpeg): memory does not grow with a video's length."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from latentrot.data.images import MAX_PIXELS, MIN_SIDE
from latentrot.data.metadata import as_text, read_notes
from latentrot.errors import LatentrotError, one_line

__all__ = ["VIDEOS", "Video", "encode_mp4", "is_video", "open_video"]

#: suffixes of the videos that can be read
VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
#: ffmpeg may open this file only, as one of these containers: a list that names other files or addresses is none
ONLY_FILES = ["-protocol_whitelist", "file", "-format_whitelist", "mov,mp4,matroska,webm,avi"]
#: sound that an MP4 holds as it is; any other is encoded anew
COPIED_SOUND = ("aac", "mp3", "ac3", "eac3", "alac", "opus", "flac")


@dataclass(frozen=True, eq=False)
class Video:
    """A video that is being read.

    Attributes:
        path: the file.
        fps: frames a second.
        frames: (h, w, 3) uint8 RGB, upright, one at a time, once.
        count: about how many there are, from the duration in the header; 0 where unknown.
        sound: codec of its first sound track; empty where there is none.
    """

    path: Path
    fps: float
    frames: Iterator[np.ndarray]
    count: int
    sound: str


def is_video(path: Path) -> bool:
    """Whether a name is that of a video that can be read."""
    return path.suffix.lower() in VIDEOS


def _source(path: Path) -> str:
    """How ffmpeg is told of a file, so that no name is taken for an option or an address."""
    return f"file:{path.resolve()}"


def _refuse(path: Path, reason: object) -> LatentrotError:
    """The error for a video that cannot be read."""
    return LatentrotError(
        f"cannot read the video {one_line(path)}: {one_line(reason, 120)}; save or download it again "
        f"({', '.join(VIDEOS)})"
    )


def open_video(path: Path) -> Video:
    """Begin to read a video; its first frame is decoded at once, so that a bad file is refused before any work.

    Raises:
        LatentrotError: no imageio-ffmpeg, no such file, no video, a damaged one, frames over 64 million pixels or under
            16 pixels a side. A file cut short later on ends the frames early.
    """
    name = one_line(path)
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        raise LatentrotError(f"reading {name} needs imageio-ffmpeg, which is not installed: pip install imageio-ffmpeg")
    try:
        if "\0" in str(path) or not path.is_file():
            raise LatentrotError(f"no such video: {name}; check the path")
        size = path.stat().st_size
    except OSError as error:
        raise LatentrotError(f"cannot open the video {name}: {error.strerror}; check the path") from error
    if size == 0:
        raise LatentrotError(f"the video {name} is empty (0 bytes); copy or download it again")
    import imageio_ffmpeg  # noqa: PLC0415  (optional)

    reader = imageio_ffmpeg.read_frames(
        _source(path), input_params=ONLY_FILES, output_params=["-an", "-fps_mode", "cfr"]
    )
    try:
        facts = next(reader)
        width, height = facts["size"]
        if width * height > MAX_PIXELS or min(width, height) < MIN_SIDE:
            raise LatentrotError(
                f"the video {name} is {width}x{height}; expected {MIN_SIDE} pixels a side or more and "
                f"{MAX_PIXELS // 10**6} million pixels or fewer"
            )
        first = next(reader)
    except LatentrotError:
        reader.close()
        raise
    except StopIteration as error:
        raise _refuse(path, "it holds no frames") from error
    except Exception as error:  # the header is parsed from ffmpeg's words: IndexError, AttributeError and others
        raise _refuse(path, "it is no video, or is damaged") from error
    fps = float(facts.get("fps") or 25)
    frames = _pictures(chain([first], reader), (height, width, 3), path)
    return Video(path, fps, frames, round(fps * float(facts.get("duration") or 0)), str(facts.get("audio_codec", "")))


def _pictures(raw: Iterable[bytes], shape: tuple[int, int, int], path: Path) -> Iterator[np.ndarray]:
    """Frames as arrays."""
    try:
        for frame in raw:
            yield np.frombuffer(frame, np.uint8).reshape(shape)
    except (RuntimeError, OSError) as error:
        raise _refuse(path, "it is damaged") from error


def encode_mp4(
    path: Path,
    frames: Iterable[np.ndarray],
    fps: float,
    metadata: Mapping[str, str],
    sound_of: Video | None = None,
) -> None:
    """Encode H.264 in 4:2:0, which every player shows; ffmpeg's own complaints stay off the terminal.

    Args:
        path: the file, written as it grows: give `write_atomically`'s.
        frames: (h, w, 3) uint8 of one size, at least one; odd sides are made even by repeating the last row or column.
        fps: frames a second.
        metadata: text kept in the file, see `latentrot.data.metadata`.
        sound_of: a video whose sound is kept; copied where an MP4 can hold it, else encoded as AAC.

    Raises:
        OSError: ffmpeg could not write the video.
    """
    import imageio_ffmpeg  # noqa: PLC0415  (optional)

    frames = iter(frames)
    first = next(frames)
    height, width = first.shape[:2]
    sound: dict[str, str] = {}
    if sound_of is not None and sound_of.sound:
        codec = "copy" if sound_of.sound in COPIED_SOUND else "aac"
        sound = {"audio_path": _source(sound_of.path), "audio_codec": codec}
    writer = imageio_ffmpeg.write_frames(
        path, (width + width % 2, height + height % 2), fps=fps, codec="libx264", quality=None, macro_block_size=2,
        ffmpeg_log_level="quiet", **sound,
        output_params=["-crf", "16", "-movflags", "+faststart", "-metadata", f"comment={as_text(metadata)}", "-f", "mp4"],
    )  # fmt: skip
    with closing(writer):
        writer.send(None)
        for frame in chain([first], frames):
            writer.send(np.ascontiguousarray(np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")))
    # ffmpeg's exit code is not handed on; a file without its notes is not whole
    if not os.path.isfile(path) or (metadata and not read_notes(path)):
        raise OSError("ffmpeg could not finish the video")
