"""Read and write images: files of common formats to RGB arrays, arrays to files, written atomically.

Every command reads images here, so limits, orientation and colours are the same for all of them.
"""

from __future__ import annotations

import io
import logging
import os
import stat
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

# importing a plugin registers its format; no other of Pillow's formats is opened
from PIL import (
    AvifImagePlugin,  # noqa: F401
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    ImageCms,
    JpegImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)

from latentrot.data.arrays import check_image
from latentrot.data.metadata import encoder_options, history_in, kept_exif, kept_rights
from latentrot.data.profiles import (
    HighRange,
    converted,
    in_srgb,
    is_srgb,
    named_profile,
    own_profile,
    profile_of,
    srgb,
)
from latentrot.errors import LatentrotError, one_line
from latentrot.files import disk_reason, write_atomically

__all__ = [
    "Photograph",
    "as_png",
    "read_frame",
    "read_image",
    "read_photograph",
    "write_image",
    "write_photograph",
]

#: the largest cameras have some 200 million pixels; reading takes about 7 bytes of memory per pixel
MAX_PIXELS = 256_000_000
MIN_SIDE = 16
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "HEIF")
KINDS = "PNG, JPEG, WebP, AVIF, HEIC, BMP, TIFF or GIF"
#: suffixes of the files that can be read
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".heic", ".heif", ".bmp", ".tif", ".tiff", ".gif")
#: formats that may contain an animation
ANIMATED_FORMATS = ("GIF", "WEBP", "PNG", "AVIF")
#: formats that may contain several images that are not an animation
SEVERAL = ("TIFF", "HEIF")
ENCODERS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
ORIENTATION_TAG = 0x0112
STDERR_LOCK = threading.Lock()
#: EXIF orientation -> transposition that makes the stored pixels upright
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class _QuietPillow:
    """Context manager that suppresses Pillow's warnings and log lines, and sets its pixel limit to `MAX_PIXELS`.

    These settings are global to the process and folders are read by several threads: the first to enter applies them, the
    last to leave restores them.
    """

    def __init__(self) -> None:
        self.lock, self.inside, self.undo = threading.Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with self.lock:
            self.inside += 1
            if self.inside > 1:
                return
            logger = logging.getLogger("PIL")
            self.undo.callback(logger.setLevel, logger.level)
            self.undo.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
            self.undo.enter_context(warnings.catch_warnings())
            logger.setLevel(logging.CRITICAL + 1)
            Image.MAX_IMAGE_PIXELS = MAX_PIXELS
            warnings.simplefilter("ignore")

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.undo.close()


QUIET_PILLOW = _QuietPillow()


@contextmanager
def quiet_libtiff() -> Iterator[None]:
    """Discard what C code writes to standard error: libtiff does so for every damaged file.

    Affects the whole process, so only one thread at a time may use it, for a short time.
    """
    with STDERR_LOCK:
        kept = os.dup(2)
        try:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


# ---- reading ----------------------------------------------------------------------------------------------------


def _check_file(path: Path) -> None:
    """Refuse a path that is not a readable, regular, non-empty file."""
    name = one_line(path)
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise LatentrotError(f"no such image: {name}; check the path") from error
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or one_line(error)
        raise LatentrotError(f"cannot open the image {name}: {reason}; check the path") from error
    if stat.S_ISDIR(status.st_mode):
        raise LatentrotError(f"{name} is a folder; give one image file ({KINDS})")
    if not stat.S_ISREG(status.st_mode):
        raise LatentrotError(f"{name} is not a regular file; give one image file ({KINDS})")
    if status.st_size == 0:
        raise LatentrotError(f"the image {name} is empty (0 bytes); copy or download it again")


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise LatentrotError(
            f"the image {name} is {width}x{height}, over {MAX_PIXELS // 10**6} million pixels; shrink it first"
        )
    if min(width, height) < MIN_SIDE:
        raise LatentrotError(f"the image {name} is {width}x{height}, under {MIN_SIDE} pixels a side; give a larger one")


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; images with an unreadable EXIF block are returned unchanged."""
    try:
        orientation = image.getexif().get(ORIENTATION_TAG, 1)
        operation = UPRIGHT.get(int(orientation))
    except Exception:  # a broken EXIF block can raise anything, and the pixels are intact
        return image
    return image if operation is None else image.transpose(operation)


def to_rgb(image: Image.Image) -> np.ndarray:
    """Convert any of Pillow's 1-, 8- and 16-bit modes to (h, w, 3) uint8 RGB; alpha is composited on white."""
    if image.mode.startswith("I;16"):
        grey = np.rint(np.asarray(image).astype(np.float32) / 257)  # 65535 -> 255
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise LatentrotError("it holds 32-bit values, whose range is unknown")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.array(image.convert("RGB"))


