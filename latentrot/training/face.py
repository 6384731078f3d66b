"""Train the face's two estimators, 68 landmarks and parts, from photographs with points and masks.

What people marked counts first; a teacher's answers (a table made once, by a program of its own) widen it to more people.
Masks of different sets separate different parts: where a set joins parts, the network's probabilities of them are added
before they are compared, so that a set says nothing about what it does not tell apart.

Source of the landmarks' loss: the likelihood of a Laplace distribution whose scale is predicted too (Kendall and Gal, "What
Uncertainties Do We Need in Bayesian Deep Learning for Computer Vision?", NeurIPS 2017).
"""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar, cast

import cv2
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from latentrot.data.celeba import held_out
from latentrot.data.images import read_image
from latentrot.errors import LatentrotError
from latentrot.faces.alignment import align_landmarks
from latentrot.faces.detect import detect_faces
from latentrot.faces.face_networks import (
    LANDMARK_SIDE,
    PARTS_SIDE,
    LandmarkNetwork,
    PartsNetwork,
    load_face_network,
    save_face_network,
)
from latentrot.faces.landmarks import FRAME_CENTRE, FRAME_REACH, estimate_landmarks
from latentrot.faces.parts import CLOTHES, PARTS, REGION_LIFT, REGION_WIDTHS, SKIN
from latentrot.faces.upright import MIRRORED_68, centred, cut_square, five_of, upright_square
from latentrot.training.checkpoints import check_same_run, checkpoint_config, load_checkpoint, save_checkpoint

__all__ = [
    "FaceTrainConfig",
    "Faces",
    "fit_network",
    "landmark_faces",
    "marks_of",
    "parts_faces",
    "read_teacher",
    "squares_at",
    "train_landmarks",
    "train_parts",
]

log = logging.getLogger(__name__)

Fitted = TypeVar("Fitted", bound=nn.Module)
FaceNetwork = TypeVar("FaceNetwork", LandmarkNetwork, PartsNetwork)

#: columns of a table of landmarks
POINTS = [f"{axis}{k}" for k in range(68) for axis in "xy"]
#: squares are kept this much larger than what the networks see, so that they can be moved, leaned and scaled
MARGIN = 1.35
#: the teacher's answers for a photograph and its mirror image may lie so far apart, as a share of the face's size
DISAGREEMENT = 0.02
#: share of the squares with parts that get another head beside the own one, and how far apart the two are, face widths
NEIGHBOURS = 0.4
NEIGHBOUR_WIDTHS = (0.9, 1.7)
#: labels of pixels beyond the photograph or of no known part
UNKNOWN = 255
#: which parts each set of masks joins; parts that stand in no group are told apart by nobody there
GROUPS: dict[str, tuple[tuple[int, ...], ...]] = {
    "celebamask": ((0,), (1,), (2,), (3,), (4,), (5,), (6,)),
    "lfw": ((0, 5, 6), (1, 3, 4), (2,)),
    "fasseg": ((0, 5), (1,), (2,), (3,), (4,), (6,)),
    "ccp_heads": ((0,), (1, 3, 4), (2,), (5, 6)),
    "taught": ((0,), (1, 3), (2,), (4,), (5,), (6,)),
}
#: how often a photograph of each set is drawn
WEIGHTS = {"celebamask": 3.0, "lfw": 1.0, "fasseg": 1.0, "ccp_heads": 0.5, "taught": 2.0}
#: skin whose middle lies so near to the landmarks' is of the own face, face widths: glasses part a forehead from a cheek
OWN_FACE = 0.6
#: another face in a square counts from this share of the own one's area on
OTHER_FACE = 0.03
#: skin and hair so much nearer to another face than to the own one are background
SURELY_THEIRS = 0.7
#: parts so near to each other hang together, pixels of a square: between two the teacher is not sure
SEAM = 7
DATA = "YouTube Faces stills, LFW, CelebA, CelebAMask-HQ, LFW Part Labels, FASSEG, CCP; research use only"


