"""Train the label network: pose from labelled CelebA crops, light from relit Yale faces and then from CelebA itself.

Light has no labels on ordinary photographs. The pictures of one person in Yale B are aligned to the pixel and light
adds up, so a weighted sum of them is that face under soft, mixed light with a known main side. A network trained on
such sums labels CelebA; where it is sure, and sure of the mirrored picture too, its labels join the training set. These
are drawn in equal numbers from turned faces lit on the side they look to and on the other side, so that the light
cannot be guessed from the yaw.

Photographs used: CelebA and the extended Yale B, both for research only.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from latentrot.data.celeba import FaceFolder, held_out
from latentrot.data.frame import crop_box
from latentrot.data.tables import read_table, to_files
from latentrot.errors import LatentrotError
from latentrot.files import write_atomically
from latentrot.label.estimate import SURE, estimate_light, estimate_pose
from latentrot.label.network import CROP_SIZE, KIND, LIGHTS, POSE_SCALE, FaceLabeler

__all__ = ["LabelTrainConfig", "train_labeler", "yale_crops"]

log = logging.getLogger(__name__)

#: side of the crops with their surroundings, from which shifted, scaled and leaning crops are cut
CONTEXT_SIZE = 80
#: where a Yale B face, squeezed to a square, lies in the 64x64 crop: first row, first column, side
YALE_BOX = (17, 12, 40)
#: beyond this azimuth, in degrees, a light is on a side
CENTER_AZIMUTH = 20
DATA = "CelebA (aligned; yaw and pitch by 3DDFA V2) and extended Yale B; research use only"
SIGNS = (
    "yaw > 0: nose to the viewer's right; pitch > 0: face looks up; roll > 0: head leans clockwise as seen by the "
    "viewer; light: the side of the picture, as seen by the viewer, the main light comes from"
)


@dataclass(frozen=True)
class LabelTrainConfig:
    """What a training run is; written into the labeler's header.

    Args:
        pose_steps: optimiser steps of the pose half.
        light_steps: optimiser steps of the light half on relit faces alone.
        rounds: rounds of self-training of the light half on CelebA.
        round_steps: optimiser steps per round.
        batch_size: pictures a step.
        learning_rate: AdamW's peak rate.
        weight_decay: AdamW's decoupled weight decay.
        ema: decay per step of the averaged weights, which are the ones kept.
        scale: crops are this much smaller or larger, as a share.
        shift: crops are moved by up to this many pixels of the 178x218 frame.
        roll: crops lean by up to this many degrees.
        confident: least probability of a label CelebA pictures are given in self-training.
        center_share: share of CelebA's training pictures that are to be called lit from the center.
        held_out: share of CelebA's people kept for measuring.
        yale_held_out: number of Yale people (the last ones by name) kept for measuring.
        seed: of everything random.
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
    seed: int = 0


# --- pictures -------------------------------------------------------------------------------------------------------


def read_contexts(folder: FaceFolder) -> Tensor:
    """Crops with 8 pixels of surroundings on each side -> (n, 3, 80, 80) uint8."""

    def read(name: str) -> np.ndarray:
        picture = folder.open_picture(name)
        left, top, right, bottom = crop_box(*picture.size)
        margin = (right - left) * (CONTEXT_SIZE - CROP_SIZE) / (2 * CROP_SIZE)
        box = (left - margin, top - margin, right + margin, bottom + margin)
        return np.asarray(picture.resize((CONTEXT_SIZE, CONTEXT_SIZE), Image.Resampling.BICUBIC, box=box))

    return torch.from_numpy(np.stack([read(name) for name in folder.ids])).permute(0, 3, 1, 2).contiguous()


def center_crop(contexts: Tensor) -> Tensor:
    """(n, 3, 80, 80) uint8 -> the plain crops (n, 3, 64, 64) float in [-1, 1]."""
    margin = (CONTEXT_SIZE - CROP_SIZE) // 2
    return contexts[:, :, margin : margin + CROP_SIZE, margin : margin + CROP_SIZE].float() / 127.5 - 1


