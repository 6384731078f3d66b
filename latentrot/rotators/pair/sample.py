"""Draw with a pair model: the deterministic ODE from noise to image in few evaluations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from latentrot.diffusion.load import as_velocity
from latentrot.diffusion.scheduler import prediction_type_of
from latentrot.errors import LatentrotError
from latentrot.rotators.pair.model import PairModel

__all__ = ["PairSampleConfig", "denoise", "draw"]


@dataclass(frozen=True)
class PairSampleConfig:
    """How images are drawn.

    Args:
        steps: of the ODE; evaluations an image where both guidances are 1, else twice or three times as many. None: one
            where the condition lies on the target, else 12: a single one is the mean of all that the image might be.
        keep: share that a condition which lies on the target has in the image, where the source shows the point. What the
            network expects is a mean of many images, close to the truth and nobody in particular; geometry's is off, and
            somebody. A mean of both is closer than either.
        guide_condition: how much the condition counts: 1 as trained, 0 not at all, more than 1 exaggerated.
        guide_pose: the same of the poses.
        seed: of the noise, which is the same for every image.
    """

    steps: int | None = None
    keep: float = 0.5
    guide_condition: float = 1.0
    guide_pose: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise LatentrotError(f"steps {self.steps}: expected at least 1")
        if not 0 <= self.keep <= 1:
            raise LatentrotError(f"keep {self.keep}: expected 0 to 1")


def denoise(
    model: PairModel, condition: Tensor, poses: Tensor, config: PairSampleConfig
) -> Iterator[tuple[Tensor, Tensor]]:
    """Go from noise to images.

    Args:
        model: from `load_pair_model`.
        condition: (n, 4, s, s) uint8.
        poses: (n, 2, 2) degrees, yaw and pitch of source and target; NaN: not known.
        config: how.

    Yields:
        After each step the state (n, c, h, w), and the image it is expected to become, (n, c, h, w).
    """
    generator = torch.Generator().manual_seed(config.seed)
    x = torch.randn(1, *model.state_shape, generator=generator).expand(len(poses), -1, -1, -1).to(model.device)
    given, poses = model.condition(condition), poses.to(model.device)
    steps = config.steps or (1 if model.aligned else 12)
    levels = trailing_levels(len(model.alpha_bar), steps)
    for level, lower in zip(levels, [*levels[1:], -1], strict=True):
        a, b = (np.arccos(np.sqrt(model.alpha_bar[i])) if i >= 0 else 0.0 for i in (level, lower))
        v = velocity(model, x, level, given, poses, config)
        image, noise = np.cos(a) * x - np.sin(a) * v, np.sin(a) * x + np.cos(a) * v
        x = np.cos(b) * image + np.sin(b) * noise
        yield x, image


def trailing_levels(count: int, steps: int) -> list[int]:
    """Noise levels of so many steps, the highest first and the highest of all among them."""
    return [max(round(count * (1 - i / steps)) - 1, 0) for i in range(steps)]


def velocity(
    model: PairModel, x: Tensor, level: int, condition: Tensor, poses: Tensor, config: PairSampleConfig
) -> Tensor:
    """dx/da with classifier-free guidance over condition and poses.

    Source: Ho, Salimans, "Classifier-Free Diffusion Guidance", 2022; with two conditions, one after the other, as in Brooks,
    Holynski, Efros, "InstructPix2Pix", CVPR 2023.
    """
    levels = torch.full((len(x),), level, device=x.device)

    def told(condition: Tensor, poses: Tensor) -> Tensor:
        out = model.network(x, levels, condition, poses)
        return as_velocity(out, x, model.alpha_bar[level], prediction_type_of(model.scheduler))

    nowhere = torch.full_like(poses, torch.nan)
    with_both = told(condition, poses)
    if config.guide_condition == config.guide_pose == 1:
        return with_both
    without_pose = told(condition, nowhere)
    if config.guide_condition == 1:
        return without_pose + config.guide_pose * (with_both - without_pose)
    alone = told(torch.zeros_like(condition), nowhere)
    return alone + config.guide_condition * (without_pose - alone) + config.guide_pose * (with_both - without_pose)


@torch.no_grad()
def draw(model: PairModel, condition: Tensor, poses: Tensor, config: PairSampleConfig | None = None) -> Tensor:
    """Images, (n, 3, s, s) float32 in [-1, 1] on the CPU; see `denoise`."""
    config = config or PairSampleConfig()
    *_, (_, state) = denoise(model, condition, poses, config)
    image = model.space.decode(state).clamp(-1, 1).float().cpu()
    if not model.aligned:
        return image
    turned, shown = condition[:, :3].float() / 127.5 - 1, condition[:, 3:].float() / 255
    return image + config.keep * shown * (turned - image)
