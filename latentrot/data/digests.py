"""Digests that identify image files by content, since names are reused for other images."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from latentrot.errors import LatentrotError

__all__ = ["changed_names", "folder_digest", "image_digest", "image_digests", "names_some", "refuse_most_changed"]

#: files up to this size are digested completely; of larger ones the beginning, middle and end, this many bytes each
MAX_WHOLE_BYTES, PART_BYTES = 256 << 10, 64 << 10
#: threads that read files
READERS = 8
#: share of changed images above which two folders are assumed to be different ones
MAX_CHANGED_SHARE = 0.5


def image_digest(path: Path) -> str:
    """Sixteen hexadecimal digits prefixed by `x`, so that no table parses them as a number; empty for unreadable files.

    Size and bytes count; for files over 256 KiB the bytes of the beginning, middle and end, which change whenever an image
    is encoded again.
    """
    try:
        size = os.path.getsize(path)
        sha = hashlib.blake2b(str(size).encode(), digest_size=8)
        with open(path, "rb") as file:
            if size <= MAX_WHOLE_BYTES:
                sha.update(file.read())
            else:
                for start in (0, (size - PART_BYTES) // 2, size - PART_BYTES):
                    file.seek(start)
                    sha.update(file.read(PART_BYTES))
    except (OSError, ValueError):
        return ""
    return f"x{sha.hexdigest()}"


def image_digests(folder: Path, names: Sequence[str]) -> list[str]:
    """The digest of each image of a folder."""
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(lambda name: image_digest(folder / name), names, chunksize=64))


def changed_names(recorded: Mapping[Any, str], current: Mapping[Any, str], claim: str, advice: str) -> list[str]:
    """Names recorded with another digest than the current one; names without both are ignored.

    Args:
        recorded: digest by name, when a result was made.
        current: digest by name, now.
        claim: beginning of the error message, for example "the labels belong to other images than the latents".
        advice: its end: what to do.

    Raises:
        LatentrotError: more than half have changed: they are other images under the same names.
    """
    known = [name for name, digest in recorded.items() if digest and current.get(name)]
    changed = [name for name in known if recorded[name] != current[name]]
    refuse_most_changed(changed, len(known), claim, advice)
    return changed


def refuse_most_changed(changed: Sequence[str], known: int, claim: str, advice: str) -> None:
    """Refuse other images under the same names: more than half have changed; arguments and errors as of `changed_names`."""
    if len(changed) > MAX_CHANGED_SHARE * known:
        raise LatentrotError(f"{claim} under {len(changed)} of {known} names: {names_some(changed)}; {advice}")


def folder_digest(folder: Path, suffixes: Sequence[str] = (".safetensors", ".json")) -> str:
    """Sixteen hexadecimal digits that identify a model's folder: of its files' names and their digests."""
    files = sorted(p for p in folder.rglob("*") if p.suffix in suffixes)
    told = "".join(f"{p.relative_to(folder).as_posix()} {image_digest(p)}\n" for p in files)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def names_some(names: Sequence[str], max_names: int = 3) -> str:
    """A few of many names for a message: "a.jpg, b.jpg, c.jpg and 4 others"."""
    shown = ", ".join(names[:max_names])
    return shown if len(names) <= max_names else f"{shown} and {len(names) - max_names} others"
