"""Files that are either whole or not there."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from latentrot.errors import LatentrotError, one_line

__all__ = ["disk_reason", "write_atomically"]


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
        raise LatentrotError(f"cannot make the folder {one_line(path.parent)}: {one_line(error.strerror)}") from error
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


def disk_reason(error: OSError, folder: Path) -> str:
    """Why a file could not be written, and what to do about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; free some space"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission to write in {one_line(folder)}; choose another folder"
    return f"{one_line(error.strerror or error)}; choose another place"
