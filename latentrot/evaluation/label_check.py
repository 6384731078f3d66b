"""Accuracy of the labels: errors on held-out people, sensitivity to jittered and mirrored crops, speed."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from latentrot.data.arrays import to_tensor
from latentrot.data.celeba import FaceFolder, held_out
from latentrot.data.frame import CROP_BOX, face_box
from latentrot.errors import LatentrotError
from latentrot.evaluation.label_figures import confusion_figure, yaw_error_figure
from latentrot.faces.estimate import SURE, LabelerPose, PoseEstimator, estimate_light, estimate_pose
from latentrot.faces.network import CROP_SIZE, LIGHTS, FaceLabeler, load_labeler
from latentrot.files import write_atomically
from latentrot.output import write_output_folder
from latentrot.training.labeler.config import LabelTrainConfig
from latentrot.training.labeler.faces import read_pose, yale_crops
from latentrot.training.labeler.pose import pose_errors

__all__ = ["CheckConfig", "LabelCheck", "check_labels", "jitter_spread", "write_check"]

log = logging.getLogger(__name__)

#: batch size
BATCH = 256
#: target values by part and entry of the report
TARGETS = {
    ("pose", "yaw_mae_deg"): ("<=", 3.0),
    ("jitter", "yaw_spread_deg"): ("<=", 2.0),
    ("speed", "faces_per_second"): (">=", 400.0),
    ("light", "accuracy_where_sure"): (">=", 0.97),
    ("light", "abstained_share"): ("<=", 0.10),
    ("light_mirror", "agreement_where_sure"): (">=", 0.97),
}


@dataclass(frozen=True)
class CheckConfig:
    """Parameters of the measurement.

    Args:
        held_out: share of CelebA's people held out of training.
        yale_held_out: number of Yale people (the last ones by name) held out of training.
        sure: probability of an illumination class below which the network abstains.
        mirror: average the estimates with those of the mirrored image.
        draws: number of jittered crops per image.
        jitter_images: number of images for the jitter.
        seed: seed of the choice of images and of the jitter.
    """

    held_out: float = LabelTrainConfig.held_out
    yale_held_out: int = LabelTrainConfig.yale_held_out
    sure: float = SURE
    mirror: bool = True
    draws: int = 8
    jitter_images: int = 250
    seed: int = 0


@dataclass(frozen=True)
class LabelCheck:
    """Results of `check_labels`.

    Args:
        report: part (pose, jitter, speed, light, light_mirror, targets) -> results, ready for JSON.
        yaw_deg: (n, 2) reference and estimated yaw of held-out people.
        confusion: (3, 4) Yale B images by true light and by answer; the last column counts abstentions.
    """

    report: dict[str, dict]
    yaw_deg: np.ndarray
    confusion: np.ndarray


# --- jitter ----------------------------------------------------------------------------------------------------------


def moved_crops(image: Image.Image, size: int, moves: np.ndarray) -> np.ndarray:
    """Jittered face crops, as from slightly different alignments.

    Args:
        image: aligned or square image; padded by repeating its edge.
        size: side in pixels of the crops returned.
        moves: (k, 3) change of the crop's side as a share of it, then shift to the right and downwards in pixels of the
            178x218 frame.

    Returns:
        (k, size, size, 3) uint8; for zero moves the crop of `FaceFolder.read_crop`, except that the resampling filter reads
        pixels outside the crop.
    """
    left, top, right, bottom = face_box(*image.size)
    unit = (right - left) / (CROP_BOX[2] - CROP_BOX[0])
    centres = np.array([left + right, top + bottom]) / 2 + moves[:, 1:] * unit  # (k, 2)
    halves = (right - left) / 2 * (1 + moves[:, :1])  # (k, 1)
    boxes = np.hstack([centres - halves, centres + halves])  # (k, 4)
    overhang = max(0, *(-boxes.min(0)[:2]), *(boxes.max(0)[2:] - image.size))
    if margin := int(np.ceil(overhang)):
        padding = ((margin, margin), (margin, margin), (0, 0))
        image = Image.fromarray(np.pad(np.asarray(image), padding, mode="edge"))
    resized = (
        image.resize((size, size), Image.Resampling.LANCZOS, box=(left, top, right, bottom))
        for left, top, right, bottom in (boxes + margin).tolist()
    )
    return np.stack([np.asarray(crop) for crop in resized])


def jitter_spread(
    folder: FaceFolder,
    estimator: PoseEstimator | None = None,
    *,
    ids: Sequence[str] | None = None,
    draws: int = 8,
    scale: float = LabelTrainConfig.scale,
    shift: float = LabelTrainConfig.shift,
    mirror: bool = True,
    device: torch.device | str | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Standard deviation of the estimated pose over jittered crops.

    Images that cannot be read are left out with a warning.

    Args:
        folder: aligned or square face images.
        estimator: pose estimator; None: the bundled network.
        ids: names of the images; None: all.
        draws: number of random crops per image.
        scale: max relative change of the crop's side.
        shift: max shift in pixels of the 178x218 frame.
        mirror: average the estimates with those of the mirrored crop.
        device: torch device; None: the CPU.
        seed: seed of the crops.

    Returns:
        (3,) degrees: standard deviation of yaw, pitch and roll over the crops of an image, averaged over images.

    Raises:
        LatentrotError: `draws` is below 2, or no image can be read.
    """
    if draws < 2:
        raise LatentrotError(f"draws={draws}: a spread needs at least 2")
    estimator = estimator or LabelerPose(load_labeler(device=device))
    generator = np.random.default_rng(seed)
    reach = np.array([scale, shift, shift])
    spreads = []
    for image_id in folder.ids if ids is None else ids:
        moves = generator.uniform(-reach, reach, (draws, 3))
        try:
            crops = moved_crops(folder.open_image(image_id), estimator.crop_size, moves)
        except LatentrotError as error:
            log.warning("left out: %s", error)
            continue
        pose = estimate_pose(to_tensor(crops).to(device or "cpu"), estimator=estimator, mirror=mirror)
        spreads.append(pose.double().std(0).cpu().numpy())
    if not spreads:
        raise LatentrotError(f"no image of {folder.image_dir} can be read")
    return np.mean(spreads, 0)


