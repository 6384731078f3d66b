"""Pairs of a source image and the true image of its rotation, for rendered heads and real people."""

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

#: columns of a table of pairs: person, indices of the images, rotation, and centre of its bin
COLUMNS = {"person": str, "source": int, "truth": int, "requested_deg": float, "turn": float}


#: margin of the frame around the crop, frame pixels
MARGIN = CROP_BOX[0]
WIDE_BOX = (CROP_BOX[0] - MARGIN, CROP_BOX[1] - MARGIN, CROP_BOX[2] + MARGIN, CROP_BOX[3] + MARGIN)


@dataclass(frozen=True)
class EvaluationConfig:
    """Configuration of an evaluation.

    Args:
        people: number of people or heads to rotate, the first by name; None: all. Identity galleries contain all heads.
        resamples: number of resamples of the bootstrap.
        seed: seed of the resampling and of the selection of pairs.
        source_yaw: rendered heads: yaw of the sources, degrees.
        targets: rendered heads: yaws to rotate to, degrees; missing views and the source's yaw are left out. None: all views.
        everybody: real people: measure all of them, not only those held out of training.
        data_set: real people: name of the data set in the cards of models; None: that of the folder.
        per_person: real people: max number of pairs of each person and bin.
        size: real people: side of the compared crops in pixels.
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
    """Images, and a table of which image is the true rotation of which.

    Attributes:
        root: folder of the images.
        rendered: True if the images of a pair differ in pose only, with exact poses; False if they are two frames of one
            scene, which are aligned before they are compared.
        names: (n,) names of the images.
        images: (n, s, s, 3) uint8 crops in the CelebA frame.
        faces: (n, s, s) bool, masks of the face; filled only for images that are the truth of a pair.
        yaws: (n,) yaw in degrees.
        people: (n,) identities.
        lights: (n,) illumination classes; empty if unknown.
        table: the pairs: person, source and truth (indices of the images), requested_deg, turn (centre of the bin).
        nearest: pairs with the same truths, whose source is the frame of the scene nearest to the true pose: an upper bound
            for rotators. Empty for rendered heads.
        still: pairs of two frames in nearly the same pose: the measures without a rotation. Empty for rendered heads.
        folder: folder of the whole photographs; None: only crops exist.
    """

    root: Path
    rendered: bool
    names: tuple[str, ...]
    images: np.ndarray
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
        return self.images.shape[1]

    @property
    def wide(self) -> int:
        """Side in pixels of images that span the width of the frame; that of a crop if only crops exist."""
        return self.size + 2 * round(self.size * MARGIN / (CROP_BOX[2] - CROP_BOX[0])) if self.folder else self.size

    def center_crop(self, image: np.ndarray) -> np.ndarray:
        """The central crop, (s, s, 3), of a (w, w, 3) image."""
        edge = (len(image) - self.size) // 2
        return image[edge : edge + self.size, edge : edge + self.size]

    @property
    def turned_people(self) -> list[str]:
        """People whose images are rotated, by name."""
        return sorted(set(self.table["person"]))

    def photograph(self, row: int) -> tuple[np.ndarray, Alignment] | None:
        """The whole photograph of an image and the alignment of its face; None if only the crop exists."""
        if self.folder is None:
            return None
        photograph = np.asarray(self.folder.open_image(self.names[row]))
        height, width = photograph.shape[:2]
        if height == width:
            return None
        scale = FRAME_WIDTH / width
        return photograph, Alignment(np.array([[scale, 0, 0], [0, scale, 0]], np.float64), (width, height))

    def gallery(self, row: int) -> np.ndarray:
        """Indices of all rendered heads in the pose and light of image `row`."""
        same = (np.abs(self.yaws - self.yaws[row]) < 0.05) & (self.lights == self.lights[row])
        return np.flatnonzero(same)


def pair_table(rows: Sequence[tuple[str, int, int, float, float]], index: Sequence[int] | None = None) -> pd.DataFrame:
    """A table of pairs with the columns `COLUMNS`."""
    table = pd.DataFrame(list(rows), columns=pd.Index(COLUMNS), index=None if index is None else pd.Index(index))
    return table.astype(COLUMNS)
