"""Videos in: a moving portrait with sound, turned frame by frame; and videos that are refused."""

import json
import subprocess
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latentrot.cli import main
from latentrot.data.images import read_image
from latentrot.data.metadata import SOURCE_TYPE, SYNTHETIC, read_notes
from latentrot.data.video import open_video
from latentrot.edit.video import Smoothed
from latentrot.errors import LatentrotError

imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="videos need imageio-ffmpeg")
PORTRAIT = Path(__file__).parents[1] / "latentrot" / "bundled" / "astronaut.jpg"
FACES, EMPTY, FPS = 3, 2, 10


def moving_portrait() -> list[np.ndarray]:
    """The portrait drifting to the right by two pixels a frame, then a grey wall."""
    portrait = Image.fromarray(read_image(PORTRAIT)[40:360, 90:410]).resize((256, 256))
    frames = [np.roll(np.array(portrait), 2 * i, 1) for i in range(FACES)]
    return frames + [np.full((256, 256, 3), 120, np.uint8)] * EMPTY


def encode(path: Path, frames: list[np.ndarray], *options: str) -> Path:
    """A video by ffmpeg itself, with a tone as its sound."""
    height, width = frames[0].shape[:2]
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}",
        "-r", str(FPS), "-i", "-", "-f", "lavfi", "-i", f"sine=440:duration={len(frames) / FPS}", "-crf", "12", *options,
        str(path),
    ]  # fmt: skip
    subprocess.run(command, input=b"".join(f.tobytes() for f in frames), check=True)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return encode(tmp_path_factory.mktemp("clip") / "clip.mov", moving_portrait(), "-c:a", "pcm_s16le")


@pytest.mark.parametrize("asked", ["--deg", "--to"])
def test_a_moving_face_is_turned_and_the_rest_passes(clip, tmp_path, capfd, asked):
    out = tmp_path / "turned.mp4"
    assert main(["edit", str(clip), asked, "20", "--fast", "--json", "--out", str(out)]) == 0
    report = json.loads(capfd.readouterr().out)
    assert (report["frames"], report["turned"], report["unchanged"]) == (FACES + EMPTY, FACES, EMPTY)
    assert report["faces_followed"] == 1
    assert report["yaw_after_deg"] > report["yaw_before_deg"] + 5
    before, after = (open_video(p) for p in (clip, out))
    assert after.fps == before.fps == FPS
    assert after.sound == "aac"  # an MP4 does not hold the clip's
    change = [np.abs(a.astype(int) - b).mean() for a, b in zip(after.frames, before.frames, strict=True)]
    assert min(change[:FACES]) > 2 * max(change[FACES:])
    assert read_notes(out)[SOURCE_TYPE] == SYNTHETIC
    assert [p.name for p in tmp_path.iterdir()] == ["turned.mp4"]


def test_sound_that_fits_is_copied_and_odd_sizes_are_read(tmp_path):
    frames = [np.full((40, 56, 3), 30 * i, np.uint8) for i in range(4)]
    video = open_video(encode(tmp_path / "a.mkv", frames, "-c:a", "aac"))
    assert (video.sound, video.fps, video.count) == ("aac", FPS, 4)
    levels = [f.mean() for f in video.frames]
    assert levels == pytest.approx([0, 30, 60, 90], abs=4)


def test_a_video_without_a_face_is_refused_and_leaves_nothing(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encode(tmp_path / "wall.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 3)
    assert main(["edit", "wall.mp4", "--deg", "5", "--fast"]) == 2
    assert "no face found in any of the 3 frames" in capfd.readouterr().err
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
        seen.extend(f.shape for f in open_video(tmp_path / "a.mov").frames)
    assert set(seen) <= {(256, 256, 3)}


def test_smoothing_holds_what_is_still_and_follows_what_moves():
    rng, start = np.random.default_rng(0), np.full((5, 2), 100.0)
    still = Smoothed(start)
    path = np.array([still.update(start + rng.normal(0, 1, (5, 2)), 1 / 25, 1.0) for _ in range(100)])
    assert path[20:].std(0).mean() < 0.6
    moving = Smoothed(start)
    for i in range(1, 50):
        last = moving.update(start + 10 * i, 1 / 25, 1.0)
    assert np.abs(last - (start + 490)).max() < 25
