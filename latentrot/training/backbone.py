"""Train a DDIM backbone from a folder of face pictures; resumes to the exact step.

Everything random is drawn from generators seeded by (seed, step), never from a running state: a run that was killed and
resumed sees the same batches, noise levels and noise as one that was not, whatever the number of processes.
"""

from __future__ import annotations

import csv
import logging
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.pipelines.ddim.pipeline_ddim import DDIMPipeline
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from PIL import Image
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from latentrot.data.celeba import held_out, open_folder
from latentrot.devices import resolve_device
from latentrot.diffusion.allocator import keep_large_blocks
from latentrot.diffusion.fingerprint import UNET_DEFAULTS, noise_in_words, plain
from latentrot.diffusion.first_stage import Identity, PixelUnshuffle, save_pixel_unshuffle
from latentrot.diffusion.load import LatentModel, load_model
from latentrot.diffusion.precision import computes_bfloat16
from latentrot.diffusion.scheduler import add_noise, prediction_type_of, velocity_of
from latentrot.errors import LatentrotError
from latentrot.files import check_writable, write_atomically
from latentrot.progress import Progress
from latentrot.training.checkpoints import (
    config_of_run,
    images_of_run,
    load_checkpoint,
    require_images,
    save_checkpoint,
)

__all__ = ["Run", "Task", "TrainConfig", "build_model", "learning_rate_at", "run_training", "train"]

log = logging.getLogger(__name__)

LOG_COLUMNS = ("step", "loss", "learning_rate")
#: the environment variable by which accelerate is told a device
ACCELERATE_DEVICE = "ACCELERATE_TORCH_DEVICE"
#: the first checkpoint of a run is written after so many seconds, so that one sees it work and may stop it
FIRST_CHECKPOINT_S = 60.0


@dataclass(frozen=True)
class TrainConfig:
    """What a training run is; written into its checkpoints, so that a resumed run is the same run.

    Args:
        steps: optimiser steps in all; raising it on a resumed run moves the final decay later.
        batch_size: pictures a step, over all processes.
        resolution: side in pixels of the square crops.
        small_steps: steps at the start trained at half the resolution, where a step costs a quarter.
        patch: pixel-unshuffle factor of the lossless first stage (1: none).
        channels: U-Net widths, from the finest level to the coarsest.
        layers: residual blocks per level.
        learning_rate: AdamW's peak rate.
        warmup: steps of linear warm-up.
        decay: steps of linear decay to zero at the end.
        weight_decay: AdamW's decoupled weight decay.
        ema: decay per step of the averaged weights, which are the ones exported.
        prediction_type: what the network predicts (v_prediction, epsilon or sample).
        mirror: show half of the pictures mirrored.
        held_out: share of the people kept out of training, for measuring on strangers (0 to 1).
        seed: of everything random.
        init: the model whose weights the run begins with (a bundled model's name, a diffusers folder or a Hub id); None:
            random ones.
    """

    steps: int = 9_500
    batch_size: int = 32
    resolution: int = 64
    small_steps: int = 5_000
    patch: int = 2
    channels: tuple[int, ...] = (64, 128, 256)
    layers: int = 1
    learning_rate: float = 8e-4
    warmup: int = 200
    decay: int = 2_000
    weight_decay: float = 0.01
    ema: float = 0.998
    prediction_type: str = "v_prediction"
    mirror: bool = True
    held_out: float = 0.1
    seed: int = 0
    init: str | None = None


class Seeded(Protocol):
    """What random draws ask of a configuration: see `TrainConfig`."""

    @property
    def seed(self) -> int: ...


