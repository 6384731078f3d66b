"""What an image file is, told by its content: names are given to other images again and again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

__all__ = ["image_digest", "image_digests", "names_some"]

#: a file up to this is digested whole; of a longer one its beginning, middle and end, so many bytes each
WHOLE, PART = 256 << 10, 64 << 10
#: threads that read files
READERS = 8


def image_digest(path: Path) -> str:
    """Sixteen hexadecimal digits led by an `x`, which no table takes for a number; empty where the file cannot be read.

    The size and the bytes count: of files over 256 KiB those of the beginning, the middle and the end, which change in
    every image that is encoded anew.
    """
    try:
        size = os.path.getsize(path)
        sha = hashlib.blake2b(str(size).encode(), digest_size=8)
        with open(path, "rb") as file:
            if size <= WHOLE:
                sha.update(file.read())
            else:
                for start in (0, (size - PART) // 2, size - PART):
                    file.seek(start)
                    sha.update(file.read(PART))
    except (OSError, ValueError):
        return ""
    return f"x{sha.hexdigest()}"


def image_digests(folder: Path, names: Sequence[str]) -> list[str]:
    """The digest of each image of a folder."""
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(lambda name: image_digest(folder / name), names, chunksize=64))


def names_some(names: Sequence[str], most: int = 3) -> str:
    """A few of many names, for a message: "a.jpg, b.jpg, c.jpg and 4 others"."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} others"
