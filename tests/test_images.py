"""Images in and out, faces found in them, into the CelebA frame and back."""

from __future__ import annotations

import builtins
import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from latentrot.data import images
from latentrot.data.arrays import resize, strip, to_tensor, to_uint8
from latentrot.data.frame import CROP_BOX
from latentrot.data.images import read_image, write_image
from latentrot.errors import LatentrotError
from latentrot.faces import detect
from latentrot.faces.alignment import MEAN_LANDMARKS, align_landmarks
from latentrot.faces.detect import Face, choose_face, detect_faces
from latentrot.faces.framing import frame_face, landmarks_in_frame
from latentrot.faces.mtcnn import load_mtcnn

ROOT = Path(__file__).parents[1]
ASTRONAUT = ROOT / "latentrot" / "bundled" / "astronaut.jpg"
LFW = ROOT.parent / "shared" / "data" / "lfw"


@pytest.fixture
def picture() -> np.ndarray:
    """Smooth colours, 40 rows by 56 columns, no two corners alike."""
    y, x = np.mgrid[:40, :56]
    return np.stack([x * 4, y * 6, 255 - x * 2 - y * 2], -1).astype(np.uint8)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def refused(call, *given) -> str:
    with pytest.raises(LatentrotError) as caught:
        call(*given)
    message = str(caught.value)
    assert message.isprintable(), message
    assert 20 < len(message) < 700
    return message


