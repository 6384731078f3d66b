"""Fingerprint of a model: digests and descriptions of everything that affects its latents."""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Any

import torch

from latentrot.errors import LatentrotError

__all__ = ["Fingerprint", "config_digest", "describe_noise", "unet_config_digest", "weights_digest"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fingerprint:
    """Everything in a model that affects its latents; parts that an old file does not record are empty.

    Args:
        weights: first 16 hexadecimal digits of the SHA-256 of the U-Net's weights.
        network: first 16 hexadecimal digits of the digest of the U-Net's configuration, such as activations.
        prediction: prediction type of the U-Net.
        noise: description of the noise schedule.
        first_stage: description of the first stage; for an autoencoder with digest and scale.
    """

    weights: str
    network: str = ""
    prediction: str = ""
    noise: str = ""
    first_stage: str = ""

    @classmethod
    def from_header(cls, header: Mapping[str, str]) -> Fingerprint:
        """Read a fingerprint from an artefact's header; old headers contain only the digest of the weights."""
        parts = json.loads(header.get("fingerprint", "{}"))
        return cls(header["digest"], **{f.name: str(parts.get(f.name, "")) for f in fields(cls)[1:]})

    def header(self) -> dict[str, str]:
        """Header entries of an artefact."""
        parts = {name: value for name, value in asdict(self).items() if value and name != "weights"}
        return {"digest": self.weights, **({"fingerprint": json.dumps(parts)} if parts else {})}

    @property
    def key(self) -> str:
        """Digest over all parts."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:16]

    def difference(self, other: Fingerprint) -> tuple[str, str, str] | None:
        """The first part that differs: its name, this value and the other value; None if no part known to both differs."""
        for part, name in PARTS.items():
            mine, theirs = getattr(self, part), getattr(other, part)
            if mine and theirs and mine != theirs:
                return name, mine, theirs
        return None

    def require_same(self, other: Fingerprint, what: str, model: str, here: str) -> None:
        """Refuse another model; warn once about parts that an old file does not record.

        Raises:
            LatentrotError: a part differs between this fingerprint, of `what` computed with `model`, and `other`, of `here`.
        """
        if differs := self.difference(other):
            part, mine, theirs = differs
            raise LatentrotError(
                f"{what} belongs to model {model!r} with {part} {mine}, but here {here!r} has {theirs}; "
                "use its model, or compute it again"
            )
        if unknown := self.unknown:
            warn_once(what, ", ".join(unknown))

    @property
    def unknown(self) -> list[str]:
        """Descriptions of the parts that an old file does not record."""
        return [name for part, name in PARTS.items() if not getattr(self, part)]


@cache
def warn_once(what: str, parts: str) -> None:
    """Warn once about the parts of a model that a file of an earlier version does not record."""
    log.warning("%s is from an earlier version, which did not record its model's %s: assumed to match", what, parts)


#: descriptions of the parts, in the order of comparison
PARTS = {
    "weights": "digest",
    "network": "U-Net configuration",
    "prediction": "prediction type",
    "noise": "noise schedule",
    "first_stage": "first stage",
}


def weights_digest(module: torch.nn.Module) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a network's weights in float32."""
    sha = hashlib.sha256()
    for key, tensor in sorted(module.state_dict().items()):
        sha.update(key.encode())
        sha.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return sha.hexdigest()[:16]


#: defaults of `UNet2DModel` for all options that shape its output besides the weights
UNET_DEFAULTS: dict[str, Any] = {
    "center_input_sample": False, "time_embedding_type": "positional", "time_embedding_dim": None, "freq_shift": 0,
    "flip_sin_to_cos": True, "mid_block_type": "UNetMidBlock2D", "layers_per_block": 2, "mid_block_scale_factor": 1,
    "downsample_padding": 1, "downsample_type": "conv", "upsample_type": "conv", "dropout": 0.0, "act_fn": "silu",
    "attention_head_dim": 8, "norm_num_groups": 32, "attn_norm_num_groups": None, "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default", "add_attention": True, "class_embed_type": None, "num_class_embeds": None,
    "num_train_timesteps": None, "down_block_types": None, "up_block_types": None, "block_out_channels": None,
}  # fmt: skip


def unet_config_digest(config: Mapping[str, Any]) -> str:
    """Digest of a U-Net's configuration, independent of its implementation; options with default values are ignored."""
    told = {k: config[k] for k, usual in UNET_DEFAULTS.items() if k in config and as_json_value(config[k]) != usual}
    return hashlib.sha256(json.dumps(as_json_value(told), sort_keys=True).encode()).hexdigest()[:16]


def config_digest(module: Any, beside: tuple[str, ...] = ()) -> str:
    """Digest of a diffusers model's configuration without the options in `beside`.

    Options with default values are ignored, so that diffusers versions with additional options give the same digest.
    """
    defaults = {name: p.default for name, p in inspect.signature(type(module).__init__).parameters.items()}
    told = {
        name: value for name, value in module.config.items()
        if name in defaults and name not in beside and as_json_value(value) != as_json_value(defaults[name])
    }  # fmt: skip
    return hashlib.sha256(json.dumps(as_json_value(told), sort_keys=True).encode()).hexdigest()[:16]


def as_json_value(value: Any) -> Any:
    """A value as after a JSON round trip: tuples become lists."""
    return json.loads(json.dumps(value, default=str))


def describe_noise(config: Mapping[str, Any]) -> str:
    """Description of a scheduler's noise schedule: all that its cumulative products depend on."""
    count = int(config["num_train_timesteps"])
    if (given := config.get("trained_betas")) is not None:
        betas = hashlib.sha256(json.dumps(list(given)).encode()).hexdigest()[:16]
        text = f"trained betas ({betas}), {len(given)} levels"
    else:
        ends = "" if config["beta_schedule"] == "squaredcos_cap_v2" else (
            f" {config['beta_start']:g} to {config['beta_end']:g}"
        )  # fmt: skip
        text = f"{config['beta_schedule']}{ends}, {count} levels"
    return f"{text}, zero terminal SNR" if config.get("rescale_betas_zero_snr") else text
