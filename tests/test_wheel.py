"""What a wheel holds, and what it says of it: with the networks learned from research-only photographs, and without."""

import email
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from latentrot.bundles import HOME, RESEARCH_ONLY, card_of
from latentrot.cli import main

pytest.importorskip("hatchling", reason="building a wheel needs hatchling")
ROOT = Path(__file__).resolve().parents[1]
BUILD = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
RESEARCH = "LicenseRef-latentrot-research-only"


def build(out: Path, **variables: str) -> zipfile.ZipFile:
    out.mkdir()
    command = [sys.executable, "-c", BUILD, str(out)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, check=True)
    return zipfile.ZipFile(out / done.stdout.split()[-1])


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    return build(tmp_path_factory.mktemp("wheel") / "full")


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    return build(tmp_path_factory.mktemp("wheel") / "bare", LATENTROT_WITHOUT_RESEARCH_WEIGHTS="1")


def said(wheel: zipfile.ZipFile):
    name = next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(wheel.read(name))


def bundled(wheel: zipfile.ZipFile) -> set[str]:
    return {n.split("/")[2] for n in wheel.namelist() if n.startswith("latentrot/bundled/") and n.count("/") > 2}


def test_a_full_wheel_states_its_research_only_networks(full):
    assert said(full)["License-Expression"] == f"MIT AND {RESEARCH}"
    assert f"LICENSES/{RESEARCH}.txt" in said(full).get_all("License-File")
    assert bundled(full) == {p.name for p in HOME.iterdir() if p.is_dir()}
    assert "latentrot/py.typed" in full.namelist()  # type checkers read the package's own annotations


def test_a_bare_wheel_holds_none_of_them_and_is_mit(full, bare):
    assert said(bare)["License-Expression"] == "MIT"
    assert f"LICENSES/{RESEARCH}.txt" not in said(bare).get_all("License-File")
    assert {"LICENSES/MIT-ICT-FaceKit.txt", "LICENSES/MIT-facenet-pytorch.txt"} <= set(
        said(bare).get_all("License-File")
    )
    assert bundled(bare) == bundled(full) - set(RESEARCH_ONLY)
    code = [{n for n in w.namelist() if n.endswith(".py")} for w in (full, bare)]
    assert code[0] == code[1]


def test_every_bundle_has_a_card_that_states_its_terms():
    for folder in (p for p in HOME.iterdir() if p.is_dir()):
        card = card_of(folder)
        assert card.get("license_terms"), folder
        assert (card["license"] == "mit") == (folder.name not in RESEARCH_ONLY)


@pytest.fixture(scope="module")
def unpacked(bare, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    bare.extractall(folder)
    return folder


def run(site: Path, *words: str, models: Path) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {"PYTHONPATH": str(site), "LATENTROT_MODELS": str(models)}
    command = [sys.executable, "-m", "latentrot.cli", *words]
    return subprocess.run(command, cwd=models, env=variables, capture_output=True, text=True, check=False)


def test_a_bare_build_names_missing_models_and_their_folder(unpacked, tmp_path):
    assert "not in this build" in run(unpacked, "--version", models=tmp_path).stdout
    done = run(unpacked, "info", "faces64", models=tmp_path)
    assert done.returncode == 2
    assert str(tmp_path / "faces64") in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_put_where_models_go_is_found_by_its_name(unpacked, tmp_path):
    (tmp_path / "faces64").symlink_to(HOME / "faces64")
    done = run(unpacked, "info", "faces64", models=tmp_path)
    assert done.returncode == 0, done.stderr
    assert RESEARCH in done.stdout


def test_version_and_info_tell_the_terms(capsys):
    assert main(["--version"]) == 0
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert "faces64" in line
    assert main(["info", "faces64"]) == 0
    told = capsys.readouterr().out
    assert RESEARCH in told
    assert "non-commercial research" in told
