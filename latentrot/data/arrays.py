"""Images as arrays and tensors: checks, conversion, resampling, contact sheets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from latentrot.errors import LatentrotError, one_line

if TYPE_CHECKING:
    import torch

__all__ = ["check_crop", "check_image", "resize", "strip", "to_tensor", "to_uint8"]


def check_image(image: np.ndarray, what: str = "image") -> None:
    """Refuse an array that is not (h, w, 3) uint8.

    Raises:
        LatentrotError: the array has another shape or type; the message quotes both.
    """
    if not isinstance(image, np.ndarray):
        raise LatentrotError(f"the {what} is a {type(image).__name__}; expected a numpy array (h, w, 3) of uint8")
    if image.size == 0:
        raise LatentrotError(f"the {what} is empty: {image.shape}; expected (h, w, 3) of uint8, RGB")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise LatentrotError(f"the {what} is {image.shape} of {image.dtype}; expected (h, w, 3) of uint8, RGB")


def check_crop(image: np.ndarray) -> None:
    """Refuse an array that is not a square crop, (s, s, 3) uint8.

    Raises:
        LatentrotError: the array has another shape or type; the message quotes both.
    """
    check_image(image, "crop")
    if image.shape[0] != image.shape[1]:
        raise LatentrotError(
            f"a crop of {image.shape[1]}x{image.shape[0]} pixels; expected a square in the CelebA frame"
        )


def to_tensor(images: np.ndarray | Sequence[np.ndarray]) -> torch.Tensor:
    """Convert images to the models' input.

    Args:
        images: one (h, w, 3) uint8 image, an (n, h, w, 3) array, or several images of one size.

    Returns:
        (n, 3, h, w) float32 in [-1, 1]; n is 1 for one image.

    Raises:
        LatentrotError: an image is not uint8 RGB, or the sizes differ.
    """
    import torch  # noqa: PLC0415  (slow to import, and images can be read and written without it)

    batch = [images] if isinstance(images, np.ndarray) and images.ndim == 3 else list(images)
    _check_alike(batch)
    stacked = torch.from_numpy(np.stack(batch))  # (n, h, w, 3)
    return stacked.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_uint8(x: torch.Tensor) -> np.ndarray:
    """Convert the models' output to images; values beyond [-1, 1] are clipped.

    Args:
        x: (n, 3, h, w) floats, nominally in [-1, 1].

    Returns:
        (n, h, w, 3) uint8 RGB; the exact inverse of `to_tensor`.

    Raises:
        LatentrotError: the tensor has another shape, or contains nan or inf.
    """
    if x.ndim != 4 or x.shape[1] != 3:
        raise LatentrotError(f"a tensor of {tuple(x.shape)} is not a batch of images; expected (n, 3, h, w)")
    x = x.detach().float().cpu()
    if not bool(x.isfinite().all()):
        raise LatentrotError("the images contain values that are not finite (nan or inf): the model diverged")
    return np.ascontiguousarray(((x.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Resize a square image, antialiased.

    Args:
        image: (s, s, 3) uint8.
        size: side in pixels of the result.

    Returns:
        (size, size, 3) uint8.

    Raises:
        LatentrotError: the image is not square, or the size is under 1.
    """
    check_image(image)
    if image.shape[0] != image.shape[1] or size < 1:
        raise LatentrotError(f"cannot resize a {image.shape} image to a square of {size}; expected a square and >= 1")
    resized = Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS)  # Pillow widens the filter
    return np.array(resized)


def _check_alike(images: Sequence[np.ndarray]) -> None:
    if not images:
        raise LatentrotError("no images given; expected at least one")
    for image in images:
        check_image(image)
    shapes = sorted({p.shape for p in images})
    if len(shapes) > 1:
        raise LatentrotError(f"images of different sizes: {one_line(shapes, 120)}; resize them to one first")


def strip(images: Sequence[np.ndarray] | np.ndarray, columns: int | None = None, gap: int = 4) -> np.ndarray:
    """Arrange images in a contact sheet, in reading order, on white.

    Args:
        images: (h, w, 3) uint8 images of one size.
        columns: images per row; all in one row by default.
        gap: white pixels between neighbours (none around the outside).

    Returns:
        (rows * (h + gap) - gap, columns * (w + gap) - gap, 3) uint8.

    Raises:
        LatentrotError: there are no images, their sizes differ, `columns` is below 1, or the gap is negative.
    """
    cells = list(images)
    _check_alike(cells)
    columns = len(cells) if columns is None else columns
    if columns < 1 or gap < 0:
        raise LatentrotError(f"columns={columns} and gap={gap}; expected at least 1 column and a gap of 0 or more")
    height, width, _ = cells[0].shape
    rows = -(-len(cells) // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for index, image in enumerate(cells):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet
