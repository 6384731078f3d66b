"""What a command imports before it has to: asking for help and being refused wait for no network's library."""

import subprocess
import sys

import pytest

from latentrot.bundles import PORTRAIT

#: what takes long to import; nothing of it is needed to say no
HEAVY = ("torch", "diffusers", "accelerate", "pandas", "scipy", "sklearn", "matplotlib", "numba", "cv2", "gradio")
#: beside torch, what turning a photograph has no use for
NEEDLESS = ("diffusers", "accelerate", "pandas", "scipy.stats", "sklearn", "matplotlib", "torchvision", "torch._dynamo")

#: runs a command, then says which of the modules named after "--" it had imported
RUN = """
import sys
from latentrot.cli import main
split = sys.argv.index("--")
try:
    code = main(sys.argv[1:split])
except SystemExit as exit:
    code = exit.code
print("imported:", *(name for name in sys.argv[split + 1:] if name in sys.modules), "code:", code or 0)
"""


def run(*argv: object, among: tuple[str, ...] = HEAVY) -> tuple[list[str], int]:
    """Which modules a command imported, and its exit code."""
    command = [sys.executable, "-c", RUN, *map(str, argv), "--", *among]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    words = done.stdout.splitlines()[-1].split()
    return words[1 : words.index("code:")], int(words[-1])


@pytest.mark.parametrize(
    "argv", [["--help"], ["--version"], ["edit", "--help"], ["train", "model", "--help"]], ids=" ".join
)
def test_help_imports_nothing_heavy(argv):
    assert run(*argv) == ([], 0)


@pytest.mark.parametrize(
    "argv",
    [
        ["nowhere.jpg", "--deg", 15],
        [PORTRAIT, "--deg", 15, "--to", 3],
        [PORTRAIT, "--deg", 900],
        [PORTRAIT, "--deg", 15, "--out", "turned.xyz"],
        [PORTRAIT, "--deg", 15, "--trust", 2],
        [__file__, "--deg", 15, "--out", "turned.png"],
        [PORTRAIT, "--deg", 15, "--model", "nosuchmodel"],
        [PORTRAIT, "--deg", 15, "--directions", "nowhere"],
        [PORTRAIT, "--deg", 15, "--rotator", "mesh", "--fast"],
    ],
    ids=lambda argv: " ".join(map(str, argv[1:])),
)
def test_a_refusal_imports_nothing_heavy(argv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("edit", *argv) == ([], 2)


def test_turning_a_photograph_imports_only_what_it_uses(tmp_path):
    argv = ["edit", PORTRAIT, "--deg", 5, "--fast", "--out", tmp_path / "turned.png"]
    assert run(*argv, among=("torch", *NEEDLESS)) == (["torch"], 0)
