"""Edits that last: what a report records is repeated on something else; what changes nothing is the identity."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import latentrot
from latentrot import cli
from latentrot.bundles import HOME, PORTRAIT, PROPERTIES, bundled_folder, part_in
from latentrot.data.animation import open_animation, write_animation
from latentrot.data.images import read_image
from latentrot.data.metadata import read_metadata
from latentrot.directions.properties import by, to
from latentrot.errors import LatentrotError
from latentrot.portrait.edit_request import EditRequest
from latentrot.portrait.portrait import EditConfig
from latentrot.portrait.recipe import Recipe, read_recipe
from latentrot.portrait.turns import Turn
from latentrot.rotators.mesh.rotator import MeshRotator

needs_networks = pytest.mark.skipif(not (HOME / "face").is_dir(), reason="no networks to find landmarks with")
FACES = bundled_folder("faces64")
needs_properties = pytest.mark.skipif(
    FACES is None or part_in(FACES, PROPERTIES) is None, reason="faces64 and its properties are not in this build"
)


@pytest.fixture
def photo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Image.open(PORTRAIT) as portrait:
        portrait.convert("RGB").resize((256, 256), Image.Resampling.LANCZOS).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def run(capsys, *argv):
    """`latentrot edit` with these words -> exit code, the last report printed, standard error."""
    code = cli.main(["edit", *map(str, argv)])
    printed = capsys.readouterr()
    lines = [line for line in printed.out.splitlines() if line.startswith("{")]
    return code, json.loads(lines[-1]) if lines else {}, printed.err


def told(path):
    return json.loads(read_metadata(Path(path))["latentrot"])


def test_a_recipe_comes_back_from_its_report(tmp_path):
    asked = EditRequest((Turn(-12.5, 3.0, 1.25), Turn(7)), True, ({"age": to(60), "smile": by(-0.5)}, {}), True)
    recipe = Recipe.of(
        asked, EditConfig(trust=0.25, face="2"), rotator="pair", options={"steps": 7}, digests={"model": "ab"}
    )
    (tmp_path / "report.json").write_text(json.dumps({"edit": recipe.as_json()}))
    assert read_recipe(tmp_path / "report.json") == recipe
    line = json.dumps({"edit": recipe.as_json()})
    (tmp_path / "lines.json").write_text(f"{line}\n{line}\n")
    assert read_recipe(tmp_path / "lines.json") == recipe
    recipe.require_same({"model": "ab"})
    with pytest.raises(LatentrotError, match="model ab, but here it is cd"):
        recipe.require_same({"model": "cd"})
    with pytest.raises(LatentrotError, match="directions none, but here it is ef"):
        recipe.require_same({"model": "ab", "directions": "ef"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot read the report"),
        ("[1]", "records no edit"),
        ('{"yaw_after_deg": 3}', "records no edit"),
        ('{"edit": {"format": 9}}', "has format 9"),
        ('{"edit": {"format": 1, "turns": "x"}}', "edit is invalid"),
    ],
)
def test_what_is_no_report_is_refused(text, words, photo, capsys):
    (photo.parent / "report.json").write_text(text)
    code, _, err = run(capsys, photo, "--edit", "report.json")
    assert code == 2
    assert words in err


@needs_networks
def test_a_report_is_repeated_on_another_image_a_folder_and_a_video(photo, capsys):
    assert run(capsys, photo, "--sweep", "-8:8:2", "--pitch", "4", "--rotator", "mesh", "--out", "first")[0] == 0
    first = read_image("first/turned-01.png")
    # on the same photograph: the same edit, bit for bit
    code, report, _ = run(capsys, photo, "--edit", "first/report.json", "--out", "again", "--json")
    assert code == 0
    assert np.array_equal(read_image("again/turned-01.png"), first)
    assert report["edit"] == json.loads((photo.parent / "first/report.json").read_text())["edit"]
    # on a folder, and from what --json printed
    (photo.parent / "printed.json").write_text(json.dumps(report))
    (photo.parent / "many").mkdir()
    photo.rename(photo.parent / "many/one.png")
    assert run(capsys, "many", "--edit", "printed.json", "--out", "views")[0] == 0
    assert np.array_equal(read_image("views/one/one_yaw+8_pitch+4.png"), first)
    code, _, err = run(capsys, "many", "--edit", "printed.json", "--deg", "3")
    assert (code, "leave out --deg" in err) == (2, True)
    code, _, err = run(capsys, "many", "--edit", "printed.json", "--fast")
    assert (code, "the options of the rotator" in err) == (2, True)


@needs_networks
def test_a_turn_is_repeated_on_a_video_and_both_edits_are_noted(photo, capsys):
    code, report, _ = run(
        capsys, photo, "--deg", "6", "--rotator", "mesh", "--light-follows", "--out", "a.png", "--json"
    )
    assert code == 0
    assert report["edit"]["config"]["light_follows"] is True
    (photo.parent / "a.json").write_text(json.dumps(report))
    image = read_image(photo)
    write_animation("clip.webp", [image, np.roll(image, 2, 1), np.roll(image, 4, 1)], 100)
    code, moving, _ = run(capsys, "clip.webp", "--edit", "a.json", "--out", "turned.webp", "--json")
    assert code == 0
    assert moving["turned"] == 3
    assert moving["edit"] == report["edit"]
    # the edited photograph edited again by the same report
    assert run(capsys, "a.png", "--edit", "a.json", "--out", "b.png")[0] == 0
    assert told("b.png")["asked_deg"] == told("b.png")["earlier"]["asked_deg"] == [6.0]
    assert "earlier" not in told("b.png")["earlier"]
    # and the video again by the video's own report
    (photo.parent / "v.json").write_text(json.dumps(moving))
    assert run(capsys, "turned.webp", "--edit", "v.json", "--out", "twice.webp")[0] == 0
    assert told("twice.webp")["requested_deg"] == told("twice.webp")["earlier"]["requested_deg"] == 6.0


@needs_networks
def test_reports_of_python_are_repeated_by_the_command(photo, capsys):
    edited = latentrot.edit(photo, yaw=[5, 9], rotator="mesh")
    (photo.parent / "r.json").write_text(json.dumps(edited.report))
    assert run(capsys, photo, "--edit", "r.json", "--out", "out")[0] == 0
    assert np.array_equal(read_image("out/turned-01.png"), edited.image_at(1))
    by_object = latentrot.edit(photo, yaw=5, rotator=MeshRotator())
    (photo.parent / "o.json").write_text(json.dumps(by_object.report))
    code, _, err = run(capsys, photo, "--edit", "o.json")
    assert (code, "rotator object" in err) == (2, True)


@needs_networks
@pytest.mark.parametrize("name", ["face networks"])
def test_other_networks_are_refused(name, photo, capsys):
    code, report, _ = run(capsys, photo, "--deg", "6", "--rotator", "mesh", "--out", "a.png", "--json")
    assert code == 0
    report["edit"]["digests"][name] = "0" * 16
    (photo.parent / "r.json").write_text(json.dumps(report))
    code, _, err = run(capsys, photo, "--edit", "r.json", "--out", "b.png")
    assert code == 2
    assert f"the report records {name} {'0' * 16}" in err
    assert not (photo.parent / "b.png").exists()


@needs_networks
@needs_properties
def test_properties_and_directions_are_part_of_a_report(photo, capsys):
    code, report, _ = run(capsys, photo, "--set", "smile=+0.5", "--out", "a.png", "--json")
    assert code == 0
    assert report["edit"]["settings"] == [{"smile": "+0.5"}]
    (photo.parent / "r.json").write_text(json.dumps(report))
    assert run(capsys, photo, "--edit", "r.json", "--out", "b.png")[0] == 0
    assert np.array_equal(read_image("b.png"), read_image("a.png"))
    report["edit"]["digests"]["property directions"] = "other"
    (photo.parent / "r.json").write_text(json.dumps(report))
    code, _, err = run(capsys, photo, "--edit", "r.json")
    assert code == 2
    assert "property directions other" in err


@needs_networks
def test_directions_of_turns_and_the_model_are_part_of_a_report(photo, capsys):
    code, report, _ = run(capsys, photo, "--deg", "4", "--fast", "--out", "a.png", "--json")
    assert code == 0
    assert report["edit"]["options"] == {"fast": True}
    assert set(report["edit"]["digests"]) == {"model", "directions"}
    (photo.parent / "r.json").write_text(json.dumps(report))
    assert run(capsys, photo, "--edit", "r.json", "--out", "b.png")[0] == 0
    assert np.array_equal(read_image("b.png"), read_image("a.png"))


# ---- edits of nothing -------------------------------------------------------------------------------------------


@needs_networks
@pytest.mark.parametrize(
    "words", [("--deg", "0", "--rotator", "mesh"), ("--deg", "0", "--fast"), ("--deg", "0", "--pitch", "0")]
)
def test_a_turn_of_nothing_is_the_photograph_pixel_for_pixel(words, photo, capsys):
    code, report, _ = run(capsys, photo, *words, "--out", "same.png", "--json")
    assert code == 0
    assert np.array_equal(read_image("same.png"), read_image(photo))
    assert report["requested_deg"] == 0
    assert told("same.png")["asked_deg"] == [0.0]


@needs_networks
@needs_properties
@pytest.mark.parametrize("words", [("smile=+0",), ("smile=+0", "age=-0")])
def test_properties_changed_by_nothing_are_the_photograph_pixel_for_pixel(words, photo, capsys):
    code, report, _ = run(capsys, photo, "--set", *words, "--out", "same.png", "--json")
    assert code == 0
    assert np.array_equal(read_image("same.png"), read_image(photo))
    for name in (w.partition("=")[0] for w in words):
        assert report["properties"][name]["step"] == 0
        assert report["properties"][name].get("after") == report["properties"][name].get("before")


def test_setting_nothing_and_turning_nothing_is_refused(photo, capsys):
    code, _, err = run(capsys, photo, "--set")
    assert code == 2
    assert "got none of them" in err


@needs_networks
def test_a_video_turned_by_nothing_is_decoded_and_encoded_once(photo, capsys):
    image = read_image(photo)
    frames = [np.roll(image, 3 * i, 1) for i in range(3)]
    write_animation("clip.webp", frames, 100)
    decoded = list(open_animation(photo.parent / "clip.webp").frames)
    write_animation("once.webp", [f.pixels for f in decoded], [round(1000 * f.seconds) for f in decoded])
    code, report, _ = run(capsys, "clip.webp", "--deg", "0", "--rotator", "mesh", "--out", "same.webp", "--json")
    assert code == 0
    assert report["turned"] == 3
    same, once = (list(open_animation(photo.parent / name).frames) for name in ("same.webp", "once.webp"))
    assert [f.start for f in same] == [f.start for f in once]
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(same, once, strict=True))


@needs_networks
def test_an_mp4_turned_by_nothing_is_decoded_and_encoded_once(photo, capsys):
    pytest.importorskip("av", reason="videos need PyAV")
    from latentrot.data.video import encode_mp4, open_video  # noqa: PLC0415  an extra's

    image = read_image(photo)
    write_animation("clip.mp4", [np.roll(image, 3 * i, 1) for i in range(3)], 100)
    clip = open_video(photo.parent / "clip.mp4")
    encode_mp4(photo.parent / "once.mp4", list(clip.frames), {"Software": "latentrot"}, clip)
    assert run(capsys, "clip.mp4", "--deg", "0", "--fast", "--out", "same.mp4")[0] == 0
    same, once = (list(open_video(photo.parent / name).frames) for name in ("same.mp4", "once.mp4"))
    assert [(f.start, f.seconds) for f in same] == [(f.start, f.seconds) for f in once]
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(same, once, strict=True))
