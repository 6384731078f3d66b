"""Read users' weights files as tensors only; code in them is never executed."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from latentrot.errors import LatentrotError, one_line

__all__ = ["read_weights"]


def read_weights(path: Path) -> dict[str, Any]:
    """Read the tensors in a weights file without executing code.

    Raises:
        LatentrotError: the file is missing or damaged, has another suffix, or contains anything but tensors.
    """
    name = one_line(path)
    if path.suffix.lower() not in (".safetensors", ".pth", ".pt", ".ckpt"):
        raise LatentrotError(
            f"{name}: unknown suffix {one_line(path.suffix)!r}; give a .safetensors, .pth, .pt or .ckpt"
        )
    if "\0" in str(path) or not path.is_file():
        raise LatentrotError(f"no weights file {name}; check the path")
    try:
        if path.suffix.lower() == ".safetensors":
            state = load_file(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise LatentrotError(
            f"{name} contains more than tensors, or is damaged; it is refused because reading it could execute code; "
            "get a .safetensors file of the same network"
        ) from error
    except (OSError, SafetensorError, RuntimeError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise LatentrotError(
            f"cannot read the weights in {name}: {one_line(error, 160) or type(error).__name__}; download it again"
        ) from error
    if not isinstance(state, dict) or not state:
        raise LatentrotError(f"{name} contains no table of weights; give the weights file of a restoration network")
    return state
