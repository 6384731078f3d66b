"""Calibrate step lengths: how many degrees, measured by the label network, a nominal step turns a head on average."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from sklearn.isotonic import IsotonicRegression

from latentrot.embed.solve import decode
from latentrot.errors import LatentrotError
from latentrot.fit.directions import Directions
from latentrot.fit.walk import walk
from latentrot.label.estimate import estimate_pose
from latentrot.label.network import FaceLabeler
from latentrot.models.load import LatentModel
from latentrot.store.latent_store import LatentStore

__all__ = ["calibrate", "calibration_sources"]

#: nominal degrees tried on every calibration picture
NOMINAL = (-180.0, -120.0, -90.0, -60.0, -30.0, 30.0, 60.0, 90.0, 120.0, 180.0)


def calibration_sources(store: LatentStore, rows: pd.DataFrame, light: str, number: int, seed: int) -> torch.Tensor:
    """Latents of nearly frontal pictures of the light group: (n, c, h, w), n <= number."""
    near = rows[(rows["yaw_deg"].abs() < 12) & ((rows["light"] == light) | (light == "any"))]
    there = [near.index.intersection(pd.Index(h.image_ids, dtype=near.index.dtype)) for _, h in store.headers()]
    near = near[near.index.isin(near.index[:0].append(there))]
    if near.empty:
        raise LatentrotError(f"no nearly frontal picture of light {light!r} to calibrate on; embed more pictures")
    chosen = near.sample(min(number, len(near)), random_state=seed)
    return torch.cat([z for _, z in store.batches(set(chosen.index))])


def calibrate(
    directions: Directions,
    model: LatentModel,
    sources: torch.Tensor,
    *,
    labeler: FaceLabeler | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Directions:
    """Measure how far nominal steps really turn heads, on average over some pictures.

    Args:
        directions: the lines, nominal.
        model: the model of their space.
        sources: (n, c, h, w) latents of nearly frontal pictures.
        labeler: the label network that measures degrees; None: the one that belongs to the model.
        progress: called with the number of pictures decoded since the last call, and how many there are in all.

    Returns:
        The same lines with a calibration table: mean change of yaw measured by the label network, made monotone.
    """
    labeler = labeler or model.labeler
    # coarse frequencies are walked by what the table itself says: so there is a rough one first, from some of the pictures
    passes = [sources[::4], sources] if directions.coarse else [sources]
    total = sum(map(len, passes)) * (len(NOMINAL) + 1)
    for some in passes:
        directions = measured_once(
            directions, model, some, labeler, None if progress is None else lambda n: progress(n, total)
        )
    measured_by = {"calibrated_on": str(len(sources)), "labeler": labeler.title}
    return replace(directions, provenance={**directions.provenance, **measured_by})


def measured_once(
    directions: Directions,
    model: LatentModel,
    sources: torch.Tensor,
    labeler: FaceLabeler,
    progress: Callable[[int], object] | None = None,
) -> Directions:
    """One pass of the calibration: the directions with a new table, measured by walks that follow the old one."""
    steps = torch.tensor(NOMINAL)
    changes = []

    def yaw(latents: torch.Tensor) -> np.ndarray:
        pictures = decode(model, latents, schedule=directions.space.schedule).clamp(-1, 1)
        if progress is not None:
            progress(len(latents))
        return estimate_pose(pictures, labeler=labeler)[:, 0].numpy()

    for z in sources:
        walked = walk(z[None], directions, steps, 0.0)  # nearly frontal: each way along its own line
        changes.append(yaw(walked) - yaw(z[None]))
    mean = np.insert(np.mean(changes, 0), len(NOMINAL) // 2, 0.0)
    nominal = np.insert(np.array(NOMINAL), len(NOMINAL) // 2, 0.0)
    rising = IsotonicRegression().fit(nominal, mean, sample_weight=np.where(nominal == 0, 1e6, 1.0)).predict(nominal)
    return replace(directions, nominal=tuple(nominal.tolist()), achieved=tuple(np.round(rising, 3).tolist()))
