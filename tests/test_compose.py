"""A drawn face fills what geometry could not see: on the planted head, whose true views are known."""

import numpy as np
import pytest
from planted import head_of, planted

from latentrot.errors import LatentrotError
from latentrot.faces.alignment import align_landmarks
from latentrot.faces.upright import MIRRORED_68, five_of, mirrored, upright_square
from latentrot.geometry.turn import turn_surfaces
from latentrot.portrait.compose import Patch, face_mask, fill_hidden, fit_colours, replace_face, warp_crop_to_image
from latentrot.portrait.turns import Turn, parse_sweep, parse_turns

AWAY = 40.0


@pytest.fixture(scope="module")
def scene():
    """A head seen from one side, turned to the other, and the true image of that."""
    head = head_of(planted(yaw=-25))
    return head, turn_surfaces(head, AWAY), planted(yaw=-25 + AWAY)


def crop_of(truth, side=64):
    size = truth.picture.shape[1::-1]
    return align_landmarks(five_of(truth.landmarks), size).crop(truth.picture, side)


def test_visible_parts_come_from_the_source(scene):
    head, _, truth = scene
    same = turn_surfaces(head, 0.0)
    patch = fill_hidden(head, same, 255 - crop_of(truth), 1.0)
    left, top, right, bottom = patch.box
    assert np.array_equal(patch.pixels, head.photograph[top:bottom, left:right])
    assert patch.coverage == pytest.approx(1)


def test_close_faces_do_not_undo_each_other(scene):
    before = np.full((10, 12, 3), 50, np.uint8)
    boxes = (0, 0, 8, 10), (3, 0, 12, 10)
    patches = [Patch(box, before[box[1] : box[3], box[0] : box[2]].copy(), 1.0, scene[1].alignment) for box in boxes]
    patches[0].pixels[4, 5] = 90
    patches[1].pixels[4, 7] = 120
    both = before.copy()
    for patch in patches:
        patch.paste(both, before)
    expected = before.copy()
    expected[4, 5], expected[4, 10] = 90, 120
    assert np.array_equal(both, expected)


def test_without_trust_or_a_drawn_face_geometry_is_unchanged(scene):
    head, turned, truth = scene
    left, top, right, bottom = head.region.box()
    for patch in (fill_hidden(head, turned, None), fill_hidden(head, turned, crop_of(truth), 0.0)):
        assert np.array_equal(patch.pixels, turned.image[top:bottom, left:right])
        assert 0.3 < patch.coverage < 0.98


def test_a_true_drawn_face_reduces_the_error_of_hidden_parts(scene):
    head, turned, truth = scene
    left, top, right, bottom = head.region.box()
    window = np.s_[top:bottom, left:right]
    hidden = face_mask(turned.landmarks - [left, top], (bottom - top, right - left)) * (1 - turned.coverage[window])

    def off(pixels):
        apart = np.square(pixels.astype(float) - truth.picture[window]).mean(-1)
        return float((apart * hidden).sum() / hidden.sum())

    flat = np.full_like(crop_of(truth), 128)
    geometry, filled = off(turned.image[window]), off(fill_hidden(head, turned, crop_of(truth), 1.0).pixels)
    assert hidden.sum() > 100
    assert filled < 0.8 * geometry
    assert filled < 0.8 * off(fill_hidden(head, turned, flat, 1.0).pixels)


def test_replace_face_shows_the_drawn_face(scene):
    head, turned, truth = scene
    patch = replace_face(head, turned, np.full_like(crop_of(truth), 77))
    core = face_mask(turned.landmarks - np.array(patch.box[:2]), patch.pixels.shape[:2]) == 1
    assert core.any()
    assert (patch.pixels[core] == 77).all()


def test_a_crop_is_warped_back_to_its_position(scene):
    _, turned, truth = scene
    alignment = turned.alignment
    crop = alignment.crop(truth.picture, 160)
    height, width = truth.picture.shape[:2]
    back = warp_crop_to_image(alignment, crop, (0, 0, width, height))
    inside = np.zeros((height, width), bool)
    corners = alignment.to_photo(np.array([[45.0, 80], [133, 80], [45, 165], [133, 165]]))
    low, high = np.ceil(corners.min(0)).astype(int), np.floor(corners.max(0)).astype(int)
    inside[low[1] : high[1], low[0] : high[0]] = True
    assert np.abs(back - truth.picture)[inside].mean() < 2.5


def test_a_planted_colour_cast_is_removed():
    rng = np.random.default_rng(0)
    wanted = rng.uniform(60, 200, (80, 80, 3)).astype(np.float32)
    known = np.ones((80, 80), np.float32)
    known[:, 40:] = 0
    fitted = fit_colours(wanted * np.array([1.2, 1.0, 0.8], np.float32), wanted, known, 8.0)
    assert np.abs(fitted / wanted - 1)[:, :44].max() < 0.06


def test_mirrored_landmarks_come_back_and_squares_follow_the_photograph(scene):
    _, turned, _ = scene
    points = turned.landmarks
    assert sorted(MIRRORED_68) == list(range(68))
    assert mirrored(mirrored(points, 300), 300) == pytest.approx(points)
    angle, scale = np.radians(25), 1.7
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = points @ linear.T + [30, -10]
    here, there = upright_square(points, 256, 3.2), upright_square(moved, 256, 3.2)
    assert there[:, :2] @ linear == pytest.approx(here[:, :2], abs=1e-9)
    assert moved @ there[:, :2].T + there[:, 2] == pytest.approx(points @ here[:, :2].T + here[:, 2], abs=1e-6)


# ---- the turns asked for ----------------------------------------------------------------------------------------


def test_turns_are_read():
    assert parse_turns(deg=25) == ([Turn(25.0)], False)
    assert parse_turns(to=-10, pitch="5") == ([Turn(-10.0, 5.0)], True)
    assert parse_turns(pitch="-20") == ([Turn(0.0, -20.0)], False)
    grid, absolute = parse_turns(sweep="-60:60:5", pitch="-20:20:3")
    assert not absolute
    assert len(grid) == 15
    assert grid[0] == Turn(-60.0, -20.0)
    assert grid[0].name == "yaw-60_pitch-20"
    assert grid[7].name == "yaw+0"
    assert parse_sweep("-30:30:7") == [-30, -20, -10, 0, 10, 20, 30]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "none of them"),
        ({"deg": 5, "to": 5}, "--deg and --to"),
        ({"deg": 95}, "between -90 and 90"),
        ({"deg": float("nan")}, "between -90 and 90"),
        ({"pitch": "up"}, "--pitch up"),
        ({"pitch": "100"}, "between -90 and 90"),
        ({"sweep": "1:2"}, "FIRST:LAST:COUNT"),
        ({"sweep": "-60:60:50", "pitch": "-20:20:50"}, "at most 200"),
    ],
)
def test_invalid_rotations_are_refused(asked, words):
    with pytest.raises(LatentrotError, match=words):
        parse_turns(**asked)
