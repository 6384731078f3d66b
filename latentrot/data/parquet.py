"""Unpack a data set's parquet export (images as bytes in a column) into a folder in CelebA's layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from latentrot.errors import LatentrotError, one_line
from latentrot.files import write_atomically

__all__ = ["image_column", "parquet_exports", "unpack"]

#: column names of the person in exports
PEOPLE = ("celeb_id", "identity", "person", "label")
#: number of rows in memory at a time
ROWS = 256
#: suffix of an image by its first bytes
STARTS = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"RIFF": ".webp"}


def image_column(path: Path) -> str | None:
    """Name of the column with images, as plain bytes or as Hugging Face's {bytes, path}; None if there is none."""
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowException):
        return None
    for field in schema:
        struct = pa.types.is_struct(field.type) and "bytes" in [f.name for f in field.type]
        if struct or pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
            return field.name
    return None


def parquet_exports(root: Path) -> list[Path]:
    """Parquet files in a folder or its subfolders that contain images."""
    return [p for p in sorted(root.rglob("*.parquet")) if image_column(p)] if root.is_dir() else [root]


def unpack(paths: list[Path], out: Path) -> int:
    """Write the images of parquet files unchanged, and tables of their labels.

    Args:
        paths: from `parquet_exports`.
        out: folder for img_align_celeba/, identity_CelebA.csv and list_attr_celeba.csv.

    Returns:
        Number of images written.

    Raises:
        LatentrotError: a file cannot be read, or contains no images.
    """
    told: list[dict[str, Any]] = []
    for path in paths:
        for row, content in _rows(path):
            suffix = next((s for start, s in STARTS.items() if content.startswith(start)), ".jpg")
            name = f"{len(told) + 1:06d}{suffix}"
            write_atomically(out / "img_align_celeba" / name, lambda p, c=content: p.write_bytes(c))
            told.append({"image_id": name, **row})
    table = pd.DataFrame(told).set_index("image_id")
    person = next((c for c in PEOPLE if c in table), None)
    if person is not None:
        write_atomically(out / "identity_CelebA.csv", table[person].rename("identity").to_csv)
    flags = [c for c in table if pd.api.types.is_bool_dtype(table[c]) or set(table[c].unique()) in ({-1, 1}, {0, 1})]
    if flags:
        signs = table[flags].astype(int).where(table[flags].astype(int) > 0, -1)
        write_atomically(out / "list_attr_celeba.csv", signs.to_csv)
    return len(table)


def _rows(path: Path) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield labels and encoded bytes of each image in a file."""
    column = image_column(path)
    if column is None:
        raise LatentrotError(
            f"{one_line(path)} holds no images; expected a parquet file with images as bytes in a column"
        )
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS):
                for row in batch.to_pylist():
                    image = row.pop(column)
                    content = image["bytes"] if isinstance(image, dict) else image
                    if content:
                        yield {k: v for k, v in row.items() if isinstance(v, (bool, int, float, str))}, content
    except (OSError, pa.ArrowException) as error:
        raise LatentrotError(f"cannot read {one_line(path)}: {one_line(error)}") from error
