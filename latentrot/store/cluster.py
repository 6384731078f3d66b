"""Embed on several machines: Ray actors hold the model and embed shards.

Ray Core is used rather than Ray Data: only shard numbers are scheduled, no data flows between machines, and the shard of a
lost node must go to one that is still alive. Ray's own restart of a lost actor waits for free resources, perhaps forever;
here shards are assigned only to actors that have reported ready, so any number of them may be lost or join.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from latentrot.errors import LatentrotError, one_line
from latentrot.store.job import EmbedJob
from latentrot.store.work import ShardEmbedder, ShardReport

try:
    import ray
    from ray.exceptions import RayActorError, RayError
except ImportError as missing:  # an extra
    raise LatentrotError(
        "embedding on several machines needs Ray; install it: pip install 'latentrot[ray]'"
    ) from missing

__all__ = ["connect", "embed_on_ray"]

log = logging.getLogger(__name__)
#: number of lost workers after which a shard is assumed to crash them
MAX_LOSSES = 5
#: seconds between polls for new machines
POLL_S = 5.0


class Worker:
    """An actor: a process in the cluster with the model loaded.

    User errors are returned, not raised: Ray would wrap them in its own traceback.
    """

    def __init__(self, job: EmbedJob, threads: int | None) -> None:
        self.retry = job.retry
        self.embedder: LatentrotError | ShardEmbedder
        try:
            self.embedder = job.start("cuda" if ray.get_gpu_ids() else "cpu", threads)
        except LatentrotError as error:
            self.embedder = error

    def ready(self) -> LatentrotError | None:
        """The error that prevented the start; None after a successful start."""
        return self.embedder if isinstance(self.embedder, LatentrotError) else None

    def embed_shard(self, number: int) -> ShardReport | LatentrotError:
        """Embed one shard."""
        if isinstance(self.embedder, LatentrotError):
            return self.embedder
        try:
            return self.embedder.embed_shard(number, force=self.retry)
        except LatentrotError as error:
            return error


def connect(address: str) -> None:
    """Join a cluster: auto (that of this machine), ray://HOST:10001, HOST:6379, or local (this machine only).

    Raises:
        LatentrotError: no cluster runs at the address.
    """
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError, RayError) as error:
        raise LatentrotError(
            f"no Ray cluster at {address!r} ({one_line(error, 120)}); start one: `ray start --head` on one machine, "
            "`ray start --address=HOST:6379` on the others"
        ) from error


def slots() -> tuple[dict[str, float], int]:
    """Resources of an actor, and the number of actors that currently fit into the cluster."""
    there = ray.cluster_resources()
    kind = "GPU" if there.get("GPU") else "CPU"
    return ({"num_gpus": 1, "num_cpus": 1} if kind == "GPU" else {"num_cpus": 1}), int(there.get(kind, 0))


def embed_on_ray(
    job: EmbedJob, numbers: Sequence[int], *, workers: int | None = None, threads: int | None = 1
) -> Iterator[ShardReport]:
    """Embed shards on the cluster joined by `connect`.

    Args:
        job: what to embed; data, store and model must have the same names on every machine.
        numbers: shard numbers.
        workers: max number of actors; None: one per GPU of the cluster, or per CPU without GPUs, and more as machines join.
        threads: CPU threads of each actor.

    Yields:
        One report per shard, in the order in which shards are finished.

    Raises:
        LatentrotError: a shard cannot be embedded, or was lost with several workers.
    """
    left, losses = list(numbers), dict.fromkeys(numbers, 0)
    # actors; their methods are created by Ray at run time
    starting: dict[ray.ObjectRef, Any] = {}
    running: dict[ray.ObjectRef, tuple[Any, int]] = {}
    try:
        while left or running:
            # start one actor per free slot, but not more than there are shards
            takes, room = slots()
            wanted = min(workers or room, len(left) + len(running))
            for _ in range(wanted - len(starting) - len(running)):
                actor = ray.remote(Worker).options(**takes).remote(job, threads)
                starting[actor.ready.remote()] = actor
            # wait until an actor is ready, has finished its shard, or is lost
            answered, _ = ray.wait([*starting, *running], num_returns=1, timeout=POLL_S)
            for ref in answered:
                actor, number = (starting.pop(ref), None) if ref in starting else running.pop(ref)
                try:
                    answer = ray.get(ref)
                except RayActorError:
                    if number is not None:
                        log.warning("a worker was lost; shard %d is assigned to another worker", number)
                        losses[number] += 1
                        left.append(number)
                        if losses[number] == MAX_LOSSES:
                            raise LatentrotError(
                                f"shard {number} was lost with {MAX_LOSSES} workers; see their logs"
                            ) from None
                    continue
                if isinstance(answer, LatentrotError):
                    raise answer
                if isinstance(answer, ShardReport):
                    yield answer
                if left:
                    number = left.pop()
                    running[actor.embed_shard.remote(number)] = (actor, number)
                else:
                    ray.kill(actor)
    finally:
        for actor in [*starting.values(), *(actor for actor, _ in running.values())]:
            ray.kill(actor)
