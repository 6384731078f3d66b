"""The way from noise to a turned face as a picture of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from latentrot.data.images import write_image
from latentrot.errors import LatentrotError
from latentrot.portrait.find import Found
from latentrot.portrait.photograph import CROP_SIDE, Edited
from latentrot.portrait.results import metadata_of
from latentrot.rotators.pair.rotator import PairRotator
from latentrot.rotators.protocol import Rotator

__all__ = ["write_process"]

#: cells of the strip are shown at least so large, pixels
CELL = 128


def write_process(found: Found, rotator: Rotator, edited: Edited, out: Path) -> Path:
    """Write the strip of an edit's first turn (see `PairRotator.process`) with a note that it is synthetic.

    Raises:
        LatentrotError: the rotator is none that denoises.
    """
    if not isinstance(rotator, PairRotator):
        raise LatentrotError(f"{type(rotator).__name__} draws no process; expected the rotator pair")
    square = found.alignments[0].crop(found.photo, CROP_SIDE) if found.alignments else found.photo
    strip = rotator.process(square, edited.turned.frames[0].requested_deg)
    times = max(1, CELL // rotator.model.resolution)
    write_image(out, np.kron(strip, np.ones((times, times, 1), np.uint8)), metadata_of(edited))
    return out