@dataclass(frozen=True)
class YaleFaces:
    """Yale B faces in linear light, at the size they have in a 64x64 crop.

    Args:
        pixels: (n, 40, 40) float in [0, 1], proportional to the light.
        azimuth: (n,) degrees, positive where the light is on the picture's left.
        person: (n,) name of the person.
    """

    pixels: Tensor
    azimuth: np.ndarray
    person: np.ndarray

    @property
    def light(self) -> np.ndarray:
        """(n,) index into LIGHTS."""
        return np.where(self.azimuth > CENTER_AZIMUTH, 0, np.where(self.azimuth < -CENTER_AZIMUTH, 2, 1))

    def select(self, rows: np.ndarray) -> YaleFaces:
        """The faces where `rows` is true."""
        return YaleFaces(self.pixels[torch.from_numpy(rows)], self.azimuth[rows], self.person[rows])


def read_yale(root: Path, darkest: float = 0.03) -> YaleFaces:
    """Read the Yale B faces, leaving out those too dark to see (mean brightness below `darkest`)."""
    path = Path(root) / "light.csv"
    if not path.is_file():
        raise LatentrotError(f"no such table: {path}; it names each picture's light (image, azimuth_deg)")
    table = pd.read_csv(path)
    side = YALE_BOX[2]
    pictures = [
        np.asarray(Image.open(Path(root) / name).convert("L").resize((side, side), Image.Resampling.LANCZOS))
        for name in table["image"]
    ]
    pixels = torch.from_numpy(np.stack(pictures)).float() / 255
    faces = YaleFaces(pixels, table["azimuth_deg"].to_numpy(), table["image"].str.split("/").str[0].to_numpy())
    return faces.select((pixels.mean((1, 2)) >= darkest).numpy())


def in_frame(faces: Tensor, size: int) -> Tensor:
    """Set (n, 40, 40) faces into a crop of side `size` (64, or 80 with surroundings), their edges drawn outwards."""
    top, left, side = YALE_BOX
    margin = (size - CROP_SIZE) // 2
    top, left = top + margin, left + margin
    return F.pad(faces[:, None], (left, size - left - side, top, size - top - side), mode="replicate")


def yale_crops(root: Path, people: slice | None = None) -> tuple[Tensor, np.ndarray]:
    """Yale B pictures as the label network is to see them, those too dark to see left out.

    Args:
        root: the folder that holds `light.csv` and one folder per person.
        people: which people, in the order of their names; None takes all.

    Returns:
        (n, 3, 64, 64) float in [-1, 1], and (n,) index into LIGHTS of the true light.

    Raises:
        LatentrotError: no `light.csv` in `root`.
    """
    faces = read_yale(root)
    names = np.unique(faces.person)[people or slice(None)]
    faces = faces.select(np.isin(faces.person, names))
    shown = in_frame(faces.pixels.clamp(0, 1) ** (1 / 2.2), CROP_SIZE)
    return (shown * 2 - 1).expand(-1, 3, -1, -1).contiguous(), faces.light


def read_pose(folder: FaceFolder) -> Tensor:
    """The folder's reference pose: (n, 2) yaw and pitch in degrees, NaN for a picture the table lacks.

    Raises:
        LatentrotError: no `pose.csv`.
    """
    if (path := folder.find_table("pose")) is None:
        raise LatentrotError(
            f"no such table: {folder.root / 'pose.csv'}; it holds each picture's yaw_deg and pitch_deg"
        )
    table = to_files(read_table(path), folder.ids)
    return torch.tensor(table[["yaw_deg", "pitch_deg"]].to_numpy(np.float32))


# --- augmentation ---------------------------------------------------------------------------------------------------


def uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """(n,) numbers between low and high."""
    return torch.rand(n, generator=generator) * (high - low) + low


