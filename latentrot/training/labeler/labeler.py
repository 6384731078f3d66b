"""Train the label network: pose on labelled CelebA crops, light on relit Yale faces and then by self-training on CelebA.

Ordinary photographs have no light labels. The images of one person in Yale B are aligned to the pixel and light is additive,
so a weighted sum of them shows that face under soft, mixed light with a known main side. A network trained on such sums
labels CelebA. Labels of which it is certain, for an image and its mirror image, are added to the training set. These are
sampled in equal numbers from turned faces lit from the side to which they look and from the other side, so that light cannot
be inferred from yaw.

Photographs used: CelebA and the extended Yale B, both for research only.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentrot.data.celeba import FaceFolder, held_out
from latentrot.faces.estimate import SURE, estimate_light, estimate_pose
from latentrot.faces.layers import save_weights
from latentrot.faces.network import KIND, LIGHTS, FaceLabeler
from latentrot.training.labeler.config import LabelTrainConfig
from latentrot.training.labeler.faces import center_crop, read_contexts, read_pose, read_yale, yale_crops
from latentrot.training.labeler.light import train_light
from latentrot.training.labeler.loop import Stages
from latentrot.training.labeler.pose import pose_errors, train_pose
from latentrot.training.labeler.relighting import Relighter

__all__ = ["save_labeler", "train_labeler"]

log = logging.getLogger(__name__)

DATA = "CelebA (aligned; yaw and pitch by 3DDFA V2) and extended Yale B; research use only"
SIGNS = (
    "yaw > 0: nose to the viewer's right; pitch > 0: face looks up; roll > 0: head leans clockwise as seen by the "
    "viewer; light: the side of the image, as seen by the viewer, the main light comes from"
)


def labeler_errors(network: FaceLabeler, x: Tensor, pose: Tensor, yale: tuple[Tensor, np.ndarray]) -> dict[str, float]:
    """Errors on held-out people.

    Args:
        network: the labeler.
        x: (n, 3, 64, 64) CelebA crops in [-1, 1].
        pose: (n, 2) yaw and pitch in degrees.
        yale: crops (m, 3, 64, 64) and (m,) index into LIGHTS.

    Returns:
        Counts, mean absolute errors in degrees, and shares of the Yale images.
    """
    light = estimate_light(yale[0], labeler=network)
    right = light.argmax(1).numpy() == yale[1]
    sure = (light.amax(1) >= SURE).numpy()
    share = torch.bincount(estimate_light(x, labeler=network).argmax(1), minlength=3) / len(x)
    return {
        "celeba_pictures": len(x),
        **pose_errors(estimate_pose(x, labeler=network), pose),
        "yale_pictures": len(right),
        "light_accuracy": round(float(right.mean()), 4),
        "light_accuracy_where_sure": round(float(right[sure].mean()), 4),
        "light_sure_share": round(float(sure.mean()), 4),
        **{f"celeba_share_{name}": round(s, 3) for name, s in zip(LIGHTS, share.tolist(), strict=True)},
    }


def save_labeler(
    network: FaceLabeler, path: Path, config: LabelTrainConfig, errors: dict[str, float], data: str
) -> None:
    """Write the network with its provenance: configuration, training sets, and errors."""
    provenance = {
        "signs": SIGNS,
        "lights": json.dumps(LIGHTS),
        "held_out": json.dumps(errors),
        "config": json.dumps(asdict(config)),
        "data": data,
    }
    save_weights(network, path, KIND, provenance)


def train_labeler(celeba: Path, yaleb: Path, out: Path, config: LabelTrainConfig | None = None) -> dict[str, float]:
    """Train the label network and write it.

    On one CPU thread this takes about eight minutes. An interrupted run resumes exactly from checkpoints beside `out`, which
    are deleted at the end.

    Args:
        celeba: aligned CelebA with `identity_CelebA.csv` and `pose.csv` (image_id, yaw_deg, pitch_deg).
        yaleb: extended Yale B with `light.csv` (image, azimuth_deg, elevation_deg).
        out: the safetensors file to write.
        config: configuration of the run; None: the defaults. The two trunks of the bundled network were trained with them in
            separate runs (pose_steps=0, light_steps=0) and merged.

    Returns:
        Errors on held-out people, which are also stored in the file's metadata (see `labeler_errors`).

    Raises:
        LatentrotError: a table is missing.
    """
    config = config or LabelTrainConfig()
    torch.manual_seed(config.seed)
    network = FaceLabeler()
    folder = FaceFolder(celeba)
    pose = read_pose(folder)
    contexts = read_contexts(folder)
    apart = held_out(folder.identities.to_numpy(), config.held_out) | ~torch.isfinite(pose).all(1).numpy()
    kept, test = torch.from_numpy(~apart), torch.from_numpy(apart)

    stages = Stages.beside(out, celeba, contexts[kept])
    if config.light_steps:
        faces = read_yale(yaleb)
        training = np.unique(faces.person)[: -config.yale_held_out]
        relighter = Relighter(faces.select(np.isin(faces.person, training)), contexts[kept])
        train_light(network, relighter, contexts[kept], pose[kept, 0].numpy(), config, stages)
    if config.pose_steps:
        train_pose(network, contexts[kept], pose[kept], config, stages)
    yale = yale_crops(yaleb, slice(-config.yale_held_out, None))
    errors = labeler_errors(network, center_crop(contexts[test]), pose[test], yale)
    save_labeler(network, out, config, errors, DATA)
    stages.remove()
    log.info("held-out people: %s", errors)
    return errors
