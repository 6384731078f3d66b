"""Conditions of a diffusion network besides the noise level, as vectors added to its time embedding."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["IdentityEmbedding"]


class IdentityEmbedding(nn.Module):
    """Adds an identity embedding to the noise level's embedding; zero-initialised.

    Published models insert the identity as a token of the prompt, for cross attention; a U-Net without cross attention takes
    it with the noise level.

    Args:
        width: of the noise level's embedding.
        length: of the identity embedding.
    """

    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        self.length = length
        self.nobody = nn.Parameter(torch.zeros(length))
        self.first = nn.Linear(length, width)
        self.last = nn.Linear(width, width)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, identity: Tensor) -> Tensor:
        """(b, length) unit vectors, NaN for no identity (one NaN is enough) -> (b, width)."""
        known = torch.isfinite(identity).all(-1, keepdim=True)
        scaled = torch.nan_to_num(identity) * self.length**0.5
        return self.last(F.silu(self.first(torch.where(known, scaled, self.nobody))))
