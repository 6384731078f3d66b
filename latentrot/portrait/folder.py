"""Whole folders of photographs: every one is tried, what fails is kept for a table at the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from latentrot.data.animation import ANIMATED
from latentrot.data.images import ENCODERS, SUFFIXES
from latentrot.errors import LatentrotError, one_line
from latentrot.files import check_writable, output_names
from latentrot.output import own_folder
from latentrot.portrait.photograph import Edited
from latentrot.portrait.results import report, write_edited, write_views

__all__ = ["Outcome", "edit_folder", "failure_table", "list_photographs"]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one photograph.

    Attributes:
        path: the photograph.
        report: the edit in plain numbers; of a failure: input, output (None) and error.
        error: why it failed, one line; empty where it did not.
        views: of several turns, a row for each image written.
    """

    path: Path
    report: dict[str, object]
    error: str
    views: tuple[dict[str, object], ...] = ()


def list_photographs(folder: Path) -> list[Path]:
    """The images lying in a folder, by their suffix, sorted; neither hidden files nor those in subfolders.

    Raises:
        LatentrotError: the folder cannot be read, or holds none.
    """
    try:
        names = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    except OSError as error:
        raise LatentrotError(f"cannot read the folder {one_line(folder)}: {error.strerror}") from error
    if not names:
        raise LatentrotError(
            f"no images ({', '.join(sorted(SUFFIXES))}) in {one_line(folder)}; subfolders are not read"
        )
    return names


def check_folders(source: Path, out: Path) -> None:
    """Refuse to write results among their sources.

    Raises:
        LatentrotError: the same folder, or an output that is, or looks like, a file.
    """
    if "\0" in str(out):
        raise LatentrotError(f"cannot write to {one_line(out)}: a name cannot hold a null character; choose another")
    if not os.path.isdir(out) and (os.path.exists(out) or out.suffix.lower() in (*ENCODERS, *ANIMATED)):
        raise LatentrotError(f"{one_line(out)} is a file; for a folder of photographs give a folder to --out")
    if os.path.realpath(source) == os.path.realpath(out):
        raise LatentrotError(f"{one_line(out)} is the folder of the photographs; choose another for the results")
    check_writable(out)


def edit_folder(paths: list[Path], out: Path, edit: Callable[[Path], Edited]) -> Iterator[Outcome]:
    """Edit photographs one by one, past those that fail.

    Args:
        paths: from `list_photographs`.
        out: folder for the results: NAME.png each; of several turns a folder NAME with an image for each, and views.csv,
            a row for each image. Made if missing, and gone again where nothing was written; what an earlier run wrote
            there and this one does not is removed (see `latentrot.output`).
        edit: what is done to one photograph.

    Yields:
        An outcome for every photograph, in order, when its file is whole.

    Raises:
        LatentrotError: the folder cannot be made.
    """
    table: list[dict[str, object]] = []
    with own_folder(out) as written:  # before the work, so that a folder that cannot be made costs none
        for path, name in zip(paths, output_names(paths, ".png"), strict=True):
            try:
                edited = edit(path)
                if edited.count == 1:
                    written.add(*write_edited(edited, out / name))
                    yield Outcome(path, report(edited, out / name), "")
                    continue
                stem = Path(name).stem
                rows = write_views(edited, out / stem, stem)
                table = [*table, *rows]
                written.add(*(out / str(row["file"]) for row in rows))
                written.write_csv(out / "views.csv", table)
                yield Outcome(path, report(edited, out / stem), "", tuple(rows))
            except (LatentrotError, OSError) as error:
                reason = one_line(error, 600)
                yield Outcome(path, {"input": str(path), "output": None, "error": reason}, reason)


def failure_table(outcomes: list[Outcome]) -> str:
    """Name and reason of every failure, a line each; empty where there is none."""
    failed = [(one_line(o.path.name, 60), o.error) for o in outcomes if o.error]
    width = max((len(name) for name, _ in failed), default=0)
    return "\n".join(f"{name:{width}}  {error}" for name, error in failed)
