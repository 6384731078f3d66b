"""ICC profiles of images: conversion between them, and profiles for colour spaces that a file states without one.

The latter are Adobe RGB in EXIF, and PNG's gAMA, cHRM and cICP.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

__all__ = [
    "HighRange",
    "converted",
    "in_srgb",
    "is_srgb",
    "named_profile",
    "own_profile",
    "profile_of",
    "rgb_profile",
    "srgb",
]

Primaries = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
#: chromaticities (x, y) of red, green and blue, by the codes of ITU-T H.273
PRIMARIES: dict[int, Primaries] = {
    1: ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
    5: ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06)),
    6: ((0.63, 0.34), (0.31, 0.595), (0.155, 0.07)),
    9: ((0.708, 0.292), (0.17, 0.797), (0.131, 0.046)),
    12: ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
}
ADOBE: Primaries = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
ADOBE_GAMMA = 563 / 256
D65 = (0.3127, 0.3290)
D50 = np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
#: gamma of sRGB in gAMA chunks, and the tolerance within which, with sRGB's primaries or none, a file is taken for sRGB
SRGB_GAMMA, NEAR = 0.45455, 0.01
EXIF, INTEROPERABILITY, INDEX = 0x8769, 0xA005, 1


#: transfer functions of high dynamic range, and their luminance of white, candela per square metre (ITU-R BT.2408)
HIGH, WHITE = {16: "PQ", 18: "HLG"}, 203.0


class HighRange(ValueError):
    """The file has high dynamic range; `profile` maps values up to white and clips brighter ones."""

    def __init__(self, message: str, profile: bytes) -> None:
        super().__init__(message)
        self.profile = profile


def pq_curve(v: np.ndarray) -> np.ndarray:
    """Linear light of SMPTE ST 2084 (PQ) values relative to white, clipped at white."""
    x = v ** (1 / 78.84375)
    nits = 10_000 * (np.maximum(x - 0.8359375, 0) / (18.8515625 - 18.6875 * x)) ** (1 / 0.1593017578125)
    return np.minimum(nits / WHITE, 1)


def hlg_curve(v: np.ndarray) -> np.ndarray:
    """Linear light of hybrid log-gamma values relative to white (0.75), clipped at white; without the display's curve."""
    light = np.where(v <= 0.5, v**2 / 3, (np.exp((v - 0.55991073) / 0.17883277) + 0.28466892) / 12)
    return np.minimum(light / 0.265, 1)


def srgb_curve(v: np.ndarray) -> np.ndarray:
    """Linear light of sRGB values, 0 to 1."""
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def video_curve(v: np.ndarray) -> np.ndarray:
    """Linear light of BT.709 values, 0 to 1."""
    return np.where(v < 0.081, v / 4.5, ((v + 0.099) / 1.099) ** (1 / 0.45))


#: transfer functions by the codes of ITU-T H.273
CURVES: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: video_curve, 4: lambda v: v**2.2, 5: lambda v: v**2.8, 6: video_curve, 8: lambda v: v, 13: srgb_curve,
    14: video_curve, 15: video_curve,
    16: pq_curve, 18: hlg_curve,
}  # fmt: skip


