"""The measurements of `latentrot evaluate bench`, and those of a plain diffusers loop with equal weights and threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from latentrot.bundles import PORTRAIT
from latentrot.data.arrays import to_tensor, to_uint8
from latentrot.data.celeba import FaceFolder, held_out
from latentrot.data.similarity import psnr
from latentrot.diffusion.load import LatentModel, load_model
from latentrot.diffusion.schedule import Schedule
from latentrot.diffusion.solve import decode, evaluations, invert
from latentrot.errors import LatentrotError, one_line
from latentrot.evaluation.bench.plain import time_plain
from latentrot.evaluation.bench.timing import flops_of, median_seconds, peak_flops, seconds
from latentrot.files import write_atomically
from latentrot.portrait.portrait import open_portrait
from latentrot.rotators.latent.rotator import load_latent_rotator

__all__ = ["BenchConfig", "Row", "compare", "portrait_crop", "write_rows"]

#: rotations of the timed sweep, degrees
SWEEP = tuple(float(d) for d in np.linspace(-30, 30, 7))


@dataclass(frozen=True)
class BenchConfig:
    """Parameters of the benchmark.

    Args:
        steps: number of steps of inversion and of decoding in the comparison.
        batches: batch sizes for which the throughput is measured.
        more_steps: further step counts for which the round trip of the plain loop is measured.
        people: number of images for the round trip.
        repeats: number of runs per median.
        device: device of the networks.
    """

    steps: int = 20
    batches: tuple[int, ...] = (1, 16, 64)
    more_steps: tuple[int, ...] = (50, 100)
    people: int = 8
    repeats: int = 3
    device: str = "cpu"


@dataclass(frozen=True)
class Row:
    """One measured number."""

    part: str
    way: str
    quantity: str
    value: float


def portrait_crop(size: int) -> np.ndarray:
    """The face crop of the bundled portrait, (size, size, 3) uint8 in the CelebA frame."""
    found = open_portrait(PORTRAIT)
    return found.alignments[0].crop(found.image, size)


def benchmark_images(data: Path | None, model: LatentModel, people: int) -> torch.Tensor:
    """(n, 3, h, w): one image of each held-out person of a folder, or the bundled portrait without a folder."""
    if data is None:
        return to_tensor(portrait_crop(model.resolution))
    folder = FaceFolder(data)
    unseen = folder.identities[held_out(folder.identities.to_numpy())].drop_duplicates()
    if unseen.empty:
        raise LatentrotError(f"{data}: no held-out people; give a folder with more people")
    names = unseen.sample(min(people, len(unseen)), random_state=0).index
    return to_tensor(folder.read_crops(list(names), model.resolution))


def compare(data: Path | None = None, name: str | None = None, config: BenchConfig | None = None) -> Iterator[Row]:
    """Run the benchmark in float32; yields the rows of its table.

    Args:
        data: folder of faces whose held-out people are inverted and decoded; None: the bundled portrait.
        name: name or path of the model; None: the bundled model, the only one whose edits are timed.
        config: parameters; None: the defaults.
    """
    config = config or BenchConfig()
    model = load_model(name, config.device)
    x = benchmark_images(data, model, config.people)
    yield from processor(model)
    yield from fidelity_and_throughput(model, x, name, config)
    if name is None:  # the other parts need the directions of the bundled model
        yield from sweep(x[:1], config)
        yield from commands(config.device)


def processor(model: LatentModel) -> Iterator[Row]:
    """Floating-point operations of one network evaluation, and the peak rate of the processor."""
    yield Row("processor", "threads", "count", torch.get_num_threads())
    yield Row("processor", "one evaluation of one image", "GFLOP", flops_of(model) / 1e9)
    yield Row("processor", "matrix product, float32", "GFLOP/s", peak_flops(device=model.device) / 1e9)


def own_schedules(config: BenchConfig) -> dict[str, Schedule]:
    """Schedules to measure: the default, other solvers with the same steps, and plain DDIM with the comparison's steps."""
    default = Schedule()
    return {
        f"{default.solver}, {default.steps} steps (the default)": default,
        f"fixed-point, {default.steps} steps": Schedule(default.steps, "fixed-point"),
        f"exact, {default.steps} steps": Schedule(default.steps, "exact"),
        f"ddim, {default.steps} steps (what is walked)": Schedule(default.steps, "ddim"),
        f"ddim, {config.steps} steps": Schedule(config.steps, "ddim"),
    }


