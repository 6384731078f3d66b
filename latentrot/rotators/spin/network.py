"""The multi-view network: a diffusion U-Net of single images with attention across the views of a head.

Its blocks are diffusers', initialised from an unconditional image model. All additions are zero-initialised, so that the
network starts as that model, applied to each view: further input channels (normals, mask, rays), the output of normals,
attention across views, the identity embedding, and the first given view concatenated to every view, as in Liu et al.,
"Zero-1-to-3", ICCV 2023, from which background and colours are read without attention.

A geometric condition is the head as it was fitted to the first given view, rendered from the camera of every view. It is
aligned with the view, and blended into the estimate with a predicted confidence per pixel, as in the pair model.

Preconditioning: Karras, Aittala, Aila, Laine, "Elucidating the Design Space of Diffusion-Based Generative Models", NeurIPS
2022, with a data deviation of 1. With x = x0 + s noise, D(x; s) = x / (1 + s²) + s / sqrt(1 + s²) F(x / sqrt(1 + s²)), and F
is the negated velocity of the variance-preserving process at the level where sigma / alpha = s: the weights of a velocity
model apply unchanged.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.unets.unet_2d import UNet2DModel
from torch import Tensor, nn

from latentrot.diffusion.conditions import IdentityEmbedding, accept_old_names
from latentrot.rotators.spin.cameras import RAY_CHANNELS

__all__ = [
    "GEOMETRY_CHANNELS",
    "IDENTITY_LENGTH",
    "CrossViewAttention",
    "SpinNetwork",
    "add_geometry",
    "expand_channels",
]

#: default length of an identity embedding
IDENTITY_LENGTH = 128
#: number of channels of the positional condition: ray map, and mask of given views
POSITION_CHANNELS = RAY_CHANNELS + 1
HEAD_CHANNELS = 32
#: channels of a geometric condition: image, normals, coverage by the source, alpha of the head
GEOMETRY_CHANNELS = 8
#: RMS error of rendered images and normals, in units of [-1, 1]; the state is more accurate at noise levels below it
GEOMETRY_RMSE = 0.25
#: initial logit of the confidence: of the image where the source shows it and on the head, of the normals on the head;
#: negated elsewhere
CONFIDENCE = 2.0


class CrossViewAttention(nn.Module):
    """3D self-attention over all positions of all views of a head; zero-initialised.

    Args:
        width: number of channels.
        groups: number of groups of the normalisation.
    """

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.heads = max(1, width // HEAD_CHANNELS)
        self.norm = nn.GroupNorm(groups, width)
        self.place = nn.Linear(POSITION_CHANNELS, width)
        self.to_qkv = nn.Linear(width, 3 * width)
        self.to_out = nn.Linear(width, width)
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)

    def forward(self, x: Tensor, place: Tensor, views: int) -> Tensor:
        """Features x (b * views, c, h, w) and positional condition (b * views, k, h, w) -> features of the shape of x."""
        n, c, h, w = x.shape
        tokens = self.norm(x).flatten(2).transpose(1, 2) + self.place(place.flatten(2).transpose(1, 2))
        tokens = tokens.reshape(n // views, views * h * w, c)  # one sequence for all views of a head
        q, k, v = self.to_qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + self.to_out(attended).reshape(n, h * w, c).transpose(1, 2).reshape(n, c, h, w)


class SpinNetwork(nn.Module):
    """The multi-view denoiser.

    Args:
        unet: from `expand_channels`, or `add_geometry`.
        alpha_bar: (t,) cumulative products of the schedule.
        max_attention_side: max side of the feature maps with attention across views.
        length: length of an identity embedding.
    """

    def __init__(
        self, unet: UNet2DModel, alpha_bar: Tensor, max_attention_side: int, length: int = IDENTITY_LENGTH
    ) -> None:
        super().__init__()
        widths, groups = unet.config["block_out_channels"], unet.config["norm_num_groups"]
        self.unet: Any = unet
        outputs, inputs = unet.config["out_channels"], unet.config["in_channels"] - POSITION_CHANNELS
        self.with_geometry = inputs != 2 * outputs
        self.states = outputs * 3 // 4 if self.with_geometry else outputs
        self.max_attention_side = max_attention_side
        self.identity_embedding = IdentityEmbedding(4 * widths[0], length)
        down = [CrossViewAttention(w, groups) if side <= max_attention_side else None for w, side in _down_sizes(unet)]
        up = [CrossViewAttention(w, groups) if side <= max_attention_side else None for w, side in _up_sizes(unet)]
        self.across_down = nn.ModuleList([m or nn.Identity() for m in down])
        self.across_middle = CrossViewAttention(widths[-1], groups)
        self.across_up = nn.ModuleList([m or nn.Identity() for m in up])
        accept_old_names(self, {"who": "identity_embedding"})
        self.log_s: Tensor
        self.register_buffer("log_s", ((1 - alpha_bar) / alpha_bar).log().div(2).float(), persistent=False)

    def timestep_of(self, s: Tensor) -> Tensor:
        """The fractional timestep of the schedule at which sigma / alpha is s."""
        log_s = s.clamp_min(1e-9).log().clamp(self.log_s[0], self.log_s[-1])
        above = torch.searchsorted(self.log_s, log_s.contiguous()).clamp(1, len(self.log_s) - 1)
        low, high = self.log_s[above - 1], self.log_s[above]
        return above - 1 + (log_s - low) / (high - low)

    def forward(
        self, x: Tensor, s: Tensor, given: Tensor, rays: Tensor, identity: Tensor, geometry: Tensor | None = None
    ) -> Tensor:
        """Denoise images and normals.

        Args:
            x: (b, p, c, h, w) noisy states, the channels of the image before those of the normals; given views have no noise.
            s: (b, p) noise level, the standard deviation of the noise; 0 for given views.
            given: (b, p) 1 for given views, else 0.
            rays: (b, p, RAY_CHANNELS, h, w) from `ray_map`.
            identity: (b, length) unit vectors; NaN: no identity condition.
            geometry: (b, p, k, h, w) geometric condition, image and normals before coverage and alpha of the head;
                zeros or None: no geometry.

        Returns:
            (b, p, c, h, w) denoised states.
        """
        b, p = s.shape
        place = torch.cat([rays, given[:, :, None, None, None].expand(-1, -1, 1, *x.shape[-2:]).to(rays)], 2).flatten(
            0, 1
        )
        flat, s = x.flatten(0, 1), s.flatten()[:, None, None, None]
        scaled = flat / (1 + s.square()).sqrt()
        time = self.unet.time_embedding(self.unet.time_proj(self.timestep_of(s.flatten())))
        time = time + self.identity_embedding(identity).repeat_interleave(p, 0)
        first = (x[:, :1] * given[:, :1, None, None, None]).expand_as(x).flatten(0, 1)
        channels = [scaled, first, place]
        if self.with_geometry:
            if geometry is None:
                geometry = x.new_zeros(b, p, self.states * 4 // 3, *x.shape[-2:])
            channels.append(geometry.flatten(0, 1))
        out = self.unet_output(torch.cat(channels, 1), time, place, p)
        denoised = flat / (1 + s.square()) + s / (1 + s.square()).sqrt() * out[:, : self.states]
        if self.with_geometry:
            denoised = self.blend(denoised, out[:, self.states :], channels[-1], s)
        return denoised.unflatten(0, (b, p))

    def blend(self, denoised: Tensor, logits: Tensor, geometry: Tensor, s: Tensor) -> Tensor:
        """Weighted mean of the estimates (n, c, h, w) and the geometric condition (n, k, h, w).

        The weights are the inverse variances of noise and `GEOMETRY_RMSE`, times a confidence from `logits`.
        """
        views, masks = geometry[:, : self.states], geometry[:, self.states :]
        there = (geometry != 0).flatten(1).any(1)[:, None, None, None]
        coverage, head = masks.chunk(2, 1)
        known = torch.cat([torch.maximum(coverage, head), head], 1)
        confidence = there * torch.sigmoid(logits.float() + CONFIDENCE * (2 * known - 1))
        weight = s.square() / (s.square() + GEOMETRY_RMSE**2)
        share = torch.cat([c.repeat(1, 3, 1, 1) for c in confidence.chunk(2, 1)], 1)
        return denoised + weight * share * (views - denoised)

    def unet_output(self, x: Tensor, time: Tensor, place: Tensor, views: int) -> Tensor:
        """F: the U-Net with attention across views, in the order of diffusers' `UNet2DModel`."""
        unet = self.unet
        x = unet.conv_in(x.contiguous(memory_format=torch.channels_last))
        skipped = (x,)
        for block, across in zip(unet.down_blocks, self.across_down, strict=True):
            x, states = block(x, time)
            x = attend(across, x, place, views)
            skipped += states
        x = attend(self.across_middle, unet.mid_block(x, time), place, views)
        for block, across in zip(unet.up_blocks, self.across_up, strict=True):
            count = len(block.resnets)
            x, skipped = block(x, skipped[-count:], time), skipped[:-count]
            x = attend(across, x, place, views)
        return -unet.conv_out(unet.conv_act(unet.conv_norm_out(x)))


