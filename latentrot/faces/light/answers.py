"""Annotators' answers to "where does the light come from?": an append-only CSV.

One row per answer: image_id, light (left, center, right or unsure), annotator, time (ISO 8601, UTC), digest of the image
file. Rows are never changed: a further row with the light `undo` retracts an answer. Files without digests are read
and continued as they are.
"""

from __future__ import annotations

import csv
import io
import logging
import os
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from latentrot.data.digests import changed_names, list_some
from latentrot.errors import LatentrotError
from latentrot.faces.estimate import UNSURE
from latentrot.faces.network import LIGHTS
from latentrot.files import create_folder

__all__ = [
    "CHOICES", "UNDO", "UNSURE", "Answer", "AnswerFile", "checked_name", "read_answers", "standing", "to_same_images",
]  # fmt: skip

log = logging.getLogger(__name__)

UNDO = "undo"
#: possible answers
CHOICES = (*LIGHTS, UNSURE)


class Answer(NamedTuple):
    """One row of the file: image, light, annotator, time (ISO 8601), and digest of the image file (empty: not recorded)."""

    image_id: str
    light: str
    annotator: str
    time: str
    digest: str = ""


HEADER = ",".join(Answer._fields)
DIGEST = re.compile("x[0-9a-f]{16}")
#: header of files without digests
SHORT_HEADER = ",".join(Answer._fields[:-1])


# --- reading --------------------------------------------------------------------------------------------------------


def read_answers(path: Path | str) -> list[Answer]:
    """Read all rows of an answers file in order, including undo rows.

    A last line that was truncated when its writer was killed is dropped with a warning.

    Args:
        path: the CSV.

    Returns:
        The rows; `standing` selects the valid ones.

    Raises:
        LatentrotError: the file is missing, has another header, or contains an invalid line, whose number is quoted.
    """
    path = Path(path)
    whole, torn = _split_torn(_content(path))
    if torn:
        log.warning("%s: its last line, %r, is truncated and is left out", path, torn.decode(errors="replace"))
    try:
        lines = whole.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise LatentrotError(f"cannot read the answers {path}: {error}") from error
    if not lines or lines[0] not in (HEADER, SHORT_HEADER):
        raise LatentrotError(f"{path} starts with {lines[0] if lines else ''!r}; expected {HEADER!r}")
    return [_parsed(line, f"{path}, line {number}") for number, line in enumerate(lines[1:], 2) if line.strip()]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        hint = f"collect some with `latentrot label light --data DIR --answers {path} --page`"
        raise LatentrotError(f"no answers at {path}; {hint}") from None
    except OSError as error:
        raise LatentrotError(f"cannot read the answers {path}: {error.strerror}") from error


def _split_torn(content: bytes) -> tuple[bytes, bytes]:
    """Split off the last line if it lacks a line end and is not a complete answer."""
    head, end, last = content.rpartition(b"\n")
    if not last or not end:
        return content, b""
    try:
        _parsed(last.decode(), "")
    except (LatentrotError, UnicodeDecodeError):
        return head + end, last
    return content, b""  # edited by hand, without a final line end


def _parsed(line: str, where: str) -> Answer:
    fields = next(csv.reader([line]))
    if len(fields) not in (len(Answer._fields), len(Answer._fields) - 1):
        raise LatentrotError(f"{where}: {line!r} has {len(fields)} fields; expected {HEADER}")
    answer = Answer(*(field.strip() for field in fields))
    if answer.light not in (*CHOICES, UNDO):
        raise LatentrotError(f"{where}: light {answer.light!r}; expected {', '.join(CHOICES)} or {UNDO}")
    if not answer.image_id or not answer.annotator:
        raise LatentrotError(f"{where}: {line!r} names no {'image' if answer.annotator else 'annotator'}")
    if answer.digest and not DIGEST.fullmatch(answer.digest):
        raise LatentrotError(f"{where}: digest {answer.digest!r}; expected x and 16 hexadecimal digits")
    try:
        datetime.fromisoformat(answer.time)
    except ValueError as error:
        raise LatentrotError(f"{where}: time {answer.time!r}; expected ISO 8601") from error
    return answer


