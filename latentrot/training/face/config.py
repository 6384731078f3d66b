"""Configuration of the training of a face network."""

from __future__ import annotations

from dataclasses import dataclass

from latentrot.runs import RunConfig

__all__ = ["FaceTrainConfig"]


@dataclass(frozen=True)
class FaceTrainConfig(RunConfig):
    """Configuration of a training run; stored in its checkpoints and in the metadata of the network.

    Args:
        roll: max roll of the crops in degrees.
        scale: max relative change of the crops' size.
        shift: max shift of the crops as a share of their side.
        held_out: share of the people held out for evaluation.
        init: file of a network to initialise the weights from; None: random weights.
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
