"""Editing properties: no change is the photograph bit for bit, regions hold, two depths are one path, steps are found."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import save_pixel_model

from latentrot.bundles import PORTRAIT
from latentrot.data.frame import CROP_BOX
from latentrot.data.images import read_image
from latentrot.diffusion.load import LatentModel, load_model
from latentrot.diffusion.schedule import Schedule
from latentrot.diffusion.solve import decode, invert
from latentrot.directions.difference import Change, apply_change, difference, without_checkerboard, without_part_means
from latentrot.directions.properties import Property, property_named
from latentrot.directions.property_directions import Calibration, PropertyDirections
from latentrot.directions.property_walk import decode_walked, invert_through, walked
from latentrot.directions.regions import FaceMap, region_mask
from latentrot.errors import LatentrotError
from latentrot.faces.alignment import Alignment
from latentrot.faces.detect import detect_faces
from latentrot.faces.framing import frame_face
from latentrot.faces.parts import BACKGROUND, HAIR, PARTS, SKIN
from latentrot.rotators.properties import InvertedFace, PropertyEditor, by, crop_alignment, load_property_editor, to
from latentrot.rotators.property_calibration import (
    candidates,
    measured_step,
    presence_of,
    summarised,
)  # fmt: skip
from latentrot.store.space import LatentSpace

DEEP, MIDDLE = Schedule(4, "ddim", depth=0.8), Schedule(2, "ddim", depth=0.4)


def upright_landmarks() -> np.ndarray:
    """(68, 2) landmarks of a frontal face, -1 to 1 across the crop."""
    t = np.linspace(0, np.pi, 17)
    jaw = np.stack([-0.55 * np.cos(t), -0.15 + 0.95 * np.sin(t)], 1)
    brows = np.stack([np.r_[np.linspace(-0.45, -0.12, 5), np.linspace(0.12, 0.45, 5)], np.full(10, -0.3)], 1)
    nose = np.stack(
        [np.r_[np.zeros(4), np.linspace(-0.12, 0.12, 5)], np.r_[np.linspace(-0.15, 0.2, 4), np.full(5, 0.27)]], 1
    )
    ring = lambda n, x, y, a, b: np.stack([  # noqa: E731
        x - a * np.cos(np.arange(n) * 2 * np.pi / n), y - b * np.sin(np.arange(n) * 2 * np.pi / n)
    ], 1)  # fmt: skip
    eyes = np.concatenate([ring(6, -0.3, -0.15, 0.1, 0.04), ring(6, 0.3, -0.15, 0.1, 0.04)])
    return np.concatenate([jaw, brows, nose, eyes, ring(12, 0, 0.48, 0.25, 0.1), ring(8, 0, 0.48, 0.18, 0.04)])


def face_map(n: int = 64) -> FaceMap:
    """Skin in an ellipse, hair above it, background around."""
    ticks = (np.arange(n) + 0.5) * 2 / n - 1
    inside = (ticks[None, :] / 0.6) ** 2 + ((ticks[:, None] - 0.1) / 0.75) ** 2
    parts = np.zeros((len(PARTS), n, n), np.float32)
    parts[SKIN] = inside < 1
    parts[HAIR] = (inside >= 1) & (inside < 1.4) & (ticks[:, None] < 0)
    parts[BACKGROUND] = 1 - parts.sum(0)
    return FaceMap(parts, upright_landmarks())


def images(seed: int = 0, side: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    start = torch.nn.functional.interpolate(torch.rand(1, 3, 6, 6, generator=g), size=side, mode="bicubic") - 0.5
    more = torch.nn.functional.interpolate(torch.randn(1, 3, 8, 8, generator=g) * 0.3, size=side, mode="bicubic")
    return start, (start + more).clamp(-1, 1)


def photograph(height: int = 90, width: int = 101) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def leaning() -> Alignment:
    """An alignment that turns, scales and shifts the photograph of `photograph`."""
    return Alignment(np.array([[1.5, 0.2, 10.0], [-0.2, 1.5, 45.0]]), (101, 90))


class TestDifference:
    def test_no_change_is_the_photograph_bit_for_bit(self):
        start, _ = images()
        points = upright_landmarks()
        change = difference(start, start.clone(), (points, points), face_map(), [property_named("smile")])
        assert change.is_nothing
        assert np.array_equal(apply_change(photograph(), leaning(), change), photograph())

    def test_unaffected_parts_are_unchanged_bit_for_bit(self):
        start, walked_image = images()
        face, points = face_map(), upright_landmarks()
        moved = points + np.where(np.arange(68) >= 48, 0.05, 0.0)[:, None]
        change = difference(start, walked_image, (points, moved), face, [property_named("smile")])
        assert change.residual.any()
        assert change.shift.any()
        outside = region_mask("mouth", face) == 0
        assert not change.residual[outside].any()
        assert not change.shift[outside].any()
        image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
        edited = apply_change(image, crop_alignment(64), change)
        assert np.array_equal(edited[outside], image[outside])
        assert not np.array_equal(edited, image)

    def test_mirror_law(self):
        start, walked_image = images()
        face, points = face_map(), upright_landmarks()
        mirrored = FaceMap(face.parts[..., ::-1].copy(), face.landmarks * [-1, 1])
        moved = points + np.where(np.arange(68) >= 48, 0.05, 0.0)[:, None]
        smile = [property_named("smile")]
        one = difference(start, walked_image, (points, moved), face, smile)
        two = difference(start.flip(-1), walked_image.flip(-1), (points * [-1, 1], moved * [-1, 1]), mirrored, smile)
        assert np.allclose(two.residual[:, ::-1], one.residual, atol=1e-5)
        assert np.allclose(two.shift[:, ::-1] * [-1, 1], one.shift, atol=1e-5)

    def test_a_pure_motion_leaves_no_residual(self):
        """Where the walk only moves the face, the photograph's own pixels move and nothing is drawn over them."""
        from latentrot.directions.warp import sample_source, source_positions, source_shift  # noqa: PLC0415

        start, _ = images(side=64)
        points = upright_landmarks()
        moved = points + np.where(np.arange(68) >= 48, 0.06, 0.0)[:, None]
        walked_image = sample_source(start, source_positions(source_shift(points, moved, 64), 64)).float()
        everywhere = Property("all", "presence", ("x",), region="all", warp=True)
        change = difference(start, walked_image, (points, moved), face_map(), [everywhere])
        without = difference(start, walked_image, (None, None), face_map(), [everywhere])
        inner = np.s_[12:52, 12:52]
        assert np.abs(change.residual[inner]).mean() < 0.1 * np.abs(without.residual[inner]).mean()

    def test_occluders_hide_the_photograph(self):
        start, _ = images()
        lens = start.clone()
        lens[:, :, 10:16, 8:24] = -1
        sunglasses = replace(property_named("sunglasses"), region="all")
        change = difference(start, lens, (None, None), face_map(), [sunglasses])
        image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
        edited = apply_change(image, crop_alignment(64), change)
        assert edited[23:28, 22:42].max() < 40  # the lens, whatever was there
        outside = apply_change(image, crop_alignment(64), replace(change, drawn=None))[46:]
        assert np.array_equal(edited[46:], outside)

    def test_light_keeps_hues(self):
        start, brighter = images()
        light = replace(property_named("light_left"), region="all")
        change = difference(start, brighter, (None, None), face_map(), [light])
        at = torch.nn.functional.interpolate(start, size=64, mode="bicubic")[0].permute(1, 2, 0).numpy() + 1
        ratio = change.residual / np.maximum(at, 0.05)
        bright = at.min(-1) > 0.3
        assert np.abs(ratio[bright] - ratio[bright].mean(-1, keepdims=True)).max() < 0.05

    def test_part_means_are_subtracted_unless_kept(self):
        face, residual = face_map(32), np.random.default_rng(0).normal(0.3, 0.1, (3, 32, 32))
        ones = np.ones((32, 32))
        keeps = replace(property_named("smile"), keeps=("hair",))
        calm = without_part_means(residual, face, ones, [keeps])
        skin, hair = face.parts[SKIN] > 0, face.parts[HAIR] > 0
        assert np.abs(calm[:, skin].mean(1)).max() < 1e-6
        assert np.array_equal(calm[:, hair], residual[:, hair])

    def test_checkerboards_are_removed_and_smooth_images_kept(self):
        board = np.indices((64, 64)).sum(0) % 2 * 2.0 - 1
        smooth = np.cos(np.linspace(0, 3, 64))[:, None] * np.ones((1, 64))
        assert np.abs(without_checkerboard(board[None])[0, 8:-8, 8:-8]).max() < 0.05
        assert np.allclose(without_checkerboard(smooth[None])[0], smooth, atol=0.02)

    def test_residuals_are_placed_correctly_at_any_resolution(self):
        residual = np.zeros((256, 256, 3), np.float32)
        residual[100:140, 60:110] = 0.5
        change = Change(residual, np.zeros((256, 256, 2), np.float32))
        for side in (64, 512):
            image = np.full((side, side, 3), 100, np.uint8)
            edited = apply_change(image, crop_alignment(side), change)
            rows, columns = np.nonzero(edited[..., 0] > 130)
            box = np.array([rows.min(), rows.max() + 1, columns.min(), columns.max() + 1]) * 256 / side
            assert np.allclose(box, [100, 140, 60, 110], atol=4)

    @pytest.mark.parametrize(
        "region", ["mouth", "eyes", "brows", "beard", "face", "hair", "forehead and hair", "head", "person"]
    )
    def test_regions_leave_the_background_alone(self, region):
        face = face_map()
        mask = region_mask(region, face)
        assert mask.max() == 1
        assert not mask[face.parts[BACKGROUND] == 1].any()

    def test_an_unknown_region_is_refused(self):
        with pytest.raises(LatentrotError, match=r"'chin'.*mouth"):
            region_mask("chin", face_map())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LatentModel:
    return load_model(save_pixel_model(tmp_path_factory.mktemp("model"), patch=2), "cpu")


