"""The multi-view model with its network, first stage and identity network; functions that initialise, save and load it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from latentrot.bundles import bundled_part
from latentrot.devices import resolve_device
from latentrot.diffusion.backbone import load_initial_unet, load_pixels, read_part, save_network
from latentrot.diffusion.first_stage import PixelUnshuffle, save_pixel_unshuffle
from latentrot.errors import LatentrotError, one_line
from latentrot.faces.identity import IdentityEncoder, load_identity
from latentrot.faces.person import PersonNetwork, load_person_network, save_person_network
from latentrot.rotators.spin.config import DEFAULT, NEW_PEOPLE, SpinConfig
from latentrot.rotators.spin.network import IDENTITY_LENGTH, SpinNetwork, add_geometry, expand_channels

__all__ = [
    "SpinModel",
    "initial_spin_model",
    "load_spin_model",
    "multi_view_folder",
    "save_spin_model",
    "takes_identity",
]

#: file of the weights outside the diffusers U-Net: attention across views, identity embedding
PART = "spin.safetensors"
#: file of the identity network
PERSON = "person.safetensors"
KIND, FORMAT = "latentrot multi-view model", 1
MADE_BY = "train spin --out RUN"


@dataclass(frozen=True, eq=False)
class SpinModel:
    """A multi-view model.

    Attributes:
        name: name or path given to `load_spin_model`.
        network: see `latentrot.rotators.spin.network`.
        stage: first stage, images <-> states.
        scheduler: the schedule of the network's timesteps.
        person: identity network; None: no identity condition.
        resolution: side of the views in pixels.
        folder: folder of the model; None during training.
        identity_digest: see `SpinConfig`.
    """

    name: str
    network: SpinNetwork
    stage: PixelUnshuffle
    scheduler: DDIMScheduler
    person: IdentityEncoder | None
    resolution: int
    folder: Path | None = None
    identity_digest: str = ""

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(self.network.parameters()).device

    @property
    def size(self) -> int:
        """Side of the states."""
        return self.resolution // self.stage.factor

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings for the user."""
        if self.person is not None or not self.identity_digest:
            return ()
        return (
            f"{self.name} runs without its identity condition; give the identity network of its training with --identity",
        )

    def encode(self, views: Tensor) -> Tensor:
        """Images and normals (..., 6, s, s) in [-1, 1] -> states (..., c, h, w)."""
        flat = views.reshape(-1, *views.shape[-3:])
        return torch.cat([self.stage.encode(flat[:, :3]), self.stage.encode(flat[:, 3:])], 1).unflatten(
            0, views.shape[:-3]
        )

    def encode_geometry(self, conditions: Tensor) -> Tensor:
        """Geometric conditions (..., GEOMETRY_CHANNELS, s, s) uint8 -> condition of the network (..., k, h, w)."""
        views, masks = conditions.float().split([6, 2], -3)
        flat = (masks / 255).reshape(-1, *masks.shape[-3:])
        return torch.cat([self.encode(views / 127.5 - 1), self.stage.encode(flat).unflatten(0, masks.shape[:-3])], -3)

    def decode(self, states: Tensor) -> Tensor:
        """States (..., c, h, w) -> images and normals (..., 6, s, s)."""
        flat = states.flatten(0, -4)
        image, normals = (self.stage.decode(part) for part in flat.chunk(2, 1))
        return torch.cat([image, normals], 1).unflatten(0, states.shape[:-3])


def initial_spin_model(config: SpinConfig, person: IdentityEncoder | None, device: str | None = None) -> SpinModel:
    """Build the model of a run before its first step: expand an unconditional model, or load a multi-view model unchanged.

    Raises:
        LatentrotError: the model does not exist, is a latent diffusion model or does not predict v_prediction, or is a
            multi-view model with identity embeddings of another length.
    """
    torch.manual_seed(config.seed)
    if multi_view_folder(config.start) is not None:
        start = load_spin_model(config.start, device)
        length = start.network.identity_embedding.length
        if person is not None and person.length != length:
            raise LatentrotError(
                f"{one_line(config.start)} has identity embeddings of length {length}, not {person.length}; "
                "give the identity network it was trained with, or start from another model"
            )
        if start.network.with_geometry and not config.geometry:
            raise LatentrotError(
                f"{one_line(config.start)} has a geometric condition; expected geometry, or another start"
            )
        network = start.network
        if config.geometry and not network.with_geometry:
            network = SpinNetwork(
                add_geometry(network.unet), start.scheduler.alphas_cumprod, network.max_attention_side, length
            )
            rest = {k: v for k, v in start.network.state_dict().items() if not k.startswith("unet.")}
            network.load_state_dict(rest | {f"unet.{k}": v for k, v in network.unet.state_dict().items()})
        network = network.to(start.device).train().requires_grad_(True)
        return replace(start, network=network, person=person, folder=None, identity_digest=config.identity_digest)
    model, stage, scheduler, plain = load_initial_unet(config.start, device, "train spin")
    length = IDENTITY_LENGTH if person is None else person.length
    unet = expand_channels(plain)
    unet = add_geometry(unet) if config.geometry else unet
    network = SpinNetwork(unet, scheduler.alphas_cumprod, config.attention, length).to(model.device)
    return SpinModel(
        config.start, network, stage, scheduler, person, model.resolution, identity_digest=config.identity_digest
    )


