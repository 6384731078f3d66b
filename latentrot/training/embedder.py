"""A network that embeds an image in one evaluation, trained to reconstruct the image in a few decoding steps.

After the embedding network of Asperti, Evangelista, Marro, Merizzi, "Image Embedding for Denoising Generative Models", 2023.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from latentrot.diffusion.descend import decode_with_gradient
from latentrot.diffusion.fingerprint import Fingerprint
from latentrot.diffusion.load import LatentModel
from latentrot.diffusion.schedule import Schedule
from latentrot.diffusion.solve import check_batch
from latentrot.files import read_tensors, write_atomically
from latentrot.runs import RunConfig
from latentrot.training.backbone import TrainConfig, build_unet, images_at, read_images
from latentrot.training.checkpoints import config_of_run, images_of_run
from latentrot.training.loop import CHECKPOINT, generator_at, run_training

__all__ = ["Embedder", "EmbedderConfig", "embed_with", "load_embedder", "train_embedder"]

#: file name of the network in a run's folder
EMBEDDER = "embedder.safetensors"
KIND = "latentrot embedder"
#: version of the file format, raised when an older version would misread it
FORMAT = 1


@dataclass(frozen=True)
class EmbedderConfig(RunConfig):
    """Configuration of the training of an embedding network; stored in its checkpoints.

    Args:
        channels: U-Net widths, from the finest level to the coarsest.
        decode_steps: number of decoding steps of the reconstruction in the training loss.
        depth: depth of the latents, as in `Schedule`.
        prior: weight of the loss term that keeps the mean square of the latents at 1.
        mirror: mirror half of the images.
        held_out: share of the people held out of training (0 to 1).
    """

    steps: int = 4_000
    batch_size: int = 16
    warmup: int = 50
    decay: int = 1_000
    ema: float = 0.99
    channels: tuple[int, ...] = (32, 64, 128)
    decode_steps: int = 4
    depth: float = 0.9
    prior: float = 0.01
    mirror: bool = True
    held_out: float = 0.1

    @property
    def schedule(self) -> Schedule:
        """The schedule with `decode_steps` steps."""
        return Schedule(steps=self.decode_steps, solver="ddim", depth=self.depth)


class Embedder(torch.nn.Module):
    """A network that maps a clean image, encoded by the first stage, to its latent.

    Args:
        shape: (c, h, w) of encoded images and latents.
        channels: U-Net widths.
        angle: noise level of the latents, arccos(sqrt(alpha_bar)), radians.
    """

    def __init__(self, shape: tuple[int, int, int], channels: tuple[int, ...], angle: float) -> None:
        super().__init__()
        self.angle = angle
        self.unet = build_unet(shape[1], shape[0], channels)

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) states -> (n, c, h, w) latents, computed from the noise that the network predicts."""
        noise = self.unet(state, 0).sample
        return math.cos(self.angle) * state + math.sin(self.angle) * noise


def build_embedder(model: LatentModel, config: EmbedderConfig) -> Embedder:
    """Build a randomly initialised network for a model."""
    return Embedder(model.latent_shape, config.channels, model.angle(config.schedule.levels(model)[-1]))


@torch.no_grad()
def embed_with(network: Embedder, model: LatentModel, x: torch.Tensor) -> torch.Tensor:
    """Embed images with one evaluation of a network.

    Args:
        network: network from `load_embedder`.
        model: the model for which it was trained.
        x: (n, 3, h, w) images in [-1, 1] at the model's resolution.

    Returns:
        (n, c, h', w') float32 latents on the CPU, which any schedule of the same depth decodes.
    """
    check_batch(x, [(3, model.resolution, model.resolution)], "images")
    return network(model.first_stage.encode(x.to(model.device, torch.float32))).float().cpu()


