"""Losses of the two face networks.

The masks of different data sets distinguish different parts. If a set merges parts, the predicted probabilities of these
parts are added before the comparison.

Source of the landmark loss: the likelihood of a Laplace distribution whose scale is also predicted (Kendall and Gal, "What
Uncertainties Do We Need in Bayesian Deep Learning for Computer Vision?", NeurIPS 2017).
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from latentrot.faces.parts import PARTS
from latentrot.training.face.faces import GROUPS


def landmark_loss(points: Tensor, scatter: Tensor, wanted: Tensor) -> Tensor:
    """Negative log-likelihood of a radial Laplace distribution, up to a constant."""
    distance = (points - wanted).square().sum(-1).add(1e-8).sqrt()
    return (distance * torch.exp(-scatter) + 2 * scatter).mean()


def parts_loss(logits: Tensor, wanted: Tensor, joined: Tensor) -> Tensor:
    """Cross entropy over parts, merged as in the data set of each image.

    Args:
        logits: (n, 7, h, w).
        wanted: (n, h, w) parts; `UNKNOWN` is ignored.
        joined: (n, 256, 7) bool, the parts that a label of each image may stand for, see `joined_parts`.
    """
    right = joined[torch.arange(len(joined), device=joined.device)[:, None, None], wanted]
    log_p = logits.float().movedim(1, -1).log_softmax(-1)
    known = ~right.all(-1)
    gain = log_p.masked_fill(~right, -torch.inf).logsumexp(-1).where(known, 0)
    return -gain.sum() / known.sum().clamp(min=1)


@cache
def joined_parts(name: str) -> Tensor:
    """(256, 7) bool: the parts that each label of a data set may stand for; all parts for unknown labels."""
    table = torch.ones(256, len(PARTS), dtype=torch.bool)
    for group in GROUPS[name]:
        row = torch.zeros(len(PARTS), dtype=torch.bool)
        row[list(group)] = True
        table[list(group)] = row
    return table
