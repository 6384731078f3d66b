"""Atomic writes, unique output names, and checks of the kind and the format version of files."""

from __future__ import annotations

import errno
import os
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from latentrot.errors import LatentrotError, one_line

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "check_format",
    "check_writable",
    "create_folder",
    "disk_reason",
    "free_path",
    "is_same_file",
    "output_names",
    "read_tensors",
    "write_atomically",
]


def is_same_file(a: Path, b: Path) -> bool:
    """Whether both paths exist and refer to the same file."""
    return os.path.exists(a) and os.path.exists(b) and os.path.samefile(a, b)


def create_folder(path: Path) -> None:
    """Create a folder and its parents unless they exist.

    Raises:
        LatentrotError: the folder cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # ValueError: the name contains a null character
        raise LatentrotError(f"cannot create the folder {one_line(path)}: {one_line(error)}") from error


def write_atomically(path: Path, write: Callable[[Path], object], *, replace: bool = True) -> bool:
    """Write a temporary file in the target's folder, flush it to the disk, and rename it to the target.

    After an interruption the target is the complete old file or the complete new one. A killed process may leave a hidden
    `.tmp` file. Missing folders are created.

    Args:
        path: target file; an existing file is replaced.
        write: called once with the temporary path, whose suffix differs from the target's.
        replace: False: keep an existing file, even if another process has just created it.

    Returns:
        Whether the file was written; False only if `replace` is False and the target exists.

    Raises:
        LatentrotError: the folder cannot be created, permission is denied, or the disk is full.
    """
    create_folder(path.parent)
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.tmp")  # file names have at most 255 bytes
    try:
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        if replace:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)  # unlike a rename, fails if the target exists
    except FileExistsError:
        return False
    except OSError as error:
        raise LatentrotError(f"cannot write {one_line(path)}: {disk_reason(error, path.parent)}") from error
    finally:
        with suppress(OSError):  # a read-only file system
            temporary.unlink(missing_ok=True)
    return True


def output_names(paths: Sequence[Path], suffix: str) -> list[str]:
    """Output names for input files, unique even if case is ignored.

    Args:
        paths: input files.
        suffix: suffix of the output names, with its dot.

    Returns:
        For each file its stem and the suffix; its full name instead of the stem if several files have that stem; the full
        name with a number if several files have that name.
    """
    names, numbers = [path.stem for path in paths], Counter[str]()
    while alike := _alike(names):
        short = [i for i in alike if names[i] != paths[i].name and names[i] == paths[i].stem]
        for i in short or alike:
            numbers[paths[i].name] += not short
            names[i] = paths[i].name if short else f"{paths[i].name}-{numbers[paths[i].name]}"
    return [name + suffix for name in names]


def _alike(names: list[str]) -> list[int]:
    """Indices of names that are not unique if case is ignored."""
    counts = Counter(name.casefold() for name in names)
    return [i for i, name in enumerate(names) if counts[name.casefold()] > 1]


def free_path(path: Path) -> Path:
    """The path, with a number appended to its stem if it exists, so that a default output name overwrites no file."""
    numbered = (path.with_name(f"{path.stem}-{i}{path.suffix}") for i in count(2))
    return next(p for p in chain([path], numbered) if not os.path.lexists(p))


def disk_reason(error: OSError, folder: Path) -> str:
    """The reason of a failed write in `folder`, and what to do, as the end of an error message."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; free some space"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission to write in {one_line(folder)}; choose another folder"
    return f"{one_line(error.strerror or error)}; choose another place"


def check_writable(path: Path | str) -> None:
    """Refuse a file or folder that cannot be written, without creating it.

    Args:
        path: file or folder to write; its parents need not exist. Addresses such as s3://... are not checked.

    Raises:
        LatentrotError: a parent is a file, permission is denied, or the disk is full or read-only.
    """
    if "://" in str(path):
        return
    path = Path(path)
    if "\0" in str(path):
        raise LatentrotError(f"cannot write {one_line(path)}: a name cannot hold a null character; choose another")
    try:
        there = next(p for p in (path, *path.absolute().parents) if p.exists())
        if there != path and not there.is_dir():
            raise LatentrotError(f"cannot write {one_line(path)}: {one_line(there)} is a file; choose another place")
        folder = there if there.is_dir() else there.absolute().parent
        trial = folder / f".{secrets.token_hex(8)}.tmp"  # the mode bits do not show that a file system is read-only
        try:
            trial.write_bytes(b"latentrot")
        finally:
            trial.unlink(missing_ok=True)
    except OSError as error:
        raise LatentrotError(f"cannot write {one_line(path)}: {disk_reason(error, path.parent)}") from error


def check_format(found: object, known: int, path: object) -> None:
    """Refuse a file with a newer format than this version can read.

    Args:
        found: format number in the file; files without a number have format 1.
        known: newest format that this version reads.
        path: the file, for the message.

    Raises:
        LatentrotError: the number is not an integer, or outside 1 to `known`.
    """
    try:
        number = int(str(found))
    except ValueError as error:
        raise LatentrotError(f"{one_line(path)} has format {one_line(found)!r}; expected a number") from error
    if number < 1:
        raise LatentrotError(f"{one_line(path)} has format {number}; expected 1 to {known}")
    if number > known:
        raise LatentrotError(
            f"{one_line(path)} has format {number}, but this latentrot reads formats up to {known}; update latentrot"
        )


def read_tensors(path: Path, kind: str, known: int, remedy: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read the header and the tensors of a safetensors file of this package.

    Args:
        path: the file.
        kind: required value of the header entry `kind`.
        known: newest format that this version reads.
        remedy: end of the error message for an unreadable file: what to do.

    Raises:
        LatentrotError: the file is missing or damaged, or has another kind or a newer format.
    """
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415

    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
    except (OSError, SafetensorError) as error:
        raise LatentrotError(f"cannot read {one_line(path)} ({one_line(error)}); {remedy}") from error
    if header.get("kind") != kind:
        raise LatentrotError(f"{one_line(path)}: kind {header.get('kind')!r}, expected {kind!r}")
    check_format(header.get("format", 1), known, path)
    return header, tensors
