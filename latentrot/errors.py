"""The exception for user errors: one line that says what was given, what was expected, and what to do."""

__all__ = ["LatentrotError", "one_line"]


class LatentrotError(ValueError):
    """Invalid input or options. The command line prints the message as one line and exits with code 2."""


def one_line(text: object, limit: int = 300) -> str:
    """Text as one printable line of at most `limit` characters.

    Runs of whitespace become one space; control characters and invalid bytes are escaped.
    """
    joined = " ".join(str(text).split())
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in joined)
    return safe if len(safe) <= limit else safe[: limit - 3] + "..."
