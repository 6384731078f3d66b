"""Digests that identify image files by content, because different images may have the same name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from latentrot.errors import LatentrotError

__all__ = ["changed_names", "folder_digest", "image_digest", "image_digests", "list_some", "refuse_most_changed"]

#: files up to this size are hashed completely; of larger files the first, middle and last blocks of this size, bytes
MAX_WHOLE_BYTES, PART_BYTES = 256 << 10, 64 << 10
#: threads that read files
READERS = 8
#: share of changed images above which two folders are assumed to be different ones
MAX_CHANGED_SHARE = 0.5


def image_digest(path: Path) -> str:
    """Digest of an image file: `x` and sixteen hexadecimal digits, so that tables do not parse it as a number.

    Hashes the size and the bytes of the file; for files over 256 KiB only the first, middle and last blocks, which change
    whenever an image is encoded again. Empty for unreadable files.
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
    """Names whose recorded digest differs from the current one; names without both digests are ignored.

    Args:
        recorded: name -> digest when a result was computed.
        current: name -> digest now.
        claim: beginning of the error message, for example "the labels belong to other images than the latents".
        advice: end of the error message: what to do.

    Raises:
        LatentrotError: more than half of the digests differ, so the names refer to other images.
    """
    known = [name for name, digest in recorded.items() if digest and current.get(name)]
    changed = [name for name in known if recorded[name] != current[name]]
    refuse_most_changed(changed, len(known), claim, advice)
    return changed


def refuse_most_changed(changed: Sequence[str], known: int, claim: str, advice: str) -> None:
    """Raise an error if more than half of the known images have changed; arguments as in `changed_names`."""
    if len(changed) > MAX_CHANGED_SHARE * known:
        raise LatentrotError(
            f"{claim}: {len(changed)} of {known} have the same names but other content: {list_some(changed)}; {advice}"
        )


def folder_digest(folder: Path) -> str:
    """Digest of a model's folder: sixteen hexadecimal digits, from names and digests of its files."""
    files = sorted(p for p in folder.rglob("*") if p.suffix in (".safetensors", ".json"))
    lines = "".join(f"{p.relative_to(folder).as_posix()} {image_digest(p)}\n" for p in files)
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def list_some(names: Sequence[str], max_names: int = 3) -> str:
    """List the first names in a message: "a.jpg, b.jpg, c.jpg and 4 others"."""
    shown = ", ".join(names[:max_names])
    return shown if len(names) <= max_names else f"{shown} and {len(names) - max_names} others"
