"""A contact sheet of several rotators on one photograph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from latentrot.data.images import resize, strip
from latentrot.errors import LatentrotError
from latentrot.portrait.portrait import EditConfig, open_portrait
from latentrot.rotators.protocol import Rotator, rotate_face, rotate_many

__all__ = ["comparison_sheet"]

#: side in pixels of an image on the sheet, and height of the line of words above it
SIDE, LINE = 256, 28


def comparison_sheet(
    path: Path, rotators: Mapping[str, Rotator], degrees: Sequence[float], config: EditConfig | None = None
) -> np.ndarray:
    """Turn the face of one photograph by several rotators.

    Every rotator shows what it makes of the face's crop by itself, or of the photograph if it can turn one; what `edit`
    pastes together of two of them is not shown.

    Args:
        path: the photograph.
        rotators: by name.
        degrees: turns; > 0: nose to the viewer's right.
        config: which face, and whether the image is a crop already.

    Returns:
        (h, w, 3) uint8: a row for each rotator, the source first and then its turns, each with its words above it.

    Raises:
        LatentrotError: the image cannot be read, there is no face, or a rotator refuses it.
    """
    if not rotators or not degrees:
        raise LatentrotError("nothing to compare: expected at least one rotator and one turn")
    portrait = open_portrait(path, config)
    face = portrait.alignments[0] if portrait.alignments else None
    source = portrait.image if face is None else face.crop(portrait.image, SIDE)
    pictures = []
    for name, rotator in rotators.items():
        turned = (
            rotate_many(rotator, portrait.image, degrees)
            if face is None
            else rotate_face(rotator, portrait.image, face, degrees, SIDE)
        )
        pictures.append(captioned(source, name))
        pictures += [captioned(picture, f"{turn:+g}") for picture, turn in zip(turned, degrees, strict=True)]
    return strip(pictures, columns=1 + len(degrees))


def captioned(picture: np.ndarray, words: str) -> np.ndarray:
    """A (s, s, 3) uint8 image at the sheet's size, with words above it, black on white."""
    whole = np.full((LINE + SIDE, SIDE, 3), 255, np.uint8)
    whole[LINE:] = picture if len(picture) == SIDE else resize(picture, SIDE)
    canvas = Image.fromarray(whole)
    ImageDraw.Draw(canvas).text((6, 4), words, (0, 0, 0), ImageFont.load_default(size=18))
    return np.asarray(canvas)
