"""What is printed cannot undo what was written: streams that are closed, full, or cannot show a name."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import latentrot

ROOT = Path(latentrot.__file__).parents[1]
COMMAND = (
    "import sys, latentrot.cli as cli\n"
    "class Fake:\n"
    "    def run(self):\n"
    "        open('written', 'w').write('whole')\n"
    "        print('日本.jpg', 'Jos\\udce9.jpg')\n"
    "        print('note', file=sys.stderr)\n"
    "cli.tyro.extras.subcommand_cli_from_dict = lambda *_, **__: Fake()\n"
    "sys.exit(cli.main(['fake']))\n"
)


def run(folder: Path, redirect: str = "", encoding: str = "utf-8") -> subprocess.CompletedProcess[str]:
    """A command that writes a file and prints names, its streams redirected by a shell."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding, "PYTHONUNBUFFERED": ""}
    command = f'"{sys.executable}" -c "$CODE" {redirect}'
    return subprocess.run(
        ["/bin/sh", "-c", command], cwd=folder, env={**environment, "CODE": COMMAND}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="redirected by sh")
@pytest.mark.parametrize("redirect", ["", ">&-", "2>&-", "<&- >&- 2>&-"], ids=["open", "stdout", "stderr", "all"])
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "ascii"])
def test_streams_that_are_closed_or_narrow(tmp_path, redirect, encoding):
    """The file is written and the exit code says so."""
    done = run(tmp_path, redirect, encoding)
    assert (done.returncode, (tmp_path / "written").read_text()) == (0, "whole")
    assert "Traceback" not in done.stderr


def test_a_name_that_cannot_be_shown_is_escaped(tmp_path):
    """It can still be told which file is meant."""
    assert run(tmp_path, encoding="cp1252").stdout.split() == ["\\u65e5\\u672c.jpg", "Jos\\udce9.jpg"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_output_that_is_full_is_one_line(tmp_path):
    """What was asked for is there; what could not be printed is told."""
    done = run(tmp_path, ">/dev/full")
    assert (done.returncode, (tmp_path / "written").read_text()) == (2, "whole")
    assert done.stderr.splitlines() == ["note", "latentrot: cannot write to standard output: No space left on device"]


@pytest.mark.parametrize("module", ["latentrot", "latentrot.cli"])
def test_the_package_runs_as_a_module(module):
    """`python -m latentrot` is the command."""
    done = subprocess.run(
        [sys.executable, "-m", module, "--version"], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith(f"latentrot {latentrot.__version__}")
