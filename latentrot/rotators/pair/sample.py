"""Sample from a pair model: integrate the probability flow ODE in few steps."""

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

__all__ = ["PairSampleConfig", "denoise", "draw_pairs"]


@dataclass(frozen=True)
class PairSampleConfig:
    """Sampling options.

    Args:
        steps: number of sampling steps of one evaluation each, two or three with guidance. None: 1 for a condition aligned
            with the target, else 12. A single step gives the conditional mean.
        keep: weight, 0 to 1, of an aligned condition in the result for points that the source shows. The conditional mean is
            accurate but loses identity; the rendering preserves identity but has errors of shape. Their mean is nearest to
            the true image.
        guide_condition: guidance scale of the condition; 1: no guidance, 0: the condition has no effect.
        guide_pose: guidance scale of the poses.
        seed: seed of the noise, which is equal for all images.
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
    """Sample images, step by step.

    Args:
        model: from `load_pair_model`.
        condition: (n, 4, s, s) uint8.
        poses: (n, 2, 2) degrees, yaw and pitch of source and target; NaN: unknown.
        config: sampling options.

    Yields:
        After each step the state (n, c, h, w) and the denoised estimate (n, c, h, w).
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
    """Descending noise levels of the steps, from the highest level of the schedule (diffusers' "trailing" spacing)."""
    return [max(round(count * (1 - i / steps)) - 1, 0) for i in range(steps)]


def velocity(
    model: PairModel, x: Tensor, level: int, condition: Tensor, poses: Tensor, config: PairSampleConfig
) -> Tensor:
    """The velocity dx/da with classifier-free guidance on condition and poses.

    Source: Ho, Salimans, "Classifier-Free Diffusion Guidance", 2022; with two conditions as in Brooks,
    Holynski, Efros, "InstructPix2Pix", CVPR 2023.
    """
    levels = torch.full((len(x),), level, device=x.device)

    def predict(condition: Tensor, poses: Tensor) -> Tensor:
        out = model.network(x, levels, condition, poses)
        return as_velocity(out, x, model.alpha_bar[level], prediction_type_of(model.scheduler))

    no_pose = torch.full_like(poses, torch.nan)
    both = predict(condition, poses)
    if config.guide_condition == config.guide_pose == 1:
        return both
    image_only = predict(condition, no_pose)
    if config.guide_condition == 1:
        return image_only + config.guide_pose * (both - image_only)
    neither = predict(torch.zeros_like(condition), no_pose)
    return neither + config.guide_condition * (image_only - neither) + config.guide_pose * (both - image_only)


@torch.no_grad()
def draw_pairs(model: PairModel, condition: Tensor, poses: Tensor, config: PairSampleConfig | None = None) -> Tensor:
    """Sample images, (n, 3, s, s) float32 in [-1, 1] on the CPU; see `denoise`."""
    config = config or PairSampleConfig()
    *_, (_, state) = denoise(model, condition, poses, config)
    image = model.space.decode(state).clamp(-1, 1).float().cpu()
    if not model.aligned:
        return image
    rendering, coverage = condition[:, :3].float() / 127.5 - 1, condition[:, 3:].float() / 255
    return image + config.keep * coverage * (rendering - image)
