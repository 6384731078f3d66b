"""How fast a fit streams latents, beside dd on the same files, and in how much memory.

Makes a store of 200,000 random latents of 64x64 images (12x32x32 in half precision: 4.9 GB) in a scratch folder and removes
it again. dd and the fit read the same files, first with none of them in the page cache (cold), then with all of them (warm).
Then a second fit with the same bins, which reads statistics only. The same with directions of properties: one regression on
all columns of a label table. Each in a copy of this process, to measure its memory.

    python benchmarks/fit_throughput.py --scratch /tmp --out benchmarks/fit_throughput.csv
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import tyro
from threadpoolctl import threadpool_limits

from latentrot.diffusion.fingerprint import Fingerprint
from latentrot.diffusion.solve import Schedule
from latentrot.directions.fit import FitConfig, fit_directions
from latentrot.directions.property_fit import PropertyFitConfig, fit_properties
from latentrot.faces.attributes import AGE, ATTRIBUTE_COLUMNS
from latentrot.faces.colours import COLOUR_COLUMNS
from latentrot.store.latent_store import LatentStore
from latentrot.store.shard import pack_shard
from latentrot.store.space import LatentSpace

SPACE = LatentSpace("none", Fingerprint("0123456789abcdef"), Schedule(), (12, 32, 32), 2)


@dataclass(frozen=True)
class Throughput:
    """Time fits beside dd."""

    out: Path = Path("benchmarks/fit_throughput.csv")
    """table to write"""
    latents: int = 200_000
    """how many"""
    shard_size: int = 512
    """latents per shard"""
    threads: int = 1
    """of the fits' computations; one more thread reads"""
    repeats: int = 3
    """of each measurement"""
    scratch: Path | None = None
    """where the store is made, and removed again"""


def make_store(root: Path, config: Throughput) -> tuple[LatentStore, pd.DataFrame]:
    """Random latents, the same ones shifted from shard to shard, and random labels with all columns of `latentrot label`."""
    root.mkdir()
    store = LatentStore(root)
    latents = torch.randn(config.shard_size, *SPACE.shape, generator=torch.Generator().manual_seed(0)).half()
    for number, start in enumerate(range(0, config.latents, config.shard_size)):
        names = [f"{i:06d}.jpg" for i in range(start, min(start + config.shard_size, config.latents))]
        shifted = latents.roll(number, 0)[: len(names)]
        store.path_of(number).write_bytes(pack_shard(names, shifted, SPACE, []))
    rng = np.random.default_rng(0)
    index = pd.Index([f"{i:06d}.jpg" for i in range(config.latents)], name="image_id")
    yaw, light = rng.uniform(-44, 44, config.latents), rng.choice(["left", "center", "right"], config.latents)
    labels = pd.DataFrame({"yaw_deg": yaw, "pitch_deg": yaw[::-1], "light": light}, index=index)
    names = [*ATTRIBUTE_COLUMNS, *COLOUR_COLUMNS]
    shown = pd.DataFrame(rng.uniform(0, 1, (config.latents, len(names))), index=index, columns=pd.Index(names))
    return store, labels.join(shown.assign(**{AGE: shown[AGE] * 80}))


def forget(paths: list[Path]) -> None:
    """Have none of the files in the page cache."""
    os.sync()
    for path in paths:
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def dd(paths: list[Path]) -> None:
    """Read the files as dd does."""
    for path in paths:
        subprocess.run(["dd", f"if={path}", "of=/dev/null", "bs=1M"], check=True, capture_output=True)


def resident(name: str) -> float:
    """Resident memory of this process, now (VmRSS) or at its peak (VmHWM), MB."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[name].split()[0]) / 1024


def measured(what: str, task: Callable[[], object], size: float) -> dict[str, object]:
    """Run a task in a copy of this process: GB/s, and peak memory."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        Path("/proc/self/clear_refs").write_text("5")  # start the peak anew
        before, start, busy = resident("VmRSS"), time.perf_counter(), time.process_time()
        task()
        seconds = time.perf_counter() - start
        row = {
            "what": what, "seconds": round(seconds, 2), "cpu_seconds": round(time.process_time() - busy, 2),
            "gb_per_s": round(size / seconds / 1e9, 2), "peak_mb": round(resident("VmHWM")),
            "peak_mb_beyond_libraries": round(resident("VmHWM") - before), "load": round(os.getloadavg()[0], 1),
        }  # fmt: skip
        os.write(writing, json.dumps(row).encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    row = json.loads(os.read(reading, 1 << 16))
    print(row, flush=True)
    return row


def main(config: Throughput) -> None:
    """Make, measure, remove."""
    torch.set_num_threads(config.threads)
    threadpool_limits(config.threads)
    rows = []
    with tempfile.TemporaryDirectory(dir=config.scratch) as folder:
        store, labels = make_store(Path(folder) / "latents", config)
        paths = [Path(str(p)) for p in store.shards]
        size = float(sum(p.stat().st_size for p in paths))
        fit_config = FitConfig(calibrate=0, held_out=0.0)

        def fit() -> None:
            fit_directions(store, labels, "left", fit_config)

        def fit_all() -> None:
            fit_properties(store, labels, config=PropertyFitConfig(held_out=0.0))

        for cache in ("cold", "warm"):
            for _ in range(config.repeats):
                for name, task in (("dd", lambda: dd(paths)), ("fit", fit), ("fit of properties", fit_all)):
                    shutil.rmtree(Path(folder) / "latents" / "statistics", ignore_errors=True)
                    if cache == "cold":
                        forget(paths)
                    else:
                        dd(paths)
                    rows.append(measured(f"{name}, {cache}", task, size))
        fit()
        rows.append(measured("second fit, same bins", fit, size))
        rows.append(measured("second fit of properties", fit_all, size))
    table = pd.DataFrame(rows)
    best = {str(what): float(rows["gb_per_s"].max()) for what, rows in table.groupby("what")}
    for cache in ("cold", "warm"):
        for name in ("fit", "fit of properties"):
            share = best[f"{name}, {cache}"] / best[f"dd, {cache}"]
            print(f"{cache}: the best {name} streams {share:.0%} of the best dd")
    table.assign(latents=config.latents, shard_size=config.shard_size, threads=config.threads).to_csv(
        config.out, index=False
    )


if __name__ == "__main__":
    main(tyro.cli(Throughput))
