"""Embed one shard of the manifest and write it atomically; other modules distribute shards over processes."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm
from upath import UPath

from latentrot.data.arrays import to_tensor
from latentrot.data.celeba import FaceFolder
from latentrot.data.digests import image_digests
from latentrot.diffusion.load import LatentModel
from latentrot.diffusion.solve import Schedule, invert
from latentrot.errors import LatentrotError, one_line
from latentrot.progress import Progress
from latentrot.store.identity import forget_changed
from latentrot.store.latent_store import LatentStore
from latentrot.store.manifest import Manifest
from latentrot.store.places import write_atomic
from latentrot.store.shard import checksum_of, pack_shard, raw_bytes, read_header, read_latent_rows
from latentrot.store.space import LatentSpace

__all__ = ["ShardEmbedder", "ShardReport", "Sizes", "consume_reports", "embed_folder", "pending_shards", "plan"]

log = logging.getLogger(__name__)
#: age in seconds after which a temporary file counts as a leftover and is deleted
LEFTOVER_AGE = 3600
#: seconds between writes of a partial shard; a killed process loses at most this much work
KEEP_S = 30.0
#: parts of PyTorch's messages for lack of memory; on the CPU it raises no special exception
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


@dataclass(frozen=True)
class Sizes:
    """Sizes of batches and shards.

    Args:
        batch: images inverted together; stored in the manifest, because the last bits of a latent may depend on it.
        shard: latents per shard.
        readers: threads per process that read images in advance.
    """

    batch: int = 64
    shard: int = 512
    readers: int = 4


@dataclass(frozen=True)
class ShardReport:
    """Result of one shard.

    Attributes:
        number: shard number.
        done: number of images embedded by this call; 0 if another process has written the shard meanwhile.
        planned: number of images of the shard.
        skipped: an error message for each image that could not be read.
        process: process id.
    """

    number: int
    done: int
    planned: int
    skipped: tuple[str, ...] = ()
    process: int = field(default_factory=os.getpid)


def plan(folder: FaceFolder, store: LatentStore, space: LatentSpace, sizes: Sizes) -> Manifest:
    """Write the manifest, or extend it by new images of the folder; delete the latents of changed images.

    Raises:
        LatentrotError: the store belongs to another model, schedule or folder, or has no manifest.
    """
    manifest = store.manifest
    if not manifest and store.numbers:
        store.space.require_same(space, str(store.root))
        raise LatentrotError(
            f"{store.root} has no manifest that assigns images to shards; convert it into a planned store "
            f"with: latentrot embed merge {store.root} --out NEW; then embed into that"
        )
    if store.numbers:
        forget_changed(store, folder)
    return manifest.extend(folder.names, space, sizes.shard, sizes.batch)


def pending_shards(store: LatentStore, *, retry: bool = False, generator: random.Random | None = None) -> list[int]:
    """Numbers of the shards to embed, in random order, so that concurrent runs rarely collide.

    Args:
        store: store with a manifest.
        retry: include shards in which images were skipped.
        generator: random generator of the order; None: a different order in every run.
    """
    numbers = set(store.missing())
    if retry:
        numbers |= {number for number, _, _ in store.skipped()}
    order = sorted(numbers)
    (generator or random.SystemRandom()).shuffle(order)
    return order


class ShardEmbedder:
    """Embeds shards; one instance per process or cluster worker.

    Args:
        folder: the images.
        model: the model.
        store: store with a manifest.
        sizes: number of reader threads; the batch size of a shard is that in the manifest, halved if memory is short.
    """

    def __init__(self, folder: FaceFolder, model: LatentModel, store: LatentStore, sizes: Sizes) -> None:
        self.folder, self.model, self.store, self.sizes = folder, model, store, sizes
        self.manifest = store.manifest
        self.space = self.manifest.space
        self.space.require_same(LatentSpace.of(model, self.space.schedule), str(store.root))
        self.limit: int | None = None  # number of images that fit into memory together, once known

    def embed_shard(
        self, number: int, *, force: bool = False, progress: Callable[[int], object] | None = None
    ) -> ShardReport:
        """Embed the images of one shard and write it atomically.

        The latents depend on the manifest and the model only, so embedding a shard twice gives the same file. An unreadable
        image is replaced by a grey one, so that the batch of the other images is unchanged; it is recorded in the shard's
        header, and the shard counts as complete.

        Args:
            number: shard number.
            force: embed the shard even if it exists.
            progress: called with the number of images processed since the last call.

        Raises:
            LatentrotError: the store is not writable, or the folder contains none of the shard's images.
        """
        ids = self.manifest.shard_ids(number)
        path = self.store.path_of(number)
        if path.exists() and not force:
            if progress is not None:
                progress(len(ids))
            return ShardReport(number, 0, len(ids))
        batch = self.manifest.batch_size(number)
        partial = None if force else self.store.partial_of(number)
        digests = image_digests(self.folder.image_dir, ids)
        latents, errors, begun, limit = self.read_partial(partial, ids, batch, digests)
        if progress is not None and begun:
            progress(begun)
        done, kept_at = begun, time.monotonic()
        try:
            for start, crops, bad in read_ahead(
                self.folder, ids, self.model.resolution, batch, self.sizes.readers, begun
            ):
                z = self.invert(to_tensor(crops)).half()
                latents[start : start + len(crops)] = z
                unusable = np.flatnonzero(~torch.isfinite(z).flatten(1).all(1).numpy())
                errors |= {start + int(i): "its latent is not finite" for i in unusable} | bad
                done = start + len(crops)
                if progress is not None:
                    progress(len(crops))
                if time.monotonic() - kept_at > KEEP_S:
                    self.write_partial(partial, ids[:done], latents[:done], errors, batch, digests[:done])
                    kept_at = time.monotonic()
        except BaseException:  # including Ctrl-C: keep the finished batches
            if done > begun:
                with suppress(Exception):
                    self.write_partial(partial, ids[:done], latents[:done], errors, batch, digests[:done])
            raise
        self.require_folder(number, ids, errors)
        kept = [i for i in range(len(ids)) if i not in errors]
        skipped = [(ids[i], errors[i]) for i in sorted(errors)]
        used = min(batch, limit, self.limit or batch)
        rows, made_of = [ids[i] for i in kept], [digests[i] for i in kept]
        write_atomic(path, pack_shard(rows, latents[kept], self.space, skipped, used, made_of))
        if partial is not None:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
        return ShardReport(number, len(kept), len(ids), tuple(complaint for _, complaint in skipped))

    def write_partial(
        self, path: Path | UPath | None, ids: list[str], latents: torch.Tensor, errors: dict[int, str], batch: int,
        digests: list[str],
    ) -> None:  # fmt: skip
        """Write the finished batches of a shard as a partial shard beside the shards."""
        if path is not None:
            skipped = [(ids[i], errors[i]) for i in sorted(errors) if i < len(ids)]
            used = min(batch, self.limit or batch)
            write_atomic(path, pack_shard(ids, latents, self.space, skipped, used, digests))

    def read_partial(
        self, path: Path | UPath | None, ids: list[str], batch: int, digests: list[str]
    ) -> tuple[torch.Tensor, dict[int, str], int, int]:
        """Read a partial shard.

        Returns:
            Latents (n, c, h, w), filled up to the images done; error messages by index; number of images done; batch size.
        """
        latents, nothing = torch.zeros(len(ids), *self.space.shape, dtype=torch.float16), ({}, 0, batch)
        if path is None or not path.exists():
            return latents, *nothing
        try:
            header = read_header(path)
            rows, done = read_latent_rows(path, header), len(header.image_ids)
            header.space.require_same(self.space, str(path))
        except LatentrotError:  # damaged, or of another model: start again
            return latents, *nothing
        same_images = done % batch == 0 and header.image_ids == ids[:done] and header.digests == digests[:done]
        if not same_images or checksum_of(header.metadata, raw_bytes(rows)) != header.checksum:
            return latents, *nothing
        latents[:done] = rows
        place = {name: i for i, name in enumerate(header.image_ids)}
        return (
            latents,
            {place[name]: complaint for name, complaint in header.skipped},
            done,
            int(header.metadata["batch"]),
        )

    def invert(self, x: torch.Tensor) -> torch.Tensor:
        """Invert a batch of images; halve the batch if memory is short."""
        while True:
            size = min(len(x), self.limit or len(x))
            try:
                plan = self.space.schedule
                return torch.cat([invert(self.model, p, schedule=plan, residual=False) for p in x.split(size)])
            except RuntimeError as error:
                short = isinstance(error, torch.OutOfMemoryError) or any(w in str(error) for w in OUT_OF_MEMORY)
                if not short:
                    raise
                if size == 1:
                    raise LatentrotError(
                        f"{self.model.device}: not enough memory for a single image; choose another device"
                    ) from error
                self.limit = (size + 1) // 2
            if self.model.device.type == "cuda":
                torch.cuda.empty_cache()
            log.warning("%s: out of memory with %d images at a time; continuing with %d",
                        self.model.device, size, self.limit)  # fmt: skip

    def require_folder(self, number: int, ids: list[str], errors: dict[int, str]) -> None:
        """Refuse to complete a shard if the folder contains none of its images, as when it is not mounted."""
        if len(errors) == len(ids) and not any((self.folder.image_dir / i).exists() for i in ids):
            raise LatentrotError(
                f"none of the {len(ids)} images of shard {number} is in {self.folder.image_dir}; use the folder for which "
                f"the store was planned, or drop these permanently with: latentrot embed merge {self.store.root} --out NEW"
            )


def read_ahead(
    folder: FaceFolder, ids: list[str], size: int, batch: int, readers: int, first: int = 0
) -> Iterator[tuple[int, list[np.ndarray], dict[int, str]]]:
    """Read the images of a shard in batches from index `first`, in threads that work one batch ahead.

    Yields:
        Index of the batch's first image, (size, size, 3) uint8 crops, grey if unreadable, and error messages by index.
    """

    def read(place: int) -> np.ndarray | str:
        try:
            return folder.read_crop(ids[place], size)
        except LatentrotError as error:
            return one_line(error)

    starts = range(first, len(ids), batch)
    with ThreadPoolExecutor(readers) as pool:
        ahead: dict[int, list[Future[np.ndarray | str]]] = {}
        for start in starts:
            for later in (start, start + batch):
                if later not in ahead:
                    ahead[later] = [pool.submit(read, p) for p in range(later, min(later + batch, len(ids)))]
            got = [future.result() for future in ahead.pop(start)]
            bad = {start + i: crop for i, crop in enumerate(got) if isinstance(crop, str)}
            yield start, [np.full((size, size, 3), 128, np.uint8) if isinstance(c, str) else c for c in got], bad


def consume_reports(store: LatentStore, reports: Iterator[ShardReport], bar: tqdm) -> tuple[int, list[str]]:
    """Consume the reports of an engine and write the index; returns the number of embedded images and error messages."""
    done, bad = 0, {}
    for report in reports:
        done += report.done
        bad[report.number] = report.skipped
        bar.set_postfix_str(f"shard {report.number}", refresh=False)
    if store.numbers:
        store.write_index()
    remove_leftovers(store.root)
    return done, [complaint for number in sorted(bad) for complaint in bad[number]]


def remove_leftovers(root: Path | UPath) -> None:
    """Delete temporary files of killed runs; files younger than an hour are kept, as they may be in use."""
    for path in root.glob(".*.tmp") if isinstance(root, Path) else ():
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > LEFTOVER_AGE:
                path.unlink()


def progress_bar(store: LatentStore, numbers: list[int]) -> Progress:
    """Progress bar over the images of the given shards."""
    counts = store.manifest.counts
    left = int(counts[numbers].sum())
    return Progress("embed", int(counts.sum()), initial=int(counts.sum()) - left)


def embed_folder(
    folder: FaceFolder,
    model: LatentModel,
    store: LatentStore,
    schedule: Schedule | None = None,
    *,
    batch_size: int = Sizes.batch,
    shard_size: int = Sizes.shard,
    readers: int = Sizes.readers,
    retry: bool = False,
    generator: random.Random | None = None,
) -> tuple[int, list[str]]:
    """Embed every image of a folder that is missing in the store, in this process.

    Args:
        folder: the images.
        model: the model.
        store: target store; an existing one is continued if it has the same model and schedule.
        schedule: schedule of the inversion; None: the default.
        batch_size: images inverted at a time; images planned earlier keep their batch size.
        shard_size: latents per new shard.
        readers: threads that read images in advance.
        retry: read unreadable images again.
        generator: random generator of the order of the shards (see `pending_shards`).

    Returns:
        Number of images embedded by this call, and one error message per unreadable image.
    """
    sizes = Sizes(batch_size, shard_size, readers)
    plan(folder, store, LatentSpace.of(model, schedule or Schedule()), sizes)
    numbers = pending_shards(store, retry=retry, generator=generator)
    embedder = ShardEmbedder(folder, model, store, sizes)
    with progress_bar(store, numbers) as bar:
        reports = (embedder.embed_shard(n, force=retry, progress=bar.update) for n in numbers)
        return consume_reports(store, reports, bar)
