"""Yaw estimates that do not depend on the label network: regressions fitted to images of other people."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from latentrot.data.frame import CROP_BOX, MIRRORED_LANDMARKS
from latentrot.evaluation.metrics import grey
from latentrot.evaluation.pairs import Pairs
from latentrot.faces.detect import refine_landmarks
from latentrot.faces.framing import CENTRE, INPUT, SIDE

__all__ = ["FittedYaw", "landmark_yaw", "pixel_yaw"]

#: side in pixels of the grey images of the regression on pixels
GREY_SIDE = 32
FOLDS = 5


def pixel_features(images: np.ndarray) -> np.ndarray:
    """Downscaled grey images, each standardised: (n, h, w, 3) uint8 -> (n, 1024) float64."""
    x = torch.from_numpy(grey(images))[:, None]
    small = F.interpolate(x, size=(GREY_SIDE, GREY_SIDE), mode="bilinear", antialias=True).flatten(1).numpy()
    centred = small - small.mean(1, keepdims=True)
    return centred / (centred.std(1, keepdims=True) + 1e-6)


def landmark_features(images: np.ndarray) -> np.ndarray:
    """Five landmarks by the face detector, averaged over each image and its mirror image.

    Args:
        images: (n, h, w, 3) uint8 crops in the CelebA frame.

    Returns:
        (n, 10) positions, 0 to 1 across the detector's input.
    """
    side = images.shape[2] / (CROP_BOX[2] - CROP_BOX[0])
    left, top = (CENTRE[i] - SIDE / 2 - CROP_BOX[i] for i in (0, 1))
    box = (left * side, top * side, (left + SIDE) * side, (top + SIDE) * side)
    squares = np.stack(
        [np.asarray(Image.fromarray(p).resize((INPUT, INPUT), Image.Resampling.BICUBIC, box=box)) for p in images]
    )
    plain, _ = refine_landmarks(squares)
    mirrored, _ = refine_landmarks(squares[:, :, ::-1])
    mirrored = mirrored[:, MIRRORED_LANDMARKS] * [-1, 1] + [1, 0]
    return ((plain + mirrored) / 2).reshape(len(images), -1)


class FittedYaw:
    """Regression of yaw on features; the yaw of a person is estimated by a fit to other people (cross-validation).

    Args:
        pairs: images of at least two people.
        features: (n, h, w, 3) uint8 images -> (n, d).
        regression: function that returns an unfitted regression.
    """

    def __init__(
        self, pairs: Pairs, features: Callable[[np.ndarray], np.ndarray], regression: Callable[[], Pipeline]
    ) -> None:
        self.features = features
        x = features(pairs.images)
        self.fold: dict[str, int] = {}
        self.fitted: list[Pipeline] = []
        folds = GroupKFold(min(FOLDS, len(set(pairs.people))))
        for i, (seen, unseen) in enumerate(folds.split(x, pairs.yaws, pairs.people)):
            self.fitted.append(regression().fit(x[seen], pairs.yaws[seen]))
            self.fold |= dict.fromkeys(pairs.people[unseen], i)

    def estimate(self, images: np.ndarray, people: np.ndarray) -> np.ndarray:
        """Yaws of images (n, h, w, 3) uint8 of people (n,) -> (n,) degrees."""
        x, folds = self.features(images), np.array([self.fold[person] for person in people])
        yaws = np.empty(len(images))
        for fold in set(folds):
            yaws[folds == fold] = self.fitted[fold].predict(x[folds == fold])
        return yaws


def pixel_yaw(pairs: Pairs) -> FittedYaw:
    """Kernel ridge regression on pixels; the mean error on 30 held-out rendered heads is 3.1 degrees (linear: 7.8)."""
    return FittedYaw(
        pairs,
        pixel_features,
        lambda: make_pipeline(PCA(0.98, random_state=0), KernelRidge(kernel="rbf", gamma=1e-3).set_params(alpha=0.01)),
    )


def landmark_yaw(pairs: Pairs) -> FittedYaw:
    """Kernel ridge regression on the five landmarks of the face detector."""
    return FittedYaw(
        pairs,
        landmark_features,
        lambda: make_pipeline(StandardScaler(), KernelRidge(kernel="rbf", gamma=0.03).set_params(alpha=0.1)),
    )
