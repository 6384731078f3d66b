"""A network that embeds a picture in one evaluation, trained to reconstruct it through a few decoding steps.

After the embedding network of Asperti, Evangelista, Marro, Merizzi, "Image Embedding for Denoising Generative Models", 2023.
The run is resumed to the exact step like `latentrot.training.backbone`, with whose pieces it is made.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from latentrot.diffusion.descend import decode_with_gradient
from latentrot.diffusion.fingerprint import Fingerprint
from latentrot.diffusion.load import LatentModel
from latentrot.diffusion.schedule import Schedule
from latentrot.diffusion.solve import check_batch
from latentrot.files import read_tensors, write_atomically
from latentrot.training.backbone import (
    TrainConfig,
    build_unet,
    forget_after,
    generator_at,
    learning_rate_at,
    pictures_at,
    read_pictures,
    record,
)
from latentrot.training.checkpoints import (
    config_of_run,
    images_of_run,
    load_checkpoint,
    require_images,
    save_checkpoint,
)

__all__ = ["Embedder", "EmbedderConfig", "embed_with", "load_embedder", "train_embedder"]

KIND = "latentrot embedder"
#: of the file, raised when an older version would misread it
FORMAT = 1


@dataclass(frozen=True)
class EmbedderConfig:
    """What a training run of an embedding network is; written into its checkpoints.

    Args:
        steps: optimiser steps in all.
        batch_size: pictures a step.
        channels: U-Net widths, from the finest level to the coarsest.
        decode_steps: decoding steps the reconstruction goes through while training.
        depth: of the latents, as in `Schedule`.
        prior: weight of the latents' distance from unit length per dimension.
        learning_rate: AdamW's peak rate.
        warmup: steps of linear warm-up.
        decay: steps of linear decay to zero at the end.
        ema: decay per step of the averaged weights, which are the ones exported.
        mirror: show half of the pictures mirrored.
        held_out: share of the people kept out of training (0 to 1).
        seed: of everything random.
    """

    steps: int = 4_000
    batch_size: int = 16
    channels: tuple[int, ...] = (32, 64, 128)
    decode_steps: int = 4
    depth: float = 0.9
    prior: float = 0.01
    learning_rate: float = 1e-3
    warmup: int = 50
    decay: int = 1_000
    ema: float = 0.99
    mirror: bool = True
    held_out: float = 0.1
    seed: int = 0

    @property
    def schedule(self) -> Schedule:
        """The short path of the training."""
        return Schedule(steps=self.decode_steps, solver="ddim", depth=self.depth)


class Embedder(torch.nn.Module):
    """Picture state -> latent.

    Args:
        shape: (c, h, w) of states and latents.
        channels: U-Net widths.
        angle: of the latents, radians.
    """

    def __init__(self, shape: tuple[int, int, int], channels: tuple[int, ...], angle: float) -> None:
        super().__init__()
        self.angle = angle
        self.unet = build_unet(shape[1], shape[0], channels)

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) -> the same: what the network answers is the noise, of which the latent is made."""
        noise = self.unet(state, 0).sample
        return math.cos(self.angle) * state + math.sin(self.angle) * noise


def build_embedder(model: LatentModel, config: EmbedderConfig) -> Embedder:
    """A fresh network for a model."""
    return Embedder(model.latent_shape, config.channels, model.angle(config.schedule.levels(model)[-1]))


@torch.no_grad()
def embed_with(network: Embedder, model: LatentModel, x: torch.Tensor) -> torch.Tensor:
    """Embed pictures by one evaluation of a network.

    Args:
        network: from `load_embedder`.
        model: the model it belongs to.
        x: (n, 3, h, w) pictures in [-1, 1] at the model's resolution.

    Returns:
        (n, c, h', w') float32 latents on the CPU, which any schedule of the same depth decodes.
    """
    check_batch(x, [(3, model.resolution, model.resolution)], "pictures")
    return network(model.first_stage.encode(x.to(model.device, torch.float32))).float().cpu()


