"""The multi-view network: a diffusion U-Net of single images that looks across the views of a head.

Its blocks are diffusers', its weights at first those of an unconditional model of images. What is new is zero at first, so
that it begins as that model, view by view: further input channels (normals, mask, rays), the normals' output, the attention
across views, the identity, and beside every view the first one that is given, as in Liu et al., "Zero-1-to-3", ICCV 2023:
what a head stands before, and its colours, need not be found by attention then.

Preconditioning: Karras, Aittala, Aila, Laine, "Elucidating the Design Space of Diffusion-Based Generative Models", NeurIPS
2022, with a data deviation of 1. With x = x0 + s noise, D(x; s) = x / (1 + s²) + s / sqrt(1 + s²) F(x / sqrt(1 + s²)), and F
is the negated velocity of the variance-preserving process at the level where sigma / alpha = s: a model of velocities is
taken over exactly.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.unets.unet_2d import UNet2DModel
from torch import Tensor, nn

from latentrot.diffusion.conditions import IdentityEmbedding
from latentrot.rotators.spin.cameras import RAY_CHANNELS

__all__ = ["IDENTITY", "AcrossViews", "SpinNetwork", "expanded"]

#: length of an identity embedding, where a model does not say another
IDENTITY = 128
#: what a place is told beside its own features: its ray, and whether the view is given
PLACE = RAY_CHANNELS + 1
HEAD = 32


class AcrossViews(nn.Module):
    """3D attention: every place of every view looks at every other of the same head; nothing at first.

    Args:
        width: channels.
        groups: of the normalisation.
    """

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.heads = max(1, width // HEAD)
        self.norm = nn.GroupNorm(groups, width)
        self.place = nn.Linear(PLACE, width)
        self.to_qkv = nn.Linear(width, 3 * width)
        self.to_out = nn.Linear(width, width)
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)

    def forward(self, x: Tensor, place: Tensor, views: int) -> Tensor:
        """Views of a head one after another: x (b views, c, h, w), place (b views, k, h, w) -> as x."""
        n, c, h, w = x.shape
        tokens = self.norm(x).flatten(2).transpose(1, 2) + self.place(place.flatten(2).transpose(1, 2))
        tokens = tokens.reshape(n // views, views * h * w, c)  # all views of a head in one row
        q, k, v = self.to_qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + self.to_out(seen).reshape(n, h * w, c).transpose(1, 2).reshape(n, c, h, w)


class SpinNetwork(nn.Module):
    """The multi-view denoiser.

    Args:
        unet: from `expanded`.
        alpha_bar: (t,) the schedule's cumulative products that its noise levels are counted in.
        finest: maps of so many places a side or fewer look across views.
        length: of an identity embedding.
    """

    def __init__(self, unet: UNet2DModel, alpha_bar: Tensor, finest: int, length: int = IDENTITY) -> None:
        super().__init__()
        widths, groups = unet.config["block_out_channels"], unet.config["norm_num_groups"]
        self.unet: Any = unet
        self.finest = finest
        self.who = IdentityEmbedding(4 * widths[0], length)
        down = [AcrossViews(w, groups) if side <= finest else None for w, side in _maps_down(unet)]
        up = [AcrossViews(w, groups) if side <= finest else None for w, side in _maps_up(unet)]
        self.across_down = nn.ModuleList([m or nn.Identity() for m in down])
        self.across_middle = AcrossViews(widths[-1], groups)
        self.across_up = nn.ModuleList([m or nn.Identity() for m in up])
        self.log_s: Tensor
        self.register_buffer("log_s", ((1 - alpha_bar) / alpha_bar).log().div(2).float(), persistent=False)

    def level(self, s: Tensor) -> Tensor:
        """The model's own noise level, not whole, where sigma / alpha is s."""
        wanted = s.clamp_min(1e-9).log().clamp(self.log_s[0], self.log_s[-1])
        above = torch.searchsorted(self.log_s, wanted.contiguous()).clamp(1, len(self.log_s) - 1)
        low, high = self.log_s[above - 1], self.log_s[above]
        return above - 1 + (wanted - low) / (high - low)

    def forward(self, x: Tensor, s: Tensor, given: Tensor, rays: Tensor, who: Tensor) -> Tensor:
        """The images and normals that noisy ones come from.

        Args:
            x: (b, p, c, h, w) states: image and normals side by side; those given without noise.
            s: (b, p) noise level, the deviation of the noise; 0 where given.
            given: (b, p) 1 where a view is given, else 0.
            rays: (b, p, RAY_CHANNELS, h, w) from `ray_map`.
            who: (b, length) unit vectors, NaN where nobody is named.

        Returns:
            (b, p, c, h, w).
        """
        b, p = s.shape
        place = torch.cat([rays, given[:, :, None, None, None].expand(-1, -1, 1, *x.shape[-2:]).to(rays)], 2).flatten(
            0, 1
        )
        flat, s = x.flatten(0, 1), s.flatten()[:, None, None, None]
        scaled = flat / (1 + s.square()).sqrt()
        time = self.unet.time_embedding(self.unet.time_proj(self.level(s.flatten())))
        time = time + self.who(who).repeat_interleave(p, 0)
        first = (x[:, :1] * given[:, :1, None, None, None]).expand_as(x).flatten(0, 1)
        out = self.between(torch.cat([scaled, first, place], 1), time, place, p)
        denoised = flat / (1 + s.square()) + s / (1 + s.square()).sqrt() * out
        return denoised.unflatten(0, (b, p))

    def between(self, x: Tensor, time: Tensor, place: Tensor, views: int) -> Tensor:
        """F: the U-Net with its look across views, in diffusers' order."""
        unet = self.unet
        x = unet.conv_in(x.contiguous(memory_format=torch.channels_last))
        skipped = (x,)
        for block, across in zip(unet.down_blocks, self.across_down, strict=True):
            x, states = block(x, time)
            x = look(across, x, place, views)
            skipped += states
        x = look(self.across_middle, unet.mid_block(x, time), place, views)
        for block, across in zip(unet.up_blocks, self.across_up, strict=True):
            count = len(block.resnets)
            x, skipped = block(x, skipped[-count:], time), skipped[:-count]
            x = look(across, x, place, views)
        return -unet.conv_out(unet.conv_act(unet.conv_norm_out(x)))


