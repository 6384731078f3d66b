"""Train the attributes network: CelebA's forty attributes, and age in years from photographs with known ages.

Each image has only some of the labels: CelebA images have attributes, images of known age have age and gender. The loss is
summed over the known labels (masked multi-task loss). Ages are learned from the face only, because the rim of these crops is
mirrored padding.

Photographs used: CelebA and UTKFace, both for research only.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from latentrot.data.celeba import FaceFolder, held_out
from latentrot.data.tables import read_columns
from latentrot.diffusion.precision import computes_bfloat16
from latentrot.errors import LatentrotError
from latentrot.faces.attributes import (
    AGE,
    AGE_CENTER,
    AGE_SCALE,
    ATTRIBUTES,
    KIND,
    AttributeNetwork,
    estimate_attributes,
    face_alone,
)  # fmt: skip
from latentrot.faces.layers import save_weights
from latentrot.faces.network import CROP_SIZE
from latentrot.runs import RunConfig
from latentrot.training.labeler.augment import augment_photometric, mirror_half, pad_to_context, warp
from latentrot.training.labeler.faces import center_crop, read_contexts
from latentrot.training.labeler.loop import Stages, train_stage

__all__ = ["AgedFaces", "AttributeTrainConfig", "attribute_errors", "read_aged", "train_attributes"]

log = logging.getLogger(__name__)

DATA = "CelebA (aligned, forty attributes) and UTKFace (age, gender); research use only"
MALE = ATTRIBUTES.index("Male")


@dataclass(frozen=True)
class AttributeTrainConfig(RunConfig):
    """Configuration of a training run; written into the file's metadata.

    Args:
        aged: number of images with known age per step.
        scale: max relative change of the crops' size.
        shift: max shift of the crops in pixels of the 178x218 frame.
        roll: max roll of the crops in degrees.
        age_weight: weight of the age's loss relative to that of the attributes.
        held_out: share of the people (and of the images with known age) held out for evaluation.
    """

    steps: int = 2400
    batch_size: int = 48
    aged: int = 24
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    ema: float = 0.995
    scale: float = 0.06
    shift: float = 3.0
    roll: float = 8.0
    age_weight: float = 1.0
    held_out: float = 0.1


@dataclass(frozen=True)
class AgedFaces:
    """Crops of people of known age.

    Attributes:
        crops: (n, 3, 64, 64) uint8.
        age: (n,) years.
        male: (n,) 1 for men, 0 for women.
        held_out: (n,) bool, held out for evaluation, chosen by a hash of the image's name.
    """

    crops: Tensor
    age: Tensor
    male: Tensor
    held_out: Tensor


def read_aged(root: Path, share: float) -> AgedFaces:
    """Read a folder with `age.csv` (image_id, age_years, gender) and `crops/` in the CelebA frame.

    Raises:
        LatentrotError: the table is missing or lacks a column.
    """
    path = Path(root) / "age.csv"
    if not path.is_file():
        raise LatentrotError(f"no such table: {path}; expected age_years and gender for each image")
    table = read_columns(path, [AGE, "gender"])
    crops = np.stack([_small(Path(root) / "crops" / str(name)) for name in table.index])
    return AgedFaces(
        torch.from_numpy(crops).permute(0, 3, 1, 2).contiguous(),
        torch.from_numpy(table[AGE].to_numpy(np.float32)),
        torch.from_numpy((table["gender"] == "male").to_numpy(np.float32)),
        torch.from_numpy(held_out(table.index.to_numpy(), share)),
    )


def _small(path: Path) -> np.ndarray:
    """One crop at the network's size: (64, 64, 3) uint8."""
    return np.asarray(Image.open(path).convert("RGB").resize((CROP_SIZE, CROP_SIZE), Image.Resampling.LANCZOS))