def standing(answers: Iterable[Answer]) -> dict[tuple[str, str], str]:
    """Select the valid answers.

    Args:
        answers: rows in the order they were written.

    Returns:
        {(image_id, annotator): light}, the latest answer last. A second answer of an annotator to an image replaces
        the first; an undo retracts the annotator's latest answer to that image, so that the previous one is valid again.
    """
    said: dict[tuple[str, str], list[str]] = {}
    for answer in answers:
        key = (answer.image_id, answer.annotator)
        before = said.pop(key, [])
        now = before[:-1] if answer.light == UNDO else [*before, answer.light]
        if now:
            said[key] = now
    return {key: lights[-1] for key, lights in said.items()}


def to_same_images(answers: Iterable[Answer], digests: Mapping[str, str]) -> list[Answer]:
    """Drop answers to images that have changed since, with a warning.

    Args:
        answers: rows.
        digests: current digest of each image of the folder, from `image_digests`.

    Raises:
        LatentrotError: more than half of the answers belong to other images with the same names.
    """
    answers = list(answers)
    changed = changed_names(
        {a.image_id: a.digest for a in answers}, digests, "the answers belong to other images than the folder's",
        "use other --answers, or the folder for which they were given",
    )  # fmt: skip
    if changed:
        log.warning("%d images have changed since they were answered; those answers are left out: %s",
                    len(changed), list_some(changed))  # fmt: skip
    return [a for a in answers if not a.digest or a.digest == digests.get(a.image_id, a.digest)]


# --- writing --------------------------------------------------------------------------------------------------------


def checked_name(annotator: str) -> str:
    """Strip an annotator's name; LatentrotError if it is empty or has several lines."""
    name = annotator.strip()
    if not name or not name.isprintable():
        raise LatentrotError(f"annotator {annotator!r}: expected a name on one line")
    return name


class AnswerFile:
    """An answers file; `append` returns after the row is on the disk.

    Args:
        path: CSV file; the file and its folder are created if missing.

    Raises:
        LatentrotError: the file cannot be created or read, or is not an answers file.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        create_folder(self.path.parent)
        if not self.path.is_file() or not self.path.stat().st_size:
            self._append_line(HEADER)
        read_answers(self.path)
        self._mend()
        with self.path.open(encoding="utf-8-sig") as file:
            self._columns = len(file.readline().split(","))

    def read(self) -> list[Answer]:
        """All rows, including those added by other processes."""
        return read_answers(self.path)

    def append(self, image_id: str, light: str, annotator: str, digest: str = "") -> Answer:
        """Append an answer, or a retraction (light `undo`); the digest is written only if the file has that column.

        Raises:
            LatentrotError: the light is unknown, a name is empty, or the row cannot be written.
        """
        if light not in (*CHOICES, UNDO):
            raise LatentrotError(f"light {light!r}; expected {', '.join(CHOICES)} or {UNDO}")
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        answer = Answer(image_id, light, checked_name(annotator), time, digest)
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow(answer[: self._columns])
        self._append_line(text.getvalue())
        return answer

    def _append_line(self, line: str) -> None:
        try:
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(file, f"{line}\n".encode())  # a single call, so that lines of concurrent writers do not mix
                os.fsync(file)
            finally:
                os.close(file)
        except OSError as error:
            raise LatentrotError(f"cannot write to {self.path}: {error.strerror}") from error

    def _mend(self) -> None:
        """Drop a truncated last line and end the file with a line end, so that the next row starts on its own line."""
        content = _content(self.path)
        torn = _split_torn(content)[1]
        if torn:
            os.truncate(self.path, len(content) - len(torn))
        elif not content.endswith(b"\n"):
            with self.path.open("ab") as file:
                file.write(b"\n")
