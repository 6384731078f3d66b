"""Standard streams as a command needs them: there, and able to show any name."""

from __future__ import annotations

import io
import os
import sys

__all__ = ["flush_output", "prepare_streams"]


def prepare_streams() -> None:
    """Give the process the streams it lacks, and have characters that a console cannot show written as escapes.

    Services and windowed programs start with streams closed; the next file opened would take their place, and C code would
    write its complaints into it.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
        stream = getattr(sys, name)
        if stream is None or stream.closed:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8", errors="backslashreplace"))  # noqa: SIM115
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def flush_output() -> str:
    """Flush standard output.

    Returns:
        Why it could not be written; empty where it was, or where its reader has gone, as `head` does.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
    except (OSError, ValueError) as error:
        _discard_output()
        return getattr(error, "strerror", None) or str(error)
    return ""


def _discard_output() -> None:
    """Nothing more is written to standard output, also not when the process ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
