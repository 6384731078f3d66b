"""What every way of turning a face looks like from outside."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from latentrot.data.frame import CROP_BOX
from latentrot.errors import LatentrotError
from latentrot.faces.alignment import Alignment, Square
from latentrot.numerics import check_degrees

__all__ = [
    "ROTATORS",
    "ManyRotator",
    "PhotographRotator",
    "Rotator",
    "load_rotator",
    "rotate_face",
    "rotate_many",
    "rotator_names",
]

#: the rotators that come with the package: what makes each, as module:name
ROTATORS = {
    "latent": "latentrot.rotators.latent:load_latent_rotator",
    "mesh": "latentrot.rotators.mesh:MeshRotator",
    "pair": "latentrot.rotators.pair.rotator:load_pair_rotator",
    "spin": "latentrot.rotators.spin.rotator:load_spin_rotator",
    "nothing": "latentrot.rotators.baselines:NothingRotator",
    "mirror": "latentrot.rotators.baselines:MirrorRotator",
}


class Rotator(Protocol):
    """Turns the head in a face crop; the command line, metrics and pages know nothing else about it.

    A rotator may also say which data sets it learned from: `learned_from`, a tuple of names, empty where it learned from
    nobody. Measures on real people rest on it (`latentrot.evaluation.people`). And `notes`, a tuple of sentences for its
    user, which an edit tells.
    """

    def rotate(self, image: np.ndarray, degrees: float) -> np.ndarray:
        """Turn a (s, s, 3) uint8 RGB crop in the CelebA frame by degrees (> 0: nose to the viewer's right)."""
        ...


@runtime_checkable
class ManyRotator(Rotator, Protocol):
    """A rotator with a quicker way to several turns of one picture."""

    def rotate_many(self, image: np.ndarray, degrees: Sequence[float]) -> list[np.ndarray]:
        """Turn a (s, s, 3) uint8 crop by each of degrees."""
        ...


@runtime_checkable
class PhotographRotator(Rotator, Protocol):
    """A rotator that can make use of what lies around the crop."""

    def rotate_photograph(
        self, photograph: np.ndarray, face: Alignment, degrees: Sequence[float]
    ) -> Iterable[np.ndarray]:
        """Whole photographs, (h, w, 3) uint8, one face turned by each of degrees of yaw; the alignment says where it lies."""
        ...


def rotate_many(rotator: Rotator, image: np.ndarray, degrees: Sequence[float]) -> list[np.ndarray]:
    """Several turns of one picture, in the rotator's own quick way if it has one, else one by one."""
    check_degrees(degrees, 180)
    if isinstance(rotator, ManyRotator):
        return rotator.rotate_many(image, degrees)
    return [rotator.rotate(image, turn) for turn in degrees]


def rotate_face(
    rotator: Rotator,
    photograph: np.ndarray,
    face: Alignment,
    degrees: Sequence[float],
    size: int,
    box: Square = CROP_BOX,
) -> list[np.ndarray]:
    """Turn one face of a photograph, with all that the photograph shows where the rotator can make use of it.

    Args:
        rotator: any.
        photograph: (h, w, 3) uint8.
        face: where the face lies in it.
        degrees: turns.
        size: side in pixels of the square a rotator is given that takes no photographs, and of what is cut from one turned.
        box: the square of the CelebA frame that is cut out: left, top, right, bottom in frame pixels.

    Returns:
        Squares, one a turn: (size, size, 3) uint8, or whatever size the rotator makes of a crop.
    """
    check_degrees(degrees, 180)
    if not isinstance(rotator, PhotographRotator):
        return rotate_many(rotator, face.crop(photograph, size, box), degrees)
    return [face.crop(turned, size, box) for turned in rotator.rotate_photograph(photograph, face, degrees)]


def load_rotator(name: str = "latent", **options: object) -> Rotator:
    """Make a rotator by name.

    Args:
        name: one of `ROTATORS`; or a rotator of your own as "package.module:name", where calling the name makes one.
        **options: passed to the rotator's own loader (such as `load_latent_rotator`, `load_spin_rotator`), which refuses
            unknown ones.

    Raises:
        LatentrotError: an unknown name, or nothing to import by it.
    """
    module, _, attribute = ROTATORS.get(name, name).partition(":")
    if not attribute:
        raise LatentrotError(f"rotator {name!r}: expected {', '.join(rotator_names())}, or package.module:name")
    try:
        make = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise LatentrotError(f"rotator {name!r} cannot be imported: {error}") from error
    return make(**options)


def rotator_names() -> list[str]:
    """Names of the rotators that come with the package, for help and pages."""
    return list(ROTATORS)
