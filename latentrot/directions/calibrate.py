"""Calibrate step lengths: how many degrees, measured by the label network, a nominal step turns a head on average."""

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
from latentrot.directions.warp import carry
from latentrot.errors import LatentrotError
from latentrot.faces.estimate import estimate_pose
from latentrot.faces.network import FaceLabeler
from latentrot.store.latent_store import LatentStore

__all__ = ["calibrate", "calibration_sources"]

#: nominal degrees tried on every calibration picture
NOMINAL = (-240.0, -180.0, -120.0, -90.0, -60.0, -30.0, 30.0, 60.0, 90.0, 120.0, 180.0, 240.0)


def calibration_sources(
    store: LatentStore, rows: pd.DataFrame, light: str, number: int, seed: int, mirror: bool = False
) -> torch.Tensor:
    """Latents of nearly frontal pictures to calibrate on.

    Args:
        store: the latents.
        rows: the labelled pictures that may be used.
        light: the light group, or any.
        number: the most to take.
        seed: of the choice.
        mirror: half of them are mirrored latents of the mirrored light group, as lines fitted to both are for both: a left
            turn in light from the left is then as long as a right turn in light from the right.

    Returns:
        (n, c, h, w), n <= number.

    Raises:
        LatentrotError: there is no such picture.
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
        raise LatentrotError(f"no nearly frontal picture of light {light!r} to calibrate on; embed more pictures")
    return torch.cat(found)


def calibrate(
    directions: Directions,
    model: LatentModel,
    sources: torch.Tensor,
    *,
    labeler: FaceLabeler | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Directions:
    """Measure how far nominal steps really turn heads, on average over some pictures.

    What is measured is what a rotator shows: pixels carried, if the lines carry them.

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

    for z in sources:
        walked = walk(z[None], directions, steps, 0.0)  # nearly frontal: each way along its own line
        pictures = decode(model, torch.cat([z[None], walked]), schedule=directions.space.schedule).clamp(-1, 1)
        start, turned = pictures[:1], pictures[1:]
        shown = torch.cat([start, carry(start, start, turned, str(model.device)) if directions.carry else turned])
        yaw = estimate_pose(shown, labeler=labeler)[:, 0].numpy()
        changes.append(yaw[1:] - yaw[0])
        if progress is not None:
            progress(len(shown))
    mean = np.insert(np.mean(changes, 0), len(NOMINAL) // 2, 0.0)
    nominal = np.insert(np.array(NOMINAL), len(NOMINAL) // 2, 0.0)
    rising = IsotonicRegression().fit(nominal, mean, sample_weight=np.where(nominal == 0, 1e6, 1.0)).predict(nominal)
    return replace(directions, nominal=tuple(nominal.tolist()), achieved=tuple(np.round(rising, 3).tolist()))
