"""Train the label network on images with exact pose and light, such as rendered heads."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from latentrot.data.celeba import FaceFolder, held_out
from latentrot.errors import LatentrotError
from latentrot.faces.estimate import SURE, estimate_light, estimate_pose
from latentrot.faces.exact import read_exact_labels
from latentrot.faces.network import CROP_SIZE, LIGHTS, FaceLabeler
from latentrot.training.labeler.augment import augment_photometric, mirror_half, pad_to_context, warp
from latentrot.training.labeler.config import LabelTrainConfig
from latentrot.training.labeler.labeler import save_labeler
from latentrot.training.labeler.loop import Stages, train_stage
from latentrot.training.labeler.pose import pose_errors, train_pose

__all__ = ["train_exact_labeler"]

log = logging.getLogger(__name__)


def train_known_light(
    network: FaceLabeler, crops: Tensor, light: Tensor, config: LabelTrainConfig, stages: Stages
) -> None:
    """Train the light trunk with balanced classes: crops (n, 3, 64, 64) uint8, light (n,) index into LIGHTS."""
    rows = [torch.nonzero(light == side)[:, 0] for side in range(len(LIGHTS))]

    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        truth = torch.randint(len(LIGHTS), (config.batch_size,), generator=generator)
        drawn = torch.rand(config.batch_size, generator=generator)
        chosen = torch.stack([rows[int(c)][int(d * len(rows[int(c)]))] for c, d in zip(truth, drawn, strict=True)])
        x = warp(pad_to_context(crops[chosen].float() / 255), config, generator)[0]
        x, flip = mirror_half(x, generator)
        truth = torch.where(flip, len(LIGHTS) - 1 - truth, truth)
        return augment_photometric(x, generator), truth

    def loss(model: FaceLabeler, batch: tuple[Tensor, ...]) -> Tensor:
        x, truth = batch
        return F.cross_entropy(model.light(x), truth, label_smoothing=0.05)

    parts, stage = [network.light_trunk, network.light_head], replace(config, steps=config.light_steps)
    train_stage(network, parts, stage, stages, "light", draw=draw, loss=loss, offset=2)


def measure_exact(network: FaceLabeler, crops: Tensor, pose: Tensor, light: Tensor) -> dict[str, float]:
    """Errors of the network: crops (n, 3, 64, 64) uint8, pose (n, 3) degrees, light (n,) index into LIGHTS."""
    x = crops.float() / 127.5 - 1
    estimated, answer = estimate_pose(x, labeler=network), estimate_light(x, labeler=network)
    right, sure = answer.argmax(1) == light, answer.amax(1) >= SURE
    return {
        "pictures": len(x),
        **pose_errors(estimated, pose[:, :2]),
        "roll_mae_deg": round((estimated[:, 2] - pose[:, 2]).abs().mean().item(), 3),
        "light_accuracy": round(right.float().mean().item(), 4),
        "light_accuracy_where_sure": round(right[sure].float().mean().item(), 4) if sure.any() else 0.0,
        "light_sure_share": round(sure.float().mean().item(), 4),
    }


def train_exact_labeler(heads: Path, out: Path, config: LabelTrainConfig | None = None) -> dict[str, float]:
    """Train the label network on a folder with exact labels and write it.

    Args:
        heads: images with `pose.csv` (image_id, yaw_deg, pitch_deg, roll_deg), `light.csv` (image_id, light) and
            `identity_CelebA.csv`, as `latentrot heads make` writes them.
        out: the safetensors file to write.
        config: configuration of the run; None: the defaults. `pose_steps` and `light_steps` must not be 0.

    Returns:
        Errors on held-out heads, which are also stored in the file's metadata (see `measure_exact`).

    Raises:
        LatentrotError: a table is missing, no heads are left for training or measurement, or a light never occurs.
    """
    config = config or LabelTrainConfig()
    folder = FaceFolder(heads)
    table = read_exact_labels(folder)
    pose = torch.from_numpy(table[["yaw_deg", "pitch_deg", "roll_deg"]].to_numpy(np.float32))
    light = torch.tensor([LIGHTS.index(name) for name in table["light"]])
    identity = folder.identities.to_numpy()
    apart = held_out(identity, config.held_out)
    test, kept = torch.from_numpy(apart), torch.from_numpy(~apart)
    check_split(folder, light[kept], int(test.sum()))
    crops = torch.from_numpy(folder.read_crops(folder.ids, CROP_SIZE)).permute(0, 3, 1, 2).contiguous()

    torch.manual_seed(config.seed)
    network = FaceLabeler()
    stages = Stages.beside(out, heads, crops[kept])
    train_known_light(network, crops[kept], light[kept], config, stages)
    train_pose(network, crops[kept], pose[kept], config, stages)
    errors = measure_exact(network, crops[test], pose[test], light[test])
    heads_seen = len(set(identity[~apart]))
    save_labeler(network, out, config, errors, f"{int(kept.sum())} images of {heads_seen} heads with exact labels")
    stages.remove()
    log.info("held-out heads: %s", errors)
    return errors


def check_split(folder: FaceFolder, light: Tensor, tested: int) -> None:
    """Refuse a folder with too few images for training or measurement."""
    counts = torch.bincount(light, minlength=len(LIGHTS)).tolist()
    if not tested or min(counts) < 1:
        raise LatentrotError(
            f"{folder.root}: {tested} images of held-out heads and {dict(zip(LIGHTS, counts, strict=True))} for training; "
            "expected some of each; give a folder with more heads and with identity_CelebA.csv"
        )
