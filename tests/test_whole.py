"""The whole head, for large rotations: template, hair, colours, and views, on a planted head."""

from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest
from planted import CENTRE, SMALL, WIDTH, PlantedParts, head_of, mirrored, planted

from latentrot.bundles import PORTRAIT
from latentrot.faces.parts import ACCESSORIES, HAIR, SKIN
from latentrot.geometry import build_head
from latentrot.geometry.camera import turn_matrix
from latentrot.geometry.fields import values_at
from latentrot.geometry.maps import surface_maps
from latentrot.geometry.shell import COLUMNS, ROWS, TEXELS, edge_noise, grown_down
from latentrot.geometry.surface import load_surface
from latentrot.geometry.template import boundary_loops, load_template, make_template
from latentrot.geometry.turn import turn_surfaces
from latentrot.geometry.whole import diffused, slim_neck, whole_head
from latentrot.geometry.whole_view import whole_layer
from latentrot.portrait.face import misread, prepare_face
from latentrot.portrait.photograph import edit_portrait
from latentrot.portrait.portrait import open_portrait
from latentrot.portrait.turns import Turn
from latentrot.rotators.latent.rotator import LatentRotator, load_latent_rotator
from latentrot.rotators.protocol import RotatedCrop
from latentrot.rotators.registry import load_rotator
from latentrot.synthetic.head_model import ICT_PATH
from latentrot.synthetic.ict import read_ict


def haired(length):
    """The planted head under dark hair down to `length` face widths below the ears."""
    plant = planted()
    rows, columns = np.mgrid[: plant.picture.shape[0], : plant.picture.shape[1]]
    across, down = (columns - CENTRE[0]) / WIDTH, (rows - CENTRE[1]) / WIDTH
    hair = (np.abs(across) < 0.72) & (down > -0.85) & (down < length)
    hair &= ~plant.face | (np.abs(across) > 0.42) | (down < -0.25)
    picture, parts = plant.picture.copy(), plant.parts.probabilities.copy()
    picture[hair] = (60, 40, 30)
    parts[:, hair] = 0
    parts[HAIR, hair] = 1
    return build_head(picture, plant.landmarks, PlantedParts(parts, np.eye(2, 3)), SMALL)


def shift(rows):
    """(3, 3) of a photograph without its first rows."""
    return np.array([[1, 0, 0], [0, 1, rows], [0, 0, 1]])


def topped(part, colour):
    """The planted head under a dome, all of which is one part: skin, or a hat."""
    plant = planted()
    rows, columns = np.mgrid[: plant.picture.shape[0], : plant.picture.shape[1]]
    across, down = (columns - CENTRE[0]) / WIDTH, (rows - CENTRE[1]) / WIDTH
    dome = (across / 0.6) ** 2 + ((down + 0.1) / 0.52) ** 2 < 1
    dome &= (down < -0.25) | (~plant.face & (down < -0.15))
    picture, parts = plant.picture.copy(), plant.parts.probabilities.copy()
    picture[dome] = colour
    parts[:, dome] = 0
    parts[part, dome] = 1
    return picture, parts, plant.landmarks, dome


@pytest.fixture(scope="module")
def short():
    return haired(0.0)


class TestTemplate:
    def test_it_is_symmetric_and_closed_but_for_the_neck(self):
        template = load_template()
        across = template.mirror
        assert np.array_equal(across[across], np.arange(len(across)))
        assert np.array_equal(template.mean[across] * [-1, 1, 1], template.mean)
        assert np.array_equal(template.ear[across], template.ear)
        loops = boundary_loops(template.faces)
        assert all(template.mean[loop, 1].min() > 0.8 for loop in loops)

    def test_its_face_is_the_fitted_surface(self):
        template, surface = load_template(), load_surface()
        rng = np.random.default_rng(3)
        weights = 0.5 * rng.normal(size=len(template.modes))
        modes = np.concatenate([surface.identities, surface.expressions])
        fitted = surface.mean + np.tensordot(weights, modes, 1)
        apart = np.linalg.norm(fitted[:, None] - template.shape(weights)[None], axis=-1).min(1)
        assert apart.max() < 2e-3

    def test_the_bundled_one_is_cut_from_the_face_model(self):
        if not ICT_PATH.is_file():
            pytest.skip("needs the face model")
        made, bundled = make_template(read_ict(ICT_PATH)), load_template()
        assert np.array_equal(made.faces, bundled.faces)
        assert np.abs(made.mean - bundled.mean).max() < 1e-3

    def test_the_neck_is_no_wider_than_its_radius(self):
        template = load_template()
        slim = slim_neck(template, template.mean.astype(float), 0.3)
        low = (template.mean[:, 1] > 0.95) & (template.mean[:, 2] < -0.1)
        assert np.abs(slim[low, 0]).max() < 0.34
        face = (template.mean[:, 1] < 0.6) & (template.mean[:, 2] > 0)
        assert np.allclose(slim[face], template.mean[face], atol=1e-9)


