"""Seconds, and what the processor could do in them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from latentrot.diffusion.load import LatentModel

__all__ = ["flops_of", "median_seconds", "peak_flops"]


def median_seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Median wall time of some runs, after one that warms up where there are several."""
    if repeats > 1:
        work()
    return statistics.median(seconds(work) for _ in range(repeats))


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one run."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def flops_of(model: LatentModel) -> int:
    """Floating-point operations of one network evaluation of one image (a multiplication and an addition are two)."""
    # with a gradient asked for the own network's convolutions are torch's, which the counter knows
    state = torch.zeros(1, *model.latent_shape, device=model.device, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        model.velocity(state, len(model.alpha_bar) // 2)
    return counter.get_total_flops()


def peak_flops(size: int = 1024, repeats: int = 7, device: torch.device | str = "cpu") -> float:
    """Operations per second of a float32 matrix product, the best of some: what this device gives at most."""
    a = torch.randn(size, size, device=device)
    best = min(seconds(lambda: float((a @ a)[0, 0])) for _ in range(repeats))  # a number of it: waits for the device
    return 2 * size**3 / best
