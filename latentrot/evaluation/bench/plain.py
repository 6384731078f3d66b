"""The reference of the benchmark: a plain loop over diffusers' schedulers.

Clipping, the default of `DDIMInverseScheduler`, is off because it breaks inversion; nothing else is changed. It is timed in
its own process (`python -m latentrot.evaluation.bench.plain`), without the memory format and allocator of `load_model`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddim_inverse import DDIMInverseScheduler

from latentrot.data.similarity import psnr
from latentrot.diffusion.first_stage import FirstStage, load_first_stage
from latentrot.diffusion.folder import find_folder, load_part, part_folder, pipeline_index
from latentrot.diffusion.load import LatentModel
from latentrot.diffusion.noise import load_noise
from latentrot.diffusion.unet import UNet
from latentrot.errors import LatentrotError, one_line
from latentrot.evaluation.bench.timing import median_seconds

__all__ = ["PlainLoop", "time_plain"]


class PlainLoop:
    """Inversion and decoding by `DDIMInverseScheduler` and `DDIMScheduler`.

    Args:
        unet: the network.
        alpha_bar: (T,) the schedule's cumulative products.
        prediction: prediction type: epsilon, v_prediction or sample.
        first_stage: images <-> diffusion space.
        steps: number of steps of inversion and of decoding.
    """

    def __init__(
        self, unet: UNet | UNet2DModel, alpha_bar: np.ndarray, prediction: str, first_stage: FirstStage, steps: int
    ) -> None:
        self.unet, self.first_stage, self.steps = unet, first_stage, steps
        self.device = next(unet.parameters()).device
        before = np.append(1.0, alpha_bar[:-1])
        self.back = DDIMScheduler(
            num_train_timesteps=len(alpha_bar),
            trained_betas=(1 - alpha_bar / before).tolist(),
            prediction_type=cast("Any", prediction),  # a literal to the type checker
            clip_sample=False,
        )
        there = DDIMInverseScheduler.from_config(self.back.config)
        self.there = cast("DDIMInverseScheduler", there)  # a tuple only with return_unused_kwargs

    @classmethod
    def of(cls, model: LatentModel, steps: int) -> PlainLoop:
        """Wrap a loaded model."""
        return cls(model.unet, model.alpha_bar, model.prediction_type, model.first_stage, steps)

    @classmethod
    def load(cls, name: str | None, steps: int, device: str = "cpu") -> PlainLoop:
        """Load a pipeline by name or path; None: the bundled model."""
        _, folder = find_folder(name)
        index = pipeline_index(folder)
        alpha_bar, _, prediction = load_noise(folder, index)
        stage = load_first_stage(folder, index, torch.device(device))
        unet = load_part(UNet2DModel, part_folder(folder, "unet", "config.json"), torch_dtype=torch.float32).eval()
        return cls(unet.to(device), alpha_bar, prediction, stage, steps)

    @torch.no_grad()
    def run(self, scheduler: DDIMScheduler | DDIMInverseScheduler, state: torch.Tensor) -> torch.Tensor:
        """Run a scheduler over all steps: (n, c, h, w) -> (n, c, h, w)."""
        scheduler.set_timesteps(self.steps)
        for t in scheduler.timesteps:
            state = scheduler.step(self.unet(state, t).sample, int(t), state, return_dict=False)[0]
        return state

    @torch.no_grad()
    def invert(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) images -> (n, c, h', w') latents on the CPU, as `latentrot.invert` returns them."""
        return self.run(self.there, self.first_stage.encode(x.to(self.device))).cpu()

    @torch.no_grad()
    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """(n, c, h', w') latents -> (n, 3, h, w) images on the CPU."""
        return self.first_stage.decode(self.run(self.back, z.to(self.device))).cpu()


def measure_plain(loop: PlainLoop, x: torch.Tensor, batches: list[int], frames: int, repeats: int) -> dict[str, Any]:
    """Measure round trip, throughput, and the time of a sweep: one inversion and one decoding per frame."""
    rows = []
    for batch in batches:
        part = x[torch.arange(batch) % len(x)]
        z = torch.randn_like(loop.first_stage.encode(part.to(loop.device))).cpu()
        runs = repeats if batch == 1 else 1
        there = batch / median_seconds(lambda p=part: loop.invert(p), runs)
        back = batch / median_seconds(lambda z=z: loop.decode(z), runs)
        rows.append({"batch": batch, "invert": there, "decode": back})
    z = loop.invert(x)
    back = psnr(loop.decode(z).clamp(-1, 1), x)

    def sweep() -> None:
        z = loop.invert(x[:1])
        for i in range(frames):
            loop.decode(z + 0.001 * i)

    return {
        "psnr_db": float(back.mean()),
        "least_db": float(back.min()),
        "throughput": rows,
        "sweep_s": median_seconds(sweep, repeats) if frames else None,
    }


def time_plain(
    x: torch.Tensor, model: str | None, steps: int, batches: list[int], *, frames: int = 0, repeats: int = 3,
    device: str = "cpu",
) -> dict[str, Any]:  # fmt: skip
    """Run `measure_plain` in a new process with the number of threads of this process, in float32.

    Args:
        x: (n, 3, h, w) images in [-1, 1].
        model: folder, Hub id or None for the bundled model.
        steps: number of steps of inversion and of decoding.
        batches: batch sizes to time; the images are repeated to fill them.
        frames: number of frames of the sweep; 0: no sweep.
        repeats: number of runs per median.
        device: device of the network.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npy"
        np.save(path, x.numpy())
        command = [
            sys.executable, "-m", "latentrot.evaluation.bench.plain", str(path),
            "--steps", str(steps), "--frames", str(frames),
            "--repeats", str(repeats), "--device", device, "--threads", str(torch.get_num_threads()),
            "--batches", *map(str, batches),
        ]  # fmt: skip
        command += ["--model", model] if model else []
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LatentrotError(f"the plain loop failed: {one_line((done.stderr.splitlines() or ['no message'])[-1])}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Parse the arguments, measure, and print JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("images", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--device", default="cpu")
    for name in ("--steps", "--frames", "--repeats", "--threads"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--batches", type=int, nargs="*", default=[])
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    x = torch.from_numpy(np.load(given.images))
    loop = PlainLoop.load(given.model, given.steps, given.device)
    print(json.dumps(measure_plain(loop, x, given.batches, given.frames, given.repeats)))


if __name__ == "__main__":
    main()
