"""Read a folder of faces: CelebA in the layout of any of its distributors, or any folder of aligned or square images."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image

from latentrot.data.frame import face_box
from latentrot.data.images import SUFFIXES, read_image
from latentrot.data.tables import as_names, as_numbers, read_table, to_files
from latentrot.errors import LatentrotError, one_line

__all__ = ["FaceFolder", "held_out", "open_folder"]

log = logging.getLogger(__name__)

#: names of the folder of aligned images
ALIGNED = ("img_align_celeba", "img_align_celeba_png")
TABLE_SUFFIXES = (".csv", ".txt", ".tsv", ".parquet")
ARCHIVES = (".zip", ".7z", ".001", ".tar", ".gz")
#: suffixes of files that are expected beside images and not reported as left out
BESIDE = (*TABLE_SUFFIXES, ".json", ".md", ".html", ".safetensors")
#: known tables, and their columns after the image name if the file has no header
TABLES: dict[str, list[str] | None] = {
    "identity_CelebA": ["identity"],
    "list_attr_celeba": None,
    "list_eval_partition": ["partition"],
    "list_landmarks_align_celeba": [
        f"{n}_{xy}" for n in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for xy in "xy"
    ],
    "list_landmarks_celeba": None,
    "list_bbox_celeba": None,
    "pose": None,
    "light": None,
    "views": None,
    "clip": None,
    "landmarks68": None,
    "transforms": None,
}
USED = {"identity_CelebA": "people", "list_attr_celeba": "attributes", "list_eval_partition": "partition"}


def held_out(identities: Sequence[object] | pd.Series | np.ndarray, share: float = 0.1) -> np.ndarray:
    """Which rows belong to the held-out people: a fixed share of the identities, chosen by a hash of the name.

    The choice depends on the identity only, so every command holds out the same people, on any subset.

    Args:
        identities: (n,) one identity per image.
        share: share of the identities to hold out, 0 to 1.

    Returns:
        (n,) bool, True for held-out people.
    """
    names = [str(i).encode() for i in as_names(identities)]
    digest = np.array([int.from_bytes(hashlib.sha256(b"person " + n).digest()[:4], "big") for n in names], np.float64)
    return digest / 2**32 < share


def as_column(names: list[str], folder: Path) -> pa.Array:
    """File names as a column of text."""
    try:
        return pa.array(names, pa.string())
    except UnicodeEncodeError as error:
        odd = [name for name in names if not name.isascii() and name != name.encode(errors="replace").decode()]
        raise LatentrotError(
            f"{one_line(folder)} holds {len(odd)} images whose names are not UTF-8, such as {one_line(odd[0])}; rename them"
        ) from error


def has_images(folder: Path) -> bool:
    """Whether a folder itself contains images."""
    return folder.is_dir() and any(is_image_file(entry.name) for entry in os.scandir(folder))


def is_image_file(name: str) -> bool:
    """Whether a file name has an image suffix; hidden files are ignored."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def open_folder(root: Path) -> FaceFolder:
    """Open a folder of images, and log which of its images and tables are used and which are not.

    Raises:
        LatentrotError: the folder is missing or contains no images, or a known table cannot be read.
    """
    folder = FaceFolder(root)
    log.info("%s", folder.contents())
    if left_out := folder.left_out():
        log.warning("%s", left_out)
    if unknown := folder.not_understood():
        log.warning("unknown tables are ignored: %s", ", ".join(one_line(name) for name in unknown))
    return folder


