"""Imports point one way only: data -> faces -> diffusion -> latents -> directions -> rotators -> portraits -> the doors."""

import ast
import importlib
from pathlib import Path

import pytest

import latentrot

ROOT = Path(latentrot.__file__).parent
#: a module may import from its own layer and from those before it
LAYERS = (
    ("errors", "files", "bundles", "progress", "numerics", "devices", "kernels", "output", "runs"),
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


SCRIPTS = [*(ROOT.parent / "experiments").glob("*.py"), *(ROOT.parent / "benchmarks").glob("*.py")]


@pytest.mark.parametrize("path", sorted(SCRIPTS), ids=lambda p: p.stem)
def test_every_name_an_experiment_takes_from_the_package_is_there(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("latentrot"):
            home = importlib.import_module(node.module)
            missing = [a.name for a in node.names if not hasattr(home, a.name)]
            assert not missing, f"{node.module} has no {missing}"


# ---- one protocol -----------------------------------------------------------------------------------------------

#: rooms that know rotators by the protocol alone, but for what is about one method: its command, its example, its benchmark
ASKING = ("portrait", "evaluation", "app", "cli", "info")
OF_ONE_METHOD = {
    "portrait/spin.py", "cli/spin.py", "cli/pair.py", "evaluation/example.py", "evaluation/bench/compare.py",
}  # fmt: skip
KINDS = {"latent", "mesh", "pair", "spin"}


def knowing(path):
    """What a module knows of one kind of rotator: imports of its modules, its class in isinstance, its name compared."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        module = (getattr(node, "module", None) or "").split(".")
        if isinstance(node, ast.ImportFrom) and module[:2] == ["latentrot", "rotators"] and KINDS & set(module[2:3]):
            yield node.module
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
            yield from (n.id for n in ast.walk(node.args[1]) if isinstance(n, ast.Name) and n.id.endswith("Rotator"))
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            words = [s for side in sides for s in (side.elts if isinstance(side, ast.Tuple | ast.Set) else [side])]
            yield from (w.value for w in words if isinstance(w, ast.Constant) and w.value in KINDS)


@pytest.mark.parametrize("room", ASKING)
def test_no_room_asks_for_a_rotator_by_type_or_name(room):
    modules = [p for p in MODULES if part_of(p) == room and str(p.relative_to(ROOT)) not in OF_ONE_METHOD]
    assert modules
    found = {str(p.relative_to(ROOT)): known for p in modules if (known := list(knowing(p)))}
    assert not found