def made(model: LatentModel, schedule: Schedule, *properties: Property, size: float = 0.5) -> PropertyDirections:
    space = LatentSpace.of(model, schedule)
    g = torch.Generator().manual_seed(int(schedule.depth * 100))
    vectors = {p.name: torch.randn(space.shape, generator=g) * size for p in properties}
    calibrations = {p.name: Calibration((p.limit[0], 0.0, p.limit[1]), (-1.0, 0.0, 1.0)) for p in properties}
    return PropertyDirections(properties, vectors, space, calibrations)


@pytest.fixture(scope="module")
def editor(model: LatentModel) -> PropertyEditor:
    smile, age = property_named("smile"), property_named("age")
    return PropertyEditor(model, [made(model, DEEP, smile), made(model, MIDDLE, age)])


@pytest.fixture(scope="module")
def prepared(editor: PropertyEditor):
    points = leaning().to_photo((upright_landmarks() + 1) / 2 * 128 + CROP_BOX[:2])
    return editor.prepare(photograph(), leaning(), points)


class TestPath:
    def test_one_inversion_gives_both_depths(self, model):
        x = images(side=16)[1]
        middle, deep = (s.levels(model)[-1] for s in (MIDDLE, DEEP))
        latents = invert_through(model, x, DEEP, [middle, deep])
        torch.testing.assert_close(latents[0], invert(model, x, schedule=MIDDLE), atol=1e-5, rtol=0)
        torch.testing.assert_close(latents[1], invert(model, x, schedule=DEEP), atol=1e-5, rtol=0)

    def test_decoding_without_steps_is_decoding(self, model):
        z = torch.randn(2, *model.latent_shape)
        torch.testing.assert_close(decode_walked(model, z, DEEP), decode(model, z, schedule=DEEP).clamp(-1, 1))

    def test_a_step_at_the_middle_is_a_step_of_the_middle_latent(self, model):
        z, offset = torch.randn(1, *model.latent_shape), torch.randn(1, *model.latent_shape) * 0.3
        level = MIDDLE.levels(model)[-1]
        through = decode_walked(model, z, DEEP, {level: offset})
        assert (through - decode_walked(model, z, DEEP)).abs().max() > 1e-3
        at_once = decode_walked(model, walked(z, offset, 2), MIDDLE)
        torch.testing.assert_close(decode_walked(model, z, MIDDLE, {level: offset}), at_once)

    def test_no_step_keeps_the_latent_bit_for_bit(self, model):
        z = torch.randn(1, *model.latent_shape)
        assert torch.equal(walked(z, torch.zeros_like(z), 2), z)

    def test_octaves_keep_their_length(self, model):
        z = torch.randn(1, *model.latent_shape)
        assert float(walked(z, torch.ones_like(z), 2).norm() / z.norm()) == pytest.approx(1, abs=1e-4)


