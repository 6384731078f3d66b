"""What `edit` leaves behind: stills, animations, notes in every format, whole folders, several faces, fine detail."""

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from latentrot import cli
from latentrot.data import metadata, video
from latentrot.data.animation import forwards_and_backwards, shrink_to_side, write_animation
from latentrot.data.arrays import resize
from latentrot.data.images import read_image, write_image
from latentrot.data.metadata import SOURCE_TYPE, SYNTHETIC, read_metadata
from latentrot.data.video import open_video
from latentrot.errors import LatentrotError
from latentrot.files import output_names, write_atomically
from latentrot.info import describe_file
from latentrot.portrait.folder import edit_folder, list_photographs
from latentrot.rotators.latent.reify import towards_noise

ROOT = Path(__file__).parents[1]
PORTRAIT = ROOT / "latentrot" / "bundled" / "astronaut.jpg"
NOTES = {"Software": "latentrot", "latentrot": '{"model": "größer", "asked_deg": [25]}', SOURCE_TYPE: SYNTHETIC}
STILL, MOVING = ("png", "jpg", "webp"), ("gif", "webp", "mp4")


def ramps(count: int, height: int = 40, width: int = 56) -> list[np.ndarray]:
    """Smooth images whose left half changes from one to the next."""
    y, x = np.mgrid[:height, :width]
    base = np.stack([x * 4, y * 6, 255 - x * 2 - y * 2], -1)
    pictures = [base.copy() for _ in range(count)]
    for i, picture in enumerate(pictures):
        picture[:, : width // 2] = (picture[:, : width // 2] + 30 * i) % 200
    return [p.astype(np.uint8) for p in pictures]


class Brighten:
    """Stands for a rotator: a turn by d degrees makes the middle of a crop d grey levels brighter."""

    name = "brighten"

    def rotate(self, image, degrees) -> np.ndarray:
        turned = resize(image, 64).astype(float)
        turned[16:48, 16:48] += degrees
        return np.clip(turned, 0, 255).astype(np.uint8)


@pytest.fixture
def edit(monkeypatch, tmp_path, capfd):
    """Runs `latentrot edit` with the stand-in, in an empty folder -> exit code, standard output, standard error."""
    monkeypatch.setattr(cli.Edit, "load_rotator", lambda self: Brighten())
    monkeypatch.chdir(tmp_path)

    def run(*argv):
        code = cli.main(["edit", *map(str, argv)])
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def square(tmp_path) -> Path:
    folder = tmp_path / "given"
    folder.mkdir()
    write_image(folder / "face.png", resize(ramps(1, 64, 64)[0], 96))
    return folder / "face.png"


# ---- animations -------------------------------------------------------------------------------------------------


def frames_of(path: Path) -> list[np.ndarray]:
    if path.suffix == ".mp4":
        return [s.pixels for s in open_video(path).frames]
    with Image.open(path) as picture:
        frames = []
        for i in range(getattr(picture, "n_frames", 1)):
            picture.seek(i)
            frames.append(np.array(picture.convert("RGB")))
        return frames


def test_forward_and_backward_closes_the_loop():
    assert forwards_and_backwards([1, 2, 3, 4]) == [1, 2, 3, 4, 3, 2]
    assert forwards_and_backwards([1, 2]) == [1, 2]
    assert forwards_and_backwards([1]) == [1]


@pytest.mark.parametrize("suffix", MOVING)
def test_frames_and_notes_come_back(tmp_path, suffix):
    if suffix == "mp4":
        pytest.importorskip("av")
    frames = ramps(5, 41, 57)  # odd sides, which H.264 does not have
    path = tmp_path / f"a.{suffix}"
    write_animation(path, frames, 80, NOTES)
    shown = frames_of(path)
    assert len(shown) == 5
    for frame, given in zip(shown, frames, strict=True):
        assert np.abs(frame[:41, :57].astype(int) - given).mean() < (14 if suffix == "gif" else 8)
    assert {k: read_metadata(path)[k] for k in NOTES} == NOTES
    assert describe_file(path)["kind"] == "animation"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    if suffix != "mp4":
        with Image.open(path) as picture:
            assert picture.info["loop"] == 0
            picture.seek(1)
            picture.load()
            assert picture.info["duration"] == 80


def test_constant_pixels_do_not_flicker_in_a_gif(tmp_path):
    rng = np.random.default_rng(0)
    frames = ramps(4)
    frames = [np.clip(f + rng.integers(0, 9, f.shape), 0, 255).astype(np.uint8) for f in frames]
    for frame in frames:
        frame[:, 40:] = frames[0][:, 40:]
    write_animation(tmp_path / "a.gif", frames, 100)
    shown = frames_of(tmp_path / "a.gif")
    assert all(np.array_equal(f[:, 40:], shown[0][:, 40:]) for f in shown)


def test_a_missing_video_encoder_is_one_line(edit, square, monkeypatch):
    monkeypatch.setattr(video.importlib.util, "find_spec", lambda name: None)
    code, out, err = edit(square, "--crop", "--deg", "5", "--out", "a.mp4")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "pip install 'latentrot[video]'" in err


def test_a_disk_that_fills_up_leaves_nothing(tmp_path):
    pytest.importorskip("av")
    frames = list(np.random.default_rng(0).integers(0, 255, (8, 64, 64, 3), np.uint8))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        with pytest.raises(LatentrotError, match=r"a\.mp4"):
            write_animation(tmp_path / "a.mp4", frames, 100, NOTES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert list(tmp_path.iterdir()) == []


def test_large_frames_are_shrunk():
    assert shrink_to_side(ramps(1)[0], 28).shape == (20, 28, 3)
    assert shrink_to_side(ramps(1)[0], 56).shape == (40, 56, 3)


# ---- notes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", STILL)
def test_notes_of_stills_come_back(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    write_image(path, ramps(1)[0], NOTES)
    assert read_metadata(path) == NOTES
    assert SYNTHETIC.encode() in path.read_bytes()  # as XMP, where others look for it
    assert describe_file(path)["kind"] == "image"
    write_image(path, ramps(1)[0])
    assert read_metadata(path) == {}
    with pytest.raises(LatentrotError, match="no metadata of latentrot"):
        describe_file(path)


def test_notes_of_hostile_files_are_harmless(tmp_path):
    path = tmp_path / "a.png"
    write_image(path, ramps(1)[0], {"Description": "latentrot \x1b[31m\nred"})
    assert all(v.isprintable() for v in describe_file(path).values())
    (tmp_path / "nested.gif").write_bytes(b"GIF89a" + bytes(20))
    mp4 = b"\0\0\0\x10ftypisom\0\0\0\0"
    sizes = (b"\0\0\0\0", b"\0\0\0\1", b"\xff\xff\xff\xff", b"\0\0\0\7")
    for i, size in enumerate(sizes):
        (tmp_path / f"{i}.mp4").write_bytes(mp4 + size + b"moov" + bytes(12))
    for name in ("nested.gif", *(f"{i}.mp4" for i in range(len(sizes)))):
        with pytest.raises(LatentrotError):
            describe_file(tmp_path / name)
    deep = "[" * 100_000
    assert metadata.parse_metadata(deep) == {"Description": deep}


# ---- what --out decides -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "mp4"])
@pytest.mark.parametrize("turns", [1, 3])
def test_the_suffix_decides(edit, square, tmp_path, suffix, turns):
    if suffix == "mp4":
        pytest.importorskip("av")
    asked = ["--deg", "20"] if turns == 1 else ["--sweep", "-20:20:3"]
    out = tmp_path / f"o.{suffix}"
    code, printed, err = edit(square, "--crop", *asked, "--out", out, "--json")
    assert code == 0, err
    assert json.loads(printed)["output"] == str(out)
    moving = suffix in ("gif", "mp4") or (suffix == "webp" and turns > 1)
    frames = frames_of(out)
    assert len(frames) == (1 if not moving else 2 if turns == 1 else 4)
    if moving:
        assert frames[0].shape == (256, 256, 3)
        middle = [f[100:156, 100:156].mean() for f in frames]
        wanted = [20] if turns == 1 else [20, 40, 20]
        assert np.subtract(middle[1:], middle[0]) == pytest.approx(wanted, abs=10)
    else:
        assert frames[0].shape == ((64, 64, 3) if turns == 1 else (192, 4 * 196 - 4, 3))
    said = json.loads(read_metadata(out)["latentrot"])
    assert said["model"] == "brighten"
    assert said["asked_deg"] == ([20] if turns == 1 else [-20, 0, 20])
    assert len(said["measured_deg"]) == turns


def test_a_photograph_is_composited_or_cropped(edit, tmp_path):
    before = read_image(PORTRAIT)
    assert edit(PORTRAIT, "--deg", "60", "--out", "pasted.png")[0] == 0
    assert edit(PORTRAIT, "--deg", "60", "--crop-only", "--out", "square.png")[0] == 0
    assert edit(PORTRAIT, "--deg", "60", "--out", "both.gif")[0] == 0
    assert read_image("pasted.png").shape == before.shape
    assert read_image("square.png").shape == (64, 64, 3)
    assert [f.shape for f in frames_of(tmp_path / "both.gif")] == [before.shape] * 2


def test_all_faces_are_turned(edit, tmp_path):
    one = read_image(PORTRAIT)[:320, 60:400]
    write_image("two.png", np.concatenate([one, one[:, ::-1]], 1))
    code, printed, _ = edit("two.png", "--deg", "60", "--face", "all", "--out", "all.png", "--json")
    assert code == 0
    assert len(json.loads(printed)["faces"]) == 2
    assert edit("two.png", "--deg", "60", "--face", "1", "--out", "one.png")[0] == 0
    change = np.abs(read_image("all.png").astype(int) - read_image("two.png")).sum((0, 2))
    assert min(change[:340].sum(), change[340:].sum()) > 0.5 * change.sum() / 2
    single = np.abs(read_image("one.png").astype(int) - read_image("two.png")).sum((0, 2))
    sides = sorted([single[:340].sum(), single[340:].sum()])
    assert sides[1] > 2 * sides[0]  # what surrounds a head gives way, also where a neighbour stands
    assert edit("two.png", "--sweep", "0:60:2", "--face", "all", "--out", "rows.png")[0] == 0
    assert read_image("rows.png").shape == (2 * 196 - 4, 3 * 196 - 4, 3)
    assert "face 1" in edit("two.png", "--deg", "60", "--face", "all", "--out", "all.png")[1]


def test_the_photograph_is_never_overwritten(edit, square):
    before = square.read_bytes()
    code, _, err = edit(square, "--crop", "--deg", "5", "--out", square)
    assert code == 2
    assert "the photograph itself" in err
    assert square.read_bytes() == before


# ---- detail -----------------------------------------------------------------------------------------------------


# ---- reification ------------------------------------------------------------------------------------------------


def test_reify_moves_octaves_towards_noise():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(3, 64, 64))
    assert np.abs(towards_noise(noise) - noise).mean() < 0.2  # the coarsest octave is a handful of numbers
    assert np.allclose(towards_noise(5 * noise, 1), towards_noise(noise, 1))
    assert np.allclose(towards_noise(4 * noise), 2 * towards_noise(noise))
    assert np.allclose(towards_noise(noise, 0), noise)


def test_reify_increases_the_likelihood(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    photo = Image.fromarray(read_image(PORTRAIT)[90:306, 150:366])
    photo.quantize(8, dither=Image.Dither.NONE).convert("RGB").save("drawing.png")
    asked = ["edit", "drawing.png", "--crop", "--deg", "0", "--fast", "--out"]
    assert cli.main([*asked, "same.png"]) == 0
    assert cli.main([*asked, "real.png", "--reify"]) == 0
    capfd.readouterr()
    drawing, same, real = (resize(read_image(n), 64).astype(int) for n in ("drawing.png", "same.png", "real.png"))
    assert np.abs(same - drawing).mean() < 3
    assert np.abs(real - drawing).mean() > 6
    flat = [np.mean(np.abs(np.diff(p.mean(-1), axis=1)) < 1) for p in (drawing, real)]
    assert flat[1] < 0.9 * flat[0]  # the even areas of the drawing are shaded
    assert "reified" in read_metadata(Path("real.png"))["latentrot"]


# ---- folders ----------------------------------------------------------------------------------------------------


def test_a_folder_goes_on_past_bad_files(edit, square, tmp_path):
    (square.parent / "broken.jpg").write_bytes(b"\xff\xd8 no more")
    write_image(square.parent / "face.jpg", ramps(1, 64, 64)[0])
    write_image(square.parent / "wide.webp", ramps(1)[0])
    (square.parent / "metadata.txt").write_text("not an image")
    (square.parent / ".hidden.png").write_text("not looked at")
    code, printed, err = edit(square.parent, "--crop", "--deg", "5", "--out", "results")
    assert code == 2
    assert sorted(p.name for p in (tmp_path / "results").iterdir()) == ["face.jpg.png", "face.png.png"]
    assert "edited 2 of 4 images" in printed
    *table, last = [line for line in err.splitlines() if "it/s" not in line and "image/s" not in line][-3:]
    assert [line.split()[0] for line in table] == ["broken.jpg", "wide.webp"]
    assert "expects a square" in table[1]
    assert last == "latentrot: 2 of 4 images could not be edited"


def test_a_folder_reports_one_object_a_line(edit, square):
    (square.parent / "broken.jpg").write_bytes(b"\xff\xd8 no more")
    code, printed, _ = edit(square.parent, "--crop", "--sweep", "-5:5:2", "--json")
    assert code == 2
    broken, face = map(json.loads, printed.splitlines())
    assert broken["output"] is None
    assert "broken.jpg" in broken["error"]
    assert face["output"] == "given-turned/face"
    assert len(face["frames"]) == 2
    views = pd.read_csv("given-turned/views.csv")
    assert list(views["file"]) == ["face/face_yaw-5.png", "face/face_yaw+5.png"]
    assert list(views["turn_yaw_deg"]) == [-5, 5]
    assert all(Path("given-turned", name).is_file() for name in views["file"])
    (square.parent / "broken.jpg").unlink()
    code, printed, _ = edit(square.parent, "--crop", "--deg", "5", "--json")
    assert code == 0
    assert len(printed.splitlines()) == 1


def test_a_folder_where_all_fail_leaves_no_empty_folder(edit, square, tmp_path):
    square.write_bytes(b"")
    assert edit(square.parent, "--deg", "5", "--out", "results")[0] == 2
    assert [p.name for p in tmp_path.iterdir()] == ["given"]


def test_results_never_land_among_their_sources(edit, square, tmp_path):
    (tmp_path / "link").symlink_to(square.parent)
    for out in (square.parent, tmp_path / "link", square, tmp_path / "results.png"):
        code, _, err = edit(square.parent, "--crop", "--deg", "5", "--out", out)
        assert code == 2
        assert err.count("\n") == 1
    assert [p.name for p in square.parent.iterdir()] == ["face.png"]


def test_names_of_results_never_collide():
    paths = [Path(n) for n in ("a.png", "b.jpg", "A.jpg", "c.x.png")]
    assert output_names(paths, ".png") == ["a.png.png", "b.png", "A.jpg.png", "c.x.png"]


def test_an_interrupted_folder_holds_whole_files_only(square, tmp_path):
    for name in ("b.png", "c.png"):
        (square.parent / name).write_bytes(square.read_bytes())
    from latentrot.portrait.photograph import edit_photograph  # noqa: PLC0415
    from latentrot.portrait.portrait import EditConfig  # noqa: PLC0415

    done = []

    def one_then_interrupt(path):
        if done:
            raise KeyboardInterrupt
        done.append(path)
        return edit_photograph(path, Brighten(), [5.0], EditConfig(crop=True))

    with pytest.raises(KeyboardInterrupt):
        list(edit_folder(list_photographs(square.parent), tmp_path / "out", one_then_interrupt))
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["b.png"]
    assert read_image(tmp_path / "out" / "b.png").shape == (64, 64, 3)


# ---- whole or not there -----------------------------------------------------------------------------------------


def test_a_writer_that_fails_leaves_nothing(tmp_path):
    def half(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(LatentrotError, match="disk is full"):
        write_atomically(tmp_path / "new" / "a.bin", half)
    assert list((tmp_path / "new").iterdir()) == []
    name = "n" * 250 + ".bin"
    write_atomically(tmp_path / name, lambda p: p.write_bytes(b"whole"))
    assert (tmp_path / name).read_bytes() == b"whole"
    assert oct((tmp_path / name).stat().st_mode & 0o444) == oct(0o444)


def test_a_killed_process_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    code = (
        "import os, signal, sys, pathlib; from latentrot.files import write_atomically\n"
        "def write(p): p.write_bytes(b'half'); os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomically(pathlib.Path(sys.argv[1]), write)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(target)], check=False, cwd=ROOT)
    assert done.returncode == -9
    assert target.read_bytes() == b"old"
    assert [p.suffix for p in tmp_path.iterdir() if p != target] == [".tmp"]
