"""Render training images once and store them as tensors in shards, which are written atomically.

An interrupted run continues with the next shard. A shard is rendered again if it is damaged or its header records other
settings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from threadpoolctl import threadpool_limits

from latentrot.errors import LatentrotError
from latentrot.files import write_atomically
from latentrot.progress import Progress

__all__ = ["RenderJob", "read_shards", "render_shards"]


@dataclass(frozen=True)
class RenderJob:
    """A shard to render.

    Args:
        path: file of the shard.
        header: settings of the shard, which its header records.
        arguments: arguments of the function that renders it.
    """

    path: Path
    header: dict[str, str]
    arguments: tuple[Any, ...]

    def is_done(self) -> bool:
        """Whether the shard exists and its header records the same settings."""
        try:
            with safe_open(self.path, "pt") as file:
                told = file.metadata() or {}
            return bool(told) and all(self.header.get(name) == value for name, value in told.items())
        except (OSError, SafetensorError):
            return False

    def run(self, make: Callable[..., dict[str, torch.Tensor]]) -> None:
        """Render the shard and write it."""
        tensors = make(*self.arguments)
        write_atomically(self.path, lambda p: save_file(tensors, p, metadata=self.header))


def render_shards(
    jobs: Sequence[RenderJob], make: Callable[..., dict[str, torch.Tensor]], *, what: str, workers: int = 1
) -> list[Path]:
    """Render all shards that do not exist yet.

    Args:
        jobs: the shards.
        make: function that returns the tensors of a shard by name; must be at module level if there are several workers.
        what: name of the task, for the progress bar.
        workers: number of processes.

    Returns:
        The shards' files, in order.
    """
    left = [job for job in jobs if not job.is_done()]
    with Progress(f"render {what}", len(jobs), "shard", initial=len(jobs) - len(left)) as bar:
        if workers <= 1:
            for job in left:
                job.run(make)
                bar.update()
        else:
            with ProcessPoolExecutor(workers, get_context("spawn"), one_thread) as pool:
                for future in [pool.submit(job.run, make) for job in left]:
                    future.result()
                    bar.update()
    return [job.path for job in jobs]


def one_thread() -> None:
    """Limit a worker to one thread, because several workers with competing threads are slower than one worker."""
    torch.set_num_threads(1)
    threadpool_limits(1)


def read_shards(paths: Sequence[Path]) -> dict[str, torch.Tensor]:
    """Read and concatenate the tensors of all shards.

    Raises:
        LatentrotError: a shard cannot be read.
    """
    parts: dict[str, list[torch.Tensor]] = {}
    for path in paths:
        try:
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118  a safetensors file is not a dict
                    parts.setdefault(name, []).append(file.get_tensor(name))
        except (OSError, SafetensorError) as error:
            raise LatentrotError(f"{path} is damaged ({error}); delete it, and it is rendered again") from error
    return {name: torch.cat(tensors) for name, tensors in parts.items()}
