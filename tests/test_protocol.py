"""A rotator added to the registry goes through every door; what it says of itself is what happens."""

import json
import sys
import textwrap
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from views import write_views

from latentrot import cli
from latentrot.bundles import PORTRAIT
from latentrot.data.images import read_image
from latentrot.errors import LatentrotError
from latentrot.evaluation.bench.compare import portrait_crop
from latentrot.geometry import HeadFitter, MeshConfig, turn_head
from latentrot.portrait.photograph import edit_portrait
from latentrot.portrait.portrait import EditConfig, open_portrait
from latentrot.portrait.turns import Turn
from latentrot.rotators import registry
from latentrot.rotators.mesh.rotator import MeshRotator
from latentrot.rotators.protocol import capabilities_of, prepare
from latentrot.rotators.registry import load_rotator

TINTED = """
from dataclasses import dataclass

import numpy as np

from latentrot.rotators.options import RotatorOptions, option


@dataclass(frozen=True)
class Tinted:
    red: int
    learned_from = ()

    def rotate(self, image, degrees):
        out = image.copy()
        out[..., 0] = self.red
        return out


@dataclass(frozen=True)
class TintedOptions(RotatorOptions):
    red: int = option(200, "how red")

    def load(self, device=None, dtype=None):
        return Tinted(self.red)
"""


@pytest.fixture
def tinted(tmp_path, monkeypatch):
    """A rotator as the package would have it: its own file, and its name in the registry."""
    (tmp_path / "tinted_rotator.py").write_text(textwrap.dedent(TINTED))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(registry.ROTATORS, "tinted", "tinted_rotator:TintedOptions")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("tinted_rotator", None)


@pytest.fixture
def small(tmp_path):
    """The bundled portrait at half its size."""
    picture = Image.open(PORTRAIT).convert("RGB")
    picture.resize((picture.width // 2, picture.height // 2)).save(tmp_path / "small.png")
    return tmp_path / "small.png"


class TestAdded:
    def test_its_options_are_taken_and_others_refused(self, tinted):
        assert load_rotator("tinted", red=9).red == 9
        with pytest.raises(LatentrotError, match="no option blue; it has red"):
            load_rotator("tinted", blue=9)

    def test_edit_a_photograph_and_a_folder(self, tinted, small, capsys):
        assert cli.main(["edit", str(small), "--deg", "20", "--rotator", "tinted", "--out", "one.png", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["model"] == "Tinted"
        assert read_image(tinted / "one.png").shape == read_image(small).shape
        (tinted / "in").mkdir()
        small.rename(tinted / "in" / "a.png")
        assert cli.main(["edit", "in", "--deg", "20", "--rotator", "tinted", "--out", "out"]) == 0
        assert (tinted / "out" / "a.png").is_file()

    def test_edit_a_video(self, tinted, small):
        frames = [Image.open(small).convert("RGB") for _ in range(2)]
        frames[1].paste((9, 9, 9), (0, 0, 20, 20))  # equal frames become one
        frames[0].save(tinted / "moving.webp", save_all=True, append_images=frames[1:], duration=100, lossless=True)
        assert cli.main(["edit", "moving.webp", "--deg", "10", "--rotator", "tinted", "--out", "out.webp"]) == 0
        assert Image.open(tinted / "out.webp").n_frames == 2

    def test_evaluate(self, tinted):
        command = [
            "evaluate",
            "--data",
            str(write_views(tinted / "views")),
            "--rotator",
            "tinted",
            "--people",
            "1",
            "--targets",
            "15",
        ]
        assert cli.main([*command, "--out", "measured"]) == 0
        assert "tinted" in json.loads((tinted / "measured" / "evaluation.json").read_text())["ways"]

    def test_the_page(self, tinted):
        pytest.importorskip("gradio")
        from latentrot.app.page import Page  # noqa: PLC0415

        page = Page({"tinted": load_rotator("tinted"), "mesh": load_rotator("mesh", device="cpu")}, tinted)
        visitor = SimpleNamespace(session_hash="ann")
        page.open_example("auto", "tinted", visitor)
        for name in ("tinted", "mesh"):
            assert page.result.compare in page.apply_sliders(name, visitor, 12, 0)


class TestWhatARotatorSays:
    def test_a_users_configuration_is_used(self, small):
        """Two configurations of the geometry give two photographs."""
        portrait = open_portrait(small)
        flat = MeshRotator(MeshConfig(depth_scale=0.6), device="cpu")
        usual, own = (edit_portrait(portrait, r, [20.0]).image for r in (MeshRotator(device="cpu"), flat))
        assert not np.array_equal(usual, own)
        head = HeadFitter(MeshConfig(depth_scale=0.6), device="cpu").fit(
            portrait.image, portrait.alignments[0], portrait.faces
        )
        assert np.array_equal(turn_head(head, 20.0).image, own)

    def test_a_rotator_of_photographs_edits_them_itself(self, small):
        class Painter:
            name = "painter"

            def rotate(self, image, degrees):
                raise AssertionError("was given a crop")

            def rotate_photograph(self, photograph, face, degrees):
                for d in degrees:
                    after = photograph.copy()
                    after[:7, :5] = abs(int(d))
                    yield after

        portrait = open_portrait(small)
        edited = edit_portrait(portrait, Painter(), [11.0, -12.0])
        assert (edited.image_at(1)[:7, :5] == 12).all()
        assert np.array_equal(edited.image_at(1)[7:], portrait.image[7:])
        assert edited.faces[0].coverage == ()
        with pytest.raises(LatentrotError, match="painter cannot change pitch or roll"):
            edit_portrait(portrait, Painter(), [Turn(5.0, 5.0)])

    def test_reify_is_refused_where_there_is_none(self, small):
        with pytest.raises(LatentrotError, match="nothing does not support --reify"):
            edit_portrait(open_portrait(small), load_rotator("nothing"), [0.0], EditConfig(reify=True))

    def test_missing_attributes_have_defaults(self):
        class Bare:
            def rotate(self, image, degrees):
                return image

        can = capabilities_of(Bare())
        assert (can.name, can.draws, can.learned_from, can.warnings) == ("Bare", True, None, ())
        assert capabilities_of(load_rotator("mesh")).draws is False

    def test_a_crop_is_prepared_for_any(self):
        crop = portrait_crop(64)
        prepared = prepare(load_rotator("mirror"), crop)
        rotated = prepared.calibrated([30.0]).at_yaw(3.0).rotate([5.0, 10.0])
        assert rotated.yaw_deg == 3.0
        assert all(np.array_equal(frame.image, crop[:, ::-1]) for frame in rotated.frames)
        assert prepared.reach is None
