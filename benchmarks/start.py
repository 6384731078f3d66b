"""Where the time of a command goes that is started cold: in a fresh process, its files in the page cache.

    python benchmarks/start.py
    python benchmarks/start.py --trees before=../older after=. --repeats 5
    python benchmarks/start.py --bytecode compiled --threads 1    # on a computer that others use, read processor seconds

Commands are timed with bytecode compiled, as `make` leaves it, and without, as where no bytecode may be written. Of an
edit of the bundled portrait also the imports, by package, and the stages of the work. Writes start.csv beside this
script, wall and processor seconds (those of the imports and stages are wall); several trees (name=folder) are measured
in turns, so that whatever else the computer does meets them alike.
"""

from __future__ import annotations

import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
import tyro

PORTRAIT = Path(__file__).parents[1] / "latentrot" / "bundled" / "astronaut.jpg"
#: packages that have a row of their own in the table of imports
PACKAGES = ("torch", "diffusers", "scipy", "numba", "cv2", "numpy", "pandas", "sklearn", "matplotlib", "PIL", "tyro",
            "latentrot")  # fmt: skip
IMPORT = re.compile(r"import time:\s*(\d+) \|\s*\d+ \| +(\S+)")


@dataclass(frozen=True)
class Place:
    """Where commands run.

    Args:
        name: of the tree, in the table.
        tree: a checkout.
        compiled: folder of compiled bytecode; None: everything is compiled anew in memory.
    """

    name: str
    tree: Path
    compiled: Path | None

    @property
    def bytecode(self) -> str:
        """Whether there is any, in the table."""
        return "compiled" if self.compiled else "none"

    @property
    def environment(self) -> dict[str, str]:
        """Of its processes."""
        kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")}
        prefix = str(self.compiled or Path(tempfile.gettempdir()) / "latentrot-no-bytecode")
        only_read = {} if self.compiled else {"PYTHONDONTWRITEBYTECODE": "1"}
        return {**kept, "PYTHONPATH": str(self.tree), "PYTHONPYCACHEPREFIX": prefix, **only_read}


@dataclass(frozen=True)
class Ran:
    """One command: wall and processor seconds, and what it printed."""

    wall: float
    processor: float
    output: str
    errors: str


def run(place: Place, *words: object, flags: tuple[str, ...] = ()) -> Ran:
    """Run a command in a process of its own."""
    command = [sys.executable, *flags, "-m", "latentrot.cli", *map(str, words)]
    begun, used = time.perf_counter(), processor_seconds()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=place.environment, cwd=place.tree)
    return Ran(time.perf_counter() - begun, processor_seconds() - used, done.stdout, done.stderr)


def processor_seconds() -> float:
    """Of all processes that were started from here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def commands(out: Path) -> dict[str, tuple[object, ...]]:
    """What is timed."""
    edit = ("edit", PORTRAIT, "--deg", 15, "--json", "--out", out)
    return {
        "--help": ("--help",),
        "edit --help": ("edit", "--help"),
        "edit, refused: no such file": ("edit", "nowhere.jpg", "--deg", 15),
        "edit, refused: no such model": ("edit", PORTRAIT, "--deg", 15, "--model", "nowhere"),
        "edit --deg 15": edit,
        "edit --deg 15 --fast": (*edit, "--fast"),
        "edit --deg 15 --rotator mesh": (*edit, "--rotator", "mesh"),
    }


def imports(place: Place, out: Path) -> dict[str, float]:
    """Seconds that an edit spends importing each package itself, by Python's own count."""
    done = run(place, *commands(out)["edit --deg 15"], flags=("-X", "importtime"))
    spent: dict[str, float] = defaultdict(float)
    for microseconds, module in IMPORT.findall(done.errors):
        package = module.split(".")[0]
        spent[package if package in PACKAGES else "others"] += int(microseconds) / 1e6
    return {**spent, "all": sum(spent.values())}


def measure(places: list[Place], repeats: int, out: Path) -> list[dict[str, object]]:
    """Rows of the table."""
    found: dict[tuple[Place, str], list[Ran]] = defaultdict(list)
    for _ in range(repeats):
        for name, words in commands(out).items():
            for place in places:
                ran = run(place, *words)
                found[place, name].append(ran)
                print(f"{place.name:8} {place.bytecode:9} {name:32} {ran.wall:6.2f} {ran.processor:6.2f}", flush=True)
    rows = []

    def add(place: Place, what: str, part: str, wall: list[float], processor: list[float] | None = None) -> None:
        rows.append({"tree": place.name, "bytecode": place.bytecode, "command": what, "part": part,
                     "median_s": statistics.median(wall), "least_s": min(wall),
                     "processor_s": statistics.median(processor) if processor else None, "runs": len(wall)})  # fmt: skip

    for (place, name), runs in found.items():
        add(place, name, "whole command", [r.wall for r in runs], [r.processor for r in runs])
        stages = [json.loads(r.output)["seconds"] for r in runs if r.output.startswith("{")]
        for stage in stages[0] if stages else ():
            add(place, name, stage, [s[stage] for s in stages])
    for place in places:
        spent = [imports(place, out) for _ in range(repeats)]
        for package in sorted(spent[0], key=lambda p: -spent[0][p]):
            add(place, "edit --deg 15", f"importing {package}", [s.get(package, 0.0) for s in spent])
    return rows


def main(
    trees: tuple[str, ...] = ("here=.",),
    repeats: int = 3,
    bytecode: tuple[Literal["compiled", "none"], ...] = ("compiled", "none"),
    threads: int | None = None,
) -> None:
    """Measure, write.

    Args:
        trees: name=folder of each checkout.
        repeats: runs of everything; the median and the least are written.
        bytecode: with which.
        threads: of the networks; by default torch's choice.
    """
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    named = [tree.partition("=") for tree in trees]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "turned.png"
        places = []
        for name, _, tree in named:
            kinds = {"compiled": Path(folder) / f"bytecode-{name}", "none": None}
            places += [Place(name, Path(tree or ".").resolve(), kinds[kind]) for kind in bytecode]
        for place in places:
            run(place, *commands(out)["edit --deg 15"])  # compiles, and fills the page cache
        rows = measure(places, repeats, out)
    table = pd.DataFrame(rows).round(3)
    table.to_csv(Path(__file__).with_suffix(".csv"), index=False)
    print(table.to_string())


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
