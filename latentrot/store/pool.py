"""Embed in several processes of one machine: one per device, or several on the CPU."""

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

#: the embedder of this worker process, set by `start_worker`
EMBEDDERS: list[ShardEmbedder] = []


def devices_of(devices: str | None, workers: int | None, default: str | None) -> tuple[list[str | None], int | None]:
    """Device of each process, and number of threads per process if several processes share the CPU.

    Args:
        devices: device names, separated by commas; None: `default` for each of the workers.
        workers: number of processes that share `default`; None: one.
        default: device of these processes; None: the CPU.
    """
    if devices is not None:
        if workers is not None:
            raise LatentrotError(
                f"--devices {devices} and --workers {workers}: there is one process per device; give only one of them"
            )
        names = [name.strip() for name in devices.split(",")]
    else:
        names = [default or "cpu"] * (workers or 1)
    for name in set(names):
        resolve_device(name)  # raises here rather than in a worker process
    on_cpu = sum(name == "cpu" for name in names)
    return [*names], max(1, len(os.sched_getaffinity(0)) // on_cpu) if on_cpu else None


def start_worker(job: EmbedJob, devices: SimpleQueue[str | None], threads: int | None) -> None:
    """Initialise this process as a worker on the next free device; the worker exits with its parent process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C stops the worker at once, without a traceback
    threading.Thread(target=end_with_parent, daemon=True).start()
    EMBEDDERS.append(job.start(devices.get(), threads))


def end_with_parent() -> None:
    """Exit when the parent process dies: an orphaned worker would block its device."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def embed_one(number: int, force: bool) -> ShardReport:
    """Embed one shard in a worker process."""
    return EMBEDDERS[0].embed_shard(number, force=force)


def embed_in_processes(
    job: EmbedJob, numbers: Sequence[int], devices: Sequence[str | None], threads: int | None = None
) -> Iterator[ShardReport]:
    """Embed shards with one process per device.

    If a process dies, for instance for lack of memory, all processes are stopped and restarted for the remaining shards, as
    long as at least one shard was finished.

    Args:
        job: description of the run.
        numbers: shard numbers.
        devices: device of each process; repeat a device to start several processes on it.
        threads: CPU threads of each process.

    Yields:
        One report per shard, in the order in which shards are finished.

    Raises:
        LatentrotError: a shard cannot be embedded, or processes died before they finished a shard.
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
                    "finished a shard (killed for lack of memory?); use fewer of them, or smaller batches"
                ) from error


def one_pool(
    job: EmbedJob, numbers: Sequence[int], devices: Sequence[str | None], threads: int | None
) -> Iterator[ShardReport]:
    """Embed shards in one pool of processes; after a failure no further shard is started."""
    context = multiprocessing.get_context("spawn")  # CUDA does not work after a fork
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
            process.terminate()  # finishing the shard may take minutes, and partial shards are useless
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
