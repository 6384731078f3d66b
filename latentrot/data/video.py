"""Read and write videos frame by frame with FFmpeg's libraries (PyAV), in constant memory.

Every frame keeps its time, sound is copied packet by packet, and the colour space of the source is written into the result.
"""

from __future__ import annotations

import heapq
import importlib.util
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass, field
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from latentrot.data.images import MAX_PIXELS, MIN_SIDE
from latentrot.data.metadata import as_text, history_of, parse_metadata
from latentrot.errors import LatentrotError, one_line

if TYPE_CHECKING:
    import av
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.stream import Stream
    from av.video.reformatter import VideoReformatter
    from av.video.stream import VideoStream

__all__ = ["VIDEOS", "Video", "VideoFrame", "check_pyav", "encode_mp4", "is_video", "open_video"]

#: suffixes of the videos that can be read
VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
#: containers that FFmpeg may open, and only from the given file; playlists, which refer to other files or addresses, are
#: excluded
ONLY_FILES = {"protocol_whitelist": "file", "format_whitelist": "mov,mp4,matroska,webm,avi"}
#: sound codecs that are copied into an MP4; others are encoded again
COPIED_SOUND = ("aac", "mp3", "ac3", "eac3", "alac", "opus", "flac")
#: tags that an edited version keeps
TAGS = (
    "title",
    "artist",
    "album",
    "copyright",
    "date",
    "creation_time",
    "location",
    "description",
    "genre",
    "make",
    "model",
)
#: codes of ITU-T H.273: unknown; BT.709 as matrix, primaries and transfer; BT.601 as matrix
UNKNOWN, BT709, BT601 = 2, 1, 6
#: ... BT.2020 as primaries; the transfers of high dynamic range: perceptual quantiser and hybrid log-gamma
BT2020, HDR = 9, {16: "PQ", 18: "HLG"}
#: colour range of the values: 16 to 235, as players expect
LIMITED = 1
#: max sample rate of AAC, hertz
MAX_AAC_HERTZ = 96_000
#: min number of rows from which a video without a stated matrix is BT.709 instead of BT.601, as players assume
HD_ROWS = 720


class VideoFrame(NamedTuple):
    """One frame with its time.

    Attributes:
        pixels: (h, w, 3) uint8 RGB, upright.
        start: seconds from the beginning.
        seconds: duration.
    """

    pixels: np.ndarray
    start: Fraction
    seconds: Fraction


@dataclass(frozen=True)
class Colour:
    """Colour space of a video: codes of ITU-T H.273."""

    matrix: int = BT709
    primaries: int = BT709
    transfer: int = BT709

    @property
    def is_wide(self) -> bool:
        """Whether the frames must be converted to 8-bit BT.709."""
        return self.primaries == BT2020 or self.transfer in HDR


@dataclass(frozen=True, eq=False)
class Video:
    """A video or an animated image that is being read.

    Attributes:
        path: the file.
        fps: mean frames per second.
        frames: iterator over the frames, usable once.
        count: approximate number of frames; 0 if unknown.
        time_base: unit of the frame times, seconds.
        colour: colour space in which the frames are written.
        aspect: width of a pixel divided by its height.
        sound: codecs of the sound tracks.
        warnings: warnings for the user about features that an edited version loses.
        tags: tags that an edited version keeps: title, author, time and place.
        plays: number of plays of an animation; 0: endless.
        history: record of earlier edits by latentrot (see `latentrot.data.metadata.history_of`).
    """

    path: Path
    fps: float
    frames: Iterator[VideoFrame]
    count: int
    time_base: Fraction = Fraction(1, 1000)
    colour: Colour = Colour()
    aspect: Fraction = Fraction(1)
    sound: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    plays: int = 0
    history: str = ""


def is_video(path: Path) -> bool:
    """Whether a file name has a suffix of a readable video."""
    return path.suffix.lower() in VIDEOS


def check_pyav(purpose: str) -> None:
    """Refuse a purpose that needs PyAV if it is not installed.

    Raises:
        LatentrotError: PyAV is missing; the message gives the install command.
    """
    if importlib.util.find_spec("av") is None:
        raise LatentrotError(f"{purpose} needs PyAV, which is not installed: pip install 'latentrot[video]'")


# ---- reading ----------------------------------------------------------------------------------------------------