class Rate(Protocol):
    """What the learning rate asks of a configuration."""

    @property
    def steps(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def warmup(self) -> int: ...
    @property
    def decay(self) -> int: ...


class Batches(Seeded, Protocol):
    """What batches of pictures ask of a configuration."""

    @property
    def batch_size(self) -> int: ...
    @property
    def mirror(self) -> bool: ...


class Run(Seeded, Rate, Protocol):
    """What the loop asks of a configuration."""

    @property
    def batch_size(self) -> int: ...  # noqa: D102
    @property
    def weight_decay(self) -> float: ...  # noqa: D102
    @property
    def ema(self) -> float: ...  # noqa: D102


class Task(Protocol):
    """What a network is taught: everything about a run but the loop."""

    def batch(self, step: int) -> tuple[torch.Tensor, ...]:
        """Everything random of a step, drawn from (seed, step) alone, samples along the first dimension of each."""
        ...

    def loss(self, model: Any, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """The loss of a network on samples of a batch."""
        ...

    def export(self, folder: Path, average: torch.nn.Module) -> None:
        """Write the averaged weights as what they are used as."""
        ...

    def sheet(self, average: torch.nn.Module, step: int) -> Image.Image:
        """A sheet of what the averaged weights draw after so many steps, always of the same noise."""
        ...


def build_unet(size: int, states: int, channels: tuple[int, ...], layers: int = 1) -> UNet2DModel:
    """A convolutional U-Net with attention at its coarsest level only.

    Args:
        size: side of the states.
        states: channels of the states, in and out.
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
    """The U-Net of a run, over the unshuffled picture."""
    return build_unet(config.resolution // config.patch, 3 * config.patch**2, config.channels, config.layers)


def default_config(init: str | None = None) -> TrainConfig:
    """What a run is unless told otherwise; one that begins with another model's weights needs no small pictures first."""
    return TrainConfig() if init is None else TrainConfig(init=init, small_steps=0)


def begin_model(config: TrainConfig) -> UNet2DModel:
    """The network of a run before its first step: drawn from the seed, or with the weights of the model `config.init`.

    Raises:
        LatentrotError: no such model, or one that is built otherwise than the run's.
    """
    torch.manual_seed(config.seed)
    unet = build_model(config)
    if config.init is not None:
        start = load_model(config.init, "cpu")
        check_start(start, unet, config)
        unet.load_state_dict(start.unet.state_dict())
    return unet


def check_start(start: LatentModel, unet: UNet2DModel, config: TrainConfig) -> None:
    """Refuse to begin with the weights of a network that is built otherwise or predicts something else.

    The resolution may differ: convolutions work at any.

    Raises:
        LatentrotError: naming what differs, with both values.
    """
    stage = PixelUnshuffle(config.patch).title if config.patch > 1 else Identity.title
    noise = noise_in_words(build_scheduler(config).config)
    theirs = {
        "predicts": start.prediction_type,
        "has the noise schedule": start.noise,
        "has the first stage": start.first_stage.title,
    }
    ours = dict(zip(theirs, (config.prediction_type, noise, stage), strict=True))
    for name, usual in {"block_out_channels": None, **UNET_DEFAULTS}.items():
        theirs[f"has {name}"] = plain(start.unet.config.get(name, usual))
        ours[f"has {name}"] = plain(unet.config.get(name, usual))
    for what, given in theirs.items():
        if given != ours[what]:
            raise LatentrotError(
                f"--init {config.init} {what} {given}, this run's network {ours[what]}; "
                "give options that match it, or another model"
            )


def build_scheduler(config: TrainConfig) -> DDIMScheduler:
    """The cosine schedule, without the clipping that would make inversion impossible."""
    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type=cast("Any", config.prediction_type),  # a literal to the type checker
        clip_sample=False,
        timestep_spacing="trailing",
    )


def learning_rate_at(step: int, config: Rate) -> float:
    """Linear warm-up, plateau, linear decay to zero: a plateau can be prolonged, a cosine cannot."""
    rise = min(1.0, (step + 1) / max(1, config.warmup))
    fall = min(1.0, (config.steps - step) / max(1, config.decay))
    return config.learning_rate * min(rise, fall)


def batch_indices(step: int, config: Batches, n: int) -> np.ndarray:
    """Which pictures step `step` sees: successive slices of one reshuffled pass after another -> (batch_size,)."""
    first = step * config.batch_size
    positions = np.arange(first, first + config.batch_size)
    passes = {int(e): np.random.default_rng((config.seed, 1, int(e))).permutation(n) for e in set(positions // n)}
    return np.array([passes[int(p // n)][p % n] for p in positions])


def generator_at(step: int, config: Seeded) -> torch.Generator:
    """What everything random of one step is drawn from."""
    return torch.Generator().manual_seed(config.seed * 1_000_003 + step)


def pictures_at(step: int, pictures: torch.Tensor, config: Batches, generator: torch.Generator) -> torch.Tensor:
    """The pictures of one step, half of them mirrored if the run says so: (b, 3, h, w) in [-1, 1]."""
    x = pictures[torch.from_numpy(batch_indices(step, config, len(pictures)))].float() / 127.5 - 1
    if not config.mirror:
        return x
    flip = torch.rand(len(x), generator=generator) < 0.5
    return torch.where(flip[:, None, None, None], x.flip(-1), x)


def training_batch(
    pictures: torch.Tensor, step: int, config: TrainConfig, timesteps: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pictures, noise and noise levels of one step.

    Args:
        pictures: (n, 3, h, w) uint8, all of them.
        step: the step, from which everything random follows.
        config: the run.
        timesteps: number of noise levels of the schedule.

    Returns:
        x0 (b, c, h', w') in [-1, 1] after the first stage, noise of the same shape, levels (b,) int64.
    """
    generator = generator_at(step, config)
    x = pictures_at(step, pictures, config, generator)
    if step < config.small_steps:
        x = F.avg_pool2d(x, 2)
    x0 = PixelUnshuffle(config.patch).encode(x)
    noise = torch.randn(x0.shape, generator=generator)
    return x0, noise, stratified_levels(len(x), timesteps, generator)


def stratified_levels(n: int, timesteps: int, generator: torch.Generator) -> torch.Tensor:
    """(n,) int64 noise levels: each step covers the whole range, which steadies the loss at no cost."""
    u = (torch.arange(n) + torch.rand(n, generator=generator)) / n
    return (u[torch.randperm(n, generator=generator)] * timesteps).long().clamp_(0, timesteps - 1)


def target_of(scheduler: DDIMScheduler, x0: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """What the network is asked for, by the schedule's prediction type."""
    kind = prediction_type_of(scheduler)
    if kind == "v_prediction":
        return velocity_of(scheduler, x0, noise, levels)
    if kind == "epsilon":
        return noise
    if kind == "sample":
        return x0
    raise LatentrotError(f"prediction type {kind!r}: expected v_prediction, epsilon or sample")


@torch.no_grad()
def sample_grid(model: torch.nn.Module, scheduler: DDIMScheduler, config: TrainConfig, n: int = 16) -> Image.Image:
    """A square sheet of generated faces: always the same noise, so that sheets of one run can be compared."""
    size = config.resolution // config.patch
    z = torch.randn(n, 3 * config.patch**2, size, size, generator=torch.Generator().manual_seed(config.seed))
    device = next(model.parameters()).device
    z = z.to(device)
    scheduler = cast("DDIMScheduler", DDIMScheduler.from_config(scheduler.config))
    scheduler.set_timesteps(25, device=device)
    for t in scheduler.timesteps:
        z = scheduler.step(model(z, t).sample, int(t), z, eta=0.0, return_dict=False)[0]
    x = PixelUnshuffle(config.patch).decode(z).clamp(-1, 1)
    side = math.isqrt(n)
    rows = x[: side * side].reshape(side, side, 3, *x.shape[2:]).permute(0, 3, 1, 4, 2)
    sheet = rows.reshape(side * x.shape[2], side * x.shape[3], 3)
    return Image.fromarray(((sheet + 1) * 127.5).round().byte().cpu().numpy())


def read_pictures(data: Path, config: TrainConfig) -> torch.Tensor:
    """All training crops, people held out left aside -> (n, 3, resolution, resolution) uint8."""
    folder = open_folder(data)
    kept = np.array(folder.ids)[~held_out(folder.identities.to_numpy(), config.held_out)]
    log.info("%d pictures in %s, %d held out", len(kept), data, len(folder.ids) - len(kept))
    crops = folder.read_crops(list(kept), config.resolution)
    return torch.from_numpy(crops).permute(0, 3, 1, 2).contiguous()


def precision_of(device: str | None) -> str:
    """What accelerate is told: bfloat16 where the device computes it, else float32 throughout."""
    return "bf16" if computes_bfloat16(resolve_device(device)) else "no"


def accelerator_on(device: str | None) -> Accelerator:
    """Accelerate's view of the device asked for.

    Args:
        device: "cpu", "cuda", "cuda:N"; None: as accelerate decides. It knows of no numbers by itself.

    Raises:
        LatentrotError: no such device, or one for all of several processes, each of which has its own.
    """
    launched = int(os.environ.get("LOCAL_RANK", "-1")) >= 0
    if launched and device not in (None, "cpu"):
        raise LatentrotError(
            f"device {device!r}: of several processes each has its own; leave --device out, or give cpu"
        )
    if device is None or launched:
        return Accelerator(mixed_precision=precision_of(device), cpu=device == "cpu")
    target = resolve_device(device)
    before = os.environ.get(ACCELERATE_DEVICE)
    AcceleratorState._reset_state(reset_partial_state=True)  # the process's: an earlier run may have been elsewhere
    os.environ[ACCELERATE_DEVICE] = str(target)
    try:
        return Accelerator(mixed_precision=precision_of(device), cpu=target.type == "cpu")
    finally:
        os.environ.pop(ACCELERATE_DEVICE)
        if before is not None:
            os.environ[ACCELERATE_DEVICE] = before


def train(
    data: Path, out: Path, config: TrainConfig | None = None, *, save_every: int = 500, device: str | None = None
) -> Path:
    """Train, or go on training, a DDIM backbone.

    Args:
        data: folder of face pictures (see `latentrot.data.celeba.FaceFolder`).
        out: run folder: checkpoint.safetensors, log.csv, samples-*.png and model/ (a diffusers folder).
        config: the run; None takes the checkpoint's, or the defaults where there is none.
        save_every: steps between checkpoints.
        device: "cpu", "cuda" or "cuda:N"; by default accelerate decides.

    Returns:
        The exported model's folder.

    Raises:
        LatentrotError: `out` holds a checkpoint of another run, `data` no pictures, or the model to begin with does not fit.
    """
    checkpoint = out / "checkpoint.safetensors"
    check_writable(checkpoint)
    config = config_of_run(checkpoint, config, TrainConfig)
    # a run that goes on has its weights in the checkpoint, wherever they came from
    model = build_model(config) if checkpoint.is_file() else begin_model(config)
    task = Backbone(read_pictures(data, config), config, build_scheduler(config))
    images = images_of_run(data, task.pictures)
    require_images(checkpoint, images)
    return run_training(task, model, config, out, save_every=save_every, device=device, images=images)


@dataclass(frozen=True, eq=False)
class Backbone:
    """The task of an unconditional model: take the noise out of pictures.

    Args:
        pictures: (n, 3, h, w) uint8, all of them.
        config: the run.
        scheduler: its noise levels.
    """

    pictures: torch.Tensor
    config: TrainConfig
    scheduler: DDIMScheduler

    def batch(self, step: int) -> tuple[torch.Tensor, ...]:
        """See `training_batch`."""
        return training_batch(self.pictures, step, self.config, self.scheduler.config["num_train_timesteps"])

    def loss(self, model: Any, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Mean squared error of what the network predicts."""
        x0, noise, levels = batch
        noisy = add_noise(self.scheduler, x0, noise, levels).contiguous(memory_format=torch.channels_last)
        return F.mse_loss(model(noisy, levels).sample.float(), target_of(self.scheduler, x0, noise, levels))

    def export(self, folder: Path, average: torch.nn.Module) -> None:
        """Write the averaged weights as a diffusers pipeline folder in half precision, with its first stage named."""
        unet = build_model(self.config)
        unet.load_state_dict(average.state_dict())
        DDIMPipeline(unet=unet.half(), scheduler=self.scheduler).save_pretrained(folder, safe_serialization=True)
        save_pixel_unshuffle(folder, self.config.patch)

    def sheet(self, average: torch.nn.Module, step: int) -> Image.Image:
        """See `sample_grid`; at half the resolution while that is what is trained."""
        config = self.config
        small = replace(config, resolution=config.resolution // 2) if step <= config.small_steps else config
        return sample_grid(average, self.scheduler, small)


def run_training(
    task: Task, model: torch.nn.Module, config: Run, out: Path, *, save_every: int, device: str | None = None,
    images: Mapping[str, str] | None = None,
) -> Path:  # fmt: skip
    """Train a network, or go on training it, through accelerate; resumes to the exact step.

    Args:
        task: what is taught.
        model: the network, as it is at the start of a run.
        config: the run.
        out: run folder: checkpoint.safetensors, log.csv, samples-*.png and model/.
        save_every: steps between checkpoints.
        device: "cpu", "cuda" or "cuda:N"; by default accelerate decides.
        images: from `images_of_run`, kept in the checkpoint.

    Returns:
        The exported model's folder.

    Raises:
        LatentrotError: the loss is not finite; the last checkpoint stays as it is.
    """
    checkpoint = out / "checkpoint.safetensors"
    out.mkdir(parents=True, exist_ok=True)
    accelerator = accelerator_on(device)
    if accelerator.device.type == "cpu":
        keep_large_blocks()
    torch.manual_seed(config.seed)
    # on its device before the optimiser is made, which holds on to the weights it is given
    model = model.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema)).to(accelerator.device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=config.weight_decay, fused=True
    )
    prepared, optimizer = accelerator.prepare(model, optimizer)
    start = load_checkpoint(checkpoint, model, average, optimizer) if checkpoint.is_file() else 0
    if accelerator.is_main_process:
        forget_after(out / "log.csv", start)

    mine = slice(accelerator.process_index, None, accelerator.num_processes)
    bar = Progress("train", config.steps, "step", initial=start, disable=None if accelerator.is_main_process else True)
    begun, early, kept = time.monotonic(), not checkpoint.is_file(), start
    for step in range(start, config.steps):
        batch = tuple(part[mine].to(accelerator.device) for part in task.batch(step))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, config)
        loss = task.loss(prepared, batch)
        if not torch.isfinite(loss):
            raise LatentrotError(
                f"the loss of step {step} is {loss.item()}; {out} keeps the {kept} steps before the last checkpoint; "
                "begin anew in another folder with a lower --learning-rate, or look for what is wrong with the pictures"
            )
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update_parameters(model)

        if accelerator.is_main_process:
            if step % 20 == 0:
                record(out / "log.csv", step, loss.item(), learning_rate_at(step, config))
                bar.set_postfix(loss=f"{loss.item():.4f}")
            first = early and time.monotonic() - begun > FIRST_CHECKPOINT_S
            if first or (step + 1) % save_every == 0 or step + 1 == config.steps:
                early, kept = False, step + 1
                save_checkpoint(checkpoint, model, average, optimizer, step + 1, config, images)
                task.export(out / "model", average.module)
                sheet = task.sheet(average.module, step + 1)
                write_atomically(out / f"samples-{step + 1:06d}.png", lambda p, s=sheet: s.save(p, "PNG"))
                if first:
                    log.info("first checkpoint after %d steps; stop when you like, the same command goes on", step + 1)
        bar.update()
    bar.close()
    accelerator.end_training()
    return out / "model"


def forget_after(path: Path, start: int) -> None:
    """Drop the log's rows from step `start` on: a run killed after its checkpoint takes those steps again."""
    if not path.is_file():
        return
    head, *rows = path.read_text(errors="replace").splitlines(keepends=True) or [""]
    if head.strip() != ",".join(LOG_COLUMNS):  # empty, or of another version: kept aside, and begun anew
        if head.strip():
            log.warning("%s has other columns than %s; it is now %s.old", path, ", ".join(LOG_COLUMNS), path.name)
            path.replace(path.with_name(path.name + ".old"))
        else:
            path.unlink()
        return
    kept = [row for row in rows if row.endswith("\n") and (n := row.split(",", 1)[0]).isdecimal() and int(n) < start]
    write_atomically(path, lambda p: p.write_text(head + "".join(kept)))


def record(path: Path, step: int, loss: float, rate: float) -> None:
    """Append one row to the run's log."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(LOG_COLUMNS)
        writer.writerow([step, f"{loss:.6f}", f"{rate:.3e}"])
