"""The package's small identity network, which maps images of one person to similar embeddings.

Source of the loss it is trained with: Wang et al., "CosFace: Large Margin Cosine Loss for Deep Face Recognition", CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

from latentrot.data.arrays import resize, to_tensor
from latentrot.errors import LatentrotError
from latentrot.faces.layers import Residual, conv, load_weights, save_weights

__all__ = ["PersonNetwork", "load_person_network", "save_person_network"]

KIND = "latentrot person network"
#: side in pixels of its input crops
SIDE = 64
LENGTH = 128
#: number of pixels cut off at each side, so that the face fills the input
EDGE = 4
BATCH = 64


class PersonNetwork(nn.Module):
    """Embeddings of 64x64 crops in the CelebA frame.

    Attributes:
        metadata: training sets and verification accuracy, stored in the file.
        length: length of an embedding.
    """

    length = LENGTH

    def __init__(self) -> None:
        super().__init__()
        self.metadata: dict[str, str] = {}
        self.trunk = nn.Sequential(
            conv(12, 48, 3, 2), Residual(48), conv(48, 96, 3, 2), Residual(96), conv(96, 160, 3, 2), Residual(160)
        )  # 28 -> 14 -> 7 -> 4
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(160 * 16, LENGTH))

    @property
    def learned_from(self) -> tuple[str, ...]:
        """Training data sets that show real people; a tenth of the people were held out."""
        sets = self.metadata.get("data", "").split(", ")
        return tuple(name for name in sets if name not in ("", "rendered heads"))

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, 64, 64) in [-1, 1] -> (n, 128) unit vectors."""
        inner = x[..., EDGE:-EDGE, EDGE:-EDGE]
        return F.normalize(self.head(self.trunk(F.pixel_unshuffle(inner, 2))).float())

    @torch.no_grad()
    def embed(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """Crops (s, s, 3) uint8 in the CelebA frame -> (n, 128) unit vectors, averaged with those of the mirror images."""
        x = to_tensor([resize(crop, SIDE) for crop in crops])
        device = next(self.parameters()).device
        both = [self(part) + self(part.flip(-1)) for part in x.to(device).split(BATCH)]
        return F.normalize(torch.cat(both)).cpu().numpy()


def save_person_network(network: PersonNetwork, path: Path) -> None:
    """Write a network with its metadata; floats in half precision."""
    save_weights(network, path, KIND, network.metadata)


def load_person_network(path: Path, device: str | None = None) -> PersonNetwork:
    """Load a network written by `train person`, frozen.

    Raises:
        LatentrotError: the file is missing or of another kind.
    """
    if not path.is_file():
        raise LatentrotError(f"no network at {path}; train one with: latentrot train person --out RUN")
    network = load_weights(PersonNetwork(), path, KIND, "train person")
    with safe_open(path, "pt") as file:
        network.metadata = {k: v for k, v in file.metadata().items() if k not in ("kind", "version")}
    return network.to(device or "cpu")
