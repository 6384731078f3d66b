"""What a GPU is for, in one command and in the time it is given: device tests, speed, and training of the bundled model.

    python benchmarks/on_gpu.py pack ../shared/data/celeba --out crops              # on any computer, once
    python benchmarks/on_gpu.py run crops --minutes 9 --out out                     # on the GPU
    python benchmarks/on_gpu.py run crops --device cpu --steps 10 --batch-size 8 --no-tests --no-bench --out out

`pack` writes one JPEG of all 64x64 crops of the people trained on and one of those held out. `run` first runs the tests of
devices and `latentrot evaluate bench --device cuda`, then trains with the rest of its time: faces64 from its bundled
weights, and with --large a share of the time a network of 40 million parameters from random ones. Weights are written every
minute, in pieces that mail and small file services take; `join` puts the pieces together as a model's folder:

    python benchmarks/on_gpu.py join out/faces64 --out runs/faces64-gpu

Needs the package and its dependencies; nothing is downloaded.
"""

from __future__ import annotations

import csv
import math
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from diffusers.models.unets.unet_2d import UNet2DModel
from PIL import Image
from safetensors.torch import load, save

from latentrot.data.celeba import held_out, open_folder
from latentrot.diffusion.first_stage import PixelUnshuffle
from latentrot.training.backbone import (
    Backbone,
    TrainConfig,
    build_model,
    build_scheduler,
    initial_model,
    save_model,
    stratified_levels,
)

ROOT = Path(__file__).parents[1]
#: side of a crop in pixels, and crops in a row of the packed images
SIDE, ACROSS = 64, 128
#: JPEG quality of the packed images: 1.9 KB a crop
QUALITY = 90
#: largest piece of a checkpoint, bytes
PIECE = 15 << 20
#: names of the packed images
TRAIN, HELD_OUT = "train.jpg", "held-out.jpg"
#: widths of the network of 40 million parameters
LARGE = (128, 256, 512)
#: share of the time in which the rate rises, and in which it falls to zero at the end
RISE, FALL = 0.02, 0.3
#: images on which the loss of people held out is measured
TESTED = 1024


