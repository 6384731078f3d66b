"""Common configuration of training runs."""

from __future__ import annotations

from dataclasses import dataclass

from latentrot.errors import LatentrotError

__all__ = ["RunConfig"]


@dataclass(frozen=True)
class RunConfig:
    """Options of every training run; each network has its own defaults.

    Args:
        steps: total number of optimiser steps; a resumed run may have more, with a later decay.
        batch_size: samples per step, over all processes.
        learning_rate: AdamW's peak rate.
        warmup: steps of linear warm-up.
        decay: steps of linear decay to zero at the end.
        weight_decay: AdamW's decoupled weight decay.
        ema: decay per step of the averaged weights, which are exported.
        max_grad_norm: max norm of the gradients.
        seed: seed of all randomness.
    """

    steps: int = 1_000
    batch_size: int = 32
    learning_rate: float = 1e-3
    warmup: int = 100
    decay: int = 500
    weight_decay: float = 0.01
    ema: float = 0.995
    max_grad_norm: float = 1.0
    seed: int = 0

    def check_ranges(self, *ranges: tuple[str, float, float]) -> None:
        """Check fields, each given as its name, lowest and highest value.

        Raises:
            LatentrotError: the first field that is out of its range.
        """
        for name, low, high in ranges:
            if not low <= getattr(self, name) <= high:
                raise LatentrotError(f"{name} {getattr(self, name)}: expected {low} to {high}")
