"""The manual keeps its word: its links lead somewhere, its commands and its examples run as written.

A shell or Python block is run in a folder that holds what a reader would have: photographs, a CelebA folder, rendered heads;
each page has its own, and its blocks follow one another. A block whose first line is a comment that begins with `# needs`
says what is missing here, and is not run.
"""

import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import latentrot
from latentrot.bundles import HOME, PORTRAIT, bundled_example
from latentrot.cli import COMMANDS, main
from latentrot.data.frame import CROP_BOX

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(p for p in DOCS.rglob("*.md") if "_build" not in p.parts),
]
CARDS = sorted(HOME.glob("*/README.md"))
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
NEEDS = "# needs "
FACE = HOME / "face"


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks_of(page: Path) -> list[tuple[str, str]]:
    return [(m[1], m[2]) for m in BLOCK.finditer(page.read_text())]


def anchors_of(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", t.lower()).strip().replace(" ", "-") for t in titles}


# ---- links ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "page", [*PAGES, *CARDS, ROOT / "experiments/README.md", ROOT / "data_labels/README.md"], ids=name_of
)
def test_every_relative_link_and_figure_is_there(page):
    for link in LINK.findall(page.read_text()):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)} links to {link}"
        assert not anchor or anchor in anchors_of(target), f"{name_of(page)}: {link} names no heading"


def test_every_bundled_network_has_a_card_and_the_manual_shows_it():
    shown = (DOCS / "reference/models.md").read_text()
    for card in CARDS:
        assert f"bundled/{card.parent.name}/README.md" in shown


def test_every_page_is_in_the_contents():
    index = (DOCS / "index.md").read_text()
    for page in PAGES:
        if page.is_relative_to(DOCS) and page.name != "index.md":
            assert f"\n{page.relative_to(DOCS).with_suffix('')}\n" in index, page


# ---- commands ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def belongings(tmp_path_factory) -> Path:
    """What a reader has: photo.jpg, group.jpg, photos/, people/, crop.png, heads/ and views/, celeba/."""
    folder = tmp_path_factory.mktemp("reader")
    portrait = Image.open(PORTRAIT).convert("RGB")
    portrait.save(folder / "photo.jpg", quality=95)
    portrait.save(folder / "group.jpg", quality=95)
    (folder / "photos").mkdir()
    portrait.save(folder / "photos" / "one.jpg", quality=95)
    (folder / "people" / "ann").mkdir(parents=True)
    portrait.resize((256, 256)).save(folder / "people" / "ann" / "one.jpg", quality=95)
    example = bundled_example("heads64")
    shutil.copyfile(example / "img_align_celeba" / "000004.png", folder / "crop.png")
    shutil.copytree(example, folder / "views")
    shutil.copytree(example, folder / "heads")
    write_celeba(folder / "celeba", example)
    shutil.copyfile(ROOT / "examples" / "cylinder_rotator.py", folder / "cylinder_rotator.py")
    return folder


