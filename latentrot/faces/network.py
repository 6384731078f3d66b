"""The label network: head pose and side of the main light from one small face crop.

Two small convolutional trunks share one file. The pose trunk sees colours; the light trunk sees only grey levels,
standardised per image, at half the resolution, and shares nothing with the pose trunk, so that light cannot be inferred
from pose features.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentrot.bundles import DEFAULT_BUNDLE, LABELER_FILE, bundle_names, bundled_folder, missing_bundle, part_in
from latentrot.errors import LatentrotError
from latentrot.faces.layers import Residual, conv, digest_of, load_weights

__all__ = ["CROP_SIZE", "LIGHTS", "POSE_SCALE", "FaceLabeler", "load_labeler"]

#: side in pixels of the network's input crops
CROP_SIZE = 64
#: order of the light probabilities: the side of the image, as the viewer sees it, from which the main light comes
LIGHTS = ("left", "center", "right")
#: degrees per unit of the pose head
POSE_SCALE = 30.0
KIND = "latentrot labeler"


def head(width: int, hidden: int, out: int, dropout: float) -> nn.Sequential:
    """A head from a 4x4 map to `out` numbers, without pooling, so that positions are preserved."""
    return nn.Sequential(
        nn.Flatten(), nn.Dropout(dropout), nn.Linear(width * 16, hidden), nn.SiLU(inplace=True), nn.Linear(hidden, out)
    )


class FaceLabeler(nn.Module):
    """Pose and light of 64x64 crops in the CelebA frame.

    Signs: yaw > 0, the nose points to the viewer's right; pitch > 0, the face looks up; roll > 0, the head leans
    clockwise as seen by the viewer; light is the side of the image the main light comes from.

    Attributes:
        title: name for records of its labels: the requested name and a digest of the file.
    """

    def __init__(self) -> None:
        super().__init__()
        self.title = "untrained"
        self.pose_trunk = nn.Sequential(
            conv(3, 24, 5, 2), conv(24, 48, 3, 2), Residual(48), conv(48, 96, 3, 2), Residual(96), conv(96, 128, 3, 2)
        )  # 64 -> 32 -> 16 -> 8 -> 4
        self.pose_head = head(128, 96, 3, 0.1)
        self.light_trunk = nn.Sequential(
            conv(1, 16, 3, 1), conv(16, 32, 3, 2), Residual(32), conv(32, 48, 3, 2), conv(48, 48, 3, 2)
        )  # 32 -> 16 -> 8 -> 4
        self.light_head = head(48, 48, 3, 0.2)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    def pose(self, x: Tensor) -> Tensor:
        """(n, 3, 64, 64) in [-1, 1] -> (n, 3) yaw, pitch, roll in units of 30 degrees."""
        return self.pose_head(self.pose_trunk(x))

    def light_features(self, x: Tensor) -> Tensor:
        """(n, 3, 64, 64) in [-1, 1] -> (n, 48) input of the last layer for the light."""
        grey = F.avg_pool2d(x.mean(1, keepdim=True), 2)  # (n, 1, 32, 32)
        face = grey[:, :, 6:28, 6:26]  # standardise the brightness on the face, without its surroundings
        centred = grey - face.mean((2, 3), keepdim=True)
        trunk = self.light_trunk(centred / (face.std((2, 3), correction=0, keepdim=True) + 0.05))
        return self.light_head[:-1](trunk)

    def light(self, x: Tensor) -> Tensor:
        """(n, 3, 64, 64) in [-1, 1] -> (n, 3) logits of light from the left, center, right."""
        return self.light_head[-1](self.light_features(x))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Estimate pose and light.

        Args:
            x: (n, 3, 64, 64) float in [-1, 1].

        Returns:
            (n, 3) yaw, pitch, roll in degrees, and (n, 3) probabilities of light from the left, center, right.
        """
        return self.pose(x) * POSE_SCALE, self.light(x).softmax(1)


def load_labeler(path: Path | str | None = None, device: torch.device | str | None = None) -> FaceLabeler:
    """Load a label network for inference.

    Args:
        path: name of a bundled model, a model's folder with labeler.safetensors, or a file written by `train_labeler`;
            None: the bundled one. Bundled networks are cached per device.
        device: target device; None: the CPU.

    Returns:
        The network in float32 and evaluation mode, its weights frozen.

    Raises:
        LatentrotError: the file is missing, unreadable, or not a labeler of this version.
    """
    target = torch.device(device or "cpu")
    name = DEFAULT_BUNDLE if path is None else str(path)
    if bundled_folder(name):
        return _bundled(name, str(target))
    return _read(_labeler_file(Path(name)), name, target)


def _labeler_file(path: Path) -> Path:
    """Resolve a path to a labeler file: the file itself, or the one in a model's folder."""
    found = part_in(path, LABELER_FILE) if path.is_dir() else path
    if found is None or not found.is_file():
        raise LatentrotError(
            missing_bundle(str(path))
            or f"no labeler at {path}; give a labeler file, a model's folder with labeler.safetensors in it, one of "
            f"{', '.join(bundle_names())}, or nothing for the network of {DEFAULT_BUNDLE}"
        )
    return found


@cache
def _bundled(name: str, device: str) -> FaceLabeler:
    folder = bundled_folder(name)
    return _read(_labeler_file(folder or Path(name)), name, torch.device(device))


def _read(path: Path, name: str, device: torch.device) -> FaceLabeler:
    labeler = load_weights(FaceLabeler(), path, KIND, "train labeler")
    labeler.title = f"{Path(name).name} {digest_of(path)}"
    return labeler.to(device)