# --- light ----------------------------------------------------------------------------------------------------------


def light_confusion(probabilities: Tensor, truth: np.ndarray, sure: float) -> np.ndarray:
    """Confusion of illumination classes.

    Args:
        probabilities: (n, 3) from `estimate_light`.
        truth: (n,) true class, index into LIGHTS.
        sure: probability below which the network abstains.

    Returns:
        (3, 4) counts by true and estimated class; the last column counts abstentions.
    """
    best, answer = probabilities.cpu().max(1)
    column = torch.where(best >= sure, answer, len(LIGHTS)).numpy()
    counts = np.zeros((len(LIGHTS), len(LIGHTS) + 1), int)
    np.add.at(counts, (truth, column), 1)
    return counts


def light_errors(confusion: np.ndarray) -> dict[str, float]:
    """Accuracy and abstention rate of a confusion (3, 4)."""
    answered = confusion[:, : len(LIGHTS)]
    return {
        "pictures": int(confusion.sum()),
        "accuracy_where_sure": round(float(np.trace(answered) / max(answered.sum(), 1)), 4),
        "abstained_share": round(float(1 - answered.sum() / max(confusion.sum(), 1)), 4),
    }


def mirror_agreement(x: Tensor, sure: float, labeler: FaceLabeler | None = None) -> dict[str, float]:
    """How often the illumination classes of an image and its mirror image agree.

    Args:
        x: (n, 3, h, h) crops, float in [-1, 1].
        sure: probability below which the network abstains.
        labeler: the label network; None: the bundled one.

    Returns:
        Shares of images. For the network without averaging: agreement, sure_share (both estimates are sure),
        agreement_where_sure. For estimates averaged over the mirror image: sure_share_averaged, and agreement_averaged,
        which is 1 by construction.
    """
    seen, mirrored = (estimate_light(v, labeler=labeler, mirror=False) for v in (x, x.flip(-1)))
    same = seen.argmax(1) == mirrored.flip(1).argmax(1)
    both = torch.minimum(seen.amax(1), mirrored.amax(1)) >= sure
    averaged, swapped = estimate_light(x, labeler=labeler), estimate_light(x.flip(-1), labeler=labeler).flip(1)
    shares = {
        "agreement": same,
        "sure_share": both,
        "agreement_where_sure": same[both],
        "sure_share_averaged": averaged.amax(1) >= sure,
        "agreement_averaged": averaged.argmax(1) == swapped.argmax(1),
    }
    return {"pictures": len(x), **{k: round(v.float().mean().item(), 4) for k, v in shares.items()}}


# --- report ----------------------------------------------------------------------------------------------------------


def held_out_poses(folder: FaceFolder, share: float) -> tuple[list[str], Tensor]:
    """Names of the images of held-out people with a reference pose, and (n, 2) yaw and pitch in degrees."""
    pose = read_pose(folder)
    rows = held_out(folder.identities.to_numpy(), share) & torch.isfinite(pose).all(1).numpy()
    if not rows.any():
        raise LatentrotError(
            f"{folder.root} has no held-out people with a pose; expected CelebA with identity_CelebA.csv and pose.csv"
        )
    return [folder.ids[i] for i in np.flatnonzero(rows)], pose[torch.from_numpy(rows)]


