"""Where the time of a command goes that is started cold: in a fresh process, its files in the page cache.

    python experiments/start.py
    python experiments/start.py --trees before=../older after=. --repeats 5

Commands are timed with bytecode compiled, as `make` leaves it, and without, as where no bytecode may be written. Of an edit
of the bundled portrait also the imports, by package, and the stages of the work. Writes start.csv beside this script;
several trees (name=folder) are measured in turns, so that whatever else the computer does meets them alike.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

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
    def environment(self) -> dict[str, str]:
        """Of its processes."""
        kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")}
        prefix = str(self.compiled or Path(tempfile.gettempdir()) / "latentrot-no-bytecode")
        only_read = {} if self.compiled else {"PYTHONDONTWRITEBYTECODE": "1"}
        return {**kept, "PYTHONPATH": str(self.tree), "PYTHONPYCACHEPREFIX": prefix, **only_read}


def run(place: Place, *words: object, flags: tuple[str, ...] = ()) -> tuple[float, subprocess.CompletedProcess[str]]:
    """Seconds and results of one command."""
    command = [sys.executable, *flags, "-m", "latentrot.cli", *map(str, words)]
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=place.environment, cwd=place.tree)
    return time.perf_counter() - begun, done


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
    _, done = run(place, *commands(out)["edit --deg 15"], flags=("-X", "importtime"))
    spent: dict[str, float] = defaultdict(float)
    for microseconds, module in IMPORT.findall(done.stderr):
        package = module.split(".")[0]
        spent[package if package in PACKAGES else "others"] += int(microseconds) / 1e6
    return {**spent, "all": sum(spent.values())}


def measure(places: list[Place], repeats: int, out: Path) -> list[dict[str, object]]:
    """Rows of the table."""
    seconds: dict[tuple[Place, str], list[float]] = defaultdict(list)
    stages: dict[tuple[Place, str], list[dict[str, float]]] = defaultdict(list)
    for _ in range(repeats):
        for name, words in commands(out).items():
            for place in places:
                spent, done = run(place, *words)
                seconds[place, name].append(spent)
                if done.stdout.startswith("{"):
                    stages[place, name].append(json.loads(done.stdout)["seconds"])
                print(f"{place.name:8} {'compiled' if place.compiled else 'not':9} {name:32} {spent:6.2f}", flush=True)
    rows = []

    def add(place: Place, what: str, part: str, values: list[float]) -> None:
        median, least = statistics.median(values), min(values)
        rows.append({"tree": place.name, "bytecode": "compiled" if place.compiled else "none", "command": what,
                     "part": part, "median_s": median, "least_s": least, "runs": len(values)})  # fmt: skip

    for (place, name), values in seconds.items():
        add(place, name, "whole command", values)
        for stage in stages[place, name][0] if stages[place, name] else ():
            add(place, name, stage, [s[stage] for s in stages[place, name]])
    for place in places:
        found = [imports(place, out) for _ in range(repeats)]
        for package in sorted(found[0], key=lambda p: -found[0][p]):
            add(place, "edit --deg 15", f"importing {package}", [f.get(package, 0.0) for f in found])
    return rows


def main(trees: tuple[str, ...] = ("here=.",), repeats: int = 3) -> None:
    """Measure, write.

    Args:
        trees: name=folder of each checkout.
        repeats: runs of everything; the median and the least are written.
    """
    named = [tree.partition("=") for tree in trees]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "turned.png"
        places = []
        for name, _, tree in named:
            for compiled in (Path(folder) / f"bytecode-{name}", None):
                places.append(Place(name, Path(tree or ".").resolve(), compiled))
        for place in places:
            run(place, *commands(out)["edit --deg 15"])  # compiles, and fills the page cache
        rows = measure(places, repeats, out)
    table = pd.DataFrame(rows).round(3)
    table.to_csv(Path(__file__).with_suffix(".csv"), index=False)
    print(table.to_string())


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