def _register_heif(path: Path) -> None:
    """Register Pillow's HEIC plugin if the file is a HEIC.

    Raises:
        LatentrotError: the file is a HEIC, and pillow-heif is not installed.
    """
    with path.open("rb") as file:
        start = file.read(12)
    if start[4:8] != b"ftyp" or start[8:11] not in (b"hei", b"hev", b"mif", b"msf"):
        return
    try:
        import pillow_heif  # noqa: PLC0415  an extra
    except ImportError as error:
        if start[8:11] in (b"mif", b"msf"):  # may be an AVIF, which Pillow reads without the plugin
            return
        raise LatentrotError(
            f"{one_line(path)} is a HEIC image: pip install 'latentrot[heif]', or save it as JPEG"
        ) from error
    pillow_heif.register_heif_opener()


def _known_formats() -> tuple[str, ...]:
    """The formats that Pillow can open here: HEIF only with its plugin, AVIF only if built in."""
    return tuple(f for f in FORMATS if f not in ("AVIF", "HEIF") or f in Image.OPEN)


def _frames(image: Image.Image) -> int:
    """Number of frames or pages of a file; 1 if later frames are damaged."""
    if image.format not in (*ANIMATED_FORMATS, *SEVERAL):
        return 1
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # only later frames are affected; the first one is used
        return 1


@dataclass(frozen=True, eq=False)
class Photograph:
    """Pixels of a photograph for the networks, with the colour profile and metadata for writing an edited version.

    Attributes:
        pixels: (h, w, 3) uint8, upright, in sRGB: for every computation.
        stored: (h, w, 3) uint8, upright, in the profile of the file; the same array as `pixels` if that is sRGB.
        profile: the ICC profile of `stored` as bytes; empty means sRGB.
        warnings: messages for the user, such as that only the first frame of an animation is used.
        exif: the EXIF block that edited versions keep: camera, date, place (see `kept_exif`).
        rights: author and licence from its XMP (see `kept_rights`).
        dpi: pixels per inch, across and down; None if not stated.
        history: record of earlier edits by latentrot (see `history_in`).
    """

    pixels: np.ndarray
    stored: np.ndarray
    profile: bytes = b""
    warnings: tuple[str, ...] = ()
    exif: bytes = b""
    rights: str = ""
    dpi: tuple[float, float] | None = None
    history: str = ""

    def rotated(self, quarters: int) -> Photograph:
        """The photograph rotated counterclockwise by quarter turns."""
        pixels = np.ascontiguousarray(np.rot90(self.pixels, quarters))
        same = self.stored is self.pixels
        return replace(self, pixels=pixels, stored=pixels if same else np.rot90(self.stored, quarters))

    def own_colours(self, edited: np.ndarray) -> np.ndarray:
        """Convert an edited version of `pixels` to the photograph's own profile.

        Only differences are converted: a pixel that was not edited keeps the value of the file bit for bit, even if its
        colour is outside sRGB.

        Args:
            edited: (h, w, 3) uint8 sRGB, of the size of `pixels`.

        Returns:
            (h, w, 3) uint8 in `profile`.

        Raises:
            LatentrotError: the image has another size.
        """
        if edited.shape != self.pixels.shape:
            raise LatentrotError(
                f"edited image {edited.shape}; expected {self.pixels.shape}, the shape of the photograph"
            )
        if self.stored is self.pixels:
            return edited
        result = self.stored.copy()
        rows = np.flatnonzero((edited != self.pixels).any((1, 2)))
        if not len(rows):
            return result
        some = slice(rows[0], rows[-1] + 1)
        before, after = (converted(x[some], srgb(), profile_of(self.profile)) for x in (self.pixels, edited))
        result[some] = np.clip(result[some].astype(np.int16) + after - before, 0, 255).astype(np.uint8)
        return result


