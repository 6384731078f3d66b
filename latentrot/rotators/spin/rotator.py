"""The multi-view model as a rotator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from latentrot.bundles import DEFAULT_BUNDLE, bundled_folder, trained_on
from latentrot.data.arrays import check_crop, resize, to_tensor, to_uint8
from latentrot.data.digests import folder_digest
from latentrot.faces.alignment import align_landmarks
from latentrot.faces.estimate import estimate_pose
from latentrot.faces.network import load_labeler
from latentrot.faces.upright import five_of
from latentrot.numerics import check_degrees
from latentrot.rotators.spin.geometry import HeadCamera
from latentrot.rotators.spin.model import SpinModel
from latentrot.rotators.spin.render import camera_of_crop
from latentrot.rotators.spin.sample import SpinSampleConfig, SpinViews, identity_of, spin

__all__ = ["SpinRotator", "pose_of"]

#: bundled model whose label network estimates the pose if that of photographs is not in this build
HEADS = "heads64"
#: max absolute yaw in degrees at which a face can be aligned by its eyes
MAX_ALIGNED_DEG = 60.0


def pose_of(crop: np.ndarray) -> Tensor:
    """Yaw and pitch in degrees, (2,), of a (s, s, 3) uint8 crop in the CelebA frame."""
    labeler = load_labeler(DEFAULT_BUNDLE if bundled_folder(DEFAULT_BUNDLE) else HEADS)
    return estimate_pose(to_tensor(crop), labeler=labeler)[0, :2].cpu()


@dataclass(frozen=True, eq=False)
class SpinRotator:
    """Generates a head from any side with a multi-view model.

    Args:
        model: from `load_spin_model`.
        sample: sampling options.
    """

    model: SpinModel
    sample: SpinSampleConfig = field(default_factory=SpinSampleConfig)

    hint: ClassVar[str] = "draws a whole head"

    @property
    def name(self) -> str:
        """Name in reports."""
        return self.model.name

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings for the user."""
        resolution = (
            f"{self.name} draws a head at {self.model.resolution} pixels: in a photograph it only fills what the "
            "photograph does not show, but a square crop is drawn completely"
        )
        return (resolution, *self.model.warnings)

    @property
    def learned_from(self) -> tuple[str, ...] | None:
        """Training data sets in the model's card; None if it names none."""
        return trained_on(self.model.folder) if self.model.folder else None

    @property
    def digests(self) -> dict[str, str]:
        """Digest of the model."""
        return {"model": folder_digest(self.model.folder)} if self.model.folder else {}

    def rotate(self, image: np.ndarray, degrees: float) -> np.ndarray:
        """Rotate a (s, s, 3) uint8 crop in the CelebA frame by degrees of yaw (> 0: nose to the viewer's right)."""
        check_degrees([degrees], 180)
        return self.rotate_many(image, [degrees])[0]

    def rotate_many(self, image: np.ndarray, degrees: Sequence[float]) -> list[np.ndarray]:
        """Rotate a (s, s, 3) uint8 crop by each angle -> crops at the model's resolution.

        Raises:
            LatentrotError: the image is not square.
        """
        check_crop(image)
        if not len(degrees):
            return []
        pose = pose_of(image)
        requested = torch.stack([pose + torch.tensor([yaw, 0.0]) for yaw in degrees]).float()
        camera = self.camera(image, pose)
        drawn = list(to_uint8(self.draw(image, pose, requested, camera).images[:, :3]))
        return drawn if camera is None else [aligned(v, camera, p) for v, p in zip(drawn, requested, strict=True)]

    def camera(self, image: np.ndarray, pose: Tensor) -> HeadCamera | None:
        """The camera of a geometric condition for a crop; None if the model has none, or no head can be fitted."""
        return camera_of_crop(image, pose, self.model.resolution) if self.model.network.with_geometry else None

    def draw(self, image: np.ndarray, pose: Tensor, requested: Tensor, camera: HeadCamera | None = None) -> SpinViews:
        """Generate views of the head in a crop.

        Args:
            image: (s, s, 3) uint8 crop in the CelebA frame.
            pose: (2,) yaw and pitch of the crop, degrees.
            requested: (n, 2) yaw and pitch of each view, degrees.
            camera: renders the geometric condition; None: no geometry.
        """
        source = to_tensor(resize(image, self.model.resolution))[0]
        return spin(self.model, source, pose, requested, identity_of(self.model, image), self.sample, camera)


def aligned(view: np.ndarray, camera: HeadCamera, pose: Tensor) -> np.ndarray:
    """Align a view (s, s, 3) uint8, whose scale does not depend on its pose, to the eyes, as crops in the CelebA frame are.

    Beyond `MAX_ALIGNED_DEG` the eyes are too close together; the scale of the last alignable pose is kept.
    """
    yaw = float(np.clip(pose[0], -MAX_ALIGNED_DEG, MAX_ALIGNED_DEG))
    landmarks = camera.landmarks(yaw, float(pose[1])) * len(view)
    return align_landmarks(five_of(landmarks), (len(view), len(view))).crop(view, len(view))
