"""Merge stores of one model and schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from latentrot.errors import LatentrotError
from latentrot.store.latent_store import LatentStore
from latentrot.store.manifest import CHUNK, Manifest, Part, pack_part
from latentrot.store.places import create_atomic, link_or_copy, write_atomic
from latentrot.store.shard import pack_shard, read_header, read_latent_rows
from latentrot.store.work import Sizes

__all__ = ["merge_stores"]


@dataclass(frozen=True)
class ShardSource:
    """A shard to take over.

    Attributes:
        store: store that contains the shard.
        number: number of the shard in that store.
        drop: images to leave out because the merged store already contains them.
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
    """Merge several stores into one planned store; shards become hard links where possible.

    Only existing shards are taken over, so the result is complete; images of missing shards are planned again when their
    folder is embedded into it. Stores without a manifest get one. An interrupted merge is continued by running it again.

    Args:
        stores: all of one model and schedule.
        out: the new store.
        drop_duplicates: if an image is in two stores, keep the latent of the first. Otherwise duplicates are refused, because
            two folders may use one name for different images.
        progress: called with 1 for every shard taken over.

    Returns:
        Number of images planned in the new store, and number of dropped duplicates.

    Raises:
        LatentrotError: the stores differ in model or schedule, images are duplicated, or the target store exists.
    """
    for i, store in enumerate(stores):
        for other in stores[
            : i + 1
        ]:  # compare all pairs: two stores may differ in a part that an older one does not record
            store.space.require_same(other.space, str(store.root))
    parts: list[Part] = []
    sources: list[ShardSource] = []
    dropped = 0
    for store in stores:
        part, taken, duplicates = plan_source(store, Manifest(out.root, parts), drop_duplicates=drop_duplicates)
        parts += [part] if taken else []
        sources += taken
        dropped += duplicates
    for part in parts:
        if not create_atomic(part.path, part.content or b"") and part.path.read_bytes() != part.content:
            raise LatentrotError(f"{out.root} already contains a store; choose another folder for the merged store")
    there = set(out.numbers)
    for number, source in enumerate(sources):
        if number not in there:
            transfer_shard(source, out, number)
        if progress is not None:
            progress(1)
    return int(Manifest(out.root).counts.sum()), dropped


def named_shards(store: LatentStore) -> Iterator[list[tuple[int, pa.Array]]]:
    """Yield numbers and image names of the existing shards, a few shards at a time."""
    manifest, there = store.manifest, set(store.numbers)
    if not manifest:
        yield from ([(number, pa.array(header.image_ids, pa.string()))] for number, header in store.headers())
        return
    for shards, names in manifest.chunks(CHUNK):
        column = names.combine_chunks()
        starts = np.cumsum([0, *manifest.counts[shards.start : shards.stop]])
        pile = [(n, column.slice(a, b - a)) for n, a, b in zip(shards, starts[:-1], starts[1:], strict=True)]
        yield [(n, ids) for n, ids in pile if n in there]


def plan_source(store: LatentStore, before: Manifest, *, drop_duplicates: bool) -> tuple[Part, list[ShardSource], int]:
    """Plan taking over one store.

    Args:
        store: the store to take over.
        before: manifest of the stores already planned.
        drop_duplicates: leave out images that are already planned, instead of refusing them.

    Returns:
        The part of the new manifest for this store, its shards, and the number of dropped images.
    """
    sources: list[ShardSource] = []
    examples: list[str] = []
    duplicates = 0

    def kept() -> Iterator[pa.Array]:
        nonlocal duplicates
        for pile in named_shards(store):
            if not pile:
                continue
            known = before.holds(pa.chunked_array([ids for _, ids in pile])) if before else None
            at = 0
            for number, ids in pile:
                double = np.zeros(len(ids), bool) if known is None else known[at : at + len(ids)]
                at += len(ids)
                duplicates += int(double.sum())
                drop = frozenset(ids.filter(pa.array(double)).to_pylist()) if double.any() else frozenset()
                if len(examples) < 3:
                    examples.extend(sorted(drop)[:3])
                if not double.all():
                    sources.append(ShardSource(store, number, drop))
                    yield ids.filter(pa.array(~double)) if drop else ids

    size = int(store.manifest.counts.max()) if store.manifest else 1 << 30
    batch = store.manifest.batch_size(0) if store.manifest else Sizes.batch
    content = pack_part(kept(), store.space, size, batch)
    if duplicates and not drop_duplicates:
        raise LatentrotError(
            f"{duplicates} images of {store.root} are also in earlier stores, such as {', '.join(examples[:3])}; if they "
            "are the same images, pass --drop-duplicates to keep only those of the first store"
        )
    return Part(before.root / f"manifest-{len(before.parts):05d}.parquet", content), sources, duplicates


def transfer_shard(source: ShardSource, out: LatentStore, number: int) -> None:
    """Link a shard, or rewrite it if images are dropped or it has no checksum."""
    path = source.store.path_of(source.number)
    header = read_header(path)
    header.space.require_same(source.store.space, str(path))
    if header.checksum and not source.drop:
        link_or_copy(path, out.path_of(number))
        return
    keep = torch.tensor([i not in source.drop for i in header.image_ids], dtype=torch.bool)
    latents = read_latent_rows(path, header)[keep]
    names = [i for i in header.image_ids if i not in source.drop]
    skipped = [(i, why) for i, why in header.skipped if i not in source.drop]
    batch = int(header.metadata.get("batch", 0))
    digests = [d for i, d in zip(header.image_ids, header.digests, strict=True) if i not in source.drop]
    write_atomic(out.path_of(number), pack_shard(names, latents, header.space, skipped, batch, digests))