@dataclass(frozen=True)
class FaceTrainConfig:
    """What a training run is; written into its checkpoints and into the network's metadata.

    Args:
        steps: optimiser steps in all.
        batch_size: squares a step.
        learning_rate: AdamW's peak rate; a cosine takes it to zero.
        warmup: steps of linear warm-up.
        weight_decay: AdamW's decoupled weight decay.
        ema: decay per step of the averaged weights, which are the ones kept.
        roll: squares lean by up to this many degrees.
        scale: and are this much smaller or larger, as a share.
        shift: and lie off by up to this share of their side.
        held_out: share of the people kept for measuring.
        init: file of a network whose weights it begins with; None: random ones.
        seed: of everything random.
    """

    steps: int = 6_000
    batch_size: int = 64
    learning_rate: float = 2e-3
    warmup: int = 100
    weight_decay: float = 0.02
    ema: float = 0.998
    roll: float = 25.0
    scale: float = 0.15
    shift: float = 0.06
    held_out: float = 0.1
    init: str | None = None
    seed: int = 0


# --- what is learned from -------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Faces:
    """Squares around faces, `MARGIN` times as large as what a network sees.

    Args:
        pictures: (n, s, s, 3) uint8.
        targets: (n, 68, 2) float32 landmarks in pixels of the squares, or (n, s, s) uint8 masks.
        groups: (n,) which set each is of.
        weights: (n,) how often each is drawn.
        tests: (n,) bool, people held out.
        names: (n,) for tables.
    """

    pictures: np.ndarray
    targets: np.ndarray
    groups: np.ndarray
    weights: np.ndarray
    tests: np.ndarray
    names: np.ndarray

    def subset(self, rows: np.ndarray) -> Faces:
        """The rows chosen."""
        return Faces(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def points_of(table: pd.DataFrame) -> np.ndarray:
    """The (n, 68, 2) landmarks in a table with columns x0, y0 ... x67, y67."""
    return table[POINTS].to_numpy(np.float64).reshape(-1, 68, 2)


def read_teacher(path: Path) -> pd.DataFrame:
    """A teacher's landmarks: image (path below the data), disagreement, x0, y0 ... x67, y67.

    Raises:
        LatentrotError: no such table, or without these columns.
    """
    try:
        table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise LatentrotError(
            f"cannot read the teacher's table {path}: {error}; give a .parquet or .csv file"
        ) from error
    missing = {"image", "disagreement", *POINTS} - set(table.columns)
    if missing:
        raise LatentrotError(
            f"{path} lacks the columns {', '.join(sorted(missing)[:4])}; expected a table of 68 landmarks"
        )
    return table


def marks_of(data: Path, images: Sequence[str]) -> pd.DataFrame:
    """Landmarks by the bundled network, as `read_teacher` gives them: of the face nearest to the middle of each photograph.

    Args:
        data: the folder.
        images: paths below it.

    Returns:
        A row for each photograph in which there is a face.
    """
    rows = []
    for name in tqdm(images, desc="mark", disable=None):
        picture = read_image(data / name)
        middle = np.array(picture.shape[1::-1]) / 2
        faces = detect_faces(picture)
        if faces:
            face = min(faces, key=lambda f: float(np.linalg.norm(f.landmarks.mean(0) - middle)))
            rows.append([name, 0.0, *estimate_landmarks(picture, face.landmarks).points.flatten()])
    return pd.DataFrame(rows, columns=["image", "disagreement", *POINTS])


def landmark_rows(data: Path, teacher: pd.DataFrame) -> pd.DataFrame:
    """Every photograph with landmarks: image (below `data`), person, set, weight, points."""
    teacher = teacher[teacher["disagreement"] < DISAGREEMENT]
    sets = teacher["image"].str.split("/").str[0]
    marked = pd.read_csv(data / "ytf" / "landmarks68.csv")
    people = pd.read_csv(data / "ytf" / "identity_CelebA.csv", dtype=str).set_index("image_id")["identity"]
    marked = marked.copy().assign(
        person=marked["image_id"].map(people), image="ytf/img_align_celeba/" + marked["image_id"]
    )
    celeba = pd.read_csv(data / "celeba" / "identity_CelebA.csv", dtype=str).set_index("image_id")["identity"]
    taught = teacher[sets.isin(["lfw", "celeba"])].copy()
    file = taught["image"].str.split("/").str[-1]
    folder = taught["image"].str.split("/").str[1]
    taught["person"] = np.where(taught["image"].str.startswith("lfw/"), folder, file.map(celeba))
    both = pd.concat([marked.assign(weight=3.0, set="ytf"), taught.assign(weight=1.0, set=sets[taught.index])])
    return both.reset_index(drop=True)


def landmark_faces(data: Path, teacher: pd.DataFrame, share: float) -> Faces:
    """Squares of the CelebA frame with what lies around it, and landmarks in them."""
    table = landmark_rows(data, teacher)
    size = round(LANDMARK_SIDE * MARGIN)
    grain = LANDMARK_SIDE / (2 * FRAME_REACH)
    pictures = np.zeros((len(table), size, size, 3), np.uint8)
    targets = np.zeros((len(table), 68, 2), np.float32)
    for i, points in enumerate(tqdm(points_of(table), desc="read", disable=None)):
        with Image.open(data / str(table["image"][i])) as file:
            picture = file.convert("RGB")
        alignment = align_landmarks(five_of(points), picture.size)
        linear = alignment.matrix[:, :2] * grain
        shift = (alignment.matrix[:, 2] - FRAME_CENTRE) * grain + size / 2
        matrix = np.column_stack([linear, shift])
        pictures[i] = cut_square(np.asarray(picture), matrix, size)
        targets[i] = points @ linear.T + shift
    tests = held_out(table["person"].astype(str).to_numpy(), share)
    return Faces(
        pictures,
        targets,
        table["set"].to_numpy(str),
        table["weight"].to_numpy(float),
        tests,
        table["image"].to_numpy(str),
    )


def masked_photographs(data: Path, masks: Path | None) -> pd.DataFrame:
    """The photographs with masks: image (below `data`), mask (path), set, weight, person.

    Args:
        data: the folder with parts/ and lfw/.
        masks: folder of a teacher's masks, as `experiments/teach_parts.py` writes it; None: made by hand only.
    """
    pairs = pd.read_csv(data / "parts" / "pairs.csv")
    by_hand = pd.DataFrame(
        {
            "image": "parts/" + pairs["image"],
            "mask": [data / "parts" / m for m in pairs["mask"]],
            "set": pairs["set"],
            "weight": pairs["set"].map(WEIGHTS),
            "person": pairs["image"].str.split("/").str[-1].str.replace(r"_\d{4}\.\w+$", "", regex=True),
        }
    )
    return by_hand if masks is None else pd.concat([by_hand, taught_photographs(masks)], ignore_index=True)


def taught_photographs(masks: Path) -> pd.DataFrame:
    """The photographs of LFW with a teacher's mask: as `masked_photographs`."""
    paths = sorted((masks / "lfw").rglob("*.png"))
    table = pd.DataFrame({"mask": paths, "set": "taught", "weight": WEIGHTS["taught"]})
    table["image"] = [str(path.relative_to(masks).with_suffix(".jpg")) for path in paths]
    table["person"] = [path.parent.name for path in paths]
    return table


def parts_faces(data: Path, teacher: pd.DataFrame, masks: Path | None, share: float) -> Faces:
    """Upright squares around heads with masks: made by hand, and a teacher's.

    Args:
        data: the folder with parts/ and lfw/.
        teacher: landmarks, which say where a head lies: from `read_teacher` or `marks_of`.
        masks: folder of the teacher's masks; None: made by hand only.
        share: of the people held out.
    """
    known = teacher.set_index("image")
    pairs = masked_photographs(data, masks)
    pairs = pairs[pairs["image"].isin(known.index)].reset_index(drop=True)
    size = round(PARTS_SIDE * MARGIN)
    pictures = np.zeros((len(pairs), size, size, 3), np.uint8)
    targets = np.zeros((len(pairs), size, size), np.uint8)
    marks = points_of(known.loc[pairs["image"]])
    files = zip(pairs["image"], pairs["mask"], pairs["set"], strict=True)
    for i, (image, mask, kind) in enumerate(tqdm(files, total=len(pairs), desc="read", disable=None)):
        with Image.open(data / image) as file:
            picture = file.convert("RGB")
        matrix = upright_square(marks[i], size, REGION_WIDTHS * MARGIN, REGION_LIFT)
        pictures[i] = cut_square(np.asarray(picture), matrix, size)
        targets[i] = mask_in(Path(mask), picture.size, matrix, size)
        if kind == "taught":
            targets[i] = own_person(targets[i])
    faces = Faces(
        pictures,
        targets,
        pairs["set"].to_numpy(str),
        pairs["weight"].to_numpy(float),
        held_out(pairs["person"].astype(str), share),
        pairs["image"].to_numpy(str),
    )
    return faces.subset((targets != UNKNOWN).any((1, 2)))


def mask_in(path: Path, photo_size: tuple[int, int], matrix: np.ndarray, size: int) -> np.ndarray:
    """A mask in a square: (size, size) uint8 parts, `UNKNOWN` beyond the photograph."""
    with Image.open(path) as file:
        classes = np.asarray(file.resize(photo_size, Image.Resampling.NEAREST))
    return np.asarray(
        cv2.warpAffine(classes, centred(matrix), (size, size), flags=cv2.INTER_NEAREST, borderValue=UNKNOWN), np.uint8
    )


def own_person(parts: np.ndarray) -> np.ndarray:
    """A teacher's parts in a square around a head without other people; unknown where no face lies in the middle.

    The teacher marks everybody, the network is to mark one. Skin and hair clearly nearer to another face are background;
    what is nearer to it but may be the own person's, or hangs together with the own face by nothing, says nothing.
    """
    width = len(parts) / (REGION_WIDTHS * MARGIN)
    count, labels, stats, centres = cv2.connectedComponentsWithStats((parts == SKIN).astype(np.uint8))
    middle = len(parts) / 2 + np.array([0, REGION_LIFT * width])
    is_near = np.linalg.norm(centres - middle, axis=1) < OWN_FACE * width
    is_near[0] = False
    areas = stats[:, cv2.CC_STAT_AREA]
    own = np.isin(labels, np.flatnonzero(is_near))
    if own.sum() < 0.2 * width**2:
        return np.full_like(parts, UNKNOWN)
    others = [k for k in range(1, count) if not is_near[k] and areas[k] > OTHER_FACE * own.sum()]
    person = (parts > 0) & (parts != UNKNOWN)
    theirs = surely = np.zeros_like(person)
    if others:
        here, there = (
            cv2.distanceTransform((~face).astype(np.uint8), cv2.DIST_L2, 5) for face in (own, np.isin(labels, others))
        )
        theirs, surely = there < here, (there < SURELY_THEIRS * here) & (parts != CLOTHES)
    near = cv2.dilate((person & ~theirs).astype(np.uint8), np.ones((SEAM, SEAM), np.uint8))
    _, bodies = cv2.connectedComponents(near)
    mine = np.isin(bodies, np.unique(bodies[own]))
    return np.where(person & ~mine, np.where(surely, 0, UNKNOWN), parts).astype(np.uint8)


# --- one step's squares ---------------------------------------------------------------------------------------------


def rows_at(step: int, weights: np.ndarray, config: FaceTrainConfig) -> np.ndarray:
    """Which squares a step sees: drawn by weight from the seed and the step alone."""
    rng = np.random.default_rng((config.seed, step))
    return rng.choice(len(weights), config.batch_size, p=weights / weights.sum())


def placements(n: int, config: FaceTrainConfig, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Where the network's square lies in the kept one.

    Returns:
        (n, 2, 3) from positions in it to positions in the kept square, both -1 to 1; (n,) bool, mirrored.
    """

    def uniform(limit: float) -> Tensor:
        return (torch.rand(n, generator=generator) * 2 - 1) * limit

    angle, shift_x, shift_y = torch.deg2rad(uniform(config.roll)), uniform(config.shift * 2), uniform(config.shift * 2)
    zoom = torch.exp(uniform(math.log1p(config.scale))) / MARGIN
    flip = torch.rand(n, generator=generator) < 0.5
    sign = torch.where(flip, -1.0, 1.0)
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    first = torch.stack([cos * sign, -sin, shift_x / MARGIN], -1)
    second = torch.stack([sin * sign, cos, shift_y / MARGIN], -1)
    return torch.stack([first, second], 1), flip


def spoiled(x: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures as cameras, screens and hands spoil them: colour, grey, softness, grain, things in front: (n, 3, h, w)."""
    n, size = len(x), x.shape[-1]

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=generator)

    x = (x - x.mean((1, 2, 3), keepdim=True)) * draw(0.6, 1.35, 1, 1, 1) + x.mean((1, 2, 3), keepdim=True)
    x = x * draw(0.85, 1.15, 3, 1, 1) + draw(-0.25, 0.25, 1, 1, 1)
    grey = x.mean(1, keepdim=True).expand_as(x)
    x = torch.where((draw(0, 1) < 0.15)[:, None, None, None], grey, x)
    small = F.interpolate(x, size=round(float(draw(0.18, 0.5)[0]) * size), mode="area")
    soft = F.interpolate(small, size=size, mode="bilinear", align_corners=False)
    x = torch.where((draw(0, 1) < 0.4)[:, None, None, None], soft, x)
    x = x + torch.randn(x.shape, generator=generator) * draw(0, 0.08, 1, 1, 1)
    across = torch.linspace(-1, 1, size)
    centre, half = draw(-1, 1, 2), draw(0.08, 0.35, 2)
    covered = ((across - centre[:, :1]).abs() < half[:, :1])[:, None, :] & (
        (across - centre[:, 1:]).abs() < half[:, 1:]
    )[:, :, None]
    covered &= (draw(0, 1) < 0.25)[:, None, None]
    return torch.where(covered[:, None], draw(-1, 1, 3, 1, 1), x).clamp(-1, 1)


def squares_at(
    faces: Faces, step: int, config: FaceTrainConfig, size: int
) -> tuple[Tensor, Tensor, Tensor, np.ndarray]:
    """One step's squares as the network sees them, their placements, which are mirrored, and their rows."""
    x, matrix, flip, rows, generator = clean_squares_at(faces, step, config, size)
    return spoiled(x, generator), matrix, flip, rows


def clean_squares_at(
    faces: Faces, step: int, config: FaceTrainConfig, size: int
) -> tuple[Tensor, Tensor, Tensor, np.ndarray, torch.Generator]:
    """The squares of `squares_at` before they are spoiled, and what goes on drawing."""
    rows = rows_at(step, faces.weights, config)
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    matrix, flip = placements(len(rows), config, generator)
    kept = torch.from_numpy(faces.pictures[rows]).permute(0, 3, 1, 2).float() / 127.5 - 1
    grid = F.affine_grid(matrix, [len(rows), 3, size, size], align_corners=False)
    x = F.grid_sample(kept, grid, padding_mode="border", align_corners=False)
    return x, matrix, flip, rows, generator


def landmark_batch(faces: Faces, step: int, config: FaceTrainConfig) -> tuple[Tensor, Tensor]:
    """(b, 3, 128, 128) pictures and (b, 68, 2) landmarks, -1 to 1."""
    x, matrix, flip, rows = squares_at(faces, step, config, LANDMARK_SIDE)
    kept = torch.from_numpy(faces.targets[rows]) / faces.pictures.shape[1] * 2 - 1
    points = torch.linalg.solve(matrix[:, :, :2], (kept - matrix[:, None, :, 2]).transpose(1, 2)).transpose(1, 2)
    order = torch.from_numpy(MIRRORED_68)
    return x, torch.where(flip[:, None, None], points[:, order], points)


def parts_batch(faces: Faces, step: int, config: FaceTrainConfig) -> tuple[Tensor, Tensor, np.ndarray]:
    """(b, 3, 256, 256) pictures, (b, 256, 256) parts, and the set each is of."""
    x, matrix, _, rows, generator = clean_squares_at(faces, step, config, PARTS_SIDE)
    grid = F.affine_grid(matrix, [len(rows), 1, PARTS_SIDE, PARTS_SIDE], align_corners=False)
    masks = torch.from_numpy(faces.targets[rows]).float()[:, None]
    beyond = (grid.abs() > 1).any(-1)
    y = F.grid_sample(masks, grid, mode="nearest", padding_mode="border", align_corners=False)[:, 0].long()
    y = torch.where(beyond, UNKNOWN, y)
    return spoiled(with_neighbours(x, y, generator), generator), y, faces.groups[rows]


def with_neighbours(x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
    """Some pictures with the head of another one beside and behind the own one, where background is and stays the answer.

    Source: Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation", CVPR 2021.

    Args:
        x: (n, 3, s, s) pictures.
        y: (n, s, s) parts.
        generator: draws which, and where.
    """
    n, size = len(x), x.shape[-1]
    others, theirs = x.roll(1, 0), y.roll(1, 0)
    chosen = torch.rand(n, generator=generator) < NEIGHBOURS
    low, high = (size * widths / REGION_WIDTHS for widths in NEIGHBOUR_WIDTHS)
    across = (low + (high - low) * torch.rand(n, generator=generator)) * torch.randn(n, generator=generator).sign()
    down = (torch.rand(n, generator=generator) - 0.5) * 0.3 * size
    out = x.clone()
    for i in torch.nonzero(chosen).flatten().tolist():
        shift = round(float(down[i])), round(float(across[i]))
        head = moved((theirs[i] > 0) & (theirs[i] != UNKNOWN), shift)
        out[i] = torch.where(head & (y[i] == 0), moved(others[i], shift), x[i])
    return out


def moved(x: Tensor, shift: tuple[int, int]) -> Tensor:
    """(..., h, w) moved down and to the right; 0 where nothing comes from."""
    down, across = shift
    return F.pad(x, (across, -across, down, -down))  # a negative border is cut off


# --- losses ---------------------------------------------------------------------------------------------------------


def landmark_loss(points: Tensor, scatter: Tensor, wanted: Tensor) -> Tensor:
    """Negative logarithm of the likelihood of a radial Laplace distribution, up to a constant."""
    distance = (points - wanted).square().sum(-1).add(1e-8).sqrt()
    return (distance * torch.exp(-scatter) + 2 * scatter).mean()


def parts_loss(logits: Tensor, wanted: Tensor, sets: np.ndarray) -> Tensor:
    """Cross entropy over the parts as each picture's set joins them.

    Args:
        logits: (n, 7, h, w).
        wanted: (n, h, w) parts; `UNKNOWN` says nothing.
        sets: (n,) which set each is of.
    """
    joined = torch.stack([joined_parts(str(name)) for name in sets])
    right = joined[torch.arange(len(sets))[:, None, None], wanted]
    log_p = logits.float().movedim(1, -1).log_softmax(-1)
    known = ~right.all(-1)
    gain = log_p.masked_fill(~right, -torch.inf).logsumexp(-1).where(known, 0)
    return -gain.sum() / known.sum().clamp(min=1)


@cache
def joined_parts(name: str) -> Tensor:
    """(256, 7) bool: which parts a label of this set may stand for; all of them where it says nothing."""
    table = torch.ones(256, len(PARTS), dtype=torch.bool)
    for group in GROUPS[name]:
        row = torch.zeros(len(PARTS), dtype=torch.bool)
        row[list(group)] = True
        table[list(group)] = row
    return table


# --- the loop -------------------------------------------------------------------------------------------------------


def rate_at(step: int, config: FaceTrainConfig) -> float:
    """Linear warm-up, then a cosine to zero."""
    rise = min(1.0, (step + 1) / max(1, config.warmup))
    return config.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * step / config.steps))


