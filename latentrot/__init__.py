"""Turn the face in a photograph by walking straight lines in the latent space of a diffusion model.

Everything public is imported on first use, so that importing the package (and asking it for help) stays quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "LatentrotError": "latentrot.errors",
    "load_model": "latentrot.diffusion.load",
    "LatentModel": "latentrot.diffusion.load",
    "Schedule": "latentrot.diffusion.solve",
    "invert": "latentrot.diffusion.solve",
    "decode": "latentrot.diffusion.solve",
    "descend": "latentrot.diffusion.descend",
    "embed_with": "latentrot.training.embedder",
    "load_embedder": "latentrot.training.embedder",
    "LatentStore": "latentrot.store.latent_store",
    "estimate_pose": "latentrot.faces.estimate",
    "estimate_light": "latentrot.faces.estimate",
    "PoseEstimator": "latentrot.faces.estimate",
    "load_pose_estimator": "latentrot.faces.pose",
    "load_hopenet": "latentrot.faces.hopenet",
    "label_folder": "latentrot.faces.table",
    "describe": "latentrot.faces.table",
    "estimate_attributes": "latentrot.faces.attributes",
    "jitter_spread": "latentrot.evaluation.label_check",
    "check_labels": "latentrot.evaluation.label_check",
    "YawBins": "latentrot.directions.lines",
    "Centroids": "latentrot.directions.lines",
    "CentroidLine": "latentrot.directions.lines",
    "YawDirections": "latentrot.directions.lines",
    "Directions": "latentrot.directions.directions",
    "fit_directions": "latentrot.directions.fit",
    "load_rotator": "latentrot.rotators.protocol",
    "evaluate": "latentrot.evaluation.run",
}
__all__ = ["__version__", *_HOMES]  # noqa: PLE0604  the names are strings

if TYPE_CHECKING:
    from latentrot.diffusion.descend import descend
    from latentrot.diffusion.load import LatentModel, load_model
    from latentrot.diffusion.solve import Schedule, decode, invert
    from latentrot.directions.directions import Directions
    from latentrot.directions.fit import fit_directions
    from latentrot.directions.lines import CentroidLine, Centroids, YawBins, YawDirections
    from latentrot.errors import LatentrotError
    from latentrot.evaluation.label_check import check_labels, jitter_spread
    from latentrot.evaluation.run import evaluate
    from latentrot.faces.attributes import estimate_attributes
    from latentrot.faces.estimate import PoseEstimator, estimate_light, estimate_pose
    from latentrot.faces.hopenet import load_hopenet
    from latentrot.faces.pose import load_pose_estimator
    from latentrot.faces.table import describe, label_folder
    from latentrot.rotators.protocol import load_rotator
    from latentrot.store.latent_store import LatentStore
    from latentrot.training.embedder import embed_with, load_embedder


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'latentrot' has no attribute {name!r}")