def load_embedder(path: Path, model: LatentModel) -> Embedder:
    """Load a network written by `train_embedder`.

    Raises:
        LatentrotError: the file is missing or of another kind, or the network belongs to another model.
    """
    header, weights = read_tensors(path, KIND, FORMAT, "train an embedding network with: latentrot train embedder")
    Fingerprint.from_header(header).require_same(model.fingerprint, str(path), header["model"], model.name)
    stored = json.loads(header["config"])
    network = build_embedder(model, EmbedderConfig(**{**stored, "channels": tuple(stored["channels"])}))
    network.load_state_dict(weights)  # converts half to single precision
    return network.to(model.device).eval().requires_grad_(False)


def save_embedder(path: Path, network: torch.nn.Module, model: LatentModel, config: EmbedderConfig) -> None:
    """Write the weights in half precision, with the fingerprint of the model."""
    header = {
        "kind": KIND,
        "format": str(FORMAT),
        "model": model.name,
        **model.fingerprint.header(),
        "config": json.dumps(asdict(config)),
    }
    weights = {k: v.half().cpu().contiguous() for k, v in network.state_dict().items()}
    write_atomically(path, lambda p: save_file(weights, p, metadata=header))


@dataclass(frozen=True, eq=False)
class EmbedderTask:
    """Training task of an embedding network: reconstruct the image from its latent in a few decoding steps.

    Args:
        model: the decoder, which is not trained.
        images: (n, 3, h, w) uint8, all of them.
        config: the run.
    """

    model: LatentModel
    images: torch.Tensor
    config: EmbedderConfig

    def batch(self, step: int) -> tuple[torch.Tensor, ...]:
        """(b, 3, h, w) images of a step."""
        return (images_at(step, self.images, self.config, generator_at(step, self.config), self.config.mirror),)

    def loss(self, network: Any, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Squared error of the reconstruction, plus a term for the deviation of the latents' mean square from 1."""
        state = self.model.first_stage.encode(batch[0])
        z = network(state).float()
        back = decode_with_gradient(self.model, z, self.config.schedule)
        length = z.square().flatten(1).mean(1)
        return (back - state).square().mean() + self.config.prior * (length - 1).square().mean()

    def export(self, out: Path, average: torch.nn.Module, step: int) -> None:
        """Write the averaged network."""
        save_embedder(out / EMBEDDER, average, self.model, self.config)


def require_model(checkpoint: Path, model: LatentModel) -> None:
    """Refuse to resume with a model that differs from the checkpoint's; checkpoints without a record of it are accepted."""
    if checkpoint.is_file():
        with safe_open(checkpoint, "pt") as file:
            header = file.metadata()
        if "digest" in header:
            Fingerprint.from_header(header).require_same(
                model.fingerprint, str(checkpoint), header["model"], model.name
            )


def train_embedder(
    data: Sequence[Path],
    out: Path,
    model: LatentModel,
    config: EmbedderConfig | None = None,
    *,
    save_every: int = 200,
) -> Path:
    """Train an embedding network for a model, or resume its training.

    Args:
        data: folders of face images (see `FaceFolder`).
        out: run folder: checkpoint.safetensors, log.csv and embedder.safetensors.
        model: the model whose latents are predicted; it is not trained.
        config: configuration of the run; None: that of its checkpoint, or the defaults for a new run.
        save_every: steps between checkpoints.

    Returns:
        File of the exported network.

    Raises:
        LatentrotError: `out` contains a checkpoint of another run, or `data` contains no images.
    """
    checkpoint = out / CHECKPOINT
    config = config_of_run(checkpoint, config, EmbedderConfig)
    require_model(checkpoint, model)
    space = {"model": model.name, **model.fingerprint.header()}
    crops = read_images(data, TrainConfig(resolution=model.resolution, held_out=config.held_out))
    images = images_of_run(data, crops)
    torch.manual_seed(config.seed)
    task, network = EmbedderTask(model, crops, config), build_embedder(model, config)
    run_training(
        task, network, config, out, save_every=save_every, device=str(model.device), metadata={**space, **images}
    )  # fmt: skip
    return out / EMBEDDER
