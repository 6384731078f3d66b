"""A diffusion model of your own, and a network that embeds in one evaluation: `train model`, `train embedder`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from latentrot.cli.common import FrameOptions, at_least, check_folder, given_of
from latentrot.files import check_writable

__all__ = ["TrainEmbedder", "TrainModel"]


@dataclass(frozen=True)
class TrainModel:
    """Train a DDIM backbone from a folder of faces; goes on where it stopped, to the exact step.

    Thousands of photographs give a model worth having; a few hundred only show that it runs.
    """

    data: Path
    """CelebA folder, or any folder of aligned (178:218) or square face images"""
    out: Path
    """run folder: checkpoint, log, sample sheets, model/"""
    init: str | None = None
    """begin with this model's weights instead of random ones: a bundled model, a diffusers folder or a Hub id; no steps at
    half the resolution then, unless asked for"""
    steps: int | None = None
    """optimiser steps in all"""
    batch_size: int | None = None
    """images a step"""
    resolution: int | None = None
    """side of the crops in pixels"""
    small_steps: int | None = None
    """steps at the start at half the resolution"""
    channels: tuple[int, ...] | None = None
    """U-Net widths, finest level first"""
    learning_rate: float | None = None
    """AdamW's peak rate"""
    decay: int | None = None
    """steps of the final linear decay of the rate"""
    prediction_type: Literal["v_prediction", "epsilon", "sample"] | None = None
    """what the network predicts"""
    seed: int | None = None
    """of everything random"""
    save_every: int = 500
    """steps between checkpoints; the first of a run is written after a minute"""
    frame: Annotated[FrameOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=FrameOptions)
    device: str | None = None
    """cpu, cuda or cuda:N; by default cuda where there is one. Several: start by accelerate launch, without --device"""

    def run(self) -> None:
        """Train with the options given; the others come from the run's checkpoint or the defaults."""
        check_folder(self.data)
        check_writable(self.out / "checkpoint.safetensors")
        from dataclasses import replace  # noqa: PLC0415

        from latentrot.devices import resolve_device  # noqa: PLC0415
        from latentrot.training.backbone import TrainConfig, default_config, train  # noqa: PLC0415
        from latentrot.training.checkpoints import checkpoint_config  # noqa: PLC0415

        at_least("--save-every", self.save_every, 1)
        if self.device is not None:
            resolve_device(self.device)  # before the images are read
        checkpoint = self.out / "checkpoint.safetensors"
        base = checkpoint_config(checkpoint, TrainConfig) if checkpoint.is_file() else default_config(self.init)
        given = given_of(self, TrainConfig)
        self.frame.check([self.data], self.device)
        model = train(self.data, self.out, replace(base, **given), save_every=self.save_every, device=self.device)
        print(f"wrote {model}")


@dataclass(frozen=True)
class TrainEmbedder:
    """Train a network that embeds an image in one evaluation; goes on where it stopped, to the exact step."""

    data: Path
    """CelebA folder, or any folder of aligned (178:218) or square face images"""
    out: Path
    """run folder: checkpoint, log, embedder.safetensors"""
    model: str | None = None
    """a diffusers folder or a Hub id; by default the bundled model"""
    steps: int | None = None
    """optimiser steps in all"""
    batch_size: int | None = None
    """images a step"""
    channels: tuple[int, ...] | None = None
    """U-Net widths, finest level first"""
    decode_steps: int | None = None
    """decoding steps the reconstruction goes through while training"""
    decay: int | None = None
    """steps of the final linear decay of the rate"""
    seed: int | None = None
    """of everything random"""
    save_every: int = 200
    """steps between checkpoints"""
    frame: Annotated[FrameOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=FrameOptions)
    device: str | None = None
    """cpu, cuda or cuda:N; by default cuda where there is one"""

    def run(self) -> None:
        """Train with the options given; the others come from the run's checkpoint or the defaults."""
        check_folder(self.data)
        check_writable(self.out / "checkpoint.safetensors")
        from dataclasses import replace  # noqa: PLC0415

        from latentrot.diffusion.load import load_model  # noqa: PLC0415
        from latentrot.training.checkpoints import checkpoint_config  # noqa: PLC0415
        from latentrot.training.embedder import EmbedderConfig, train_embedder  # noqa: PLC0415

        at_least("--save-every", self.save_every, 1)
        for name in ("steps", "batch_size", "decode_steps"):
            at_least(f"--{name.replace('_', '-')}", getattr(self, name) or 1, 1)
        checkpoint = self.out / "checkpoint.safetensors"
        base = checkpoint_config(checkpoint, EmbedderConfig) if checkpoint.is_file() else EmbedderConfig()
        given = given_of(self, EmbedderConfig)
        model = load_model(self.model, self.device)
        self.frame.check([self.data], self.device)
        path = train_embedder(self.data, self.out, model, replace(base, **given), save_every=self.save_every)
        print(f"wrote {path}")
