"""File access for stores: a local folder, or any address fsspec supports (s3://, gs://, memory://)."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import cast

from upath import UPath

from latentrot.errors import LatentrotError, one_line
from latentrot.files import write_atomically

__all__ = ["as_path", "create_atomic", "link_or_copy", "list_names", "read_into", "read_range", "write_atomic"]

#: errors of fsspec's file systems
REMOTE_ERRORS = (OSError, ValueError, ImportError)


def as_path(root: Path | UPath | str) -> Path | UPath:
    """A folder as a path object: `pathlib.Path` if it is local, else its fsspec counterpart.

    Raises:
        LatentrotError: the protocol is unknown, or its driver is not installed.
    """
    if isinstance(root, (Path, UPath)) or "://" not in str(root):
        return root if isinstance(root, (Path, UPath)) else Path(root)
    if str(root).startswith(("file://", "local://")):
        return Path(str(root).split("://", 1)[1])
    try:
        place = UPath(str(root))
        _ = place.fs
    except REMOTE_ERRORS as error:
        raise LatentrotError(f"cannot reach {root}: {one_line(error)}") from error
    return place


def list_names(root: Path | UPath) -> list[str]:
    """Names in a folder; empty if it does not exist."""
    try:
        if isinstance(root, Path):
            return os.listdir(root)
        root.fs.invalidate_cache()  # other processes may have written files
        return [entry["name"].rstrip("/").rsplit("/", 1)[-1] for entry in root.fs.ls(root.path, detail=True)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def write_atomic(path: Path | UPath, content: bytes) -> None:
    """Write a file atomically; an existing one is replaced.

    Raises:
        LatentrotError: no permission, a full disk, or an unreachable address.
    """
    if isinstance(path, Path):
        write_atomically(path, lambda p: p.write_bytes(content))
        return
    try:
        path.fs.pipe_file(path.path, content)  # remote objects become visible only when complete
    except REMOTE_ERRORS as error:
        raise LatentrotError(f"cannot write {path}: {one_line(error)}") from error


def create_atomic(path: Path | UPath, content: bytes) -> bool:
    """`write_atomic`, unless a file of that name exists already.

    Returns:
        Whether it was written.
    """
    if isinstance(path, Path):
        return write_atomically(path, lambda p: p.write_bytes(content), replace=False)
    try:
        path.fs.pipe_file(path.path, content, mode="create")
    except FileExistsError:
        return False
    except REMOTE_ERRORS as error:
        raise LatentrotError(f"cannot write {path}: {one_line(error)}") from error
    return True


def read_range(path: Path | UPath, start: int, stop: int) -> bytes:
    """Bytes start to stop of a file, fewer if it is shorter."""
    if isinstance(path, Path):
        with open(path, "rb", buffering=0) as file:
            file.seek(start)
            return file.read(stop - start)
    return cast("bytes", path.fs.cat_file(path.path, start=start, end=stop))


def read_into(path: Path | UPath, start: int, buffer: memoryview) -> int:
    """Fill a buffer with the bytes of a file from offset `start`; returns the number of bytes read."""
    if not isinstance(path, Path):
        content = read_range(path, start, start + len(buffer))
        buffer[: len(content)] = content
        return len(content)
    filled = 0
    with open(path, "rb", buffering=0) as file:
        file.seek(start)
        while filled < len(buffer) and (got := file.readinto(buffer[filled:])):
            filled += got
    return filled


def link_or_copy(source: Path | UPath, target: Path | UPath) -> None:
    """Create `target` as a hard link to `source`, or as a copy if they are on different disks."""
    if isinstance(source, Path) and isinstance(target, Path):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(source, target)
            return
        except FileExistsError:
            return
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
                raise LatentrotError(f"cannot link {source} to {target}: {one_line(error.strerror)}") from error
    write_atomic(target, source.read_bytes())
