"""A backbone of your own: `train`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from latentrot.cli.common import at_least

__all__ = ["Train"]


@dataclass(frozen=True)
class Train:
    """Train a DDIM backbone from a folder of faces; goes on where it stopped, to the exact step."""

    data: Path
    """CelebA folder, or any folder of aligned (178:218) or square face pictures"""
    out: Path
    """run folder: checkpoint, log, sample sheets, model/"""
    steps: int | None = None
    """optimiser steps in all"""
    batch_size: int | None = None
    """pictures a step"""
    resolution: int | None = None
    """side of the crops in pixels"""
    small_steps: int | None = None
    """steps at the start at half the resolution"""
    channels: tuple[int, ...] | None = None
    """U-Net widths, finest level first"""
    decay: int | None = None
    """steps of the final linear decay of the rate"""
    prediction_type: Literal["v_prediction", "epsilon", "sample"] | None = None
    """what the network predicts"""
    seed: int | None = None
    """of everything random"""
    save_every: int = 500
    """steps between checkpoints"""
    device: str | None = None
    """cpu forces the CPU"""

    def run(self) -> None:
        """Train with the options given; the others come from the run's checkpoint or the defaults."""
        from dataclasses import fields, replace  # noqa: PLC0415

        from latentrot.embed.train import TrainConfig, checkpoint_config, train  # noqa: PLC0415

        at_least("--save-every", self.save_every, 1)
        checkpoint = self.out / "checkpoint.safetensors"
        base = checkpoint_config(checkpoint) if checkpoint.is_file() else TrainConfig()
        names = {f.name for f in fields(TrainConfig)}
        given = {n: v for n in names if (v := getattr(self, n, None)) is not None}
        model = train(self.data, self.out, replace(base, **given), save_every=self.save_every, device=self.device)
        print(f"wrote {model}")
