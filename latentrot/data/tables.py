"""Read tables about images in various dialects; the result is indexed by image name.

CelebA's authors write a line with the number of rows, a line with the columns and then rows padded by spaces, or rows only
(identities, partitions). Others write CSV with a header that names the image column arbitrarily, or without one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from latentrot.errors import LatentrotError, one_line

__all__ = [
    "as_names",
    "as_numbers",
    "check_unique",
    "parse_table",
    "read_columns",
    "read_rows",
    "read_table",
    "require_columns",
    "to_files",
]

#: suffixes of image names: such a field in the first line means that there is no header
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".heic", ".pgm", ".ppm")
#: an integer that was converted to float
WHOLE_FLOAT = re.compile(r"^(\d+)\.0$")
#: columns that hold names, even if all of them are numeric
NAMES = ("identity", "head")
#: cells that are empty in columns of values; in columns of names they are names
MISSING = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-nan", "null", "NULL", "None")
#: a number with a decimal comma between other separators, as some countries' spreadsheets write it
DECIMAL_COMMA = re.compile(r"(?:^|[;\t ])-?\d+,\d+(?=[;\t ]|$)", re.MULTILINE)
#: a longer first line is not a header
MAX_LINE_BYTES = 100_000


def as_names(values: Sequence[object] | pd.Series | np.ndarray) -> pd.Series:
    """Names as text, whatever type a table gave them: 612, 612.0 and "612" are the same person; missing ones stay missing."""
    series = pd.Series(list(values) if not isinstance(values, pd.Series) else values)
    if pd.api.types.is_float_dtype(series):
        whole = series.dropna() % 1 == 0
        series = series.astype("Int64") if whole.all() else series
    text = series.astype(object).map(lambda v: None if pd.isna(v) else WHOLE_FLOAT.sub(r"\1", str(v).strip()))
    return text.astype(object).where(text.notna(), None)


def read_table(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read one table, whatever its dialect.

    Args:
        path: .csv, .txt, .tsv (a count line, a header, both or neither; commas, semicolons, tabs or spaces) or .parquet.
        columns: names of the columns after the image name, if the file has no header.

    Returns:
        The table indexed by image_id (the first column, whatever its name); names as text, numbers as numbers.

    Raises:
        LatentrotError: the file is unreadable or empty, rows and header differ in length, there is neither a header nor
            `columns`, or an image name occurs twice.
    """
    try:
        table = pd.read_parquet(path).reset_index() if path.suffix == ".parquet" else parse_table(path, columns)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        if isinstance(error, LatentrotError):
            raise
        raise LatentrotError(f"cannot read the table {one_line(path)}: {one_line(error)}") from error
    if path.suffix == ".parquet":
        table = table.drop(columns="index", errors="ignore")
    if "image_id" not in table.columns:
        table = table.rename(columns={table.columns[0]: "image_id"})
    table["image_id"] = as_names(table["image_id"])
    for column in table.columns.intersection(list(NAMES)):
        table[column] = as_names(table[column])
    table = table.dropna(subset="image_id").set_index("image_id")
    table.index = table.index.astype(str)
    return check_unique(table, path)


