"""A pair model of your own: `train pair`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from latentrot.cli.common import FrameOptions, at_least, check_folder, given_of
from latentrot.files import check_writable

__all__ = ["TrainPair"]


@dataclass(frozen=True)
class TrainPair:
    """Train a diffusion model that draws a face as seen from elsewhere; goes on where it stopped, to the exact step.

    Pairs are rendered first, once, and kept in the run's folder: a good part of a second each on one core where geometry
    turns the source, else a twentieth.
    """

    data: tuple[Path, ...]
    """folders of aligned (178:218) or square face images, each with pose.csv (or views.csv) beside them, and if there
    clip.csv (which images show one scene) and landmarks68.csv"""
    out: Path
    """run folder: pairs/, checkpoint, log, sample sheets, model/"""
    backbone: Literal["pixel", "latent"] | None = None
    """pixel: a small U-Net made of an unconditional model; latent: a latent diffusion pipeline with an image encoder"""
    start: str | None = None
    """the model to start from: a diffusers folder, a Hub id or a bundled model; by default faces64"""
    condition: Literal["mesh", "source", "embedding"] | None = None
    """what the model is shown: the source turned by geometry to the target's pose, the source as it is, or its embedding"""
    shares: tuple[float, float, float] | None = None
    """of mirror pairs, scenes, and images turned there and back"""
    sources: int | None = None
    """photographs that pairs are made of"""
    steps: int | None = None
    """optimiser steps in all"""
    batch_size: int | None = None
    """pairs a step"""
    learning_rate: float | None = None
    """AdamW's peak rate"""
    decay: int | None = None
    """steps of the final linear decay of the rate"""
    held_out: float | None = None
    """share of the people kept out of training"""
    seed: int | None = None
    """of everything random"""
    save_every: int = 500
    """steps between checkpoints; the first of a run is written after a minute"""
    workers: int = 1
    """processes that render pairs"""
    device: str | None = None
    """cpu forces the CPU"""
    frame: Annotated[FrameOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=FrameOptions)

    def run(self) -> None:
        """Train with the options given; the others come from the run's checkpoint or the defaults."""
        for folder in self.data:
            check_folder(folder)
        check_writable(self.out / "checkpoint.safetensors")
        at_least("--save-every", self.save_every, 1)
        at_least("--workers", self.workers, 1)
        from dataclasses import replace  # noqa: PLC0415

        from latentrot.rotators.pair.config import PairConfig  # noqa: PLC0415
        from latentrot.training.checkpoints import checkpoint_config  # noqa: PLC0415
        from latentrot.training.pair import train_pair  # noqa: PLC0415

        checkpoint = self.out / "checkpoint.safetensors"
        base = checkpoint_config(checkpoint, PairConfig) if checkpoint.is_file() else PairConfig()
        config = replace(base, **given_of(self, PairConfig))
        self.frame.check(self.data, self.device)
        options = {"save_every": self.save_every, "workers": self.workers, "device": self.device}
        print(f"wrote {train_pair(self.data, self.out, config, **options)}")
