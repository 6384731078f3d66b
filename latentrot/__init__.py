"""Edit the face in a photograph by walking along directions in the latent space of a diffusion model.

Public names are imported on first use, so that importing the package and `latentrot --help` stay fast.
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "LatentrotError": "latentrot.errors",
    "edit": "latentrot.portrait.photograph",
    "edit_photograph": "latentrot.portrait.photograph",
    "read_image": "latentrot.data.images",
    "write_image": "latentrot.data.images",
    "describe": "latentrot.faces.table",
    "load_model": "latentrot.diffusion.load",
    "Schedule": "latentrot.diffusion.schedule",
    "invert": "latentrot.diffusion.solve",
    "decode": "latentrot.diffusion.solve",
    "LatentStore": "latentrot.store.latent_store",
    "Directions": "latentrot.directions.directions",
    "fit_directions": "latentrot.directions.fit",
    "load_rotator": "latentrot.rotators.registry",
    "evaluate": "latentrot.evaluation.run",
}
#: names that were public in the previous version, and the modules that define them now
_MOVED = {
    "LatentModel": "latentrot.diffusion.load",
    "descend": "latentrot.diffusion.descend",
    "embed_with": "latentrot.training.embedder",
    "load_embedder": "latentrot.training.embedder",
    "estimate_pose": "latentrot.faces.estimate",
    "estimate_light": "latentrot.faces.estimate",
    "PoseEstimator": "latentrot.faces.estimate",
    "load_pose_estimator": "latentrot.faces.pose",
    "load_hopenet": "latentrot.faces.hopenet",
    "label_folder": "latentrot.faces.table",
    "jitter_spread": "latentrot.evaluation.label_check",
    "check_labels": "latentrot.evaluation.label_check",
    "YawBins": "latentrot.directions.lines",
    "Centroids": "latentrot.directions.lines",
    "CentroidLine": "latentrot.directions.lines",
    "YawDirections": "latentrot.directions.lines",
}
__all__ = ["__version__", *_HOMES]  # noqa: PLE0604  the names are strings

if TYPE_CHECKING:
    from latentrot.data.images import read_image, write_image
    from latentrot.diffusion.load import load_model
    from latentrot.diffusion.schedule import Schedule
    from latentrot.diffusion.solve import decode, invert
    from latentrot.directions.directions import Directions
    from latentrot.directions.fit import fit_directions
    from latentrot.errors import LatentrotError
    from latentrot.evaluation.run import evaluate
    from latentrot.faces.table import describe
    from latentrot.portrait.photograph import edit, edit_photograph
    from latentrot.rotators.registry import load_rotator
    from latentrot.store.latent_store import LatentStore


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _MOVED:
        message = f"latentrot.{name} is now {_MOVED[name]}.{name}; the old name will be removed in the next version"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return getattr(importlib.import_module(_MOVED[name]), name)
    raise AttributeError(f"module 'latentrot' has no attribute {name!r}")
