"""What a training of the label network is."""

from __future__ import annotations

from dataclasses import dataclass

from latentrot.runs import RunConfig

__all__ = ["LabelTrainConfig"]


@dataclass(frozen=True)
class LabelTrainConfig(RunConfig):
    """What a training run is; written into the labeler's metadata.

    Args:
        pose_steps: optimiser steps of the pose half.
        light_steps: optimiser steps of the light half on relit faces alone.
        rounds: rounds of self-training of the light half on CelebA.
        round_steps: optimiser steps per round.
        scale: crops are this much smaller or larger, as a share.
        shift: crops are moved by up to this many pixels of the 178x218 frame.
        roll: crops lean by up to this many degrees.
        confident: least probability of a label CelebA images are given in self-training.
        center_share: share of CelebA's training images that are to be called lit from the center.
        held_out: share of CelebA's people kept for measuring.
        yale_held_out: number of Yale people (the last ones by name) kept for measuring.
    """

    pose_steps: int = 840
    light_steps: int = 440
    rounds: int = 2
    round_steps: int = 200
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    ema: float = 0.985
    scale: float = 0.08
    shift: float = 4.0
    roll: float = 15.0
    confident: float = 0.8
    center_share: float = 0.5
    held_out: float = 0.1
    yale_held_out: int = 8