def fit_network(
    network: Fitted, loss_at: Callable[[nn.Module, int], Tensor], out: Path, config: FaceTrainConfig, save_every: int
) -> Iterator[tuple[int, Fitted]]:
    """Optimise, from the checkpoint in `out` where there is one; yields steps done and averaged weights at each save."""
    out.mkdir(parents=True, exist_ok=True)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True)
    optimizer = torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    checkpoint, start = out / "checkpoint.safetensors", 0
    if checkpoint.is_file():
        # a cosine of another length is another run from its first step on
        check_same_run(checkpoint_config(checkpoint, FaceTrainConfig), config, free=())
        start = load_checkpoint(checkpoint, network, average, optimizer)
    network.train()
    with (out / "log.csv").open("a", newline="") as file:
        rows = csv.writer(file)
        for step in tqdm(range(start, config.steps), initial=start, total=config.steps, desc="train", disable=None):
            for group in optimizer.param_groups:
                group["lr"] = rate_at(step, config)
            torch.manual_seed(config.seed * 7_919 + step)  # dropout follows the step alone
            loss = loss_at(network, step)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            average.update_parameters(network)
            if step % 20 == 0:
                rows.writerow([step, f"{loss.item():.5f}"])
            if (step + 1) % save_every == 0 or step + 1 == config.steps:
                file.flush()
                save_checkpoint(checkpoint, network, average, optimizer, step + 1, config)
                yield step + 1, cast(Fitted, average.module)


