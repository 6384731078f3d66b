"""Edit every photograph of a folder; failures are collected and reported at the end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from latentrot.data.animation import ANIMATED
from latentrot.data.images import ENCODERS, SUFFIXES
from latentrot.errors import LatentrotError, one_line
from latentrot.files import check_writable, create_folder, output_names, write_atomically
from latentrot.output import OutputFiles, output_folder
from latentrot.portrait.annotations import Annotated, Annotations, annotate
from latentrot.portrait.photograph import Edited
from latentrot.portrait.results import report, write_edited, write_views

__all__ = ["Outcome", "edit_folder", "failure_table", "list_photographs"]


@dataclass(frozen=True, eq=False)
class Outcome:
    """Result of one photograph.

    Attributes:
        path: the photograph.
        report: report of the edit, ready for JSON; after a failure: input, output (None) and error.
        error: reason of the failure in one line; empty on success.
        views: rows of views.csv, one per written image; empty for a single result.
    """

    path: Path
    report: dict[str, object]
    error: str
    views: tuple[dict[str, object], ...] = ()


def list_photographs(folder: Path) -> list[Path]:
    """List the images of a folder, sorted; if it contains none, the images of its subfolders.

    Images are recognised by their suffix. Hidden files and folders are ignored.

    Raises:
        LatentrotError: the folder cannot be read, or contains no images.
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
    """List the images directly in a folder, sorted."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))


def check_nested(paths: Sequence[Path], source: Path, out: Path) -> None:
    """Refuse an output inside the source folder if its subfolders are read: the next run would read the results.

    Raises:
        LatentrotError: the output is refused.
    """
    inside = out.resolve().is_relative_to(source.resolve())
    if inside and any(path.parent != source for path in paths):
        raise LatentrotError(
            f"{one_line(out)} lies in {one_line(source)}, whose subfolders are read; choose another output folder"
        )


def check_folders(source: Path, out: Path) -> None:
    """Refuse an output that is the source folder, or that is not a folder.

    Raises:
        LatentrotError: both folders are the same, or the output is a file or has the suffix of one.
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
    """Edit photographs one by one, and continue after failures.

    A photograph with a single result is written as NAME.png. With several results or annotations, each result is an image in
    the folder NAME, with a row in views.csv. Results of photographs in subfolders of `source` go into subfolders of the
    same name instead.

    Args:
        paths: from `list_photographs`.
        out: output folder, created if missing and removed if it stays empty. Files of an earlier run that this run does not
            write are deleted (see `latentrot.output`).
        edit: edits one photograph.
        source: folder from which the photographs were listed; None: no photograph is in a subfolder.
        annotations: annotations to write; landmarks.csv and cameras.json hold those of all views.

    Yields:
        One outcome per photograph, in order, after its files are complete.

    Raises:
        LatentrotError: the folder cannot be created.
    """
    table: list[dict[str, object]] = []
    beside = Annotated([], [], {}, [])
    with output_folder(out) as written:  # first, to fail before any edit if the folder cannot be created
        try:
            for path, (person, stem) in zip(paths, places(paths, source), strict=True):
                try:
                    edited = edit(path)
                    if edited.count == 1 and not annotations:
                        create_folder(out / person)
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
        finally:  # write the tables of the finished photographs after an interruption, too
            write_tables(written, out, beside)


def places(paths: Sequence[Path], source: Path | None) -> list[tuple[str, str]]:
    """For each photograph, the subfolder of its results (may be empty) and a file stem that is unique in it."""
    people = ["" if source is None or path.parent == source else path.parent.name for path in paths]
    found: list[tuple[str, str]] = []
    for person in dict.fromkeys(people):
        own = [path for path, whose in zip(paths, people, strict=True) if whose == person]
        found += [(person, name) for name in output_names(own, "")]
    return found


def write_tables(written: OutputFiles, out: Path, beside: Annotated) -> None:
    """Write landmarks.csv and cameras.json, each only if it has entries."""
    if beside.landmarks:
        written.write_csv(out / "landmarks.csv", beside.landmarks)
    if beside.cameras:
        lines = (f" {json.dumps(name)}: {json.dumps(entry)}" for name, entry in beside.cameras.items())
        text = "{\n" + ",\n".join(lines) + "\n}\n"
        write_atomically(out / "cameras.json", lambda p: p.write_text(text, encoding="utf-8"))
        written.add(out / "cameras.json")


def failure_table(outcomes: list[Outcome]) -> str:
    """Format the failures: one line each, with file name and reason; empty if there are none."""
    failed = [(one_line(o.path.name, 60), o.error) for o in outcomes if o.error]
    width = max((len(name) for name, _ in failed), default=0)
    return "\n".join(f"{name:{width}}  {error}" for name, error in failed)
