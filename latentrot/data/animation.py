"""Animated images: GIF, WebP and MP4, written atomically."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from latentrot.data.images import ANIMATED_FORMATS, QUIET_PILLOW, check_target, read_frame, read_image
from latentrot.data.metadata import encoder_options, history_in
from latentrot.data.video import Video, VideoFrame, check_pyav, encode_mp4, is_video, open_video
from latentrot.errors import LatentrotError, one_line
from latentrot.files import check_writable, write_atomically

__all__ = [
    "ANIMATED",
    "check_animation_target",
    "check_encoder",
    "forwards_and_backwards",
    "is_animated",
    "open_animation",
    "open_video_or_animation",
    "shrink_to_side",
    "write_animation",
    "write_frames",
]

#: suffixes of animated formats
ANIMATED = (".gif", ".webp", ".mp4")
#: colours of a GIF; the 256th is left to Pillow, for pixels that do not change between frames
GIF_COLOURS = 255
#: duration that browsers give a frame without one or with less than 11 ms (milliseconds)
UNTIMED, SHORTEST = 100, 11


def is_animated(path: Path) -> bool:
    """Whether a file is a GIF, WebP or PNG with several frames; False for anything that cannot be read."""
    if not os.path.isfile(path):  # opening a pipe would block
        return False
    try:
        with QUIET_PILLOW, Image.open(path, formats=ANIMATED_FORMATS) as image:
            return getattr(image, "is_animated", False)
    except Exception:  # Pillow's readers also raise struct.error, KeyError and others; `read_image` reports the reason
        return False


def open_animation(path: Path) -> Video:
    """Start reading an animated image, as `open_video` does for a video; transparent pixels are composited on white.

    Raises:
        LatentrotError: see `read_image`.
    """
    read_image(path)  # refuses files that are not images, and unsupported sizes
    with Image.open(path, formats=ANIMATED_FORMATS) as image:
        count, plays = getattr(image, "n_frames", 1), _plays(image)
        history, wide = history_in(image), bool(image.info.get("icc_profile"))
        total = sum(_milliseconds(p) for p in ImageSequence.Iterator(image))
    warnings = ("its colours become sRGB",) if wide else ()
    return Video(path, 1000 * count / total, _frames(path), count, warnings=warnings, plays=plays, history=history)


def _plays(image: Image.Image) -> int:
    """Number of plays of an animation, 0: endless. A GIF without a loop count plays once, one with n repeats n times."""
    loop = image.info.get("loop")
    if image.format == "GIF":
        return 1 if loop is None else int(loop) + 1 if loop else 0
    return int(loop or 0)


def _milliseconds(frame: Image.Image) -> int:
    given = round(frame.info.get("duration") or 0)
    return given if given >= SHORTEST else UNTIMED


def _frames(path: Path) -> Iterator[VideoFrame]:
    """Yield frames with their times, up to the first damaged frame."""
    at = Fraction(0)
    with Image.open(path, formats=ANIMATED_FORMATS) as animation:
        for image in ImageSequence.Iterator(animation):
            frame = VideoFrame(read_frame(image, path), at, Fraction(_milliseconds(image), 1000))
            at += frame.seconds
            yield frame


def forwards_and_backwards(frames: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Frames forwards and backwards, so that the last leads into the first: n frames -> 2n - 2."""
    return [*frames, *frames[-2:0:-1]]


def shrink_to_side(image: np.ndarray, longest: int) -> np.ndarray:
    """Shrink an image, antialiased, so that no side exceeds `longest` pixels; smaller images are returned unchanged."""
    share = longest / max(image.shape[:2])
    if share >= 1:
        return image
    size = (max(1, round(image.shape[1] * share)), max(1, round(image.shape[0] * share)))
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def check_encoder(path: Path) -> None:
    """Refuse a suffix of a format without animation, and an MP4 without an encoder.

    Raises:
        LatentrotError: the message names the suffix to use or the package to install.
    """
    suffix = path.suffix.lower()
    if suffix not in ANIMATED:
        raise LatentrotError(f"cannot write {one_line(path)}: {suffix!r} is not animated; use .gif, .webp or .mp4")
    if suffix == ".mp4":
        check_pyav(f"writing {one_line(path)} (a .gif or a .webp does not)")


def check_animation_target(path: Path, kinds: Sequence[str], reason: str) -> None:
    """Refuse a target of another kind, or one that cannot be written.

    Args:
        path: the target.
        kinds: allowed suffixes.
        reason: why only these suffixes are allowed, for the message.

    Raises:
        LatentrotError: the target is refused.
    """
    if path.suffix.lower() not in kinds:
        raise LatentrotError(f"cannot write {one_line(path)}: {reason}; end --out in {' or '.join(kinds)}")
    check_encoder(path)
    check_target(path)
    check_writable(path)


