"""Pictures in and out: any ordinary file to an RGB array, an array to a file that is either whole or not there.

Every command reads pictures here: limits, orientation and colours are the same for all of them.
"""

from __future__ import annotations

import io
import logging
import os
import stat
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

# importing a plugin registers its format; of the others Pillow knows none is opened
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

from latentrot.data.metadata import carried_exif, carried_rights, encoder_options, history_in
from latentrot.data.profiles import HighRange, named_profile
from latentrot.errors import LatentrotError, one_line
from latentrot.files import disk_reason, write_atomically

if TYPE_CHECKING:
    import torch

__all__ = [
    "Photograph",
    "read_frame",
    "read_image",
    "read_photograph",
    "resize",
    "strip",
    "to_tensor",
    "to_uint8",
    "write_image",
    "write_photograph",
]

#: the largest cameras have some 200 million pixels; reading takes about 7 bytes of memory for each
MAX_PIXELS = 256_000_000
MIN_SIDE = 16
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "HEIF")
KINDS = "PNG, JPEG, WebP, AVIF, HEIC, BMP, TIFF or GIF"
#: suffixes of the files that can be read
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".heic", ".heif", ".bmp", ".tif", ".tiff", ".gif")
#: the formats of which one file may hold an animation
ANIMATED_FORMATS = ("GIF", "WEBP", "PNG", "AVIF")
#: those of which one file may hold several images that are no animation
SEVERAL = ("TIFF", "HEIF")
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


class _QuietPillow:
    """Neither Pillow's warnings nor its log lines reach the terminal, and its limit of pixels is ours.

    All of these are the whole process's, and folders are read by several threads: the first to enter sets them, the last
    to leave sets them back.
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


def to_rgb(picture: Image.Image) -> np.ndarray:
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


def _register_heif(path: Path) -> None:
    """Have Pillow read HEIC where the file is one.

    Raises:
        LatentrotError: it is, and pillow-heif is not installed.
    """
    with path.open("rb") as file:
        start = file.read(12)
    if start[4:8] != b"ftyp" or start[8:11] not in (b"hei", b"hev", b"mif", b"msf"):
        return
    try:
        import pillow_heif  # noqa: PLC0415  an extra
    except ImportError as error:
        if start[8:11] in (b"mif", b"msf"):  # may be an AVIF as well, which Pillow reads by itself
            return
        raise LatentrotError(
            f"{one_line(path)} is a HEIC picture: pip install 'latentrot[heif]', or save it as JPEG"
        ) from error
    pillow_heif.register_heif_opener()


def _known_formats() -> tuple[str, ...]:
    """The formats that Pillow can open here: HEIF only once its plugin is registered, AVIF where it was built in."""
    return tuple(f for f in FORMATS if f not in ("AVIF", "HEIF") or f in Image.OPEN)


def _frames(picture: Image.Image) -> int:
    """How many frames or pages a file has; 1 also for one whose later frames are damaged."""
    if picture.format not in (*ANIMATED_FORMATS, *SEVERAL):
        return 1
    try:
        return int(getattr(picture, "n_frames", 1))
    except Exception:  # whatever is wrong with the later frames, the first one is used
        return 1


def _is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    return "srgb" in ImageCms.getProfileDescription(profile).lower()


def _convert(pixels: np.ndarray, source: ImageCms.ImageCmsProfile, target: ImageCms.ImageCmsProfile) -> np.ndarray:
    """(h, w, 3) uint8 RGB from one profile to another."""
    return np.asarray(ImageCms.profileToProfile(Image.fromarray(pixels), source, target, outputMode="RGB"))


def _profile(content: bytes) -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(io.BytesIO(content))


def _colour_space(content: bytes) -> str:
    """What a profile's numbers are, as the ICC calls it: "RGB", "GRAY", "CMYK"."""
    return ImageCms.core.profile_frombytes(content).xcolor_space.strip()


def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _in_srgb(picture: Image.Image) -> Image.Image:
    """A CMYK or grey picture with a profile as sRGB; any other, or one whose profile is not of its kind, as it is."""
    content = picture.info.get("icc_profile") or b""
    try:
        if (picture.mode, _colour_space(content)) in (("CMYK", "CMYK"), ("L", "GRAY")):
            return ImageCms.profileToProfile(picture, _profile(content), _srgb(), outputMode="RGB") or picture
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        pass  # a broken profile is no reason to refuse intact pixels
    return picture