def channels_last(x: Tensor) -> Tensor:
    """Pictures in the memory layout in which a CPU convolves quickest."""
    return x.contiguous(memory_format=torch.channels_last)


def half_precision(enabled: bool) -> torch.autocast:
    """bfloat16 where the processor computes it."""
    return torch.autocast("cpu", torch.bfloat16, enabled=enabled)


def begun(network: FaceNetwork, config: FaceTrainConfig) -> FaceNetwork:
    """A network with the weights that a run begins with."""
    if config.init is not None:
        network.load_state_dict(load_face_network(type(network), Path(config.init)).state_dict())
    return network


def train_landmarks(
    faces: Faces, out: Path, config: FaceTrainConfig, *, bfloat16: bool = False, save_every: int = 500
) -> Path:
    """Train the landmark network; goes on where it stopped, to the exact step.

    Args:
        faces: from `landmark_faces`.
        out: run folder: checkpoint.safetensors, log.csv, landmarks.safetensors.
        config: the run.
        bfloat16: compute in half precision.
        save_every: steps between checkpoints.

    Returns:
        The network's file.
    """
    kept = faces.subset(~faces.tests)
    torch.manual_seed(config.seed)
    network = begun(LandmarkNetwork(), config).to(memory_format=torch.channels_last)

    def loss_at(model: nn.Module, step: int) -> Tensor:
        x, wanted = landmark_batch(kept, step, config)
        with half_precision(bfloat16):
            points, scatter = model(channels_last(x))
        return landmark_loss(points, scatter, wanted)

    path = out / "landmarks.safetensors"
    for step, average in fit_network(network, loss_at, out, config, save_every):
        errors = landmark_errors(average.eval(), faces.subset(faces.tests))
        log.info("step %d: %s", step, errors)
        save_face_network(average, path, {"held_out": errors, "config": asdict(config), "data": DATA})
    return path


