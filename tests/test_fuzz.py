"""Hundreds of bad inputs to `latentrot edit`: one clear line, exit code 2, nothing written. All made from one seed."""

import io
import os
import socket
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latentrot.cli import main

#: an image of this size is read, but holds no face: whatever survives a mutation still ends in an error
HEIGHT, WIDTH = 18, 40
FORMATS = {
    "png": {},
    "jpg": {"quality": 90},
    "webp": {"lossless": True},
    "bmp": {},
    "gif": {},
    "tiff": {},
    "lzw.tiff": {"compression": "tiff_lzw"},
}
MAGIC = {
    "png": b"\x89PNG\r\n\x1a\n",
    "jpg": b"\xff\xd8\xff\xe0\x00\x10JFIF\0",
    "webp": b"RIFF\x40\x00\x00\x00WEBPVP8 ",
    "gif": b"GIF89a",
    "bmp": b"BM",
    "tiff": b"II*\0\x08\0\0\0",
}


def encoded(suffix: str, rng: np.random.Generator, **more: object) -> bytes:
    picture = Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
    kind = {"jpg": "JPEG", "tiff": "TIFF", "lzw.tiff": "TIFF"}.get(suffix, suffix.upper())
    buffer = io.BytesIO()
    picture.save(buffer, kind, **FORMATS[suffix], **more)
    return buffer.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, depth: int = 8, colour: int = 2, extra: bytes = b"", pixels: bytes = bytes(1000)):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return MAGIC["png"] + head + extra + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


# ---- contents of files ------------------------------------------------------------------------------------------


