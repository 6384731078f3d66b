"""Options and checks shared by several commands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast, get_type_hints

import tyro

from latentrot.errors import LatentrotError
from latentrot.files import check_writable
from latentrot.rotators.options import RotatorOptions
from latentrot.rotators.protocol import Rotator
from latentrot.rotators.registry import load_rotator, options_of, rotator_names

if TYPE_CHECKING:
    from latentrot.data.celeba import FaceFolder
    from latentrot.diffusion.load import LatentModel

__all__ = [
    "FrameOptions",
    "Light",
    "RuntimeOptions",
    "TrainOptions",
    "check_folder",
    "check_minimum",
    "chosen_options",
    "given_options",
    "load_chosen",
    "model_named",
    "options_from_json",
    "options_given",
    "rotator_options",
]

Light = Literal["left", "center", "right"]
Config = TypeVar("Config")


@dataclass(frozen=True)
class RuntimeOptions:
    """Device and precision of the networks."""

    device: str | None = None
    """cpu, cuda or cuda:N; by default cuda if available"""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """precision of the network's evaluations"""
    scale: float | None = None
    """scale of the autoencoder's latents, if the value in the model's folder is wrong"""
    vae: str | None = None
    """folder or Hub id of the autoencoder, for a latent diffusion model stored without it"""


@dataclass(frozen=True)
class FrameOptions:
    """Option that checks image folders before they are used."""

    check_frame: bool = True
    """check a sample of the images first, and refuse a folder whose faces are not aligned to the CelebA frame"""

    def check(self, folders: Sequence[Path | FaceFolder], device: str | None = None) -> None:
        """Refuse a folder whose faces are not aligned to the CelebA frame."""
        if not self.check_frame:
            return
        from latentrot.data.celeba import FaceFolder  # noqa: PLC0415
        from latentrot.faces.frame_check import check_frame  # noqa: PLC0415

        for folder in folders:
            check_frame(FaceFolder(folder) if isinstance(folder, Path) else folder, device)


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options of every command that runs the training loop; None: the value in the run's checkpoint, or the default."""

    out: Path
    """run folder for checkpoint, log, samples and network"""
    steps: int | None = None
    """total number of optimiser steps"""
    batch_size: int | None = None
    """samples per step"""
    learning_rate: float | None = None
    """AdamW's peak rate"""
    decay: int | None = None
    """number of steps of the final linear decay of the learning rate"""
    seed: int | None = None
    """seed of all randomness"""
    save_every: int = 500
    """steps between checkpoints; the first one of a run is written after a minute"""
    device: str | None = None
    """cpu, cuda or cuda:N; by default cuda if available. Several processes: accelerate launch, without --device"""

    def check(self) -> None:
        """Refuse numbers below 1 and a run folder that is not writable, before slow imports."""
        for name in ("save_every", "workers", "steps", "batch_size"):
            if (value := getattr(self, name, None)) is not None:
                check_minimum(f"--{name.replace('_', '-')}", value, 1)
        check_writable(self.out / "checkpoint.safetensors")

    def config(self, kind: type[Config], default: Callable[[], Config] | None = None) -> Config:
        """The configuration of the run: the given options override those of its checkpoint, or of `default` without one.

        Args:
            kind: a subclass of `RunConfig`.
            default: returns the configuration of a new run; None: call `kind` without arguments.
        """
        from latentrot.training.checkpoints import checkpoint_config  # noqa: PLC0415

        checkpoint = self.out / "checkpoint.safetensors"
        base = checkpoint_config(checkpoint, kind) if checkpoint.is_file() else (default or kind)()
        return replace(cast("Any", base), **given_options(self, kind))


def check_minimum(option: str, value: float, minimum: float) -> None:
    """Refuse a number below its minimum."""
    if value < minimum:
        raise LatentrotError(f"{option} {value}: expected at least {minimum}")


def check_folder(path: Path, holds: str = "aligned face images") -> None:
    """Refuse a missing folder before slow imports; `holds` names its expected content in the message."""
    if not path.is_dir():
        raise LatentrotError(f"no such folder: {path}; give a folder of {holds}")


