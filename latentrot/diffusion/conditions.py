"""Conditions of a diffusion network besides the noise level, as vectors added to its time embedding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["IdentityEmbedding", "accept_old_names"]


def accept_old_names(module: nn.Module, names: Mapping[str, str]) -> None:
    """Let a module load weights that were saved when its parts had other names.

    Args:
        module: the module.
        names: old name of a part or parameter -> present name.
    """

    def rename(_: nn.Module, weights: dict[str, Any], prefix: str, *_rest: Any) -> None:
        for key in list(weights):
            part, dot, rest = key.removeprefix(prefix).partition(".")
            if key.startswith(prefix) and part in names:
                weights[prefix + names[part] + dot + rest] = weights.pop(key)

    module.register_load_state_dict_pre_hook(rename)


class IdentityEmbedding(nn.Module):
    """Projects an identity embedding to a vector that is added to the noise level's embedding; zero-initialised.

    Published models insert the identity as a prompt token for cross attention; the U-Net here has no cross attention.

    Args:
        width: length of the noise level's embedding.
        length: length of the identity embedding.
    """

    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        self.length = length
        self.null_identity = nn.Parameter(torch.zeros(length))
        self.first = nn.Linear(length, width)
        self.last = nn.Linear(width, width)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        accept_old_names(self, {"nobody": "null_identity"})

    def forward(self, identity: Tensor) -> Tensor:
        """(b, length) unit vectors -> (b, width); a vector that contains NaN means no identity."""
        known = torch.isfinite(identity).all(-1, keepdim=True)
        scaled = torch.nan_to_num(identity) * self.length**0.5
        return self.last(F.silu(self.first(torch.where(known, scaled, self.null_identity))))
