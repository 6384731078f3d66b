"""Properties through every door: the words of a command, a photograph, a sweep, a folder, a video, the page."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import latentrot
from latentrot import cli
from latentrot.bundles import PORTRAIT, PROPERTIES, bundled_folder, part_in
from latentrot.data.images import read_image
from latentrot.directions.properties import by, property_named, to
from latentrot.errors import LatentrotError
from latentrot.portrait.edit_request import LIT, parse_edit, parse_set
from latentrot.portrait.photograph import edit_portrait
from latentrot.portrait.portrait import open_portrait
from latentrot.portrait.properties import StillRotator
from latentrot.portrait.turns import Turn

BUNDLED = bundled_folder("faces64")
needs_properties = pytest.mark.skipif(
    BUNDLED is None or part_in(BUNDLED, PROPERTIES) is None, reason="faces64 and its properties are not in this build"
)


class TestWords:
    def test_signed_is_by_and_unsigned_is_to(self):
        assert parse_set(["smile=+1", "age=60", "bangs=-.5", "light=left"]) == {
            "smile": by(1), "age": to(60), "bangs": by(-0.5), "light_left": to(LIT),
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["smile"], "--set smile: expected NAME=VALUE"),
            (["smile=wide"], "--set smile=wide: expected NAME=VALUE"),
            (["smile=nan"], "expected NAME=VALUE"),
            (["light=above"], "light=left or light=right"),
            (["smile=1", "smile=+1"], "smile is named twice"),
        ],
    )
    def test_mistakes(self, words, said):
        with pytest.raises(LatentrotError, match=said):
            parse_set(words)

    def test_settings_and_rotations(self):
        assert parse_edit(words=["smile=1"]).is_still
        both = parse_edit(deg=10, words=["smile=1"])
        assert not both.is_still
        assert both.turns == (Turn(10.0),)
        swept = parse_edit(sweep="smile=-1:1:5", deg=5, words=["age=+10"])
        assert [s["smile"].value for s in swept.settings] == [-1, -0.5, 0, 0.5, 1]
        assert swept.count == 5
        assert all(s["age"] == by(10) for s in swept.settings)
        with pytest.raises(LatentrotError, match="--set and --sweep both name smile"):
            parse_edit(sweep="smile=-1:1:5", words=["smile=1"])
        with pytest.raises(LatentrotError, match="got none of them"):
            parse_edit()
        with pytest.raises(LatentrotError, match="NAME=FIRST:LAST:COUNT"):
            parse_edit(sweep="smile=1")

    def test_unknown_properties_are_one_line(self, capsys, tmp_path):
        code = cli.main(["edit", str(PORTRAIT), "--set", "wings=1", "--out", str(tmp_path / "o.png")])
        err = capsys.readouterr().err
        assert code == 2
        assert "property 'wings': expected one of" in err
        assert not (tmp_path / "o.png").exists()


@pytest.fixture
def small(tmp_path):
    """The bundled portrait at half its size."""
    picture = Image.open(PORTRAIT).convert("RGB")
    picture.resize((picture.width // 2, picture.height // 2)).save(tmp_path / "small.png")
    return tmp_path / "small.png"


@needs_properties
class TestEdits:
    def test_an_empty_setting_gives_the_photograph_bit_for_bit(self, small):
        edited = latentrot.edit(small, set={"smile": "+0"}, device="cpu")
        assert np.array_equal(edited.image, read_image(small))

    def test_a_smile_changes_nothing_outside_the_face(self, small):
        edited = latentrot.edit(small, set={"smile": "-1"}, device="cpu")
        changed = (edited.image != read_image(small)).any(2)
        assert changed.any()
        (alignment,) = open_portrait(small).alignments
        rows, columns = np.nonzero(changed)
        inside = alignment.to_frame(np.stack([columns, rows], 1).astype(float))
        assert inside.min(0).min() > 25
        assert inside.max() < 185
        row = edited.report["properties"]["smile"]
        assert row["wanted"] == "-1"
        assert row["after"] < row["before"]

    def test_sunglasses_are_worn_or_not(self, small):
        """Half of them would be a smear over the eyes: from half a unit on they are drawn with the longest step."""
        worn = latentrot.edit(small, set={"sunglasses": "+1"}).report["properties"]["sunglasses"]
        assert worn["step"] == property_named("sunglasses").limit[1]
        assert worn["reached"]
        unchanged = latentrot.edit(small, set={"sunglasses": "+0.3"})
        assert np.array_equal(unchanged.image, read_image(small))

    def test_a_sweep_has_a_result_for_each_value(self, small):
        from latentrot.portrait.photograph import load_editor_for  # noqa: PLC0415

        asked = parse_edit(sweep="smile=-1:0:2")
        editor = load_editor_for(StillRotator(), asked, "cpu")
        edited = edit_portrait(open_portrait(small), StillRotator(), asked.turns, None, None, asked.settings, editor)
        assert edited.count == 2
        assert np.array_equal(edited.image_at(1), read_image(small))
        assert not np.array_equal(edited.image_at(0), read_image(small))
        assert len(edited.report["properties"]) == 2

    def test_an_edited_face_is_rotated(self, small):
        plain = latentrot.edit(small, yaw=15, rotator="mesh", device="cpu")
        both = latentrot.edit(small, yaw=15, set={"smile": "-1"}, rotator="mesh", device="cpu")
        assert not np.array_equal(plain.image, both.image)
        assert both.turned.frames[0].yaw_deg == pytest.approx(plain.turned.frames[0].yaw_deg, abs=4)

    def test_a_folder_and_a_moving_image(self, small, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        frames = [Image.open(small).convert("RGB") for _ in range(2)]
        frames[1].paste((9, 9, 9), (0, 0, 20, 20))  # equal frames become one
        frames[0].save("moving.webp", save_all=True, append_images=frames[1:], duration=100, lossless=True)
        assert cli.main(["edit", "moving.webp", "--set", "smile=-1", "--out", "out.webp"]) == 0
        shown = Image.open("out.webp")
        first = np.asarray(shown.convert("RGB")).astype(int)
        shown.seek(1)
        apart = np.abs(first - np.asarray(shown.convert("RGB")))[30:]  # below what was pasted
        assert apart.mean() < 1  # the same steps: it does not flicker
        (tmp_path / "in").mkdir()
        small.rename(tmp_path / "in" / "a.png")
        capsys.readouterr()
        assert cli.main(["edit", "in", "--set", "smile=-1", "--out", "out", "--json"]) == 0
        assert "smile" in json.loads(capsys.readouterr().out)["properties"]
        assert (tmp_path / "out" / "a.png").is_file()

    def test_the_page_has_a_slider_for_each_of_the_most_useful(self, small, tmp_path):
        pytest.importorskip("gradio")
        from latentrot.app.page import Page  # noqa: PLC0415
        from latentrot.rotators.properties import load_property_editor  # noqa: PLC0415

        editor = load_property_editor(device="cpu")
        page = Page({"mesh": latentrot.load_rotator("mesh", device="cpu")}, tmp_path, editor=editor)
        assert 4 <= len(page.result.properties) <= 8
        visitor = SimpleNamespace(session_hash="ann")
        page.open_upload(str(small), "auto", "mesh", visitor)
        zeros = [0] * len(page.result.properties)
        still = page.apply_sliders("mesh", visitor, 0, 0, *zeros)
        smiling = page.apply_sliders("mesh", visitor, 0, 0, -1, *zeros[1:])
        assert page.result.compare in smiling, smiling
        assert not np.array_equal(*(read_image(shown[page.result.save]) for shown in (still, smiling)))
        turned = page.apply_sliders("mesh", visitor, 10, 5, -1, *zeros[1:])
        assert page.result.compare in turned, turned
        assert all(page.reset("mesh", visitor)[slider] == 0 for slider in page.result.sliders)

    def test_properties_are_listed(self, capsys):
        assert cli.main(["properties"]) == 0
        out = capsys.readouterr().out
        assert "smile" in out
        assert "years" in out
