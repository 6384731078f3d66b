"""Check the sign of the yaw labels against the latents."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import torch

from latentrot.diffusion.load import LatentModel
from latentrot.diffusion.solve import decode
from latentrot.errors import LatentrotError
from latentrot.faces.estimate import estimate_pose
from latentrot.faces.network import FaceLabeler
from latentrot.store.latent_store import LatentStore

__all__ = ["check_yaw_sign"]

log = logging.getLogger(__name__)
#: max number of latents decoded per side, and min number for a decision
MAX_LATENTS, MIN_LATENTS = 8, 3
#: ratio of the measured to the labelled difference between the sides: below the first value the sign is opposite, below the
#: second one the labels hardly agree with the images
OPPOSITE, UNLIKE = -0.3, 0.2
#: ratio above which the labels are assumed to be in radians (57 degrees each)
RADIANS = 10.0


def check_yaw_sign(
    store: LatentStore, labels: pd.DataFrame, model: LatentModel, labeler: FaceLabeler | None = None
) -> float:
    """Decode the latents with the largest labelled yaws of each side and measure their yaw.

    Args:
        store: the latents.
        labels: image_id -> yaw_deg.
        model: model of the latents.
        labeler: label network that measures the yaw; None: the model's own.

    Returns:
        Ratio of the measured to the labelled difference of yaw between the sides; nan if a side has too few images.

    Raises:
        LatentrotError: the labelled yaw has the opposite sign, or is in radians.
    """
    there = {name for _, header in store.headers() for name in header.image_ids}
    yaw = labels["yaw_deg"][labels.index.isin(there)].sort_values()
    sides = [yaw[yaw < 0].head(MAX_LATENTS), yaw[yaw > 0].tail(MAX_LATENTS)]
    if min(map(len, sides)) < MIN_LATENTS:
        return float("nan")
    measured = [_mean_yaw(store, set(side.index), model, labeler) for side in sides]
    labelled = float(sides[1].mean() - sides[0].mean())
    share = (measured[1] - measured[0]) / labelled
    if share < OPPOSITE:
        raise LatentrotError(
            f"yaw_deg has the opposite sign: images labelled {sides[0].mean():+.0f} and {sides[1].mean():+.0f} degrees "
            f"decode to faces of {measured[0]:+.0f} and {measured[1]:+.0f}; negate yaw_deg (> 0: nose to the viewer's right)"
        )
    if share > RADIANS:
        raise LatentrotError(
            f"images labelled {labelled:.2g} degrees apart decode to faces {measured[1] - measured[0]:.0f} degrees apart; "
            "yaw_deg seems to be in radians: multiply it by 57.2958"
        )
    if share < UNLIKE:
        log.warning(
            "images labelled %.0f degrees apart decode to faces %.0f degrees apart; do the labels belong to the latents?",
            labelled, measured[1] - measured[0],
        )  # fmt: skip
    return share


def _mean_yaw(store: LatentStore, names: set[str], model: LatentModel, labeler: FaceLabeler | None) -> float:
    latents = torch.cat([z for _, z in store.batches(names)])
    images = decode(model, latents, schedule=store.space.schedule).clamp(-1, 1)
    return float(np.mean(estimate_pose(images, labeler=labeler or model.labeler)[:, 0].cpu().numpy()))
