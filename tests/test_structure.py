"""Imports point one way only: data -> faces -> diffusion -> latents -> directions -> rotators -> portraits -> the doors."""

import ast
import importlib
from pathlib import Path

import pytest

import latentrot

ROOT = Path(latentrot.__file__).parent
#: a module may import from its own layer and from those before it
LAYERS = (
    ("errors", "files", "bundles", "progress", "numerics", "devices", "kernels", "output"),
    ("data",), ("faces",), ("synthetic",), ("diffusion",), ("geometry",), ("store",), ("directions",),
    ("rotators",), ("portrait",), ("training",), ("evaluation",), ("info", "app"), ("cli",), ("__main__",),
)  # fmt: skip
RANK = {name: i for i, layer in enumerate(LAYERS) for name in layer}


def part_of(path):
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        yield from (name.split(".")[1] for name in names if name.startswith("latentrot."))


MODULES = [p for p in sorted(ROOT.rglob("*.py")) if p.name != "__init__.py"]


def test_every_part_of_the_package_has_a_layer():
    assert {part_of(p) for p in MODULES} == set(RANK)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path):
    wrong = [name for name in imported(path) if RANK[name] > RANK[part_of(path)]]
    assert not wrong, f"{path.relative_to(ROOT)} imports from {wrong}, which come after it"


EXPERIMENTS = ROOT.parent / "experiments"


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.py")), ids=lambda p: p.stem)
def test_every_name_an_experiment_takes_from_the_package_is_there(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("latentrot"):
            home = importlib.import_module(node.module)
            missing = [a.name for a in node.names if not hasattr(home, a.name)]
            assert not missing, f"{node.module} has no {missing}"
