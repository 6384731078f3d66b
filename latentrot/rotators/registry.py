"""The built-in rotators by name, and how a rotator is loaded."""

from __future__ import annotations

import importlib
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from latentrot.errors import LatentrotError

if TYPE_CHECKING:
    from latentrot.rotators.options import RotatorOptions
    from latentrot.rotators.protocol import Rotator

__all__ = ["ROTATORS", "load_rotator", "options_of", "rotator_names"]

#: options of the built-in rotators, as module:name
ROTATORS = {
    "latent": "latentrot.rotators.latent.options:LatentOptions",
    "mesh": "latentrot.rotators.mesh.options:MeshOptions",
    "pair": "latentrot.rotators.pair.options:PairOptions",
    "spin": "latentrot.rotators.spin.options:SpinOptions",
    "nothing": "latentrot.rotators.baselines:NothingOptions",
    "mirror": "latentrot.rotators.baselines:MirrorOptions",
}


def load_rotator(
    name: str = "latent", *, device: str | None = None, dtype: str | None = None, **options: Any
) -> Rotator:
    """Load a rotator by name.

    Args:
        name: one of `ROTATORS`; or "package.module:name", which is called to make a user-defined rotator.
        device: "cpu", "cuda" or "cuda:N"; None: cuda if available. Not passed to user-defined rotators.
        dtype: precision of the evaluations of a diffusion model: float32, bfloat16 or float16.
        **options: fields of the options of the rotator (such as `latentrot.rotators.latent.options.LatentOptions`), or
            arguments of a user-defined rotator.

    Raises:
        LatentrotError: the name or an option is unknown, or the import fails.
    """
    made_by = options_of(name)
    if made_by is None:
        return _imported(name, name)(**options)
    known = {f.name for f in fields(made_by)}
    if unknown := sorted(set(options) - known):
        raise LatentrotError(
            f"rotator {name!r} has no option {', '.join(unknown)}; it has {', '.join(sorted(known)) or 'none'}"
        )
    return made_by(**options).load(device, dtype)


def options_of(name: str) -> type[RotatorOptions] | None:
    """The options of a built-in rotator; None for a user-defined one."""
    if name in ROTATORS:
        return _imported(name, ROTATORS[name])
    if ":" not in name:
        raise LatentrotError(f"rotator {name!r}: expected {', '.join(rotator_names())}, or package.module:name")
    return None


def _imported(name: str, place: str) -> Any:
    """Import module:name.

    Raises:
        LatentrotError: the module or the name does not exist.
    """
    module, _, attribute = place.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise LatentrotError(f"rotator {name!r} cannot be imported: {error}") from error


def rotator_names() -> list[str]:
    """Names of the built-in rotators."""
    return list(ROTATORS)