def open_video(path: Path) -> Video:
    """Start reading a video; its first frame is decoded at once, so that a bad file is refused before any work.

    Frames are rotated upright as the file states. Ten bits become eight; high dynamic range and BT.2020 become BT.709,
    clipped at white, with a warning.

    Raises:
        LatentrotError: PyAV is not installed, the file is missing, damaged or not a video, or frames have over 64 million
            pixels or under 16 pixels a side. Damaged later frames are skipped instead.
    """
    check_pyav(f"reading {one_line(path)}")
    _check_file(path)
    container = _open(path)
    try:
        stream = _video_stream(container, path)
        frames = _decoded(container, stream)
        first = next(frames, None)
        if first is None:
            raise _refuse(path, "it holds no frames, or is damaged")
    except BaseException:
        container.close()
        raise
    found = Colour(_matrix(first), first.color_primaries, first.color_trc)
    rate = stream.guessed_rate or stream.average_rate or Fraction(25)
    start, aspect = _start(container), stream.sample_aspect_ratio or Fraction(1)
    end = ((stream.start_time or 0) + (stream.duration or 0)) * (stream.time_base or Fraction(0)) - start
    return Video(
        path,
        float(stream.average_rate or rate),
        _frames(chain([first], frames), found, start, end, 1 / rate),
        stream.frames or round(max(Fraction(0), Fraction(container.duration or 0, 10**6) - start) * rate),
        stream.time_base or 1 / rate,
        Colour() if found.is_wide else found,
        1 / aspect if first.rotation % 180 else aspect,
        tuple(s.codec_context.codec.canonical_name for s in _sound_tracks(container)),
        _not_kept(container, found),
        {k: v for k, v in container.metadata.items() if k in TAGS},
        history=history_of(parse_metadata(container.metadata.get("comment", ""))),
    )


def _check_file(path: Path) -> None:
    name = one_line(path)
    try:
        if "\0" in str(path) or not path.is_file():
            raise LatentrotError(f"no such video: {name}; check the path")
        size = path.stat().st_size
    except OSError as error:
        raise LatentrotError(f"cannot open the video {name}: {error.strerror}; check the path") from error
    if size == 0:
        raise LatentrotError(f"the video {name} is empty (0 bytes); copy or download it again")


def _refuse(path: Path, reason: object) -> LatentrotError:
    """The error for a video that cannot be read."""
    return LatentrotError(
        f"cannot read the video {one_line(path)}: {one_line(reason, 120)}; save or download it again "
        f"({', '.join(VIDEOS)})"
    )