def timed_poses(
    folder: FaceFolder, ids: Sequence[str], estimator: PoseEstimator, device: torch.device | str, *, mirror: bool
) -> tuple[Tensor, dict[str, float]]:
    """Estimate the poses of images as `label_folder` does, and measure the speed.

    Returns:
        (n, 3) degrees on the CPU, and faces per second of the networks (pose and light), without and with reading files.
    """
    labeler = load_labeler(device=device)
    reading = computing = 0.0
    poses = []
    for start in range(-BATCH, len(ids), BATCH):  # the first batch runs twice, first as a warm-up
        began = perf_counter()
        x = to_tensor(folder.read_crops(ids[max(start, 0) : max(start, 0) + BATCH], estimator.crop_size)).to(device)
        read = perf_counter()
        pose = estimate_pose(x, estimator=estimator, mirror=mirror).cpu()
        estimate_light(x, labeler=labeler, mirror=mirror).cpu()
        if start >= 0:
            reading, computing = reading + read - began, computing + perf_counter() - read
            poses.append(pose)
    speed = {
        "faces_per_second": round(len(ids) / computing, 1),
        "faces_per_second_with_reading": round(len(ids) / (reading + computing), 1),
        "threads": torch.get_num_threads(),
    }
    return torch.cat(poses), speed


def targets(report: dict[str, dict]) -> dict[str, dict]:
    """Measured and target values."""
    return {
        f"{part}.{name}": {
            "measured": (value := report[part][name]),
            "target": f"{sense} {bound:g}",
            "met": bool(value <= bound if sense == "<=" else value >= bound),
        }
        for (part, name), (sense, bound) in TARGETS.items()
    }


def check_labels(
    celeba: Path,
    yaleb: Path,
    config: CheckConfig | None = None,
    *,
    estimator: PoseEstimator | None = None,
    labeler: FaceLabeler | None = None,
    device: torch.device | str | None = None,
) -> LabelCheck:
    """Measure the accuracy of pose and light labels on held-out people; a label network always estimates the light.

    Args:
        celeba: aligned CelebA with `identity_CelebA.csv` and `pose.csv` (image_id, yaw_deg, pitch_deg).
        yaleb: extended Yale B with `light.csv` (image, azimuth_deg, elevation_deg).
        config: parameters; None: the defaults.
        estimator: pose estimator; None: the label network.
        labeler: label network, on `device`; None: the bundled one.
        device: torch device; None: the CPU.

    Raises:
        LatentrotError: a table is missing, an image cannot be read, or no person is held out.
    """
    config, device = config or CheckConfig(), device or "cpu"
    labeler = labeler or load_labeler(device=device)
    estimator = estimator or LabelerPose(labeler)
    folder = FaceFolder(celeba)
    yale, light = yale_crops(yaleb, slice(-config.yale_held_out, None))
    ids, truth = held_out_poses(folder, config.held_out)

    pose, speed = timed_poses(folder, ids, estimator, device, mirror=config.mirror)
    some = np.random.default_rng(config.seed).permutation(ids)[: config.jitter_images].tolist()
    spread = jitter_spread(
        folder, estimator, ids=some, draws=config.draws, mirror=config.mirror, device=device, seed=config.seed
    )
    answers = estimate_light(yale.to(device), labeler=labeler, mirror=config.mirror)
    confusion = light_confusion(answers, light, config.sure)
    faces = to_tensor(folder.read_crops(ids, CROP_SIZE)).to(device)

    report: dict[str, dict] = {
        "config": asdict(config),
        "pose": {"estimator": estimator.name, "pictures": len(ids), **pose_errors(pose, truth)},
        "jitter": {
            "pictures": len(some),
            **{f"{n}_spread_deg": round(float(v), 3) for n, v in zip(("yaw", "pitch", "roll"), spread, strict=True)},
        },
        "speed": {**speed, "device": str(device)},
        "light": {"labeler": labeler.title, **light_errors(confusion), "confusion": confusion.tolist()},
        "light_mirror": mirror_agreement(faces, config.sure, labeler),
    }
    report["targets"] = targets(report)
    return LabelCheck(report, torch.stack([truth[:, 0], pose[:, 0]], 1).numpy(), confusion)


def write_check(check: LabelCheck, out: Path) -> list[Path]:
    """Write report.json, light_confusion.png and yaw_error.png into a folder; returns their paths."""
    pose, light = check.report["pose"], check.report["light"]
    figures = {
        "light_confusion.png": confusion_figure(
            check.confusion, LIGHTS, [*LIGHTS, "abstained"], f"Light of {light['pictures']} images of held-out people"
        ),
        "yaw_error.png": yaw_error_figure(
            check.yaw_deg[:, 0],
            check.yaw_deg[:, 1],
            f"{pose['estimator']}: {pose['yaw_mae_deg']:.2f} degrees mean error on {pose['pictures']} images",
        ),
    }
    text = json.dumps(check.report, indent=2) + "\n"

    def write() -> list[Path]:
        write_atomically(out / "report.json", lambda p: p.write_text(text))
        for name, figure in figures.items():
            write_atomically(out / name, lambda p, figure=figure: figure.savefig(p, format="png", dpi=120))
        return [out / "report.json", *(out / name for name in figures)]

    return write_output_folder(out, write)
