"""The training loop of all networks, with exact resumption.

All random numbers come from generators that are seeded by (seed, step) and carry no state between steps. So a resumed run
uses the same batches, noise levels and noise as an uninterrupted one, for any number of processes.
"""

from __future__ import annotations

import csv
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from latentrot.devices import resolve_device
from latentrot.diffusion.allocator import keep_large_blocks
from latentrot.diffusion.precision import computes_bfloat16
from latentrot.errors import LatentrotError
from latentrot.files import write_atomically
from latentrot.progress import Progress
from latentrot.runs import RunConfig
from latentrot.training.checkpoints import load_checkpoint, require_images, save_checkpoint

__all__ = ["CHECKPOINT", "Task", "channels_last", "generator_at", "learning_rate_at", "run_training"]

log = logging.getLogger(__name__)

#: file name of a run's checkpoint
CHECKPOINT = "checkpoint.safetensors"
LOG_COLUMNS = ("step", "loss", "learning_rate")
#: environment variable that selects accelerate's device
ACCELERATE_DEVICE = "ACCELERATE_TORCH_DEVICE"
#: time in seconds of the first checkpoint of a run, so that an early stop loses little
FIRST_CHECKPOINT_S = 60.0


class Task(Protocol):
    """A training task: everything in a run except the loop."""

    def batch(self, step: int, /) -> tuple[torch.Tensor, ...]:
        """All random inputs of a step, which depend only on (seed, step); the first dimension of each indexes the samples."""
        ...

    def loss(self, model: Any, batch: tuple[torch.Tensor, ...], /) -> torch.Tensor:
        """The loss of a network on samples of a batch."""
        ...

    def export(self, out: Path, average: Any, step: int, /) -> None:
        """Export the averaged weights at a step, with samples or measured errors."""
        ...


def learning_rate_at(step: int, config: RunConfig) -> float:
    """Linear warm-up, plateau, and linear decay to zero; unlike a cosine schedule, a plateau can be prolonged."""
    rise = min(1.0, (step + 1) / max(1, config.warmup))
    fall = min(1.0, (config.steps - step) / max(1, config.decay))
    return config.learning_rate * min(rise, fall)


def generator_at(step: int, config: RunConfig) -> torch.Generator:
    """The generator for all randomness of one step."""
    return torch.Generator().manual_seed(config.seed * 1_000_003 + step)


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """Convert images to the memory layout in which a CPU convolves fastest."""
    return x.contiguous(memory_format=torch.channels_last)


