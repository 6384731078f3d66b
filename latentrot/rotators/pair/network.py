"""Networks of the pair model: diffusion backbones conditioned on an image and on the poses of source and target.

Two backbones with one interface, `network(noisy, levels, condition, poses)`:

- pixel: an unconditional U-Net whose input includes the channels of the condition, and whose time embedding includes a pose
  embedding. The added weights are zero-initialised, so that training starts at the unconditional model. A condition that is
  aligned with the target is blended into the estimate with a predicted confidence. With condition "embedding" the input has
  no further channels, and an embedding of the image is added to the time embedding.
- latent: the U-Net of a latent diffusion pipeline with an image encoder; the tokens of the cross attention are the image
  embedding and a pose embedding.

A condition of zeros means no condition; NaN means an unknown pose, for which a learned vector is used.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.unets.unet_2d import UNet2DModel
from torch import Tensor, nn

from latentrot.diffusion.conditions import IdentityEmbedding, accept_old_names
from latentrot.faces.person import SIDE, PersonNetwork

__all__ = ["ImageEmbedding", "LatentNetwork", "PixelNetwork", "PoseEmbedding", "add_channels"]

#: RMS error of images rotated by geometry, in units of [-1, 1]; the state is more accurate at noise levels below it
CONDITION_RMSE = 0.25
#: initial logit of the confidence in pixels that the source shows; negated for the others
CONFIDENCE = 2.0


class PoseEmbedding(nn.Module):
    """Embedding of the poses of source and target; zero-initialised.

    Args:
        width: length of the embedding.
        hidden: width of the hidden layer.
    """

    def __init__(self, width: int, hidden: int = 128) -> None:
        super().__init__()
        self.unknown = nn.Parameter(torch.zeros(2, 4))
        self.first = nn.Linear(8, hidden)
        self.last = nn.Linear(hidden, width)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, poses: Tensor) -> Tensor:
        """(n, 2, 2) yaw and pitch of source and target, degrees, NaN for unknown ones -> (n, width)."""
        known = torch.isfinite(poses).all(-1, keepdim=True)
        angles = torch.deg2rad(torch.nan_to_num(poses))
        features = torch.cat([angles.sin(), angles.cos()], -1)
        return self.last(F.silu(self.first(torch.where(known, features, self.unknown).flatten(1))))


class ImageEmbedding(nn.Module):
    """Mirror-invariant embedding of an image; zero-initialised.

    The encoder is initialised from an identity network and trained. An image and its mirror image have the same embedding, so
    that the network learns the pose from the poses alone.

    Args:
        width: length of the embedding.
        encoder: an identity network.
    """

    def __init__(self, width: int, encoder: PersonNetwork) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(True)
        self.identity_embedding = IdentityEmbedding(width, encoder.length)
        accept_old_names(self, {"told": "identity_embedding"})

    def train(self, mode: bool = True) -> ImageEmbedding:
        """Set the mode; the encoder keeps its batch statistics, because it was trained on other batches."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, s, s) in [-1, 1], zeros for no image -> (n, width)."""
        given = (images != 0).flatten(1).any(1, keepdim=True)
        x = F.interpolate(images, (SIDE, SIDE), mode="area")
        identity = F.normalize(self.encoder(x) + self.encoder(x.flip(-1)))
        return self.identity_embedding(torch.where(given, identity, torch.nan))


class PixelNetwork(nn.Module):
    """The pixel backbone.

    With an aligned condition its estimate of the image is a weighted mean of the U-Net's estimate and the condition. The
    weights are inverse variances, of the noise and of `CONDITION_RMSE`, times a confidence that the U-Net predicts per pixel.

    Args:
        unet: U-Net over the channels of states and condition; its class embedding is the identity function. Output channels
            beyond those of a state are the logit of the confidence.
        alpha_bar: (t,) cumulative products of the schedule.
        states: number of channels of a state.
        encoder: identity network that embeds the condition; None: the U-Net takes its channels.
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
        self.image_embedding = None if encoder is None else ImageEmbedding(width, encoder)
        accept_old_names(self, {"picture": "image_embedding"})
        sine, cosine = (1 - alpha_bar).sqrt(), alpha_bar.sqrt()
        self.register_buffer("weight", (sine / (sine**2 + (CONDITION_RMSE * cosine) ** 2)).float(), persistent=False)
        self.register_buffer("sine", sine.float(), persistent=False)
        self.register_buffer("cosine", cosine.float(), persistent=False)

    def forward(self, noisy: Tensor, levels: Tensor, condition: Tensor, poses: Tensor) -> Tensor:
        """Predict the velocity.

        Args:
            noisy: (n, c, h, w) states.
            levels: (n,) int64 noise levels.
            condition: (n, k, h, w), the channels of the image and of its coverage, or images (n, 3, s, s) if it is embedded;
                zeros for no condition.
            poses: (n, 2, 2) degrees.
        """
        inputs, embedding = noisy, self.poses(poses)
        if self.image_embedding is not None:
            embedding = embedding + self.image_embedding(condition)
        else:
            inputs = torch.cat([noisy, condition], 1)
        out = self.unet(
            inputs.contiguous(memory_format=torch.channels_last), levels, class_labels=embedding
        ).sample.float()
        velocity, logit = out[:, : self.states], out[:, self.states :]
        if not self.aligned:
            return velocity
        image, coverage = condition[:, : self.states], condition[:, self.states :]
        given = (condition != 0).flatten(1).any(1).float()[:, None, None, None]
        confidence = given * torch.sigmoid(logit + CONFIDENCE * (2 * coverage - 1))
        sine, cosine, weight = (b[levels][:, None, None, None] for b in (self.sine, self.cosine, self.weight))
        expected = cosine * noisy - sine * velocity
        return velocity + weight * confidence.repeat(1, self.states // logit.shape[1], 1, 1) * (expected - image)


class LatentNetwork(nn.Module):
    """The latent backbone.

    Args:
        unet: a `UNet2DConditionModel` with cross attention.
    """

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet
        self.poses = PoseEmbedding(unet.config["cross_attention_dim"])

    def forward(self, noisy: Tensor, levels: Tensor, condition: Tensor, poses: Tensor) -> Tensor:
        """Predict in the pipeline's prediction type; `condition` is (n, d) image embeddings, zeros for no condition."""
        tokens = torch.stack([condition, self.poses(poses)], 1)
        return self.unet(noisy, levels, encoder_hidden_states=tokens).sample


def add_channels(unet: UNet2DModel, channels: int, further: int = 0) -> UNet2DModel:
    """Add zero-initialised input and output channels to a U-Net, and a vector that is added to its time embedding.

    Args:
        unet: an unconditional U-Net.
        channels: number of further input channels.
        further: number of further output channels.
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
