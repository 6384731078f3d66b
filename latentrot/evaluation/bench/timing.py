"""Wall times and floating-point rates."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from latentrot.diffusion.load import LatentModel

__all__ = ["flops_of", "median_seconds", "peak_flops"]


def median_seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Median wall time in seconds; with several repeats, a warm-up run precedes them."""
    if repeats > 1:
        work()
    return statistics.median(seconds(work) for _ in range(repeats))


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one run."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def flops_of(model: LatentModel) -> int:
    """Floating-point operations of one network evaluation of one image; a multiply-add counts as two."""
    # with requires_grad the convolutions are plain torch operations, which the counter supports
    state = torch.zeros(1, *model.latent_shape, device=model.device, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        model.velocity(state, len(model.alpha_bar) // 2)
    return counter.get_total_flops()


def peak_flops(size: int = 1024, repeats: int = 7, device: torch.device | str = "cpu") -> float:
    """Peak rate: operations per second of a float32 matrix product, best of several runs."""
    a = torch.randn(size, size, device=device)
    # reading a number synchronises with the device
    best = min(seconds(lambda: float((a @ a)[0, 0])) for _ in range(repeats))
    return 2 * size**3 / best