def save_spin_model(model: SpinModel, weights: dict[str, Tensor], folder: Path) -> None:
    """Save a model as a folder, in half precision, with its identity network unless a user supplied it.

    Args:
        model: the model.
        weights: state dict of the network, such as averaged weights.
        folder: target folder.
    """
    header = {
        "kind": KIND,
        "format": str(FORMAT),
        "attention": str(model.network.max_attention_side),
        "identity_length": str(model.network.identity_embedding.length),
        "identity_digest": model.identity_digest,
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_pixel_unshuffle(folder, model.stage.factor)
    if isinstance(model.person, PersonNetwork):
        save_person_network(model.person, folder / PERSON)
    save_network(folder, model.network.unet, model.scheduler, weights, PART, header)


def load_spin_model(
    name_or_path: str | Path | None = None, device: str | None = None, identity: Path | None = None
) -> SpinModel:
    """Load a model saved by `train spin`.

    Args:
        name_or_path: a folder, or the name of a bundled model; None: the default one.
        device: torch device; None: cuda if available.
        identity: weights of the user's identity network with which the model was trained; None: such a model is used
            without its identity condition.

    Raises:
        LatentrotError: the folder is missing or contains no multi-view model, or the identity weights differ from training.
    """
    name = default_model() if name_or_path is None else str(name_or_path)
    folder = folder_of(name)
    header, weights = read_part(folder / PART, name, KIND, FORMAT, MADE_BY)
    where = resolve_device(device)
    digest = header.get("identity_digest", "")
    person = _load_person(name, folder, digest, identity, str(where))
    unet, scheduler, stage = load_pixels(name, folder, where)
    try:
        length = int(header.get("identity_length", IDENTITY_LENGTH))
        network = SpinNetwork(unet, scheduler.alphas_cumprod, int(header["attention"]), length)
        network.load_state_dict(weights | {f"unet.{k}": v for k, v in unet.state_dict().items()})
    except (RuntimeError, ValueError, KeyError) as error:
        raise LatentrotError(f"{name}: cannot load its weights: {one_line(error)}") from error
    network = network.to(where).eval().requires_grad_(False)
    if where.type == "cpu":
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    size = int(unet.config["sample_size"]) * stage.factor
    return SpinModel(name, network, stage, scheduler, person, size, folder, digest)


def folder_of(name: str) -> Path:
    """The given folder, or the folder of a bundled model."""
    return Path(name) if Path(name).is_dir() else bundled_part(name)


def default_model() -> str:
    """Name of the bundled model for images in this build."""
    return DEFAULT if multi_view_folder(DEFAULT) is not None else NEW_PEOPLE


def multi_view_folder(name: str) -> Path | None:
    """The folder of a multi-view model; None if no multi-view model has this name."""
    folder = folder_of(name)
    return folder if (folder / PART).is_file() else None


def takes_identity(name_or_path: str | Path | None = None) -> bool:
    """Whether a model was trained with a user's identity network; False if the model does not exist."""
    folder = multi_view_folder(default_model() if name_or_path is None else str(name_or_path))
    return folder is not None and bool(
        read_part(folder / PART, str(folder), KIND, FORMAT, MADE_BY)[0].get("identity_digest")
    )


def _load_person(name: str, folder: Path, digest: str, identity: Path | None, device: str) -> IdentityEncoder | None:
    """Load the identity network of a model: the one in its folder, or the user's."""
    if identity is None:
        own = folder / PERSON
        return load_person_network(own, device) if not digest and own.is_file() else None
    if not digest:
        raise LatentrotError(f"{one_line(name)} was trained without {one_line(identity)}; leave --identity out")
    network = load_identity(identity, device)
    if network.digest != digest:
        raise LatentrotError(
            f"{one_line(identity)} has the digest {network.digest}; {one_line(name)} was trained with the weights {digest}"
        )
    return network
