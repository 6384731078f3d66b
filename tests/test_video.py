"""Videos in: a moving portrait with sound, turned frame by frame; times, colours and sound kept; videos that are refused."""

import json
import struct
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latentrot.cli import main
from latentrot.data.images import read_image
from latentrot.data.metadata import SOURCE_TYPE, SYNTHETIC, read_metadata
from latentrot.data.video import Colour, Video, VideoFrame, encode_mp4, open_video
from latentrot.errors import LatentrotError
from latentrot.portrait.tracking import SmoothedLandmarks

av = pytest.importorskip("av", reason="videos need PyAV")
PORTRAIT = Path(__file__).parents[1] / "latentrot" / "bundled" / "astronaut.jpg"
FACES, EMPTY, FPS = 3, 2, 10


def moving_portrait() -> list[np.ndarray]:
    """The portrait drifting to the right by two pixels a frame, then a grey wall."""
    portrait = Image.fromarray(read_image(PORTRAIT)[40:360, 90:410]).resize((256, 256))
    frames = [np.roll(np.array(portrait), 2 * i, 1) for i in range(FACES)]
    return frames + [np.full((256, 256, 3), 120, np.uint8)] * EMPTY


def encode(path, frames, sounds=("aac",), starts=None, pixel_format="yuv420p", **tags) -> Path:
    """A video by PyAV itself: frames at the given times in milliseconds, a tone for each sound, colour tags."""
    tick = Fraction(1, 1000)
    starts = [1000 * i // FPS for i in range(len(frames))] if starts is None else starts
    with av.open(str(path), "w") as out:
        codec = "libx264" if path.suffix != ".webm" else "libvpx-vp9"
        stream = out.add_stream(codec, rate=FPS, options={"crf": "12", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = frames[0].shape[1], frames[0].shape[0], pixel_format
        stream.codec_context.time_base = tick
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        tracks = [out.add_stream(c, rate=48_000, layout="mono") for c in sounds]
        for pixels, start in zip(frames, starts, strict=True):
            rgb = av.VideoFrame.from_ndarray(pixels)
            frame = rgb.reformat(format=pixel_format, dst_colorspace=tags.get("colorspace", 5), dst_color_range=1)
            frame.pts, frame.time_base = start, tick
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        for hertz, track in enumerate(tracks, 1):
            wave = np.sin(np.arange(48 * (starts[-1] + 1000 // FPS)) * 2 * np.pi * 440 * hertz / 48_000)
            sound = av.AudioFrame.from_ndarray((20_000 * wave).astype(np.int16)[None], format="s16", layout="mono")
            sound.rate, sound.pts, sound.time_base = 48_000, 0, Fraction(1, 48_000)
            out.mux([*track.encode(sound), *track.encode()])
    return path


def sound_packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as file:
        return [bytes(p) for p in file.demux(file.streams.audio) if p.size]


def again(source: Path, out: Path) -> tuple[Video, list[VideoFrame], Video, list[VideoFrame]]:
    """A video, and the video written from its frames."""
    video = open_video(source)
    frames = list(video.frames)
    encode_mp4(out, frames, {"Software": "latentrot"}, video)
    written = open_video(out)
    return video, frames, written, list(written.frames)


def greys(count: int, height: int = 40, width: int = 56) -> list[np.ndarray]:
    return [np.full((height, width, 3), 20 + 30 * i, np.uint8) for i in range(count)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return encode(tmp_path_factory.mktemp("clip") / "clip.mov", moving_portrait(), ["pcm_s16le"])


@pytest.mark.parametrize(
    "options", [["--deg", "20", "--fast"], ["--to", "20", "--fast"], ["--deg", "20", "--rotator", "mesh"]]
)
def test_a_moving_face_is_rotated_and_other_frames_are_unchanged(clip, tmp_path, capfd, options):
    out = tmp_path / "turned.mp4"
    assert main(["edit", str(clip), *options, "--json", "--out", str(out)]) == 0
    report = json.loads(capfd.readouterr().out)
    assert (report["frames"], report["turned"], report["unchanged"]) == (FACES + EMPTY, FACES, EMPTY)
    assert report["faces_followed"] == 1
    assert report["yaw_after_deg"] > report["yaw_before_deg"] + 5
    before, after = (open_video(p) for p in (clip, out))
    assert after.fps == before.fps == FPS
    assert after.sound == ("aac",)  # an MP4 does not hold the clip's
    pairs = zip(after.frames, before.frames, strict=True)
    change = [np.abs(a.pixels.astype(int) - b.pixels).mean() for a, b in pairs]
    assert min(change[:FACES]) > 2 * max(change[FACES:])
    assert read_metadata(out)[SOURCE_TYPE] == SYNTHETIC
    assert [p.name for p in tmp_path.iterdir()] == ["turned.mp4"]


# ---- what a video keeps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm"])
def test_every_frame_keeps_its_time(tmp_path, suffix):
    starts = [0, 120, 800, 1000, 1520]
    sounds = ["libopus"] if suffix == "webm" else ["aac"]
    source = encode(tmp_path / f"a.{suffix}", greys(5), sounds, starts)
    video, frames, written, back = again(source, tmp_path / "out.mp4")
    for given in (frames, back):
        assert [round(1000 * s.start) for s in given] == starts
        assert [round(1000 * s.seconds) for s in given[:-1]] == [120, 680, 200, 520]
    assert [s.pixels.mean() for s in back] == pytest.approx([20, 50, 80, 110, 140], abs=3)
    assert sound_packets(source) == sound_packets(tmp_path / "out.mp4")  # not one is made anew
    assert written.sound == video.sound
    with av.open(str(source)) as a, av.open(str(tmp_path / "out.mp4")) as b:
        assert b.duration == pytest.approx(a.duration, abs=60_000)


def test_every_sound_track_stays(tmp_path):
    source = encode(tmp_path / "a.mkv", greys(4), ["aac", "mp3", "pcm_s16le"])
    video, _, written, _ = again(source, tmp_path / "out.mp4")
    assert video.sound == ("aac", "mp3", "pcm_s16le")
    assert written.sound == ("aac", "mp3", "aac")
    with av.open(str(tmp_path / "out.mp4")) as file:
        for hertz, track in enumerate(file.streams.audio, 1):
            file.seek(0)
            wave = np.concatenate([f.to_ndarray()[0] for f in file.decode(track)])[4800:14_400]
            assert np.abs(np.fft.rfft(wave)).argmax() * 5 == pytest.approx(440 * hertz, abs=10)


def test_a_video_without_sound(tmp_path):
    video, _, written, back = again(encode(tmp_path / "a.mov", greys(4), []), tmp_path / "out.mp4")
    assert (video.sound, written.sound, len(back)) == ((), (), 4)


@pytest.mark.parametrize(
    ("height", "tags", "matrix"), [(720, {"colorspace": 1}, 1), (64, {"colorspace": 1}, 1), (64, {}, 6)]
)
def test_colours_are_read_as_tagged_and_written_with_a_tag(tmp_path, height, tags, matrix):
    red = np.full((height, 96, 3), (195, 38, 36), np.uint8)
    source = encode(tmp_path / "a.mp4", [red] * 2, [], **tags)
    video, frames, written, back = again(source, tmp_path / "out.mp4")
    assert video.colour.matrix == written.colour.matrix == matrix
    for frame in (*frames, *back):
        assert np.abs(frame.pixels[8:56, 8:88].astype(int) - red[8:56, 8:88]).max() <= 3
    with av.open(str(tmp_path / "out.mp4")) as file:
        frame = next(file.decode(video=0))
        assert (frame.colorspace, frame.color_range) == (matrix, 1)


@pytest.mark.parametrize(("transfer", "word"), [(16, "PQ"), (18, "HLG"), (1, "")])
def test_ten_bits_become_eight_and_high_dynamic_range_says_so(tmp_path, transfer, word):
    ramp = np.repeat(np.linspace(0, 255, 96).astype(np.uint8)[None, :, None], 64, 0).repeat(3, 2)
    wide = {"colorspace": 9, "color_primaries": 9} if word else {"colorspace": 1, "color_primaries": 1}
    source = encode(tmp_path / "a.mp4", [ramp] * 2, [], pixel_format="yuv420p10le", color_trc=transfer, **wide)
    video, frames, written, back = again(source, tmp_path / "out.mp4")
    assert written.colour == Colour(1, 1, 1)
    assert any(word in n for n in video.warnings) if word else video.warnings == ()
    grey = frames[0].pixels[32].astype(int)
    assert np.ptp(grey, axis=1).max() <= 4  # grey stays grey
    assert (np.diff(grey.mean(1)) > -2).all()
    assert (grey[-1] >= 250).all()
    assert (grey[64] > 240).all() == (word == "PQ")  # two thirds of its scale are white already
    assert np.abs(back[0].pixels.astype(int) - frames[0].pixels).mean() < 3


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_video_on_its_side_is_set_upright(tmp_path, quarters):
    frame = np.zeros((48, 64, 3), np.uint8)
    frame[:24, :32] = 200
    path = encode(tmp_path / "a.mp4", [np.ascontiguousarray(np.rot90(frame, -quarters))] * 2)
    c, s = [(1, 0), (0, 1), (-1, 0), (0, -1)][quarters]
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44  # version and flags, times, number, duration, layer, volume
    content[matrix : matrix + 20] = struct.pack(">5i", c << 16, -s << 16, 0, s << 16, c << 16)
    path.write_bytes(content)
    _, frames, written, back = again(path, tmp_path / "out.mp4")
    for frame in (frames[0], back[0]):
        assert frame.pixels.shape == (48, 64, 3)
        assert frame.pixels[4:20, 4:28].mean() > 180
        assert frame.pixels[28:, 36:].mean() < 20
    assert written.warnings == ()


def test_lost_streams_are_reported(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as out:
        options = {"rate": FPS, "width": 56, "height": 40, "pix_fmt": "yuv420p"}
        for track in [out.add_stream("libx264", **options) for _ in range(2)]:
            out.mux([*track.encode(av.VideoFrame.from_ndarray(greys(1)[0])), *track.encode()])
    assert open_video(path).warnings == ("1 video track not kept",)


def test_odd_sizes_are_made_even(tmp_path):
    frames = [VideoFrame(g, Fraction(i, 10), Fraction(1, 10)) for i, g in enumerate(greys(3, 41, 57))]
    encode_mp4(tmp_path / "a.mp4", frames, {})
    assert [s.pixels.shape for s in open_video(tmp_path / "a.mp4").frames] == [(42, 58, 3)] * 3


# ---- animated images ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("suffix", "out"), [("gif", "gif"), ("webp", "webp"), ("png", "mp4")])
def test_animated_images_are_turned_frame_by_frame_with_their_times(tmp_path, capfd, monkeypatch, suffix, out):
    pytest.importorskip("facenet_pytorch")
    monkeypatch.chdir(tmp_path)
    pictures = [Image.fromarray(f) for f in moving_portrait()[:3]]
    times = [80, 200, 120]
    pictures[0].save(f"a.{suffix}", save_all=True, append_images=pictures[1:], duration=times, loop=0)
    asked = ["--out", f"a-turned.{out}"] if out != suffix else []  # else by default
    assert main(["edit", f"a.{suffix}", "--deg", "20", "--rotator", "mesh", "--json", *asked]) == 0
    report = json.loads(capfd.readouterr().out)
    assert (report["frames"], report["turned"]) == (3, 3)
    if out == "mp4":
        assert [round(1000 * s.seconds) for s in open_video(Path("a-turned.mp4")).frames] == times
        return
    with Image.open(f"a-turned.{out}") as moving, Image.open(f"a.{suffix}") as source:
        for i, milliseconds in enumerate(times):
            moving.seek(i)
            source.seek(i)
            change = np.abs(np.array(moving.convert("RGB")).astype(int) - np.array(source.convert("RGB")))
            assert moving.info["duration"] == milliseconds
            assert change.mean() > 2
    assert read_metadata(Path(f"a-turned.{out}"))[SOURCE_TYPE] == SYNTHETIC


def test_animated_images_need_an_animated_output(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pictures = [Image.fromarray(g) for g in greys(2)]
    pictures[0].save("a.gif", save_all=True, append_images=pictures[1:], duration=50)
    for options in (["--out", "o.png"], ["--out", "a.gif"], ["--crop"]):
        assert main(["edit", "a.gif", "--deg", "5", *options]) == 2
        assert capfd.readouterr().err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.gif"]


# ---- videos that are refused ------------------------------------------------------------------------------------


def test_a_video_without_a_face_is_refused_and_leaves_nothing(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encode(tmp_path / "wall.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 3)
    assert main(["edit", "wall.mp4", "--deg", "5", "--fast"]) == 2
    assert "none of the 3 frames could be turned: no face found" in capfd.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["wall.mp4"]


def test_bad_videos_and_options_are_one_line(clip, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole, rng = clip.read_bytes(), np.random.default_rng(0)
    secret = tmp_path / "secret.txt"
    secret.write_text("nobody reads this")
    contents = {
        "empty.mp4": b"", "text.mp4": b"a letter\n" * 40, "noise.mp4": rng.bytes(5000), "zeros.avi": bytes(5000),
        "cut.mp4": whole[: len(whole) // 2], "head.mp4": whole[:60], "magic.mkv": b"\x1a\x45\xdf\xa3" + rng.bytes(900),
        "riff.avi": b"RIFF\xff\xff\xff\xffAVI LIST" + rng.bytes(300),
        "box.mp4": b"\0\0\0\x18ftypmp42" + bytes(12) + b"\xff\xff\xff\xffmoov" + rng.bytes(300),
        "picture.mp4": PORTRAIT.read_bytes(), "gif.webm": b"GIF89a" + rng.bytes(100),
        "list.mp4": b"ffconcat version 1.0\nfile secret.txt\n",
        "web.mp4": b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n",
    }  # fmt: skip
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    (tmp_path / "line\nbreak.mp4").write_bytes(b"x")
    (tmp_path / "-i.mp4").write_bytes(b"x")
    here = sorted(p.name for p in tmp_path.iterdir())
    names = [*contents, "loop.mp4", "line\nbreak.mp4", "./-i.mp4", "nowhere.mov", "nul\0.mp4", "x" * 300 + ".mp4"]
    cases = [[name, "--deg", "5"] for name in names]
    good = str(clip)
    cases += [
        [good, "--sweep", "-5:5:3"], [good, "--deg", "5", "--crop"], [good, "--deg", "5", "--crop-only"],
        [good, "--deg", "5", "--reify"], [good, "--deg", "5", "--face", "all"], [good, "--deg", "5", "--face", "x"],
        [good, "--deg", "5", "--out", "o.gif"], [good, "--deg", "5", "--out", "no/o.mp4"], [good, "--deg", "95"],
        [good, "--deg", "5", "--out", "nul\0.mp4"], [good, "--deg", "5", "--upscale", "none.pth"],
    ]  # fmt: skip
    for case in cases:
        assert main(["edit", *case]) == 2, case
        out, err = capfd.readouterr()
        assert out == "", case
        assert err.startswith("latentrot: "), err
        assert err.count("\n") == 1, err
        assert err[:-1].isprintable(), err
        assert sorted(p.name for p in tmp_path.iterdir()) == here, case


def test_the_video_itself_is_never_overwritten(tmp_path, capfd):
    path = encode(tmp_path / "a.mp4", [np.zeros((32, 32, 3), np.uint8)] * 2)
    before = path.read_bytes()
    assert main(["edit", str(path), "--deg", "5", "--out", str(path)]) == 2
    assert "the video itself" in capfd.readouterr().err
    assert path.read_bytes() == before


def test_a_damaged_stream_ends_early_or_is_refused(clip, tmp_path):
    content = bytearray(clip.read_bytes())
    content[200:4000:7] = bytes(len(content[200:4000:7]))
    (tmp_path / "a.mov").write_bytes(content)
    seen = []
    with suppress(LatentrotError):
        seen.extend(s.pixels.shape for s in open_video(tmp_path / "a.mov").frames)
    assert set(seen) <= {(256, 256, 3)}


def test_smoothing_keeps_still_points_and_follows_motion():
    rng, start = np.random.default_rng(0), np.full((5, 2), 100.0)
    still = SmoothedLandmarks(start)
    path = np.array([still.update(start + rng.normal(0, 1, (5, 2)), 1 / 25, 1.0) for _ in range(100)])
    assert path[20:].std(0).mean() < 0.6
    moving = SmoothedLandmarks(start)
    for i in range(1, 50):
        last = moving.update(start + 10 * i, 1 / 25, 1.0)
    assert np.abs(last - (start + 490)).max() < 25