def given_options(command: object, config: type) -> dict[str, Any]:
    """The fields of a configuration that were given as options of a command."""
    named = {f.name: getattr(command, f.name, None) for f in fields(config)}
    return {name: value for name, value in named.items() if value is not None}


def model_named(name: str | None, runtime: RuntimeOptions) -> LatentModel | str | None:
    """The name of a model, or the loaded model if --scale or --vae is given."""
    if runtime.scale is None and runtime.vae is None:
        return name
    from latentrot.diffusion.load import load_model  # noqa: PLC0415

    return load_model(name, runtime.device, runtime.dtype, scale=runtime.scale, vae=runtime.vae)


def rotator_options(without: Sequence[str] = ()) -> type:
    """Make a dataclass of the options of all built-in rotators, except those named in `without`.

    An option of several rotators appears once, with the help of each.
    """
    helps: dict[str, dict[str, list[str]]] = {}
    merged: dict[str, tuple[Any, Any]] = {}
    for rotator in rotator_names():
        made_by = cast("type[RotatorOptions]", options_of(rotator))
        types = get_type_hints(made_by)
        for f in (f for f in fields(made_by) if f.name not in without):
            helps.setdefault(f.name, {}).setdefault(f.metadata["help"], []).append(rotator)
            merged.setdefault(f.name, (types[f.name], f.default))
    made = []
    for name, (kind, default) in merged.items():
        text = "; ".join(f"{', '.join(names)}: {words}" for words, names in helps[name].items())
        made.append((name, Annotated[kind, tyro.conf.arg(help=text)], field(default=default)))
    return make_dataclass("RotatorOptions", made, frozen=True)


def options_given(options: Any) -> dict[str, Any]:
    """The rotator options that differ from their defaults, for a report; paths become text."""
    given = {f.name: getattr(options, f.name) for f in fields(options) if getattr(options, f.name) != f.default}
    return {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}


def options_from_json(kind: type, given: Mapping[str, Any]) -> Any:
    """Build options from the output of `options_given`.

    Raises:
        LatentrotError: the report contains an option that this version does not have.
    """
    known = get_type_hints(kind)
    if unknown := sorted(set(given) - set(known)):
        raise LatentrotError(
            f"--edit: the report contains the option {unknown[0]}, which this version of latentrot does not have"
        )
    return kind(
        **{name: Path(v) if isinstance(v, str) and "Path" in str(known[name]) else v for name, v in given.items()}
    )


def chosen_options(given: Any, rotators: Sequence[str]) -> dict[str, RotatorOptions | None]:
    """The options of each named rotator; None for a user-defined one.

    Args:
        given: an instance of `rotator_options()`. An option goes to the first named rotator that has it.
        rotators: names.

    Raises:
        LatentrotError: no named rotator has the option, or a rotator is unknown.
    """
    kinds = {name: options_of(name) for name in rotators}
    wanted = {f.name: getattr(given, f.name) for f in fields(given) if getattr(given, f.name) != f.default}
    chosen: dict[str, dict[str, Any]] = {name: {} for name in rotators}
    for option, value in wanted.items():
        takers = [name for name, kind in kinds.items() if kind and option in {f.name for f in fields(kind)}]
        if not takers:
            owners = ", ".join(
                n for n in rotator_names() if option in {f.name for f in fields(cast("Any", options_of(n)))}
            )
            raise LatentrotError(
                f"--{option.replace('_', '-')} is an option of the rotator {owners}, not of {', '.join(rotators)}; "
                "leave it out, or choose another --rotator"
            )
        chosen[takers[0]][option] = value
    return {name: kind(**chosen[name]) if kind else None for name, kind in kinds.items()}


def load_chosen(name: str, options: RotatorOptions | None, runtime: RuntimeOptions) -> Rotator:
    """Load a rotator; modules of user-defined rotators are also searched in the current folder, last."""
    if options is not None:
        if runtime.scale is not None or runtime.vae is not None:
            if not options.takes_loaded_model:
                raise LatentrotError(f"--scale and --vae are not supported by the rotator {name}; leave them out")
            options = replace(options, model=model_named(getattr(options, "model", None), runtime))
        return options.load(runtime.device, runtime.dtype)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    return load_rotator(name)
