"""The pair model as a rotator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from latentrot.bundles import bundled_part, trained_on
from latentrot.data.arrays import check_crop, resize, to_tensor, to_uint8
from latentrot.data.digests import folder_digest
from latentrot.faces.estimate import estimate_pose
from latentrot.geometry import turn_head
from latentrot.rotators.pair.model import PairModel
from latentrot.rotators.pair.render import ConditionRenderer
from latentrot.rotators.pair.sample import PairSampleConfig, denoise, draw_pairs

__all__ = ["PairRotator"]


@dataclass(frozen=True, eq=False)
class PairRotator:
    """Generates a face in another pose with a pair model.

    Args:
        model: from `load_pair_model`.
        sample: sampling options.
    """

    model: PairModel
    sample: PairSampleConfig = field(default_factory=PairSampleConfig)

    @property
    def name(self) -> str:
        """Name in reports."""
        return self.model.name

    @property
    def learned_from(self) -> tuple[str, ...] | None:
        """Training data in the cards of the model and of the geometry's networks; None if one of the cards names none."""
        sets = [trained_on(self.model.folder) if self.model.folder else None, trained_on(bundled_part("face"))]
        return None if None in sets else tuple(sorted({name for some in sets for name in some or ()}))

    @property
    def digests(self) -> dict[str, str]:
        """Digest of the model."""
        return {"model": folder_digest(self.model.folder)} if self.model.folder else {}

    def rotate(self, image: np.ndarray, degrees: float) -> np.ndarray:
        """Rotate a (s, s, 3) uint8 crop in the CelebA frame by degrees of yaw (> 0: nose to the viewer's right)."""
        return self.rotate_many(image, [degrees])[0]

    def rotate_many(self, image: np.ndarray, degrees: Sequence[float]) -> list[np.ndarray]:
        """Rotate a (s, s, 3) uint8 crop by each angle, in one batch -> crops at the model's resolution.

        Raises:
            LatentrotError: the image is not square, or no head can be fitted to it.
        """
        if not len(degrees):
            return []
        return list(to_uint8(draw_pairs(self.model, *self.inputs(image, degrees), self.sample)))

    def process(self, image: np.ndarray, degrees: float, steps: int = 8) -> np.ndarray:
        """Contact sheet of the sampling steps of one rotation.

        Args:
            image: (s, s, 3) uint8 crop in the CelebA frame.
            degrees: rotation in degrees of yaw.
            steps: number k of sampling steps.

        Returns:
            (2 s, (k + 2) s, 3) uint8. Upper row: source, condition, and the noisy state after each step; lower row: source,
            condition, and the denoised estimate of each step.
        """
        condition, poses = self.inputs(image, [degrees])
        with torch.no_grad():
            states = list(denoise(self.model, condition, poses, replace(self.sample, steps=steps)))
            rows = [torch.cat([self.model.space.decode(state[i]) for state in states], 3) for i in (0, 1)]
        sheets = [to_uint8(row.clamp(-1, 1).float().cpu())[0] for row in rows]
        shown = condition[0, :3].permute(1, 2, 0).numpy()
        given = np.concatenate([resize(image, self.model.resolution), shown], 1)
        return np.concatenate([np.concatenate([given, row], 1) for row in sheets], 0)

    def inputs(self, image: np.ndarray, degrees: Sequence[float]) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs of the model for each rotation: conditions (n, 4, s, s) uint8, and poses (n, 2, 2) in degrees."""
        check_crop(image)
        yaw, pitch = (float(v) for v in estimate_pose(to_tensor(image))[0, :2])
        poses = torch.tensor([[[yaw, pitch], [yaw + d, pitch]] for d in degrees])
        return torch.from_numpy(self.conditions(image, degrees)).permute(0, 3, 1, 2), poses

    def conditions(self, image: np.ndarray, degrees: Sequence[float]) -> np.ndarray:
        """(n, s, s, 4) uint8: the source, rotated by geometry if the model requires it, and its coverage (255: visible)."""
        size = self.model.resolution
        if not self.model.aligned:
            square = resize(image, size)
            return np.stack([np.concatenate([square, np.full_like(square[..., :1], 255)], -1)] * len(degrees))
        renderer = ConditionRenderer(size)
        head = renderer.fit_head(image)
        return np.stack([renderer.render(turn_head(head, d, whole=False)) for d in degrees])
