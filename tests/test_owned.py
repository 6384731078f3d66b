"""One rule for every command that writes a folder: its files are one run's, and no two outputs share a name."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from latentrot.bundles import PORTRAIT
from latentrot.cli import main
from latentrot.data.images import Photograph, read_image, write_image
from latentrot.evaluation import label_check
from latentrot.evaluation.label_check import write_check
from latentrot.files import free_path
from latentrot.output import list_path, output_folder
from latentrot.portrait.compose import Patch
from latentrot.portrait.face import EditedFace
from latentrot.portrait.folder import edit_folder, list_photographs
from latentrot.portrait.photograph import Edited, Variation
from latentrot.portrait.portrait import EditConfig, Portrait
from latentrot.portrait.properties import Appearance
from latentrot.portrait.results import write_edited
from latentrot.portrait.spin import Spun, drawn_images, write_between, write_spun
from latentrot.portrait.turns import Turn
from latentrot.rotators.protocol import RotatedCrop, RotatedCrops
from latentrot.rotators.spin.sample import SpinViews

SQUARE = np.full((32, 32, 3), 90, np.uint8)


def edited(path: Path, count: int) -> Edited:
    """A square and `count` turns of it."""
    frames = [RotatedCrop(float(i), float(i), 0.0, "left", SQUARE) for i in range(count)]
    turned = RotatedCrops(SQUARE, SQUARE, 0.0, 0.0, "left", frames, float("inf"))
    face = EditedFace(turned, tuple(Turn(float(i)) for i in range(count)), None)
    photograph = Photograph(SQUARE, SQUARE)
    same = Appearance(Portrait(path, photograph), Patch((0, 0, 0, 0), SQUARE[:0, :0], 1.0, None))
    return Edited(path, photograph, (Variation(same, (face,)),), "none", [], EditConfig(crop=True))


def views(count: int) -> SpinViews:
    poses = torch.tensor([[float(i), 0.0] for i in range(count)])
    return SpinViews(torch.zeros(count, 6, 16, 16), poses)


def spun(count: int) -> Spun:
    return Spun(views(count), drawn_images(views(count)), (), {})


def write_photographs(out: Path, count: int, turns: int) -> None:
    """A folder of `count` photographs, each turned so often."""
    source = out.with_name(f"{out.name}-{count}-{turns}")
    source.mkdir()
    for i in range(count):
        write_image(source / f"{i}.png", SQUARE)
    list(edit_folder(list_photographs(source), out, lambda p: edited(p, turns)))


#: every writer of folders: a large and a small run
WRITERS: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    "edit": (lambda o: write_edited(edited(Path("a.png"), 5), o), lambda o: write_edited(edited(Path("a.png"), 2), o)),
    "folder": (lambda o: write_photographs(o, 3, 1), lambda o: write_photographs(o, 2, 1)),
    "folder, sweep": (lambda o: write_photographs(o, 3, 3), lambda o: write_photographs(o, 2, 2)),
    "folder, sweep, then one": (lambda o: write_photographs(o, 3, 3), lambda o: write_photographs(o, 3, 1)),
    "spin": (
        lambda o: write_spun(spun(6), o, motion="gif", mesh=None),
        lambda o: write_spun(spun(4), o, motion="webp", mesh=None),
    ),
    "spin, then between": (
        lambda o: write_spun(spun(6), o, motion="gif", mesh=None),
        lambda o: write_between([views(7)] * 2, o, {}, motion="gif"),
    ),
}


def files_in(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_holds_the_last_run_only(tmp_path, name):
    """As if it had been the first one; files of the user's stay."""
    large, small = WRITERS[name]
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    large(out)
    more = files_in(out)
    (out / "mine.txt").write_text("kept")
    small(out)
    small(fresh) if name.startswith(("edit", "spin")) else None
    after = files_in(out) - {"mine.txt"}
    assert (out / "mine.txt").read_text() == "kept"
    assert after != more
    if fresh.exists():
        assert after == files_in(fresh)
    if (out / "views.csv").is_file():
        assert {str(Path(f)) for f in pd.read_csv(out / "views.csv")["file"]} == {
            f for f in after if f.endswith(".png")
        }


