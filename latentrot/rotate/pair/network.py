"""The networks of the pair model: a diffusion backbone that is told what to draw, and from where it is seen.

Two backbones behind one call, `network(noisy, levels, condition, poses)`:

- pixel: an unconditional U-Net whose first convolution also sees the condition's channels, and whose time embedding the
  poses are added to. All that is new is zero at first, so that it begins as the model it is made of.
- latent: the U-Net of a latent diffusion pipeline with an image encoder; the condition is the image's embedding, the poses
  are a further token beside it.

A condition of zeros is none; a pose that is not a number is unknown, for which a learned vector stands.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers import UNet2DModel
from torch import Tensor, nn

__all__ = ["LatentNetwork", "PixelNetwork", "PoseEmbedding", "widened"]

#: factor on the straight way from condition to picture: Adam moves every weight by the learning rate a step at most, and
#: this one has about 1 to go
STRAIGHT_GAIN = 16.0


class PoseEmbedding(nn.Module):
    """Poses of source and target as one vector, zero at first.

    Args:
        width: of the vector.
        hidden: of the layer between.
    """

    def __init__(self, width: int, hidden: int = 128) -> None:
        super().__init__()
        self.unknown = nn.Parameter(torch.zeros(2, 4))
        self.first = nn.Linear(8, hidden)
        self.last = nn.Linear(hidden, width)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, poses: Tensor) -> Tensor:
        """(n, 2, 2) yaw and pitch of source and target, degrees, NaN where not known -> (n, width)."""
        known = torch.isfinite(poses).all(-1, keepdim=True)
        angles = torch.deg2rad(torch.nan_to_num(poses))
        seen = torch.cat([angles.sin(), angles.cos()], -1)
        return self.last(F.silu(self.first(torch.where(known, seen, self.unknown).flatten(1))))


class PixelNetwork(nn.Module):
    """The pixel backbone.

    Args:
        unet: takes noisy channels and the condition's; its class embedding is the identity.
        alpha_bar: (t,) the schedule's cumulative products.

    Attributes:
        straight: what the condition adds to the predicted picture past the U-Net: the condition is almost the answer where
            geometry saw the point, and need not be learned by heart.
    """

    def __init__(self, unet: UNet2DModel, alpha_bar: Tensor) -> None:
        super().__init__()
        states, channels = unet.config["out_channels"], unet.config["in_channels"]
        self.unet = unet
        self.poses = PoseEmbedding(4 * unet.config["block_out_channels"][0])
        self.straight = nn.Conv2d(channels - states, states, 1, bias=False)
        nn.init.zeros_(self.straight.weight)
        self.register_buffer("sine", (1 - alpha_bar).sqrt().float(), persistent=False)

    def forward(self, noisy: Tensor, levels: Tensor, condition: Tensor, poses: Tensor) -> Tensor:
        """The velocity.

        Args:
            noisy: (n, c, h, w) states.
            levels: (n,) int64 noise levels.
            condition: (n, k, h, w), zeros for none.
            poses: (n, 2, 2) degrees.
        """
        seen = torch.cat([noisy, condition], 1).contiguous(memory_format=torch.channels_last)
        out = self.unet(seen, levels, class_labels=self.poses(poses)).sample
        return out - self.sine[levels][:, None, None, None] * STRAIGHT_GAIN * self.straight(condition)


class LatentNetwork(nn.Module):
    """The latent backbone.

    Args:
        unet: a `UNet2DConditionModel`, whose cross attention the tokens go to.
    """

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet
        self.poses = PoseEmbedding(unet.config["cross_attention_dim"])

    def forward(self, noisy: Tensor, levels: Tensor, condition: Tensor, poses: Tensor) -> Tensor:
        """What the pipeline's prediction type says; `condition` is (n, d), embeddings of images, zeros for none."""
        tokens = torch.stack([condition, self.poses(poses)], 1)
        return self.unet(noisy, levels, encoder_hidden_states=tokens).sample


def widened(unet: UNet2DModel, channels: int) -> UNet2DModel:
    """A U-Net that also takes further channels, which do nothing yet, and a vector beside the noise level's.

    Args:
        unet: an unconditional one.
        channels: how many are added.
    """
    states = unet.config["in_channels"]
    facts = {k: v for k, v in unet.config.items() if not k.startswith("_")}
    wide = UNet2DModel(**facts | {"in_channels": states + channels, "class_embed_type": "identity"})
    weights = dict(unet.state_dict())
    weights["conv_in.weight"] = F.pad(weights["conv_in.weight"], (0, 0, 0, 0, 0, channels))
    wide.load_state_dict(weights)
    return wide
