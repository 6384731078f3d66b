"""What every way of turning a face looks like from outside."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from latentrot.errors import LatentrotError

__all__ = ["Rotator", "load_rotator"]


class Rotator(Protocol):
    """Turns the head in a face crop; the command line, metrics and pages know nothing else about it."""

    def rotate(self, image: np.ndarray, degrees: float) -> np.ndarray:
        """Turn a (s, s, 3) uint8 RGB crop in the CelebA frame by degrees (> 0: nose to the viewer's right)."""
        ...


def load_rotator(name: str = "latent", **options: object) -> Rotator:
    """Make a rotator by name.

    Args:
        name: "latent", the walk in a diffusion model's latent space.
        **options: passed to the rotator's own loader (for "latent": see `load_latent_rotator`), which refuses unknown ones.
    """
    if name != "latent":
        raise LatentrotError(f"rotator {name!r}: expected latent")
    from latentrot.rotate.latent import load_latent_rotator  # noqa: PLC0415  the loaders import this module

    return load_latent_rotator(**options)  # type: ignore[arg-type]