class TestEditor:
    @pytest.mark.parametrize("wanted", [{}, {"smile": 0.0}, {"smile": by(0), "age": by(0)}])
    def test_no_properties_give_the_photograph_bit_for_bit(self, prepared, wanted):
        image, report = prepared.edit(wanted)
        assert np.array_equal(image, photograph())
        assert all(row.reached or np.isnan(row.before) for row in report.properties)
        assert isinstance(report.before, pd.Series)

    def test_several_properties_of_two_depths_at_once(self, prepared):
        both = prepared.change({"smile": 4.0, "age": 4.0})
        alone = prepared.change({"smile": 4.0})
        assert both.residual.any()
        assert not np.array_equal(both.residual, alone.residual)

    def test_light_is_a_change_of_its_own_beside_others(self, model):
        light, smile = property_named("light_left"), property_named("smile")
        editor = PropertyEditor(model, [made(model, DEEP, smile), made(model, MIDDLE, light)])
        points = leaning().to_photo((upright_landmarks() + 1) / 2 * 128 + CROP_BOX[:2])
        face = editor.prepare(photograph(), leaning(), points)
        alone = [face.change({name: 1.5}) for name in ("smile", "light_left")]
        both = face.change({"light_left": 1.5, "smile": 1.5})
        assert np.allclose(both.residual, alone[0].residual + alone[1].residual, atol=1e-6)
        assert np.array_equal(both.shift, alone[0].shift)

    def test_a_plain_number_changes_by_its_value(self, prepared):
        one, _ = prepared.edit({"age": 5})
        two, _ = prepared.edit({"age": by(5)})
        assert np.array_equal(one, two)

    def test_unmeasured_properties_cannot_be_set_to_a_value(self, prepared):
        with pytest.raises(LatentrotError, match="age cannot be measured"):
            prepared.edit({"age": to(60)})

    def test_an_unknown_property_is_refused_with_the_known_ones(self, prepared):
        with pytest.raises(LatentrotError, match=r"'smirk'.*smile, age"):
            prepared.edit({"smirk": 1})

    def test_yaw_is_refused_as_a_property(self, model):
        editor = PropertyEditor(model, [made(model, DEEP, property_named("yaw"))])
        points = leaning().to_photo((upright_landmarks() + 1) / 2 * 128 + CROP_BOX[:2])
        with pytest.raises(LatentrotError, match="geometry"):
            editor.prepare(photograph(), leaning(), points).edit({"yaw": 10})

    def test_schedules_that_lie_on_different_paths_are_refused(self, model):
        other = made(model, Schedule(3, "ddim", depth=0.4), property_named("age"))
        with pytest.raises(LatentrotError, match="noise levels"):
            PropertyEditor(model, [made(model, DEEP, property_named("smile")), other])

    def test_directions_of_another_model_are_refused(self, tmp_path: Path, model):
        other = load_model(save_pixel_model(tmp_path, patch=2, seed=5), "cpu")
        with pytest.raises(LatentrotError):
            PropertyEditor(other, [made(model, DEEP, property_named("smile"))])

    def test_a_model_without_directions_says_so(self, model):
        with pytest.raises(LatentrotError, match="no property directions"):
            load_property_editor(model)

    @pytest.mark.parametrize(("wanted", "step"), [(by(6), 2.667), (to(46), 2.667), (by(-5), -2.929), (by(60), 8.0)])
    def test_a_step_is_searched_for_on_the_photograph(self, prepared, monkeypatch, wanted, step):
        """The average calibration is wrong for this person, whose age rises by 2 years a step and a little more."""
        monkeypatch.setattr(InvertedFace, "change", lambda _, steps: steps["age"])
        monkeypatch.setattr(InvertedFace, "described", lambda _, s: pd.Series({"age_years": 40 + 2 * s + 0.1 * s**2}))
        face = replace(prepared, starts={})
        face.__dict__["before"] = pd.Series({"age_years": 40.0})
        found = face.step_for("age", wanted)
        assert abs(2 * (found - step) + 0.1 * (found**2 - step**2)) < 1.6
        assert face.step_for("age", wanted, measure=False) != found or abs(found) == 8.0


