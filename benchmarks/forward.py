"""The package's own network beside diffusers': seconds of inverting and decoding by equally many evaluations, paired.

    python benchmarks/forward.py

Twenty plain DDIM steps each way: the plain diffusers loop (`latentrot.evaluation.bench.plain`), the same steps through
diffusers' network as the package would run it (channels last, autocast for bfloat16), and through its own. The ways take
turns on the same images in one process with one thread, timed in processor seconds, so that other work meets
all alike. A process for each set of instructions that oneDNN and torch are held to. Writes forward.csv beside this
script.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
import tyro

from latentrot.diffusion.load import load_model
from latentrot.diffusion.schedule import Schedule
from latentrot.diffusion.solve import decode, invert
from latentrot.evaluation.bench.plain import PlainLoop

#: names, and what oneDNN and torch are told
INSTRUCTIONS = {
    "AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
    "AVX-512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "ATEN_CPU_CAPABILITY": "avx512"},
    "AVX-512 with bfloat16": {},
}


def ways(steps: int, precisions: tuple[str, ...]) -> dict[str, tuple[Callable, Callable]]:
    """Name -> inversion and decoding."""
    plain, plan = PlainLoop.load(None, steps), Schedule(steps, "ddim")
    found: dict[str, tuple[Callable, Callable]] = {"plain diffusers loop": (plain.invert, plain.decode)}
    for precision in precisions:
        own = load_model(None, "cpu", precision)
        theirs = torch.nn.Module.to(PlainLoop.load(None, steps).unet, memory_format=torch.channels_last)
        before = replace(own, unet=theirs)
        for name, model in (("diffusers' network", before), ("own network", own)):
            found[f"{name}, {precision}"] = (
                lambda x, m=model: invert(m, x, schedule=plan),
                lambda z, m=model: decode(m, z, schedule=plan),
            )
    return found


def measure(steps: int, batches: tuple[int, ...], rounds: int, precisions: tuple[str, ...]) -> list[dict[str, object]]:
    """Median and least seconds an image, by way, batch and direction."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    todo, rows = ways(steps, precisions), []
    for batch in batches:
        x, spent = torch.rand(batch, 3, 64, 64) * 2 - 1, defaultdict(list)
        for _ in range(rounds + 1):
            for way, (there, back) in todo.items():
                for direction, work, given in (("invert", there, x), ("decode", back, torch.randn(batch, 12, 32, 32))):
                    begun = time.process_time()
                    work(given)
                    spent[way, direction].append((time.process_time() - begun) / batch)
        for (way, direction), (_, *seconds) in spent.items():  # the first packs weights
            rows.append({"way": way, "direction": direction, "batch": batch, "evaluations": steps,
                         "median_s": statistics.median(seconds), "least_s": min(seconds), "rounds": rounds})  # fmt: skip
    return rows


def main(steps: int = 20, batches: tuple[int, ...] = (1, 8), rounds: int = 5, only: str | None = None) -> None:
    """Measure, write.

    Args:
        steps: evaluations each way.
        batches: batch sizes.
        rounds: in each of which every way is timed once.
        only: instructions to measure with in this very process, printing JSON; for the script's own use.
    """
    if only is not None:
        precisions = ("float32", "bfloat16") if only.endswith("bfloat16") else ("float32",)
        print(json.dumps(measure(steps, batches, rounds, precisions)))
        return
    rows = []
    for name, environment in INSTRUCTIONS.items():
        command = [sys.executable, __file__, "--steps", str(steps), "--rounds", str(rounds), "--only", name,
                   "--batches", *map(str, batches)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environment})
        rows += [{"instructions": name, **row} for row in json.loads(done.stdout.splitlines()[-1])]
        print(pd.DataFrame(rows).round(3).to_string(), flush=True)
        pd.DataFrame(rows).round(4).to_csv(Path(__file__).with_suffix(".csv"), index=False)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
