"""A contact sheet of several rotators on one photograph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from latentrot.data.arrays import resize, strip
from latentrot.errors import LatentrotError
from latentrot.portrait.portrait import EditConfig, open_portrait
from latentrot.rotators.protocol import Rotator, rotate_face, rotate_many

__all__ = ["comparison_sheet"]

#: side of an image on the sheet, and height of its caption, pixels
SIDE, LINE = 256, 28


def comparison_sheet(
    path: Path, rotators: Mapping[str, Rotator], degrees: Sequence[float], config: EditConfig | None = None
) -> np.ndarray:
    """Rotate the face of one photograph by several rotators.

    The images are the output of each rotator on the crop, or on the photograph if it takes photographs, without the
    compositing of `edit`.

    Args:
        path: the photograph.
        rotators: by name.
        degrees: rotations in degrees of yaw; > 0: nose to the viewer's right.
        config: selection of the face, and whether the image is a crop.

    Returns:
        (h, w, 3) uint8: one row per rotator, the source and its rotations, with captions.

    Raises:
        LatentrotError: the image cannot be read, there is no face, or a rotator refuses it.
    """
    if not rotators or not degrees:
        raise LatentrotError("nothing to compare: expected at least one rotator and one rotation")
    portrait = open_portrait(path, config)
    face = portrait.alignments[0] if portrait.alignments else None
    source = portrait.image if face is None else face.crop(portrait.image, SIDE)
    images = []
    for name, rotator in rotators.items():
        turned = (
            rotate_many(rotator, portrait.image, degrees)
            if face is None
            else rotate_face(rotator, portrait.image, face, degrees, SIDE)
        )
        images.append(captioned(source, name))
        images += [captioned(image, f"{turn:+g}") for image, turn in zip(turned, degrees, strict=True)]
    return strip(images, columns=1 + len(degrees))


def captioned(image: np.ndarray, words: str) -> np.ndarray:
    """Resize a (s, s, 3) uint8 image for the sheet and add a caption above it."""
    whole = np.full((LINE + SIDE, SIDE, 3), 255, np.uint8)
    whole[LINE:] = image if len(image) == SIDE else resize(image, SIDE)
    canvas = Image.fromarray(whole)
    ImageDraw.Draw(canvas).text((6, 4), words, (0, 0, 0), ImageFont.load_default(size=18))
    return np.asarray(canvas)