def load_embedder(path: Path, model: LatentModel) -> Embedder:
    """Read what `train_embedder` wrote.

    Raises:
        LatentrotError: no such file, another kind of file, or the network of another model.
    """
    header, weights = read_tensors(path, KIND, FORMAT, "make an embedding network with: latentrot train-embedder")
    Fingerprint.from_header(header).require_same(model.fingerprint, str(path), header["model"], model.name)
    stored = json.loads(header["config"])
    network = build_embedder(model, EmbedderConfig(**{**stored, "channels": tuple(stored["channels"])}))
    network.load_state_dict(weights)  # half precision becomes the network's
    return network.to(model.device).eval().requires_grad_(False)


def save_embedder(path: Path, network: torch.nn.Module, model: LatentModel, config: EmbedderConfig) -> None:
    """Write the weights in half precision with what they belong to."""
    header = {
        "kind": KIND,
        "format": str(FORMAT),
        "model": model.name,
        **model.fingerprint.header(),
        "config": json.dumps(asdict(config)),
    }
    weights = {k: v.half().cpu().contiguous() for k, v in network.state_dict().items()}
    write_atomically(path, lambda p: save_file(weights, p, metadata=header))


def loss_of(network: Embedder, model: LatentModel, state: torch.Tensor, config: EmbedderConfig) -> torch.Tensor:
    """Squared error of the reconstruction, and how far the latents' mean square is from 1."""
    z = network(state)
    back = decode_with_gradient(model, z, config.schedule)
    length = z.square().flatten(1).mean(1)
    return (back - state).square().mean() + config.prior * (length - 1).square().mean()


def require_model(checkpoint: Path, model: LatentModel) -> None:
    """Refuse to go on with another model than a checkpoint was begun with; one from before it said so may be gone on with."""
    if checkpoint.is_file():
        with safe_open(checkpoint, "pt") as file:
            header = file.metadata()
        if "digest" in header:
            Fingerprint.from_header(header).require_same(
                model.fingerprint, str(checkpoint), header["model"], model.name
            )


def train_embedder(
    data: Path, out: Path, model: LatentModel, config: EmbedderConfig | None = None, *, save_every: int = 200
) -> Path:
    """Train, or go on training, an embedding network for a model.

    Args:
        data: folder of face pictures (see `FaceFolder`).
        out: run folder: checkpoint.safetensors, log.csv and embedder.safetensors.
        model: the model whose latents are to be found; it is not changed.
        config: the run; None takes the checkpoint's, or the defaults where there is none.
        save_every: steps between checkpoints.

    Returns:
        The exported network's file.

    Raises:
        LatentrotError: `out` holds a checkpoint of another run, or `data` no pictures.
    """
    checkpoint = out / "checkpoint.safetensors"
    config = config_of_run(checkpoint, config, EmbedderConfig)
    require_model(checkpoint, model)
    space = {"model": model.name, **model.fingerprint.header()}
    pictures = read_pictures(data, TrainConfig(resolution=model.resolution, held_out=config.held_out))
    images = images_of_run(data, pictures)
    require_images(checkpoint, images)
    out.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(config.seed)
    network = build_embedder(model, config).to(model.device)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config.ema))
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), fused=True)
    start = load_checkpoint(checkpoint, network, average, optimizer) if checkpoint.is_file() else 0
    forget_after(out / "log.csv", start)
    for step in (
        bar := tqdm(range(start, config.steps), initial=start, total=config.steps, disable=None, desc="train")
    ):
        x = pictures_at(step, pictures, config, generator_at(step, config))
        state = model.first_stage.encode(x.to(model.device))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, config)
        loss = loss_of(network, model, state, config)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update_parameters(network)
        if step % 20 == 0:
            record(out / "log.csv", step, loss.item(), learning_rate_at(step, config))
            bar.set_postfix(loss=f"{loss.item():.4f}")
        if (step + 1) % save_every == 0 or step + 1 == config.steps:
            save_checkpoint(checkpoint, network, average, optimizer, step + 1, config, {**space, **images})
            save_embedder(out / "embedder.safetensors", average.module, model, config)
    return out / "embedder.safetensors"
