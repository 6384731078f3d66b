"""What every way of turning a face looks like from outside."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from latentrot.errors import LatentrotError

__all__ = ["ManyRotator", "Rotator", "load_rotator", "rotate_many"]


class Rotator(Protocol):
    """Turns the head in a face crop; the command line, metrics and pages know nothing else about it."""

    def rotate(self, image: np.ndarray, degrees: float) -> np.ndarray:
        """Turn a (s, s, 3) uint8 RGB crop in the CelebA frame by degrees (> 0: nose to the viewer's right)."""
        ...


@runtime_checkable
class ManyRotator(Rotator, Protocol):
    """A rotator with a quicker way to several turns of one picture."""

    def rotate_many(self, image: np.ndarray, degrees: Sequence[float]) -> list[np.ndarray]:
        """Turn a (s, s, 3) uint8 crop by each of degrees."""
        ...


def rotate_many(rotator: Rotator, image: np.ndarray, degrees: Sequence[float]) -> list[np.ndarray]:
    """Several turns of one picture, in the rotator's own quick way if it has one, else one by one."""
    if isinstance(rotator, ManyRotator):
        return rotator.rotate_many(image, degrees)
    return [rotator.rotate(image, turn) for turn in degrees]


def load_rotator(name: str = "latent", **options: object) -> Rotator:
    """Make a rotator by name.

    Args:
        name: "latent", the walk in a diffusion model's latent space; "mesh", the photograph itself turned by geometry;
            "nothing" and "mirror", to compare with; or a rotator
            of your own as "package.module:name", where calling the name makes one.
        **options: passed to the rotator's own loader (for "latent": see `load_latent_rotator`), which refuses unknown ones.

    Raises:
        LatentrotError: an unknown name, or nothing to import by it.
    """
    if name == "latent":
        from latentrot.rotate.latent.rotator import load_latent_rotator  # noqa: PLC0415  the loaders import this module

        return load_latent_rotator(**options)  # type: ignore[arg-type]
    if name == "mesh":
        from latentrot.rotate.mesh import MeshRotator  # noqa: PLC0415

        return MeshRotator(**options)  # type: ignore[arg-type]
    if name in ("nothing", "mirror"):
        from latentrot.rotate.baselines import MirrorRotator, NothingRotator  # noqa: PLC0415

        return {"nothing": NothingRotator, "mirror": MirrorRotator}[name](**options)
    module, _, attribute = name.partition(":")
    if not attribute:
        raise LatentrotError(f"rotator {name!r}: expected latent, mesh, nothing, mirror, or package.module:name")
    try:
        return getattr(importlib.import_module(module), attribute)(**options)
    except (ImportError, AttributeError) as error:
        raise LatentrotError(f"rotator {name!r} cannot be imported: {error}") from error
