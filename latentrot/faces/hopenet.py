"""Hopenet, an alternative estimator of head pose: a ResNet-50 with a classifier over 66 bins of 3 degrees per angle.

After Ruiz, Chong, Rehg, "Fine-Grained Head Pose Estimation Without Keypoints", CVPR Workshops 2018; snapshots and code at
github.com/natanielruiz/deep-head-pose. The network has the published names and shapes, so the published snapshots load
unchanged. They are not part of this package: give their path or address.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet

from latentrot.data.digests import list_some
from latentrot.errors import LatentrotError
from latentrot.faces.estimate import resize_crops

__all__ = ["Hopenet", "HopenetPose", "load_hopenet"]

#: side of the network's input in pixels. The snapshots were trained on squares 1.17 to 1.44 times as wide as the bounding box
#: of the 68 landmarks, at random heights, and tested by their authors on squares 1.57 times as high as the box. In the CelebA
#: frame the box is roughly 84 pixels wide, so the 128-pixel crop is about 1.5 times as wide, and its centre is within the
#: range of the training crops: the whole crop is used and only resized.
INPUT_SIZE = 224
#: ImageNet's channel means and standard deviations, for images in [0, 1]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BINS, BIN_WIDTH_DEG, FIRST_BIN_DEG = 66, 3.0, -99.0
#: factors from Hopenet's yaw, pitch and roll to the signs of this package. The published `utils.draw_axis` draws the nose,
#: the axis out of the image, towards column -sin(yaw) and row -sin(pitch): yaw > 0 is the viewer's left, opposite to this
#: package; pitch > 0 is up, as here. It draws the head's rightward axis towards (cos(roll), sin(roll)), rows growing
#: downwards: roll > 0 leans clockwise, as here. Its training labels, those of 300W-LP, have the same signs.
SIGNS = (-1.0, 1.0, 1.0)
#: number of images per forward pass; at 224x224 its first layers need 13 MB for each
BATCH = 32
#: tensors that a snapshot may lack: counters that older versions of torch did not store, and an unused layer
OPTIONAL = ("num_batches_tracked", "fc_finetune.weight", "fc_finetune.bias")
EXPECTED = "the state_dict of a published Hopenet snapshot, for example hopenet_robust_alpha1.pkl"


class Hopenet(ResNet):
    """The published network: (n, 3, 224, 224) images, normalised as ImageNet's, to logits over bins."""

    def __init__(self) -> None:
        super().__init__(Bottleneck, [3, 4, 6, 3], num_classes=1)
        del self.fc
        width = 512 * Bottleneck.expansion
        self.fc_yaw = nn.Linear(width, BINS)
        self.fc_pitch = nn.Linear(width, BINS)
        self.fc_roll = nn.Linear(width, BINS)
        self.fc_finetune = nn.Linear(width + 3, 3)  # unused, but part of the published snapshots

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, 224, 224) -> (n, 3, 66) logits over the bins of yaw, pitch and roll, in the published signs."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))  # (n, 64, 56, 56)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # (n, 2048, 7, 7)
        x = self.avgpool(x).flatten(1)
        return torch.stack([self.fc_yaw(x), self.fc_pitch(x), self.fc_roll(x)], 1)


def expected_angle(logits: Tensor) -> Tensor:
    """Mean over the bins: (..., 66) logits -> (...) degrees, bin k standing for 3 k - 99."""
    bins = torch.arange(BINS, device=logits.device, dtype=logits.dtype) * BIN_WIDTH_DEG + FIRST_BIN_DEG
    return (logits.softmax(-1) * bins).sum(-1)


def normalise(x: Tensor) -> Tensor:
    """(n, 3, h, w) in [-1, 1] -> the same with ImageNet's normalisation."""
    mean, std = (x.new_tensor(v)[:, None, None] for v in (MEAN, STD))
    return ((x + 1) / 2 - mean) / std