# --- the bundled directions, on the bundled portrait --------------------------------------------------------------------


@pytest.fixture(scope="module")
def portrait() -> InvertedFace:
    image = read_image(PORTRAIT)
    landmarks = max(detect_faces(image), key=lambda f: f.area).landmarks
    return load_property_editor().prepare(image, frame_face(image, landmarks))


class TestBundled:
    def test_they_are_calibrated_and_belong_to_the_model(self, portrait):
        assert {"smile", "age", "male", "light_left", "light_right"} <= {p.name for p in portrait.editor.properties}
        for one in portrait.editor.properties:
            found = portrait.editor.calibration(one.name)
            assert found.people
            assert found.measured_by.startswith("faces64 ")
            assert found.range[0] < 0 or found.range[1] > 0

    def test_a_smile_fades_and_nothing_else_changes(self, portrait):
        edited, report = portrait.edit({"smile": by(-1)})
        (smile,) = report.properties
        assert smile.after < smile.before - 0.3
        changed = (edited != portrait.photograph).any(-1)
        assert 0 < changed.mean() < 0.1
        assert abs(report.after["yaw_deg"] - report.before["yaw_deg"]) < 3

    def test_light_comes_from_the_side_asked_for(self, portrait):
        _, report = portrait.edit({"light_right": by(1)})
        assert report.after["p_right"] > report.before["p_right"] + 0.3


