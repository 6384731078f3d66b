"""Train a DDIM backbone on a folder of face images."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.pipelines.ddim.pipeline_ddim import DDIMPipeline
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from PIL import Image

from latentrot.data.celeba import held_out, open_folder
from latentrot.diffusion.fingerprint import UNET_DEFAULTS, as_json_value, describe_noise
from latentrot.diffusion.first_stage import Identity, PixelUnshuffle, save_pixel_unshuffle
from latentrot.diffusion.load import LatentModel, load_model
from latentrot.diffusion.scheduler import add_noise, prediction_type_of, velocity_of
from latentrot.errors import LatentrotError
from latentrot.files import check_writable, write_atomically
from latentrot.runs import RunConfig
from latentrot.training.checkpoints import config_of_run, images_of_run
from latentrot.training.loop import CHECKPOINT, generator_at, run_training

__all__ = [
    "MODEL",
    "TrainConfig",
    "build_model",
    "build_unet",
    "images_at",
    "save_model",
    "save_samples",
    "stratified_levels",
    "target_of",
    "train",
]

log = logging.getLogger(__name__)

#: name of the model's folder in a run folder
MODEL = "model"


@dataclass(frozen=True)
class TrainConfig(RunConfig):
    """Configuration of the training of a backbone; stored in its checkpoints for exact resumption.

    Args:
        resolution: side in pixels of the square crops.
        small_steps: number of initial steps at half the resolution, which take a quarter of the time each.
        patch: pixel-unshuffle factor of the lossless first stage (1: none).
        channels: U-Net widths, from the finest level to the coarsest.
        layers: residual blocks per level.
        prediction_type: prediction type of the network: v_prediction, epsilon or sample.
        mirror: mirror half of the images.
        held_out: share of the people held out of training for evaluation (0 to 1).
        init: model to initialise the weights from (a bundled model's name, a diffusers folder or a Hub id); None: random
            weights.
    """

    steps: int = 9_500
    learning_rate: float = 8e-4
    warmup: int = 200
    decay: int = 2_000
    ema: float = 0.998
    resolution: int = 64
    small_steps: int = 5_000
    patch: int = 2
    channels: tuple[int, ...] = (64, 128, 256)
    layers: int = 1
    prediction_type: str = "v_prediction"
    mirror: bool = True
    held_out: float = 0.1
    init: str | None = None


def build_unet(size: int, states: int, channels: tuple[int, ...], layers: int = 1) -> UNet2DModel:
    """A convolutional U-Net with attention at its coarsest level only.

    Args:
        size: side of the states.
        states: number of channels of the states.
        channels: widths, from the finest level to the coarsest.
        layers: residual blocks per level.
    """
    depth = len(channels)
    return UNet2DModel(
        sample_size=size,
        in_channels=states,
        out_channels=states,
        block_out_channels=channels,
        layers_per_block=layers,
        down_block_types=("DownBlock2D",) * depth,
        up_block_types=("UpBlock2D",) * depth,
        norm_num_groups=math.gcd(16, *channels),
        attention_head_dim=min(64, channels[-1]),
    )


def build_model(config: TrainConfig) -> UNet2DModel:
    """Build the U-Net of a run, whose states are unshuffled images."""
    return build_unet(config.resolution // config.patch, 3 * config.patch**2, config.channels, config.layers)


def default_config(init: str | None = None) -> TrainConfig:
    """Default configuration; a run initialised from another model needs no steps at half the resolution."""
    return TrainConfig() if init is None else TrainConfig(init=init, small_steps=0)


def initial_model(config: TrainConfig) -> UNet2DModel:
    """Build the network of a run before its first step, with random weights or those of `config.init`.

    Raises:
        LatentrotError: the model does not exist, or its architecture differs from that of the run.
    """
    torch.manual_seed(config.seed)
    unet = build_model(config)
    if config.init is not None:
        start = load_model(config.init, "cpu")
        check_start(start, unet, config)
        unet.load_state_dict(start.unet.state_dict())
    return unet


def check_start(start: LatentModel, unet: UNet2DModel, config: TrainConfig) -> None:
    """Refuse to initialise from a network with another architecture or prediction type.

    The resolution may differ.

    Raises:
        LatentrotError: a setting differs; the message quotes both values.
    """
    stage = PixelUnshuffle(config.patch).title if config.patch > 1 else Identity.title
    noise = describe_noise(build_scheduler(config).config)
    theirs = {
        "predicts": start.prediction_type,
        "has the noise schedule": start.noise,
        "has the first stage": start.first_stage.title,
    }
    ours = dict(zip(theirs, (config.prediction_type, noise, stage), strict=True))
    for name, usual in {"block_out_channels": None, **UNET_DEFAULTS}.items():
        theirs[f"has {name}"] = as_json_value(start.unet.config.get(name, usual))
        ours[f"has {name}"] = as_json_value(unet.config.get(name, usual))
    for what, given in theirs.items():
        if given != ours[what]:
            raise LatentrotError(
                f"--init {config.init} {what} {given}, but this run's network {what} {ours[what]}; "
                "give options that match it, or another model"
            )


def build_scheduler(config: TrainConfig) -> DDIMScheduler:
    """The cosine schedule, without clipping of samples, which would make inversion impossible."""
    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type=cast("Any", config.prediction_type),  # the type checker expects a literal
        clip_sample=False,
        timestep_spacing="trailing",
    )


def batch_indices(step: int, config: RunConfig, n: int) -> np.ndarray:
    """(batch_size,) indices of the images of a step; each pass over the n images is shuffled anew."""
    first = step * config.batch_size
    positions = np.arange(first, first + config.batch_size)
    passes = {int(e): np.random.default_rng((config.seed, 1, int(e))).permutation(n) for e in set(positions // n)}
    return np.array([passes[int(p // n)][p % n] for p in positions])


def images_at(
    step: int, images: torch.Tensor, config: RunConfig, generator: torch.Generator, mirror: bool
) -> torch.Tensor:
    """The images of one step, half of them mirrored if `mirror`: (b, 3, h, w) in [-1, 1]."""
    x = images[torch.from_numpy(batch_indices(step, config, len(images)))].float() / 127.5 - 1
    if not mirror:
        return x
    flip = torch.rand(len(x), generator=generator) < 0.5
    return torch.where(flip[:, None, None, None], x.flip(-1), x)


def training_batch(
    images: torch.Tensor, step: int, config: TrainConfig, timesteps: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Build the batch of one step: images, noise and noise levels.

    Args:
        images: (n, 3, h, w) uint8, all training images.
        step: number of the step; seeds all randomness.
        config: the run.
        timesteps: number of noise levels of the schedule.

    Returns:
        x0 (b, c, h', w') in [-1, 1] after the first stage, noise of the same shape, levels (b,) int64.
    """
    generator = generator_at(step, config)
    x = images_at(step, images, config, generator, config.mirror)
    if step < config.small_steps:
        x = F.avg_pool2d(x, 2)
    x0 = PixelUnshuffle(config.patch).encode(x)
    noise = torch.randn(x0.shape, generator=generator)
    return x0, noise, stratified_levels(len(x), timesteps, generator)


def stratified_levels(n: int, timesteps: int, generator: torch.Generator) -> torch.Tensor:
    """(n,) int64 noise levels, stratified over the whole range in each step, which reduces the variance of the loss."""
    device = generator.device
    u = (torch.arange(n, device=device) + torch.rand(n, generator=generator, device=device)) / n
    return (u[torch.randperm(n, generator=generator, device=device)] * timesteps).long().clamp_(0, timesteps - 1)


def target_of(scheduler: DDIMScheduler, x0: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """Training target for the prediction type of the scheduler."""
    kind = prediction_type_of(scheduler)
    if kind == "v_prediction":
        return velocity_of(scheduler, x0, noise, levels)
    if kind == "epsilon":
        return noise
    if kind == "sample":
        return x0
    raise LatentrotError(f"prediction type {kind!r}: expected v_prediction, epsilon or sample")


@torch.no_grad()
def sample_grid(model: torch.nn.Module, scheduler: DDIMScheduler, config: TrainConfig) -> Image.Image:
    """A contact sheet of 4 x 4 generated faces, always from the same noise, for comparison between steps."""
    size = config.resolution // config.patch
    z = torch.randn(16, 3 * config.patch**2, size, size, generator=torch.Generator().manual_seed(config.seed))
    device = next(model.parameters()).device
    z = z.to(device)
    scheduler = cast("DDIMScheduler", DDIMScheduler.from_config(scheduler.config))
    scheduler.set_timesteps(25, device=device)
    for t in scheduler.timesteps:
        z = scheduler.step(model(z, t).sample, int(t), z, eta=0.0, return_dict=False)[0]
    x = PixelUnshuffle(config.patch).decode(z).clamp(-1, 1)
    sheet = x.reshape(4, 4, 3, *x.shape[2:]).permute(0, 3, 1, 4, 2).reshape(4 * x.shape[2], 4 * x.shape[3], 3)
    return Image.fromarray(((sheet + 1) * 127.5).round().byte().cpu().numpy())


def read_images(data: Sequence[Path], config: TrainConfig) -> torch.Tensor:
    """Read all training crops of the folders except those of held-out people: (n, 3, resolution, resolution) uint8."""
    crops = []
    for root in data:
        folder = open_folder(root)
        kept = np.array(folder.ids)[~held_out(folder.identities.to_numpy(), config.held_out)]
        log.info("%d images in %s, %d held out", len(kept), root, len(folder.ids) - len(kept))
        if len(kept):
            crops.append(folder.read_crops(list(kept), config.resolution))
    if not crops:
        raise LatentrotError(f"no images left for training: {config.held_out:.0%} of the people are held out")
    return torch.from_numpy(np.concatenate(crops)).permute(0, 3, 1, 2).contiguous()


def train(
    data: Sequence[Path],
    out: Path,
    config: TrainConfig | None = None,
    *,
    save_every: int = 500,
    device: str | None = None,
) -> Path:
    """Train a DDIM backbone, or resume its training.

    Args:
        data: folders of face images (see `latentrot.data.celeba.FaceFolder`).
        out: run folder: checkpoint.safetensors, log.csv, samples-*.png and model/ (a diffusers folder).
        config: configuration of the run; None: that of its checkpoint, or the defaults for a new run.
        save_every: steps between checkpoints.
        device: "cpu", "cuda" or "cuda:N"; by default accelerate decides.

    Returns:
        Folder of the exported model.

    Raises:
        LatentrotError: `out` contains a checkpoint of another run, `data` has no images, or `config.init` does not fit.
    """
    checkpoint = out / CHECKPOINT
    check_writable(checkpoint)
    config = config_of_run(checkpoint, config, TrainConfig)
    # the weights of a resumed run are in the checkpoint
    model = build_model(config) if checkpoint.is_file() else initial_model(config)
    task = Backbone(read_images(data, config), config, build_scheduler(config))
    images = images_of_run(data, task.images)
    run_training(task, model, config, out, save_every=save_every, device=device, metadata=images)
    return out / MODEL


@dataclass(frozen=True, eq=False)
class Backbone:
    """Training task of an unconditional model: denoise images.

    Args:
        images: (n, 3, h, w) uint8, all training images.
        config: the run.
        scheduler: noise schedule.
    """

    images: torch.Tensor
    config: TrainConfig
    scheduler: DDIMScheduler

    def batch(self, step: int) -> tuple[torch.Tensor, ...]:
        """See `training_batch`."""
        return training_batch(self.images, step, self.config, self.scheduler.config["num_train_timesteps"])

    def loss(self, model: Any, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Mean squared error of the prediction."""
        x0, noise, levels = batch
        noisy = add_noise(self.scheduler, x0, noise, levels).contiguous(memory_format=torch.channels_last)
        return F.mse_loss(model(noisy, levels).sample.float(), target_of(self.scheduler, x0, noise, levels))

    def export(self, out: Path, average: torch.nn.Module, step: int) -> None:
        """Write the averaged weights as a diffusers folder in half precision, and a contact sheet of samples."""
        save_model(average.state_dict(), self.config, out / MODEL)
        save_samples(out, step, self.samples(average, step))

    def samples(self, average: torch.nn.Module, step: int) -> Image.Image:
        """See `sample_grid`; at half the resolution during the initial steps."""
        config = self.config
        small = replace(config, resolution=config.resolution // 2) if step <= config.small_steps else config
        return sample_grid(average, self.scheduler, small)


def save_model(weights: Mapping[str, torch.Tensor], config: TrainConfig, folder: Path) -> None:
    """Write a backbone as a diffusers folder in half precision."""
    unet = build_model(config)
    unet.load_state_dict(weights)
    pipeline = DDIMPipeline(unet=unet.half(), scheduler=build_scheduler(config))
    pipeline.save_pretrained(folder, safe_serialization=True)
    save_pixel_unshuffle(folder, config.patch)


def save_samples(out: Path, step: int, sheet: Image.Image) -> None:
    """Write a contact sheet of samples at a step."""
    write_atomically(out / f"samples-{step:06d}.png", lambda p: sheet.save(p, "PNG"))