@dataclass(frozen=True)
class HopenetPose:
    """Hopenet as a `PoseEstimator`, with the signs of this package.

    Args:
        network: the network, in evaluation mode.
    """

    network: Hopenet
    name: str = "hopenet"
    crop_size: int = INPUT_SIZE

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """(n, 3, h, h) -> (n, 3) degrees; see `PoseEstimator`."""
        device = self.network.conv1.weight.device
        parts = [
            expected_angle(self.network(normalise(resize_crops(part.to(device), INPUT_SIZE))))
            for part in x.split(BATCH)
        ]
        return (torch.cat(parts) * torch.tensor(SIGNS, device=device)).to(x.device)


def load_hopenet(weights: Path | str | None = None, device: torch.device | str | None = None) -> HopenetPose:
    """Load Hopenet for `estimate_pose(x, estimator=...)`.

    Args:
        weights: path or http, https or file address of a snapshot, which is downloaded once and kept in torch hub's folder.
            Only tensors are read, never code. None: random weights.
        device: target device; None: the CPU.

    Raises:
        LatentrotError: the file or address does not exist, or does not contain Hopenet's weights.
    """
    network = Hopenet()
    if weights is not None:
        load_state(network, read_snapshot(str(weights)), str(weights))
    return HopenetPose(network.to(device or "cpu").eval().requires_grad_(False))


def read_snapshot(source: str) -> object:
    """Load the content of a file or address with torch."""
    if urlsplit(source).scheme in ("http", "https", "file"):
        return fetch(source)
    if not Path(source).is_file():
        raise LatentrotError(f"no file {source}; give the path or the address of {EXPECTED}")
    try:
        return torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises various types for other kinds of files
        raise unreadable(source, error) from error


def fetch(url: str) -> object:
    """Download a snapshot into torch hub's folder and load it."""
    # torch hub names files by the last part of the address, which two addresses may share
    name = f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{PurePosixPath(urlsplit(url).path).name}"
    kept = Path(torch.hub.get_dir()) / "checkpoints" / name
    if urlsplit(url).scheme == "file":
        kept.unlink(missing_ok=True)  # a local file may have changed since
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return torch.hub.load_state_dict_from_url(
                url, file_name=name, map_location="cpu", weights_only=True, progress=sys.stderr.isatty()
            )
    except OSError as error:
        raise LatentrotError(
            f"cannot fetch {url}: {error}; check the address and the connection, or download it and give its path"
        ) from error
    except Exception as error:
        kept.unlink(missing_ok=True)  # so that the next attempt downloads it again
        raise unreadable(url, error) from error


def unreadable(source: str, error: Exception) -> LatentrotError:
    """The error for a file that torch cannot read as tensors only."""
    return LatentrotError(
        f"{source} is not a file of weights ({type(error).__name__}); expected {EXPECTED}; if this is a download page, "
        "download the file itself"
    )


def load_state(network: Hopenet, state: object, source: str) -> None:
    """Load a snapshot's tensors into the network.

    Raises:
        LatentrotError: the state is not a table of tensors, or its names or shapes are not those of Hopenet.
    """
    if isinstance(state, Mapping) and isinstance(state.get("params"), Mapping):
        state = state["params"]  # some redistributed snapshots are wrapped
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise LatentrotError(
            f"{source} holds a {type(state).__name__} that is not a table of tensors; expected {EXPECTED}"
        )
    expected = network.state_dict()
    complaints = {
        "lacks": {k for k in expected.keys() - state.keys() if not k.endswith(OPTIONAL)},
        "has besides": state.keys() - expected.keys(),
        "has of another shape": {k for k in expected.keys() & state.keys() if expected[k].shape != state[k].shape},
    }
    if found := [f"{what} {list_some(sorted(names))}" for what, names in complaints.items() if names]:
        raise LatentrotError(f"{source} does not fit Hopenet: it {', '.join(found)}; expected {EXPECTED}")
    network.load_state_dict(dict(state), strict=False)