def write_celeba(folder: Path, example: Path) -> None:
    """Aligned images in CelebA's layout: the views of the rendered head and their mirror images."""
    pictures = folder / "img_align_celeba"
    pictures.mkdir(parents=True)
    left, top, right, bottom = (v // 2 for v in CROP_BOX)
    attributes = []
    for number in range(14):
        crop = np.asarray(Image.open(example / "img_align_celeba" / f"{number % 7 + 1:06d}.png").convert("RGB"))
        crop = crop[:, ::-1] if number // 7 % 2 else crop
        frame = np.pad(crop, ((top, 109 - bottom), (left, 89 - right), (0, 0)), mode="edge")
        name = f"{number + 1:06d}.jpg"
        Image.fromarray(frame).save(pictures / name, quality=95)
        attributes.append({"image_id": name, "Male": 1, "Eyeglasses": -1})
    pd.DataFrame(attributes).to_csv(folder / "list_attr_celeba.csv", index=False)
    names = [row["image_id"] for row in attributes]
    pd.DataFrame({"image_id": names, "identity": range(1, 15)}).to_csv(folder / "identity_CelebA.csv", index=False)


def shell_lines(block: str) -> list[list[str]]:
    lines = [shlex.split(line, comments=True) for line in block.replace("\\\n", " ").splitlines()]
    return [words for words in lines if words]


def run_line(words: list[str]) -> None:
    assert words[0] == "latentrot", (
        f"{shlex.join(words)}: only latentrot's own commands are run; mark the block with {NEEDS!r}"
    )
    assert main(words[1:]) == 0, f"{shlex.join(words)} failed"


RUNNABLE = [p for p in PAGES if any(not text.startswith(NEEDS) for _, text in blocks_of(p))]


@pytest.mark.parametrize("page", RUNNABLE, ids=name_of)
def test_what_the_page_says_runs_as_written(page, belongings, tmp_path, monkeypatch):
    here = shutil.copytree(belongings, tmp_path / "reader")
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "path", list(sys.path))  # a rotator of the reader's own is looked for in this folder
    run: dict[str, object] = {"__name__": "page"}
    left_out = []
    for kind, text in blocks_of(page):
        if text.startswith(NEEDS):
            continue
        if not FACE.is_dir() and re.search(r"photo|group|demo --out|PORTRAIT", text):
            left_out.append(text.splitlines()[0])  # a photograph is turned with the networks that are not in this build
            continue
        if kind == "python":
            exec(compile(text, name_of(page), "exec"), run)
            continue
        for words in shell_lines(text):
            run_line(words)
    if left_out:
        pytest.skip(f"no networks in {FACE}: not run: {'; '.join(left_out)}")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_blocks_that_are_not_run_say_why_and_name_commands_that_exist(page):
    for kind, text in blocks_of(page):
        if text.startswith(NEEDS):
            assert len(text.splitlines()[0]) > len(NEEDS) + 5
        if kind == "sh":
            named = {words[1] for words in shell_lines(text) if words[0].endswith("latentrot")}
            assert named <= {*COMMANDS, "--version"}, f"{name_of(page)}: {named}"


# ---- examples ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_examples_are_short_and_run(example, tmp_path, monkeypatch, capsys):
    assert len(example.read_text().splitlines()) < 40
    if example.name == "turn_photograph.py" and not FACE.is_dir():
        pytest.skip(f"no networks in {FACE} to turn a photograph with")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(example)])
    runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out or example.name == "cylinder_rotator.py"


def test_six_examples_and_each_is_on_the_start_page():
    assert len(EXAMPLES) == 6
    for example in EXAMPLES:
        assert f"../examples/{example.name}" in (DOCS / "start.md").read_text()


# ---- the rotator of the page that says how ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def cylinder():
    made = runpy.run_path(str(ROOT / "examples" / "cylinder_rotator.py"))
    return made["CylinderRotator"]()


def test_the_page_shows_the_rotator_that_is_tested_and_it_is_short():
    assert "../../examples/cylinder_rotator.py" in (DOCS / "howto" / "rotator.md").read_text()
    assert len((ROOT / "examples" / "cylinder_rotator.py").read_text().splitlines()) < 30


def test_the_cylinder_obeys_the_mirror_law_and_keeps_still(cylinder):
    picture = np.random.default_rng(0).integers(0, 256, (33, 33, 3), np.uint8)
    assert np.array_equal(cylinder.rotate(picture, 0), picture)
    turned, mirrored = cylinder.rotate(picture, 20), cylinder.rotate(picture[:, ::-1], -20)[:, ::-1]
    assert np.mean(turned != mirrored) < 0.05  # columns that lie half-way between two are rounded one way


def test_the_cylinder_is_better_than_the_baseline_nothing(cylinder):
    found = latentrot.evaluate({"cylinder": cylinder}, bundled_example("heads64"))
    near = found.rows[found.rows["requested_deg"].abs() == 15].groupby("way")["squared_error"].mean()
    assert 0 < near["cylinder"] < 0.2
    assert 0 < near["nothing"] < 0.2
    assert near["cylinder"] != near["nothing"]
