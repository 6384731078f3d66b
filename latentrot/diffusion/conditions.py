"""What a diffusion network is told beside the noise level, as vectors that are added to its embedding."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["WhoEmbedding"]


class WhoEmbedding(nn.Module):
    """An identity embedding as a share of the noise level's, zero at first.

    Published models have it take the place of a word in a prompt, for cross attention; a U-Net without one takes it beside
    the noise level.

    Args:
        width: of the noise level's embedding.
        length: of the identity's.
    """

    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        self.length = length
        self.nobody = nn.Parameter(torch.zeros(length))
        self.first = nn.Linear(length, width)
        self.last = nn.Linear(width, width)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, who: Tensor) -> Tensor:
        """(b, length) unit vectors, NaN where nobody is named -> (b, width); of nobody one NaN is enough."""
        known = torch.isfinite(who).all(-1, keepdim=True)
        scaled = torch.nan_to_num(who) * self.length**0.5
        return self.last(F.silu(self.first(torch.where(known, scaled, self.nobody))))
