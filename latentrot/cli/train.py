"""The commands `train model` and `train embedder`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from latentrot.cli.common import FrameOptions, TrainOptions, check_folder, check_minimum

__all__ = ["TrainEmbedder", "TrainModel"]


@dataclass(frozen=True, kw_only=True)
class FolderOptions(TrainOptions):
    """Options of the commands that train on folders of faces."""

    data: tuple[Path, ...]
    """CelebA folder, or any folders of aligned (178:218) or square face images"""
    channels: tuple[int, ...] | None = None
    """U-Net widths, finest level first"""
    frame: Annotated[FrameOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=FrameOptions)

    def check_folders(self) -> None:
        """Refuse missing folders and invalid options before slow imports."""
        for folder in self.data:
            check_folder(folder)
        self.check()


@dataclass(frozen=True, kw_only=True)
class TrainModel(FolderOptions):
    """Train a DDIM backbone from a folder of faces; resumes to the exact step.

    A useful model needs thousands of photographs; a few hundred only test that training runs.
    """

    init: str | None = None
    """initialise the weights from this model instead of randomly: a bundled model, a diffusers folder or a Hub id; skips
    the steps at half the resolution unless --small-steps is given"""
    resolution: int | None = None
    """side of the crops in pixels"""
    small_steps: int | None = None
    """number of initial steps at half the resolution"""
    prediction_type: Literal["v_prediction", "epsilon", "sample"] | None = None
    """prediction type of the network"""

    def run(self) -> None:
        """Train and write the model."""
        self.check_folders()
        from latentrot.devices import resolve_device  # noqa: PLC0415
        from latentrot.training.backbone import TrainConfig, default_config, train  # noqa: PLC0415

        if self.device is not None:
            resolve_device(self.device)  # before the images are read
        config = self.config(TrainConfig, lambda: default_config(self.init))
        self.frame.check(self.data, self.device)
        print(f"wrote {train(self.data, self.out, config, save_every=self.save_every, device=self.device)}")


@dataclass(frozen=True, kw_only=True)
class TrainEmbedder(FolderOptions):
    """Train a network that embeds an image in one evaluation; resumes to the exact step."""

    model: str | None = None
    """a diffusers folder or a Hub id; by default the bundled model"""
    decode_steps: int | None = None
    """number of decoding steps in the training loss"""
    save_every: int = 200
    """steps between checkpoints; the first one of a run is written after a minute"""

    def run(self) -> None:
        """Train and write the network."""
        self.check_folders()
        if self.decode_steps is not None:
            check_minimum("--decode-steps", self.decode_steps, 1)
        from latentrot.diffusion.load import load_model  # noqa: PLC0415
        from latentrot.training.embedder import EmbedderConfig, train_embedder  # noqa: PLC0415

        config = self.config(EmbedderConfig)
        model = load_model(self.model, self.device)
        self.frame.check(self.data, self.device)
        print(f"wrote {train_embedder(self.data, self.out, model, config, save_every=self.save_every)}")