# ---- crops in one file ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pack:
    """Write the crops of folders of aligned faces as two images."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """folders of aligned or square face images"""
    out: Path = Path("crops")
    """folder"""

    def run(self) -> None:
        """Read, split by people, write."""
        kept, tests = [], []
        for root in self.folders:
            folder = open_folder(root)
            apart = held_out(folder.identities.to_numpy())
            crops = folder.read_crops(list(folder.ids), SIDE)
            kept.append(crops[~apart])
            tests.append(crops[apart])
        self.out.mkdir(parents=True, exist_ok=True)
        for name, parts in ((TRAIN, kept), (HELD_OUT, tests)):
            images = np.concatenate(parts)
            mosaic(images).save(self.out / name, quality=QUALITY, subsampling=0)
            print(f"{self.out / name}: {len(images)} crops, {(self.out / name).stat().st_size / 2**20:.1f} MiB")


def mosaic(images: np.ndarray) -> Image.Image:
    """(n, 64, 64, 3) uint8 -> an image of rows of crops, filled up with black ones.

    JPEG's blocks of 8x8 divide a crop, so that no crop leaks into another.
    """
    rows = -(-len(images) // ACROSS)
    padded = np.zeros((rows * ACROSS, SIDE, SIDE, 3), np.uint8)
    padded[: len(images)] = images
    sheet = padded.reshape(rows, ACROSS, SIDE, SIDE, 3).transpose(0, 2, 1, 3, 4)
    return Image.fromarray(sheet.reshape(rows * SIDE, ACROSS * SIDE, 3))


def crops_of(path: Path) -> torch.Tensor:
    """The crops of a packed image -> (n, 3, 64, 64) uint8; black ones, which fill the last row, are left out."""
    Image.MAX_IMAGE_PIXELS = None
    sheet = np.asarray(Image.open(path).convert("RGB"))
    tiles = sheet.reshape(-1, SIDE, ACROSS, SIDE, 3).transpose(0, 2, 4, 1, 3).reshape(-1, 3, SIDE, SIDE)
    return torch.from_numpy(tiles[tiles.reshape(len(tiles), -1).max(1) > 8].copy())


# ---- the run ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """Test, measure, train."""

    crops: Annotated[Path, tyro.conf.Positional]
    """folder written by pack"""
    minutes: float = 9.0
    """time of everything"""
    out: Path = Path("out")
    """folder of results"""
    device: str = "cuda"
    """cuda, or cpu to rehearse"""
    batch_size: int = 512
    """images a step"""
    learning_rate: float = 1e-3
    """AdamW's peak rate"""
    large: float = 0.0
    """share of the training time for the network of 40 million parameters (0 to 1); its weights are 80 MB"""
    steps: int | None = None
    """steps at most, to rehearse"""
    tests: bool = True
    """run the tests of devices first"""
    bench: bool = True
    """run latentrot evaluate bench first"""

    def run(self) -> None:
        """All parts, each within its time."""
        end = time.monotonic() + 60 * self.minutes
        self.out.mkdir(parents=True, exist_ok=True)
        if self.tests:
            log_of(self.out / "tests.log", "-m", "pytest", "-q", "tests/test_devices.py", limit_s=90)
        if self.bench:
            bench = (
                "-m",
                "latentrot.cli",
                "evaluate",
                "bench",
                "--device",
                self.device,
                "--out",
                self.out / "bench.csv",
            )
            log_of(self.out / "bench.log", *bench, "--more-steps", "--repeats", "2", limit_s=90)
        rest = end - time.monotonic() - 15  # what the last checkpoint takes
        common = TrainConfig(
            batch_size=self.batch_size, learning_rate=self.learning_rate, small_steps=0, ema=0.9995, seed=1
        )
        if self.large < 1:
            self.train("faces64", replace(common, init="faces64"), rest * (1 - self.large))
        if self.large > 0:
            self.train("large", replace(common, channels=LARGE), rest * self.large)

    def train(self, name: str, config: TrainConfig, seconds: float) -> None:
        """Train one network for some seconds."""
        out = self.out / name
        out.mkdir(exist_ok=True)
        train(
            config, crops_of(self.crops / TRAIN), crops_of(self.crops / HELD_OUT), out, seconds, self.device, self.steps
        )


def log_of(path: Path, *command: object, limit_s: float) -> None:
    """Run Python with arguments in the repository, its output in a file and its last line on the terminal."""
    with path.open("w") as file:
        try:
            done = subprocess.run(
                [sys.executable, *map(str, command)], cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, timeout=limit_s,
                check=False,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            done = f"stopped after {limit_s:g} s"
    lines = path.read_text().splitlines()
    print(f"{path.name}: {done}: {lines[-1] if lines else ''}", flush=True)


def rate_at(share: float) -> float:
    """The learning rate as a share of its peak, after a share of the time: rise, plateau, fall to zero."""
    return max(0.0, min(1.0, (share + 1e-3) / RISE, (1 - share) / FALL))


def train(
    config: TrainConfig, images: torch.Tensor, tests: torch.Tensor, out: Path, seconds: float, device: str,
    steps: int | None = None,
) -> None:  # fmt: skip
    """Train a denoiser for a given time; everything random is drawn on the device.

    Args:
        config: network, batch, rate; its numbers of steps are not used.
        images: (n, 3, 64, 64) uint8 to train on.
        tests: of people held out.
        out: folder of weights and log.csv.
        seconds: how long.
        device: where.
        steps: at most so many.
    """
    on_gpu = device.startswith("cuda")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    scheduler = build_scheduler(config)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.to(device)
    model: Any = initial_model(config)
    average: Any = build_model(config)
    for part in (model, average):  # `to` of a diffusers model knows no memory format
        torch.nn.Module.to(part, device=torch.device(device), memory_format=torch.channels_last)  # pyright: ignore
    average.eval()
    average.load_state_dict(model.state_dict())
    network: Any = torch.compile(model) if on_gpu else model
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=config.weight_decay, fused=True
    )
    generator = torch.Generator(device).manual_seed(config.seed)
    images, tests = images.to(device), tests[:TESTED].to(device)
    print(
        f"{out.name}: {sum(p.numel() for p in model.parameters()) / 1e6:.1f} million parameters, {len(images)} images"
    )

    begun = saved = time.monotonic()
    step, losses = 0, []
    while (passed := time.monotonic() - begun) < seconds and (steps is None or step < steps):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * rate_at(passed / seconds)
        rows = torch.randint(len(images), (config.batch_size,), generator=generator, device=device)
        loss = denoising_loss(network, scheduler, images[rows], config, generator)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            decay = min(config.ema, (step + 1) / (step + 10))
            for kept, now in zip(average.parameters(), model.parameters(), strict=True):
                kept.lerp_(now, 1 - decay)
        losses.append(loss.detach())
        step += 1
        if time.monotonic() - saved > 60:
            record(out, average, scheduler, tests, config, step, losses, time.monotonic() - begun)
            saved = time.monotonic()
    record(out, average, scheduler, tests, config, step, losses, time.monotonic() - begun)


