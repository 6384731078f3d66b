"""Animated pictures: GIF, WebP and MP4, written whole or not at all."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from latentrot.data.images import ANIMATED_FORMATS, QUIET_PILLOW, check_target, read_frame, read_image
from latentrot.data.metadata import encoder_options, history_in
from latentrot.data.video import Frame, Video, check_pyav, encode_mp4
from latentrot.errors import LatentrotError, one_line
from latentrot.files import write_atomically

__all__ = [
    "ANIMATED",
    "check_encoder",
    "fit_side",
    "is_animated",
    "open_animation",
    "there_and_back",
    "write_animation",
]

#: suffixes of files that move
ANIMATED = (".gif", ".webp", ".mp4")
#: colours of a GIF; the 256th is left to Pillow, for what does not change from frame to frame
GIF_COLOURS = 255
#: a frame without a duration, or with one under 11 ms, shows so long in browsers (milliseconds)
UNTIMED, SHORTEST = 100, 11


def is_animated(path: Path) -> bool:
    """Whether a file is a GIF, WebP or PNG of several frames; False for whatever cannot be read."""
    if not os.path.isfile(path):  # to open a pipe would wait for its writer
        return False
    try:
        with QUIET_PILLOW, Image.open(path, formats=ANIMATED_FORMATS) as picture:
            return getattr(picture, "is_animated", False)
    except Exception:  # Pillow's readers leak struct.error, KeyError and others; `read_image` says what is wrong
        return False


def open_animation(path: Path) -> Video:
    """Begin to read an animated picture, as `open_video` does a video; transparent pixels are laid on white.

    Raises:
        LatentrotError: see `read_image`.
    """
    read_image(path)  # refuses what is no picture, too large or too small
    with Image.open(path, formats=ANIMATED_FORMATS) as picture:
        count, plays = getattr(picture, "n_frames", 1), _plays(picture)
        history, wide = history_in(picture), bool(picture.info.get("icc_profile"))
        total = sum(_milliseconds(p) for p in ImageSequence.Iterator(picture))
    notes = ("its colours become sRGB",) if wide else ()
    return Video(path, 1000 * count / total, _frames(path), count, notes=notes, plays=plays, history=history)


def _plays(picture: Image.Image) -> int:
    """How often an animation plays, 0: for ever. A GIF without a number plays once, one of n repeats that often."""
    loop = picture.info.get("loop")
    if picture.format == "GIF":
        return 1 if loop is None else int(loop) + 1 if loop else 0
    return int(loop or 0)


def _milliseconds(frame: Image.Image) -> int:
    given = round(frame.info.get("duration") or 0)
    return given if given >= SHORTEST else UNTIMED


def _frames(path: Path) -> Iterator[Frame]:
    """Frames with their times; a file that is damaged later on ends early."""
    at = Fraction(0)
    with Image.open(path, formats=ANIMATED_FORMATS) as picture:
        for image in ImageSequence.Iterator(picture):
            frame = Frame(read_frame(image, path), at, Fraction(_milliseconds(image), 1000))
            at += frame.seconds
            yield frame


def there_and_back(frames: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Frames in order and back again, so that the last leads into the first: n frames -> 2n - 2."""
    return [*frames, *frames[-2:0:-1]]


def fit_side(image: np.ndarray, longest: int) -> np.ndarray:
    """A picture shrunk, antialiased, so that no side is longer than `longest` pixels; as it is where none is."""
    share = longest / max(image.shape[:2])
    if share >= 1:
        return image
    size = (max(1, round(image.shape[1] * share)), max(1, round(image.shape[0] * share)))
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def check_encoder(path: Path) -> None:
    """Refuse a suffix that does not move, and an MP4 where nothing can encode it.

    Raises:
        LatentrotError: saying what to use or to install.
    """
    suffix = path.suffix.lower()
    if suffix not in ANIMATED:
        raise LatentrotError(f"cannot write {one_line(path)}: {suffix!r} does not move; use .gif, .webp or .mp4")
    if suffix == ".mp4":
        check_pyav(f"writing {one_line(path)} (a .gif or a .webp does not)")


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
        path: where to; the suffix chooses the format: .gif, .webp or .mp4. A file of that name is replaced.
        frames: (h, w, 3) uint8 pictures of one size. In an MP4 odd sides are made even by repeating the last row or
            column.
        milliseconds: how long each frame shows, one number for all or one each; GIF rounds to tens.
        metadata: text kept in the file, see `latentrot.data.metadata`.
        plays: how often a GIF or WebP plays; 0: for ever.

    Raises:
        LatentrotError: another suffix, no encoder, a folder that is missing or cannot be written to, a full disk.
    """
    path = Path(path)
    check_encoder(path)
    check_target(path)
    times = [milliseconds] * len(frames) if isinstance(milliseconds, int) else list(milliseconds)
    if path.suffix.lower() == ".mp4":
        starts = [Fraction(sum(times[:i]), 1000) for i in range(len(frames))]
        timed = [Frame(f, at, Fraction(ms, 1000)) for f, at, ms in zip(frames, starts, times, strict=True)]
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
    buffer, pictures = io.BytesIO(), [Image.fromarray(f) for f in frames]
    pictures[0].save(
        buffer, "WEBP", save_all=True, append_images=pictures[1:], duration=milliseconds, loop=plays, quality=90, method=4,
        **encoder_options("WEBP", metadata),
    )  # fmt: skip
    return buffer.getvalue()


def _encode_gif(
    frames: Sequence[np.ndarray], milliseconds: list[int], metadata: Mapping[str, str], plays: int
) -> bytes:
    buffer, palette = io.BytesIO(), _shared_palette(frames)
    pictures = [Image.fromarray(indices) for indices in _dithered(frames, palette)]
    for picture in pictures:
        picture.putpalette(palette.getpalette() or [])
    pictures[0].save(
        buffer, "GIF", save_all=True, append_images=pictures[1:], duration=milliseconds, optimize=False,
        **({} if plays == 1 else {"loop": max(0, plays - 1)}), **encoder_options("GIF", metadata),
    )  # fmt: skip
    return buffer.getvalue()


def _shared_palette(frames: Sequence[np.ndarray]) -> Image.Image:
    """One palette for all frames: with one each, the background would flicker."""
    samples = np.concatenate([fit_side(f, 256) for f in frames[:: max(1, len(frames) // 6)]])
    return Image.fromarray(samples).quantize(GIF_COLOURS, Image.Quantize.MEDIANCUT)


def _dithered(frames: Sequence[np.ndarray], palette: Image.Image) -> list[np.ndarray]:
    """(h, w) palette indices of each frame; pixels that do not change keep the first frame's dither."""
    indices = [np.array(Image.fromarray(f).quantize(palette=palette)) for f in frames]
    return [np.where((f == frames[0]).all(-1), indices[0], i) for f, i in zip(frames, indices, strict=True)]
