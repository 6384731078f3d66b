"""Regenerate all tables of the README, one script after the other, and record the duration of each.

    python experiments/regenerate.py
    python experiments/regenerate.py --only turning heads_evaluation

Needs ../shared/data, ../shared/judge, and the extras heads and ray; no other program should use the processor. Experiments
whose tables are only in experiments/README.md run only if named. Writes regenerate.csv beside this script.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import tyro

HERE = Path(__file__).parent
BENCHMARKS = HERE.parent / "benchmarks"
CELEBA = Path("../shared/data/celeba")


@dataclass(frozen=True)
class Regenerate:
    """Options."""

    only: tuple[str, ...] = ()
    """names of experiments; by default those with tables in the README"""


def commands(scratch: Path) -> dict[str, list[str]]:
    """Experiments: name -> arguments of python; those of the README come first, up to and including `bench`."""

    def script(name: str, *arguments: str | Path) -> list[str]:
        return [str(HERE / f"{name}.py"), *map(str, arguments)]

    def benchmark(name: str, *arguments: str | Path) -> list[str]:
        return [str(BENCHMARKS / f"{name}.py"), *map(str, arguments), "--out", str(BENCHMARKS / f"{name}.csv")]

    return {
        "heads_evaluation": script("heads_evaluation"),
        "turning": script("turning", "--people", "30"),
        "solvers": script("solvers", "--people", "4"),
        "survival": benchmark("survival", "--data", CELEBA),
        "ten_million": benchmark("ten_million"),
        "fit_throughput": benchmark("fit_throughput", "--scratch", scratch),
        "ray_rate": benchmark("ray_rate", "--data", CELEBA),
        "storage": benchmark("storage", "--data", CELEBA, "--cache", scratch / "latents.npz"),
        "bench": [
            "-m",
            "latentrot",
            "evaluate",
            "bench",
            "--data",
            str(CELEBA),
            "--out",
            str(BENCHMARKS / "bench.csv"),
        ],
        "heads_lines": script("heads_lines"),
        "heads_samples": script("heads_samples"),
        "heads_latents": script("heads_latents"),
        "method": script("method"),
        "walk_limit": script("walk_limit", "--people", "24", "--pairs", "24"),
        "forward": [str(BENCHMARKS / "forward.py")],
        "start": [str(BENCHMARKS / "start.py")],
    }


def main(options: Regenerate) -> None:
    """Run the experiments one after the other; stop at the first failure."""
    with tempfile.TemporaryDirectory() as scratch:
        every = commands(Path(scratch))
        if unknown := set(options.only) - set(every):
            sys.exit(f"no experiments {sorted(unknown)}; there are {', '.join(every)}")
        names = list(every)
        chosen = options.only or names[: names.index("bench") + 1]
        path = HERE / "regenerate.csv"
        known = pd.read_csv(path, index_col="experiment")["seconds"].to_dict() if path.is_file() else {}
        for name in chosen:
            print(f"== {name}", flush=True)
            began = time.perf_counter()
            subprocess.run([sys.executable, *every[name]], check=True)
            known[name] = round(time.perf_counter() - began)
            pd.Series(known, name="seconds").rename_axis("experiment").to_csv(path)
        print(f"{sum(known[name] for name in chosen) / 60:.0f} minutes")


if __name__ == "__main__":
    main(tyro.cli(Regenerate, description=__doc__))