def attend(across: nn.Module, x: Tensor, place: Tensor, views: int) -> Tensor:
    """Apply attention across views if the block has one."""
    if not isinstance(across, CrossViewAttention):
        return x
    return across(x, F.adaptive_avg_pool2d(place, (x.shape[-2], x.shape[-1])), views)


def _down_sizes(unet: UNet2DModel) -> list[tuple[int, int]]:
    """Channels and side of the output of each down block."""
    widths, size = unet.config["block_out_channels"], unet.config["sample_size"]
    return [(width, size >> min(i + 1, len(widths) - 1)) for i, width in enumerate(widths)]


def _up_sizes(unet: UNet2DModel) -> list[tuple[int, int]]:
    """Channels and side of the output of each up block."""
    widths, size = unet.config["block_out_channels"][::-1], unet.config["sample_size"]
    last = len(widths) - 1
    return [(width, size >> max(last - i - 1, 0)) for i, width in enumerate(widths)]


def expand_channels(unet: UNet2DModel) -> UNet2DModel:
    """Expand an image U-Net to images and normals, with the first given view, ray map and mask as further inputs.

    The weights of the new channels are zero, so that its output for the image is unchanged.

    Args:
        unet: an unconditional U-Net.
    """
    states = unet.config["in_channels"]
    options = {k: v for k, v in unet.config.items() if not k.startswith("_")}
    wide = UNet2DModel(**options | {"in_channels": 4 * states + POSITION_CHANNELS, "out_channels": 2 * states})
    weights = dict(unet.state_dict())
    weights["conv_in.weight"] = F.pad(weights["conv_in.weight"], (0, 0, 0, 0, 0, 3 * states + POSITION_CHANNELS))
    weights["conv_out.weight"] = F.pad(weights["conv_out.weight"], (0, 0, 0, 0, 0, 0, 0, states))
    weights["conv_out.bias"] = F.pad(weights["conv_out.bias"], (0, states))
    wide.load_state_dict(weights)
    return wide


def add_geometry(unet: UNet2DModel) -> UNet2DModel:
    """Add the channels of a geometric condition, and its confidence, to a U-Net from `expand_channels`; zero-initialised."""
    states = unet.config["out_channels"]
    options = {k: v for k, v in unet.config.items() if not k.startswith("_")}
    more = {"in_channels": unet.config["in_channels"] + states * 4 // 3, "out_channels": states * 4 // 3}
    wide = UNet2DModel(**options | more)
    weights = dict(unet.state_dict())
    weights["conv_in.weight"] = F.pad(weights["conv_in.weight"], (0, 0, 0, 0, 0, states * 4 // 3))
    weights["conv_out.weight"] = F.pad(weights["conv_out.weight"], (0, 0, 0, 0, 0, 0, 0, states // 3))
    weights["conv_out.bias"] = F.pad(weights["conv_out.bias"], (0, states // 3))
    wide.load_state_dict(weights)
    return wide