def open_video_or_animation(path: Path) -> Video:
    """Open a video or an animated image; raises the errors of `open_video` and `open_animation`."""
    return open_video(path) if is_video(path) else open_animation(path)


def write_frames(
    path: Path, frames: Iterable[VideoFrame], metadata: Mapping[str, str], source: Video | None = None
) -> None:
    """Write frames with their own times: an MP4 frame by frame, an animated image at once.

    Args:
        path: target; the suffix selects the format.
        frames: frames in order.
        metadata: text stored in the file.
        source: the video that was edited; its sound and number of plays are kept. None: no sound, endless.
    """
    if path.suffix.lower() == ".mp4":
        write_atomically(path, lambda p: encode_mp4(p, frames, metadata, source))
        return
    shown = list(frames)
    times = [round(1000 * frame.seconds) for frame in shown]
    write_animation(path, [f.pixels for f in shown], times, metadata, plays=source.plays if source else 0)


def write_animation(
    path: str | os.PathLike[str],
    frames: Sequence[np.ndarray],
    milliseconds: int | Sequence[int],
    metadata: Mapping[str, str] | None = None,
    *,
    plays: int = 0,
) -> None:
    """Write an animation.

    Args:
        path: target; the suffix selects the format: .gif, .webp or .mp4. An existing file is replaced.
        frames: (h, w, 3) uint8 images of one size. For an MP4 odd sides are made even by repeating the last row or column.
        milliseconds: duration of the frames: one number for all frames, or one per frame; GIF rounds to tens.
        metadata: text stored in the file, see `latentrot.data.metadata`.
        plays: number of plays of a GIF or WebP; 0: endless.

    Raises:
        LatentrotError: the suffix is not supported, the encoder is missing, or the file cannot be written.
    """
    path = Path(path)
    check_encoder(path)
    check_target(path)
    times = [milliseconds] * len(frames) if isinstance(milliseconds, int) else list(milliseconds)
    if path.suffix.lower() == ".mp4":
        starts = [Fraction(sum(times[:i]), 1000) for i in range(len(frames))]
        timed = [VideoFrame(f, at, Fraction(ms, 1000)) for f, at, ms in zip(frames, starts, times, strict=True)]
        write_atomically(path, lambda p: encode_mp4(p, timed, metadata or {}))
        return
    encode = _encode_gif if path.suffix.lower() == ".gif" else _encode_webp
    try:
        content = encode(frames, times, metadata or {}, plays)
    except Exception as error:  # Pillow's encoders raise OSError, ValueError, struct.error and others
        reason = one_line(error, 120) or type(error).__name__
        raise LatentrotError(f"cannot store {frames[0].shape} frames in {one_line(path)}: {reason}") from error
    write_atomically(path, lambda p: p.write_bytes(content))


def _encode_webp(
    frames: Sequence[np.ndarray], milliseconds: list[int], metadata: Mapping[str, str], plays: int
) -> bytes:
    buffer, images = io.BytesIO(), [Image.fromarray(f) for f in frames]
    images[0].save(
        buffer, "WEBP", save_all=True, append_images=images[1:], duration=milliseconds, loop=plays, quality=90, method=4,
        **encoder_options("WEBP", metadata),
    )  # fmt: skip
    return buffer.getvalue()


def _encode_gif(
    frames: Sequence[np.ndarray], milliseconds: list[int], metadata: Mapping[str, str], plays: int
) -> bytes:
    buffer, palette = io.BytesIO(), _shared_palette(frames)
    images = [Image.fromarray(indices) for indices in _dithered(frames, palette)]
    for image in images:
        image.putpalette(palette.getpalette() or [])
    images[0].save(
        buffer, "GIF", save_all=True, append_images=images[1:], duration=milliseconds, optimize=False,
        **({} if plays == 1 else {"loop": max(0, plays - 1)}), **encoder_options("GIF", metadata),
    )  # fmt: skip
    return buffer.getvalue()


def _shared_palette(frames: Sequence[np.ndarray]) -> Image.Image:
    """One palette for all frames; separate palettes would make the background flicker."""
    samples = np.concatenate([shrink_to_side(f, 256) for f in frames[:: max(1, len(frames) // 6)]])
    return Image.fromarray(samples).quantize(GIF_COLOURS, Image.Quantize.MEDIANCUT)


def _dithered(frames: Sequence[np.ndarray], palette: Image.Image) -> list[np.ndarray]:
    """(h, w) palette indices of each frame; pixels that do not change keep the dithering of the first frame."""
    indices = [np.array(Image.fromarray(f).quantize(palette=palette)) for f in frames]
    return [np.where((f == frames[0]).all(-1), indices[0], i) for f, i in zip(frames, indices, strict=True)]
