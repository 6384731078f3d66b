"""The multi-view model as a whole: network, first stage, who is who; begun, written and read as a folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from latentrot.bundles import bundled_part
from latentrot.devices import resolve_device
from latentrot.diffusion.backbone import begin_pixels, save_network
from latentrot.diffusion.first_stage import PixelUnshuffle, load_first_stage, save_pixel_unshuffle
from latentrot.diffusion.scheduler import read_scheduler
from latentrot.errors import LatentrotError, one_line
from latentrot.faces.identity import IdentityEncoder, load_identity
from latentrot.faces.person import PersonNetwork, load_person_network, save_person_network
from latentrot.files import read_tensors
from latentrot.rotators.spin.config import SpinConfig
from latentrot.rotators.spin.network import IDENTITY, SpinNetwork, expanded
from latentrot.rotators.spin.options import DEFAULT

__all__ = [
    "SpinModel",
    "begin_model",
    "load_spin_model",
    "multi_view_folder",
    "save_spin_model",
    "takes_identity",
]

#: what is not in the diffusers folder itself: attention across views, the identity's embedding
PART = "spin.safetensors"
#: whose embeddings the model was trained with
PERSON = "person.safetensors"
KIND, FORMAT = "latentrot multi-view model", 1


@dataclass(frozen=True, eq=False)
class SpinModel:
    """A multi-view model.

    Attributes:
        name: what was asked for.
        network: see `latentrot.rotators.spin.network`.
        stage: images <-> states.
        scheduler: whose noise levels the network counts in.
        person: tells people apart; None: the model is told nobody.
        resolution: side in pixels of the views.
        folder: where it was read from; None: it is being trained.
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
        """Where the network is."""
        return next(self.network.parameters()).device

    @property
    def size(self) -> int:
        """Side of the states."""
        return self.resolution // self.stage.factor

    @property
    def warnings(self) -> tuple[str, ...]:
        """What its user should know."""
        if self.person is not None or not self.identity_digest:
            return ()
        return (f"{self.name} is told nobody: the identity network it was trained with is not given (--identity)",)

    def encode(self, views: Tensor) -> Tensor:
        """(..., 6, s, s) image and normals in [-1, 1] -> (..., c, h, w) states."""
        flat = views.reshape(-1, *views.shape[-3:])
        return torch.cat([self.stage.encode(flat[:, :3]), self.stage.encode(flat[:, 3:])], 1).unflatten(
            0, views.shape[:-3]
        )

    def decode(self, states: Tensor) -> Tensor:
        """The way back."""
        flat = states.flatten(0, -4)
        image, normals = (self.stage.decode(part) for part in flat.chunk(2, 1))
        return torch.cat([image, normals], 1).unflatten(0, states.shape[:-3])


def begin_model(config: SpinConfig, person: IdentityEncoder | None, device: str | None = None) -> SpinModel:
    """The model of a run before its first step: the unconditional one, view by view, or a multi-view one as it is.

    Raises:
        LatentrotError: no such model, one of latents, one that predicts something else than the velocity, or a multi-view
            one that is told embeddings of another length.
    """
    torch.manual_seed(config.seed)
    if multi_view_folder(config.start) is not None:
        begun = load_spin_model(config.start, device)
        if person is not None and person.length != begun.network.who.length:
            raise LatentrotError(
                f"{one_line(config.start)} is told identities of {begun.network.who.length} numbers, not {person.length}; "
                "give the identity network it was trained with, or start from another model"
            )
        network = begun.network.train().requires_grad_(True)
        return replace(begun, network=network, person=person, folder=None, identity_digest=config.identity_digest)
    model, stage, scheduler, plain = begin_pixels(config.start, device, "train spin")
    length = IDENTITY if person is None else person.length
    network = SpinNetwork(expanded(plain), scheduler.alphas_cumprod, config.attention, length).to(model.device)
    return SpinModel(
        config.start, network, stage, scheduler, person, model.resolution, identity_digest=config.identity_digest
    )


def save_spin_model(model: SpinModel, weights: dict[str, Tensor], folder: Path) -> None:
    """Write a model as a folder, its network in half precision; with its person network, if that is the package's own.

    Args:
        model: the model.
        weights: of its network, which are written instead of its own.
        folder: where to.
    """
    header = {
        "kind": KIND,
        "format": str(FORMAT),
        "attention": str(model.network.finest),
        "identity_length": str(model.network.who.length),
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
    """Read a model that `train spin` wrote.

    Args:
        name_or_path: a folder, or the name of a bundled one; None: the bundled one.
        device: torch device; by default cuda where there is one.
        identity: weights of the identity network that it was trained with, if its folder does not hold them; None: it is
            then told nobody.

    Raises:
        LatentrotError: no such folder, it holds no multi-view model, or that was trained with other weights.
    """
    name = DEFAULT if name_or_path is None else str(name_or_path)
    folder = folder_of(name)
    header, weights = _read_part(name, folder)
    where = resolve_device(device)
    digest = header.get("identity_digest", "")
    person = _person_of(name, folder, digest, identity, str(where))
    try:
        unet = UNet2DModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
        scheduler = read_scheduler(folder / "scheduler")
        stage = load_first_stage(folder, {}, where)
        length = int(header.get("identity_length", IDENTITY))
        network = SpinNetwork(unet, scheduler.alphas_cumprod, int(header["attention"]), length)
        network.load_state_dict(weights | {f"unet.{k}": v for k, v in unet.state_dict().items()})
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise LatentrotError(f"{name}: cannot load its weights: {one_line(error)}") from error
    network = network.to(where).eval().requires_grad_(False)
    if where.type == "cpu":
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    stage = stage if isinstance(stage, PixelUnshuffle) else PixelUnshuffle(1)
    size = int(unet.config["sample_size"]) * stage.factor
    return SpinModel(name, network, stage, scheduler, person, size, folder, digest)


def folder_of(name: str) -> Path:
    """The folder given, or that of a bundled model."""
    return Path(name) if Path(name).is_dir() else bundled_part(name)


def multi_view_folder(name: str) -> Path | None:
    """The folder given, or that of a bundled model, if a multi-view model is there."""
    folder = folder_of(name)
    return folder if (folder / PART).is_file() else None


def takes_identity(name_or_path: str | Path | None = None) -> bool:
    """Whether a model was trained with an identity network that the user brings; False where there is no model."""
    folder = multi_view_folder(DEFAULT if name_or_path is None else str(name_or_path))
    return folder is not None and bool(_read_part(str(folder), folder)[0].get("identity_digest"))


def _person_of(name: str, folder: Path, digest: str, identity: Path | None, device: str) -> IdentityEncoder | None:
    """The network that tells a model who it is: its folder's, or the user's."""
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


def _read_part(name: str, folder: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The header and weights of `PART`."""
    path = folder / PART
    if not path.is_file():
        raise LatentrotError(
            f"no multi-view model at {one_line(name)} (no {PART}); make one with: latentrot train spin --out RUN, "
            "and give RUN/model"
        )
    header, weights = read_tensors(path, KIND, FORMAT, "copy the folder again")
    return header, {name: value.float() for name, value in weights.items()}
