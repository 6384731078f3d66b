"""Who it is, and how much of the person stays, by an identity network the user has.

The package has none that knows real people well. It reads facenet-pytorch's InceptionResnetV1 (Schroff, Kalenichenko,
Philbin, "FaceNet: A Unified Embedding for Face Recognition and Clustering", CVPR 2015) from a weights file as its author
publishes them, 20180402-114759-vggface2.pt.
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

__all__ = ["IdentityNetwork", "TellsPeopleApart", "load_identity"]

#: the detector's mean box in CelebA's frame (left, top, right, bottom), as shares of the face crop: what the network was
#: trained on, stretched to a square of `INPUT` pixels
FACE_BOX = (0.159, 0.075, 0.829, 0.971)
INPUT = 160
#: pictures embedded at once
BATCH = 32
LENGTH = 512


class TellsPeopleApart(Protocol):
    """A network that puts pictures of one person close together."""

    @property
    def length(self) -> int:
        """Of an embedding."""
        ...

    @property
    def learned_from(self) -> tuple[str, ...]:
        """Data sets of real people that it learned from."""
        ...

    def embed(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """(n) crops (s, s, 3) uint8 in the CelebA frame -> (n, length) unit vectors."""
        ...


@dataclass(frozen=True, eq=False)
class IdentityNetwork:
    """Tells how alike the persons in two crops are.

    Args:
        network: (n, 3, 160, 160) pictures -> (n, 512) unit vectors.
        digest: what identifies its weights.
        length: of an embedding.
        learned_from: the set that the weights named above learned from.
    """

    network: Any
    digest: str = ""
    length: int = LENGTH
    learned_from: tuple[str, ...] = ("vggface2",)

    def likeness(self, a: np.ndarray, b: np.ndarray) -> float:
        """The cosine of two (s, s, 3) uint8 crops in the CelebA frame: 1 for equal pictures, about 0 for strangers."""
        first, second = self.embed([a, b])
        return float(first @ second)

    def embed(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """(n) crops (s, s, 3) uint8 in the CelebA frame -> (n, 512) unit vectors."""
        x = torch.from_numpy(np.stack([face_of(crop) for crop in crops])).permute(0, 3, 1, 2).float()
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            parts = [F.normalize(self.network(part.to(device)).float()) for part in ((x - 127.5) / 128).split(BATCH)]
        return torch.cat(parts).cpu().numpy()


def face_of(crop: np.ndarray) -> np.ndarray:
    """What the network sees of a (s, s, 3) uint8 crop: (160, 160, 3)."""
    left, top, right, bottom = (v * len(crop) for v in FACE_BOX)
    box = left, top, right, bottom
    return np.asarray(Image.fromarray(crop).resize((INPUT, INPUT), Image.Resampling.BILINEAR, box))


def load_identity(path: str | Path, device: str | None = None) -> IdentityNetwork:
    """Load InceptionResnetV1's weights; nothing in the file is run.

    Args:
        path: facenet-pytorch's weights, .pt or .safetensors.
        device: torch device; the CPU by default.

    Raises:
        LatentrotError: facenet-pytorch is missing, no such file, a damaged file, weights of another network.
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
    }  # names of the training's people
    network = InceptionResnetV1(pretrained=None).eval()
    try:
        network.load_state_dict(state)
    except (RuntimeError, AttributeError) as error:
        raise LatentrotError(
            f"{one_line(path)} holds other weights than InceptionResnetV1's; give facenet-pytorch's "
            "20180402-114759-vggface2.pt"
        ) from error
    return IdentityNetwork(network.to(device or "cpu"), digest_of(path))