class TestShell:
    def test_hair_covers_the_skull_and_a_bald_scalp_has_its_prior(self, head, short):
        assert not head.hair_kind[0]
        assert short.hair_kind[0]
        assert short.hair_kind[1] < 0.2 < haired(1.1).hair_kind[1]
        points = whole_head(short).shell.points
        assert points.shape == (ROWS, COLUMNS, 3)
        assert np.allclose(points[:, 0], points[:, -1], atol=0.05)

    def test_its_silhouette_is_that_of_the_head(self, short):
        layer = whole_layer(short, np.eye(3), True)
        inner, outer = layer.head > 0.5, short.outline.head
        rows = np.arange(len(outer))[:, None] < short.outline.lobe - 0.3 * short.region.width
        overlap = (inner & outer & rows).sum() / ((inner | outer) & rows).sum()
        assert overlap > 0.95

    def test_hair_that_hangs_from_nothing_is_removed_beside_the_neck_only(self):
        alpha = np.zeros((ROWS * 6, COLUMNS * 6), np.float32)
        alpha[:120] = 1
        alpha[200:260] = 1
        grown = grown_down(alpha)
        middle, back = alpha.shape[1] // 2, 10
        assert grown[60, middle] == 1
        assert grown[230, middle] == 0
        assert grown[230, back] == 1

    def test_a_crown_outside_the_photograph_has_hair(self, short):
        cut = round(CENTRE[1] - 0.3 * WIDTH)
        parts = PlantedParts(np.clip(short.parts, 0, 1), short.region.matrix @ shift(cut))
        head = build_head(short.photograph[cut:], short.region.to_photo(short.marks) - [0, cut], parts, SMALL)
        assert not head.region.in_photograph[: int(head.region.middle[1] - 0.35 * head.region.width)].any()
        crown = whole_head(head).shell.alpha[: TEXELS * ROWS // 5]
        assert crown.min() > 0.5

    def test_a_bald_crown_beside_hair_is_as_high_as_in_the_photograph(self):
        picture, parts, marks, dome = topped(SKIN, (200, 160, 140))
        side = dome & (np.abs(np.arange(picture.shape[1]) - CENTRE[0]) > 0.4 * WIDTH)
        picture[side], parts[:, side] = (60, 40, 30), 0
        parts[HAIR, side] = 1
        head = build_head(picture, marks, PlantedParts(parts, np.eye(2, 3)), SMALL)
        assert whole_head(head).shell.hairy
        assert not head.wears_a_hat
        top = np.flatnonzero(head.outline.head.any(1))[0]
        assert abs(whole_head(head).points[:, 1].min() - top) < 0.05 * head.region.width

    @pytest.mark.parametrize(("seam", "bald"), [((195, 155, 135), True), ((60, 40, 30), False)])
    def test_a_seam_of_hair_above_bare_skin_is_hair_if_its_colour_is(self, seam, bald):
        """Parsers find a thin seam of hair along the silhouette of a bald head."""
        picture, parts, marks, dome = topped(SKIN, (200, 160, 140))
        aside = np.abs(np.arange(picture.shape[1]) - CENTRE[0]) > 0.4 * WIDTH
        depth = cv2.distanceTransform((dome | (parts[SKIN] > 0)).astype(np.uint8), cv2.DIST_L2, 5) / WIDTH
        rim = dome & (depth < 0.05) & ~aside
        side = dome & aside
        picture[rim], picture[side] = seam, (60, 40, 30)
        parts[:, rim | side] = 0
        parts[HAIR, rim | side] = 1
        shell = whole_head(build_head(picture, marks, PlantedParts(parts, np.eye(2, 3)), SMALL)).shell
        assert shell.hairy
        back = shell.alpha[: 8 * TEXELS, : 10 * TEXELS]
        assert back.max() < 0.2 if bald else back.min() > 0.8
        beside = shell.alpha[ROWS * TEXELS // 2 - 5 * TEXELS, [30 * TEXELS, 90 * TEXELS]]
        assert beside.min() > 0.8  # the hair beside a bald crown stays

    def test_a_hat_goes_round_the_head_and_ends_at_its_brim(self):
        picture, parts, marks, _ = topped(ACCESSORIES, (30, 40, 180))
        head = build_head(picture, marks, PlantedParts(parts, np.eye(2, 3)), replace(SMALL, light_follows=True))
        shell = whole_head(head).shell
        blue = shell.colours[..., 2] - shell.colours[..., 0]
        behind = blue[:, : 20 * TEXELS]
        assert head.wears_a_hat
        assert shell.hairy
        assert behind[: 15 * TEXELS].min() > 60
        assert behind[38 * TEXELS : 42 * TEXELS].max() < 20

    @pytest.mark.parametrize("yaw", [-45, 45])
    def test_the_back_of_a_head_in_profile_belongs_to_it(self, yaw):
        plant = planted(yaw=yaw)
        rows, columns = np.mgrid[: plant.picture.shape[0], : plant.picture.shape[1]]
        behind, down = -np.sign(yaw) * (columns - CENTRE[0]) / WIDTH, (rows - CENTRE[1]) / WIDTH
        hair = (((behind - 0.45) / 0.8) ** 2 + ((down + 0.2) / 0.6) ** 2 < 1) & ~plant.face & (behind > -0.2)
        parts = plant.parts.probabilities.copy()
        parts[:, hair] = 0
        parts[HAIR, hair] = 1
        head = build_head(plant.picture, plant.landmarks, PlantedParts(parts, np.eye(2, 3)), SMALL)
        places = head.region.to_region(np.argwhere(hair)[:, ::-1] + 0.5)
        assert (values_at(head.outline.to_rest, places) > -1).mean() > 0.97

    def test_the_edge_is_equally_irregular_on_both_sides(self):
        noise = edge_noise((60, 120))
        assert np.array_equal(noise, noise[:, ::-1])
        assert noise.std() == pytest.approx(1)


class TestColours:
    def test_diffusion_keeps_what_is_known_and_fills_the_rest_between(self):
        template = load_template()
        values = np.stack([template.mean[:, 1], np.ones(len(template.mean))], 1).astype(float)
        weight = (np.arange(len(values)) % 7 == 0).astype(float)
        filled = diffused(values, weight, 1e-6)
        assert np.abs(filled - values)[weight > 0].max() < 0.05
        assert np.abs(filled - values).mean() < 0.01

    def test_far_from_what_is_known_the_difference_vanishes(self):
        template = load_template()
        weight = (template.mean[:, 2] > 0.5).astype(float)
        filled = diffused(np.ones((len(weight), 1)), weight, 0.05)[:, 0]
        assert filled[weight > 0].min() > 0.9
        assert filled[template.mean[:, 2] < -0.7].max() < 0.5

    def test_the_hidden_side_has_the_skin_of_the_visible_one(self):
        plant = planted(yaw=35)
        plain = np.where(plant.face[..., None], np.array([200, 150, 120]), plant.picture).astype(np.uint8)
        head = build_head(plain, plant.landmarks, plant.parts, replace(SMALL, light_follows=True))
        turned = turn_surfaces(head, -60, whole=True)
        marks = turned.landmarks
        row, column = marks[[2, 31], 1].mean(), 0.5 * (marks[14, 0] + marks[45, 0])
        assert np.abs(turned.image[int(row), int(column)] - np.array([200.0, 150, 120])).max() < 30


class TestViews:
    def test_without_a_rotation_the_face_is_that_of_the_photograph(self, head):
        layer = whole_layer(head, np.eye(3), False)
        known = layer.coverage > 0.99
        known &= layer.head > 0.99
        assert known.sum() > 0.4 * head.outline.face.sum()
        assert np.abs(layer.image - head.image)[known].mean() < 0.5

    @pytest.mark.parametrize("yaw", [20, 70])
    def test_the_mirror_law(self, yaw):
        plant = planted(yaw=8)
        here = turn_surfaces(head_of(plant), yaw, whole=True)
        there = turn_surfaces(head_of(mirrored(plant)), -yaw, whole=True)
        apart = np.abs(here.image.astype(float) - there.image[:, ::-1].astype(float))
        assert apart.mean() < 1.0

    @pytest.mark.parametrize(("yaw", "pitch"), [(25, 0), (-25, 0), (45, 0), (0, 15), (20, 10)])
    def test_a_view_is_nearer_to_the_true_one_than_nothing(self, frontal, yaw, pitch):
        truth = planted(yaw, pitch)
        inside = truth.face & frontal.face

        def error(picture):
            return float(np.square(picture.astype(float) - truth.picture)[inside].mean())

        head = head_of(frontal, replace(SMALL, depth_scale=1.0, light_follows=True))
        assert error(turn_surfaces(head, yaw, pitch, whole=True).image) < 0.6 * error(frontal.picture)

    def test_the_surroundings_stay_bit_for_bit(self, frontal, head):
        turned = turn_surfaces(head, 60, whole=True)
        fringe = head.region.to_photo(np.argwhere(head.with_fringe)[:, ::-1] + 0.5)
        low, high = np.floor(fringe.min(0)).astype(int) - 3, np.ceil(fringe.max(0)).astype(int) + 3
        moved = turned.head > 0
        outside = ~moved
        outside[low[1] : high[1], low[0] : high[0]] = False
        assert outside.sum() > 0.3 * outside.size
        assert np.array_equal(turned.image[outside], frontal.picture[outside])

    def test_nothing_jumps_in_a_sweep(self, short):
        views = [turn_surfaces(short, yaw, whole=True).image.astype(float) for yaw in range(19)]
        steps = [np.abs(b - a).mean() for a, b in pairwise(views)]
        assert max(steps) < 2.5 * np.median(steps)

    def test_long_hair_needs_it_later(self, short):
        first, late = short.config.whole_from
        long = haired(1.1)
        assert short.needs_whole(first + 1)
        assert short.needs_whole(0, -first - 1)
        assert short.needs_whole(roll=first + 1)
        assert not short.needs_whole(first - 1)
        assert not long.needs_whole(0.5 * (first + late))
        assert long.needs_whole(late + 1)

    def test_depth_and_normals_are_those_of_a_closed_head(self, short):
        turn = turn_matrix(short, 80, 0, 0)
        depth, normals = surface_maps(short, turn, whole=True)
        there = np.isfinite(depth)
        shown = turn_surfaces(short, 80, whole=True).head > 0.5
        assert (there & shown).sum() / (there | shown).sum() > 0.9
        assert np.allclose(np.linalg.norm(normals[there], axis=1), 1, atol=1e-5)
        assert np.median(normals[there][:, 2]) > 0.5


@pytest.fixture(scope="module")
def portrait():
    return open_portrait(PORTRAIT)


class TestRotator:
    """Of a whole head nothing is left to generate, so the rotator is not run."""

    def test_no_latent_is_computed_and_no_walk_reported(self, portrait, monkeypatch):
        rotator = load_latent_rotator(device="cpu")
        monkeypatch.setattr(LatentRotator, "invert", lambda *args, **options: pytest.fail("inverted"))
        edited = edit_portrait(portrait, rotator, [-60.0, 60.0])
        with_geometry_alone = edit_portrait(portrait, load_rotator("mesh", device="cpu"), [-60.0, 60.0])
        for i in range(2):
            assert np.array_equal(edited.image_at(i), with_geometry_alone.image_at(i))
        assert edited.warnings == with_geometry_alone.warnings
        assert [w for w in edited.warnings if "label network reads large yaws too low" in w]
        assert "round_trip_psnr_db" not in edited.report

    def test_the_decision_without_the_head_is_never_wrong_about_a_small_rotation(self, portrait):
        face = prepare_face(portrait, portrait.alignments[0], load_latent_rotator(device="cpu"))
        turns = [Turn(yaw, pitch) for yaw in range(-90, 91, 5) for pitch in (0, 15, 30)]
        needed = [turn for turn in turns if face.shows_whole([turn])]
        assert needed
        assert all(map(face.may_show_whole, needed))
        assert not face.may_show_whole(Turn(25))

    def test_readings_are_reported_where_they_are_low(self):
        frames = [RotatedCrop(60.0, 45.0, 0, "left", None), RotatedCrop(-70.0, -35.0, 0, "left", None)]
        assert misread(5.0, frames[:1]) == ["the label network reads large yaws too low: +45 degrees for a head that "
                                            "geometry turned to +65"]  # fmt: skip
        assert "-35 degrees for a head that geometry turned to -65" in misread(5.0, frames)[0]
        assert misread(5.0, [RotatedCrop(40.0, 38.0, 0, "left", None)]) == []
