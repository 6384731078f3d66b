"""Optimise parts of a network and keep the average of their weights."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

__all__ = ["optimise"]

log = logging.getLogger(__name__)

Network = TypeVar("Network", bound=nn.Module)


class OptimiserConfig(Protocol):
    """What `optimise` reads of a run's configuration."""

    @property
    def learning_rate(self) -> float:
        """The peak rate."""
        ...

    @property
    def weight_decay(self) -> float:
        """AdamW's decoupled weight decay."""
        ...

    @property
    def ema(self) -> float:
        """Decay per step of the averaged weights."""
        ...


def optimise(
    network: Network,
    parts: Sequence[nn.Module],
    steps: int,
    config: OptimiserConfig,
    *,
    loss_of: Callable[[Network, int], Tensor],
    name: str,
) -> None:
    """Train some parts of the network and leave their averaged weights in it."""
    network.train().to(memory_format=torch.channels_last)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True)
    weights = [p for part in parts for p in part.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=steps, pct_start=0.1)
    for step in (bar := tqdm(range(steps), disable=None, desc=name)):
        loss = loss_of(network, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        average.update_parameters(network)
        if step % 50 == 0:
            bar.set_postfix(loss=f"{loss.item():.4f}")
            log.info("%s %d/%d loss %.4f", name, step, steps, loss.item())
    network.load_state_dict(average.module.state_dict())
    network.eval()