def _open(path: Path) -> InputContainer:
    """Open the file with FFmpeg; the prefix `file:` prevents names from being parsed as options or addresses."""
    import av  # noqa: PLC0415  (optional)
    from av.error import FFmpegError  # noqa: PLC0415

    try:
        return av.open(f"file:{path.resolve()}", container_options=ONLY_FILES, metadata_errors="replace")
    except (FFmpegError, OSError, ValueError) as error:
        raise _refuse(path, "it is not a video, or is damaged") from error


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The first video track that is not a cover image."""
    from av.stream import Disposition  # noqa: PLC0415  (optional)

    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic and s.codec_context]
    if not streams:
        raise _refuse(path, "it has no video track")
    width, height = streams[0].codec_context.width, streams[0].codec_context.height
    if width * height > MAX_PIXELS or min(width, height) < MIN_SIDE:
        raise LatentrotError(
            f"the video {one_line(path)} is {width}x{height}; expected {MIN_SIDE} pixels a side or more and "
            f"{MAX_PIXELS // 10**6} million pixels or fewer"
        )
    streams[0].thread_type = "AUTO"
    return streams[0]


def _start(container: InputContainer) -> Fraction:
    """Start time of a file's first track, seconds: the recorder's clock may not start at 0."""
    return Fraction(max(0, container.start_time or 0), 10**6)


def _seconds(ticks: int | None, of: av.VideoFrame | av.Packet) -> Fraction:
    """A time or duration in seconds; 0 if unknown."""
    return (ticks or 0) * (of.time_base or Fraction(0))


def _sound_tracks(container: InputContainer) -> list[AudioStream]:
    """The sound tracks that can be decoded."""
    return [s for s in container.streams.audio if s.codec_context is not None]


def _demuxed(container: InputContainer, *streams: Stream) -> Iterator[av.Packet]:
    """Packets of some tracks, up to the first damage."""
    from av.error import FFmpegError  # noqa: PLC0415  (optional)

    with suppress(FFmpegError):
        yield from container.demux(streams)


def _decode(packet: av.Packet) -> list:
    """The frames in a packet; none if it is damaged."""
    from av.error import FFmpegError  # noqa: PLC0415  (optional)

    try:
        return packet.decode()
    except FFmpegError:
        return []


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
    """Frames in display order with rising times; damaged ones are left out."""
    last = None
    with container:
        for packet in _demuxed(container, stream):
            for frame in _decode(packet):
                if frame.pts is not None and (last is None or frame.pts > last):
                    last = frame.pts
                    yield frame


def _frames(
    decoded: Iterable[av.VideoFrame], colour: Colour, start: Fraction, end: Fraction, usual: Fraction
) -> Iterator[VideoFrame]:
    """Frames as pixels; each is shown until the next one, the last one until the end or for the usual duration."""
    from av.video.reformatter import VideoReformatter  # noqa: PLC0415  (optional)

    frame, reformatter = (
        None,
        VideoReformatter(),
    )  # one for all frames: computing its tables for high dynamic range takes seconds
    for image in decoded:
        pixels = _pixels(image, colour, frame.pixels.shape if frame else None, reformatter)
        at = max(_seconds(image.pts, image) - start, Fraction(0))
        if frame is not None:
            yield frame._replace(seconds=at - frame.start)
        frame = VideoFrame(pixels, at, end - at if end > at else usual)
    if frame is not None:
        yield frame


def _matrix(frame: av.VideoFrame) -> int:
    """Code of a frame's matrix from YUV to RGB."""
    guess = BT709 if frame.height >= HD_ROWS else BT601
    return guess if frame.colorspace == UNKNOWN else frame.colorspace


def _sws_matrix(matrix: int) -> int:
    """Code of a matrix in libswscale, which has only one of the two codes of BT.601."""
    return 5 if matrix == BT601 else matrix


def _pixels(
    frame: av.VideoFrame, colour: Colour, shape: tuple[int, ...] | None, reformatter: VideoReformatter
) -> np.ndarray:
    """A frame as upright (h, w, 3) uint8 RGB, resized to `shape` if given: a stream may change its size midway."""
    quarters = frame.rotation // 90 % 4
    options = {"dst_color_trc": BT709, "dst_color_primaries": BT709} if colour.is_wide else {}
    if shape is not None:
        height, width = shape[:2] if quarters % 2 == 0 else shape[1::-1]
        options |= {"width": width, "height": height}
    rgb = reformatter.reformat(frame, format="rgb24", src_colorspace=_sws_matrix(colour.matrix), **options)
    return np.ascontiguousarray(np.rot90(rgb.to_ndarray(), quarters))


def _not_kept(container: InputContainer, colour: Colour) -> tuple[str, ...]:
    """Warnings for the user about features of a video that an edited version loses."""
    warnings = []
    if colour.transfer in HDR:
        warnings.append(
            f"high dynamic range ({HDR[colour.transfer]}) becomes BT.709; what is brighter than white is clipped"
        )
    elif colour.is_wide:
        warnings.append("BT.2020 becomes BT.709; colours beyond it are clipped")
    kinds = Counter(s.type for s in container.streams if s.type not in ("video", "audio"))
    kinds["video"] = len(container.streams.video) - 1
    kinds["sound"] = len(container.streams.audio) - len(_sound_tracks(container))
    return (*warnings, *(f"{count} {kind} track{'s' * (count > 1)} not kept" for kind, count in kinds.items() if count))


# ---- writing ----------------------------------------------------------------------------------------------------


