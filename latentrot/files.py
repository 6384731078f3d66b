"""Atomic writes, names of outputs, and checks of the kind and format of files."""

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
    "disk_reason",
    "free_path",
    "is_same_file",
    "output_names",
    "read_tensors",
    "write_atomically",
]


def is_same_file(a: Path, b: Path) -> bool:
    """Whether both paths exist and are one file."""
    return os.path.exists(a) and os.path.exists(b) and os.path.samefile(a, b)


def write_atomically(path: Path, write: Callable[[Path], object], *, replace: bool = True) -> bool:
    """Write under a temporary name in the same folder, bring it to the disk, rename.

    Whatever interrupts, the target is the old file or the new one, and nothing lies beside it but, after a kill, a hidden
    `.tmp`. Missing folders are made.

    Args:
        path: the target; a file of that name is replaced.
        write: called once with the temporary path, which has another suffix than the target.
        replace: False leaves a file that is already there alone, even one that another process made a moment before.

    Returns:
        Whether the target is now what was written; False only without `replace`.

    Raises:
        LatentrotError: no such folder can be made, no permission, a full disk.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LatentrotError(f"cannot create the folder {one_line(path.parent)}: {one_line(error.strerror)}") from error
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.tmp")  # cut: a name has 255 bytes at most
    try:
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        if replace:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)  # unlike a rename, refuses where the target exists
    except FileExistsError:
        return False
    except OSError as error:
        raise LatentrotError(f"cannot write {one_line(path)}: {disk_reason(error, path.parent)}") from error
    finally:
        with suppress(
            OSError
        ):  # where nothing could be written, a read-only file system will not let it be removed either
            temporary.unlink(missing_ok=True)
    return True


def output_names(paths: Sequence[Path], suffix: str) -> list[str]:
    """Names for the outputs of some files, unique even if case is ignored.

    Args:
        paths: the files.
        suffix: of the names, with its dot.

    Returns:
        The file's own stem; its whole name where others have that stem; a number behind that where even this is taken.
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
    """The path, or the next one with a number if it exists; for default names, which must not overwrite anything."""
    numbered = (path.with_name(f"{path.stem}-{i}{path.suffix}") for i in count(2))
    return next(p for p in chain([path], numbered) if not os.path.lexists(p))


def disk_reason(error: OSError, folder: Path) -> str:
    """Why a file could not be written, and what to do about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; free some space"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission to write in {one_line(folder)}; choose another folder"
    return f"{one_line(error.strerror or error)}; choose another place"


def check_writable(path: Path | str) -> None:
    """Refuse a file or folder that cannot be written, without creating it.

    Args:
        path: the file or folder to be; its parents need not exist yet. Addresses such as s3://... are not looked at.

    Raises:
        LatentrotError: a parent that is a file, no permission, a full or read-only disk.
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
        trial = folder / f".{secrets.token_hex(8)}.tmp"  # the mode bits do not tell of read-only disks
        try:
            trial.write_bytes(b"latentrot")
        finally:
            trial.unlink(missing_ok=True)
    except OSError as error:
        raise LatentrotError(f"cannot write {one_line(path)}: {disk_reason(error, path.parent)}") from error


def check_format(found: object, known: int, path: object) -> None:
    """Refuse a file with a newer format than this version can read.

    Args:
        found: the number the file carries; files from before there were numbers are of format 1.
        known: the newest one this version reads.
        path: the file.
    """
    try:
        number = int(str(found))
    except ValueError as error:
        raise LatentrotError(f"{one_line(path)} is of format {one_line(found)!r}; expected a number") from error
    if number < 1:
        raise LatentrotError(f"{one_line(path)} is of format {number}; expected 1 to {known}")
    if number > known:
        raise LatentrotError(
            f"{one_line(path)} is of format {number}, and this latentrot reads formats up to {known}; update latentrot"
        )


def read_tensors(path: Path, kind: str, known: int, remedy: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read the header and the tensors of a safetensors file of this package.

    Args:
        path: the file.
        kind: what its header has to say it is.
        known: the newest format this version reads.
        remedy: what to do where the file cannot be read, for the error's end.

    Raises:
        LatentrotError: no such file, a damaged one, another kind, or a later format.
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
