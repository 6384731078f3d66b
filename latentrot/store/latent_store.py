"""A folder of latents: safetensors shards, written atomically, and the manifest that planned them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from upath import UPath

from latentrot.errors import LatentrotError
from latentrot.files import write_atomically
from latentrot.store.manifest import Manifest
from latentrot.store.places import as_path, list_names, write_atomic
from latentrot.store.shard import ShardHeader, pack_shard, read_header, read_latent_rows
from latentrot.store.space import LatentSpace

__all__ = ["LatentStore"]

SHARD = re.compile(r"shard-(\d+)\.safetensors")
INDEX = pa.schema(
    [("image_id", pa.string()), ("shard", pa.dictionary(pa.int32(), pa.string())), ("row", pa.int32())],
    metadata={"kind": "latentrot index", "format": "1"},
)


class LatentStore:
    """Latents on disk, or anywhere fsspec can access.

    Stores written by `embed` start with a manifest, which assigns images to shards. A store without one, from an earlier
    version or written by `append`, is readable, too; `latentrot embed merge` converts it into a planned store that can be
    continued.

    Args:
        root: the store's folder, or an address such as s3://bucket/latents; created on the first write.
    """

    def __init__(self, root: Path | UPath | str) -> None:
        self.root = as_path(root)

    def path_of(self, number: int) -> Path | UPath:
        """Path of a shard, whether it exists or not."""
        return self.root / f"shard-{number:05d}.safetensors"

    def partial_of(self, number: int) -> Path | UPath:
        """Path of the partial shard of an interrupted embedding."""
        return self.root / f"partial-{number:05d}.safetensors"

    @property
    def numbers(self) -> list[int]:
        """Numbers of the existing shards, in ascending order."""
        return sorted(int(m[1]) for m in map(SHARD.fullmatch, list_names(self.root)) if m)

    @property
    def shards(self) -> list[Path | UPath]:
        """The existing shards, in order."""
        return [self.path_of(n) for n in self.numbers]

    @property
    def manifest(self) -> Manifest:
        """The manifest as it is on disk now."""
        return Manifest(self.root)

    def missing(self) -> list[int]:
        """Numbers of the planned shards that do not exist yet."""
        return sorted(set(range(len(self.manifest))) - set(self.numbers))

    def header(self, shard: Path | UPath) -> dict[str, str]:
        """One shard's header.

        Raises:
            LatentrotError: the file is damaged or not a shard of latents.
        """
        return read_header(shard).metadata

    def headers(self) -> Iterator[tuple[int, ShardHeader]]:
        """Number and header of every shard, in order."""
        return ((number, read_header(self.path_of(number))) for number in self.numbers)

    @cached_property
    def space(self) -> LatentSpace:
        """The space of the latents: from the manifest, or from the first shard without one."""
        if manifest := self.manifest:
            return manifest.space
        if not self.numbers:
            raise LatentrotError(
                f"no latents in {self.root}; compute them with: latentrot embed --data DIR --out {self.root}"
            )
        headers = self.headers()
        first = next(headers)[1].space
        for number, header in headers:
            header.space.require_same(first, str(self.path_of(number)))
        return first

    def image_ids(self) -> list[str]:
        """Names of all embedded images, shard by shard; for large stores use `headers` and `count` instead of this list."""
        return [i for _, header in self.headers() for i in header.image_ids]

    def count(self) -> int:
        """Number of embedded images."""
        return sum(header.shape[0] for _, header in self.headers())

    def skipped(self) -> Iterator[tuple[int, str, str]]:
        """Shard number, name and error message of every image that could not be read."""
        return ((number, *entry) for number, header in self.headers() for entry in header.skipped)

    def append(self, image_ids: list[str], latents: torch.Tensor, space: LatentSpace) -> Path | UPath:
        """Write one more, unplanned shard: (n, c, h, w) latents, stored in half precision.

        Raises:
            LatentrotError: the store has a manifest, so no unplanned shard may be added, or it is not writable.
        """
        if self.manifest:
            raise LatentrotError(
                f"{self.root} has a manifest, so its shards are fixed; write to another folder and use latentrot embed merge"
            )
        path = self.path_of(max(self.numbers, default=-1) + 1)
        write_atomic(path, pack_shard(image_ids, latents, space, []))
        self.__dict__.pop("space", None)
        return path

    def write_index(self) -> Path | UPath:
        """Write index.parquet (image_id, shard, row), rebuilt from the shard headers, for other programs."""
        path = self.root / "index.parquet"
        if isinstance(path, Path):
            write_atomically(path, self._write_index)
        else:
            sink = pa.BufferOutputStream()
            self._write_index(sink)
            write_atomic(path, sink.getvalue().to_pybytes())
        return path

    def _write_index(self, sink: Path | pa.BufferOutputStream) -> None:
        with pq.ParquetWriter(sink, INDEX) as writer:
            pile: list[pa.Table] = []
            for number, header in self.headers():
                n = len(header.image_ids)
                shard = pa.DictionaryArray.from_arrays(np.zeros(n, np.int32), [self.path_of(number).name])
                pile.append(pa.table([header.image_ids, shard, np.arange(n, dtype=np.int32)], schema=INDEX))
                if len(pile) == 256:  # write larger row groups
                    writer.write_table(pa.concat_tables(pile).unify_dictionaries())
                    pile = []
            if pile:
                writer.write_table(pa.concat_tables(pile).unify_dictionaries())

    def batches(self, wanted: set[str] | None = None, size: int = 64) -> Iterator[tuple[list[str], torch.Tensor]]:
        """Stream the latents in constant memory.

        Args:
            wanted: names of the images to yield; None: all.
            size: latents read at a time.

        Yields:
            image_ids and their (n, c, h, w) float32 latents, n <= size.
        """
        for number, header in self.headers():
            for start in range(0, len(header.image_ids), size):
                names = header.image_ids[start : start + size]
                keep = np.array([wanted is None or n in wanted for n in names])
                if keep.any():
                    rows = read_latent_rows(self.path_of(number), header, start, start + len(names))
                    kept = rows[torch.from_numpy(keep)].float()
                    yield [n for n, k in zip(names, keep, strict=True) if k], kept

    def stream(self, shards: Iterable[tuple[int, ShardHeader]]) -> Iterator[tuple[int, ShardHeader, torch.Tensor]]:
        """Yield whole shards as stored; the next shard is read while the current one is processed.

        Args:
            shards: number and header of the shards to read.

        Yields:
            Number, header, and (n, c, h, w) latents in the stored precision. They lie in a reused buffer and are valid only
            until the next iteration.
        """
        buffers: list[torch.Tensor] = [torch.empty(0), torch.empty(0)]

        def read(turn: int, number: int, header: ShardHeader) -> torch.Tensor:
            flat = buffers[turn % 2]
            if flat.dtype != header.dtype or flat.numel() * flat.itemsize < header.size:
                flat = buffers[turn % 2] = torch.empty(header.size // header.dtype.itemsize, dtype=header.dtype)
            return read_latent_rows(self.path_of(number), header, out=flat)

        with ThreadPoolExecutor(1) as reader:
            ahead = None
            for turn, (number, header) in enumerate(shards):
                behind, ahead = ahead, (number, header, reader.submit(read, turn, number, header))
                if behind is not None:
                    yield behind[0], behind[1], behind[2].result()
            if ahead is not None:
                yield ahead[0], ahead[1], ahead[2].result()
