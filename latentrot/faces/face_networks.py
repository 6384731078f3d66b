"""Two small networks: 68 landmarks with their expected errors, and face parsing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentrot.bundles import bundled_part, missing_bundle
from latentrot.errors import LatentrotError
from latentrot.faces.layers import Residual, conv, digest_of, load_weights, save_weights

__all__ = ["LandmarkNetwork", "PartsNetwork", "load_face_network", "save_face_network"]

#: side of the landmark network's input, pixels
LANDMARK_SIDE = 128
#: side of the parts network's input, pixels
PARTS_SIDE = 256
CLASSES = 7
#: block side of the pixel-unshuffle at the input of both networks, because small maps with many channels are faster
PATCH = 4


class LandmarkNetwork(nn.Module):
    """Estimates 68 landmarks in a square around a face, and the expected error of each.

    Attributes:
        title: name for records of its results.
    """

    kind = "latentrot landmarks"

    def __init__(self, widths: tuple[int, ...] = (32, 64, 112)) -> None:
        super().__init__()
        self.title = "untrained"
        stages = [conv(3 * PATCH**2, widths[0], 1), Residual(widths[0])]
        for before, width in pairwise(widths):  # 32 -> 16 -> 8
            stages += [conv(before, width, 3, 2), Residual(width), Residual(width)]
        self.trunk = nn.Sequential(*stages, conv(widths[-1], 40, 1))
        side = LANDMARK_SIDE // PATCH >> (len(widths) - 1)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.Linear(40 * side * side, 256),
            nn.SiLU(inplace=True),
            nn.Linear(256, 68 * 3),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Estimate landmarks and their expected errors.

        Args:
            x: (n, 3, 128, 128) in [-1, 1].

        Returns:
            (n, 68, 2) positions, -1 to 1 across the square; (n, 68) logarithm of the expected distance, in the same unit.
        """
        out = self.head(self.trunk(F.pixel_unshuffle(x, PATCH))).float().reshape(-1, 68, 3)
        return out[..., :2], out[..., 2].clamp(-7, 1)


class PartsNetwork(nn.Module):
    """A U-Net that predicts the face part of every pixel in a square around a head.

    Source: Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015, with
    residual blocks.

    Attributes:
        title: name for records of its results.
    """

    kind = "latentrot parts"

    def __init__(self, widths: tuple[int, ...] = (32, 64, 96, 128)) -> None:
        super().__init__()
        self.title = "untrained"
        self.first = nn.Sequential(conv(3 * PATCH**2, widths[0], 1), Residual(widths[0]))  # 64
        self.down = nn.ModuleList(nn.Sequential(conv(a, b, 3, 2), Residual(b)) for a, b in pairwise(widths))
        self.middle = Residual(widths[-1])
        steps = list(pairwise(widths[::-1]))
        self.narrow = nn.ModuleList(conv(a, b, 1) for a, b in steps)
        self.up = nn.ModuleList(conv(2 * b, b) for _, b in steps)
        self.out = nn.Sequential(
            conv(widths[0] + 3 * PATCH**2, 64, 1), nn.Conv2d(64, CLASSES * PATCH**2, 1), nn.PixelShuffle(PATCH)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, 256, 256) in [-1, 1] -> (n, 7, 256, 256) logits."""
        x = F.pixel_unshuffle(x, PATCH)
        features = [self.first(x)]
        for stage in self.down:
            features.append(stage(features[-1]))
        y = self.middle(features.pop())
        for narrow, up in zip(self.narrow, self.up, strict=True):
            y = F.interpolate(narrow(y), scale_factor=2, mode="bilinear", align_corners=False)
            y = up(torch.cat([y, features.pop()], 1))
        return self.out(torch.cat([y, x], 1))


Network = TypeVar("Network", LandmarkNetwork, PartsNetwork)
FILES = {"latentrot landmarks": "landmarks.safetensors", "latentrot parts": "parts.safetensors"}


def save_face_network(network: LandmarkNetwork | PartsNetwork, path: Path, provenance: Mapping[str, object]) -> None:
    """Write the weights of a network; `provenance` (training sets, measured errors) is stored in the file's header."""
    save_weights(network, path, network.kind, {k: json.dumps(v) for k, v in provenance.items()})


def load_face_network(make: type[Network], path: Path | None = None, device: str | None = None) -> Network:
    """Load a network for inference; bundled ones are cached per device.

    Args:
        make: class of the network: LandmarkNetwork or PartsNetwork.
        path: file written by `train landmarks` or `train parts`; None: the bundled one.
        device: target device; None: the CPU.

    Raises:
        LatentrotError: the file is missing, unreadable, or of another kind or version.
    """
    return _read(make, path or bundled_part("face") / FILES[make.kind], str(device or "cpu"))


@cache
def _read(make: type[Network], path: Path, device: str) -> Network:
    if not path.is_file():
        raise LatentrotError(
            missing_bundle(path.parent.name)
            or f"no network in {path}; give a file written by train landmarks or train parts"
        )
    network = load_weights(make(), path, make.kind, "train landmarks")
    network.title = f"{path.stem} {digest_of(path)}"
    return network.to(device)
