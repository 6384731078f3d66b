"""Calibrate step sizes: measure the mean rotation of a head for each step size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from sklearn.isotonic import IsotonicRegression

from latentrot.diffusion.first_stage import mirror_latents
from latentrot.diffusion.load import LatentModel
from latentrot.diffusion.solve import decode
from latentrot.directions.directions import Directions
from latentrot.directions.statistics import MIRRORED_LIGHT
from latentrot.directions.walk import walk
from latentrot.directions.warp import warp_to_walk
from latentrot.errors import LatentrotError
from latentrot.faces.estimate import estimate_pose
from latentrot.faces.network import FaceLabeler
from latentrot.store.latent_store import LatentStore

__all__ = ["calibrate", "calibration_sources"]

#: step sizes measured on every calibration image, in degrees of the fitted line
CALIBRATION_STEPS = (-240.0, -180.0, -120.0, -90.0, -60.0, -30.0, 30.0, 60.0, 90.0, 120.0, 180.0, 240.0)


def calibration_sources(
    store: LatentStore, rows: pd.DataFrame, light: str, number: int, seed: int, mirror: bool = False
) -> torch.Tensor:
    """Choose latents of nearly frontal images for the calibration.

    Args:
        store: the latents.
        rows: the labelled images that may be used.
        light: the illumination class, or any.
        number: max number of images.
        seed: seed of the choice.
        mirror: take half of the latents, mirrored, from the mirrored illumination class, because the lines are fitted to
            both. A rotation to the left in light from the left is then as large as one to the right in light from the right.

    Returns:
        (n, c, h, w), n <= number.

    Raises:
        LatentrotError: there is no nearly frontal image.
    """
    there = {name for _, header in store.headers() for name in header.image_ids}
    frontal = rows[(rows["yaw_deg"].abs() < 12) & rows.index.isin(there)]

    def latents_of(side: str, most: int) -> list[torch.Tensor]:
        near = frontal if side == "any" else frontal[frontal["light"] == side]
        chosen = set(near.sample(min(most, len(near)), random_state=seed).index)
        return [z for _, z in store.batches(chosen)] if chosen else []

    other = latents_of(MIRRORED_LIGHT.get(light, light), number // 2 if mirror else 0)
    own = latents_of(light, number - sum(map(len, other)))
    found = [*own, *(mirror_latents(z, store.space.factor) for z in other)]
    if not found:
        raise LatentrotError(f"no nearly frontal image with light {light!r} for the calibration; embed more images")
    return torch.cat(found)


def calibrate(
    directions: Directions,
    model: LatentModel,
    sources: torch.Tensor,
    *,
    labeler: FaceLabeler | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Directions:
    """Measure the rotation for each step size, averaged over several images.

    The rotation is measured on the images that a rotator returns: with warped source pixels if `directions.carry` is set.

    Args:
        directions: uncalibrated directions.
        model: the model of their space.
        sources: (n, c, h, w) latents of nearly frontal images.
        labeler: the label network that measures degrees; None: the model's own.
        progress: called with the number of images decoded since the last call and the total.

    Returns:
        The same directions with a calibration table: mean measured change of yaw, smoothed to be monotone.
    """
    labeler = labeler or model.labeler
    # coarse frequencies are walked by calibrated degrees, so a first pass on few images computes a rough table
    passes = [sources[::4], sources] if directions.coarse else [sources]
    total = sum(map(len, passes)) * (len(CALIBRATION_STEPS) + 1)
    for some in passes:
        directions = calibration_pass(
            directions, model, some, labeler, None if progress is None else lambda n: progress(n, total)
        )
    measured_by = {"calibrated_on": str(len(sources)), "labeler": labeler.title}
    return replace(directions, provenance={**directions.provenance, **measured_by})


def calibration_pass(
    directions: Directions,
    model: LatentModel,
    sources: torch.Tensor,
    labeler: FaceLabeler,
    progress: Callable[[int], object] | None = None,
) -> Directions:
    """One calibration pass: return the directions with a new table, measured on walks that use the present table."""
    steps = torch.tensor(CALIBRATION_STEPS)
    changes = []

    for z in sources:
        walked = walk(z[None], directions, steps, 0.0)  # start at the frontal pose: each side along its own direction
        images = decode(model, torch.cat([z[None], walked]), schedule=directions.space.schedule).clamp(-1, 1)
        start, turned = images[:1], images[1:]
        shown = torch.cat(
            [start, warp_to_walk(start, start, turned, str(model.device)) if directions.carry else turned]
        )
        yaw = estimate_pose(shown, labeler=labeler)[:, 0].numpy()
        changes.append(yaw[1:] - yaw[0])
        if progress is not None:
            progress(len(shown))
    mean = np.insert(np.mean(changes, 0), len(CALIBRATION_STEPS) // 2, 0.0)
    step_sizes = np.insert(np.array(CALIBRATION_STEPS), len(CALIBRATION_STEPS) // 2, 0.0)
    rising = (
        IsotonicRegression()
        .fit(step_sizes, mean, sample_weight=np.where(step_sizes == 0, 1e6, 1.0))
        .predict(step_sizes)
    )
    return replace(directions, step_sizes=tuple(step_sizes.tolist()), achieved=tuple(np.round(rising, 3).tolist()))