def run_training(
    task: Task,
    model: nn.Module,
    config: RunConfig,
    out: Path,
    *,
    save_every: int,
    device: str | None = None,
    metadata: Mapping[str, str] | None = None,
    trained: Sequence[nn.Module] = (),
) -> nn.Module:
    """Train a network with accelerate, or resume its training.

    Args:
        task: the training task.
        model: the network at the start of the run.
        config: the run.
        out: run folder: the checkpoint, log.csv and the exports of the task.
        save_every: steps between checkpoints.
        device: "cpu", "cuda" or "cuda:N"; None: accelerate decides.
        metadata: further entries of the checkpoint; with those of `images_of_run`, resuming on other images is refused.
        trained: parts of the network to train; if empty, all of it.

    Returns:
        The network with its averaged weights.

    Raises:
        LatentrotError: the loss is not finite (the last checkpoint is kept), or the checkpoint belongs to other images.
    """
    checkpoint = out / CHECKPOINT
    if metadata and "images_digest" in metadata:
        require_images(checkpoint, metadata)
    out.mkdir(parents=True, exist_ok=True)
    accelerator = accelerator_on(device)
    if accelerator.device.type == "cpu":
        keep_large_blocks()
    torch.manual_seed(config.seed)

    # the optimiser references the weights, so move the network to its device first
    model = model.to(accelerator.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True).to(
        accelerator.device
    )
    weights = [p for part in trained or (model,) for p in part.parameters()]
    optimizer = torch.optim.AdamW(
        weights, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=config.weight_decay, fused=True
    )
    prepared, optimizer = accelerator.prepare(model, optimizer)
    start = load_checkpoint(checkpoint, model, average, optimizer) if checkpoint.is_file() else 0
    if accelerator.is_main_process:
        forget_after(out / "log.csv", start)

    mine = slice(accelerator.process_index, None, accelerator.num_processes)
    bar = Progress("train", config.steps, "step", initial=start, disable=None if accelerator.is_main_process else True)
    begun, early, kept = time.monotonic(), not checkpoint.is_file(), start
    for step in range(start, config.steps):
        # one step
        batch = tuple(part[mine].to(accelerator.device) for part in task.batch(step))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, config)
        torch.manual_seed(config.seed * 7_919 + step)  # dropout depends only on the step
        loss = task.loss(prepared, batch)
        if not torch.isfinite(loss):
            raise LatentrotError(
                f"the loss of step {step} is {loss.item()}; {out} keeps the {kept} steps before the last checkpoint; "
                "start again in another folder with a lower --learning-rate, or check the images"
            )
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(weights, config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        average.update_parameters(model)

        # checkpoint
        if accelerator.is_main_process:
            if step % 20 == 0:
                record(out / "log.csv", step, loss.item(), learning_rate_at(step, config))
                bar.set_postfix(loss=f"{loss.item():.4f}")
            first = early and time.monotonic() - begun > FIRST_CHECKPOINT_S
            if first or (step + 1) % save_every == 0 or step + 1 == config.steps:
                early, kept = False, step + 1
                save_checkpoint(checkpoint, model, average, optimizer, step + 1, config, metadata)
                task.export(out, average.module, step + 1)
                if first:
                    log.info(
                        "first checkpoint after %d steps; if the run is stopped, the same command resumes it", step + 1
                    )
        bar.update()
    bar.close()
    accelerator.end_training()
    return average.module


# ---- device -----------------------------------------------------------------------------------------------------


def precision_of(device: str | None) -> str:
    """Accelerate's mixed precision: bfloat16 if the device supports it, else float32."""
    return "bf16" if computes_bfloat16(resolve_device(device)) else "no"


def accelerator_on(device: str | None) -> Accelerator:
    """Configure accelerate for the requested device.

    Args:
        device: "cpu", "cuda" or "cuda:N"; None: accelerate decides.

    Raises:
        LatentrotError: the device does not exist, or is given although there are several processes.
    """
    launched = int(os.environ.get("LOCAL_RANK", "-1")) >= 0
    if launched and device not in (None, "cpu"):
        raise LatentrotError(
            f"device {device!r}: each of several processes uses its own device; leave --device out, or use cpu"
        )
    if device is None or launched:
        return Accelerator(mixed_precision=precision_of(device), cpu=device == "cpu")
    target = resolve_device(device)
    before = os.environ.get(ACCELERATE_DEVICE)
    # reset the global state, as an earlier run may have used another device
    AcceleratorState._reset_state(reset_partial_state=True)
    os.environ[ACCELERATE_DEVICE] = str(target)
    try:
        return Accelerator(mixed_precision=precision_of(device), cpu=target.type == "cpu")
    finally:
        os.environ.pop(ACCELERATE_DEVICE)
        if before is not None:
            os.environ[ACCELERATE_DEVICE] = before


# ---- log --------------------------------------------------------------------------------------------------------


def forget_after(path: Path, start: int) -> None:
    """Drop the rows of the log from step `start` on, because a resumed run repeats the steps after its checkpoint."""
    if not path.is_file():
        return
    head, *rows = path.read_text(errors="replace").splitlines(keepends=True) or [""]
    if head.strip() != ",".join(LOG_COLUMNS):  # empty or of another version: rename it and start a new log
        if head.strip():
            log.warning(
                "%s has columns other than %s and was renamed to %s.old", path, ", ".join(LOG_COLUMNS), path.name
            )
            path.replace(path.with_name(path.name + ".old"))
        else:
            path.unlink()
        return
    kept = [row for row in rows if row.endswith("\n") and (n := row.split(",", 1)[0]).isdecimal() and int(n) < start]
    write_atomically(path, lambda p: p.write_text(head + "".join(kept)))


def record(path: Path, step: int, loss: float, rate: float) -> None:
    """Append one row to the log."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(LOG_COLUMNS)
        writer.writerow([step, f"{loss:.6f}", f"{rate:.3e}"])
