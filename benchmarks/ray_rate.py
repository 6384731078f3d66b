"""How much faster two workers of a Ray cluster embed than one, and that their latents are the same.

Starts a real cluster of two nodes of one processor each on this machine, as processes. First one worker embeds all images,
then two. The time counts from each worker's first shard to the last one, since a worker takes seconds to start. To be run on
a machine with two processors to spare.

    python benchmarks/ray_rate.py --data ../shared/data/celeba --out benchmarks/ray_rate.csv
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import ray
import tyro
from ray.cluster_utils import Cluster

from latentrot.data.celeba import FaceFolder
from latentrot.diffusion.load import load_model
from latentrot.diffusion.solve import Schedule
from latentrot.store.cluster import connect, embed_on_ray
from latentrot.store.job import EmbedJob
from latentrot.store.latent_store import LatentStore
from latentrot.store.space import LatentSpace
from latentrot.store.verify import verify_store
from latentrot.store.work import Sizes, pending_shards, plan


@dataclass(frozen=True)
class RayRate:
    """Time one worker and two."""

    data: Path = Path("../shared/data/celeba")
    """folder of face images"""
    out: Path = Path("benchmarks/ray_rate.csv")
    """table to write"""
    pictures: int = 240
    """how many of them"""
    model: str | None = None
    """by default the bundled model"""


def timed(job: EmbedJob, workers: int) -> dict[str, object]:
    """Embed with so many workers: images per second."""
    store = LatentStore(job.store)
    numbers = pending_shards(store)
    begun = time.perf_counter()
    moments, pictures = [], []
    for report in embed_on_ray(job, numbers, workers=workers):
        moments.append(time.perf_counter())
        pictures.append(report.done)
    # each worker's first shard starts before the clock does
    rate = sum(pictures[workers:]) / (moments[-1] - moments[workers - 1])
    return {
        "workers": workers, "pictures": sum(pictures), "seconds": round(moments[-1] - begun, 1), "pictures_per_s": rate,
        "verify_complaints": len(verify_store(store)), "load_before": os.getloadavg()[0],
    }  # fmt: skip


def main(config: RayRate) -> None:
    """Measure one worker, then two, on the same cluster."""
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    connect(str(cluster.address))
    sizes = Sizes(batch=8, shard=8, readers=1)
    space = LatentSpace.of(load_model(config.model, "cpu"), Schedule())
    rows, checksums = [], []
    try:
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder) / "faces"
            data.mkdir()
            source = FaceFolder(config.data)
            for name in source.ids[: config.pictures]:
                (data / name).symlink_to((source.image_dir / name).resolve())
            for workers in (1, 2):
                store = LatentStore(Path(folder) / f"latents-{workers}")
                plan(FaceFolder(data), store, space, sizes)
                rows.append(timed(EmbedJob(data, str(store.root), config.model, sizes=sizes), workers))
                checksums.append([h.checksum for _, h in store.headers()])
                print(rows[-1], flush=True)
    finally:
        ray.shutdown()
        cluster.shutdown()
    faster = rows[1]["pictures_per_s"] / rows[0]["pictures_per_s"]
    pd.DataFrame(rows).assign(times_one=[1.0, faster], latents_equal=checksums[0] == checksums[1]).to_csv(
        config.out, index=False
    )
    print(f"two workers: {faster:.2f} times one; latents equal: {checksums[0] == checksums[1]}")


if __name__ == "__main__":
    main(tyro.cli(RayRate))
