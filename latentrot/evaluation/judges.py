"""External estimators of pose and identity, which are not part of the package."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latentrot.errors import LatentrotError, one_line
from latentrot.faces.identity import IdentityNetwork

__all__ = ["CachedEstimate", "Judge", "judge_of", "load_judge"]

Estimate = Callable[[Sequence[np.ndarray]], np.ndarray]


@dataclass(frozen=True, eq=False)
class Judge:
    """External estimators of pose and identity of crops; either may be None.

    Attributes:
        name: name for the report.
        pose: n crops (s, s, 3) uint8 in the CelebA frame -> (n, 2 or more): yaw and pitch, degrees, with the signs of the
            package.
        identity: n crops -> (n, d) unit vectors.
    """

    name: str
    pose: Estimate | None = None
    identity: Estimate | None = None


class CachedEstimate:
    """Caches estimates by image, because baselines and references repeat the same images.

    Args:
        estimate: n images -> n values.
    """

    def __init__(self, estimate: Callable[[Sequence[np.ndarray]], Sequence[Any] | np.ndarray]) -> None:
        self.estimate = estimate
        self.cache: dict[bytes, Any] = {}

    def __call__(self, images: Sequence[np.ndarray]) -> list[Any]:
        """Estimates of (n, s, s, 3) uint8 images of one size."""
        keys = [image.tobytes() for image in images]
        new = {key: image for key, image in zip(keys, images, strict=True) if key not in self.cache}
        if new:
            self.cache |= zip(new, self.estimate(list(new.values())), strict=True)
        return [self.cache[key] for key in keys]


def load_judge(path: Path) -> Judge:
    """Import a judge from a Python file, which is executed.

    Args:
        path: file that defines `pose(images)`, `identity(images)` or both, as in `Judge`.

    Raises:
        LatentrotError: the file is missing, cannot be imported, or defines neither function.
    """
    if not path.is_file():
        raise LatentrotError(
            f"no such judge: {one_line(path)}; expected a Python file with pose(images), identity(images) or both"
        )
    spec = importlib.util.spec_from_file_location(f"judge_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise LatentrotError(f"{one_line(path)} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's file raises
        raise LatentrotError(f"the judge {one_line(path)} cannot be imported: {one_line(error, 200)}") from error
    pose, identity = (getattr(module, name, None) for name in ("pose", "identity"))
    if pose is None and identity is None:
        raise LatentrotError(f"{one_line(path)} defines neither pose(images) nor identity(images)")
    return Judge(path.stem, pose, identity)


def judge_of(judge: Judge | None, network: IdentityNetwork | None) -> Judge | None:
    """The judge, with its identity estimator replaced by `network` if that is given."""
    if network is None:
        return judge
    return Judge(f"{judge.name}, facenet" if judge else "facenet", judge.pose if judge else None, network.embed)
