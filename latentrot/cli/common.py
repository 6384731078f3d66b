"""What several commands share."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_type_hints

import tyro

from latentrot.errors import LatentrotError
from latentrot.rotators.options import RotatorOptions
from latentrot.rotators.protocol import Rotator, load_rotator, options_of, rotator_names

if TYPE_CHECKING:
    from latentrot.diffusion.load import LatentModel

__all__ = [
    "Light",
    "RuntimeOptions",
    "at_least",
    "check_folder",
    "chosen_options",
    "given_of",
    "load_chosen",
    "model_named",
    "options_from_json",
    "options_given",
    "rotator_options",
]

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


def rotator_options(without: Sequence[str] = ()) -> type:
    """A dataclass of the options of all rotators that come with the package, for a command to take.

    An option that several rotators have stands once, with the help of each; those named in `without` are left out.
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
        words = "; ".join(f"{', '.join(names)}: {words}" for words, names in helps[name].items())
        made.append((name, Annotated[kind, tyro.conf.arg(help=words)], field(default=default)))
    return make_dataclass("RotatorOptions", made, frozen=True)


def options_given(options: Any) -> dict[str, Any]:
    """Those of a rotator's options that are not the default, for a report: paths as text."""
    given = {f.name: getattr(options, f.name) for f in fields(options) if getattr(options, f.name) != f.default}
    return {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}


def options_from_json(kind: type, given: Mapping[str, Any]) -> Any:
    """The options that `options_given` told.

    Raises:
        LatentrotError: one that this version does not know.
    """
    known = get_type_hints(kind)
    if unknown := sorted(set(given) - set(known)):
        raise LatentrotError(f"--edit: the report has the option {unknown[0]}, which this latentrot does not know")
    return kind(
        **{name: Path(v) if isinstance(v, str) and "Path" in str(known[name]) else v for name, v in given.items()}
    )


def chosen_options(given: Any, rotators: Sequence[str]) -> dict[str, RotatorOptions | None]:
    """The options of each rotator that was named; None for one of the user's own.

    Args:
        given: an instance of `rotator_options()`. An option goes to the first rotator named that has it.
        rotators: names.

    Raises:
        LatentrotError: an option was given that none of the rotators has, or an unknown rotator.
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
    """Load a rotator; one of your own may also lie in the current folder, which is looked in last."""
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
