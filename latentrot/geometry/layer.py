"""What a rotated head looks like in its region, before it is composited into the photograph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from latentrot.geometry.fields import ramp

__all__ = ["Layer", "mixed"]


@dataclass(frozen=True, eq=False)
class Layer:
    """The rotated region: its image, the source position of every pixel, and their reliability.

    Args:
        image: (h, w, 3) float32.
        source: (h, w, 2) float32 region positions.
        coverage: (h, w) float32, 1 where the source's own pixel is shown.
        head: (h, w) float32 alpha of the head.
        gain: (h, w) float32, factor on the colours that keeps the light fixed in the scene.
    """

    image: np.ndarray
    source: np.ndarray
    coverage: np.ndarray
    head: np.ndarray
    gain: np.ndarray


def mixed(first: Layer, second: Layer, share: float) -> Layer:
    """Mix two layers of one rotation, `share` (0 to 1) of the second; fine detail is that of the larger share."""
    main = second if share > 0.5 else first
    trust = 1 - ramp(np.linalg.norm(first.source - second.source, axis=-1), 0.5, 2.0)
    return Layer(
        image=first.image + share * (second.image - first.image),
        source=main.source,
        coverage=(first.coverage + share * (second.coverage - first.coverage)) * trust,
        head=first.head + share * (second.head - first.head),
        gain=first.gain + share * (second.gain - first.gain),
    )
