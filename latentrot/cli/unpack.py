"""The command `unpack`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from latentrot.errors import LatentrotError, one_line
from latentrot.files import check_writable

__all__ = ["Unpack"]


@dataclass(frozen=True)
class Unpack:
    """Unpack a parquet export of a data set into a folder with CelebA's layout."""

    source: Annotated[Path, tyro.conf.Positional]
    """the .parquet file, or a folder of them"""
    out: Path = Path("unpacked")
    """output folder for img_align_celeba/ and the tables of people and attributes; must be new or empty"""

    def run(self) -> None:
        """Write the images and the tables."""
        from latentrot.data.parquet import parquet_exports, unpack  # noqa: PLC0415

        if not self.source.exists():
            raise LatentrotError(f"no such file or folder: {one_line(self.source)}; give a parquet export")
        paths = parquet_exports(self.source)
        if not paths:
            raise LatentrotError(f"no parquet file in {one_line(self.source)} contains images; give a parquet export")
        if self.out.is_dir() and any(self.out.iterdir()):
            raise LatentrotError(f"{one_line(self.out)} is not empty; choose another --out")
        check_writable(self.out)
        print(f"unpacked {unpack(paths, self.out)} images of {len(paths)} files into {one_line(self.out)}")
