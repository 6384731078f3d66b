"""One machine, several processes: one per device, or several on the CPU."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.queues import SimpleQueue

from latentrot.devices import resolve_device
from latentrot.errors import LatentrotError
from latentrot.store.job import EmbedJob
from latentrot.store.work import ShardEmbedder, ShardReport

__all__ = ["devices_of", "embed_in_processes"]

#: what this process embeds with, once `start_worker` has run in it
EMBEDDERS: list[ShardEmbedder] = []


def devices_of(devices: str | None, workers: int | None, default: str | None) -> tuple[list[str | None], int | None]:
    """The device of each process, and its threads where several share the processors.

    Args:
        devices: names joined by commas; None: `default` for each of the workers.
        workers: processes without a device of their own; None: one.
        default: their device; None: the CPU.
    """
    if devices is not None:
        if workers is not None:
            raise LatentrotError(
                f"--devices {devices} and --workers {workers}: there is one process per device; give one"
            )
        names = [name.strip() for name in devices.split(",")]
    else:
        names = [default or "cpu"] * (workers or 1)
    for name in set(names):
        resolve_device(name)  # complains here rather than in a process of its own
    on_cpu = sum(name == "cpu" for name in names)
    return [*names], max(1, len(os.sched_getaffinity(0)) // on_cpu) if on_cpu else None


def start_worker(job: EmbedJob, devices: SimpleQueue[str | None], threads: int | None) -> None:
    """Make this process a worker on the next free device, which ends when the process that started it does."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it at once, without a traceback
    threading.Thread(target=end_with_parent, daemon=True).start()
    EMBEDDERS.append(job.start(devices.get(), threads))


def end_with_parent() -> None:
    """A worker left behind by a killed run would hold its device for good."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def embed_one(number: int, force: bool) -> ShardReport:
    """A worker's task."""
    return EMBEDDERS[0].embed_shard(number, force=force)


def embed_in_processes(
    job: EmbedJob, numbers: Sequence[int], devices: Sequence[str | None], threads: int | None = None
) -> Iterator[ShardReport]:
    """Embed shards by one process per device.

    A process that dies, killed by the system when memory is short for instance, takes the others with it; they are started
    again for what is left, as long as that gets anything done.

    Args:
        job: what to embed.
        numbers: of the shards.
        devices: of each process; the same one several times starts several processes on it.
        threads: of each process's computations.

    Raises:
        LatentrotError: of the first shard that cannot be embedded, or processes died without finishing a shard.
    """
    left = list(numbers)
    while left:
        before = len(left)
        try:
            for report in one_pool(job, left, devices, threads):
                left.remove(report.number)
                yield report
        except BrokenProcessPool as error:
            if len(left) == before:
                raise LatentrotError(
                    f"the processes on {', '.join(str(d or 'the default device') for d in devices)} died before they "
                    "finished a shard (killed, for want of memory?); use fewer of them, or smaller batches"
                ) from error


def one_pool(
    job: EmbedJob, numbers: Sequence[int], devices: Sequence[str | None], threads: int | None
) -> Iterator[ShardReport]:
    """Reports in the order in which shards are finished; nothing is begun any more once one fails."""
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    free = context.SimpleQueue()
    for device in devices:
        free.put(device)
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(len(devices), context, start_worker, (job, free, threads))
    try:
        tasks: list[Future[ShardReport]] = [pool.submit(embed_one, n, job.retry) for n in numbers]
        for task in as_completed(tasks):
            yield task.result()
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()  # a shard may take minutes, and half of one is worth nothing
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
