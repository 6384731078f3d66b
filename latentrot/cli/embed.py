"""The command `embed`: invert images to latents."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from latentrot.cli.common import FrameOptions, RuntimeOptions, check_folder, check_minimum
from latentrot.errors import LatentrotError
from latentrot.files import check_writable

if TYPE_CHECKING:
    from latentrot.data.celeba import FaceFolder
    from latentrot.store.job import EmbedJob
    from latentrot.store.latent_store import LatentStore
    from latentrot.store.work import ShardReport

__all__ = ["Embed"]


@dataclass(frozen=True)
class Embed:
    """Invert a folder of aligned faces to latents; resumes after an interruption.

    A manifest assigns images to shards, which are written atomically. Running the command again completes the store, and
    continues interrupted shards; several processes can work on one store. New images in the folder are added, and changed
    images are embedded again. Unreadable images are skipped and listed; --retry tries them again.

    On several machines, which all need access to the images and to --out:

      (machine 1) ray start --head

      (machine 2) ray start --address=MACHINE1:6379

      (machine 1) latentrot embed --data /shared/celeba --out /shared/latents --engine ray
    """

    data: Path | None = None
    """CelebA folder, or any folder of aligned (178:218) or square face images"""
    out: str = "latents"
    """folder of the store, or an fsspec address such as s3://bucket/latents"""
    model: str | None = None
    """a diffusers folder, a Hub id or a bundled model (faces64, heads64); by default faces64"""
    steps: int | None = None
    """inversion steps"""
    solver: Literal["corrected", "fixed-point", "exact", "ddim"] | None = None
    """solver of the ODE"""
    batch_size: int = 64
    """batch size; halved if a batch does not fit into memory"""
    shard_size: int = 512
    """images per new shard"""
    readers: int = 4
    """threads per process for reading images"""
    devices: str | None = None
    """several devices, one process per device: cuda:0,cuda:1"""
    workers: int | None = None
    """number of processes on the CPU; with --engine ray: max number of actors"""
    engine: Literal["local", "ray"] = "local"
    """this machine, or a Ray cluster (needs the extra ray)"""
    address: str = "auto"
    """address of the Ray cluster: auto (the cluster of this machine), ray://HOST:10001, or local"""
    retry: bool = False
    """embed shards with unreadable images again"""
    verify: bool = False
    """only check every shard against the manifest and, with --data, against the images; lists problems with exit code 2"""
    frame: Annotated[FrameOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=FrameOptions)
    labels: Path | None = None
    """label table: after embedding, compute the sums for fit-directions with its default bins"""
    runtime: Annotated[RuntimeOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=RuntimeOptions)

    def run(self) -> None:
        """Embed the images that are missing in the store."""
        for option, value in (
            ("--batch-size", self.batch_size), ("--shard-size", self.shard_size), ("--readers", self.readers),
            ("--workers", 1 if self.workers is None else self.workers),
        ):  # fmt: skip
            check_minimum(option, value, 1)
        if self.verify:
            return self.check()
        if self.data is None:
            raise LatentrotError("no images given; expected --data FOLDER (only --verify runs without it)")
        check_folder(self.data)
        check_writable(f"{self.out}/manifest-00000.parquet")
        from latentrot.data.celeba import open_folder  # noqa: PLC0415

        folder = open_folder(self.data.resolve())
        labels = self.read_labels()
        self.frame.check([folder], self.runtime.device)
        from latentrot.store.latent_store import LatentStore  # noqa: PLC0415

        store = LatentStore(self.out)
        done, bad = self.embed(store, folder)
        for line in bad:
            print(f"skipped: {line}", file=sys.stderr)
        print(f"embedded {done} images, {len(bad)} skipped; {self.out} holds {store.count()}")
        if labels is not None:
            from latentrot.directions.fit import FitConfig, gather_statistics  # noqa: PLC0415

            counts = gather_statistics(store, labels, FitConfig()).counts
            print(f"statistics of {counts.sum()} labelled images are ready for fit-directions")

    def read_labels(self):  # noqa: ANN201  pandas is imported late
        """Read the label table before embedding, so that errors are reported early."""
        if self.labels is None:
            return None
        from latentrot.faces.table import read_labels  # noqa: PLC0415

        return read_labels(self.labels)

    def embed(self, store: LatentStore, folder: FaceFolder) -> tuple[int, list[str]]:
        """Plan the shards and run the engine; returns the number of embedded images, and errors."""
        from latentrot.diffusion.load import load_model  # noqa: PLC0415
        from latentrot.diffusion.solve import resolve_schedule  # noqa: PLC0415
        from latentrot.store.job import EmbedJob  # noqa: PLC0415
        from latentrot.store.space import LatentSpace  # noqa: PLC0415
        from latentrot.store.work import Sizes, consume_reports, embed_folder, pending_shards, plan, progress_bar  # noqa: PLC0415

        sizes = Sizes(self.batch_size, self.shard_size, self.readers)
        schedule = resolve_schedule(self.steps, self.solver, None)
        here = self.engine == "local" and self.devices is None and (self.workers or 1) == 1
        model = load_model(self.model, self.runtime.device if here else "cpu", self.runtime.dtype,
                           scale=self.runtime.scale, vae=self.runtime.vae)  # fmt: skip
        if here:
            return embed_folder(
                folder, model, store, schedule, batch_size=sizes.batch, shard_size=sizes.shard, readers=sizes.readers,
                retry=self.retry,
            )  # fmt: skip
        plan(folder, store, LatentSpace.of(model, schedule), sizes)
        numbers = pending_shards(store, retry=self.retry)
        place = str(store.root.resolve()) if isinstance(store.root, Path) else str(store.root)
        name = str(Path(self.model).resolve()) if self.model and Path(self.model).is_dir() else self.model
        scale, vae = self.runtime.scale, self.runtime.vae
        job = EmbedJob(folder.root, place, name, self.runtime.dtype, sizes, self.retry, scale, vae)
        with progress_bar(store, numbers) as bar:
            return consume_reports(store, counted(self.reports(job, numbers), bar.update), bar)

    def reports(self, job: EmbedJob, numbers: list[int]) -> Iterator[ShardReport]:
        """Run the selected engine; yields a report per shard."""
        if self.engine == "ray":
            from latentrot.store.cluster import connect, embed_on_ray  # noqa: PLC0415

            connect(self.address)
            return embed_on_ray(job, numbers, workers=self.workers)
        from latentrot.store.pool import devices_of, embed_in_processes  # noqa: PLC0415

        devices, threads = devices_of(self.devices, self.workers, self.runtime.device)
        return embed_in_processes(job, numbers, devices, threads)

    def check(self) -> None:
        """Check the store and print its problems."""
        from tqdm import tqdm  # noqa: PLC0415

        from latentrot.data.celeba import FaceFolder  # noqa: PLC0415
        from latentrot.store.latent_store import LatentStore  # noqa: PLC0415
        from latentrot.store.verify import verify_store  # noqa: PLC0415

        store, folder = LatentStore(self.out), None if self.data is None else FaceFolder(self.data)
        with tqdm(total=len(store.numbers), unit="shard", desc="verify", disable=None) as bar:
            problems = verify_store(store, bar.update, folder)
        if problems:
            for line in problems:
                print(line, file=sys.stderr)
            raise LatentrotError(f"{self.out}: {len(problems)} problems")
        print(f"{self.out}: all {len(store.numbers)} shards are intact; {store.count()} latents")


def counted(reports: Iterator[ShardReport], update: Callable[[int], object]) -> Iterator[ShardReport]:
    """Yield reports unchanged, and update the progress bar with each."""
    for report in reports:
        update(report.planned)
        yield report