def _photograph(image: Image.Image, frames: int, path: Path) -> Photograph:
    """Build a `Photograph` from a loaded image."""
    kind = "an animation" if image.format in ANIMATED_FORMATS else f"a {image.format}"
    parts = "frames" if image.format in ANIMATED_FORMATS else "images"
    messages = (f"{kind} of {frames} {parts}: only the first is used",) if frames > 1 else ()
    profile = own_profile(image)
    try:
        named = b"" if image.mode in ("L", "1", "CMYK") else named_profile(image, path)
        profile = named if image.format == "PNG" and named else profile or named
    except HighRange as error:
        profile, messages = error.profile, (*messages, f"{error}: what is brighter than white is clipped")
    stored = to_rgb(in_srgb(_upright(image)))
    if not profile or is_srgb(profile_of(profile)):
        return Photograph(stored, stored, profile, messages)
    try:
        return Photograph(converted(stored, profile_of(profile), srgb()), stored, profile, messages)
    except ImageCms.PyCMSError:  # the profile is unusable: assume sRGB
        return Photograph(stored, stored, b"", messages)


def read_photograph(path: str | os.PathLike[str]) -> Photograph:
    """Read one image: upright by its EXIF orientation, in sRGB, and in its own colours.

    16-bit images become 8-bit, transparent images are composited on white, palette, CMYK, grey and 1-bit images become RGB;
    of an animation or a multi-page TIFF the first frame is read.

    Args:
        path: a PNG, JPEG, WebP, AVIF, HEIC (needs the extra heif), BMP, TIFF or GIF file.

    Raises:
        LatentrotError: the file is missing, unreadable, empty, damaged or not an image, or the image has over
            256 million pixels or under 16 pixels a side.
    """
    path = Path(path)
    _check_file(path)
    name = one_line(path)
    with QUIET_PILLOW:
        try:
            _register_heif(path)
            with Image.open(path, formats=_known_formats()) as image:
                _check_size(*image.size, name)
                frames = _frames(image)
                with quiet_libtiff() if image.format == "TIFF" else nullcontext():
                    image.load()
                return replace(
                    _photograph(image, frames, path), exif=kept_exif(image), rights=kept_rights(image),
                    dpi=_dpi(image), history=history_in(image),
                )  # fmt: skip
        except Image.UnidentifiedImageError as error:
            raise LatentrotError(f"{name} is not an image, or is truncated; expected {KINDS}") from error
        except PermissionError as error:
            raise LatentrotError(f"no permission to read the image {name}; change its permissions") from error
        except Image.DecompressionBombError as error:
            raise LatentrotError(
                f"the image {name} is over {MAX_PIXELS // 10**6} million pixels; shrink it first"
            ) from error
        except LatentrotError as error:
            if name in str(error):
                raise
            raise LatentrotError(f"cannot use the image {name}: {error}; save it with 8 bits per channel") from error
        except Exception as error:  # Pillow's decoders also raise struct.error, KeyError, zlib.error and others
            reason = one_line(error, 120) or type(error).__name__
            raise LatentrotError(
                f"cannot read the image {name}: {reason}; it is damaged, save or download it again"
            ) from error


