"""Second opinions on the yaw that have nothing to do with the label network: regressions on the true views of other heads."""

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
from latentrot.evaluation.views import Views
from latentrot.label.detect import look_again
from latentrot.label.framing import CENTRE, INPUT, SIDE

__all__ = ["FittedYaw", "LandmarkYaw", "PixelYaw"]

#: side in pixels of the grey pictures the regression sees
GREY_SIDE = 32
FOLDS = 5


def pixel_features(pictures: np.ndarray) -> np.ndarray:
    """Grey pictures, small and standardised one by one: (n, h, w, 3) uint8 -> (n, 1024) float64."""
    x = torch.from_numpy(grey(pictures))[:, None]
    small = F.interpolate(x, size=(GREY_SIDE, GREY_SIDE), mode="bilinear", antialias=True).flatten(1).numpy()
    centred = small - small.mean(1, keepdims=True)
    return centred / (centred.std(1, keepdims=True) + 1e-6)


def landmark_features(pictures: np.ndarray) -> np.ndarray:
    """Five landmarks by the face detector, looked for in each picture and in its mirror image.

    Args:
        pictures: (n, h, w, 3) uint8 crops in the CelebA frame.

    Returns:
        (n, 10) shares of the square looked at; what the detector is unsure of is no less a pair of numbers.
    """
    side = pictures.shape[2] / (CROP_BOX[2] - CROP_BOX[0])
    left, top = (CENTRE[i] - SIDE / 2 - CROP_BOX[i] for i in (0, 1))
    box = (left * side, top * side, (left + SIDE) * side, (top + SIDE) * side)
    squares = np.stack(
        [np.asarray(Image.fromarray(p).resize((INPUT, INPUT), Image.Resampling.BICUBIC, box=box)) for p in pictures]
    )
    plain, _ = look_again(squares)
    mirrored, _ = look_again(squares[:, :, ::-1])
    mirrored = mirrored[:, MIRRORED_LANDMARKS] * [-1, 1] + [1, 0]
    return ((plain + mirrored) / 2).reshape(len(pictures), -1)


class FittedYaw:
    """Regression of yaw on features, fitted to the true views of other heads than the one it is asked about.

    What looks like no view at all is taken for frontal.

    Args:
        views: at least two heads.
        features: (n, h, w, 3) uint8 pictures -> (n, d).
        regression: makes the regression to be fitted.
    """

    def __init__(
        self, views: Views, features: Callable[[np.ndarray], np.ndarray], regression: Callable[[], Pipeline]
    ) -> None:
        count, poses = views.pictures.shape[:2]
        self.features = features
        x = features(views.pictures.reshape(-1, views.size, views.size, 3))
        yaw, head = np.tile(views.yaws, count), np.repeat(np.arange(count), poses)
        self.fold = np.empty(count, int)
        self.fitted: list[Pipeline] = []
        for i, (seen, unseen) in enumerate(GroupKFold(min(FOLDS, count)).split(x, yaw, head)):
            self.fitted.append(regression().fit(x[seen], yaw[seen]))
            self.fold[np.unique(head[unseen])] = i

    def estimate(self, pictures: np.ndarray, head: int) -> np.ndarray:
        """Yaws of pictures (n, h, w, 3) uint8 of one head, by row of the views -> (n,) degrees."""
        return self.fitted[self.fold[head]].predict(self.features(pictures))


class PixelYaw(FittedYaw):
    """Kernel ridge regression on pixels; 3.1 degrees off on 30 rendered heads it had not seen, a linear one 7.8.

    Args:
        views: at least two heads.
    """

    def __init__(self, views: Views) -> None:
        super().__init__(
            views,
            pixel_features,
            lambda: make_pipeline(PCA(0.98, random_state=0), KernelRidge(alpha=0.01, kernel="rbf", gamma=1e-3)),
        )


class LandmarkYaw(FittedYaw):
    """Kernel ridge regression on five landmarks, found by the face detector.

    Args:
        views: at least two heads.
    """

    def __init__(self, views: Views) -> None:
        super().__init__(
            views,
            landmark_features,
            lambda: make_pipeline(StandardScaler(), KernelRidge(alpha=0.1, kernel="rbf", gamma=0.03)),
        )
