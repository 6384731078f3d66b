"""The command `train pair`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from latentrot.cli.common import FrameOptions, TrainOptions, check_folder

__all__ = ["TrainPair"]


@dataclass(frozen=True, kw_only=True)
class TrainPair(TrainOptions):
    """Train a diffusion model that generates a face in another pose; resumes to the exact step.

    The pairs are rendered once, before training, and stored in OUT/pairs. On one core a pair takes up to a second with
    --condition mesh, and 0.05 seconds otherwise.
    """

    data: tuple[Path, ...]
    """folders of aligned (178:218) or square face images, each with pose.csv or views.csv; clip.csv (images of one scene) and
    landmarks68.csv are used if present"""
    backbone: Literal["pixel", "latent"] | None = None
    """pixel: a small U-Net started from an unconditional model; latent: a latent diffusion pipeline with an image encoder"""
    start: str | None = None
    """initial model: a diffusers folder, a Hub id or a bundled model; by default faces64"""
    condition: Literal["mesh", "source", "embedding"] | None = None
    """the conditioning input: the source rotated to the target's pose by geometry, the source itself, or its embedding"""
    shares: tuple[float, float, float] | None = None
    """shares of mirror pairs, pairs of one scene, and images rotated away and back"""
    sources: int | None = None
    """number of photographs to make pairs from"""
    held_out: float | None = None
    """share of the people held out of training"""
    workers: int = 1
    """number of rendering processes"""
    frame: Annotated[FrameOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=FrameOptions)

    def run(self) -> None:
        """Render the pairs, train and write the model."""
        for folder in self.data:
            check_folder(folder)
        self.check()
        from latentrot.rotators.pair.config import PairConfig  # noqa: PLC0415
        from latentrot.training.pair import train_pair  # noqa: PLC0415

        self.frame.check(self.data, self.device)
        options = {"save_every": self.save_every, "workers": self.workers, "device": self.device}
        print(f"wrote {train_pair(self.data, self.out, self.config(PairConfig), **options)}")
