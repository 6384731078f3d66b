"""What a training run of a face network is."""

from __future__ import annotations

from dataclasses import dataclass

from latentrot.runs import RunConfig

__all__ = ["FaceTrainConfig"]


@dataclass(frozen=True)
class FaceTrainConfig(RunConfig):
    """What a training run is; written into its checkpoints and into the metadata of the network.

    Args:
        roll: crops lean by up to this many degrees.
        scale: and are this much smaller or larger, as a share.
        shift: and lie off by up to this share of their side.
        held_out: share of the people kept for measuring.
        init: file of a network whose weights it begins with; None: random ones.
    """

    steps: int = 6_000
    batch_size: int = 64
    learning_rate: float = 2e-3
    decay: int = 4_000
    weight_decay: float = 0.02
    ema: float = 0.998
    max_grad_norm: float = 5.0
    roll: float = 25.0
    scale: float = 0.15
    shift: float = 0.06
    held_out: float = 0.1
    init: str | None = None
