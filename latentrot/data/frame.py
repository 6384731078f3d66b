"""The CelebA frame: position of the face in an aligned 178x218 image, and the square crop seen by the models.

Boxes are (left, top, right, bottom) in pixels, columns growing to the right and rows downwards, edges at pixel borders.
"""

from __future__ import annotations

from latentrot.errors import LatentrotError

__all__ = ["CROP_BOX", "FRAME_HEIGHT", "FRAME_WIDTH", "MIRRORED_LANDMARKS", "crop_box", "face_box"]

FRAME_WIDTH, FRAME_HEIGHT = 178, 218
#: the face crop: rows 57-185 by columns 25-153 of the 178x218 frame, a 128x128 square
CROP_BOX = (25, 57, 153, 185)
#: landmarks (eyes, nose, mouth corners) of a mirrored face, in the order of the original
MIRRORED_LANDMARKS = [1, 0, 2, 4, 3]


def crop_box(width: int, height: int) -> tuple[int, int, int, int]:
    """The face crop of an aligned image of any size with CelebA's framing.

    Args:
        width: image width in pixels.
        height: image height in pixels; must be width * 218/178 to within a pixel.

    Raises:
        LatentrotError: the image does not have CelebA's proportions.
    """
    scale = width / FRAME_WIDTH
    if abs(height - FRAME_HEIGHT * scale) > 1:
        raise LatentrotError(
            f"a {width}x{height} image is not an aligned CelebA copy (178x218 or the same proportions); "
            "square crops are used whole, other photographs must be aligned first"
        )
    left, top, right, _ = CROP_BOX
    side = round((right - left) * scale)
    left, top = int(left * scale), int(top * scale)
    return left, top, left + side, top + side


def face_box(width: int, height: int) -> tuple[int, int, int, int]:
    """The face crop of an aligned image, or the whole of a square image, which is a crop already.

    Raises:
        LatentrotError: the image is neither square nor of CelebA's proportions.
    """
    return (0, 0, width, height) if width == height else crop_box(width, height)
