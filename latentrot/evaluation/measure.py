"""Measures of rotated images against the true images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from latentrot.data.arrays import to_tensor
from latentrot.evaluation.judges import CachedEstimate, Judge
from latentrot.evaluation.metrics import identity_rank, squared_error, ssim
from latentrot.evaluation.pairs import Pairs
from latentrot.evaluation.perceptual import installed_lpips
from latentrot.evaluation.place import align_to, sure_landmarks
from latentrot.evaluation.yaw import FittedYaw, landmark_yaw, pixel_yaw
from latentrot.faces.estimate import estimate_light, estimate_pose, light_names
from latentrot.faces.network import FaceLabeler

__all__ = ["MEASURES", "Instruments", "instruments_for", "measure"]

#: measure -> description in the report
MEASURES = {
    "yaw_error_deg": "absolute difference of the label network's yaw to the true yaw, degrees",
    "yaw_error_pixels_deg": "the same by kernel ridge regression on pixels, fitted to views of other heads (rendered heads)",
    "yaw_error_landmarks_deg": "the same by regression on the detector's five landmarks, fitted to other people or heads",
    "yaw_error_judge_deg": "the same by the given judge",
    "overturn_deg": "excess rotation: yaw by the label network minus true yaw, in the direction of the rotation, degrees",
    "squared_error": "mean squared difference to the true image over pixels and channels, values in [0, 1]",
    "squared_error_face": "the same inside the true image's face",
    "ssim": "structural similarity to the true image (luma, 11x11 Gaussian window, standard deviation 1.5)",
    "ssim_face": "the same inside the true image's face",
    "lpips": "learned perceptual distance to the true image (AlexNet), if torchmetrics and its weights are installed",
    "identity_true": "cosine of the identity embeddings of rotated and true image, by the given identity network",
    "identity_source": "the same of rotated and source image",
    "rank": "rank of the true head among all heads in the true pose and light, by similarity of pixels; 1 is best",
    "top1": "share of images with rank 1",
    "light_kept": "share of images whose illumination class by the label network is the true one; for real people the class "
    "it gives the true image",
    "pitch_drift_deg": "absolute difference of the label network's pitch to its pitch of the true image, degrees",
    "placed": "share of images whose face was found and aligned to the true face before the comparison (real people)",
    "refused": "share of images that the rotator refused to rotate; the source is measured instead",
}


@dataclass(frozen=True, eq=False)
class Instruments:
    """Estimators that measure rotated images.

    Attributes:
        network: label network: yaw, pitch, light.
        yaws: measure -> regression of the yaw.
        perceptual: LPIPS; None if not installed.
        landmarks: cached landmark estimator; its result is None for images without a face.
        pose: pose estimator of the judge, if any.
        identity: identity network of the judge, if any.
    """

    network: FaceLabeler
    yaws: dict[str, FittedYaw]
    perceptual: Callable[[np.ndarray, np.ndarray], float] | None
    landmarks: CachedEstimate
    pose: CachedEstimate | None = None
    identity: CachedEstimate | None = None


def instruments_for(pairs: Pairs, network: FaceLabeler, judge: Judge | None = None) -> Instruments:
    """Fit the yaw regressions (none with only one person), and load LPIPS if it is installed."""
    yaws: dict[str, FittedYaw] = {}
    if len(set(pairs.people)) > 1:
        if pairs.rendered:
            yaws["yaw_error_pixels_deg"] = pixel_yaw(pairs)
        yaws["yaw_error_landmarks_deg"] = landmark_yaw(pairs)
    pose, identity = (None, None) if judge is None else (judge.pose, judge.identity)
    return Instruments(
        network, yaws, installed_lpips(), CachedEstimate(lambda images: [sure_landmarks(p, pairs.size) for p in images]),
        CachedEstimate(pose) if pose else None, CachedEstimate(identity) if identity else None,
    )  # fmt: skip


def measure(
    pairs: Pairs,
    table: pd.DataFrame,
    turned: Sequence[np.ndarray],
    instruments: Instruments,
    refused: np.ndarray | None = None,
) -> pd.DataFrame:
    """Measure rotated images.

    Args:
        pairs: ground truth.
        table: n rows of a table of `pairs`, one for each image.
        turned: n images, (s, s, 3) uint8; images of real people may be larger and are centred on the crop.
        instruments: from `instruments_for`.
        refused: (n,) bool, True for images that the rotator refused; None: no image.

    Returns:
        One row per image: pair (index in `table`), person, light, requested_deg, turn, true_yaw_deg, yaw_deg (by the label
        network), and the `MEASURES`, NaN if not measured.
    """
    rows = pd.DataFrame({"pair": table.index, **{c: table[c].to_numpy() for c in ("person", "requested_deg", "turn")}})
    true, sources = table["truth"].to_numpy(), table["source"].to_numpy()
    placed, found = (
        (np.stack(turned), np.full(len(turned), np.nan))
        if pairs.rendered
        else align_all(pairs, true, turned, instruments.landmarks)
    )
    rows = pd.concat([rows, labels_of(pairs, true, placed, instruments.network)], axis=1)
    yaw, request = pairs.yaws[true], rows["requested_deg"]
    rows = rows.assign(
        yaw_error_deg=(rows["yaw_deg"] - yaw).abs(),
        overturn_deg=(rows["yaw_deg"] - yaw) * np.sign(request),
        placed=found,
    )
    for name, second in instruments.yaws.items():
        rows[name] = np.abs(second.estimate(placed, rows["person"].to_numpy(str)) - yaw)
    rows["refused"] = 0.0 if refused is None else refused.astype(float)
    rows = rows.assign(**judged(pairs, true, sources, placed, instruments))
    similarity = [
        image_similarity(pairs, row, image, instruments.perceptual) for row, image in zip(true, placed, strict=True)
    ]
    return pd.concat([rows, pd.DataFrame(similarity)], axis=1).reindex(columns=[*HEAD, *MEASURES])


HEAD = ("pair", "person", "light", "requested_deg", "turn", "true_yaw_deg", "yaw_deg")


def align_all(
    pairs: Pairs, true: np.ndarray, turned: Sequence[np.ndarray], landmarks: CachedEstimate
) -> tuple[np.ndarray, np.ndarray]:
    """Align each rotated image to its true image if both faces are found: (n, s, s, 3), and (n,) 1 if aligned."""
    here, there = landmarks(turned), landmarks([pairs.images[row] for row in true])
    aligned = [align_to(image, a, b, pairs.size) for image, a, b in zip(turned, here, there, strict=True)]
    images = [
        pairs.center_crop(image) if moved is None else moved for image, moved in zip(turned, aligned, strict=True)
    ]
    return np.stack(images), np.array([float(moved is not None) for moved in aligned])


def labels_of(pairs: Pairs, true: np.ndarray, images: np.ndarray, network: FaceLabeler) -> pd.DataFrame:
    """Measures by the label network."""
    x, y = to_tensor(images), to_tensor(pairs.images[true])
    pose, true_pose = (estimate_pose(p, labeler=network).numpy() for p in (x, y))
    called = np.array(light_names(estimate_light(x, labeler=network)))
    truly = pairs.lights[true] if pairs.rendered else np.array(light_names(estimate_light(y, labeler=network)))
    return pd.DataFrame(
        {
            "light": truly,
            "true_yaw_deg": pairs.yaws[true],
            "yaw_deg": pose[:, 0].astype(float),
            "light_kept": (called == truly).astype(float),
            "pitch_drift_deg": np.abs(pose[:, 1] - true_pose[:, 1]).astype(float),
        }
    )


def judged(
    pairs: Pairs, true: np.ndarray, sources: np.ndarray, placed: np.ndarray, instruments: Instruments
) -> dict[str, np.ndarray]:
    """Measures by the judge."""
    found: dict[str, np.ndarray] = {}
    if instruments.pose is not None:
        found["yaw_error_judge_deg"] = np.abs(np.stack(instruments.pose(list(placed)))[:, 0] - pairs.yaws[true])
    if instruments.identity is not None:
        embeddings = np.stack(instruments.identity(list(placed)))
        for name, rows in (("identity_true", true), ("identity_source", sources)):
            known = np.stack(instruments.identity([pairs.images[row] for row in rows]))
            found[name] = np.einsum("nd,nd->n", embeddings, known)
    return found


def image_similarity(
    pairs: Pairs, row: int, image: np.ndarray, perceptual: Callable[[np.ndarray, np.ndarray], float] | None
) -> dict[str, float]:
    """Similarity of an image to the true image, and its rank among rendered heads."""
    true, face = pairs.images[row], pairs.faces[row]
    rank = rank_of(pairs, row, image) if pairs.rendered else np.nan
    return {
        "squared_error": squared_error(image, true),
        "squared_error_face": squared_error(image, true, face),
        "ssim": ssim(image, true),
        "ssim_face": ssim(image, true, face),
        "lpips": perceptual(image, true) if perceptual else np.nan,
        "rank": rank,
        "top1": np.nan if np.isnan(rank) else float(rank == 1),
    }


def rank_of(pairs: Pairs, row: int, image: np.ndarray) -> float:
    """Rank of the true head among all heads in its pose and light, in the region where at least half show the face."""
    gallery = pairs.gallery(row)
    region = pairs.faces[gallery].mean(0) >= 0.5
    return float(identity_rank(image, pairs.images[gallery], int(np.flatnonzero(gallery == row)[0]), region))
