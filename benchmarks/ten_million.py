"""A store of ten million images without pixels: how long listing, resuming and merging take, and in how much memory.

Everything but the latents themselves is real: a manifest, 19,532 shards with their headers (their latents are holes in sparse
files, their checksums made up), files of statistics. Two halves are merged into one; then it is listed, some shards are
taken away and some names added, and what is left to do is found. Each step runs in a copy of this process, whose peak
memory is measured with and without what the imported libraries take. Writes a csv.

    python benchmarks/ten_million.py --out benchmarks/ten_million.csv
"""

from __future__ import annotations

import itertools
import json
import os
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import tyro

from latentrot.diffusion.fingerprint import Fingerprint
from latentrot.diffusion.solve import Schedule
from latentrot.directions.lines import YawBins
from latentrot.directions.statistics import BLOCK, Assigned, Statistics, block_sums
from latentrot.store.latent_store import LatentStore
from latentrot.store.merge import merge_stores
from latentrot.store.shard import KIND, read_header
from latentrot.store.space import LatentSpace

SPACE = LatentSpace("none", Fingerprint("0123456789abcdef"), Schedule(), (12, 32, 32), 2)
PER_SHARD = 512


@dataclass(frozen=True)
class TenMillion:
    """Time the bookkeeping of a large store."""

    out: Path = Path("benchmarks/ten_million.csv")
    """table to write"""
    pictures: int = 10_000_000
    """how many the store has"""
    scratch: Path | None = None
    """where the store is made, and removed again (2 GB)"""


def names(start: int, stop: int) -> pa.ChunkedArray:
    """Names of images, as a column."""
    edges = [*range(start, stop, 1_000_000), stop]
    eight = pc.PadOptions(8, "0")
    parts = []
    for first, last in itertools.pairwise(edges):
        digits = pc.call_function("utf8_lpad", [pa.array(np.arange(first, last)).cast(pa.string())], eight)
        parts.append(pc.call_function("binary_join_element_wise", [digits, pa.scalar("jpg"), pa.scalar(".")]))
    return pa.chunked_array(parts)


def hollow_shards(store: LatentStore) -> None:
    """A header and a hole for every shard of the manifest."""
    manifest = store.manifest
    for shards, column in manifest.chunks():
        ids = column.to_pylist()
        for number in shards:
            n = int(manifest.counts[number])
            some, ids = ids[:n], ids[n:]
            metadata = {"kind": KIND, "image_ids": json.dumps(some), "skipped": "[]", "checksum": f"{number:064d}"}
            size = 2 * n * int(np.prod(SPACE.shape))
            tensor = {"dtype": "F16", "shape": [n, *SPACE.shape], "data_offsets": [0, size]}
            table = json.dumps({"__metadata__": {**metadata, **SPACE.header()}, "latents": tensor}).encode()
            with store.path_of(number).open("wb") as file:
                file.write(len(table).to_bytes(8, "little") + table)
                file.truncate(8 + len(table) + size)


def resident(name: str) -> float:
    """Resident memory of this process, now (VmRSS) or at its peak (VmHWM), MB."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[name].split()[0]) / 1024


def measured(what: str, task: Callable[[], object]) -> dict[str, object]:
    """Run a task in a copy of this process: its result, seconds, and peak memory."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        Path("/proc/self/clear_refs").write_text("5")  # start the peak anew
        before, start, busy = resident("VmRSS"), time.perf_counter(), time.process_time()
        result = task()
        row = {
            "step": what, "result": str(result), "seconds": round(time.perf_counter() - start, 1),
            "cpu_seconds": round(time.process_time() - busy, 1), "peak_mb": round(resident("VmHWM")),
            "peak_mb_beyond_libraries": round(resident("VmHWM") - before),
        }  # fmt: skip
        os.write(writing, json.dumps(row).encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    row = json.loads(os.read(reading, 1 << 16) or json.dumps({"step": what, "result": "failed"}))
    print(row, flush=True)
    return row


def make_half(store: LatentStore, start: int, stop: int) -> int:
    """Plan a half and make its hollow shards."""
    store.manifest.extend(names(start, stop), SPACE, PER_SHARD, 64)
    hollow_shards(store)
    return len(store.numbers)


def left_to_do(store: LatentStore, pictures: int) -> tuple[int, int]:
    """What `embed` does before it embeds: plan the new names, find the missing shards."""
    manifest = store.manifest.extend(names(0, pictures + 1000), SPACE, PER_SHARD, 64)
    return len(manifest), len(store.missing())


def fake_assignment(number: int, store: LatentStore, bins: int) -> Assigned:
    """Groups of one shard's rows, as labels would give them."""
    header = read_header(store.path_of(number))
    groups = np.arange(len(header.image_ids)) * (number + 7) % (3 * bins)
    return Assigned(number, header, groups, np.zeros(len(groups)))


def merge_statistics(store: LatentStore, *, write: bool) -> float:
    """Merge the sums of all blocks, or write files for them first."""
    from safetensors.numpy import save  # noqa: PLC0415

    bins = YawBins()
    total = Statistics.empty(bins, int(np.prod(SPACE.shape)))
    folder = store.root / "statistics"
    folder.mkdir(exist_ok=True)
    numbers = store.numbers
    rng = np.random.default_rng(0)
    some = rng.normal(size=total.sums.shape)
    for block in range(len(store.manifest) // BLOCK):
        shards = [fake_assignment(n, store, 9) for n in numbers[block * BLOCK : (block + 1) * BLOCK]]
        path = folder / f"all-{block:05d}.safetensors"
        if write:
            header = {"kind": "latentrot statistics", "keys": json.dumps({str(s.number): s.key for s in shards})}
            path.write_bytes(save({"sums": some}, metadata=header))
        else:
            total.sums += block_sums(store, shards, path, total.sums.shape, None)
    return float(np.abs(total.sums).sum())


def main(config: TenMillion) -> None:
    """Make, measure, remove."""
    n = config.pictures
    with tempfile.TemporaryDirectory(dir=config.scratch) as folder:
        a, b, c = (LatentStore(Path(folder) / name) for name in "abc")
        rows = [
            measured("make the first half (not part of the claim)", lambda: make_half(a, 0, n // 2)),
            measured("make the second half (not part of the claim)", lambda: make_half(b, n // 2, n)),
            measured("merge two halves", lambda: merge_stores([a, b], c)),
            measured("list: count all latents from the headers", c.count),
            measured("list: names and shards of all, into index.parquet", lambda: c.write_index().stat().st_size),
            measured("nothing to do: the same pictures again", lambda: (len(c.manifest.extend(
                names(0, n), SPACE, PER_SHARD, 64)), len(c.missing()))),
            measured("write statistics (not part of the claim)", lambda: merge_statistics(c, write=True)),
            measured("merge all statistics, no latents read", lambda: merge_statistics(c, write=False)),
        ]  # fmt: skip
        for number in random.Random(0).sample(c.numbers, 500):
            c.path_of(number).unlink()
        rows.append(measured("resume: 500 shards lost, 1,000 new pictures", lambda: left_to_do(c, n)))
    pd.DataFrame(rows).to_csv(config.out, index=False)


if __name__ == "__main__":
    main(tyro.cli(TenMillion))