def _own_profile(picture: Image.Image) -> bytes:
    """The ICC profile of a picture whose RGB values it describes, else nothing."""
    content = picture.info.get("icc_profile") or b""
    try:
        return content if content and _colour_space(content) == "RGB" else b""
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return b""


@dataclass(frozen=True, eq=False)
class Photograph:
    """A picture as the networks see it, and what it takes to write it back in its own colours.

    Attributes:
        pixels: (h, w, 3) uint8, upright, in sRGB: for every computation.
        stored: (h, w, 3) uint8, upright, the same picture in its own profile; the same array where that is sRGB.
        profile: the ICC profile of `stored`, as bytes; empty where there is none, which means sRGB.
        notes: what the user should know, such as that only the first frame of an animation is used.
        exif: what its edited versions keep of its EXIF: camera, date, place (see `carried_exif`).
        rights: who made it and what may be done with it, from its XMP (see `carried_rights`).
        dpi: pixels an inch, across and down; None where it does not say.
        history: what earlier edits of ours wrote into it (see `history_in`).
    """

    pixels: np.ndarray
    stored: np.ndarray
    profile: bytes = b""
    notes: tuple[str, ...] = ()
    exif: bytes = b""
    rights: str = ""
    dpi: tuple[float, float] | None = None
    history: str = ""

    def rotated(self, quarters: int) -> Photograph:
        """The photograph turned counterclockwise by quarter turns."""
        pixels = np.ascontiguousarray(np.rot90(self.pixels, quarters))
        same = self.stored is self.pixels
        return replace(self, pixels=pixels, stored=pixels if same else np.rot90(self.stored, quarters))

    def own_colours(self, edited: np.ndarray) -> np.ndarray:
        """An edited version of `pixels` in the photograph's own profile.

        Only differences are converted: a pixel that was not edited is the file's own, bit for bit, also where its colour
        does not exist in sRGB.

        Args:
            edited: (h, w, 3) uint8 sRGB, of the size of `pixels`.

        Returns:
            (h, w, 3) uint8 in `profile`.

        Raises:
            LatentrotError: the picture is of another size.
        """
        if edited.shape != self.pixels.shape:
            raise LatentrotError(f"edited picture {edited.shape}; expected {self.pixels.shape}, as the photograph")
        if self.stored is self.pixels:
            return edited
        result = self.stored.copy()
        rows = np.flatnonzero((edited != self.pixels).any((1, 2)))
        if not len(rows):
            return result
        some = slice(rows[0], rows[-1] + 1)
        before, after = (_convert(x[some], _srgb(), _profile(self.profile)) for x in (self.pixels, edited))
        result[some] = np.clip(result[some].astype(np.int16) + after - before, 0, 255).astype(np.uint8)
        return result


def _photograph(picture: Image.Image, frames: int, path: Path) -> Photograph:
    """A loaded picture -> pixels, profile and notes."""
    kind = "an animation" if picture.format in ANIMATED_FORMATS else f"a {picture.format}"
    parts = "frames" if picture.format in ANIMATED_FORMATS else "images"
    notes = (f"{kind} of {frames} {parts}: only the first is used",) if frames > 1 else ()
    profile = _own_profile(picture)
    try:
        named = b"" if picture.mode in ("L", "1", "CMYK") else named_profile(picture, path)
        profile = named if picture.format == "PNG" and named else profile or named
    except HighRange as error:
        profile, notes = error.profile, (*notes, f"{error}: what is brighter than white is clipped")
    stored = to_rgb(_in_srgb(_upright(picture)))
    if not profile or _is_srgb(_profile(profile)):
        return Photograph(stored, stored, profile, notes)
    try:
        return Photograph(_convert(stored, _profile(profile), _srgb()), stored, profile, notes)
    except ImageCms.PyCMSError:  # a profile nothing can be converted from: taken for sRGB, as without one
        return Photograph(stored, stored, b"", notes)


def read_photograph(path: str | os.PathLike[str]) -> Photograph:
    """Read one picture: upright as its EXIF orientation says, in sRGB, and in its own colours.

    16-bit pictures become 8-bit ones, transparent pictures are laid on white, palettes, CMYK, grey and 1-bit pictures
    become RGB; of an animation or a multi-page TIFF the first frame is taken.

    Args:
        path: a PNG, JPEG, WebP, AVIF, HEIC (needs the extra heif), BMP, TIFF or GIF file.

    Raises:
        LatentrotError: the file is missing, not a file, empty, unreadable, corrupt, cut short, no picture, over 256
            million pixels or under 16 pixels a side.
    """
    path = Path(path)
    _check_file(path)
    name = one_line(path)
    with QUIET_PILLOW:
        try:
            _register_heif(path)
            with Image.open(path, formats=_known_formats()) as picture:
                _check_size(*picture.size, name)
                frames = _frames(picture)
                with quiet_libtiff() if picture.format == "TIFF" else nullcontext():
                    picture.load()
                return replace(
                    _photograph(picture, frames, path), exif=carried_exif(picture), rights=carried_rights(picture),
                    dpi=_dpi(picture), history=history_in(picture),
                )  # fmt: skip
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