def test_aligned_images_are_one_run(tmp_path, monkeypatch):
    """The image of a photograph that is gone goes, too, and so do those of another size."""
    monkeypatch.chdir(tmp_path)
    photo = read_image(PORTRAIT)
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b.png"):
        write_image(tmp_path / "photos" / name, photo)
    assert main(["align", "photos", "--out", "out"]) == 0
    assert files_in(tmp_path / "out") == {"a.png", "b.png", "transforms.csv"}
    (tmp_path / "photos" / "b.png").unlink()
    assert main(["align", "photos", "--out", "out", "--size", "64"]) == 0
    assert files_in(tmp_path / "out") == {"a.png", "transforms.csv"}
    assert list(pd.read_csv(tmp_path / "out" / "transforms.csv")["image_id"]) == ["a.png"]


def test_changed_files_are_not_removed(tmp_path):
    """A file that somebody has worked on is theirs."""
    for names in (("a.png", "b.png"), ("c.png",)):
        with output_folder(tmp_path / "out") as written:
            for name in names:
                write_image(tmp_path / "out" / name, SQUARE)
                written.add(tmp_path / "out" / name)
        if "b.png" in names:
            write_image(tmp_path / "out" / "b.png", 2 * SQUARE)
    assert files_in(tmp_path / "out") == {"b.png", "c.png"}


def test_a_run_that_fails_removes_nothing(tmp_path):
    """What it wrote is listed with what was there, for the next one."""
    out = tmp_path / "out"

    def run(name: str, fail: bool = False) -> None:
        with output_folder(out) as written:
            write_image(out / name, SQUARE)
            written.add(out / name)
            if fail:
                raise KeyboardInterrupt

    run("a.png")
    with pytest.raises(KeyboardInterrupt):
        run("b.png", fail=True)
    assert files_in(out) == {"a.png", "b.png"}
    run("c.png")
    assert files_in(out) == {"c.png"}


def test_a_list_cannot_name_files_elsewhere(tmp_path):
    """Lists are files that anybody may edit."""
    write_image(tmp_path / "outside.png", SQUARE)
    with output_folder(tmp_path / "out") as written:
        write_image(tmp_path / "out" / "a.png", SQUARE)
        written.add(tmp_path / "out" / "a.png", tmp_path / "outside.png")
    assert "../outside.png" in json.loads(list_path(tmp_path / "out").read_text())["files"]
    with output_folder(tmp_path / "out"):
        pass
    assert files_in(tmp_path / "out") == set()
    assert read_image(tmp_path / "outside.png").shape == SQUARE.shape


def test_an_empty_output_folder_is_removed(tmp_path):
    """Where it was new; otherwise it stays."""
    with output_folder(tmp_path / "new"):
        pass
    (tmp_path / "old").mkdir()
    with output_folder(tmp_path / "old"):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["old"]


@pytest.mark.skipif(os.name == "nt", reason="names are text on this system")
def test_names_that_are_no_text_are_escaped_in_tables(tmp_path):
    """A name in Latin-1 bytes: its images and its table are there."""
    source = tmp_path / "given"
    source.mkdir()
    for name in (b"a.png", b"Jos\xe9.png"):
        write_image(tmp_path / "x.png", SQUARE)
        os.rename(tmp_path / "x.png", source / os.fsdecode(name))
    outcomes = list(edit_folder(list_photographs(source), tmp_path / "out", lambda p: edited(p, 2)))
    assert [o.error for o in outcomes] == ["", ""]
    table = pd.read_csv(tmp_path / "out" / "views.csv")
    assert sorted(set(table["source"])) == ["Jos\\udce9.png", "a.png"]
    assert len(files_in(tmp_path / "out")) == 5


def test_default_names_overwrite_nothing(tmp_path):
    """The next free number is taken."""
    for name in ("p-turned.png", "p-turned-2.png"):
        assert free_path(tmp_path / "p-turned.png") == tmp_path / name
        write_image(tmp_path / name, SQUARE)


def test_the_label_check_is_one_run(tmp_path, monkeypatch):
    """Its figures and its report."""
    figure = SimpleNamespace(savefig=lambda p, **_: p.write_bytes(b"x"))
    monkeypatch.setattr(label_check, "confusion_figure", lambda *_: figure)
    monkeypatch.setattr(label_check, "yaw_error_figure", lambda *_: figure)
    report = {"pose": {"estimator": "x", "yaw_mae_deg": 1.0, "pictures": 1}, "light": {"pictures": 1}}
    check = SimpleNamespace(report=report, confusion=None, yaw_deg=np.zeros((1, 2)))
    written = write_check(check, tmp_path / "out")  # type: ignore[arg-type]
    assert sorted(json.loads(list_path(tmp_path / "out").read_text())["files"]) == sorted(p.name for p in written)