def truncated(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    for suffix in FORMATS:
        whole = encoded(suffix, rng)
        for cut in np.unique(np.concatenate([[1, 2, 7, 11], rng.integers(1, len(whole), 8)])):
            yield f"cut{cut}.{suffix}", whole[:cut]


def flipped(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    for suffix in FORMATS:
        whole = np.frombuffer(encoded(suffix, rng), np.uint8)
        for i in range(9):
            part = min(len(whole), 64 if i % 2 else len(whole))  # half of them in the header
            damaged = whole.copy()
            damaged[rng.integers(0, part, 1 + i * 3)] ^= rng.integers(1, 256, 1 + i * 3, dtype=np.uint8)
            yield f"flip{i}.{suffix}", damaged.tobytes()


def mislabelled(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    for suffix in FORMATS:
        for name in ("png", "jpg", "gif", "mp4", "txt"):
            if name != suffix:
                yield f"{suffix}-named.{name}", encoded(suffix, rng)
    texts = {
        "letter.png": b"a letter, not a picture\n" * 20,
        "page.jpg": b"<!DOCTYPE html><html><body>404</body></html>",
        "drawing.png": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "print.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\nshowpage\n",
        "paper.jpg": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
        "pickle.png": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
        "archive.webp": b"PK\x03\x04" + bytes(200),
        "program.gif": b"\x7fELF\x02\x01\x01" + bytes(200),
        "movie.gif": b"\0\0\0\x18ftypmp42" + bytes(200),
        "utf16.bmp": "picture".encode("utf-16") * 30,
    }
    yield from texts.items()


def noise_behind_magic(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    for suffix, magic in MAGIC.items():
        for i, length in enumerate((0, 3, 40, 900, 9000)):
            yield f"magic{i}.{suffix}", magic + rng.bytes(length)


def monstrous(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    for width, height in ((60_000, 60_000), (9_000, 8_000), (2**31 - 1, 2**31 - 1), (2**32 - 1, 1), (1, 2**31 - 1)):
        yield f"{width}x{height}.png", png(width, height)
        yield f"{width}x{height}-grey.png", png(width, height, 16, 0)
        bmp = struct.pack("<IiiHHIIiiII", 40, width % 2**31, height % 2**31, 1, 24, 0, 0, 0, 0, 0, 0)
        yield f"{width}x{height}.bmp", b"BM" + struct.pack("<IHHI", 999, 0, 0, 54) + bmp + bytes(900)
    yield "huge.gif", b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b",\0\0\0\0\xff\xff\xff\xff\0\x02\0;"
    yield "huge.jpg", b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\3\1\x22\0\2\x11\1\3\x11\1\xff\xd9"
    yield "huge.webp", b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\x3f\0\xff\x3f\0" + bytes(20)
    yield "pixels.png", png(7_900, 8_000, pixels=bytes(30_000_000))  # allowed in size, and a bomb cut short
    for name in (b"zTXt", b"iCCP"):
        bomb = b"Comment\0\0" + zlib.compress(bytes(70_000_000), 9)
        yield f"bomb-{name.decode()}.png", png(20, 20, extra=chunk(name, bomb))


def nothing(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    for suffix in MAGIC:
        yield f"empty.{suffix}", b""
        yield f"zeros.{suffix}", bytes(3000)
    for width, height in ((0, 0), (0, 20), (20, 0), (1, 1), (15, 500), (500, 15)):
        yield f"small{width}x{height}.png", png(width, height)
        size = struct.pack("<HH", width, height)
        yield f"small{width}x{height}.gif", b"GIF89a" + size + b"\0\0\0,\0\0\0\0" + size + b"\0\x02\0;"


def movies(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    starts = {
        "mp4": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "mov": b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "m4v": b"\0\0\0\x08free",
        "mkv": b"\x1a\x45\xdf\xa3\x93\x42\x82\x88matroska", "webm": b"\x1a\x45\xdf\xa3\x42\x82\x84webm",
        "avi": b"RIFF\xff\xff\0\0AVI LIST\xff\0\0\0hdrlavih",
    }  # fmt: skip
    for suffix, start in starts.items():
        for i, length in enumerate((0, 9, 300, 6000)):
            yield f"movie{i}.{suffix}", start + rng.bytes(length)
        yield f"moov.{suffix}", start + struct.pack(">I", 2**32 - 1) + b"moov" + rng.bytes(80)
    yield "picture.mp4", encoded("png", rng)
    yield "list.mkv", b"ffconcat version 1.0\nfile '/etc/hostname'\n"
    yield "list.avi", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n"


def wrong_modes(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    for mode in ("F", "I", "1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "LAB", "I;16"):
        for suffix, kind in (("tiff", "TIFF"), ("png", "PNG"), ("jpg", "JPEG")):
            buffer = io.BytesIO()
            try:
                Image.new(mode, (WIDTH, HEIGHT)).save(buffer, kind)
            except (OSError, KeyError, ValueError):
                continue  # no such mode in this format
            yield f"mode-{mode}.{suffix}", buffer.getvalue()
    for depth, colour in ((3, 2), (8, 5), (16, 3), (32, 0), (255, 255)):
        yield f"depth{depth}-{colour}.png", png(WIDTH, HEIGHT, depth, colour)


def hostile_metadata(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    for i in range(6):
        garbage = rng.bytes(60)
        yield f"exif{i}.jpg", encoded("jpg", rng, exif=b"Exif\0\0MM\0*\0\0\0\x08" + garbage)
        yield f"exif{i}.png", encoded("png", rng, exif=b"II*\0\x08\0\0\0" + garbage)
        yield f"exif{i}.webp", encoded("webp", rng, exif=garbage)
        yield f"profile{i}.jpg", encoded("jpg", rng, icc_profile=garbage)
        yield f"text{i}.png", png(20, 18, extra=chunk(b"tEXt", garbage) + chunk(b"iTXt", garbage), pixels=bytes(9999))
        yield f"palette{i}.png", png(20, 18, 8, 3, extra=chunk(b"PLTE", garbage[: i * 3 + 1]), pixels=bytes(9999))
    for value in (0, 9, 65535):
        exif = Image.Exif()
        exif[0x0112] = value
        yield f"orientation{value}.jpg", encoded("jpg", rng, exif=exif)
    loop = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\1\0\0\0\1\0\0\0\x08\0\0\0"  # a directory that names itself as the next
    yield "loop.tiff", loop
    yield "loop.jpg", encoded("jpg", rng, exif=b"Exif\0\0" + loop)
    yield "escape.jpg", encoded("jpg", rng, comment=b"\x1b[2J\x1b[31m\r\nlatentrot: all is well\n")


KINDS = [truncated, flipped, mislabelled, noise_behind_magic, monstrous, nothing, movies, wrong_modes, hostile_metadata]


# ---- the checks -------------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, int]:
    return {str(p): p.lstat().st_size for p in folder.rglob("*")}


def check_refused(argv: list[str], folder: Path, capfd: pytest.CaptureFixture[str]) -> str:
    """Exit code 2, one printable line on standard error, nothing else said, nothing written."""
    before = contents(folder)
    code = main(["edit", *argv])
    out, err = capfd.readouterr()
    case = f"{argv!r:.300}"
    assert code == 2, case
    assert out == "", case
    assert err.endswith("\n"), case
    line = err[:-1]
    assert line.startswith("latentrot: "), (case, err)
    assert line.isprintable(), (case, err)
    assert 25 < len(line) < 1200, (case, err)
    assert contents(folder) == before, case
    return line


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_bad_contents_are_refused(kind, here, capfd):
    for i, (name, content) in enumerate(kind(np.random.default_rng(7))):
        (here / name).write_bytes(content)
        out = ("o.png", "o.gif", "o.mp4", "o.jpg", "results")[i % 5 if kind is not movies else 2]
        if name.endswith(".mp4"):
            out = "o.mp4"
        line = check_refused([name, "--deg", "5", "--out", out], here, capfd)
        assert name in line or "no face" in line
        (here / name).unlink()


def test_there_are_at_least_300_of_them():
    assert sum(1 for kind in KINDS for _ in kind(np.random.default_rng(7))) >= 300


def test_bad_paths_are_refused(here, capfd):
    noise = encoded("png", np.random.default_rng(0))
    (here / "loop.png").symlink_to("loop.png")
    (here / "ring-a.png").symlink_to("ring-b.png")
    (here / "ring-b.png").symlink_to("ring-a.png")
    (here / "dangling.png").symlink_to("nowhere.png")
    (here / "file").write_bytes(noise)
    (here / "nested").mkdir()
    (here / "nested" / "below").mkdir()
    (here / "nested" / "note.txt").write_text("no picture")
    os.mkfifo(here / "pipe.png")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("socket.png")
    hostile = [
        "line\nbreak.png",
        "\x1b[31mred\x1b[0m.png",
        "bell\a.png",
        "tab\t.png",
        "\udc80byte.png",
        "\u202egnp.exe.png",
    ]
    for name in hostile:
        (here / name).write_bytes(noise)
    devices = [d for d in ("/dev/null", "/dev/zero", "/dev/random", "/dev/full", "/proc/self/mem") if Path(d).exists()]
    paths = [
        "loop.png", "ring-a.png", "dangling.png", "nested", "nested/below", "pipe.png", "socket.png", "file/a.png",
        "missing.png", "no/such/folder.png", "nul\0byte.png", "x" * 300 + ".png", "y" * 9000, "a/" * 3000,
        *hostile, *(f"missing-{name}" for name in hostile), *devices,
    ]  # fmt: skip
    for path in paths:
        check_refused([path, "--deg", "5", "--out", "o.png" if not os.path.isdir(path) else "o"], here, capfd)
    listener.close()


def test_unreadable_files_are_refused(here, capfd, monkeypatch):
    (here / "locked.png").write_bytes(encoded("png", np.random.default_rng(0)))
    (here / "locked.png").chmod(0)

    def denied(*given, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("PIL.Image.open", denied)  # mode bits do not stop an administrator
    assert "permission" in check_refused(["locked.png", "--deg", "5", "--out", "o.png"], here, capfd)


def test_bad_outputs_and_numbers_are_refused(here, capfd):
    (here / "a.png").write_bytes(encoded("png", np.random.default_rng(0)))
    (here / "same.png").symlink_to("a.png")
    (here / "taken").write_text("a file")
    (here / "photos").mkdir()
    (here / "photos" / "a.png").write_bytes(encoded("png", np.random.default_rng(0)))
    (here / "again").symlink_to("photos")
    bad_outs = [
        "o.bmp", "o.exe", "o.png.part", "o.avi", "no/o.png", "no/o.mp4", "taken/o.gif", "nul\0.png", "nul\0.mp4", "a.png",
        "same.png", "line\nbreak.tiff", "/proc/nothing/o.png", "/dev/null/o.webp",
    ]  # fmt: skip
    for out in bad_outs:
        check_refused(["a.png", "--deg", "5", "--out", out], here, capfd)
    for out in ("photos", "./photos/", "again", "photos/../photos", "taken", "o.png", "o.gif", "nul\0"):
        check_refused(["photos", "--deg", "5", "--out", out], here, capfd)
    for deg in ("inf", "-inf", "nan", "-91", "1e300"):
        check_refused(["a.png", f"--deg={deg}"], here, capfd)
        check_refused(["photos", f"--to={deg}"], here, capfd)
    for sweep in (
        "",
        ":",
        "::",
        "1:2",
        "1:2:3:4",
        "a:b:c",
        "0:1:1",
        "0:1:201",
        "nan:1:3",
        "0:inf:3",
        "-99:0:3",
        "0:1:2.5",
    ):
        check_refused(["a.png", f"--sweep={sweep}"], here, capfd)
    (here / "loop.pth").symlink_to("loop.pth")
    (here / "noise.safetensors").write_bytes(np.random.default_rng(1).bytes(400))
    (here / "square.png").write_bytes(png(64, 64, 8, 0, pixels=bytes(65 * 64)))
    for weights in ("loop.pth", "noise.safetensors", "a.png", "photos", "missing.pth", "nul\0.pth", "line\nbreak.pth"):
        check_refused(["square.png", "--crop", "--deg", "5", "--upscale", weights], here, capfd)
    for options in (["--face", "all", "--crop-only"], ["--crop"], ["--face", "9"], ["--face", "x\ny"], ["--to", "5"]):
        check_refused(["a.png", "--deg", "5", *options], here, capfd)