def fidelity_and_throughput(
    model: LatentModel, x: torch.Tensor, name: str | None, config: BenchConfig
) -> Iterator[Row]:
    """Round-trip PSNR and throughput of inversion and decoding, for the package and for the plain loop."""
    flops = flops_of(model)
    for way, plan in own_schedules(config).items():
        there, back = evaluations(plan)
        db = psnr(decode(model, invert(model, x, schedule=plan), schedule=plan).clamp(-1, 1), x)
        yield from round_trip(way, (there, back), float(db.mean()), float(db.min()))
        for batch in config.batches:
            part = x[torch.arange(batch) % len(x)]
            z = torch.randn(batch, *model.latent_shape)  # the time does not depend on the latent
            runs = config.repeats if batch == 1 else 1
            rate = batch / median_seconds(lambda p=part, s=plan: invert(model, p, schedule=s), runs)
            yield Row("throughput", way, f"inversions/s at batch {batch}", rate)
            yield Row("throughput", way, f"GFLOP/s at batch {batch}", rate * there * flops / 1e9)
            rate = batch / median_seconds(lambda z=z, s=plan: decode(model, z, schedule=s), runs)
            yield Row("throughput", way, f"decodings/s at batch {batch}", rate)
    for steps in (config.steps, *config.more_steps):
        batches = list(config.batches) if steps == config.steps else list(config.batches[:1])
        way = f"diffusers, {steps} steps"
        repeats = config.repeats if steps == config.steps else 1
        found = time_plain(x, name, steps, batches, repeats=repeats, device=config.device)
        yield from round_trip(way, (steps, steps), found["psnr_db"], found["least_db"])
        for row in found["throughput"]:
            yield Row("throughput", way, f"inversions/s at batch {row['batch']}", row["invert"])
            yield Row("throughput", way, f"decodings/s at batch {row['batch']}", row["decode"])


def round_trip(way: str, spent: tuple[int, int], db: float, least: float) -> Iterator[Row]:
    """The rows of one round trip."""
    for quantity, value in zip(
        ("evaluations there", "evaluations back", "dB", "least dB"), (*spent, db, least), strict=True
    ):
        yield Row("round trip", way, quantity, value)


def sweep(x: torch.Tensor, config: BenchConfig) -> Iterator[Row]:
    """Time seven rotations of one image with all networks loaded: one inversion and seven decodings."""
    crop = to_uint8(x)[0]
    for way, measured in (("ours, --fast", False), ("ours, measured on the image", True)):
        rotator = load_latent_rotator(device=config.device, measure=measured)
        spent = median_seconds(lambda r=rotator: r.prepare(crop).rotate(SWEEP), config.repeats)
        yield Row("warm sweep of 7", way, "s", spent)
    for steps in (Schedule().steps, 50):
        found = time_plain(x, None, steps, [], frames=len(SWEEP), repeats=1, device=config.device)
        yield Row("warm sweep of 7", f"diffusers, {steps} steps", "s", found["sweep_s"])


def commands(device: str) -> Iterator[Row]:
    """Time whole commands in new processes, and the stages of an edit."""
    python = [sys.executable]
    lines = {
        "import latentrot": [*python, "-c", "import latentrot"],
        "latentrot --help": [*python, "-m", "latentrot.cli", "--help"],
    }
    for way, command in lines.items():
        yield Row("command", way, "s", median_seconds(lambda c=command: run_command(c), 3))
    with tempfile.TemporaryDirectory() as folder:
        for flags in ([], ["--fast"]):
            out = str(Path(folder) / "turned.png")
            asked = ["edit", str(PORTRAIT), "--deg", "15", "--json", "--out", out, "--device", device, *flags]
            edit = [*python, "-m", "latentrot.cli", *asked]
            report: dict[str, dict[str, float]] = {}
            spent = seconds(lambda e=edit, r=report: r.update(json.loads(run_command(e))))
            way = " ".join(["edit --deg 15", *flags])
            yield Row("command", way, "s", spent)
            for stage, part in report["seconds"].items():
                yield Row("command", way, f"s, {stage}", part)
            yield Row("command", way, "s, starting and loading", spent - sum(report["seconds"].values()))


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write the rows as a CSV file."""
    table = pd.DataFrame([asdict(row) for row in rows]).round(4)
    write_atomically(path, lambda p: table.to_csv(p, index=False))


def run_command(command: list[str]) -> str:
    """Run a command with the number of threads of this process; returns its standard output."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise LatentrotError(f"{' '.join(command[1:4])} failed: {one_line(done.stderr)}")
    return done.stdout
