"""What several commands share."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from latentrot.errors import LatentrotError

if TYPE_CHECKING:
    from latentrot.diffusion.load import LatentModel
    from latentrot.rotators.protocol import Rotator

__all__ = ["Light", "RuntimeOptions", "at_least", "check_folder", "given_of", "model_named", "rotator_named"]

Light = Literal["left", "center", "right"]


@dataclass(frozen=True)
class RuntimeOptions:
    """Where and how precisely the networks run."""

    device: str | None = None
    """cpu, cuda or cuda:N; by default cuda where there is one"""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """precision of the network's evaluations"""
    scale: float | None = None
    """by what an autoencoder's latents are multiplied, where the model's folder states it wrongly"""
    vae: str | None = None
    """an autoencoder's folder or Hub id, for a latent diffusion model that comes without its own"""


def at_least(option: str, value: float, least: float) -> None:
    """Refuse a number that is too small."""
    if value < least:
        raise LatentrotError(f"{option} {value}: expected at least {least}")


def check_folder(path: Path, holds: str = "aligned face pictures") -> None:
    """Refuse a folder that is not there, before anything slow is loaded; `holds` says what is expected in it."""
    if not path.is_dir():
        raise LatentrotError(f"no such folder: {path}; give a folder of {holds}")


def given_of(command: object, config: type) -> dict[str, Any]:
    """The options of a command that belong to a configuration and were given."""
    named = {f.name: getattr(command, f.name, None) for f in fields(config)}
    return {name: value for name, value in named.items() if value is not None}


def model_named(name: str | None, runtime: RuntimeOptions) -> LatentModel | str | None:
    """A model's name; the model itself, loaded, where its autoencoder is not taken as its folder has it."""
    if runtime.scale is None and runtime.vae is None:
        return name
    from latentrot.diffusion.load import load_model  # noqa: PLC0415

    return load_model(name, runtime.device, runtime.dtype, scale=runtime.scale, vae=runtime.vae)


def rotator_named(name: str, **options: object) -> Rotator:
    """A rotator by name; one of your own may also lie in the current folder, which is looked in last."""
    from latentrot.devices import resolve_device  # noqa: PLC0415
    from latentrot.rotators.protocol import load_rotator  # noqa: PLC0415

    here = str(Path.cwd())
    if ":" in name and here not in sys.path:
        sys.path.append(here)
    if name == "mesh":
        options = {"device": str(resolve_device(cast("str | None", options.get("device"))))}
    return load_rotator(name, **options)
