"""The networks of the pair model: a diffusion backbone that is told what to draw, and from where it is seen.

Two backbones behind one call, `network(noisy, levels, condition, poses)`:

- pixel: an unconditional U-Net whose first convolution also sees the condition's channels, and whose time embedding the
  poses are added to. All that is new is zero at first, so that without a condition it begins as the model it is made of. A
  condition that lies on the target is kept as far as the network trusts it. Or it sees no condition's channels, and an
  embedding of the image is added beside the poses.
- latent: the U-Net of a latent diffusion pipeline with an image encoder; the condition is the image's embedding, the poses
  are a further token beside it.

A condition of zeros is none; a pose that is not a number is unknown, for which a learned vector stands.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.unets.unet_2d import UNet2DModel
from torch import Tensor, nn

from latentrot.diffusion.conditions import IdentityEmbedding
from latentrot.faces.person import SIDE, PersonNetwork

__all__ = ["LatentNetwork", "PictureEmbedding", "PixelNetwork", "PoseEmbedding", "widened"]

#: how far an image turned by geometry is off, root mean square of [-1, 1]: with less noise than that the state knows better
SPREAD = 0.25
#: logit of the trust in a point that the source shows, before anything is learned; in one that it does not, its negative
TRUST = 2.0


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


class PictureEmbedding(nn.Module):
    """An image as one vector, zero at first, that does not say which side the person is seen from.

    The encoder is an identity network, trained on with all else: who it is, and what else of an image all poses share. A
    image and its mirror image have one embedding: so the pose can only come from the poses.

    Args:
        width: of the vector.
        encoder: an identity network.
    """

    def __init__(self, width: int, encoder: PersonNetwork) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(True)
        self.told = IdentityEmbedding(width, encoder.length)

    def train(self, mode: bool = True) -> PictureEmbedding:
        """As every module, but the encoder keeps the statistics it came with: its batches are not what they were."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, s, s) in [-1, 1], all zero for none -> (n, width)."""
        given = (images != 0).flatten(1).any(1, keepdim=True)
        x = F.interpolate(images, (SIDE, SIDE), mode="area")
        who = F.normalize(self.encoder(x) + self.encoder(x.flip(-1)))
        return self.told(torch.where(given, who, torch.nan))


class PixelNetwork(nn.Module):
    """The pixel backbone.

    The image that it expects is a mean of two: what the U-Net makes of the state, and a condition that lies on the target.
    The weights are those of two measurements of one thing, noise against `SPREAD`, times a trust that the U-Net gives for
    every pixel.

    Args:
        unet: takes noisy channels and the condition's; its class embedding is the identity. What it gives beyond the states'
            channels is the trust, as a logit for each pixel.
        alpha_bar: (t,) the schedule's cumulative products.
        states: channels of a state.
        encoder: what a condition is embedded by; None: the U-Net sees its channels.
    """

    weight: Tensor
    sine: Tensor
    cosine: Tensor

    def __init__(self, unet: UNet2DModel, alpha_bar: Tensor, states: int, encoder: PersonNetwork | None = None) -> None:
        super().__init__()
        width = 4 * unet.config["block_out_channels"][0]
        self.unet = unet
        self.states = states
        self.aligned = unet.config["out_channels"] > states
        self.poses = PoseEmbedding(width)
        self.picture = None if encoder is None else PictureEmbedding(width, encoder)
        sine, cosine = (1 - alpha_bar).sqrt(), alpha_bar.sqrt()
        self.register_buffer("weight", (sine / (sine**2 + (SPREAD * cosine) ** 2)).float(), persistent=False)
        self.register_buffer("sine", sine.float(), persistent=False)
        self.register_buffer("cosine", cosine.float(), persistent=False)

    def forward(self, noisy: Tensor, levels: Tensor, condition: Tensor, poses: Tensor) -> Tensor:
        """The velocity.

        Args:
            noisy: (n, c, h, w) states.
            levels: (n,) int64 noise levels.
            condition: (n, k, h, w), the image's channels and those of where the source shows it, or where it is embedded
                the images (n, 3, s, s); zeros for none.
            poses: (n, 2, 2) degrees.
        """
        seen, told = noisy, self.poses(poses)
        if self.picture is not None:
            told = told + self.picture(condition)
        else:
            seen = torch.cat([noisy, condition], 1)
        out = self.unet(seen.contiguous(memory_format=torch.channels_last), levels, class_labels=told).sample.float()
        velocity, trust = out[:, : self.states], out[:, self.states :]
        if not self.aligned:
            return velocity
        picture, shown = condition[:, : self.states], condition[:, self.states :]
        given = (condition != 0).flatten(1).any(1).float()[:, None, None, None]
        trust = given * torch.sigmoid(trust + TRUST * (2 * shown - 1))
        sine, cosine, weight = (b[levels][:, None, None, None] for b in (self.sine, self.cosine, self.weight))
        expected = cosine * noisy - sine * velocity
        return velocity + weight * trust.repeat(1, self.states // trust.shape[1], 1, 1) * (expected - picture)


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


def widened(unet: UNet2DModel, channels: int, further: int = 0) -> UNet2DModel:
    """A U-Net that also takes further channels, which do nothing yet, and a vector beside the noise level's.

    Args:
        unet: an unconditional one.
        channels: how many more it takes.
        further: how many more it gives, zero as yet.
    """
    states = unet.config["in_channels"]
    options = {k: v for k, v in unet.config.items() if not k.startswith("_")}
    wider = {"in_channels": states + channels, "out_channels": states + further, "class_embed_type": "identity"}
    wide = UNet2DModel(**options | wider)
    weights = dict(unet.state_dict())
    weights["conv_in.weight"] = F.pad(weights["conv_in.weight"], (0, 0, 0, 0, 0, channels))
    for name in ("conv_out.weight", "conv_out.bias"):
        weights[name] = torch.cat([weights[name], torch.zeros(further, *weights[name].shape[1:])])
    wide.load_state_dict(weights)
    return wide
