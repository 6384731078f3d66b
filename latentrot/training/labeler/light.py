"""Train the light trunk: first on relit faces, then by self-training on photographs."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentrot.errors import LatentrotError
from latentrot.faces.estimate import estimate_light
from latentrot.faces.network import LIGHTS, FaceLabeler
from latentrot.training.labeler.augment import augment_photometric, mirror_half, warp
from latentrot.training.labeler.config import LabelTrainConfig
from latentrot.training.labeler.faces import center_crop
from latentrot.training.labeler.loop import Stages, train_stage
from latentrot.training.labeler.relighting import Relighter

__all__ = ["train_light"]

log = logging.getLogger(__name__)


def pseudo_labels(
    network: FaceLabeler, x: Tensor, yaw: np.ndarray, config: LabelTrainConfig, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Select images with certain pseudo-labels, balanced over the sides and, for turned faces, over yaw.

    Args:
        network: network after the previous stage.
        x: (n, 3, 64, 64) float in [-1, 1].
        yaw: (n,) degrees.
        config: configuration of the run.
        generator: random generator.

    Returns:
        (m,) selected rows, and (m,) their labels as indices into LIGHTS.
    """
    one = estimate_light(x, labeler=network, mirror=False)
    two = estimate_light(x.flip(-1), labeler=network, mirror=False).flip(-1)
    label = ((one + two) / 2).argmax(1)
    sure = torch.minimum(one, two).gather(1, label[:, None])[:, 0] > config.confident
    label, keep = label.numpy(), sure.numpy()
    chosen: list[np.ndarray] = []
    for near, far in ((0, 8), (8, 20), (20, 90)):
        band = keep & (np.abs(yaw) >= near) & (np.abs(yaw) < far)
        # as many images with light from the side the nose points to as from the other side
        same = np.flatnonzero(band & (label == np.where(yaw > 0, 2, 0)))
        other = np.flatnonzero(band & (label == np.where(yaw > 0, 0, 2)))
        number = min(len(same), len(other))
        middle = np.flatnonzero(band & (label == 1))
        chosen += [generator.permutation(rows)[:number] for rows in (same, other)]
        chosen.append(generator.permutation(middle)[: 2 * number])
    rows = np.concatenate(chosen)
    return rows, label[rows]


def train_light(
    network: FaceLabeler,
    relighter: Relighter,
    contexts: Tensor,
    yaw: np.ndarray,
    config: LabelTrainConfig,
    stages: Stages,
) -> None:
    """Train the light trunk on relit faces, then on contexts (n, 3, 80, 80) uint8 with certain pseudo-labels."""
    choice = np.random.default_rng(config.seed)
    parts = [network.light_trunk, network.light_head]

    def relit(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return relighter.batch(config.batch_size, config, generator)

    def loss(model: FaceLabeler, batch: tuple[Tensor, ...]) -> Tensor:
        x, light = batch
        return F.cross_entropy(model.light(x), light, label_smoothing=0.05)

    first = replace(config, steps=config.light_steps)
    train_stage(network, parts, first, stages, "light", draw=relit, loss=loss, offset=2)
    for number in range(config.rounds):
        rows, labels = pseudo_labels(network, center_crop(contexts), yaw, config, choice)
        log.info("round %d: %s labels per light", number + 1, np.bincount(labels, minlength=3).tolist())
        own = [torch.from_numpy(rows[labels == light]) for light in range(3)]
        if not all(len(part) for part in own):
            raise LatentrotError(
                f"self-training found {[len(p) for p in own]} confident labels for {LIGHTS}; expected at least 1 for each"
            )

        def mixed(generator: torch.Generator, own: list[Tensor] = own) -> tuple[Tensor, Tensor]:
            half = config.batch_size // 2
            x, light = relighter.batch(half, config, generator)
            second = torch.arange(half) % 3
            drawn = [own[int(c)][int(torch.randint(len(own[int(c)]), (1,), generator=generator))] for c in second]
            y, _ = warp(contexts[torch.stack(drawn)].float() / 255, config, generator)
            y, flip = mirror_half(y, generator)
            order = torch.randperm(half, generator=generator)
            second = torch.where(flip, 2 - second, second)[order]
            return torch.cat([x, augment_photometric(y, generator)[order]]), torch.cat([light, second])

        stage, folder = replace(config, steps=config.round_steps), f"light-{number + 1}"
        train_stage(network, parts, stage, stages, folder, draw=mixed, loss=loss, offset=3 + number)
    set_center_share(network, center_crop(contexts), config.center_share)


def set_center_share(network: FaceLabeler, x: Tensor, share: float) -> None:
    """Shift the bias of `center` so that a share of the images (n, 3, 64, 64) is classified as center."""
    logits = estimate_light(x, labeler=network).log()
    lead = logits[:, 1] - torch.maximum(logits[:, 0], logits[:, 2])
    last = network.light_head[-1]
    if not isinstance(last, nn.Linear):
        raise TypeError(f"the light head ends in {type(last).__name__}, not in a linear layer")
    with torch.no_grad():
        last.bias[1] -= torch.quantile(lead, 1 - share)
