"""One shard: latents of some images in a safetensors file; its header holds their names, provenance and checksum."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from upath import UPath

from latentrot.errors import LatentrotError, one_line
from latentrot.files import check_format
from latentrot.store.places import read_into, read_range
from latentrot.store.space import LatentSpace

__all__ = ["KIND", "ShardHeader", "checksum_of", "pack_shard", "read_header", "read_latent_rows"]

KIND = "latentrot latents"
#: version of the file format, raised when an older version would misread it
FORMAT = 1
#: number of bytes read first; they usually contain the whole header
FIRST_READ = 32 << 10
#: max size of a header in bytes, a limit of safetensors
MAX_HEADER_BYTES = 100_000_000
DTYPES = {"F16": torch.float16, "F32": torch.float32}


@dataclass(frozen=True)
class ShardHeader:
    """Parsed header of a shard.

    Attributes:
        metadata: the strings of the header (`__metadata__`).
        image_ids: the images, row by row.
        skipped: (image_id, error message) of the images that could not be read.
        dtype: type of the stored latents.
        shape: (n, c, h, w).
        start: offset of the latents in the file, bytes.
    """

    metadata: dict[str, str]
    image_ids: list[str]
    skipped: list[tuple[str, str]]
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int

    @property
    def space(self) -> LatentSpace:
        """The space of the latents."""
        return LatentSpace.from_header(self.metadata)

    @property
    def digests(self) -> list[str]:
        """Digest of each row's image file (see `image_digest`); empty in older shards without digests."""
        return json.loads(self.metadata["digests"]) if "digests" in self.metadata else [""] * len(self.image_ids)

    @property
    def checksum(self) -> str:
        """The stored checksum; empty in older shards without one."""
        return self.metadata.get("checksum", "")

    @property
    def size(self) -> int:
        """Size of the latents in bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


def raw_bytes(tensor: torch.Tensor) -> memoryview:
    """The memory of a contiguous CPU tensor, without a copy."""
    return tensor.numpy().data.cast("B") if tensor.numel() else memoryview(b"")


def checksum_of(metadata: dict[str, str], latents: bytes | memoryview) -> str:
    """SHA-256 of a shard's metadata and the bytes of its latents."""
    sha = hashlib.sha256(json.dumps({k: v for k, v in metadata.items() if k != "checksum"}, sort_keys=True).encode())
    sha.update(latents)
    return sha.hexdigest()


def pack_shard(
    image_ids: list[str], latents: torch.Tensor, space: LatentSpace, skipped: list[tuple[str, str]], batch: int = 0,
    digests: list[str] | None = None,
) -> bytes:  # fmt: skip
    """Serialise a shard.

    Args:
        image_ids: n images.
        latents: (n, c, h, w), stored in half precision.
        space: space of the latents.
        skipped: (image_id, error message) of the images of the shard that could not be read.
        batch: number of images that were inverted together; the last bits may depend on it. 0: unknown.
        digests: digests of the n image files (see `latentrot.data.digests`); None: unknown.
    """
    latents = latents.half().contiguous()
    metadata = {
        "kind": KIND,
        "format": str(FORMAT),
        "image_ids": json.dumps(image_ids),
        "skipped": json.dumps(skipped),
        "batch": str(batch),
        **({} if digests is None else {"digests": json.dumps(digests)}),
        **space.header(),
    }
    metadata["checksum"] = checksum_of(metadata, raw_bytes(latents))
    return save({"latents": latents}, metadata=metadata)


def read_header(path: Path | UPath) -> ShardHeader:
    """Read a shard's header and check it against the file's length.

    Raises:
        LatentrotError: the file is damaged or not a shard of latents.
    """
    try:
        first = read_range(path, 0, FIRST_READ)
        length = int.from_bytes(first[:8], "little")
        if len(first) < 8 or not 2 <= length <= MAX_HEADER_BYTES:
            raise ValueError("no safetensors header")
        if len(first) < 8 + length:
            first += read_range(path, len(first), 8 + length)
        table = json.loads(first[8 : 8 + length])
        metadata = table.get("__metadata__") or {}
        if metadata.get("kind") != KIND:
            raise LatentrotError(f"{path} is not a shard of latents (kind {metadata.get('kind')!r})")
        check_format(metadata.get("format", 1), FORMAT, path)
        LatentSpace.from_header(metadata)  # raises if an entry is missing
        tensor = table["latents"]
        image_ids, skipped = json.loads(metadata["image_ids"]), json.loads(metadata.get("skipped", "[]"))
        header = ShardHeader(
            metadata, image_ids, [(str(a), str(b)) for a, b in skipped], DTYPES[tensor["dtype"]], tuple(tensor["shape"]),
            8 + length + tensor["data_offsets"][0],
        )  # fmt: skip
        if header.shape[0] != len(image_ids) or path.stat().st_size != header.start + header.size:
            raise ValueError(f"{path.stat().st_size} bytes, expected {header.start + header.size}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, LatentrotError):
            raise
        reason = f"lacks {error}" if isinstance(error, KeyError) else one_line(error)
        raise LatentrotError(f"{path} is damaged ({reason}); delete it and run embed again") from error
    return header


def read_latent_rows(
    path: Path | UPath, header: ShardHeader, start: int = 0, stop: int | None = None, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Read the rows from `start` to `stop` - 1 of a shard: (n, c, h, w) as stored.

    Args:
        path: the shard.
        header: header of the shard.
        start: first row.
        stop: row after the last; None: all.
        out: flat buffer of the shard's dtype to read into, large enough; None: a new one.
    """
    rows = len(range(*slice(start, stop).indices(header.shape[0])))
    row = int(np.prod(header.shape[1:], dtype=np.int64))
    buffer = torch.empty(rows * row, dtype=header.dtype) if out is None else out[: rows * row]
    if rows:
        view = raw_bytes(buffer)
        if read_into(path, header.start + start * row * header.dtype.itemsize, view) < len(view):
            raise LatentrotError(f"{path} is damaged (shorter than its header states); delete it and run embed again")
    return buffer.view(rows, *header.shape[1:])
