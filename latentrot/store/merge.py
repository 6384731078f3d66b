"""Several stores of one model and schedule become one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from latentrot.errors import LatentrotError
from latentrot.store.latent_store import LatentStore
from latentrot.store.manifest import CHUNK, Manifest, Part, pack_part
from latentrot.store.places import create_whole, same_file, write_whole
from latentrot.store.shard import pack_shard, read_header, read_rows
from latentrot.store.work import Sizes

__all__ = ["merge_stores"]


@dataclass(frozen=True)
class Source:
    """A shard to take over.

    Attributes:
        store: where it is.
        number: there.
        drop: pictures to leave out, which the merged store has already.
    """

    store: LatentStore
    number: int
    drop: frozenset[str] = frozenset()


def merge_stores(
    stores: Sequence[LatentStore],
    out: LatentStore,
    *,
    drop_duplicates: bool = False,
    progress: Callable[[int], object] | None = None,
) -> tuple[int, int]:
    """Make one planned store of several; the shards are hard links where they can be.

    Only shards that are there are taken over, so that the result is complete; pictures whose shards are missing are planned
    again when their folder is embedded into it. Stores without a manifest get one. Run again after a kill, it goes on.

    Args:
        stores: all of one model and schedule.
        out: the new store.
        drop_duplicates: where a picture is in two stores, keep the first one's. Refused by default, since two folders may
            well call different pictures by one name.
        progress: called with 1 for every shard taken over.

    Returns:
        How many pictures are planned in the new store, and how many duplicates were left out.

    Raises:
        LatentrotError: stores of different models or schedules, duplicates, or a store that is there already.
    """
    for i, store in enumerate(stores):
        for other in stores[: i + 1]:  # each with each: what an old store does not know, two others may disagree on
            store.space.require_same(other.space, str(store.root))
    parts: list[Part] = []
    sources: list[Source] = []
    dropped = 0
    for store in stores:
        part, taken, twice = plan_source(store, Manifest(out.root, parts), drop_duplicates=drop_duplicates)
        parts += [part] if taken else []
        sources += taken
        dropped += twice
    for part in parts:
        if not create_whole(part.path, part.content or b"") and part.path.read_bytes() != part.content:
            raise LatentrotError(f"{out.root} is a store already; choose another folder for the merged one")
    there = set(out.numbers)
    for number, source in enumerate(sources):
        if number not in there:
            take_over(source, out, number)
        if progress is not None:
            progress(1)
    return int(Manifest(out.root).counts.sum()), dropped


def named_shards(store: LatentStore) -> Iterator[list[tuple[int, pa.Array]]]:
    """Numbers and pictures of the shards that are there, some at a time."""
    manifest, there = store.manifest, set(store.numbers)
    if not manifest:
        yield from ([(number, pa.array(header.image_ids, pa.string()))] for number, header in store.headers())
        return
    for shards, names in manifest.chunks(CHUNK):
        column = names.combine_chunks()
        starts = np.cumsum([0, *manifest.counts[shards.start : shards.stop]])
        pile = [(n, column.slice(a, b - a)) for n, a, b in zip(shards, starts[:-1], starts[1:], strict=True)]
        yield [(n, ids) for n, ids in pile if n in there]


def plan_source(store: LatentStore, before: Manifest, *, drop_duplicates: bool) -> tuple[Part, list[Source], int]:
    """Plan taking over one store.

    Args:
        store: to take over.
        before: what is planned of the stores before it.
        drop_duplicates: leave pictures out that are planned already, rather than refuse them.

    Returns:
        Its part of the new manifest, its shards, and how many pictures are left out.
    """
    sources: list[Source] = []
    examples: list[str] = []
    twice = 0

    def kept() -> Iterator[pa.Array]:
        nonlocal twice
        for pile in named_shards(store):
            if not pile:
                continue
            known = before.holds(pa.chunked_array([ids for _, ids in pile])) if before else None
            at = 0
            for number, ids in pile:
                double = np.zeros(len(ids), bool) if known is None else known[at : at + len(ids)]
                at += len(ids)
                twice += int(double.sum())
                drop = frozenset(ids.filter(pa.array(double)).to_pylist()) if double.any() else frozenset()
                if len(examples) < 3:
                    examples.extend(sorted(drop)[:3])
                if not double.all():
                    sources.append(Source(store, number, drop))
                    yield ids.filter(pa.array(~double)) if drop else ids

    size = int(store.manifest.counts.max()) if store.manifest else 1 << 30
    batch = store.manifest.batch_size(0) if store.manifest else Sizes.batch
    content = pack_part(kept(), store.space, size, batch)
    if twice and not drop_duplicates:
        raise LatentrotError(
            f"{twice} pictures of {store.root} are in the stores before it, such as {', '.join(examples[:3])}; if they are "
            "the same pictures, --drop-duplicates keeps the first store's"
        )
    return Part(before.root / f"manifest-{len(before.parts):05d}.parquet", content), sources, twice


def take_over(source: Source, out: LatentStore, number: int) -> None:
    """Link a shard, or write it anew where pictures are left out or it has no checksum."""
    path = source.store.path_of(source.number)
    header = read_header(path)
    header.space.require_same(source.store.space, str(path))
    if header.checksum and not source.drop:
        same_file(path, out.path_of(number))
        return
    keep = torch.tensor([i not in source.drop for i in header.image_ids], dtype=torch.bool)
    latents = read_rows(path, header)[keep]
    names = [i for i in header.image_ids if i not in source.drop]
    skipped = [(i, why) for i, why in header.skipped if i not in source.drop]
    batch = int(header.metadata.get("batch", 0))
    digests = [d for i, d in zip(header.image_ids, header.digests, strict=True) if i not in source.drop]
    write_whole(out.path_of(number), pack_shard(names, latents, header.space, skipped, batch, digests))
