"""Checkpoints with the complete state of a training run in one safetensors file."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel

from latentrot.errors import LatentrotError, one_line
from latentrot.files import check_format, write_atomically

__all__ = [
    "check_same_run",
    "checkpoint_config",
    "config_of_run",
    "images_of_run",
    "load_checkpoint",
    "require_images",
    "save_checkpoint",
]

log = logging.getLogger(__name__)
Config = TypeVar("Config")
KIND = "latentrot training checkpoint"
#: version of the checkpoint format, raised when an older version would misread it
FORMAT = 1


def save_checkpoint(
    path: Path, model: torch.nn.Module, average: AveragedModel, optimizer: torch.optim.Optimizer, step: int,
    config: Any, metadata: Mapping[str, str] | None = None,
) -> None:  # fmt: skip
    """Write the complete state of a run into one safetensors file; `metadata` goes into its header."""
    tensors: dict[str, torch.Tensor] = {}
    for prefix, module in (("model", model), ("average", average)):
        tensors |= {f"{prefix}.{k}": v.cpu().contiguous() for k, v in module.state_dict().items()}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{k}": torch.as_tensor(v).cpu().contiguous() for k, v in state.items()}
    header = {
        "kind": KIND,
        "format": str(FORMAT),
        "step": str(step),
        "config": json.dumps(asdict(config)),
        **(metadata or {}),
    }
    write_atomically(path, lambda p: save_file(tensors, p, metadata=header))


def load_checkpoint(
    path: Path, model: torch.nn.Module, average: AveragedModel, optimizer: torch.optim.Optimizer
) -> int:
    """Restore a checkpoint; returns the number of completed steps."""
    with safe_open(path, "pt") as file:
        step = int(file.metadata()["step"])
        stored: dict[str, dict[str, torch.Tensor]] = {"model": {}, "average": {}, "optimizer": {}}
        for name in file.keys():  # noqa: SIM118  a safetensors file is not a dict
            part, rest = name.split(".", 1)
            stored[part][rest] = file.get_tensor(name)
    model.load_state_dict(stored["model"])
    average.load_state_dict(stored["average"])
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in stored["optimizer"].items():
        i, key = name.split(".", 1)
        state.setdefault(int(i), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    # moments need the memory layout of their weights (channels last), because the fused optimiser pairs them by position
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            moments = optimizer.state[parameter]
            for key in ("exp_avg", "exp_avg_sq"):
                moments[key] = torch.empty_like(parameter).copy_(moments[key])
    return step


def images_of_run(data: Sequence[Path] | str, images: torch.Tensor | np.ndarray) -> dict[str, str]:
    """Identification of the training images: folders or description, number, and digest of all pixels."""
    pixels = np.ascontiguousarray(images).reshape(-1)
    digest = hashlib.blake2b(pixels.data, digest_size=8).hexdigest()
    where = data if isinstance(data, str) else ", ".join(str(Path(folder).resolve()) for folder in data)
    return {"data": where, "images": str(len(images)), "images_digest": digest}


def require_images(checkpoint: Path, images: Mapping[str, str]) -> None:
    """Refuse to resume on other images; a checkpoint that does not record its images is accepted with a warning.

    Raises:
        LatentrotError: the images differ; the message names both folders.
    """
    if not checkpoint.is_file():
        return
    with safe_open(checkpoint, "pt") as file:
        metadata = file.metadata()
    if "images_digest" not in metadata:
        log.warning("%s does not record its training images; they are assumed to be the same", checkpoint)
    elif metadata["images_digest"] != images["images_digest"]:
        raise LatentrotError(
            f"the checkpoint was trained on {metadata['images']} images of {metadata['data']}, but this run has "
            f"{images['images']} different images of {images['data']}; use the original images, or choose another --out"
        )


def checkpoint_config(path: Path, kind: type[Config]) -> Config:
    """Read the configuration stored in a checkpoint as an instance of a dataclass.

    Raises:
        LatentrotError: the checkpoint is damaged, or belongs to another command or version.
    """
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata()
            stored = json.loads(header["config"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise LatentrotError(f"{path} is damaged ({one_line(error)}); delete it to start again") from error
    check_format(header.get("format", 1), FORMAT, path)
    if unknown := sorted(set(stored) - {f.name for f in fields(cast("Any", kind))}):
        raise LatentrotError(
            f"{path} belongs to another command or version ({', '.join(unknown)}); choose another --out"
        )
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()})


def config_of_run(checkpoint: Path, given: Config | None, kind: type[Config]) -> Config:
    """The configuration of a new or resumed run: the given one, that of the checkpoint, or the default.

    Raises:
        LatentrotError: the checkpoint is damaged, or its configuration differs from the given one.
    """
    if not checkpoint.is_file():
        return kind() if given is None else given
    stored = checkpoint_config(checkpoint, kind)
    if given is None:
        return stored
    check_same_run(stored, given)
    return given


def check_same_run(stored: Any, given: Any, free: tuple[str, ...] = ("steps", "decay")) -> None:
    """Check that a resumed run differs only in the `free` options, by default in its length and decay.

    Raises:
        LatentrotError: another option differs; the message quotes both values.
    """
    for field in fields(stored):
        old, new = getattr(stored, field.name), getattr(given, field.name)
        if field.name not in free and old != new:
            raise LatentrotError(
                f"the checkpoint was trained with {field.name}={old!r}, but this run has {new!r}; "
                "resume with the same value or choose another --out"
            )
