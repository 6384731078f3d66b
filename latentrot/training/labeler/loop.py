"""One stage of teaching a label network: some of its parts, by the training loop of every network."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from latentrot.runs import RunConfig
from latentrot.training.checkpoints import check_same_run, checkpoint_config, images_of_run, require_images
from latentrot.training.loop import CHECKPOINT, run_training

__all__ = ["Stages", "train_stage"]


@dataclass(frozen=True, eq=False)
class StageTask:
    """The task of one stage.

    Args:
        draw: the batch of a step, drawn from its generator alone.
        loss: of the network on it.
        config: the stage.
        offset: added to the seed, so that stages draw apart.
    """

    draw: Callable[[torch.Generator], tuple[Tensor, ...]]
    loss: Callable[[Any, tuple[Tensor, ...]], Tensor]
    config: RunConfig
    offset: int

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """See `Task.batch`."""
        return self.draw(torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.offset * 100_003 + step))

    def export(self, out: Path, average: Any, step: int) -> None:
        """Nothing but the checkpoint: the stages together make the network."""


@dataclass(frozen=True)
class Stages:
    """Where the stages of a network keep their checkpoints, and of which images.

    Args:
        folder: holds a folder for each stage.
        images: what the checkpoints say of the images, from `images_of_run`.
    """

    folder: Path
    images: Mapping[str, str]

    @classmethod
    def beside(cls, out: Path, data: Path, images: Tensor) -> Self:
        """Of the network that will be written to `out`, learned from (n, 3, h, w) uint8 images of a folder."""
        return cls(out.with_name(f"{out.stem}-run"), images_of_run(data, images))

    def remove(self) -> None:
        """Forget the checkpoints, which only serve a run that was stopped."""
        shutil.rmtree(self.folder, ignore_errors=True)


def train_stage(
    network: nn.Module,
    parts: Sequence[nn.Module],
    config: RunConfig,
    stages: Stages,
    name: str,
    *,
    draw: Callable[[torch.Generator], tuple[Tensor, ...]],
    loss: Callable[[Any, tuple[Tensor, ...]], Tensor],
    offset: int = 0,
) -> None:
    """Train some parts of a network and leave their averaged weights in it; goes on where it stopped.

    Args:
        network: to train.
        parts: of it, whose weights change.
        config: the stage.
        stages: where it keeps its checkpoint.
        name: of its folder.
        draw: the batch of a step, drawn from its generator alone.
        loss: of the network on it.
        offset: a number of the stage, so that stages draw apart.

    Raises:
        LatentrotError: its folder holds a checkpoint of another run, or of other images.
    """
    out = stages.folder / name
    stage = RunConfig(**{name: getattr(config, name) for name in RunConfig.__dataclass_fields__})
    stage = replace(stage, warmup=max(1, stage.steps // 10), decay=stage.steps * 2 // 3)
    if (out / CHECKPOINT).is_file():
        check_same_run(checkpoint_config(out / CHECKPOINT, RunConfig), stage, free=())
    require_images(out / CHECKPOINT, stages.images)
    task = StageTask(draw, loss, stage, offset)
    average = run_training(
        task, network, stage, out, save_every=stage.steps, device="cpu", metadata=stages.images, trained=parts
    )
    network.load_state_dict(average.state_dict())
    network.eval()
