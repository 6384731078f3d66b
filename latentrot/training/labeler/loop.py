"""Train parts of a label network as one stage of the common training loop."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from latentrot.runs import RunConfig
from latentrot.training.checkpoints import check_same_run, checkpoint_config, images_of_run
from latentrot.training.loop import CHECKPOINT, run_training

__all__ = ["Stages", "train_stage"]


@dataclass(frozen=True, eq=False)
class StageTask:
    """Task of one stage.

    Args:
        draw: random generator of a step -> batch.
        loss: network, batch -> loss.
        config: configuration of the stage.
        offset: added to the seed, so that stages differ.
    """

    draw: Callable[[torch.Generator], tuple[Tensor, ...]]
    loss: Callable[[Any, tuple[Tensor, ...]], Tensor]
    config: RunConfig
    offset: int

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """See `Task.batch`."""
        return self.draw(torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.offset * 100_003 + step))

    def export(self, out: Path, average: Any, step: int) -> None:
        """Export nothing: the network is complete only after all stages."""


@dataclass(frozen=True)
class Stages:
    """Checkpoints of the stages of a network.

    Args:
        folder: folder with one subfolder per stage.
        images: identification of the training images, from `images_of_run`.
    """

    folder: Path
    images: Mapping[str, str]

    @classmethod
    def beside(cls, out: Path, data: Path, images: Tensor) -> Self:
        """Place the stage checkpoints in a folder next to the output file.

        Args:
            out: file that the trained network is written to.
            data: folder of the training images.
            images: (n, 3, h, w) uint8 training images.
        """
        return cls(out.with_name(f"{out.stem}-run"), images_of_run([data], images))

    def remove(self) -> None:
        """Delete the checkpoints, which are needed only to resume."""
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
    """Train some parts of a network in place with weight averaging, or resume the training.

    Args:
        network: network to train.
        parts: parts of the network to train.
        config: configuration of the stage.
        stages: checkpoints of all stages.
        name: name of the stage's folder.
        draw: random generator of a step -> batch.
        loss: network, batch -> loss.
        offset: number of the stage, so that stages differ.

    Raises:
        LatentrotError: the stage's folder contains a checkpoint of another run or of other images.
    """
    out = stages.folder / name
    stage = RunConfig(**{name: getattr(config, name) for name in RunConfig.__dataclass_fields__})
    stage = replace(stage, warmup=max(1, stage.steps // 10), decay=stage.steps * 2 // 3)
    if (out / CHECKPOINT).is_file():
        check_same_run(checkpoint_config(out / CHECKPOINT, RunConfig), stage, free=())
    task = StageTask(draw, loss, stage, offset)
    average = run_training(
        task, network, stage, out, save_every=stage.steps, device="cpu", metadata=stages.images, trained=parts
    )
    network.load_state_dict(average.state_dict())
    network.eval()
