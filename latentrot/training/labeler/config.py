"""Configuration of the label network's training."""

from __future__ import annotations

from dataclasses import dataclass

from latentrot.runs import RunConfig

__all__ = ["LabelTrainConfig"]


@dataclass(frozen=True)
class LabelTrainConfig(RunConfig):
    """Configuration of a training run; written into the labeler's metadata.

    Args:
        pose_steps: optimiser steps of the pose trunk.
        light_steps: optimiser steps of the light trunk on relit faces only.
        rounds: rounds of self-training of the light trunk on CelebA.
        round_steps: optimiser steps per round.
        scale: max relative change of the crops' size.
        shift: max shift of the crops in pixels of the 178x218 frame.
        roll: max roll of the crops in degrees.
        confident: min probability of a pseudo-label in self-training.
        center_share: share of CelebA's training images that the calibrated network classifies as center.
        held_out: share of CelebA's people held out for evaluation.
        yale_held_out: number of Yale people (the last ones by name) held out for evaluation.
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