def denoising_loss(
    network: Any, scheduler: Any, images: torch.Tensor, config: TrainConfig, generator: torch.Generator
) -> torch.Tensor:
    """Mean squared error on (b, 3, 64, 64) uint8 images, half of them mirrored, at stratified noise levels."""
    x = images.float() / 127.5 - 1
    flip = torch.rand(len(x), generator=generator, device=x.device) < 0.5
    x0 = PixelUnshuffle(config.patch).encode(torch.where(flip[:, None, None, None], x.flip(-1), x))
    noise = torch.randn(x0.shape, generator=generator, device=x.device)
    levels = stratified_levels(len(x), scheduler.config["num_train_timesteps"], generator)
    with torch.autocast(x.device.type, torch.bfloat16):
        return Backbone(images, config, scheduler).loss(network, (x0, noise, levels))


def record(
    out: Path, average: UNet2DModel, scheduler: Any, tests: torch.Tensor, config: TrainConfig, step: int,
    losses: list[torch.Tensor], seconds: float,
) -> None:  # fmt: skip
    """Write the averaged weights in half precision, in pieces, and a row of log.csv."""
    with torch.no_grad():
        apart = denoising_loss(average, scheduler, tests, config, torch.Generator(tests.device).manual_seed(0))
    row = {
        "seconds": round(seconds), "steps": step, "samples": step * config.batch_size,
        "loss": round(float(torch.stack(losses[-200:]).mean()), 5), "loss of people held out": round(float(apart), 5),
    }  # fmt: skip
    print(f"{out.name}: {row}", flush=True)
    path, new = out / "log.csv", not (out / "log.csv").exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        writer.writerows([dict(zip(row, row, strict=True)), row] if new else [row])
    whole = save({k: v.detach().cpu().half().contiguous() for k, v in average.state_dict().items()})
    for i in range(math.ceil(len(whole) / PIECE)):
        (out / f"weights.{i}").write_bytes(whole[i * PIECE : (i + 1) * PIECE])


# ---- back at home -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Join:
    """Put the pieces of a run's weights together as a model's folder."""

    pieces: Annotated[Path, tyro.conf.Positional]
    """folder with weights.0 and on"""
    out: Path
    """a diffusers folder, for latentrot --model"""
    large: bool = False
    """the network of 40 million parameters"""

    def run(self) -> None:
        """Join, write."""
        paths = sorted(self.pieces.glob("weights.*"), key=lambda p: int(p.suffix[1:]))
        config = TrainConfig(channels=LARGE) if self.large else TrainConfig()
        save_model(load(b"".join(p.read_bytes() for p in paths)), config, self.out)
        print(f"wrote {self.out}")


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"pack": Pack, "run": Run, "join": Join}, description=__doc__).run()
