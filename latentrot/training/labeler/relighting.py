"""Relight faces by weighted sums of one person's images under single lights (see `latentrot.training.labeler.labeler`)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from latentrot.faces.network import CROP_SIZE
from latentrot.training.labeler.augment import augment_photometric, mirror_half, uniform, warp
from latentrot.training.labeler.config import LabelTrainConfig
from latentrot.training.labeler.faces import CONTEXT_SIZE, YALE_BOX, YaleFaces, in_frame

__all__ = ["Relighter"]


class Relighter:
    """Yale B faces under soft light with a known main side, with random surroundings."""

    def __init__(self, faces: YaleFaces, surroundings: Tensor) -> None:
        """Prepare the faces.

        Args:
            faces: the people to relight.
            surroundings: (m, 3, 80, 80) uint8 images for the surroundings of the faces.
        """
        self.surroundings = surroundings
        level = faces.pixels.mean((1, 2), keepdim=True)
        self.keys = faces.pixels / level  # normalise all lights to equal strength
        names, person = np.unique(faces.person, return_inverse=True)
        self.rows = [
            [torch.from_numpy(np.flatnonzero((person == p) & (faces.light == c))) for c in range(3)]
            for p in range(len(names))
        ]
        mean = torch.stack([self.keys[torch.from_numpy(person == p)].mean(0) for p in range(len(names))])
        self.ambient = (mean + mean.flip(-1)) / 2
        offset = (torch.arange(CONTEXT_SIZE) + 0.5 - CONTEXT_SIZE / 2) / (YALE_BOX[2] / 2)
        lower = offset - (YALE_BOX[0] + YALE_BOX[2] / 2 - CROP_SIZE / 2) / (YALE_BOX[2] / 2)
        radius = (offset[None, :] ** 2 + lower[:, None] ** 2).sqrt()
        self.mask = ((1.1 - radius) / 0.2).clamp(0, 1)[None, None]

    def pick(self, person: int, light: int, generator: torch.Generator) -> Tensor:
        """One image of a person with light from the given side: (40, 40)."""
        rows = self.rows[person][light]
        return self.keys[rows[int(torch.randint(len(rows), (1,), generator=generator))]]

    def mix(self, light: int, generator: torch.Generator) -> Tensor:
        """One face, (40, 40) in linear light: a dominant key light, ambient light and two weaker lights."""
        person, *others = torch.randint(0, len(self.rows), (3,), generator=generator).tolist()
        ambient, first, second = torch.rand(3, generator=generator).tolist()
        face = self.pick(person, light, generator) + 1.2 * ambient * self.ambient[person]
        for share, other in zip((first, second), others, strict=True):
            face = face + 0.25 * share * self.pick(person, other % 3, generator)
        return face / (1 + 1.2 * ambient + 0.25 * (first + second))

    def batch(self, n: int, config: LabelTrainConfig, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Relit faces: (n, 3, 64, 64) in [-1, 1] and (n,) index into LIGHTS."""
        light = torch.arange(n) % 3
        face = torch.stack([self.mix(int(side), generator) for side in light])
        exposure = uniform(n, 0.15, 0.6, generator)[:, None, None]
        gamma = uniform(n, 0.4, 0.8, generator)[:, None, None]
        face = in_frame((face * exposure).clamp(1e-4, 1) ** gamma, CONTEXT_SIZE)
        around = self.surroundings[torch.randint(len(self.surroundings), (n,), generator=generator)].float() / 255
        around, _ = mirror_half(around, generator)
        kind = torch.rand(n, 1, 1, 1, generator=generator)
        plain = torch.rand(n, 1, 1, 1, generator=generator).expand_as(around)
        around = torch.where(kind < 0.2, plain, around)
        mask = torch.where(
            kind > 0.7, torch.ones_like(self.mask), self.mask
        )  # 30 % keep the padding by the face's edges
        x, _ = warp(face * mask + around * (1 - mask), config, generator)
        x, flip = mirror_half(x, generator)
        order = torch.randperm(n, generator=generator)
        return augment_photometric(x, generator)[order], torch.where(flip, 2 - light, light)[order]