# ---- reading ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp"])
def test_lossless_formats_are_read_exactly(tmp_path, picture, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(picture).save(path, lossless=True)
    assert np.array_equal(read_image(path), picture)


@pytest.mark.parametrize("suffix", ["jpg", "tiff", "png", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(tmp_path, picture, orientation, suffix):
    # what a camera stores so that the tag brings it upright
    stored = {
        1: picture,
        2: picture[:, ::-1],
        3: picture[::-1, ::-1],
        4: picture[::-1],
        5: picture.transpose(1, 0, 2),
        6: np.rot90(picture, 1),
        7: picture[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(picture, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, quality=100, subsampling=0)
    read = read_image(path)
    assert read.shape == picture.shape
    assert np.abs(read.astype(int) - picture).mean() < 3


def test_16_bit_is_scaled_not_cut(tmp_path):
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    for suffix in ("png", "tiff"):
        Image.fromarray(ramp).save(tmp_path / f"a.{suffix}")
        read = read_image(tmp_path / f"a.{suffix}")
        assert read.dtype == np.uint8
        assert np.array_equal(read[..., 0], np.rint(ramp / 257).astype(np.uint8))
        assert read.min() == 0
        assert read.max() == 255


def test_grey_and_1_bit_become_rgb(tmp_path, picture):
    grey = Image.fromarray(picture[..., 0])
    grey.save(tmp_path / "l.png")
    assert np.array_equal(read_image(tmp_path / "l.png"), np.repeat(picture[..., :1], 3, 2))
    bits = grey.point(lambda v: 255 * (v > 99)).convert("1")
    bits.save(tmp_path / "b.png")
    assert np.array_equal(read_image(tmp_path / "b.png")[..., 2], np.where(picture[..., 0] > 99, 255, 0))


def test_alpha_is_composited_on_white(tmp_path, picture):
    alpha = np.zeros(picture.shape[:2], np.uint8)
    alpha[:, :20], alpha[:, 20:30] = 255, 128
    Image.fromarray(np.dstack([picture, alpha])).save(tmp_path / "rgba.png")
    Image.fromarray(np.dstack([picture[..., 0], alpha])).save(tmp_path / "la.png")
    read, grey = read_image(tmp_path / "rgba.png"), read_image(tmp_path / "la.png")
    assert np.array_equal(read[:, :20], picture[:, :20])
    assert (read[:, 30:] == 255).all()
    half = (picture[:, 20:30].astype(float) * 128 + 255 * 127) / 255
    assert np.abs(read[:, 20:30] - half).max() <= 1
    assert (grey[:, 30:] == 255).all()
    assert np.array_equal(grey[:, :20, 1], picture[:, :20, 0])


def test_palettes_keep_colours_and_transparency(tmp_path):
    indices = np.zeros((32, 32), np.uint8)
    indices[:, 16:] = 1
    indices[16:, :] += 2
    paletted = Image.fromarray(indices).convert("P")
    paletted.putpalette([10, 20, 30, 200, 100, 50, 0, 255, 0, 7, 7, 7])
    for suffix in ("png", "gif"):
        paletted.save(tmp_path / f"a.{suffix}", transparency=2)
        read = read_image(tmp_path / f"a.{suffix}")
        seen = [read[r, c].tolist() for r, c in ((0, 0), (0, 31), (31, 0), (31, 31))]
        assert seen == [[10, 20, 30], [200, 100, 50], [255, 255, 255], [7, 7, 7]]


@pytest.mark.parametrize("suffix", ["jpg", "tiff"])
def test_cmyk_becomes_rgb(tmp_path, suffix):
    Image.new("CMYK", (32, 32), (0, 255, 255, 0)).save(tmp_path / f"a.{suffix}")
    assert np.abs(read_image(tmp_path / f"a.{suffix}")[16, 16].astype(int) - [255, 0, 0]).max() <= 3


def png_header(width: int, height: int, extra: bytes = b"") -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def text_bomb() -> bytes:
    data = b"Comment\0\0" + zlib.compress(b"a" * 80_000_000, 9)
    return struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data))


def test_bad_files_are_refused_in_one_line(tmp_path, capfd):
    bad: dict[Path, bytes] = {}
    for suffix, options in (("png", {}), ("jpg", {}), ("webp", {}), ("bmp", {}), ("gif", {}), ("tiff", {}),
                            ("lzw.tiff", {"compression": "tiff_lzw"})):  # fmt: skip
        whole = tmp_path / f"whole.{suffix}"
        Image.fromarray(noise(48, 64)).save(whole, **options)
        content = whole.read_bytes()
        assert read_image(whole).shape == (48, 64, 3)
        for share in (0.0005, 0.002, 0.01, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9):
            cut = max(1, int(len(content) * share))
            bad[tmp_path / f"cut{cut}.{suffix}"] = content[:cut]
    whole = (tmp_path / "whole.png").read_bytes()
    bad[tmp_path / "flipped.png"] = whole[:60] + bytes(b ^ 0x55 for b in whole[60:200]) + whole[200:]
    bad[tmp_path / "text.png"] = b"this is a letter, not an image\n" * 20
    bad[tmp_path / "page.jpg"] = b"<html><body>404</body></html>"
    bad[tmp_path / "zeros.jpg"] = bytes(5000)
    bad[tmp_path / "empty.png"] = b""
    bad[tmp_path / "huge.png"] = png_header(60_000, 60_000)
    bad[tmp_path / "large.png"] = png_header(9_000, 8_000)
    bad[tmp_path / "overflow.png"] = png_header(2**31 - 1, 2**31 - 1)
    bad[tmp_path / "none.png"] = png_header(0, 0)
    bad[tmp_path / "bomb.png"] = png_header(20, 20, text_bomb())
    bad[tmp_path / "drawing.svg"] = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
    bad[tmp_path / "print.eps"] = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\nshowpage\n"
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for path, content in bad.items():
            path.write_bytes(content)
            assert path.name in refused(read_image, path)
    assert not seen
    assert capfd.readouterr() == ("", "")


def test_text_is_no_image_where_no_plugin_for_heic_is_registered(tmp_path, monkeypatch):
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    (tmp_path / "notes.png").write_text("just some text")
    with pytest.raises(LatentrotError, match="not an image"):
        read_image(tmp_path / "notes.png")


def test_bad_paths_are_refused_in_one_line(tmp_path):
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    assert "folder" in refused(read_image, tmp_path / "folder.png")
    assert "no such image" in refused(read_image, tmp_path / "dangling.png")
    assert "no such image" in refused(read_image, tmp_path / "line\nbreak\x1b[31m.png")
    assert "not a regular file" in refused(read_image, tmp_path / "pipe.png")
    for path in (tmp_path / "loop.png", "nul\0byte.png", "x" * 5000 + ".png", tmp_path / "folder.png" / "a.png", ""):
        refused(read_image, path)


def test_unreadable_permissions_are_refused(tmp_path, picture, monkeypatch):
    write_image(tmp_path / "a.png", picture)

    def denied(*given, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(builtins, "open", denied)  # the mode bits alone do not stop an administrator
    assert "permission" in refused(read_image, tmp_path / "a.png")


def test_size_limits(tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "least.png")
    Image.new("RGB", (15, 400)).save(tmp_path / "narrow.png")
    assert read_image(tmp_path / "least.png").shape == (16, 16, 3)
    assert "15x400" in refused(read_image, tmp_path / "narrow.png")


def test_32_bit_is_refused(tmp_path):
    Image.fromarray(np.ones((32, 32), np.float32)).save(tmp_path / "f.tiff")
    assert "32-bit" in refused(read_image, tmp_path / "f.tiff")


def test_broken_exif_is_ignored(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff garbage", quality=95)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert read_image(tmp_path / "a.jpg").shape == picture.shape
    assert not seen


# ---- writing ----------------------------------------------------------------------------------------------------


def test_written_images_are_read_unchanged(tmp_path, picture):
    about = {"model": "a b", "note": "größer → 25°"}
    for suffix in ("png", "jpg", "webp"):
        write_image(tmp_path / f"a.{suffix}", picture, about)
        assert np.abs(read_image(tmp_path / f"a.{suffix}").astype(int) - picture).mean() < 2
    assert np.array_equal(read_image(tmp_path / "a.png"), picture)
    with Image.open(tmp_path / "a.png") as written:
        assert {k: written.info[k] for k in about} == about
    for suffix in ("jpg", "webp"):
        with Image.open(tmp_path / f"a.{suffix}") as written:
            assert '"model": "a b"' in written.getexif()[0x010E]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jpg", "a.png", "a.webp"]


@pytest.mark.parametrize(
    "failure", [OSError(28, "No space left on device"), KeyboardInterrupt(), PermissionError(13, "no")]
)
@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, picture, monkeypatch, failure, where):
    write_image(tmp_path / "a.png", picture)
    before = (tmp_path / "a.png").read_bytes()

    def fail(*given):
        raise failure

    monkeypatch.setattr(images.os, where, fail)
    expected = KeyboardInterrupt if isinstance(failure, KeyboardInterrupt) else LatentrotError
    with pytest.raises(expected) as caught:
        write_image(tmp_path / "a.png", 255 - picture)
    if expected is LatentrotError:
        assert str(caught.value).isprintable()
        assert ("disk is full" in str(caught.value)) == (failure.errno == 28)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == before


def test_unwritable_targets_are_refused(tmp_path, picture):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("")
    for path in ("a.bmp", "a", "folder.png", "missing/a.png", "file/a.png", "x" * 300 + ".png", "nul\0.png"):
        refused(write_image, tmp_path / path, picture)
    for array in (picture.astype(float), picture[..., :2], picture[..., 0], picture[:0], picture.tolist()):
        refused(write_image, tmp_path / "a.png", array)
    refused(write_image, tmp_path / "a.webp", np.zeros((1, 17_000, 3), np.uint8))
    refused(write_image, tmp_path / "a.png", picture, {"k" * 80: "too long a key"})
    refused(write_image, tmp_path / "a.jpg", picture, {"k": "v" * 70_000})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.png"]


# ---- arrays and tensors -----------------------------------------------------------------------------------------


def test_tensors_and_back_are_exact():
    batch = np.stack([noise(9, 7, seed) for seed in range(3)])
    batch[0, 0, 0], batch[0, 0, 1] = 0, 255
    x = to_tensor(batch)
    assert x.shape == (3, 3, 9, 7)
    assert x.dtype == torch.float32
    assert (x.min(), x.max()) == (-1, 1)
    assert np.array_equal(to_uint8(x), batch)
    assert to_tensor(batch[0]).shape == (1, 3, 9, 7)
    wide = to_uint8(x * 9)  # clipped, not wrapped
    assert (wide[batch < 100] == 0).all()
    assert (wide[batch > 155] == 255).all()
    assert "finite" in refused(to_uint8, x * float("nan"))
    refused(to_uint8, x[0])
    refused(to_tensor, [batch[0], batch[0, :4]])
    refused(to_tensor, [])


def test_resize_is_antialiased():
    stripes = np.zeros((96, 96, 3), np.uint8)
    stripes[:, ::2] = 255
    small = resize(stripes, 24)
    assert small.shape == (24, 24, 3)
    assert np.abs(small[:, 2:-2].astype(int) - 127).max() < 8
    refused(resize, stripes[:50], 24)
    refused(resize, stripes, 0)


def test_strip_places_every_image():
    pictures = [np.full((5, 6, 3), v, np.uint8) for v in (10, 20, 30)]
    sheet = strip(pictures, columns=2, gap=3)
    assert sheet.shape == (13, 15, 3)
    assert np.array_equal(sheet[8:, :6], pictures[2])
    assert np.array_equal(sheet[:5, 9:], pictures[1])
    assert (sheet[5:8] == 255).all()
    assert (sheet[8:, 6:] == 255).all()
    assert strip(pictures, gap=0).shape == (5, 18, 3)
    refused(strip, pictures, 0)


def test_reading_images_does_not_wait_for_torch():
    code = "import sys; from latentrot.faces import alignment, detect; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"


# ---- alignment --------------------------------------------------------------------------------------------------


def planted(scale: float, roll: float, column: float, row: float) -> np.ndarray:
    """The mean face drawn into a photograph: scaled, leaned clockwise by `roll` degrees, moved."""
    c, s = np.cos(np.radians(roll)), np.sin(np.radians(roll))
    return scale * MEAN_LANDMARKS @ np.array([[c, -s], [s, c]]).T + [column, row]


@pytest.mark.parametrize(
    ("scale", "roll", "column", "row"), [(1, 0, 0, 0), (0.3, 20, 40, 10), (4, -75, 9, 600), (2, 170, 500, 500)]
)
def test_planted_similarities_are_found_exactly(scale, roll, column, row):
    landmarks = planted(scale, roll, column, row)
    alignment = align_landmarks(landmarks, (800, 800))
    assert np.abs(alignment.to_frame(landmarks) - MEAN_LANDMARKS).max() < 1e-9
    assert np.abs(alignment.to_photo(MEAN_LANDMARKS) - landmarks).max() < 1e-9
    assert alignment.scale == pytest.approx(1 / scale)
    assert alignment.roll_deg == pytest.approx(roll)
    assert alignment.crop_side == pytest.approx(128 * scale)


def test_alignment_never_reflects_and_mirrors_with_the_photograph():
    rng = np.random.default_rng(3)
    landmarks = planted(2, 15, 30, 40) + rng.normal(0, 4, (5, 2))
    alignment = align_landmarks(landmarks, (500, 500))
    mirrored = ([500, 0] + landmarks * [-1, 1])[[1, 0, 2, 4, 3]]
    other = align_landmarks(mirrored, (500, 500))
    assert np.allclose(other.to_frame(mirrored), ([178, 0] + alignment.to_frame(landmarks) * [-1, 1])[[1, 0, 2, 4, 3]])
    assert other.roll_deg == pytest.approx(-alignment.roll_deg)
    flipped = align_landmarks([500, 0] + landmarks * [-1, 1], (500, 500))  # left and right not swapped: a reflection
    assert np.linalg.det(flipped.matrix[:, :2]) > 0


def test_bad_landmarks_are_refused():
    for bad in (
        np.zeros((5, 2)),
        np.full((5, 2), np.nan),
        np.zeros((4, 2)),
        MEAN_LANDMARKS * 1e6,
        MEAN_LANDMARKS + 1e7,
    ):
        refused(align_landmarks, bad, (178, 218))


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    small = Image.fromarray(noise(height // 16, width // 16, seed))
    return np.array(small.resize((width, height), Image.Resampling.BICUBIC))


def test_the_frame_itself_is_cropped_exactly():
    frame = noise(218, 178)
    left, top, right, bottom = CROP_BOX
    alignment = align_landmarks(MEAN_LANDMARKS, (178, 218))
    difference = alignment.crop(frame, 128).astype(int) - frame[top:bottom, left:right]
    assert np.abs(difference).max() <= 1


def test_crop_undoes_a_planted_transform():
    """A frame drawn into a photograph by an independent warp comes back as it was."""
    frame = smooth(218, 178)
    c, s = 2.5 * np.cos(np.radians(25)), 2.5 * np.sin(np.radians(25))
    inverse = np.linalg.inv(np.array([[c, -s, 300], [s, c, 90], [0, 0, 1]]))[:2]
    photo = Image.fromarray(frame).transform((900, 900), Image.Transform.AFFINE, tuple(inverse.ravel()), 3)
    alignment = align_landmarks(planted(2.5, 25, 300, 90), (900, 900))
    crop = alignment.crop(np.array(photo), 128)
    assert np.abs(crop.astype(int) - frame[57:185, 25:153])[2:-2, 2:-2].mean() < 1.5


def test_shrinking_crops_are_antialiased():
    grain = noise(2180, 1780)
    crop = align_landmarks(MEAN_LANDMARKS * 10, (1780, 2180)).crop(grain, 64)
    assert grain.std() > 70
    assert crop.std() < 12  # 400 pixels of the photograph average into one


def test_edges_are_repeated_outside_the_photograph():
    photo = np.zeros((100, 100, 3), np.uint8)
    photo[:, :50], photo[:, 50:] = (200, 10, 10), (10, 10, 200)
    crop = align_landmarks(planted(1, 0, -89, -60), (100, 100)).crop(photo, 64)
    assert (crop[:, 0] == (200, 10, 10)).all()
    assert (crop[:, -1] == (10, 10, 200)).all()


CASES = {
    "inside": (2, 15, 60, 40),
    "small": (0.2, -10, 100, 90),
    "over the edge": (1.5, 40, -40, -90),
    "apart": (1, 0, 5000, 0),
}


# ---- detection --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def portrait() -> tuple[np.ndarray, Face]:
    photo = read_image(ASTRONAUT)
    faces = detect_faces(photo)
    assert len(faces) == 1
    return photo, faces[0]


def test_the_bundled_portrait_is_found_and_framed(portrait):
    photo, face = portrait
    left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
    assert face.score > 0.99
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < right_mouth[0]
    assert left_eye[1] < nose[1] < left_mouth[1]
    alignment = align_landmarks(face.landmarks, (photo.shape[1], photo.shape[0]))
    assert np.abs(alignment.to_frame(face.landmarks) - MEAN_LANDMARKS)[:2].max() < 2
    crop = alignment.crop(photo, 128)
    again = detect_faces(resize(crop, 256))[0].landmarks / 2 + [25, 57]
    assert np.abs(again - MEAN_LANDMARKS)[:2].max() < 3


def test_detection_follows_mirroring_and_size(portrait):
    photo, face = portrait
    mirrored = detect_faces(np.ascontiguousarray(photo[:, ::-1]))[0].landmarks
    expected = ([512, 0] + face.landmarks * [-1, 1])[[1, 0, 2, 4, 3]]
    assert np.abs(mirrored - expected).max() < 0.02 * 512
    large = resize(photo, 2048)  # over MAX_SIDE: searched smaller, reported at full size
    assert np.abs(detect_faces(large)[0].landmarks / 4 - face.landmarks).max() < 0.02 * 512


def test_images_without_a_face_give_none():
    assert detect_faces(np.full((200, 300, 3), 128, np.uint8)) == []
    assert detect_faces(np.zeros((16, 16, 3), np.uint8)) == []
    assert detect_faces(np.zeros((5000, 16, 3), np.uint8)) == []


def test_the_largest_face_comes_first_and_the_others_can_be_chosen(portrait):
    photo, _ = portrait
    scene = np.concatenate([np.pad(resize(photo, 256), ((256, 0), (0, 0), (0, 0))), photo], 1)
    faces = detect_faces(scene)
    assert len(faces) == 2
    assert faces[0].area > faces[1].area
    face, note = choose_face(faces)
    assert face is faces[0]
    assert face.box[0] > 256
    assert note.startswith("2 faces found, using the largest (face 0, at ")
    assert note.endswith("--face 1 chooses another")
    assert choose_face(faces, 1) == (faces[1], "")
    assert choose_face(faces, "0") == (faces[0], "")
    assert choose_face(faces[:1]) == (faces[0], "")


def test_invalid_choices_are_refused():
    face = Face((0.0, 0.0, 9.0, 9.0), 1.0, MEAN_LANDMARKS)
    assert "--crop" in refused(choose_face, [])
    assert "2 faces were found" in refused(choose_face, [face, face], 2)
    refused(choose_face, [face], -1)
    refused(choose_face, [face], "smallest")
    assert "--face 1 or --face 2 chooses another" in choose_face([face] * 3)[1]


def test_the_bundled_detector_answers_as_the_one_its_weights_are_from():
    facenet = pytest.importorskip("facenet_pytorch", reason="facenet-pytorch is not installed")
    photo = read_image(ASTRONAUT)
    scene = np.concatenate([np.pad(resize(photo, 256), ((256, 0), (0, 0), (0, 0))), photo], 1)
    published = facenet.MTCNN(keep_all=True, min_face_size=detect.MIN_FACE, post_process=False)
    for picture in (photo, scene, photo[:, 200:]):  # one face, two, and one cut off by the edge
        own = load_mtcnn("cpu", detect.MIN_FACE).detect(picture)
        theirs = [np.asarray(part, float) for part in published.detect(Image.fromarray(picture), landmarks=True)]
        for one, other in zip(own, theirs, strict=True):  # the published code sorts by size
            assert np.sort(one, 0) == pytest.approx(np.sort(other, 0), abs=1e-2)


@pytest.mark.shared_data
@pytest.mark.skipif(not LFW.is_dir(), reason="the LFW photographs are not in ../shared/data/lfw")
def test_unaligned_photographs_are_framed_like_celeba():
    paths = sorted(LFW.glob("*/*.jpg"))
    misses, elsewhere = [], ((0.82, 0.91, 1.0), ((-0.02, -0.02), (0.02, 0.02)))  # looks that are not fitted to
    for path in paths[:: len(paths) // 16]:
        photo = read_image(path)
        for face in detect_faces(photo)[:1]:
            found = landmarks_in_frame(photo, frame_face(photo, face.landmarks), elsewhere)
            misses.append(np.linalg.norm(found - MEAN_LANDMARKS, axis=1)[:2].max())
    assert len(misses) >= 15
    assert np.mean(np.array(misses) < 1.5) > 0.9  # eye centres, in pixels of the 178x218 frame


def test_refinement_corrects_a_bad_initial_alignment(portrait):
    photo, face = portrait
    good = frame_face(photo, face.landmarks)
    scale = 1 / good.scale
    for lean, shift in ((6, (3, -3)), (-6, (-3, 3))):
        c, s = np.cos(np.radians(lean)), np.sin(np.radians(lean))
        centre = face.landmarks.mean(0)
        bad = (face.landmarks - centre) @ np.array([[c, s], [-s, c]]) + centre + np.multiply(shift, scale)
        again = frame_face(photo, bad)
        assert np.abs(again.to_frame(good.to_photo(MEAN_LANDMARKS)) - MEAN_LANDMARKS).max() < 0.7
    nowhere = face.landmarks + np.array([150, 230])  # no face there: what was given is kept
    kept = frame_face(photo, nowhere)
    assert np.allclose(kept.matrix, align_landmarks(nowhere, (photo.shape[1], photo.shape[0])).matrix)
