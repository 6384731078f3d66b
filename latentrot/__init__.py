"""Turn the face in a photograph by walking straight lines in the latent space of a diffusion model.

Everything public is imported on first use, so that importing the package (and asking it for help) stays quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "LatentrotError": "latentrot.errors",
    "load_model": "latentrot.models.load",
    "LatentModel": "latentrot.models.load",
    "Schedule": "latentrot.embed.solve",
    "invert": "latentrot.embed.solve",
    "decode": "latentrot.embed.solve",
    "descend": "latentrot.embed.descend",
    "embed_with": "latentrot.embed.embedder",
    "load_embedder": "latentrot.embed.embedder",
    "LatentStore": "latentrot.store.latent_store",
    "estimate_pose": "latentrot.label.estimate",
    "estimate_light": "latentrot.label.estimate",
    "PoseEstimator": "latentrot.label.estimate",
    "load_pose_estimator": "latentrot.label.pose",
    "load_hopenet": "latentrot.label.hopenet",
    "label_folder": "latentrot.label.table",
    "jitter_spread": "latentrot.label.check",
    "check_labels": "latentrot.label.check",
    "YawBins": "latentrot.fit.lines",
    "Centroids": "latentrot.fit.lines",
    "CentroidLine": "latentrot.fit.lines",
    "YawDirections": "latentrot.fit.lines",
    "Directions": "latentrot.fit.directions",
    "fit_directions": "latentrot.fit.fit",
    "load_rotator": "latentrot.rotate.protocol",
    "evaluate": "latentrot.evaluation.run",
}
__all__ = ["__version__", *_HOMES]  # noqa: PLE0604  the names are strings

if TYPE_CHECKING:
    from latentrot.embed.descend import descend
    from latentrot.embed.embedder import embed_with, load_embedder
    from latentrot.embed.solve import Schedule, decode, invert
    from latentrot.errors import LatentrotError
    from latentrot.evaluation.run import evaluate
    from latentrot.fit.directions import Directions
    from latentrot.fit.fit import fit_directions
    from latentrot.fit.lines import CentroidLine, Centroids, YawBins, YawDirections
    from latentrot.label.check import check_labels, jitter_spread
    from latentrot.label.estimate import PoseEstimator, estimate_light, estimate_pose
    from latentrot.label.hopenet import load_hopenet
    from latentrot.label.pose import load_pose_estimator
    from latentrot.label.table import label_folder
    from latentrot.models.load import LatentModel, load_model
    from latentrot.rotate.protocol import load_rotator
    from latentrot.store.latent_store import LatentStore


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'latentrot' has no attribute {name!r}")