def warp(contexts: Tensor, config: LabelTrainConfig, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Cut shifted, scaled and leaning crops.

    Args:
        contexts: (n, c, 80, 80).
        config: how far to shift, scale and lean.
        generator: of the random numbers.

    Returns:
        (n, c, 64, 64) crops, and (n,) degrees they were turned by, clockwise as seen by the viewer.
    """
    n = len(contexts)
    roll = uniform(n, -config.roll, config.roll, generator) * (uniform(n, 0, 1, generator) < 0.7)
    zoom = uniform(n, 1 - config.scale, 1 + config.scale, generator) * CROP_SIZE / CONTEXT_SIZE
    reach = config.shift / 128 * 2 * CROP_SIZE / CONTEXT_SIZE  # in half-widths of the context
    cos, sin = roll.deg2rad().cos() * zoom, roll.deg2rad().sin() * zoom
    # rows grow downwards, so the picture turns clockwise when each place looks back anticlockwise
    across = torch.stack([cos, sin, uniform(n, -reach, reach, generator)], 1)
    down = torch.stack([-sin, cos, uniform(n, -reach, reach, generator)], 1)
    grid = F.affine_grid(torch.stack([across, down], 1), [n, 1, CROP_SIZE, CROP_SIZE], align_corners=False)
    return F.grid_sample(contexts, grid, padding_mode="border", align_corners=False), roll


def surrounded(crops: Tensor) -> Tensor:
    """Crops as `warp` takes them: (n, c, 64, 64) gain surroundings by drawing their edges outwards; (n, c, 80, 80) have."""
    margin = (CONTEXT_SIZE - crops.shape[-1]) // 2
    return F.pad(crops, (margin,) * 4, mode="replicate") if margin else crops


def photograph(x: Tensor, generator: torch.Generator) -> Tensor:
    """Vary exposure, contrast, gamma, tint, sharpness and noise: (n, 3, 64, 64) in [0, 1] -> in [-1, 1]."""
    n = len(x)

    def each(low: float, high: float) -> Tensor:
        return uniform(n, low, high, generator)[:, None, None, None]

    x = x.clamp(1e-4, 1) ** each(-0.4, 0.4).exp()
    tint = torch.rand(n, 3, 1, 1, generator=generator) * 0.16 + 0.92
    x = (x - 0.5) * each(0.7, 1.3) * tint + 0.5 + each(-0.15, 0.15)
    grey = each(0, 1) < 0.15
    x = torch.where(grey, x.mean(1, keepdim=True), x)
    coarse = int(torch.randint(16, 48, (1,), generator=generator))
    some = n // 4  # the batch is shuffled: any quarter will do
    small = F.interpolate(x[:some], size=coarse, mode="bilinear", antialias=True)
    x = torch.cat([F.interpolate(small, size=CROP_SIZE, mode="bilinear"), x[some:]])
    x = x + torch.randn(x.shape, generator=generator) * each(0, 0.04)
    return x.clamp(0, 1) * 2 - 1


def mirror_half(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mirror a random half of the pictures; returns them and (n,) bool, true where mirrored."""
    flip = torch.rand(len(x), generator=generator) < 0.5
    return torch.where(flip[:, None, None, None], x.flip(-1), x), flip


# --- relighting -----------------------------------------------------------------------------------------------------


class Relighter:
    """Yale B faces under soft light with a known main side, in front of other surroundings."""

    def __init__(self, faces: YaleFaces, surroundings: Tensor) -> None:
        """Prepare.

        Args:
            faces: the people to relight.
            surroundings: (m, 3, 80, 80) uint8 pictures to put around the faces.
        """
        self.surroundings = surroundings
        level = faces.pixels.mean((1, 2), keepdim=True)
        self.keys = faces.pixels / level  # every light equally strong
        names, person = np.unique(faces.person, return_inverse=True)
        self.rows = [
            [torch.from_numpy(np.flatnonzero((person == p) & (faces.light == c))) for c in range(3)]
            for p in range(len(names))
        ]
        mean = torch.stack([self.keys[torch.from_numpy(person == p)].mean(0) for p in range(len(names))])
        self.ambient = (mean + mean.flip(-1)) / 2
        offset = (torch.arange(CONTEXT_SIZE) + 0.5 - CONTEXT_SIZE / 2) / (YALE_BOX[2] / 2)
        lower = offset - (YALE_BOX[0] + YALE_BOX[2] / 2 - CROP_SIZE / 2) / (YALE_BOX[2] / 2)
        radius = (offset[None, :] ** 2 + lower[:, None] ** 2).sqrt()
        self.mask = ((1.1 - radius) / 0.2).clamp(0, 1)[None, None]

    def pick(self, person: int, light: int, generator: torch.Generator) -> Tensor:
        """One picture of a person with light from the given side: (40, 40)."""
        rows = self.rows[person][light]
        return self.keys[rows[int(torch.randint(len(rows), (1,), generator=generator))]]

    def mix(self, light: int, generator: torch.Generator) -> Tensor:
        """One face in linear light: a dominant key light, ambient light and two weaker lights -> (40, 40)."""
        person, *others = torch.randint(0, len(self.rows), (3,), generator=generator).tolist()
        ambient, first, second = torch.rand(3, generator=generator).tolist()
        face = self.pick(person, light, generator) + 1.2 * ambient * self.ambient[person]
        for share, other in zip((first, second), others, strict=True):
            face = face + 0.25 * share * self.pick(person, other % 3, generator)
        return face / (1 + 1.2 * ambient + 0.25 * (first + second))

    def batch(self, n: int, config: LabelTrainConfig, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Relit faces: (n, 3, 64, 64) in [-1, 1] and (n,) index into LIGHTS."""
        light = torch.arange(n) % 3
        face = torch.stack([self.mix(int(side), generator) for side in light])
        exposure = uniform(n, 0.15, 0.6, generator)[:, None, None]
        gamma = uniform(n, 0.4, 0.8, generator)[:, None, None]
        face = in_frame((face * exposure).clamp(1e-4, 1) ** gamma, CONTEXT_SIZE)
        around = self.surroundings[torch.randint(len(self.surroundings), (n,), generator=generator)].float() / 255
        around, _ = mirror_half(around, generator)
        kind = torch.rand(n, 1, 1, 1, generator=generator)
        plain = torch.rand(n, 1, 1, 1, generator=generator).expand_as(around)
        around = torch.where(kind < 0.2, plain, around)
        mask = torch.where(kind > 0.7, torch.ones_like(self.mask), self.mask)  # 30%: the face's own edges go on
        x, _ = warp(face * mask + around * (1 - mask), config, generator)
        x, flip = mirror_half(x, generator)
        order = torch.randperm(n, generator=generator)
        return photograph(x, generator)[order], torch.where(flip, 2 - light, light)[order]


# --- training -------------------------------------------------------------------------------------------------------


def optimise(
    network: FaceLabeler,
    parts: Sequence[nn.Module],
    steps: int,
    config: LabelTrainConfig,
    *,
    loss_of: Callable[[FaceLabeler, int], Tensor],
    name: str,
) -> None:
    """Train some parts of the network and leave their averaged weights in it."""
    network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True)
    weights = [p for part in parts for p in part.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=steps, pct_start=0.1)
    for step in (bar := tqdm(range(steps), disable=None, desc=name)):
        loss = loss_of(network, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        average.update_parameters(network)
        if step % 50 == 0:
            bar.set_postfix(loss=f"{loss.item():.4f}")
            log.info("%s %d/%d loss %.4f", name, step, steps, loss.item())
    network.load_state_dict(average.module.state_dict())
    network.eval()


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


def pseudo_labels(
    network: FaceLabeler, x: Tensor, yaw: np.ndarray, config: LabelTrainConfig, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Pictures whose light the network is sure of, balanced over the sides and, for turned faces, over the yaw.

    Args:
        network: as trained so far.
        x: (n, 3, 64, 64) float in [-1, 1].
        yaw: (n,) degrees.
        config: the run.
        generator: of the random choice.

    Returns:
        (m,) rows chosen, and (m,) their labels as index into LIGHTS.
    """
    one = estimate_light(x, labeler=network, mirror=False)
    two = estimate_light(x.flip(-1), labeler=network, mirror=False).flip(-1)
    label = ((one + two) / 2).argmax(1)
    sure = torch.minimum(one, two).gather(1, label[:, None])[:, 0] > config.confident
    label, keep = label.numpy(), sure.numpy()
    chosen: list[np.ndarray] = []
    for near, far in ((0, 8), (8, 20), (20, 90)):
        band = keep & (np.abs(yaw) >= near) & (np.abs(yaw) < far)
        # the light comes from the side the nose points to, or from the other one: as many of both
        same = np.flatnonzero(band & (label == np.where(yaw > 0, 2, 0)))
        other = np.flatnonzero(band & (label == np.where(yaw > 0, 0, 2)))
        number = min(len(same), len(other))
        middle = np.flatnonzero(band & (label == 1))
        chosen += [generator.permutation(rows)[:number] for rows in (same, other)]
        chosen.append(generator.permutation(middle)[: 2 * number])
    rows = np.concatenate(chosen)
    return rows, label[rows]


def train_light(
    network: FaceLabeler, relighter: Relighter, contexts: Tensor, yaw: np.ndarray, config: LabelTrainConfig
) -> None:
    """Teach the light on relit faces, then on CelebA by its own sure labels: contexts (n, 3, 80, 80) uint8."""
    generator = torch.Generator().manual_seed(config.seed * 1000 + 2)
    choice = np.random.default_rng(config.seed)
    parts = [network.light_trunk, network.light_head]

    def relit(model: FaceLabeler, _: int) -> Tensor:
        x, light = relighter.batch(config.batch_size, config, generator)
        return F.cross_entropy(model.light(x), light, label_smoothing=0.05)

    optimise(network, parts, config.light_steps, config, loss_of=relit, name="light")
    for number in range(config.rounds):
        rows, labels = pseudo_labels(network, center_crop(contexts), yaw, config, choice)
        log.info("round %d: %s labels per light", number + 1, np.bincount(labels, minlength=3).tolist())
        own = [torch.from_numpy(rows[labels == light]) for light in range(3)]
        if not all(len(part) for part in own):
            raise LatentrotError(f"self-training found {[len(p) for p in own]} sure labels for {LIGHTS}; none may be 0")

        def mixed(model: FaceLabeler, step: int, own: list[Tensor] = own) -> Tensor:
            half = config.batch_size // 2
            x, light = relighter.batch(half, config, generator)
            second = torch.arange(half) % 3
            drawn = [own[int(c)][int(torch.randint(len(own[int(c)]), (1,), generator=generator))] for c in second]
            y, _ = warp(contexts[torch.stack(drawn)].float() / 255, config, generator)
            y, flip = mirror_half(y, generator)
            order = torch.randperm(half, generator=generator)
            second = torch.where(flip, 2 - second, second)[order]
            logits = model.light(torch.cat([x, photograph(y, generator)[order]]))
            return F.cross_entropy(logits, torch.cat([light, second]), label_smoothing=0.05)

        optimise(network, parts, config.round_steps, config, loss_of=mixed, name=f"light round {number + 1}")
    set_center_share(network, center_crop(contexts), config.center_share)


def set_center_share(network: FaceLabeler, x: Tensor, share: float) -> None:
    """Move the bias of `center` so that this share of the pictures (n, 3, 64, 64) is called lit from the center."""
    logits = estimate_light(x, labeler=network).log()
    lead = logits[:, 1] - torch.maximum(logits[:, 0], logits[:, 2])
    last = network.light_head[-1]
    if not isinstance(last, nn.Linear):
        raise TypeError(f"the light head ends in {type(last).__name__}, not in a linear layer")
    with torch.no_grad():
        last.bias[1] -= torch.quantile(lead, 1 - share)


# --- the whole ------------------------------------------------------------------------------------------------------


def pose_errors(estimated: Tensor, truth: Tensor) -> dict[str, float]:
    """Mean absolute errors in degrees: estimated (n, 3) yaw, pitch, roll against truth (n, 2) yaw, pitch."""
    error = (estimated[:, :2] - truth).abs()
    small = truth[:, 0].abs() <= 45
    return {
        "yaw_mae_deg": round(error[:, 0].mean().item(), 3),
        "pitch_mae_deg": round(error[:, 1].mean().item(), 3),
        "yaw_mae_within_45_deg": round(error[small, 0].mean().item(), 3),
    }


def measure(network: FaceLabeler, x: Tensor, pose: Tensor, yale: tuple[Tensor, np.ndarray]) -> dict[str, float]:
    """Errors on people never trained on.

    Args:
        network: the labeler.
        x: (n, 3, 64, 64) CelebA crops in [-1, 1].
        pose: (n, 2) yaw and pitch in degrees.
        yale: crops (m, 3, 64, 64) and (m,) index into LIGHTS.

    Returns:
        Counts, mean absolute errors in degrees, and shares of the Yale pictures.
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
    """Write the network in half precision with its provenance, what data it learned from, under a temporary name first."""
    header = {
        "kind": KIND,
        "version": "1",
        "signs": SIGNS,
        "lights": json.dumps(LIGHTS),
        "held_out": json.dumps(errors),
        "config": json.dumps(asdict(config)),
        "data": data,
    }
    tensors = {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in network.state_dict().items()}
    content = save(tensors, metadata=header)
    write_atomically(path, lambda p: p.write_bytes(content))


def train_labeler(
    celeba: Path, yaleb: Path, out: Path, config: LabelTrainConfig | None = None, *, network: FaceLabeler | None = None
) -> dict[str, float]:
    """Train the label network and write it.

    On one CPU thread this takes about eight minutes; more threads help only on an idle machine.

    Args:
        celeba: aligned CelebA with `identity_CelebA.csv` and `pose.csv` (image_id, yaw_deg, pitch_deg).
        yaleb: extended Yale B with `light.csv` (image, azimuth_deg, elevation_deg).
        out: the safetensors file to write.
        config: the run; None takes the defaults, with which the bundled file was made, its two halves in separate runs
            (pose_steps=0, light_steps=0) whose weights were then joined.
        network: a network to go on from; a half whose steps are 0 is kept as it is.

    Returns:
        Errors on people held out, as also written into the file's header (see `measure`).

    Raises:
        LatentrotError: a table is missing.
    """
    config = config or LabelTrainConfig()
    torch.manual_seed(config.seed)
    network = network or FaceLabeler()
    folder = FaceFolder(celeba)
    pose = read_pose(folder)
    contexts = read_contexts(folder)
    apart = held_out(folder.identities.to_numpy(), config.held_out) | ~torch.isfinite(pose).all(1).numpy()
    kept, test = torch.from_numpy(~apart), torch.from_numpy(apart)

    if config.light_steps:
        faces = read_yale(yaleb)
        training = np.unique(faces.person)[: -config.yale_held_out]
        relighter = Relighter(faces.select(np.isin(faces.person, training)), contexts[kept])
        train_light(network, relighter, contexts[kept], pose[kept, 0].numpy(), config)
    if config.pose_steps:
        train_pose(network, contexts[kept], pose[kept], config)
    yale = yale_crops(yaleb, slice(-config.yale_held_out, None))
    errors = measure(network, center_crop(contexts[test]), pose[test], yale)
    save_labeler(network, out, config, errors, DATA)
    log.info("held-out people: %s", errors)
    return errors
