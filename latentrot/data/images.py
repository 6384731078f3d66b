"""Pictures in and out: any ordinary file to an RGB array, an array to a file that is either whole or not there."""

from __future__ import annotations

import io
import logging
import os
import stat
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

# importing a plugin registers its format; of the others Pillow knows none is opened
from PIL import (
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)

from latentrot.data.metadata import embedded
from latentrot.errors import LatentrotError, one_line
from latentrot.files import disk_reason, write_atomically

if TYPE_CHECKING:
    import torch

__all__ = ["read_image", "resize", "strip", "to_tensor", "to_uint8", "write_image"]

MAX_PIXELS = 64_000_000
MIN_SIDE = 16
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
KINDS = "PNG, JPEG, WebP, BMP, TIFF or GIF"
#: suffixes of the files that can be read
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
ENCODERS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
ORIENTATION_TAG = 0x0112
STDERR_LOCK = threading.Lock()
#: EXIF orientation -> what brings the stored pixels upright
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Neither Pillow's warnings nor its log lines reach the terminal."""
    logger = logging.getLogger("PIL")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def quiet_libtiff() -> Iterator[None]:
    """What C code writes straight to standard error is dropped: libtiff does, of every damaged file.

    Works on the whole process, so that one thread at a time may do it and its body should be short.
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
    """Refuse everything that is not a readable, regular, non-empty file, before any of it is decoded."""
    name = one_line(path)
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise LatentrotError(f"no such picture: {name}; check the path") from error
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or one_line(error)
        raise LatentrotError(f"cannot open the picture {name}: {reason}; check the path") from error
    if stat.S_ISDIR(status.st_mode):
        raise LatentrotError(f"{name} is a folder; give one picture file ({KINDS})")
    if not stat.S_ISREG(status.st_mode):
        raise LatentrotError(f"{name} is not an ordinary file; give one picture file ({KINDS})")
    if status.st_size == 0:
        raise LatentrotError(f"the picture {name} is empty (0 bytes); copy or download it again")


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise LatentrotError(
            f"the picture {name} is {width}x{height}, over {MAX_PIXELS // 10**6} million pixels; shrink it first"
        )
    if min(width, height) < MIN_SIDE:
        raise LatentrotError(
            f"the picture {name} is {width}x{height}, under {MIN_SIDE} pixels a side; give a larger one"
        )


def _upright(picture: Image.Image) -> Image.Image:
    """The picture turned as its EXIF orientation says; as it is stored where the EXIF block cannot be read."""
    try:
        orientation = picture.getexif().get(ORIENTATION_TAG, 1)
        operation = UPRIGHT.get(int(orientation))
    except Exception:  # a broken EXIF block raises anything, and is no reason to refuse intact pixels
        return picture
    return picture if operation is None else picture.transpose(operation)


def _to_rgb(picture: Image.Image) -> np.ndarray:
    """Any of Pillow's 1-, 8- and 16-bit modes -> (h, w, 3) uint8 RGB; alpha is laid on white."""
    if picture.mode.startswith("I;16"):
        grey = np.rint(np.asarray(picture).astype(np.float32) / 257)  # 65535 -> 255
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    if picture.mode in ("I", "F"):
        raise LatentrotError("it holds 32-bit values, whose range is unknown")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.array(picture.convert("RGB"))


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Read one picture, upright as its EXIF orientation says.

    16-bit greys are scaled to 8 bits, transparent pictures are laid on white, palettes, CMYK, grey and 1-bit pictures
    become RGB; of a GIF or a multi-page TIFF the first frame is taken.

    Args:
        path: a PNG, JPEG, WebP, BMP, TIFF or GIF file.

    Returns:
        (h, w, 3) uint8 RGB.

    Raises:
        LatentrotError: the file is missing, not a file, empty, unreadable, corrupt, cut short, no picture, over 64
            million pixels or under 16 pixels a side.
    """
    path = Path(path)
    _check_file(path)
    name = one_line(path)
    with quiet_pillow():
        try:
            with Image.open(path, formats=FORMATS) as picture:
                _check_size(*picture.size, name)
                with quiet_libtiff() if picture.format == "TIFF" else nullcontext():
                    picture.load()
                return _to_rgb(_upright(picture))
        except Image.UnidentifiedImageError as error:
            raise LatentrotError(f"{name} is not a picture, or is cut short; expected {KINDS}") from error
        except PermissionError as error:
            raise LatentrotError(f"no permission to read the picture {name}; change its permissions") from error
        except Image.DecompressionBombError as error:
            raise LatentrotError(
                f"the picture {name} is over {MAX_PIXELS // 10**6} million pixels; shrink it first"
            ) from error
        except LatentrotError as error:
            if name in str(error):
                raise
            raise LatentrotError(f"cannot use the picture {name}: {error}; save it with 8 bits a channel") from error
        except Exception as error:  # Pillow's decoders leak struct.error, KeyError, zlib.error and others
            reason = one_line(error, 120) or type(error).__name__
            raise LatentrotError(
                f"cannot read the picture {name}: {reason}; it is damaged, save or download it again"
            ) from error


# ---- writing ----------------------------------------------------------------------------------------------------


def check_picture(image: np.ndarray, what: str = "picture") -> None:
    """Refuse whatever is not an (h, w, 3) uint8 array.

    Raises:
        LatentrotError: naming the shape and type that were given.
    """
    if not isinstance(image, np.ndarray):
        raise LatentrotError(f"the {what} is a {type(image).__name__}; expected a numpy array (h, w, 3) of uint8")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise LatentrotError(f"the {what} is {image.shape} of {image.dtype}; expected (h, w, 3) of uint8, RGB")


def _encode(image: np.ndarray, kind: str, metadata: Mapping[str, str]) -> bytes:
    """The whole file in memory, so that a picture that cannot be encoded never touches the disk."""
    buffer, picture = io.BytesIO(), Image.fromarray(image)
    options = {"PNG": {}, "JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"quality": 95, "method": 4}}[kind]
    picture.save(buffer, kind, **options, **embedded(kind, metadata))
    return buffer.getvalue()


def check_target(path: Path) -> None:
    """Refuse a place where no file can be written.

    Raises:
        LatentrotError: a null character in the name, a folder of that name, no such parent folder.
    """
    name = one_line(path)
    if "\0" in str(path):
        raise LatentrotError(f"cannot write {name}: a file name cannot hold a null character; choose another")
    try:
        if path.is_dir():
            raise LatentrotError(f"cannot write {name}: it is a folder; give a file name")
        if not path.parent.is_dir():
            raise LatentrotError(f"cannot write {name}: no folder {one_line(path.parent)}; make it first")
    except OSError as error:
        raise LatentrotError(f"cannot write {name}: {disk_reason(error, path.parent)}") from error


def write_image(path: str | os.PathLike[str], array: np.ndarray, metadata: Mapping[str, str] | None = None) -> None:
    """Write one picture; the file appears whole under its name, or not at all.

    Args:
        path: where to; the suffix chooses the format: .png (lossless), .jpg or .webp (quality 95). A file of that
            name is replaced.
        array: (h, w, 3) uint8 RGB.
        metadata: text kept in the file, see `latentrot.data.metadata`.

    Raises:
        LatentrotError: the array is no picture, the suffix is another, the folder is missing or cannot be written to,
            the disk is full, or the format cannot hold the picture or its metadata.
    """
    path = Path(path)
    name = one_line(path)
    check_picture(array)
    kind = ENCODERS.get(path.suffix.lower())
    if kind is None:
        raise LatentrotError(f"cannot write {name}: unknown suffix {path.suffix!r}; use .png, .jpg or .webp")
    check_target(path)
    try:
        content = _encode(array, kind, metadata or {})
    except Exception as error:  # Pillow's encoders raise OSError, ValueError, struct.error and others
        reason = one_line(error, 120) or type(error).__name__
        raise LatentrotError(f"cannot store this {array.shape} picture in {name}: {reason}; try .png") from error
    write_atomically(path, lambda p: p.write_bytes(content))


# ---- arrays and tensors -----------------------------------------------------------------------------------------


def to_tensor(images: np.ndarray | Sequence[np.ndarray]) -> torch.Tensor:
    """Pictures as the models take them.

    Args:
        images: one (h, w, 3) uint8 picture, an (n, h, w, 3) array, or several pictures of one size.

    Returns:
        (n, 3, h, w) float32 in [-1, 1]; n is 1 for one picture.

    Raises:
        LatentrotError: not uint8 RGB, or of different sizes.
    """
    import torch  # noqa: PLC0415  (reading and writing pictures must not wait for torch)

    pictures = [images] if isinstance(images, np.ndarray) and images.ndim == 3 else list(images)
    _check_alike(pictures)
    stacked = torch.from_numpy(np.stack(pictures))  # (n, h, w, 3)
    return stacked.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_uint8(x: torch.Tensor) -> np.ndarray:
    """What the models give as pictures; values beyond [-1, 1] are clipped.

    Args:
        x: (n, 3, h, w) floats, nominally in [-1, 1].

    Returns:
        (n, h, w, 3) uint8 RGB; the exact inverse of `to_tensor`.

    Raises:
        LatentrotError: another shape, or values that are not finite.
    """
    if x.ndim != 4 or x.shape[1] != 3:
        raise LatentrotError(f"a tensor of {tuple(x.shape)} is no batch of pictures; expected (n, 3, h, w)")
    x = x.detach().float().cpu()
    if not bool(x.isfinite().all()):
        raise LatentrotError("the pictures hold values that are not finite (nan or inf): the model diverged")
    return np.ascontiguousarray(((x.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """A square picture at another size, antialiased.

    Args:
        image: (s, s, 3) uint8.
        size: side in pixels of the result.

    Returns:
        (size, size, 3) uint8.

    Raises:
        LatentrotError: the picture is not square, or the size is under 1.
    """
    check_picture(image)
    if image.shape[0] != image.shape[1] or size < 1:
        raise LatentrotError(f"cannot resize a {image.shape} picture to a square of {size}; expected a square and >= 1")
    picture = Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS)  # Pillow widens its filter
    return np.array(picture)


def _check_alike(pictures: Sequence[np.ndarray]) -> None:
    if not pictures:
        raise LatentrotError("no pictures were given; expected at least one")
    for picture in pictures:
        check_picture(picture)
    shapes = sorted({p.shape for p in pictures})
    if len(shapes) > 1:
        raise LatentrotError(f"pictures of different sizes: {one_line(shapes, 120)}; resize them to one first")


def strip(images: Sequence[np.ndarray] | np.ndarray, columns: int | None = None, gap: int = 4) -> np.ndarray:
    """Pictures side by side in one picture, in reading order, on white.

    Args:
        images: (h, w, 3) uint8 pictures of one size.
        columns: pictures a row; all in one row by default.
        gap: white pixels between neighbours (none around the outside).

    Returns:
        (rows * (h + gap) - gap, columns * (w + gap) - gap, 3) uint8.

    Raises:
        LatentrotError: no pictures, different sizes, fewer than 1 column or a negative gap.
    """
    pictures = list(images)
    _check_alike(pictures)
    columns = len(pictures) if columns is None else columns
    if columns < 1 or gap < 0:
        raise LatentrotError(f"columns={columns} and gap={gap}; expected at least 1 column and a gap of 0 or more")
    height, width, _ = pictures[0].shape
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for index, picture in enumerate(pictures):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = picture
    return sheet
