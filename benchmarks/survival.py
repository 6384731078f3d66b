"""Kill an embedding at 50 random moments; afterwards every image is there once, and the lines are the same to the last bit.

The model is a tiny random one, so that what is tried is the bookkeeping: real photographs are read, inverted and written
into shards of eight. Each run is a copy of this process, which spares it importing everything, killed by SIGKILL after a
random while; some images are unreadable. Writes survival.csv, a row per kill and one for the end.

    python benchmarks/survival.py --data ../shared/data/celeba --out benchmarks/survival.csv
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from tiny import save_pixel_model  # pyright: ignore[reportMissingImports]  the tests' own

from latentrot.data.celeba import FaceFolder
from latentrot.diffusion.load import LatentModel, load_model
from latentrot.diffusion.solve import Schedule
from latentrot.directions.fit import FitConfig, fit_directions
from latentrot.store.latent_store import LatentStore
from latentrot.store.verify import verify_store
from latentrot.store.work import embed_folder


@dataclass(frozen=True)
class Survival:
    """Kill an embedding again and again."""

    data: Path = Path("../shared/data/celeba")
    """folder of face images"""
    out: Path = Path("benchmarks/survival.csv")
    """table to write"""
    pictures: int = 300
    """how many of them"""
    kills: int = 50
    """how often"""
    longest: float = 0.15
    """when a run is killed at the latest, as a share of the time an undisturbed one takes"""
    seed: int = 0
    """of the moments, and of the images that are damaged"""


def some_pictures(config: Survival, folder: Path) -> Path:
    """A folder of links to the first images, every hundredth cut in half."""
    folder.mkdir()
    for i, name in enumerate(FaceFolder(config.data).ids[: config.pictures]):
        source = (FaceFolder(config.data).image_dir / name).resolve()
        if i % 100 == 50:
            (folder / name).write_bytes(source.read_bytes()[:700])
        else:
            (folder / name).symlink_to(source)
    return folder


def embed(data: Path, model: LatentModel, store: LatentStore) -> None:
    """What is killed."""
    embed_folder(FaceFolder(data), model, store, Schedule(steps=4), batch_size=8, shard_size=8, readers=2)


def killed_run(data: Path, model: LatentModel, store: LatentStore, after: float) -> bool:
    """Start a run and kill it; False if it was done before."""
    child = os.fork()
    if not child:
        embed(data, model, store)
        os._exit(0)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0


def slopes(store: LatentStore, labels: pd.DataFrame) -> bytes:
    """All lines of a store, as bytes."""
    config = FitConfig(width=30, min_count=1, calibrate=0, held_out=0.0)
    found = [fit_directions(store, labels, light, config) for light in ("left", "center", "right")]
    return b"".join(d.left.numpy().tobytes() + d.right.numpy().tobytes() for d in found)


def random_labels(names: list[str], seed: int) -> pd.DataFrame:
    """Some yaw and light for each image: the lines need not mean anything here."""
    rng = np.random.default_rng(seed)
    index = pd.Index(names, name="image_id")
    return pd.DataFrame({"yaw_deg": rng.uniform(-44, 44, len(names)),
                         "light": rng.choice(["left", "center", "right"], len(names))}, index=index)  # fmt: skip


def main(config: Survival) -> None:
    """Kill, resume, compare."""
    torch.set_num_threads(1)  # a forked copy must not find threads that were not copied
    rng, rows = random.Random(config.seed), []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data = some_pictures(config, root / "faces")
        model = load_model(save_pixel_model(root / "model"), "cpu")
        calm, store = LatentStore(root / "calm"), LatentStore(root / "latents")
        start = time.perf_counter()
        embed(data, model, calm)
        longest = config.longest * (time.perf_counter() - start)
        while len(rows) < config.kills:
            after = rng.uniform(0.0, longest)
            if killed_run(data, model, store, after):
                left = list(store.root.glob(".*.tmp")) if store.root.is_dir() else []
                damaged = sum("missing" not in p for p in verify_store(store)) if store.manifest else 0
                rows.append((len(rows) + 1, round(after, 3), len(store.numbers), len(left), damaged))
            # so that something is always left to do: a third of the shards go again
            for shard in store.shards if not store.missing() and len(rows) < config.kills else []:
                if rng.random() < 1 / 3:
                    shard.unlink()
        embed(data, model, store)
        table = pd.DataFrame(rows, columns=["kill", "after_s", "shards_there", "temporary_files", "damaged_shards"])
        labels = random_labels(FaceFolder(data).ids, config.seed)
        ids = store.image_ids()
        end = {
            "pictures": config.pictures,
            "embedded": len(ids),
            "embedded_twice": len(ids) - len(set(ids)),
            "skipped": len(list(store.skipped())),
            "verify_complaints": len(verify_store(store)),
            "checksums_equal": [h.checksum for _, h in store.headers()] == [h.checksum for _, h in calm.headers()],
            "lines_equal_bit_for_bit": slopes(store, labels) == slopes(calm, labels),
        }
    table.assign(**end).to_csv(config.out, index=False)
    print(table.describe().to_string())
    print(end)


if __name__ == "__main__":
    main(tyro.cli(Survival))