def encode_mp4(
    path: Path, frames: Iterable[VideoFrame], metadata: Mapping[str, str], source: Video | None = None
) -> None:
    """Encode H.264 in 4:2:0 with 8 bits, which every player supports.

    Args:
        path: the file; it grows during encoding, so pass the temporary path of `write_atomically`.
        frames: at least one frame, all of one size; odd sides are made even by repeating the last row or column.
        metadata: text stored in the file, see `latentrot.data.metadata`.
        source: the video that was edited; its time base, colours, pixel aspect and sound are kept. Sound is copied if MP4
            supports its codec, else encoded as AAC.

    Raises:
        OSError: the video could not be written.
    """
    import av  # noqa: PLC0415  (optional)
    from av.error import FFmpegError  # noqa: PLC0415

    frames = iter(frames)
    first = next(frames)
    like = source or Video(path, 0, frames, 0)
    try:
        with av.open(str(path), "w", format="mp4", container_options={"movflags": "+faststart"}) as out:
            out.metadata.update({**like.tags, "comment": as_text(metadata)})
            tracks = [
                _video_packets(out, first, frames, like),
                *([_sound(out, source)] if source and source.sound else []),
            ]
            for packet in heapq.merge(*tracks, key=lambda p: _seconds(p.dts, p)):
                out.mux(packet)
    except FFmpegError as error:
        raise OSError(error.errno, f"the video could not be encoded: {one_line(error.strerror)}") from error


def _video_packets(
    out: OutputContainer, first: VideoFrame, rest: Iterable[VideoFrame], like: Video
) -> Iterator[av.Packet]:
    """Encode frames as H.264."""
    height, width = first.pixels.shape[:2]
    rate = Fraction(like.fps or 1 / first.seconds).limit_denominator(1001)
    stream = out.add_stream("libx264", rate=rate, options={"crf": "16"})
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
    context.time_base, context.sample_aspect_ratio = like.time_base, like.aspect
    context.colorspace, context.color_primaries, context.color_trc = astuple(like.colour)
    context.color_range = LIMITED
    seconds: dict[int, Fraction] = {}
    for frame in chain([first], rest):
        image = _to_encode(frame, like)
        seconds[image.pts or 0] = frame.seconds
        yield from _timed(stream.encode(image), seconds)
    yield from _timed(stream.encode(), seconds)


def _timed(packets: Iterable[av.Packet], seconds: dict[int, Fraction]) -> Iterator[av.Packet]:
    """Set the duration of packets."""
    for packet in packets:
        packet.duration = round(seconds.pop(packet.pts or 0) / packet.time_base)
        yield packet


def _to_encode(frame: VideoFrame, like: Video) -> av.VideoFrame:
    """A frame in the encoder's format."""
    import av  # noqa: PLC0415  (optional)

    height, width = frame.pixels.shape[:2]
    even = np.pad(frame.pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
    image = rgb.reformat(format="yuv420p", dst_colorspace=_sws_matrix(like.colour.matrix), dst_color_range=LIMITED)
    image.pts, image.time_base = round(frame.start / like.time_base), like.time_base
    return image


def _sound(out: OutputContainer, source: Video) -> Iterator[av.Packet]:
    """Sound packets of a video, copied if MP4 supports the codec, else encoded as AAC."""
    with _open(source.path) as container:
        start = _start(container)
        tracks = {s.index: _add_sound(out, s) for s in _sound_tracks(container)}
        for packet in _demuxed(container, *(container.streams[i] for i in tracks)):
            track = tracks[packet.stream.index]
            if not _is_copied(packet.stream):
                yield from _as_aac(packet, track, start)
            elif packet.dts is not None and packet.pts is not None:  # the last one, at the end of a track, is empty
                shift = round(start / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = track
                yield packet


def _is_copied(stream: AudioStream) -> bool:
    """Whether an MP4 supports a sound codec."""
    return stream.codec_context.codec.canonical_name in COPIED_SOUND


def _add_sound(out: OutputContainer, stream: AudioStream) -> AudioStream:
    """Add a track for the sound of another one."""
    if _is_copied(stream):
        track = out.add_stream_from_template(stream)
    else:
        layout = {1: "mono", 2: "stereo"}.get(stream.layout.nb_channels, stream.layout.name)
        track = out.add_stream("aac", rate=min(stream.rate, MAX_AAC_HERTZ), layout=layout)
    track.metadata.update({k: v for k, v in stream.metadata.items() if k in ("language", "title")})
    return track


def _as_aac(packet: av.Packet, track: AudioStream, start: Fraction) -> Iterator[av.Packet]:
    """Encode a packet of another codec as AAC; the last, empty packet flushes the encoder."""
    for frame in _decode(packet):
        if frame.pts is not None and frame.time_base:
            frame.pts -= round(start / frame.time_base)
        yield from track.encode(frame)
    if not packet.size:
        yield from track.encode()