@dataclass(frozen=True)
class FaceFolder:
    """A folder of face images in the CelebA frame (aligned, 178:218) or already cropped to a square.

    CelebA is supported as its authors distribute it (`Anno/`, `Eval/`, `Img/`), as torchvision does (`celeba/`), as Kaggle
    does (`img_align_celeba/img_align_celeba/`), and as one folder of images beside its tables.

    Args:
        root: the folder; images lie in it or in one of its subfolders.
    """

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))
        if not self.root.is_dir():
            raise LatentrotError(f"no such folder: {self.root}; give a folder of aligned face images")

    @cached_property
    def image_dir(self) -> Path:
        """The folder of the images."""
        inside = [self.root / place / name for place in ("", "Img", "celeba") for name in ALIGNED]
        found = [path for folder in inside for path in (folder / folder.name, folder) if path.is_dir()]
        return next((path for path in found if has_images(path)), found[-1] if found else self.root)

    @cached_property
    def ids(self) -> list[str]:
        """Names of the images, sorted."""
        names = sorted(name for name in os.listdir(self.image_dir) if is_image_file(name))
        if not names:
            raise self.no_images_error()
        as_column(names, self.image_dir)
        return names

    @property
    def names(self) -> pa.ChunkedArray:
        """Sorted image names in an Arrow column, a tenth of the memory of `ids`; reads the folder at every call.

        Raises:
            LatentrotError: there are no images, or a name is not UTF-8, which tables do not support.
        """
        piles, pile = [], []
        with os.scandir(self.image_dir) as entries:
            for entry in entries:
                if is_image_file(entry.name):
                    pile.append(entry.name)
                if len(pile) == 100_000:
                    piles, pile = [*piles, as_column(pile, self.image_dir)], []
        names = pa.chunked_array([*piles, as_column(pile, self.image_dir)])
        if not len(names):
            raise self.no_images_error()
        return names.sort()

    def no_images_error(self) -> LatentrotError:
        """The error for a folder without images, with a hint at its contents."""
        if self.exports():
            hint = f"unpack the parquet export: latentrot unpack {one_line(self.root)} --out unpacked/"
            return LatentrotError(f"no images in {one_line(self.image_dir)}; {hint}")
        packed = sorted(p.name for p in (*self.root.iterdir(), *self.root.glob("Img/*")) if p.suffix in ARCHIVES)
        hint = f"; unpack {packed[0]} first" if packed else f"; {self.left_out()}" if self.left_out() else ""
        return LatentrotError(f"no images ({', '.join(sorted(SUFFIXES))}) in {one_line(self.image_dir)}{hint}")

    def exports(self) -> list[Path]:
        """Parquet files in the folder that contain images as bytes."""
        from latentrot.data.parquet import image_column  # noqa: PLC0415  only where there are no images

        return [p for p in (*self.root.glob("*.parquet"), *self.root.glob("data/*.parquet")) if image_column(p)]

    # --- tables -----------------------------------------------------------------------------------------------------

    @cached_property
    def table_dirs(self) -> list[Path]:
        """Folders that are searched for tables: the root, the folders of CelebA's layouts, and the parent of the images."""
        base = Path(os.path.abspath(self.root))
        while base.name in (*ALIGNED, "Img"):
            base = base.parent
        first = [] if base == Path(os.path.abspath(self.root)) else [base]
        places = [self.root, *first, *((first or [self.root])[0] / name for name in ("celeba", "Anno", "Eval"))]
        return [place for place in places if place.is_dir()]

    def find_table(self, stem: str) -> Path | None:
        """Path of a table by its stem, such as `identity_CelebA`; .csv before .txt, .tsv and .parquet."""
        paths = (place / f"{stem}{suffix}" for place in self.table_dirs for suffix in TABLE_SUFFIXES)
        return next((path for path in paths if path.is_file()), None)

    def require_table(self, stem: str, columns: str) -> Path:
        """Path of a table by its stem (see `find_table`).

        Raises:
            LatentrotError: there is no such table; the message names the expected `columns`.
        """
        path = self.find_table(stem)
        if path is None:
            raise LatentrotError(f"no such table: {self.root / stem}.csv; expected {columns} for each image")
        return path

    def _table(self, stem: str) -> pd.DataFrame | None:
        """Read a table: one row per image, NaN where the table lacks the image; None if there is no such table."""
        path = self.find_table(stem)
        return None if path is None else to_files(read_table(path, TABLES[stem]), self.ids)

    @cached_property
    def attributes(self) -> pd.DataFrame | None:
        """CelebA's 40 attributes (+1 or -1) of each image; None without list_attr_celeba."""
        table = self._table("list_attr_celeba")
        # some copies write 0 instead of -1
        return table.replace(0, -1) if table is not None and set(np.unique(table.dropna())) <= {0, 1} else table

    @cached_property
    def identities(self) -> pd.Series:
        """Name of the person in each image; every image that identity_CelebA does not list gets a person of its own."""
        own = pd.Series(self.ids, index=self.ids, dtype=object)
        table = self._table("identity_CelebA")
        return own if table is None else as_names(table["identity"]).fillna(own)

    @cached_property
    def partition(self) -> pd.Series | None:
        """CelebA's own split of each image (0 train, 1 validation, 2 test); None without list_eval_partition."""
        table = self._table("list_eval_partition")
        return None if table is None else table["partition"]

    @cached_property
    def landmarks(self) -> np.ndarray | None:
        """(n, 5, 2) float64: eyes, nose and mouth corners (column, row) in image pixels, NaN where unknown.

        None without list_landmarks_align_celeba. CelebA's coordinates refer to a width of 178 pixels.
        """
        table = self._table("list_landmarks_align_celeba")
        if table is None:
            return None
        path = self.find_table("list_landmarks_align_celeba")
        return as_numbers(table, list(table.columns), path or self.root).to_numpy(np.float64).reshape(-1, 5, 2)

    # --- used and unused files ----------------------------------------------------------------------------------------

    def contents(self) -> str:
        """One line about what is used: images, and the tables with the number of images they cover."""
        parts = []
        for stem, what in USED.items():
            if path := self.find_table(stem):
                known = to_files(read_table(path, TABLES[stem]), self.ids).notna().any(axis=1).sum()
                parts.append(f"{what} of {known} from {os.path.relpath(path, self.root)}")
        return f"{one_line(self.image_dir)}: {len(self.ids)} images; {', '.join(parts) or 'no tables beside them'}"

    def left_out(self) -> str:
        """One line of counts: the unused files of the image folder by suffix, and the images in its subfolders."""
        others: Counter[str] = Counter()
        inside = 0
        for entry in os.scandir(self.image_dir):
            suffix = os.path.splitext(entry.name)[1].lower()
            if entry.is_dir():
                inside += sum(is_image_file(name) for name in os.listdir(entry)) if self.image_dir == self.root else 0
            elif not is_image_file(entry.name) and not entry.name.startswith(".") and suffix not in BESIDE:
                others[suffix or "no suffix"] += 1
        parts = [f"{n} {'file' if n == 1 else 'files'} ({suffix})" for suffix, n in sorted(others.items())]
        parts += [f"{inside} images in subfolders"] if inside else []
        return f"left out: {', '.join(parts)}" if parts else ""

    def not_understood(self) -> list[str]:
        """Paths, relative to the root, of tables that lie beside the images and whose names are unknown."""
        files = {p for place in self.table_dirs for p in place.iterdir() if p.suffix in TABLE_SUFFIXES}
        return sorted(
            os.path.relpath(p, self.root) for p in files if p.stem not in TABLES and "readme" not in p.stem.lower()
        )

    # --- images ---------------------------------------------------------------------------------------------------

    def open_image(self, image_id: str) -> Image.Image:
        """The whole image in RGB, upright and in sRGB.

        Raises:
            LatentrotError: the file is missing or corrupt, or exceeds the limits of `read_image`.
        """
        return Image.fromarray(read_image(self.image_dir / image_id))

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
        image = self.open_image(image_id)
        image = image.crop(face_box(*image.size))
        if image.size != (size, size):
            image = image.resize((size, size), Image.Resampling.LANCZOS)  # Pillow widens the filter when downscaling
        return np.asarray(image)

    def read_crops(self, image_ids: Sequence[str], size: int) -> np.ndarray:
        """Many face crops: (n, size, size, 3) uint8 RGB."""
        with ThreadPoolExecutor(2) as pool:
            return np.stack(list(pool.map(lambda i: self.read_crop(i, size), image_ids)))

    def read_readable(self, image_ids: Sequence[str], size: int) -> tuple[list[str], list[np.ndarray], list[str]]:
        """Read the crops of all readable images.

        Args:
            image_ids: names from `ids`.
            size: side in pixels.

        Returns:
            Names of the readable images, their (size, size, 3) uint8 crops, and one error message per unreadable image.
        """
        names, crops, complaints = [], [], []
        for image_id in image_ids:
            try:
                crops.append(self.read_crop(image_id, size))
                names.append(image_id)
            except LatentrotError as error:
                complaints.append(str(error))
        return names, crops, complaints
