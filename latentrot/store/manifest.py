"""The plan of a store, which assigns images to shards: written before embedding, append-only.

Every `manifest-NNNNN.parquet` is one part. Its row groups are the shards, in order, and its only column holds the names
of their images. So the names of one shard can be read alone, ten million names take no more memory than their
characters, and parquet's statistics per row group tell which groups may contain a name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from upath import UPath

from latentrot.errors import LatentrotError, one_line
from latentrot.files import check_format
from latentrot.store.places import create_atomic, list_names
from latentrot.store.space import LatentSpace

__all__ = ["Manifest", "Part", "pack_part"]

KIND = "latentrot manifest"
#: version of the file format, raised when an older version would misread it
FORMAT = 1
#: number of names compared at a time
CHUNK = 500_000


def part_names(root: Path | UPath) -> list[str]:
    """Names of the manifest's files, in order."""
    return sorted(n for n in list_names(root) if n.startswith("manifest-") and n.endswith(".parquet"))


def pack_part(
    shards: Iterable[pa.Array | pa.ChunkedArray], space: LatentSpace, shard_size: int, batch_size: int
) -> bytes:
    """Serialise one part of a manifest.

    Args:
        shards: names of the images; arrays longer than `shard_size` are split into several shards.
        space: space of the planned latents.
        shard_size: images per shard; a shorter array stays one shorter shard.
        batch_size: images inverted together.
    """
    header = {
        "kind": KIND,
        "format": str(FORMAT),
        "shard_size": str(shard_size),
        "batch_size": str(batch_size),
        **space.header(),
    }
    schema = pa.schema([("image_id", pa.string())], metadata=header)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, use_dictionary=False) as writer:
        for names in shards:
            writer.write_table(pa.table([names], schema=schema), row_group_size=shard_size)
    return sink.getvalue().to_pybytes()


def _header(file: pq.ParquetFile) -> dict[str, str]:
    """Key-value metadata of a parquet file's schema."""
    return {k.decode(): v.decode() for k, v in (file.schema_arrow.metadata or {}).items()}


@dataclass(frozen=True)
class Part:
    """One file of a manifest.

    Args:
        path: the file.
        content: bytes of the file, if it is not written yet.
    """

    path: Path | UPath
    content: bytes | None = None

    @cached_property
    def file(self) -> pq.ParquetFile:
        """The open file.

        Raises:
            LatentrotError: the file is damaged.
        """
        try:
            file = pq.ParquetFile(self._source())
            kind = _header(file).get("kind")
            if kind != KIND:
                raise LatentrotError(f"{self.path} is not a manifest of latents (kind {kind!r})")
            check_format(_header(file).get("format", 1), FORMAT, self.path)
        except (OSError, ValueError) as error:
            if isinstance(error, LatentrotError):
                raise
            raise LatentrotError(
                f"{self.path} is damaged ({one_line(error)}); delete the store, or save its shards by moving them into "
                "another folder and running: latentrot embed merge FOLDER --out NEW"
            ) from error
        return file

    def _source(self) -> Any:
        """Input for pyarrow: the given bytes, the path of a local file, or a stream of a remote one."""
        if self.content is not None:
            return pa.BufferReader(self.content)
        return self.path if isinstance(self.path, Path) else self.path.open("rb")

    @cached_property
    def header(self) -> dict[str, str]:
        """Header entries of the file."""
        return _header(self.file)

    def __len__(self) -> int:
        return self.file.num_row_groups

    @cached_property
    def counts(self) -> np.ndarray:
        """(shards,) number of images per shard."""
        groups = self.file.metadata
        return np.array([groups.row_group(i).num_rows for i in range(len(self))], np.int64)

    @cached_property
    def ranges(self) -> tuple[np.ndarray, np.ndarray]:
        """Alphabetically first and last name of each shard, (shards,) each."""
        groups = (self.file.metadata.row_group(i).column(0).statistics for i in range(len(self)))
        both = [(s.min, s.max) if s and s.has_min_max else ("", "\U0010ffff") for s in groups]
        return np.array([a for a, _ in both]), np.array([b for _, b in both])

    def names(self, shards: Iterable[int]) -> pa.ChunkedArray:
        """Names of the images of some shards of this part."""
        return self.file.read_row_groups(list(shards), use_threads=False).column(0)