class FakeFace:
    """A face whose smile is 0.2 before, and rises by a tenth a step up to 0.9; its age falls a little along with it."""

    def __init__(self, editor):
        self.editor, self.small = editor, np.zeros((64, 64, 3), np.uint8)
        self.before = pd.Series({"p_Smiling": 0.2, "age_years": 40.0, "yaw_deg": 0.0})

    def change(self, steps):
        return steps["smile"]

    def edited_crop(self, step):
        return np.full((64, 64, 3), round(100 + 10 * step), np.uint8)


class FakeEditor:
    """Reads a fake face's smile off its brightness."""

    attributes = None

    def describe(self, x):
        step = ((x.mean((1, 2, 3)).numpy() + 1) * 127.5 - 100) / 10
        return pd.DataFrame(
            {"p_Smiling": np.minimum(0.2 + 0.1 * step, 0.9), "age_years": 40 - step, "yaw_deg": 0 * step}
        )


class TestCalibration:
    def test_steps_are_measured_in_units_from_absent_to_present(self):
        smile = property_named("smile")
        face = FakeFace(FakeEditor())
        rows = [measured_step(face, smile, step, None) for step in (2.0, 4.0, 6.0)]
        found = summarised(smile, rows, 0.1, 0.8, "fake")
        assert found.steps == (0.0, 2.0, 4.0, 6.0)
        assert np.allclose(found.change, np.array([0, 0.2, 0.4, 0.6]) / 0.8, atol=0.02)
        assert found.step_for(0.5) == pytest.approx(4, abs=0.2)
        assert found.side_effects["age_years"] == pytest.approx(-6, abs=0.2)
        assert (found.absent, found.span, found.people) == (0.1, 0.8, 1)

    def test_a_presence_is_raised_on_those_who_lack_it_and_lowered_on_those_who_have_it(self):
        value = pd.Series({"lacks": 0.1, "between": 0.5, "has": 0.9})

        assert candidates(property_named("smile"), value, 1) == ["lacks"]
        assert candidates(property_named("smile"), value, -1) == ["has"]
        assert len(candidates(property_named("age"), value, 1)) == 3

    def test_absent_and_present_are_what_the_network_says_of_photographs(self):
        shown = pd.DataFrame({"p_No_Beard": [0.1, 0.3, 0.9, 0.7]}, index=list("abcd"))
        folder = type("Folder", (), {"attributes": pd.DataFrame({"No_Beard": [-1, -1, 1, 1]}, index=list("abcd"))})()
        absent, span = presence_of(property_named("beard"), shown, folder)
        assert (absent, span) == (pytest.approx(0.2), pytest.approx(0.6))
        assert presence_of(property_named("age"), shown, folder) == (0.0, 1.0)
