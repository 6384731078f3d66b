"""The command `train attributes`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from latentrot.cli.common import FrameOptions, check_folder, check_minimum, given_options
from latentrot.files import check_writable

__all__ = ["TrainAttributes"]


@dataclass(frozen=True)
class TrainAttributes:
    """Train an attributes network: age in years and CelebA's forty attributes, like the bundled one."""

    celeba: Path
    """aligned CelebA with identity_CelebA.csv and list_attr_celeba.csv"""
    aged: Path
    """photographs with known ages: age.csv (image_id, age_years, gender) and crops/"""
    out: Path = Path("attributes.safetensors")
    """output file of the network"""
    steps: int | None = None
    """total number of optimiser steps"""
    seed: int | None = None
    """seed of all randomness"""
    frame: Annotated[FrameOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=FrameOptions)

    def run(self) -> None:
        """Train and write the network."""
        check_folder(self.celeba)
        check_folder(self.aged, "photographs with known ages")
        check_writable(self.out)
        from latentrot.training.attributes import AttributeTrainConfig, train_attributes  # noqa: PLC0415

        given = given_options(self, AttributeTrainConfig)
        check_minimum("--steps", given.get("steps", 1), 1)
        self.frame.check([self.celeba])
        train_attributes(self.celeba, self.aged, self.out, AttributeTrainConfig(**given))
        print(f"wrote {self.out}")
