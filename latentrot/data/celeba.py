"""Read a folder of faces: CelebA (aligned pictures beside its tables) or any folder of aligned or square pictures."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from latentrot.data.frame import face_box
from latentrot.errors import LatentrotError, one_line

__all__ = ["FaceFolder", "held_out"]

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


def held_out(identities: Sequence[object] | np.ndarray, share: float = 0.1) -> np.ndarray:
    """Which rows belong to the people kept for testing: a fixed share of the identities, chosen by a hash of the name.

    The choice depends on nothing but the identity, so every command, on any subset, keeps the same people apart.

    Args:
        identities: (n,) one identity per picture.
        share: part of the identities held out, 0 to 1.

    Returns:
        (n,) bool, True where the person is held out.
    """
    names = [str(i).encode() for i in identities]
    digest = np.array([int.from_bytes(hashlib.sha256(b"person " + n).digest()[:4], "big") for n in names], np.float64)
    return digest / 2**32 < share


def as_column(names: list[str], folder: Path) -> pa.Array:
    """File names as a column of text."""
    try:
        return pa.array(names, pa.string())
    except UnicodeEncodeError as error:
        raise LatentrotError(
            f"{one_line(folder)} holds a picture whose name is not UTF-8; rename it: {error}"
        ) from error


@dataclass(frozen=True)
class FaceFolder:
    """A folder of face pictures in the CelebA frame (aligned, 178:218) or already cropped to a square.

    Args:
        root: the folder; pictures lie in it or, as CelebA ships them, in `img_align_celeba/` inside it.
    """

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))
        if not self.root.is_dir():
            raise LatentrotError(f"no such folder: {self.root}; give a folder of aligned face pictures")

    @cached_property
    def image_dir(self) -> Path:
        """Where the pictures are."""
        inside = self.root / "img_align_celeba"
        return inside if inside.is_dir() else self.root

    @cached_property
    def ids(self) -> list[str]:
        """Names of the pictures, sorted."""
        names = sorted(p.name for p in self.image_dir.iterdir() if p.suffix.lower() in SUFFIXES)
        if not names:
            raise LatentrotError(f"no pictures ({', '.join(sorted(SUFFIXES))}) in {self.image_dir}")
        return names

    @property
    def names(self) -> pa.ChunkedArray:
        """Names of the pictures, sorted, in a column: of ten million, a tenth of what `ids` takes. Read anew each time.

        Raises:
            LatentrotError: no pictures, or a name that is no text.
        """
        piles, pile = [], []
        with os.scandir(self.image_dir) as entries:
            for entry in entries:
                if os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                    pile.append(entry.name)
                if len(pile) == 100_000:
                    piles, pile = [*piles, as_column(pile, self.image_dir)], []
        names = pa.chunked_array([*piles, as_column(pile, self.image_dir)])
        if not len(names):
            raise LatentrotError(f"no pictures ({', '.join(sorted(SUFFIXES))}) in {self.image_dir}")
        return names.take(pc.sort_indices(names))

    def _table(self, name: str) -> pd.DataFrame | None:
        path = self.root / name
        return pd.read_csv(path, index_col="image_id") if path.is_file() else None

    @cached_property
    def attributes(self) -> pd.DataFrame | None:
        """CelebA's 40 attributes (+1 or -1) by image_id, or None where the folder has no list_attr_celeba.csv."""
        return self._table("list_attr_celeba.csv")

    @cached_property
    def identities(self) -> pd.Series:
        """Identity by image_id; every picture is its own person where the folder has no identity_CelebA.csv."""
        table = self._table("identity_CelebA.csv")
        return pd.Series(self.ids, index=self.ids) if table is None else table["identity"].reindex(self.ids)

    def open_picture(self, image_id: str) -> Image.Image:
        """The whole picture in RGB.

        Raises:
            LatentrotError: the file is missing or corrupt.
        """
        path = self.image_dir / image_id
        try:
            return Image.open(path).convert("RGB")
        except (OSError, SyntaxError, ValueError) as error:
            raise LatentrotError(f"cannot read the picture {path}: {error}") from error

    def read_crop(self, image_id: str, size: int) -> np.ndarray:
        """One face crop at the model's resolution.

        Args:
            image_id: a name from `ids`.
            size: side in pixels of the square returned.

        Returns:
            (size, size, 3) uint8 RGB.

        Raises:
            LatentrotError: the file is missing or corrupt, or neither square nor of CelebA's proportions.
        """
        picture = self.open_picture(image_id)
        picture = picture.crop(face_box(*picture.size))
        if picture.size != (size, size):
            picture = picture.resize((size, size), Image.Resampling.LANCZOS)  # Pillow widens the filter: antialiased
        return np.asarray(picture)

    def read_crops(self, image_ids: Sequence[str], size: int, workers: int = 2) -> np.ndarray:
        """Many face crops: (n, size, size, 3) uint8 RGB."""
        with ThreadPoolExecutor(workers) as pool:
            return np.stack(list(pool.map(lambda i: self.read_crop(i, size), image_ids)))

    def read_readable(self, image_ids: Sequence[str], size: int) -> tuple[list[str], list[np.ndarray], list[str]]:
        """The crops of the pictures that can be read.

        Args:
            image_ids: names from `ids`.
            size: side in pixels.

        Returns:
            The names read, their (size, size, 3) uint8 crops, and one complaint for each of the others.
        """
        names, crops, complaints = [], [], []
        for image_id in image_ids:
            try:
                crops.append(self.read_crop(image_id, size))
                names.append(image_id)
            except LatentrotError as error:
                complaints.append(str(error))
        return names, crops, complaints
