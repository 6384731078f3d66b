"""The one exception a user's mistake raises: what was given, what was expected, what to do; on one line."""

__all__ = ["LatentrotError", "one_line"]


class LatentrotError(ValueError):
    """A mistake in what the user gave. The command line prints its message as one line and exits with 2."""


def one_line(text: object, limit: int = 300) -> str:
    """Text as one printable line: whitespace runs become a space, control characters and stray bytes are escaped."""
    joined = " ".join(str(text).split())
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in joined)
    return safe if len(safe) <= limit else safe[: limit - 3] + "..."