def read_frame(image: Image.Image, path: Path) -> np.ndarray:
    """Read one frame of an open animation, upright and in sRGB: (h, w, 3) uint8."""
    return _photograph(image, 1, path).pixels


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Read the pixels of one image, upright and in sRGB: (h, w, 3) uint8; see `read_photograph`."""
    return read_photograph(path).pixels


# ---- writing ----------------------------------------------------------------------------------------------------


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    """Pixels per inch stated by an image."""
    try:
        across, down = (float(v) for v in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if min(across, down) >= 10 and max(across, down) <= 100_000 else None


def _encode(
    image: np.ndarray, kind: str, metadata: Mapping[str, str], profile: bytes = b"", exif: bytes = b"",
    rights: str = "", dpi: tuple[float, float] | None = None,
) -> bytes:  # fmt: skip
    """Encode the whole file in memory, so that an image that cannot be encoded never reaches the disk."""
    buffer, encoded = io.BytesIO(), Image.fromarray(image)
    options = {"PNG": {}, "JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"quality": 95, "method": 4}}[kind]
    encoded.save(
        buffer,
        kind,
        **options,
        **encoder_options(kind, metadata, exif, rights),
        **({} if dpi is None or kind == "WEBP" else {"dpi": dpi}),
        **({"icc_profile": profile} if profile else {}),
    )
    return buffer.getvalue()


def as_png(image: np.ndarray, metadata: Mapping[str, str] | None = None) -> bytes:
    """A (h, w, 3) uint8 image as the content of a PNG; metadata as for `write_image`."""
    check_image(image)
    return _encode(image, "PNG", metadata or {})


def check_target(path: Path) -> None:
    """Refuse a path where no file can be written.

    Raises:
        LatentrotError: the name contains a null character, is that of a folder, or its parent folder is missing.
    """
    name = one_line(path)
    if "\0" in str(path):
        raise LatentrotError(f"cannot write {name}: a file name cannot hold a null character; choose another")
    try:
        if path.is_dir():
            raise LatentrotError(f"cannot write {name}: it is a folder; give a file name")
        if not path.parent.is_dir():
            raise LatentrotError(f"cannot write {name}: no folder {one_line(path.parent)}; create it first")
    except OSError as error:
        raise LatentrotError(f"cannot write {name}: {disk_reason(error, path.parent)}") from error


def write_image(
    path: str | os.PathLike[str],
    array: np.ndarray,
    metadata: Mapping[str, str] | None = None,
    *,
    profile: bytes = b"",
    exif: bytes = b"",
    rights: str = "",
    dpi: tuple[float, float] | None = None,
) -> None:
    """Write one image atomically.

    Args:
        path: target; the suffix selects the format: .png (lossless), .jpg or .webp (quality 95). An existing file is
            replaced.
        array: (h, w, 3) uint8 RGB.
        metadata: text stored in the file, see `latentrot.data.metadata`.
        profile: the ICC profile of the array; empty means sRGB, for which none is written.
        exif: EXIF block from the source photograph, see `kept_exif`.
        rights: XMP elements from the source photograph, see `kept_rights`.
        dpi: pixels per inch; WebP stores it in EXIF only.

    Raises:
        LatentrotError: the array is not an image, the suffix is unknown, the format does not support the image or its
            metadata, or the file cannot be written.
    """
    path = Path(path)
    name = one_line(path)
    check_image(array)
    kind = ENCODERS.get(path.suffix.lower())
    if kind is None:
        raise LatentrotError(f"cannot write {name}: unknown suffix {path.suffix!r}; use .png, .jpg or .webp")
    check_target(path)
    try:
        content = _encode(array, kind, metadata or {}, profile, exif, rights, dpi)
    except Exception as error:  # Pillow's encoders raise OSError, ValueError, struct.error and others
        reason = one_line(error, 120) or type(error).__name__
        raise LatentrotError(f"cannot store this {array.shape} image in {name}: {reason}; try .png") from error
    write_atomically(path, lambda p: p.write_bytes(content))


def write_photograph(
    path: str | os.PathLike[str], edited: np.ndarray, photo: Photograph, metadata: Mapping[str, str] | None = None
) -> None:
    """Write an edited photograph in the profile of its source, with its EXIF; unedited pixels keep the source's values.

    Args:
        path: as for `write_image`.
        edited: (h, w, 3) uint8 sRGB, an edited version of `photo.pixels`.
        photo: the source, from `read_photograph`.
        metadata: as for `write_image`.
    """
    write_image(
        path, photo.own_colours(edited), metadata, profile=photo.profile, exif=photo.exif, rights=photo.rights,
        dpi=photo.dpi,
    )  # fmt: skip