def read_columns(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read some columns of a table, indexed by image_id.

    Raises:
        LatentrotError: the table cannot be read (see `read_table`), or a column is missing.
    """
    table = read_table(path)
    require_columns(table, columns, one_line(path))
    return table[list(columns)]


def require_columns(table: pd.DataFrame, columns: Sequence[str], name: str) -> None:
    """Refuse a table that lacks a column.

    Raises:
        LatentrotError: a column is missing; the message calls the table `name`.
    """
    if missing := [c for c in columns if c not in table.columns]:
        raise LatentrotError(
            f"{name} lacks the columns {', '.join(missing)}; it has {', '.join(map(str, table.columns))}"
        )


def read_rows(path: Path, columns: Sequence[str], ids: Sequence[str]) -> pd.DataFrame:
    """Read some columns of a table, with one row per given image, in their order.

    Raises:
        LatentrotError: a column is missing (see `read_columns`), or an image is not in the table.
    """
    rows = to_files(read_columns(path, columns), ids)
    if empty := rows.index[rows.isna().any(axis=1)].tolist():
        raise LatentrotError(f"{path} has no row for {len(empty)} of {len(rows)} images, such as {empty[0]}")
    return rows


def to_files(table: pd.DataFrame, ids: Sequence[str]) -> pd.DataFrame:
    """Select the rows of some files: by name, or by the name without suffix if the table lacks the full name.

    A row whose name matches a file exactly is used for that file only; ambiguous stems match no file.

    Args:
        table: indexed by image_id.
        ids: n file names.

    Returns:
        n rows in the order of `ids`, with empty cells for files that the table does not contain.
    """
    index = pd.Index(ids, name="image_id")
    rest = table[~table.index.isin(index)]
    stems = pd.Series(rest.index, index=rest.index.str.rsplit(".", n=1).str[0])
    stems = stems[~stems.index.duplicated(keep=False)]
    found = pd.Series([i.rsplit(".", 1)[0] for i in ids], dtype=object).map(stems)
    names = np.where(index.isin(table.index), index, found)
    return table.reindex(pd.Index(names, dtype=object)).set_axis(index)


def as_numbers(table: pd.DataFrame, columns: Sequence[str], path: Path) -> pd.DataFrame:
    """Convert some columns of a table to numbers; empty cells stay empty.

    Raises:
        LatentrotError: a cell is not a number; the message names its column and image.
    """
    table = table.copy()
    for column in columns:
        numbers = pd.to_numeric(table[column], errors="coerce").replace([np.inf, -np.inf], np.nan)
        wrong = numbers.isna() & table[column].notna()
        if wrong.any():
            row = int(np.argmax(wrong.to_numpy()))
            image, cell = one_line(table.index[row]), one_line(table[column].iloc[row])
            raise LatentrotError(
                f"{one_line(path)}: {column} of {image} is {cell!r}; expected a number (wrong in {int(wrong.sum())} of "
                f"{len(table)} rows)"
            )
        table[column] = numbers.astype(np.float64)
    return table


def check_unique(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return the table after checking that its image names are unique.

    Raises:
        LatentrotError: a duplicate image name.
    """
    if doubled := table.index[table.index.duplicated()].unique().tolist():
        raise LatentrotError(
            f"{one_line(path)} lists {len(doubled)} images twice, such as {one_line(doubled[0])}; keep one row for each"
        )
    return table


def parse_table(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Parse a text table in any dialect, without type conversion; see `read_table`."""
    with path.open("rb") as file:
        encoding = "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"  # Excel writes both
    with path.open(encoding=encoding, errors="replace") as file:
        first = file.readline(MAX_LINE_BYTES).strip()
        stated = re.fullmatch("sep=(.)", first)  # how Excel states the separator
        skipped = int(first.isdecimal() or stated is not None)
        header = file.readline(MAX_LINE_BYTES).strip() if skipped else first
        row = file.readline(MAX_LINE_BYTES).strip()
        rows = row + "\n" + file.read(MAX_LINE_BYTES)
    if not header:
        raise LatentrotError(f"the table {one_line(path)} is empty; expected a header and one row per image")
    separator = stated[1] if stated else _separator(header)
    names = _fields(header, separator)
    if named := not _is_image_name(names[0]):
        names = ["image_id", *names] if len(_fields(row, separator)) == len(names) + 1 else names
    else:
        names = _column_names(path, columns, len(names))
    decimal = "," if separator != "," and DECIMAL_COMMA.search(rows) else "."
    return pd.read_csv(
        path, sep=separator, skiprows=skipped + int(named), names=names, index_col=False, skipinitialspace=True,
        dtype=dict.fromkeys((names[0], *NAMES), str), encoding=encoding, decimal=decimal, keep_default_na=False,
        na_values={name: "" if name in (names[0], *NAMES) else MISSING for name in names},
    )  # fmt: skip


def _separator(header: str) -> str:
    """The most frequent separator in a header; spaces if there is no other."""
    best = max(",;\t", key=header.count)
    return best if best in header else r"\s+"


def _fields(line: str, separator: str) -> list[str]:
    return line.split() if separator == r"\s+" else [field.strip().strip('"') for field in line.split(separator)]


def _is_image_name(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)


def _column_names(path: Path, columns: Sequence[str] | None, count: int) -> list[str]:
    if columns is None or len(columns) != count - 1:
        expected = "a header" if columns is None else f"a header, or {', '.join(columns)} after the image name"
        raise LatentrotError(f"the table {one_line(path)} has {count} columns but no header; expected {expected}")
    return ["image_id", *columns]
