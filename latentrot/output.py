"""Output folders: each run lists the files it writes, and the next run into the same folder deletes the stale ones.

So a folder never mixes reports and images of different runs. Files that no run has listed, or that were modified since, are
kept. The lists are stored in the user's state folder, named by a digest of the output folder's path; without a list nothing
is deleted.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs

from latentrot.errors import LatentrotError
from latentrot.files import create_folder, write_atomically

__all__ = ["OutputFiles", "list_path", "output_folder", "write_output_folder"]

log = logging.getLogger(__name__)


def _as_text(value: object) -> object:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def list_path(folder: Path) -> Path:
    """Path of the file that lists the contents of an output folder."""
    key = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:24]
    return platformdirs.user_state_path("latentrot", appauthor=False) / "outputs" / f"{key}.json"


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


class OutputFiles:
    """The files that a run writes into a folder.

    Args:
        folder: an existing folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.list, self.files = folder, list_path(folder), set[Path]()
        self.before = self._read()

    def _read(self) -> dict[str, list[int]]:
        try:
            listed = json.loads(self.list.read_text(encoding="utf-8"))["files"]
            return {str(name): list(stamp) for name, stamp in listed.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def add(self, *paths: Path) -> None:
        """Add files of this run to the list."""
        self.files.update(paths)

    def write_csv(self, path: Path, rows: Sequence[Mapping[str, object]]) -> None:
        """Write a CSV table and add it to the list; invalid bytes in text are escaped."""
        import pandas as pd  # noqa: PLC0415  slow to import

        table = pd.DataFrame([{k: _as_text(v) for k, v in row.items()} for row in rows])
        write_atomically(path, lambda p: table.to_csv(p, index=False))
        self.add(path)

    def save(self, names: dict[str, list[int]]) -> None:
        """Write the list."""
        text = json.dumps({"kind": "latentrot output", "folder": str(self.folder.resolve()), "files": names}, indent=1)
        with suppress(LatentrotError):  # no writable home folder: the next run deletes nothing
            write_atomically(self.list, lambda p: p.write_text(text + "\n", encoding="utf-8"))

    def listed(self) -> dict[str, list[int]]:
        """File name -> [size in bytes, modification time in ns] of the existing files of this run."""
        return {os.path.relpath(p, self.folder): _stamp(p) for p in sorted(self.files) if p.is_file()}

    def finish(self, complete: bool) -> int:
        """Write the list of this run's files; after a complete run also delete files that only the previous run wrote.

        Returns:
            Number of deleted files.
        """
        mine = self.listed()
        stale = {n: s for n, s in self.before.items() if n not in mine}
        if not complete:
            self.save({**stale, **mine})
            return 0
        removed = sum(self._remove(self.folder / name, stamp) for name, stamp in stale.items())
        if removed:
            log.info("%s: deleted %d files of the previous run that this run did not replace", self.folder, removed)
        if mine or self.before:
            self.save(mine)
        return removed

    def _remove(self, path: Path, stamp: list[int]) -> bool:
        """Delete a file that was not modified, and its folder if that is then empty; returns whether it was deleted."""
        try:
            inside = path.resolve().is_relative_to(self.folder.resolve())  # the list may have been edited
            if not inside or _stamp(path) != stamp:
                return False
            path.unlink()
        except OSError:
            return False
        with suppress(OSError):
            if path.parent != self.folder:
                path.parent.rmdir()
        return True


@contextmanager
def output_folder(folder: Path) -> Iterator[OutputFiles]:
    """Write the files of a folder as one run: create it, list its files, and delete stale files of the previous run.

    Args:
        folder: created if missing; a new folder is deleted again if nothing was written into it.

    Yields:
        The list of this run's files, to which every written file must be added.

    Raises:
        LatentrotError: the folder cannot be created.
    """
    new = not folder.exists()
    create_folder(folder)
    written = OutputFiles(folder)
    try:
        yield written
    except BaseException:
        with suppress(LatentrotError):
            written.finish(complete=False)
        raise
    else:
        written.finish(complete=True)
    finally:
        if new and not written.files:
            with suppress(OSError):
                folder.rmdir()


def write_output_folder(folder: Path, write: Callable[[], Sequence[Path]]) -> list[Path]:
    """Write a folder's files as one run (see `output_folder`).

    Args:
        folder: target folder, created if missing.
        write: writes all files and returns their paths.

    Returns:
        The written files.
    """
    with output_folder(folder) as written:
        files = list(write())
        written.add(*files)
    return files
