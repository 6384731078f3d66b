"""Teach the network yaw, pitch and roll."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from latentrot.faces.network import POSE_SCALE, FaceLabeler
from latentrot.training.labeler.augment import mirror_half, photograph, surrounded, warp
from latentrot.training.labeler.config import LabelTrainConfig
from latentrot.training.labeler.loop import optimise

__all__ = ["pose_errors", "train_pose"]


def train_pose(network: FaceLabeler, contexts: Tensor, pose: Tensor, config: LabelTrainConfig) -> None:
    """Teach yaw, pitch and roll.

    Args:
        network: to train.
        contexts: (n, 3, 80, 80) uint8, or (n, 3, 64, 64) where there are no surroundings.
        pose: (n, 3) degrees of yaw, pitch and roll, or (n, 2) where heads stand upright.
        config: the run.
    """
    roll_of = pose[:, 2] if pose.shape[1] > 2 else torch.zeros(len(pose))
    generator = torch.Generator().manual_seed(config.seed * 1000 + 1)

    def loss_of(model: FaceLabeler, _: int) -> Tensor:
        chosen = torch.randint(len(contexts), (config.batch_size,), generator=generator)
        x, roll = warp(surrounded(contexts[chosen].float() / 255), config, generator)
        truth = torch.cat([pose[chosen, :2], (roll_of[chosen] + roll)[:, None]], 1)
        x, flip = mirror_half(x, generator)
        truth = torch.where(flip[:, None], truth * torch.tensor([-1.0, 1.0, -1.0]), truth)
        weight = 1 + (truth[:, :1].abs() / 20 - 1).clamp(0, 1)  # turned heads are rare and matter
        x = photograph(x, generator).contiguous(memory_format=torch.channels_last)
        error = F.smooth_l1_loss(model.pose(x), truth / POSE_SCALE, beta=0.1, reduction="none")
        return (error * weight).mean()

    optimise(network, [network.pose_trunk, network.pose_head], config.pose_steps, config, loss_of=loss_of, name="pose")


def pose_errors(estimated: Tensor, truth: Tensor) -> dict[str, float]:
    """Mean absolute errors in degrees: estimated (n, 3) yaw, pitch, roll against truth (n, 2) yaw, pitch."""
    error = (estimated[:, :2] - truth).abs()
    small = truth[:, 0].abs() <= 45
    return {
        "yaw_mae_deg": round(error[:, 0].mean().item(), 3),
        "pitch_mae_deg": round(error[:, 1].mean().item(), 3),
        "yaw_mae_within_45_deg": round(error[small, 0].mean().item(), 3),
    }
