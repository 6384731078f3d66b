"""Whole folders of photographs: every one is tried, what fails is kept for a table at the end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from latentrot.data.animation import ANIMATED
from latentrot.data.images import ENCODERS, SUFFIXES
from latentrot.errors import LatentrotError, one_line
from latentrot.files import check_writable, output_names, write_atomically
from latentrot.output import Written, own_folder
from latentrot.portrait.annotations import Annotated, Annotations, annotate
from latentrot.portrait.photograph import Edited
from latentrot.portrait.results import make_folder, report, write_edited, write_views

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
    """The images lying in a folder, by their suffix, sorted; of a folder that holds none, those in its subfolders.

    Hidden files and folders are left out.

    Raises:
        LatentrotError: the folder cannot be read, or there are none.
    """
    try:
        names = images_in(folder)
        if not names:
            people = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
            names = [name for person in people for name in images_in(person)]
    except OSError as error:
        raise LatentrotError(f"cannot read the folder {one_line(folder)}: {error.strerror}") from error
    if not names:
        raise LatentrotError(f"no images ({', '.join(sorted(SUFFIXES))}) in {one_line(folder)} or in its subfolders")
    return names


def images_in(folder: Path) -> list[Path]:
    """The images lying in a folder itself, sorted."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))


def check_nested(paths: Sequence[Path], source: Path, out: Path) -> None:
    """Refuse results inside a folder whose subfolders are read: the next run would read them, too.

    Raises:
        LatentrotError: naming both.
    """
    inside = out.resolve().is_relative_to(source.resolve())
    if inside and any(path.parent != source for path in paths):
        raise LatentrotError(f"{one_line(out)} lies in {one_line(source)}, whose subfolders are read; choose another")


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


def edit_folder(
    paths: Sequence[Path],
    out: Path,
    edit: Callable[[Path], Edited],
    source: Path | None = None,
    annotations: Annotations | None = None,
) -> Iterator[Outcome]:
    """Edit photographs one by one, past those that fail.

    Args:
        paths: from `list_photographs`.
        out: folder for the results: NAME.png each; of several turns, or where there are annotations, a folder NAME with an
            image for each, and views.csv, a row for each image. Photographs in subfolders of `source` have their results in
            subfolders of the same name instead. Made if missing, and gone again where nothing was written; what an earlier
            run wrote there and this one does not is removed (see `latentrot.output`).
        edit: what is done to one photograph.
        source: the folder the photographs were listed in; None: they lie in no subfolders.
        annotations: what is written beside the views, if anything; landmarks.csv and cameras.json hold those of all.

    Yields:
        An outcome for every photograph, in order, when its file is whole.

    Raises:
        LatentrotError: the folder cannot be made.
    """
    table: list[dict[str, object]] = []
    beside = Annotated([], [], {}, [])
    with own_folder(out) as written:  # before the work, so that a folder that cannot be made costs none
        try:
            for path, (person, stem) in zip(paths, places(paths, source), strict=True):
                try:
                    edited = edit(path)
                    if edited.count == 1 and not annotations:
                        make_folder(out / person)
                        files = write_edited(edited, out / person / f"{stem}.png")
                        written.add(*files)
                        yield Outcome(path, report(edited, files[0]), "")
                        continue
                    folder = out / (person or stem)
                    rows = write_views(edited, folder, stem)
                    written.add(*(out / str(row["file"]) for row in rows))
                    if annotations:
                        found = annotate(edited, [str(row["file"]) for row in rows], out, annotations)
                        written.add(*found.files)
                        rows = [{**row, **columns} for row, columns in zip(rows, found.columns, strict=True)]
                        beside.landmarks.extend(found.landmarks)
                        beside.cameras.update(found.cameras)
                    rows = [{**row, "person": person} for row in rows] if person else rows
                    table = [*table, *rows]
                    written.write_csv(out / "views.csv", table)
                    yield Outcome(path, report(edited, folder), "", tuple(rows))
                except (LatentrotError, OSError) as error:
                    reason = one_line(error, 600)
                    yield Outcome(path, {"input": str(path), "output": None, "error": reason}, reason)
        finally:  # the tables of a run that is interrupted hold what was done
            write_tables(written, out, beside)


def places(paths: Sequence[Path], source: Path | None) -> list[tuple[str, str]]:
    """For each photograph the subfolder its results go into (empty: none) and their name, no two alike."""
    people = ["" if source is None or path.parent == source else path.parent.name for path in paths]
    found: list[tuple[str, str]] = []
    for person in dict.fromkeys(people):
        own = [path for path, whose in zip(paths, people, strict=True) if whose == person]
        found += [(person, name) for name in output_names(own, "")]
    return found


def write_tables(written: Written, out: Path, beside: Annotated) -> None:
    """Write the landmarks and cameras of all views, where there are any."""
    if beside.landmarks:
        written.write_csv(out / "landmarks.csv", beside.landmarks)
    if beside.cameras:
        lines = (f" {json.dumps(name)}: {json.dumps(entry)}" for name, entry in beside.cameras.items())
        text = "{\n" + ",\n".join(lines) + "\n}\n"
        write_atomically(out / "cameras.json", lambda p: p.write_text(text, encoding="utf-8"))
        written.add(out / "cameras.json")


def failure_table(outcomes: list[Outcome]) -> str:
    """Name and reason of every failure, a line each; empty where there is none."""
    failed = [(one_line(o.path.name, 60), o.error) for o in outcomes if o.error]
    width = max((len(name) for name, _ in failed), default=0)
    return "\n".join(f"{name:{width}}  {error}" for name, error in failed)
