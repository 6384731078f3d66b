"""Train yaw, pitch and roll."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from latentrot.faces.network import POSE_SCALE, FaceLabeler
from latentrot.training.labeler.augment import augment_photometric, mirror_half, pad_to_context, warp
from latentrot.training.labeler.config import LabelTrainConfig
from latentrot.training.labeler.loop import Stages, train_stage

__all__ = ["pose_errors", "train_pose"]


def train_pose(network: FaceLabeler, contexts: Tensor, pose: Tensor, config: LabelTrainConfig, stages: Stages) -> None:
    """Train the pose trunk.

    Args:
        network: network to train.
        contexts: (n, 3, 80, 80) uint8, or (n, 3, 64, 64) without surroundings.
        pose: (n, 3) degrees of yaw, pitch and roll, or (n, 2) for upright heads.
        config: configuration of the run.
        stages: checkpoints of all stages.
    """
    roll_of = pose[:, 2] if pose.shape[1] > 2 else torch.zeros(len(pose))

    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(contexts), (config.batch_size,), generator=generator)
        x, roll = warp(pad_to_context(contexts[chosen].float() / 255), config, generator)
        truth = torch.cat([pose[chosen, :2], (roll_of[chosen] + roll)[:, None]], 1)
        x, flip = mirror_half(x, generator)
        truth = torch.where(flip[:, None], truth * torch.tensor([-1.0, 1.0, -1.0]), truth)
        return augment_photometric(x, generator), truth

    def loss(model: FaceLabeler, batch: tuple[Tensor, ...]) -> Tensor:
        x, truth = batch
        x = x.contiguous(memory_format=torch.channels_last)
        weight = 1 + (truth[:, :1].abs() / 20 - 1).clamp(0, 1)  # turned heads are rare, so weight them higher
        error = F.smooth_l1_loss(model.pose(x), truth / POSE_SCALE, beta=0.1, reduction="none")
        return (error * weight).mean()

    parts, stage = [network.pose_trunk, network.pose_head], replace(config, steps=config.pose_steps)
    train_stage(network, parts, stage, stages, "pose", draw=draw, loss=loss, offset=1)


def pose_errors(estimated: Tensor, truth: Tensor) -> dict[str, float]:
    """Mean absolute errors in degrees: estimated (n, 3) yaw, pitch, roll against truth (n, 2) yaw, pitch."""
    error = (estimated[:, :2] - truth).abs()
    small = truth[:, 0].abs() <= 45
    return {
        "yaw_mae_deg": round(error[:, 0].mean().item(), 3),
        "pitch_mae_deg": round(error[:, 1].mean().item(), 3),
        "yaw_mae_within_45_deg": round(error[small, 0].mean().item(), 3),
    }
