"""Layers and file format shared by the networks of this package."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from safetensors.torch import save
from torch import Tensor, nn

from latentrot.errors import LatentrotError
from latentrot.files import read_tensors, write_atomically

__all__ = ["Residual", "conv", "digest_of", "load_weights", "save_weights"]

VERSION = "1"
Network = TypeVar("Network", bound=nn.Module)


def conv(width_in: int, width_out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm, SiLU."""
    return nn.Sequential(
        nn.Conv2d(width_in, width_out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(width_out),
        nn.SiLU(inplace=True),
    )


class Residual(nn.Module):
    """Two convolutions with a skip connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(width, width), conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        """(n, width, h, w) -> the same shape."""
        return x + self.body(x)


def save_weights(network: nn.Module, path: Path, kind: str, metadata: Mapping[str, str]) -> None:
    """Write a network as safetensors, floats in half precision, atomically."""
    tensors = {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in network.state_dict().items()}
    content = save(tensors, metadata={"kind": kind, "version": VERSION, **metadata})
    write_atomically(path, lambda p: p.write_bytes(content))


def load_weights(network: Network, path: Path, kind: str, made_by: str) -> Network:
    """Load a file written by `save_weights` into a network: float32, in evaluation mode, with frozen weights.

    Args:
        network: network whose weights the file contains.
        path: the file.
        kind: required kind in the file's metadata.
        made_by: command that writes such files, for error messages.

    Raises:
        LatentrotError: the file cannot be read, or is of another kind, version or network.
    """
    metadata, tensors = read_tensors(path, kind, 1, f"give a file written by {made_by}")
    if metadata.get("version") != VERSION:
        raise LatentrotError(f"{path} has version {metadata.get('version')!r}; expected {VERSION!r}")
    try:
        network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()})
    except RuntimeError as error:
        raise LatentrotError(f"{path} does not fit its network: {error}") from error
    return network.eval().requires_grad_(False)


def digest_of(path: Path) -> str:
    """Digest that identifies a weights file in records of results."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
