"""Many machines: shards are embedded by Ray actors, each of which holds the model.

Ray's core is used rather than Ray Data: what is scheduled is a handful of numbers, no data flows between machines, and a
shard that was in the hands of a lost node has to go to one that still lives. Restarting the lost actor, as Ray does by
itself, waits for room to do so, perhaps for ever; here shards are only given to actors that have reported ready, so
that any number of them may be lost or join on the way.
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
#: losses after which a shard is held to be what kills its workers
MOST_LOSSES = 5
#: seconds between two looks at whether machines have joined
LOOK = 5.0


class Worker:
    """An actor: a process somewhere in the cluster with the model loaded.

    A user's mistake is returned, not raised: Ray would wrap it into its own traceback.
    """

    def __init__(self, job: EmbedJob, threads: int | None) -> None:
        self.retry = job.retry
        self.embedder: LatentrotError | ShardEmbedder
        try:
            self.embedder = job.start("cuda" if ray.get_gpu_ids() else "cpu", threads)
        except LatentrotError as error:
            self.embedder = error

    def ready(self) -> LatentrotError | None:
        """What is wrong with starting, if anything."""
        return self.embedder if isinstance(self.embedder, LatentrotError) else None

    def embed_shard(self, number: int) -> ShardReport | LatentrotError:
        """The unit of work."""
        if isinstance(self.embedder, LatentrotError):
            return self.embedder
        try:
            return self.embedder.embed_shard(number, force=self.retry)
        except LatentrotError as error:
            return error


def connect(address: str) -> None:
    """Join a cluster: auto (the one this machine belongs to), ray://HOST:10001, HOST:6379, or local (this machine alone).

    Raises:
        LatentrotError: there is none.
    """
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError, RayError) as error:
        raise LatentrotError(
            f"no Ray cluster at {address!r} ({one_line(error, 120)}); start one: `ray start --head` on one machine, "
            "`ray start --address=HOST:6379` on the others"
        ) from error


def slots() -> tuple[dict[str, float], int]:
    """What an actor takes, and how many of them the cluster has room for just now."""
    there = ray.cluster_resources()
    kind = "GPU" if there.get("GPU") else "CPU"
    return ({"num_gpus": 1, "num_cpus": 1} if kind == "GPU" else {"num_cpus": 1}), int(there.get(kind, 0))


def embed_on_ray(
    job: EmbedJob, numbers: Sequence[int], *, workers: int | None = None, threads: int | None = 1
) -> Iterator[ShardReport]:
    """Embed shards on the cluster `connect` joined.

    Args:
        job: what to embed; data, store and model must be reachable by the same names on every machine.
        numbers: of the shards.
        workers: actors at most; None: one per GPU of the cluster, or per CPU where there is none, and more as machines join.
        threads: of each actor's computations on the CPU.

    Raises:
        LatentrotError: of the first shard that cannot be embedded, or of one that was lost again and again.
    """
    left, losses = list(numbers), dict.fromkeys(numbers, 0)
    # actors, whose methods Ray makes at run time
    starting: dict[ray.ObjectRef, Any] = {}
    running: dict[ray.ObjectRef, tuple[Any, int]] = {}
    try:
        while left or running:
            # as many actors as there is room and work for
            takes, room = slots()
            wanted = min(workers or room, len(left) + len(running))
            for _ in range(wanted - len(starting) - len(running)):
                actor = ray.remote(Worker).options(**takes).remote(job, threads)
                starting[actor.ready.remote()] = actor
            # whichever answers first: one that is ready, one that is done, one that is lost
            answered, _ = ray.wait([*starting, *running], num_returns=1, timeout=LOOK)
            for ref in answered:
                actor, number = (starting.pop(ref), None) if ref in starting else running.pop(ref)
                try:
                    answer = ray.get(ref)
                except RayActorError:
                    if number is not None:
                        log.warning("a worker was lost; shard %d goes to another", number)
                        losses[number] += 1
                        left.append(number)
                        if losses[number] == MOST_LOSSES:
                            raise LatentrotError(f"shard {number} has been lost with {MOST_LOSSES} workers") from None
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
