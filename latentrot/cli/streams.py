"""Prepare and flush the standard streams of a command."""

from __future__ import annotations

import io
import os
import sys

__all__ = ["flush_output", "prepare_streams"]


def prepare_streams() -> None:
    """Open missing standard streams on the null device, and escape characters that the console cannot encode.

    Services and windowed programs may start with closed streams. The next opened file would get the descriptor of the
    stream, and C code would write its error messages into that file.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor, which is this one
        stream = getattr(sys, name)
        if stream is None or stream.closed:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8", errors="backslashreplace"))  # noqa: SIM115
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def flush_output() -> str:
    """Flush standard output.

    Returns:
        The reason of a failure; empty on success, or if the reader has closed the pipe, as `head` does.
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
    """Redirect standard output to the null device, so that the flush at exit does not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