class Manifest:
    """All parts of a store's manifest; shards are numbered across them.

    Args:
        root: the store's folder.
        parts: parts to use instead of those in the folder.
    """

    def __init__(self, root: Path | UPath, parts: list[Part] | None = None) -> None:
        self.root = root
        self.parts = [Part(root / name) for name in part_names(root)] if parts is None else parts
        self.starts = np.cumsum([0, *map(len, self.parts)])

    def __len__(self) -> int:
        """Number of planned shards."""
        return int(self.starts[-1])

    def __bool__(self) -> bool:
        return bool(self.parts)

    @property
    def space(self) -> LatentSpace:
        """Space of the latents; `extend` ensures that all parts agree."""
        try:
            return LatentSpace.from_header(self.parts[0].header)
        except (KeyError, ValueError, TypeError) as error:
            raise LatentrotError(
                f"{self.parts[0].path} does not state its model and schedule ({one_line(error)}); it is damaged, or "
                "of another version"
            ) from error

    @cached_property
    def counts(self) -> np.ndarray:
        """(shards,) number of images per shard."""
        return np.concatenate([np.zeros(0, np.int64), *(p.counts for p in self.parts)])

    def part_of(self, shard: int) -> tuple[Part, int]:
        """The part of a shard, and the shard's index in it."""
        if not 0 <= shard < len(self):
            raise LatentrotError(f"shard {shard}: {self.root} has shards 0 to {len(self) - 1}")
        part = int(np.searchsorted(self.starts, shard, side="right")) - 1
        return self.parts[part], shard - int(self.starts[part])

    def shard_ids(self, shard: int) -> list[str]:
        """Names of the images of one shard."""
        part, place = self.part_of(shard)
        return part.names([place]).to_pylist()

    def batch_size(self, shard: int) -> int:
        """Number of images of one shard inverted together."""
        return int(self.part_of(shard)[0].header["batch_size"])

    def chunks(self, size: int = CHUNK) -> Iterator[tuple[range, pa.ChunkedArray]]:
        """Iterate over all names, a few whole shards at a time.

        Args:
            size: number of names at a time, at least one shard's.

        Yields:
            The shards, and the names of their images.
        """
        for part, start in zip(self.parts, self.starts, strict=False):
            block = np.cumsum(part.counts) // size
            for b in np.unique(block):
                here = np.flatnonzero(block == b)
                yield range(start + here[0], start + here[-1] + 1), part.names(here)

    def holds(self, names: pa.Array | pa.ChunkedArray) -> np.ndarray:
        """Whether each of n names is already planned: (n,) bool. Fastest for alphabetically sorted names."""
        known = np.zeros(len(names), bool)
        for start in range(0, len(names), CHUNK):
            some = names.slice(start, CHUNK)
            ends = pc.call_function("min_max", [some])
            low, high = ends["min"].as_py(), ends["max"].as_py()
            for part in self.parts:
                first, last = part.ranges
                here = np.flatnonzero((first <= high) & (last >= low))
                shards = max(1, CHUNK // max(1, int(part.counts.max())))  # number of shards compared at a time
                for k in range(0, len(here), shards):
                    pile = here[k : k + shards]
                    among = pc.SetLookupOptions(part.names(pile).combine_chunks())
                    found = pc.call_function("is_in", [some], among)
                    known[start : start + len(some)] |= np.asarray(found)
        return known

    def extend(self, names: pa.ChunkedArray, space: LatentSpace, shard_size: int, batch_size: int) -> Manifest:
        """Plan shards for names that are not planned yet.

        Args:
            names: image names in the order of embedding.
            space: space of the latents; must equal that of the store.
            shard_size: images per new shard.
            batch_size: images inverted together.

        Returns:
            The manifest, including what concurrent runs have planned.

        Raises:
            LatentrotError: the space differs from the store's, or the store is not writable.
        """
        manifest = self
        while True:
            if manifest:
                manifest.space.require_same(space, str(self.root))
            new = names.filter(pa.array(~manifest.holds(names))) if manifest else names
            if not len(new):
                return manifest
            part = self.root / f"manifest-{len(manifest.parts):05d}.parquet"
            # if another run wrote this part first, plan again
            create_atomic(part, pack_part([new], space, shard_size, batch_size))
            manifest = Manifest(self.root)
