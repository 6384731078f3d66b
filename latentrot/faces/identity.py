"""Identity embeddings and their similarity, by an identity network supplied by the user.

The package includes no accurate identity network for real people. It can load facenet-pytorch's InceptionResnetV1 (Schroff,
Kalenichenko, Philbin, "FaceNet: A Unified Embedding for Face Recognition and Clustering", CVPR 2015) from the weights file
published by its author, 20180402-114759-vggface2.pt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from latentrot.data.weights import read_weights
from latentrot.errors import LatentrotError, one_line
from latentrot.faces.layers import digest_of

__all__ = ["IdentityEncoder", "IdentityNetwork", "load_identity"]

#: mean box of the detector in the CelebA frame (left, top, right, bottom) as shares of the face crop; the network was trained
#: on such boxes, stretched to squares of `INPUT` pixels
FACE_BOX = (0.159, 0.075, 0.829, 0.971)
INPUT = 160
#: number of images per forward pass
BATCH = 32
LENGTH = 512


class IdentityEncoder(Protocol):
    """A network that maps images of one person to similar embeddings."""

    @property
    def length(self) -> int:
        """Length of an embedding."""
        ...

    @property
    def learned_from(self) -> tuple[str, ...]:
        """Training data sets that show real people."""
        ...

    def embed(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """Embed n crops (s, s, 3) uint8 in the CelebA frame -> (n, length) unit vectors."""
        ...


@dataclass(frozen=True, eq=False)
class IdentityNetwork:
    """InceptionResnetV1 as an `IdentityEncoder`.

    Args:
        network: (n, 3, 160, 160) images -> (n, 512) unit vectors.
        digest: digest of the weights.
        length: length of an embedding.
        learned_from: training set of the published weights.
    """

    network: Any
    digest: str = ""
    length: int = LENGTH
    learned_from: tuple[str, ...] = ("vggface2",)

    def similarity(self, a: np.ndarray, b: np.ndarray) -> float:
        """Cosine similarity of two (s, s, 3) uint8 crops in the CelebA frame: 1 for equal images, about 0 for strangers."""
        first, second = self.embed([a, b])
        return float(first @ second)

    def embed(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """Embed n crops (s, s, 3) uint8 in the CelebA frame -> (n, 512) unit vectors."""
        x = torch.from_numpy(np.stack([face_of(crop) for crop in crops])).permute(0, 3, 1, 2).float()
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            parts = [F.normalize(self.network(part.to(device)).float()) for part in ((x - 127.5) / 128).split(BATCH)]
        return torch.cat(parts).cpu().numpy()


def face_of(crop: np.ndarray) -> np.ndarray:
    """The network's input, (160, 160, 3), from a (s, s, 3) uint8 crop."""
    left, top, right, bottom = (v * len(crop) for v in FACE_BOX)
    box = left, top, right, bottom
    return np.asarray(Image.fromarray(crop).resize((INPUT, INPUT), Image.Resampling.BILINEAR, box))


def load_identity(path: str | Path, device: str | None = None) -> IdentityNetwork:
    """Load the weights of InceptionResnetV1; code in the file is never executed.

    Args:
        path: weights file of facenet-pytorch, .pt or .safetensors.
        device: torch device; the CPU by default.

    Raises:
        LatentrotError: facenet-pytorch is not installed, or the file is missing, damaged or of another network.
    """
    path = Path(path)
    try:
        from facenet_pytorch import InceptionResnetV1  # noqa: PLC0415  (optional)
    except ImportError as error:
        raise LatentrotError(
            "--identity needs facenet-pytorch, which is not installed: pip install --no-deps facenet-pytorch"
        ) from error
    state = {
        k: v for k, v in read_weights(path).items() if not k.startswith("logits.")
    }  # weights of the classifier over training identities
    network = InceptionResnetV1(pretrained=None).eval()
    try:
        network.load_state_dict(state)
    except (RuntimeError, AttributeError) as error:
        raise LatentrotError(
            f"{one_line(path)} does not contain the weights of InceptionResnetV1; give facenet-pytorch's "
            "20180402-114759-vggface2.pt"
        ) from error
    return IdentityNetwork(network.to(device or "cpu"), digest_of(path))