def rgb_profile(
    name: str, primaries: Primaries, curve: Callable[[np.ndarray], np.ndarray], white: tuple[float, float] = D65
) -> bytes:
    """An ICC profile (version 2, matrix and curve) of an RGB space.

    Args:
        name: description stored in the profile, ASCII.
        primaries: chromaticities of red, green and blue.
        curve: values, 0 to 1 -> linear light, 0 to 1.
        white: chromaticity of white.
    """
    corners = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    light = np.array([white[0] / white[1], 1, (1 - white[0] - white[1]) / white[1]])
    matrix = corners * np.linalg.solve(corners, light)
    adapted = np.linalg.solve(BRADFORD, np.diag((BRADFORD @ D50) / (BRADFORD @ light)) @ BRADFORD) @ matrix
    steps = np.rint(curve(np.linspace(0, 1, 1024)).clip(0, 1) * 65535).astype(">u2").tobytes()
    text = name.encode("ascii") + b"\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78),
        b"cprt": b"text\0\0\0\0CC0\0",
        b"wtpt": _xyz(D50),
        **{key: _xyz(column) for key, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), adapted.T, strict=True)},
        **{key: b"curv\0\0\0\0" + struct.pack(">I", 1024) + steps for key in (b"rTRC", b"gTRC", b"bTRC")},
    }
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for key, content in tags.items():
        table += struct.pack(">4sII", key, start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    size = start + len(body)
    head = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + _fixed(D50)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def _fixed(values: np.ndarray) -> bytes:
    return np.rint(np.asarray(values) * 65536).astype(">i4").tobytes()


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(values)


def named_profile(image: Image.Image, path: Path) -> bytes:
    """Profile of the colour space that a file states without an ICC profile; empty if it is sRGB or not stated.

    Args:
        image: the open file.
        path: the file.

    Raises:
        HighRange: the file has high dynamic range, of which 8-bit sRGB represents only values up to white.
    """
    if image.format == "PNG":
        return _of_png(_chunks(path))
    try:
        index = image.getexif().get_ifd(EXIF).get(INTEROPERABILITY)
        told = index.get(INDEX) if isinstance(index, dict) else image.getexif().get_ifd(INTEROPERABILITY).get(INDEX)
    except Exception:  # a broken EXIF block can raise anything; treat it as missing
        return b""
    text = told.decode("latin-1") if isinstance(told, bytes) else str(told)
    return rgb_profile("Adobe RGB (1998)", ADOBE, lambda v: v**ADOBE_GAMMA) if text.startswith("R03") else b""


def _chunks(path: Path) -> dict[bytes, bytes]:
    """The chunks before a PNG's pixels, by name."""
    found: dict[bytes, bytes] = {}
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            size, name = struct.unpack(">I4s", head)
            if name == b"IDAT" or size > 10_000_000:
                break
            found[name] = file.read(size)
            file.seek(4, 1)
    return found


def _of_png(chunks: dict[bytes, bytes]) -> bytes:
    """Profile from PNG chunks; by the standard cICP overrides iCCP, sRGB and gAMA. Pillow reads iCCP."""
    if len(told := chunks.get(b"cICP", b"")) == 4:
        primaries, transfer = told[0], told[1]
        if primaries in PRIMARIES and transfer in CURVES:
            profile = rgb_profile(f"cICP {primaries}/{transfer}", PRIMARIES[primaries], CURVES[transfer])
            if transfer in HIGH:
                raise HighRange(f"high dynamic range ({HIGH[transfer]})", profile)
            return b"" if (primaries, transfer) == (1, 13) else profile
    if b"iCCP" in chunks or b"sRGB" in chunks or len(chunks.get(b"gAMA", b"")) != 4:
        return b""
    gamma = struct.unpack(">I", chunks[b"gAMA"])[0] / 100_000
    primaries, white = _chromaticities(chunks.get(b"cHRM", b""))
    usual = np.allclose(primaries, PRIMARIES[1], atol=0.005)
    if not 0.1 <= gamma <= 10 or (usual and abs(gamma - SRGB_GAMMA) < NEAR):
        return b""
    return rgb_profile(f"gamma {1 / gamma:.3f}", primaries, lambda v: v ** (1 / gamma), white)


def _chromaticities(content: bytes) -> tuple[Primaries, tuple[float, float]]:
    """Primaries and white point of a cHRM chunk; those of sRGB for an empty chunk."""
    if len(content) != 32:
        return PRIMARIES[1], D65
    v = [x / 100_000 for x in struct.unpack(">8I", content)]
    pairs = [(v[i], v[i + 1]) for i in range(0, 8, 2)]
    return ((pairs[1], pairs[2], pairs[3]), pairs[0]) if min(y for _, y in pairs) > 0 else (PRIMARIES[1], D65)


# ---- conversion -------------------------------------------------------------------------------------------------


def is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    """Whether a profile is named sRGB."""
    return "srgb" in ImageCms.getProfileDescription(profile).lower()


def converted(pixels: np.ndarray, source: ImageCms.ImageCmsProfile, target: ImageCms.ImageCmsProfile) -> np.ndarray:
    """Convert (h, w, 3) uint8 RGB between two profiles."""
    return np.asarray(ImageCms.profileToProfile(Image.fromarray(pixels), source, target, outputMode="RGB"))


def profile_of(content: bytes) -> ImageCms.ImageCmsProfile:
    """Parse the content of an ICC profile."""
    return ImageCms.ImageCmsProfile(io.BytesIO(content))


def colour_space(content: bytes) -> str:
    """Colour space of a profile in ICC terms: "RGB", "GRAY", "CMYK"."""
    return ImageCms.core.profile_frombytes(content).xcolor_space.strip()


def srgb() -> ImageCms.ImageCmsProfile:
    """The profile of sRGB."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def in_srgb(image: Image.Image) -> Image.Image:
    """Convert a CMYK or grey image with a profile of its kind to sRGB; others are returned unchanged."""
    content = image.info.get("icc_profile") or b""
    try:
        if (image.mode, colour_space(content)) in (("CMYK", "CMYK"), ("L", "GRAY")):
            return ImageCms.profileToProfile(image, profile_of(content), srgb(), outputMode="RGB") or image
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        pass  # the profile is broken, but the pixels are intact
    return image


def own_profile(image: Image.Image) -> bytes:
    """The ICC profile of an image with RGB values; empty otherwise."""
    content = image.info.get("icc_profile") or b""
    try:
        return content if content and colour_space(content) == "RGB" else b""
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return b""
