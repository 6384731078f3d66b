"""Light that stays when a head rotates: on planted normals and on a planted head under a known light."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from planted import CENTRE, MIRRORED, SIZE, SMALL, WIDTH, Planted, PlantedParts, head_of

from latentrot.cli.edit import Edit
from latentrot.errors import LatentrotError
from latentrot.geometry import build_head, turn_head
from latentrot.geometry.draw import draw
from latentrot.geometry.shading import GAMMA, RATIO, Shading, fit_harmonics, harmonics, light_gain, relight
from latentrot.geometry.surface import load_surface, rotation
from latentrot.geometry.turn import turn_surfaces
from latentrot.portrait.compose import compose
from latentrot.portrait.portrait import EditConfig
from latentrot.portrait.turns import Turn
from latentrot.rotators.pair.render import ConditionRenderer

LEFT = np.array([-0.75, -0.2, 0.63])
SKIN = np.array([0.55, 0.36, 0.28])


def directions(count=4000, seed=0):
    """Unit vectors towards the viewer."""
    points = np.random.default_rng(seed).normal(size=(count, 3))
    points[:, 2] = np.abs(points[:, 2])
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def vertex_normals(points, faces):
    edges = points[faces[:, 1]] - points[faces[:, 0]], points[faces[:, 2]] - points[faces[:, 0]]
    normals = np.zeros_like(points)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], np.cross(*edges))
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    return normals * np.sign(normals[:, 2].sum())


def lit(yaw, light=LEFT, ambient=0.25, albedo=SKIN):
    """The planted head of one colour under a distant light that stays in the room: photograph, landmarks, parts."""
    surface, (width, height) = load_surface(), SIZE
    mean = surface.mean.astype(float)
    turn = rotation(yaw)
    points = mean @ turn.T * WIDTH + np.array([*CENTRE, 0])
    normals = vertex_normals(mean, surface.faces) @ turn.T
    normal, shown, _ = draw(points, surface.faces, normals, np.ones(len(surface.faces)), (width, height))
    shade = ambient + (1 - ambient) * np.maximum(normal @ light, 0)
    picture = np.where((shown > 0)[..., None], 255 * (albedo * shade[..., None]) ** (1 / GAMMA), 90.0)
    parts = np.zeros((7, height, width), np.float32)
    parts[0], parts[1] = shown == 0, shown > 0
    marks = points[surface.landmarks, :2]
    return Planted(picture.round().astype(np.uint8), marks, PlantedParts(parts, np.eye(2, 3)), shown > 0)


def off(image, truth, where):
    return float(np.square(image.astype(float) - truth)[where].mean())


@pytest.fixture(scope="module")
def head():
    return head_of(lit(0))


@pytest.mark.parametrize("order", [1, 2])
def test_a_planted_light_is_recovered_despite_outliers(order):
    basis = harmonics(directions(), order)
    planted = np.r_[0.4, 0.2, -0.1, 0.15, np.full(basis.shape[1] - 4, 0.03)]
    luminance = basis @ planted
    luminance[::10] = 0.02  # a beard
    luminance[5::40] = 1.0  # specular spots
    found, explained = fit_harmonics(basis, luminance)
    assert np.corrcoef(basis @ found, basis @ planted)[0, 1] > 0.97
    assert explained > 0.8


def test_noise_explains_nothing():
    found, explained = fit_harmonics(harmonics(directions()), np.random.default_rng(1).uniform(0.2, 0.6, 4000))
    assert explained < 0.03
    assert np.abs(found[1:]).max() < 0.03


def test_the_gain_is_one_without_a_rotation_and_bounded_with_one():
    normals, none = directions(), np.zeros(4000)
    shading = Shading(np.array([0.05, -0.6, 0.0, 0.1]), 1.0, 1.0)
    assert np.abs(light_gain(shading, normals, np.eye(3), none > 0, none)).max() < 1e-6
    gain = np.exp(GAMMA * light_gain(shading, normals, rotation(60), none > 0, none))
    assert RATIO[0] * 0.999 <= gain.min() < 0.5 * gain.max() <= 0.5 * RATIO[1] * 1.001
    on_hair = light_gain(shading, normals, rotation(60), none > 0, none + 1)
    assert on_hair == pytest.approx(0.5 * np.log(gain) / GAMMA)


def test_bright_colours_keep_their_hue():
    relit = relight(np.array([[[240.0, 120.0, 60.0]]]), np.array([[2.0]]))
    assert relit[0, 0] == pytest.approx([255, 127.5, 63.75])


def test_the_side_of_the_light_is_found_on_a_head(head):
    direction = head.shading.coefficients[1:] / np.linalg.norm(head.shading.coefficients[1:])
    assert direction @ LEFT > 0.8
    assert head.shading.strength == 1


@pytest.mark.parametrize("yaw", [-30, -15, 15, 30])
def test_a_lit_head_is_nearer_to_the_truth_with_the_light_kept(head, yaw):
    truth = lit(yaw)
    inside = truth.face & (turn_surfaces(head, yaw).head > 0.99)
    kept, follows = (off(turn_surfaces(head, yaw, light_follows=f).image, truth.picture, inside) for f in (False, True))
    assert kept < 0.75 * follows


def test_zero_degrees_give_the_photograph_and_a_small_rotation_hardly_changes_the_light(head):
    assert np.array_equal(turn_head(head, 0.0).image, head.photograph)
    kept, follows = (turn_surfaces(head, 0.05, light_follows=f).image.astype(float) for f in (False, True))
    assert np.abs(kept - follows).max() <= 1


def test_pixels_outside_the_region_stay(head):
    image = turn_surfaces(head, 25).image
    left, top, right, bottom = head.region.box()
    outside = np.ones(image.shape[:2], bool)
    outside[top:bottom, left:right] = False
    assert np.array_equal(image[outside], head.photograph[outside])


def test_the_mirrored_photograph_rotated_the_other_way_is_the_mirrored_rotation(head):
    plant = lit(0)
    marks = plant.landmarks[MIRRORED] * [-1, 1] + [SIZE[0], 0]
    parts = PlantedParts(plant.parts.probabilities[:, :, ::-1].copy(), np.eye(2, 3))
    other = build_head(plant.picture[:, ::-1].copy(), marks, parts, SMALL)
    assert other.shading.coefficients == pytest.approx(head.shading.coefficients * [1, -1, 1, 1], abs=5e-3)
    here, there = turn_surfaces(head, 25).image.astype(float), turn_surfaces(other, -25).image.astype(float)
    assert np.abs(here - there[:, ::-1]).mean() < 1.0


def test_the_light_follows_on_request_or_if_unknown(head):
    follows = turn_surfaces(head, 25, light_follows=True).image
    plain = replace(head, config=replace(head.config, light_follows=True))
    assert np.array_equal(turn_surfaces(plain, 25).image, follows)
    assert not np.array_equal(turn_surfaces(head, 25).image, follows)
    noise = np.random.default_rng(2).uniform(20, 235, head.image.shape).astype(np.float32)
    for image in (noise, np.full_like(head.image, 128)):
        unknown = replace(head, image=image)
        assert unknown.shading.strength == 0
        assert np.array_equal(turn_surfaces(unknown, 25).image, turn_surfaces(unknown, 25, light_follows=True).image)


def test_a_dark_skin_is_lit_as_a_bright_one_is(head):
    dark = head_of(lit(0, albedo=0.15 * SKIN))
    ratio = dark.shading.coefficients / head.shading.coefficients
    assert dark.shading.strength == 1
    assert ratio[1] / ratio[0] == pytest.approx(1, abs=0.15)


def test_an_edit_keeps_the_light_unless_it_is_asked_to_let_it_follow(head):
    left, top, right, bottom = head.region.box()
    for follows in (False, True):
        command = Edit(Path("photo.jpg"), deg=20, light_follows=follows)
        config = command.config(command.request())
        assert config == EditConfig(light_follows=follows)
        patch = compose(head, Turn(20, 0), None, config)
        assert np.array_equal(patch.pixels, turn_head(head, 20, light_follows=follows).image[top:bottom, left:right])


@pytest.mark.parametrize("option", ["crop", "crop_only"])
def test_a_crop_alone_cannot_let_the_light_follow(option):
    with pytest.raises(LatentrotError, match="--light-follows"):
        Edit(Path("photo.jpg"), deg=20, light_follows=True, **{option: True}).run()


def test_conditions_of_the_pair_model_are_not_relit():
    assert ConditionRenderer(64).config.light_follows
