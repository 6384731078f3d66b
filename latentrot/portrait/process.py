"""Contact sheet of the sampling steps of a rotated face."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from latentrot.data.images import write_image
from latentrot.errors import LatentrotError
from latentrot.portrait.photograph import Edited
from latentrot.portrait.portrait import Portrait
from latentrot.portrait.results import metadata_of
from latentrot.rotators.protocol import CROP_SIDE, Rotator, capabilities_of

__all__ = ["write_process"]

#: min side of a cell, pixels
CELL = 128


def write_process(portrait: Portrait, rotator: Rotator, edited: Edited, out: Path) -> Path:
    """Write the sampling steps of the first rotation of an edit, with metadata.

    Raises:
        LatentrotError: the rotator has no `process(image, degrees)`.
    """
    process = getattr(rotator, "process", None)
    if process is None:
        raise LatentrotError(
            f"the rotator {capabilities_of(rotator).name} has no sampling process to draw; expected pair"
        )
    crops = portrait.alignments
    square = crops[0].crop(portrait.image, CROP_SIDE) if crops else portrait.image
    strip = process(square, edited.turned.frames[0].requested_deg)
    times = max(1, CELL * 2 // len(strip))
    write_image(out, np.kron(strip, np.ones((times, times, 1), np.uint8)), metadata_of(edited))
    return out