def train_attributes(
    celeba: Path, aged: Path, out: Path, config: AttributeTrainConfig | None = None
) -> AttributeNetwork:
    """Train the attributes network and write it.

    On one CPU thread with bfloat16 arithmetic this takes about twenty minutes.

    Args:
        celeba: aligned CelebA with `identity_CelebA.csv` and `list_attr_celeba.csv`.
        aged: photographs with known ages (see `read_aged`).
        out: the safetensors file to write.
        config: configuration of the run; None: the defaults, with which the bundled network was trained.

    Raises:
        LatentrotError: a table is missing.
    """
    config = config or AttributeTrainConfig()
    torch.manual_seed(config.seed)
    folder = FaceFolder(celeba)
    truth = attributes_of(folder)
    apart = torch.from_numpy(held_out(folder.identities.to_numpy(), config.held_out))
    contexts, faces = read_contexts(folder), read_aged(aged, config.held_out)
    network = AttributeNetwork()
    stages = Stages.beside(out, celeba, contexts[~apart])
    fit_attributes(network, contexts[~apart], truth[~apart], faces, config, stages)
    x = faces.crops[faces.held_out].float() / 127.5 - 1
    errors = attribute_errors(network, center_crop(contexts[apart]), truth[apart], x, faces.age[faces.held_out])
    log.info("held-out people: %s", errors)
    provenance = {
        "attributes": json.dumps(ATTRIBUTES), "config": json.dumps(asdict(config)), "data": DATA,
        "held_out": json.dumps(errors),
    }  # fmt: skip
    save_weights(network, out, KIND, provenance)
    stages.remove()
    return network


def attributes_of(folder: FaceFolder) -> Tensor:
    """Read CelebA's attributes of a folder: (n, 40), 1 present, 0 absent, NaN unknown.

    Raises:
        LatentrotError: the table or a column of it is missing.
    """
    table = folder.attributes
    missing = [name for name in ATTRIBUTES if table is None or name not in table]
    if table is None or missing:
        raise LatentrotError(
            f"{folder.root}: list_attr_celeba lacks {', '.join(missing[:3])}; expected all forty attributes"
        )
    return torch.from_numpy((table[list(ATTRIBUTES)].to_numpy(np.float32) + 1) / 2)


def fit_attributes(
    network: AttributeNetwork,
    contexts: Tensor,
    truth: Tensor,
    faces: AgedFaces,
    config: AttributeTrainConfig,
    stages: Stages,
) -> None:
    """Train on (n, 3, 80, 80) uint8 crops with (n, 40) attributes, and on faces with known age that are not held out."""
    learned = torch.nonzero(~faces.held_out)[:, 0]
    fast = computes_bfloat16(torch.device("cpu"))

    def draw(generator: torch.Generator) -> tuple[Tensor, ...]:
        rows = torch.randint(len(contexts), (config.batch_size,), generator=generator)
        old = learned[torch.randint(len(learned), (config.aged,), generator=generator)]
        known = pad_to_context(faces.crops[old].float() / 255)
        x = varied(torch.cat([contexts[rows].float() / 255, known]), config, generator)
        return x[: len(rows)], face_alone(x[len(rows) :]), truth[rows], faces.male[old], faces.age[old]

    def loss(model: AttributeNetwork, batch: tuple[Tensor, ...]) -> Tensor:
        x, aged, attributes, male, years = batch
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            code = model.head(model.trunk(torch.cat([x, aged]).contiguous(memory_format=torch.channels_last)))
        logits, age = model.attributes(code.float()), model.age(code.float())[len(x) :, 0]
        wanted = (years - AGE_CENTER) / AGE_SCALE
        return (
            masked_cross_entropy(logits[: len(x)], attributes)
            + 0.2 * masked_cross_entropy(logits[len(x) :, MALE], male)
            + config.age_weight * F.smooth_l1_loss(age, wanted, beta=0.2)
        )

    train_stage(network, [network], config, stages, "attributes", draw=draw, loss=loss, offset=3)


def varied(contexts: Tensor, config: AttributeTrainConfig, generator: torch.Generator) -> Tensor:
    """Augment crops geometrically and photometrically: (n, 3, 80, 80) in [0, 1] -> (n, 3, 64, 64) in [-1, 1]."""
    x, _ = warp(contexts, config, generator)
    return augment_photometric(mirror_half(x, generator)[0], generator)


def masked_cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean binary cross entropy over the entries of `truth` (0, 1 or NaN for unknown)."""
    known = torch.isfinite(truth)
    return F.binary_cross_entropy_with_logits(logits[known], truth[known])


def attribute_errors(
    network: AttributeNetwork, x: Tensor, truth: Tensor, aged: Tensor, age: Tensor
) -> dict[str, float]:
    """Errors on held-out crops `x` (n, 3, 64, 64) with attributes (n, 40), and `aged` (m, 3, 64, 64) with years (m,)."""
    found = estimate_attributes(x, network=network)[:, 1:]
    years = estimate_attributes(aged, network=network)[:, 0]
    right = ((found > 0.5) == (truth > 0.5)).float().mean()
    return {
        "celeba_images": len(x),
        "accuracy": round(right.item(), 4),
        "aged_images": len(aged),
        "age_mae_years": round((years - age).abs().mean().item(), 3),
    }
