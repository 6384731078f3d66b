"""Pairs of images: one to turn, and what it truly looks like turned. Rendered heads and real people alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from latentrot.data.celeba import FaceFolder
from latentrot.data.frame import CROP_BOX, FRAME_WIDTH
from latentrot.faces.alignment import Alignment

__all__ = ["WIDE_BOX", "EvaluationConfig", "Pairs", "pair_table"]

#: columns of a table of pairs: the independent unit, rows of the images, the turn, and the turn rounded to its bin
COLUMNS = {"person": str, "source": int, "truth": int, "requested_deg": float, "turn": float}


#: how far the frame reaches beyond the crop on both sides, frame pixels
MARGIN = CROP_BOX[0]
WIDE_BOX = (CROP_BOX[0] - MARGIN, CROP_BOX[1] - MARGIN, CROP_BOX[2] + MARGIN, CROP_BOX[3] + MARGIN)


@dataclass(frozen=True)
class EvaluationConfig:
    """What is asked for.

    Args:
        people: how many people (or heads) are turned, the first by name; None: all. Heads that are not turned still stand in
            the identity galleries.
        resamples: draws of the bootstrap.
        seed: of the draws, and of the choice of pairs.
        source_yaw: rendered heads: pose of the images given to the rotator, degrees.
        targets: rendered heads: true poses to turn to, degrees, of which those that the views lack, and the source's own, are
            left out; None: all views.
        everybody: real people: all of them, not only those held out from the package's trainings.
        data_set: real people: what the set is called in the cards of models that learned from it; None: as the folder is.
        per_person: real people: pairs of each person and bin at most.
        size: real people: side in pixels of the crops that are compared.
    """

    people: int | None = None
    resamples: int = 2000
    seed: int = 0
    source_yaw: float = 0.0
    targets: tuple[float, ...] | None = (-45.0, -30.0, -15.0, 0.0, 15.0, 30.0, 45.0)
    everybody: bool = False
    data_set: str | None = None
    per_person: int = 2
    size: int = 128


@dataclass(frozen=True, eq=False)
class Pairs:
    """Images, and which of them are what others look like turned.

    Attributes:
        root: the folder they come from.
        rendered: whether everything but the pose is equal in a pair and the pose is known exactly; else two frames of one
            scene, whose faces have to be laid on each other first.
        names: (n,) of the images.
        images: (n, s, s, 3) uint8 crops in the CelebA frame.
        faces: (n, s, s) bool, true on the face; only of images that are some pair's truth.
        yaws: (n,) degrees.
        people: (n,) whom each image shows.
        lights: (n,) the side the main light comes from; empty where nobody knows.
        table: the pairs: person, source and truth (rows of the images), requested_deg, turn (the bin).
        nearest: pairs of the same turns, whose source is another frame of the scene that happens to have nearly the true
            pose: what a perfect rotator can hope for. Empty for rendered heads, whose true image is all that there is.
        still: pairs of two frames in nearly one pose: what is left where nothing is to be turned. Likewise.
        folder: where photographs are read that reach beyond the crops; None: there are none.
    """

    root: Path
    rendered: bool
    names: tuple[str, ...]
    pictures: np.ndarray
    faces: np.ndarray
    yaws: np.ndarray
    people: np.ndarray
    lights: np.ndarray
    table: pd.DataFrame
    nearest: pd.DataFrame = field(default_factory=lambda: pair_table([]))
    still: pd.DataFrame = field(default_factory=lambda: pair_table([]))
    folder: FaceFolder | None = None

    @property
    def size(self) -> int:
        """Side of the images in pixels."""
        return self.pictures.shape[1]

    @property
    def wide(self) -> int:
        """Side in pixels of images that show all the frame's width around the crop; a crop's where there is no more."""
        return self.size + 2 * round(self.size * MARGIN / (CROP_BOX[2] - CROP_BOX[0])) if self.folder else self.size

    def middle(self, picture: np.ndarray) -> np.ndarray:
        """The crop of a (w, w, 3) image around it."""
        edge = (len(picture) - self.size) // 2
        return picture[edge : edge + self.size, edge : edge + self.size]

    @property
    def turned_people(self) -> list[str]:
        """Those who are turned, by name."""
        return sorted(set(self.table["person"]))

    def photograph(self, row: int) -> tuple[np.ndarray, Alignment] | None:
        """An image with what lies around its crop, and where the face lies in it; None where there is only the crop."""
        if self.folder is None:
            return None
        photograph = np.asarray(self.folder.open_image(self.names[row]))
        height, width = photograph.shape[:2]
        if height == width:
            return None
        scale = FRAME_WIDTH / width
        return photograph, Alignment(np.array([[scale, 0, 0], [0, scale, 0]], np.float64), (width, height))

    def gallery(self, row: int) -> np.ndarray:
        """Rows of all rendered heads in the pose and light of one."""
        same = (np.abs(self.yaws - self.yaws[row]) < 0.05) & (self.lights == self.lights[row])
        return np.flatnonzero(same)


def pair_table(rows: Sequence[tuple[str, int, int, float, float]], index: Sequence[int] | None = None) -> pd.DataFrame:
    """Pairs as a table, also where there are none."""
    table = pd.DataFrame(list(rows), columns=pd.Index(COLUMNS), index=None if index is None else pd.Index(index))
    return table.astype(COLUMNS)
