"""Propagate a few hand labels to all images: self-training on the label network's features.

Accuracy on four held-out people of Yale B, with 6 to 90 seeds on four others, balanced or not
(`experiments/light_labels.py`): self-training 95.4 to 96.8 %; label spreading 91.9 to 96.3 %; the same regression without
self-training 93.8 to 95.9 %. The brightness of 36 parts of the face instead of the network's features gives 82.6 to 88.6 %,
and in addition to them no improvement.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier
from tqdm import tqdm

from latentrot.data.arrays import to_tensor
from latentrot.data.celeba import FaceFolder
from latentrot.data.digests import image_digests
from latentrot.errors import LatentrotError
from latentrot.faces.estimate import estimate_light, resize_crops
from latentrot.faces.network import CROP_SIZE, LIGHTS, FaceLabeler, load_labeler

__all__ = [
    "UNLABELLED",
    "LightFeatures",
    "folder_features",
    "has_enough_seeds",
    "held_out_agreement",
    "light_features",
    "margin",
    "propagate",
    "require_enough_seeds",
    "seed_rows",
]  # fmt: skip

log = logging.getLogger(__name__)

#: value for an unlabelled image in arrays of indices into LIGHTS
UNLABELLED = -1
#: index of center in LIGHTS, the class that mirroring does not change
CENTER = LIGHTS.index("center")
#: min probability of a pseudo-label to be used in the next step of self-training
SURE = 0.9
#: inverse strength of the ridge penalty on the weights, which is strong because there are few seeds
RIDGE = 0.3
#: max number of unlabelled images used for training; more do not improve the result
LEARNED_FROM = 6000


@dataclass(frozen=True)
class LightFeatures:
    """Features of the images, computed before any hand label is known.

    Args:
        ids: n names.
        plain: (n, d) features of the images.
        mirrored: (n, d) features of the mirrored images.
        network: (n, 3) the label network's probabilities, in the order of LIGHTS.
        digests: digest of each image file by name; empty: unknown.
    """

    ids: list[str]
    plain: np.ndarray
    mirrored: np.ndarray
    network: np.ndarray
    digests: Mapping[str, str] = field(default_factory=dict)


@torch.no_grad()
def light_features(x: torch.Tensor, labeler: FaceLabeler | None = None) -> np.ndarray:
    """Light features of the label network (None: the bundled one): crops (n, 3, h, h) in [-1, 1] -> (n, 48)."""
    network = labeler or load_labeler(device=x.device)
    return network.light_features(resize_crops(x.to(network.device))).cpu().numpy()


def folder_features(
    folder: FaceFolder, *, labeler: FaceLabeler | None = None, device: torch.device | str | None = None,
    batch_size: int = 256, progress: bool | None = None,
) -> LightFeatures:  # fmt: skip
    """Compute the features of every image of a folder; unreadable images are left out with a warning.

    Args:
        folder: aligned or square face images.
        labeler: the label network, on `device`; None: the bundled one.
        device: device of the computation; None: the CPU.
        batch_size: images at a time.
        progress: show a progress bar; None: only on a terminal.

    Raises:
        LatentrotError: the folder contains no images, or no image can be read.
    """
    ids: list[str] = []
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    with tqdm(total=len(folder.ids), disable=None if progress is None else not progress, desc="light") as bar:
        for start in range(0, len(folder.ids), batch_size):
            batch = folder.ids[start : start + batch_size]
            names, crops, complaints = folder.read_readable(batch, CROP_SIZE)
            for complaint in complaints:
                log.warning("left out: %s", complaint)
            if names:
                x = to_tensor(crops).to(device or "cpu")
                light = estimate_light(x, labeler=labeler).cpu().numpy()
                parts.append((light_features(x, labeler), light_features(x.flip(-1), labeler), light))
                ids += names
            bar.update(len(batch))
    if not ids:
        raise LatentrotError(f"none of the {len(folder.ids)} images in {folder.image_dir} can be read")
    digests = dict(zip(ids, image_digests(folder.image_dir, ids), strict=True))
    return LightFeatures(ids, *(np.concatenate(part) for part in zip(*parts, strict=True)), digests=digests)


def seed_rows(ids: list[str], lights: Mapping[str, str]) -> np.ndarray:
    """Labels by name -> (n,) index into LIGHTS in the order of `ids`, UNLABELLED if missing."""
    return np.array([LIGHTS.index(lights[i]) if i in lights else UNLABELLED for i in ids], int)


def has_enough_seeds(seeds: np.ndarray) -> bool:
    """Whether the seeds contain center light and light from one side; mirroring provides the other side."""
    side = (seeds != CENTER) & (seeds != UNLABELLED)
    return bool((seeds == CENTER).any() and side.any())


def require_enough_seeds(seeds: np.ndarray) -> None:
    """Raise LatentrotError, with the label counts, if the seeds do not suffice."""
    if not has_enough_seeds(seeds):
        found = ", ".join(f"{name} {(seeds == i).sum()}" for i, name in enumerate(LIGHTS))
        raise LatentrotError(f"agreed hand labels: {found}; expected at least one center and one left or right")


def propagate(features: LightFeatures, seeds: np.ndarray) -> np.ndarray:
    """Estimate the light of every image from a few labels.

    Every image is used twice, original and mirrored with left and right swapped, and both results are averaged, so that
    mirroring an image swaps left and right exactly.

    Args:
        features: features of n images.
        seeds: (n,) index into LIGHTS, or UNLABELLED.

    Returns:
        (n, 3) probabilities in the order of LIGHTS.

    Raises:
        LatentrotError: no seed has center light, or no seed has light from a side.
    """
    require_enough_seeds(seeds)
    rows = learned_rows(seeds)
    known = seeds[rows]
    swapped = np.where(known == UNLABELLED, UNLABELLED, 2 - known)
    # balanced, because the number of labelled images per light does not reflect the distribution of the lights
    regression = LogisticRegression(C=RIDGE, class_weight="balanced", max_iter=500)
    model = SelfTrainingClassifier(make_pipeline(StandardScaler(), regression), threshold=SURE)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "y contains no unlabeled samples")  # all images are labelled
        model.fit(np.concatenate([features.plain[rows], features.mirrored[rows]]), np.concatenate([known, swapped]))
    return (model.predict_proba(features.plain) + model.predict_proba(features.mirrored)[:, ::-1]) / 2


def learned_rows(seeds: np.ndarray) -> np.ndarray:
    """Rows used for training: every seed, and a fixed random choice of the unlabelled images."""
    others = np.random.default_rng(0).permutation(np.flatnonzero(seeds == UNLABELLED))[:LEARNED_FROM]
    return np.concatenate([np.flatnonzero(seeds != UNLABELLED), others])


def margin(probabilities: np.ndarray) -> np.ndarray:
    """(n, 3) probabilities -> (n,) margin between the two most probable lights; 0 is least certain."""
    ranked = np.sort(probabilities, 1)
    return ranked[:, -1] - ranked[:, -2]


def held_out_agreement(features: LightFeatures, seeds: np.ndarray, people: np.ndarray) -> float:
    """Accuracy on held-out seeds, by 5-fold cross-validation over people.

    Args:
        features: features of n images.
        seeds: (n,) index into LIGHTS, or UNLABELLED.
        people: (n,) person in each image.

    Returns:
        Share of correct seeds, 0 to 1; nan if there are too few.
    """
    rows = np.flatnonzero(seeds != UNLABELLED)
    folds = min(5, len(np.unique(people[rows])))
    if folds < 2:
        return float("nan")
    right = []
    for _, part in GroupKFold(folds).split(rows, groups=people[rows]):
        kept = seeds.copy()
        kept[rows[part]] = UNLABELLED
        if not has_enough_seeds(kept):
            return float("nan")
        right.append(propagate(features, kept)[rows[part]].argmax(1) == seeds[rows[part]])
    return float(np.concatenate(right).mean())