def train_parts(
    faces: Faces, out: Path, config: FaceTrainConfig, *, bfloat16: bool = False, save_every: int = 500
) -> Path:
    """Train the parts network; as `train_landmarks`, with `parts_faces`."""
    kept = faces.subset(~faces.tests)
    torch.manual_seed(config.seed)
    network = begun(PartsNetwork(), config).to(memory_format=torch.channels_last)

    def loss_at(model: nn.Module, step: int) -> Tensor:
        x, wanted, sets = parts_batch(kept, step, config)
        with half_precision(bfloat16):
            logits = model(channels_last(x))
        return parts_loss(logits, wanted, sets)

    path = out / "parts.safetensors"
    for step, average in fit_network(network, loss_at, out, config, save_every):
        errors = parts_errors(average.eval(), faces.subset(faces.tests))
        log.info("step %d: %s", step, errors)
        save_face_network(average, path, {"held_out": errors, "config": asdict(config), "data": DATA})
    return path


# --- how far they err -----------------------------------------------------------------------------------------------


def plain_squares(faces: Faces, size: int) -> Tensor:
    """The network's squares without any displacement: (n, 3, size, size)."""
    x = torch.from_numpy(faces.pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    matrix = torch.tensor([[1 / MARGIN, 0, 0], [0, 1 / MARGIN, 0]]).expand(len(x), 2, 3)
    return F.grid_sample(x, F.affine_grid(matrix, [len(x), 3, size, size], align_corners=False), align_corners=False)


@torch.no_grad()
def landmark_errors(network: nn.Module, faces: Faces) -> dict[str, float]:
    """Mean distance in percent of the outer eye corners' distance, by set, on what is given; each with its mirror image."""
    found = []
    for rows in np.array_split(np.arange(len(faces.pictures)), max(1, len(faces.pictures) // 128)):
        x = plain_squares(faces.subset(rows), LANDMARK_SIDE)
        points, back = (
            network(channels_last(x))[0],
            network(channels_last(x.flip(-1)))[0][:, torch.from_numpy(MIRRORED_68)],
        )
        found.append(((points + back * torch.tensor([-1.0, 1.0])) / 2).numpy())
    wanted = (faces.targets / faces.pictures.shape[1] * 2 - 1) * MARGIN
    off = np.linalg.norm(np.concatenate(found) - wanted, axis=-1).mean(1)
    corners = np.linalg.norm(wanted[:, 36] - wanted[:, 45], axis=-1)
    percent = 100 * off / np.maximum(corners, 1e-6)
    return {str(name): round(float(percent[faces.groups == name].mean()), 2) for name in np.unique(faces.groups)}


@torch.no_grad()
def parts_errors(network: nn.Module, faces: Faces) -> dict[str, dict[str, float]]:
    """Intersection over union of every group of parts, by set."""
    report: dict[str, dict[str, float]] = {}
    for name in np.unique(faces.groups):
        groups, rows = GROUPS[str(name)], np.nonzero(faces.groups == name)[0][:150]
        both, either = np.zeros(len(groups)), np.zeros(len(groups))
        for part in np.array_split(rows, max(1, len(rows) // 16)):
            some = faces.subset(part)
            p = network(channels_last(plain_squares(some, PARTS_SIDE))).softmax(1)
            joined = torch.stack([p[:, list(g)].sum(1) for g in groups], 1).argmax(1).numpy()
            matrix = torch.tensor([[1 / MARGIN, 0, 0], [0, 1 / MARGIN, 0]]).expand(len(part), 2, 3)
            grid = F.affine_grid(matrix, [len(part), 1, PARTS_SIDE, PARTS_SIDE], align_corners=False)
            wanted = F.grid_sample(
                torch.from_numpy(some.targets).float()[:, None], grid, mode="nearest", align_corners=False
            )
            wanted = wanted[:, 0].numpy().astype(int)
            known = wanted != UNKNOWN
            for i, group in enumerate(groups):
                a, b = (joined == i) & known, np.isin(wanted, group)
                both[i] += (a & b).sum()
                either[i] += (a | b).sum()
        names = ["+".join(PARTS[c] for c in g) for g in groups]
        report[str(name)] = {n: round(float(b / e), 3) for n, b, e in zip(names, both, either, strict=True) if e}
    return report