def read_frame(picture: Image.Image, path: Path) -> np.ndarray:
    """One frame of an open animation, upright and in sRGB: (h, w, 3) uint8."""
    return _photograph(picture, 1, path).pixels


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """The pixels of one picture, upright and in sRGB: (h, w, 3) uint8; see `read_photograph`."""
    return read_photograph(path).pixels


# ---- writing ----------------------------------------------------------------------------------------------------


def check_image(image: np.ndarray, what: str = "picture") -> None:
    """Refuse whatever is not an (h, w, 3) uint8 array.

    Raises:
        LatentrotError: naming the shape and type that were given.
    """
    if not isinstance(image, np.ndarray):
        raise LatentrotError(f"the {what} is a {type(image).__name__}; expected a numpy array (h, w, 3) of uint8")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise LatentrotError(f"the {what} is {image.shape} of {image.dtype}; expected (h, w, 3) of uint8, RGB")


def check_crop(image: np.ndarray) -> None:
    """Refuse whatever is no crop in the CelebA frame: not an (s, s, 3) uint8 array.

    Raises:
        LatentrotError: naming what was given.
    """
    check_image(image, "crop")
    if image.shape[0] != image.shape[1]:
        raise LatentrotError(
            f"a crop of {image.shape[1]}x{image.shape[0]} pixels; expected a square in the CelebA frame"
        )


def _dpi(picture: Image.Image) -> tuple[float, float] | None:
    """Pixels an inch, as a picture states them."""
    try:
        across, down = (float(v) for v in picture.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if min(across, down) >= 10 and max(across, down) <= 100_000 else None


def _encode(
    image: np.ndarray, kind: str, metadata: Mapping[str, str], profile: bytes = b"", exif: bytes = b"",
    rights: str = "", dpi: tuple[float, float] | None = None,
) -> bytes:  # fmt: skip
    """The whole file in memory, so that a picture that cannot be encoded never touches the disk."""
    buffer, picture = io.BytesIO(), Image.fromarray(image)
    options = {"PNG": {}, "JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"quality": 95, "method": 4}}[kind]
    picture.save(
        buffer,
        kind,
        **options,
        **encoder_options(kind, metadata, exif, rights),
        **({} if dpi is None or kind == "WEBP" else {"dpi": dpi}),
        **({"icc_profile": profile} if profile else {}),
    )
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
    """Write one picture; the file appears whole under its name, or not at all.

    Args:
        path: where to; the suffix chooses the format: .png (lossless), .jpg or .webp (quality 95). A file of that
            name is replaced.
        array: (h, w, 3) uint8 RGB.
        metadata: text kept in the file, see `latentrot.data.metadata`.
        profile: the ICC profile the array is in; empty means sRGB, of which nothing is written.
        exif: of the photograph it was made from, see `carried_exif`.
        rights: of that photograph, see `carried_rights`.
        dpi: pixels an inch; WebP has no place for it but EXIF.

    Raises:
        LatentrotError: the array is no picture, the suffix is another, the folder is missing or cannot be written to,
            the disk is full, or the format cannot hold the picture or its metadata.
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
        raise LatentrotError(f"cannot store this {array.shape} picture in {name}: {reason}; try .png") from error
    write_atomically(path, lambda p: p.write_bytes(content))


def write_photograph(
    path: str | os.PathLike[str], edited: np.ndarray, photo: Photograph, metadata: Mapping[str, str] | None = None
) -> None:
    """Write an edited photograph in the profile of its source, with its EXIF; what was not edited keeps the source's values.

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
    check_image(image)
    if image.shape[0] != image.shape[1] or size < 1:
        raise LatentrotError(f"cannot resize a {image.shape} picture to a square of {size}; expected a square and >= 1")
    picture = Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS)  # Pillow widens its filter
    return np.array(picture)


def _check_alike(pictures: Sequence[np.ndarray]) -> None:
    if not pictures:
        raise LatentrotError("no pictures were given; expected at least one")
    for picture in pictures:
        check_image(picture)
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
