"""The one exception a user's mistake raises: what was given, what was expected, what to do."""

__all__ = ["LatentrotError"]


class LatentrotError(ValueError):
    """A mistake in what the user gave. The command line prints its message as one line and exits with 2."""