def look(across: nn.Module, x: Tensor, place: Tensor, views: int) -> Tensor:
    """A look across views where there is one at this size."""
    if not isinstance(across, AcrossViews):
        return x
    return across(x, F.adaptive_avg_pool2d(place, (x.shape[-2], x.shape[-1])), views)


def _maps_down(unet: UNet2DModel) -> list[tuple[int, int]]:
    """Channels and side of what each block on the way down leaves."""
    widths, size = unet.config["block_out_channels"], unet.config["sample_size"]
    return [(width, size >> min(i + 1, len(widths) - 1)) for i, width in enumerate(widths)]


def _maps_up(unet: UNet2DModel) -> list[tuple[int, int]]:
    """Channels and side of what each block on the way up leaves."""
    widths, size = unet.config["block_out_channels"][::-1], unet.config["sample_size"]
    last = len(widths) - 1
    return [(width, size >> max(last - i - 1, 0)) for i, width in enumerate(widths)]


def expanded(unet: UNet2DModel) -> UNet2DModel:
    """A U-Net of images as one of images and normals that also sees the first given view, each place's ray and mask.

    It answers as before.

    Args:
        unet: an unconditional one.
    """
    states = unet.config["in_channels"]
    facts = {k: v for k, v in unet.config.items() if not k.startswith("_")}
    wide = UNet2DModel(**facts | {"in_channels": 4 * states + PLACE, "out_channels": 2 * states})
    weights = dict(unet.state_dict())
    weights["conv_in.weight"] = F.pad(weights["conv_in.weight"], (0, 0, 0, 0, 0, 3 * states + PLACE))
    weights["conv_out.weight"] = F.pad(weights["conv_out.weight"], (0, 0, 0, 0, 0, 0, 0, states))
    weights["conv_out.bias"] = F.pad(weights["conv_out.bias"], (0, states))
    wide.load_state_dict(weights)
    return wide
