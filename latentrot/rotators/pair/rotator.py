"""The pair model behind the protocol that all ways of turning share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from latentrot.bundles import bundled_part, trained_on
from latentrot.data.digests import folder_digest
from latentrot.data.images import check_crop, resize, to_tensor, to_uint8
from latentrot.faces.estimate import estimate_pose
from latentrot.rotators.pair.model import PairModel
from latentrot.rotators.pair.render import Turner
from latentrot.rotators.pair.sample import PairSampleConfig, denoise, draw

__all__ = ["PairRotator"]


@dataclass(frozen=True, eq=False)
class PairRotator:
    """Draws a face as it is seen from elsewhere.

    Args:
        model: from `load_pair_model`.
        sample: how images are drawn.
    """

    model: PairModel
    sample: PairSampleConfig = field(default_factory=PairSampleConfig)

    @property
    def name(self) -> str:
        """What reports call it."""
        return self.model.name

    @property
    def learned_from(self) -> tuple[str, ...] | None:
        """Data sets that the model's card says it learned from, and those of the networks that geometry needs."""
        sets = [trained_on(self.model.folder) if self.model.folder else None, trained_on(bundled_part("face"))]
        return None if None in sets else tuple(sorted({name for some in sets for name in some or ()}))

    @property
    def digests(self) -> dict[str, str]:
        """What identifies the model."""
        return {"model": folder_digest(self.model.folder)} if self.model.folder else {}

    def rotate(self, image: np.ndarray, degrees: float) -> np.ndarray:
        """Turn a (s, s, 3) uint8 crop in the CelebA frame by degrees (> 0: nose to the viewer's right)."""
        return self.rotate_many(image, [degrees])[0]

    def rotate_many(self, image: np.ndarray, degrees: Sequence[float]) -> list[np.ndarray]:
        """Turn a (s, s, 3) uint8 crop by each of degrees, in one batch -> squares at the model's resolution.

        Raises:
            LatentrotError: not a square image, or its head cannot be turned.
        """
        if not len(degrees):
            return []
        return list(to_uint8(draw(self.model, *self.asked(image, degrees), self.sample)))

    def process(self, image: np.ndarray, degrees: float, steps: int = 8) -> np.ndarray:
        """How a turned face comes out of the noise.

        Args:
            image: (s, s, 3) uint8 crop in the CelebA frame.
            degrees: the turn.
            steps: states that are shown.

        Returns:
            (2 s, (k + 2) s, 3) uint8: above the source, the condition, and the states after each of k steps; below the
            source, the condition, and the images that the states are expected to become.
        """
        condition, poses = self.asked(image, [degrees])
        with torch.no_grad():
            states = list(denoise(self.model, condition, poses, replace(self.sample, steps=steps)))
            rows = [torch.cat([self.model.space.decode(state[i]) for state in states], 3) for i in (0, 1)]
        shown = [to_uint8(row.clamp(-1, 1).float().cpu())[0] for row in rows]
        seen = condition[0, :3].permute(1, 2, 0).numpy()
        given = np.concatenate([resize(image, self.model.resolution), seen], 1)
        return np.concatenate([np.concatenate([given, row], 1) for row in shown], 0)

    def asked(self, image: np.ndarray, degrees: Sequence[float]) -> tuple[torch.Tensor, torch.Tensor]:
        """What the model is told for each turn: conditions (n, 4, s, s) uint8, and poses (n, 2, 2) degrees."""
        check_crop(image)
        yaw, pitch = (float(v) for v in estimate_pose(to_tensor(image))[0, :2])
        poses = torch.tensor([[[yaw, pitch], [yaw + turn, pitch]] for turn in degrees])
        return torch.from_numpy(self.conditions(image, degrees)).permute(0, 3, 1, 2), poses

    def conditions(self, image: np.ndarray, degrees: Sequence[float]) -> np.ndarray:
        """(n, s, s, 4) uint8: the source as it is, or turned by geometry, and 255 where it shows what is seen."""
        size = self.model.resolution
        if not self.model.aligned:
            square = resize(image, size)
            return np.stack([np.concatenate([square, np.full_like(square[..., :1], 255)], -1)] * len(degrees))
        turner = Turner(size)
        head = turner.head_of(image)
        return np.stack([turner.condition(head.turn(turn)) for turn in degrees])
