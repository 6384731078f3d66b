"""The turn by geometry, on a planted head: the bundled face surface with a pattern on it, so that true views are known."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from planted import CENTRE, SMALL, WIDTH, PlantedParts, head_of, mirrored, planted
from scipy.ndimage import binary_fill_holes

from latentrot.errors import LatentrotError
from latentrot.faces.alignment import align_landmarks
from latentrot.faces.parts import ACCESSORIES, HAIR
from latentrot.faces.upright import five_of
from latentrot.geometry import MeshConfig, build_head
from latentrot.geometry.depth import inflate
from latentrot.geometry.draw import draw
from latentrot.geometry.ear import load_ear, make_ear
from latentrot.geometry.ears import draw_ear
from latentrot.geometry.export import as_mesh, export_head
from latentrot.geometry.fields import curve_through, extrapolated, filled, holes_filled, nearest, signed_distance
from latentrot.geometry.hair import _largest_box, _quilted
from latentrot.geometry.surface import fit_surface, rotation
from latentrot.geometry.triangulate import triangulate_mask
from latentrot.geometry.turn import realign_crop, turn_surfaces
from latentrot.geometry.whole import whole_head
from latentrot.synthetic.head_model import ICT_PATH
from latentrot.synthetic.ict import read_ict


def test_zero_degrees_give_the_photograph_bit_for_bit(frontal, head):
    turned = turn_surfaces(head, 0.0)
    assert np.array_equal(turned.image, frontal.picture)
    assert turned.coverage.min() == 1
    assert turned.image is not frontal.picture


@pytest.mark.parametrize(("yaw", "pitch", "roll"), [(30, 0, 0), (-60, 10, 0), (0, -25, 0), (90, 0, 0), (10, 5, 15)])
def test_pixels_outside_the_region_stay(frontal, head, yaw, pitch, roll):
    turned = turn_surfaces(head, yaw, pitch, roll)
    assert turned.image.shape == frontal.picture.shape
    assert not np.array_equal(turned.image, frontal.picture)
    left, top, right, bottom = head.region.box()
    outside = np.ones(frontal.picture.shape[:2], bool)
    outside[top:bottom, left:right] = False
    assert outside.any()
    assert np.array_equal(turned.image[outside], frontal.picture[outside])
    for share in (turned.coverage, turned.head):
        assert share.shape == outside.shape
        assert 0 <= share.min() <= share.max() <= 1


def test_the_corners_of_a_tilted_region_stay(frontal):
    """The box of a leaning head's region holds pixels that lie outside the region, whose last row must not be drawn there."""
    height, width = frontal.picture.shape[:2]
    middle = ((width - 1) / 2, (height - 1) / 2)
    tilt = cv2.getRotationMatrix2D(middle, 20, 1.0)
    lean = cv2.warpAffine(frontal.picture, tilt, (width, height), borderMode=cv2.BORDER_REPLICATE)
    parts = np.stack(
        [cv2.warpAffine(p, tilt, (width, height), borderMode=cv2.BORDER_REPLICATE) for p in frontal.parts.probabilities]
    )
    marks = frontal.landmarks @ tilt[:, :2].T + tilt[:, 2]
    leaning = build_head(lean, marks, PlantedParts(parts, np.eye(2, 3)), SMALL)
    turned = turn_surfaces(leaning, 60.0)
    rows, columns = np.mgrid[:height, :width] + 0.5
    place = leaning.region.to_region(np.stack([columns.ravel(), rows.ravel()], 1))
    outside = ((place < -1) | (place > np.array(leaning.region.size) + 1)).any(1).reshape(height, width)
    left, top, right, bottom = leaning.region.box()
    assert outside[top:bottom, left:right].any()
    assert np.array_equal(turned.image[outside], lean[outside])


def test_rotation_obeys_the_mirror_law():
    plant = planted(yaw=8)
    other = head_of(mirrored(plant))
    here, there = turn_surfaces(head_of(plant), 20), turn_surfaces(other, -20)
    apart = np.abs(here.image.astype(float) - there.image[:, ::-1].astype(float))
    assert apart.mean() < 1.0
    assert other.pose[0] == pytest.approx(-head_of(plant).pose[0], abs=0.7)


@pytest.mark.parametrize(("yaw", "pitch"), [(20, 0), (-20, 0), (35, 0), (0, 15), (0, -15), (15, 10)])
def test_a_turned_head_is_nearer_to_its_true_view_than_nothing(frontal, head, yaw, pitch):
    truth = planted(yaw, pitch)
    inside = truth.face & frontal.face

    def error(picture):
        return float(np.square(picture.astype(float) - truth.picture)[inside].mean())

    scale = replace(SMALL, depth_scale=1.0)
    assert error(turn_surfaces(head_of(frontal, scale), yaw, pitch).image) < 0.6 * error(frontal.picture)


def test_the_nose_goes_where_the_head_turns(head):
    def nose(yaw, pitch=0.0):
        picture = turn_surfaces(head, yaw, pitch).image.astype(float)
        red = np.clip(picture[..., 0] - 215, 0, None)
        rows, columns = np.mgrid[: red.shape[0], : red.shape[1]]
        return (red * columns).sum() / red.sum(), (red * rows).sum() / red.sum()

    across = [nose(yaw)[0] for yaw in (-40, -25, -10, 0, 10, 25, 40)]
    assert np.diff(across).min() > 3
    assert nose(0, 20)[1] < nose(0)[1] - 5 < nose(0, -20)[1] - 10


@pytest.mark.parametrize(("yaw", "pitch"), [(0, 0), (25, 5), (-45, -10), (70, 0)])
def test_the_fit_finds_pose_and_width(yaw, pitch):
    plant = planted(yaw, pitch)
    fit = fit_surface(plant.landmarks)
    assert fit.yaw_deg == pytest.approx(yaw, abs=3)
    assert fit.pitch_deg == pytest.approx(pitch, abs=3)
    assert fit.width == pytest.approx(WIDTH, rel=0.06)
    assert fit.error < 0.01


def test_landmarks_turn_with_the_head(head):
    turned = turn_surfaces(head, 20, 5)
    fit = fit_surface(turned.landmarks)
    assert fit.yaw_deg - head.pose[0] == pytest.approx(20, abs=3.5)
    assert fit.pitch_deg - head.pose[1] == pytest.approx(5, abs=3.5)


def test_a_large_photograph_keeps_its_fine_detail():
    plant = planted(scale=3.0)
    rng = np.random.default_rng(0)
    grain = rng.normal(0, 12, plant.picture.shape)
    noisy = np.clip(plant.picture + grain, 0, 255).astype(np.uint8)
    head = build_head(noisy, plant.landmarks, plant.parts, SMALL)
    assert head.region.scale < 0.7
    assert np.array_equal(turn_surfaces(head, 0).image, noisy)
    turned = turn_surfaces(head, 10).image.astype(float)
    rows, columns = (slice(int(v) - 30, int(v) + 30) for v in plant.landmarks[30, ::-1])
    flat = turn_surfaces(head_of(plant), 10).image.astype(float)
    assert (turned - flat)[rows, columns].std() > 6


def test_implausible_faces_are_refused(frontal):
    rng = np.random.default_rng(1)
    with pytest.raises(LatentrotError, match="the landmarks do not fit"):
        build_head(frontal.picture, rng.uniform(0, 300, (68, 2)), frontal.parts, SMALL)
    with pytest.raises(LatentrotError, match=r"expected \(68, 2\) finite"):
        build_head(frontal.picture, frontal.landmarks[:5], frontal.parts, SMALL)
    with pytest.raises(LatentrotError, match="photograph"):
        build_head(frontal.picture[..., 0], frontal.landmarks, frontal.parts, SMALL)


@pytest.mark.parametrize("yaw", [float("nan"), 500.0])
def test_invalid_rotations_are_refused(head, yaw):
    with pytest.raises(LatentrotError, match="degrees"):
        turn_surfaces(head, yaw)


def test_parameters_out_of_range_are_refused():
    with pytest.raises(LatentrotError, match="largest_px"):
        MeshConfig(smallest_px=500, largest_px=100)
    with pytest.raises(LatentrotError, match="swell"):
        MeshConfig(swell=0)


def test_the_exported_mesh_is_closed_and_faces_outwards(head, tmp_path):
    trimesh = pytest.importorskip("trimesh", reason="exporting needs trimesh")
    points, faces, place, texture = as_mesh(head)
    skin = faces[: len(faces) - len(whole_head(head).shell.faces)]
    _, same = np.unique(
        points.round(9), axis=0, return_inverse=True
    )  # a seam of the texture has two vertices at one place
    assert trimesh.Trimesh(points, skin, process=False).volume > 0.2
    edges = np.sort(np.concatenate([same[skin[:, [0, 1]]], same[skin[:, [1, 2]]], same[skin[:, [2, 0]]]]), 1)
    assert set(np.unique(edges, axis=0, return_counts=True)[1]) == {2}
    assert 0 <= place.min() <= place.max() <= 1
    export_head(head, tmp_path / "head.glb")
    scene = trimesh.load(tmp_path / "head.glb")
    (mesh,) = scene.geometry.values()
    assert len(mesh.faces) == len(faces)
    assert mesh.visual.material.baseColorTexture.size == texture.shape[1::-1]
    with pytest.raises(LatentrotError, match="glb"):
        export_head(head, tmp_path / "head.stl")


# --- the pieces -----------------------------------------------------------------------------------------------------


def disc(size=81, radius=30.0):
    y, x = np.mgrid[:size, :size] - size // 2
    return radius - np.hypot(x, y).astype(np.float32)


def test_a_sheet_has_the_area_of_its_mask_and_every_inner_edge_twice():
    sheet = triangulate_mask(disc())
    a, b, c = sheet.points[sheet.faces].transpose(1, 0, 2).astype(float)
    areas = ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2
    assert areas.min() >= 0
    assert areas.sum() == pytest.approx(np.pi * 900, rel=0.002)
    edges = np.sort(np.concatenate([sheet.faces[:, [0, 1]], sheet.faces[:, [1, 2]], sheet.faces[:, [2, 0]]]), 1)
    single = np.unique(edges, axis=0, return_counts=True)[1] == 1
    assert single.sum() == sheet.rim.sum()


def test_a_disc_inflates_to_a_hemisphere():
    distance = disc(161, 60.0)
    nothing = np.zeros(distance.shape, bool)
    u = inflate(distance > 0, nothing, np.zeros(distance.shape, np.float32), distance, 4.0, 120.0)
    r = 60 - distance
    inside = distance > 4
    assert np.abs(u - (3600 - r**2))[inside].max() < 0.05 * 3600
    assert u[distance < 0].max() == 0


def test_nearer_triangles_hide_farther_ones_and_none_shows_its_back():
    square = np.array([[2, 2], [18, 2], [18, 18], [2, 18]], float)
    points = np.concatenate([np.column_stack([square, np.full(4, z)]) for z in (1.0, 5.0)])
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    _, shown, depth = draw(points, faces, points[:, :2], np.array([1, 1, 2, 2]), (20, 20))
    assert set(np.unique(shown)) == {0, 2}
    assert (shown > 0).sum() == 256
    assert depth[10, 10] == pytest.approx(5)
    assert (draw(points, faces[:, ::-1], points[:, :2], np.ones(4), (20, 20))[1] == 0).all()


def test_filling_keeps_known_pixels_and_constants():
    known = disc(61, 20.0) < 0
    even = np.full((61, 61, 3), 77, np.float32)
    assert np.allclose(filled(even, known, 2.0), 77, atol=0.5)
    drawn = np.random.default_rng(2).uniform(0, 255, (61, 61, 3)).astype(np.float32)
    assert np.array_equal(filled(drawn, known)[known], drawn[known])
    assert np.allclose(extrapolated(even, known.astype(np.float32)), 77, atol=0.5)


def test_a_curve_goes_through_its_points_and_stays_round():
    angles = np.radians(np.linspace(20, 160, 17))
    circle = np.stack([np.cos(angles), np.sin(angles)], 1)
    curve = curve_through(circle, 10)
    assert curve.shape == (161, 2)
    assert np.allclose(curve[::10], circle)
    assert np.abs(np.linalg.norm(curve, axis=1) - 1).max() < 2e-3


def test_holes_are_enclosed_pixels():
    mask = np.random.default_rng(0).random((60, 80)) < 0.45
    assert np.array_equal(holes_filled(mask), binary_fill_holes(mask))
    ring = np.zeros((9, 9), bool)
    ring[2:7, 2:7] = True
    ring[3:6, 3:6] = False
    assert holes_filled(ring).sum() == 25
    ring[2, 4] = False
    assert holes_filled(ring).sum() == 15


def test_nearest_and_distance_agree():
    mask = disc(61, 20.0) > 0
    rows, columns = nearest(mask)
    y, x = np.mgrid[:61, :61]
    away = np.hypot(rows - y, columns - x)
    assert (away[mask] == 0).all()
    assert mask[rows, columns].all()
    assert np.abs(away - 0.5 + signed_distance(mask))[~mask].max() < 1.0


@pytest.mark.parametrize("yaw", [-50.0, -20.0, 0.0, 35.0])
def test_a_turned_crop_stays_in_its_frame(head, yaw):
    turned = turn_surfaces(head, yaw)
    crop = realign_crop(head, turned)
    assert crop.shape == head.photograph.shape
    if yaw == 0:
        assert np.array_equal(crop, head.photograph)
        return
    size = head.photograph.shape[1::-1]
    was = align_landmarks(five_of(head.region.to_photo(head.landmarks[:, :2])), size)
    again = align_landmarks(five_of(turned.landmarks), size)
    # the mouth's colours, where the frame has it, are those of the turned image's mouth
    marks = was.to_photo(again.to_frame(turned.landmarks))
    for k in (30, 48, 54):
        (x, y), (u, v) = np.round(marks[k] - 0.5).astype(int), np.round(turned.landmarks[k] - 0.5).astype(int)
        assert np.abs(crop[y, x].astype(float) - turned.image[v, u]).max() < 40
    middle = five_of(head.region.to_photo(head.landmarks[:, :2])).mean(0)
    assert np.linalg.norm(five_of(marks).mean(0) - middle) < np.linalg.norm(five_of(turned.landmarks).mean(0) - middle)


def test_quilted_detail_has_the_spread_of_its_piece_and_no_mean():
    """Soft edges neither dull it nor make stripes of it."""
    detail = np.random.default_rng(3).normal(0, 9, (80, 60, 3))
    laid = _quilted(detail, (500, 420), 200.0)
    assert laid.shape == (500, 420, 3)
    assert laid.std() == pytest.approx(9, rel=0.1)
    assert np.abs(laid.mean(1)).max() < 4
    assert not _quilted(detail[:5], (500, 420), 200.0).any()


def test_the_box_lies_in_its_mask_and_is_not_narrow():
    mask = np.zeros((300, 300), bool)
    mask[10:30, :] = True  # wide and flat
    mask[100:200, 50:170] = True
    left, top, right, bottom = _largest_box(mask, 5.0)
    assert mask[top:bottom, left:right].all()
    assert bottom - top >= 80
    assert right - left >= 100


class TestEars:
    """A mean ear stands where the photograph's was, on the side that a turn shows, unless hair lies over it."""

    def test_both_ears_are_found(self, head):
        assert [ear.side for ear in head.ears] == [-1, 1]
        for ear, mark in zip(head.ears, head.landmarks[[0, 16]], strict=True):
            off = (ear.points - mark) / head.region.width
            assert 0.03 < (ear.side * off[:, 0]).max() < 0.2
            assert 0.3 < off[:, 1].max() < 0.5

    @pytest.mark.parametrize(("yaw", "sides"), [(25, [-1]), (-25, [1]), (8, [-1, 1]), (40, [])])
    def test_hidden_or_fully_visible_ears_are_not_drawn(self, yaw, sides):
        assert [ear.side for ear in head_of(planted(yaw=yaw)).ears] == sides

    @pytest.mark.parametrize("part", [HAIR, ACCESSORIES])
    def test_hair_or_a_helmet_hides_one(self, frontal, part):
        parts = frontal.parts.probabilities.copy()
        beside = (np.arange(parts.shape[2]) > CENTRE[0] + 0.4 * WIDTH) & (parts[1] > 0)
        parts[1, beside], parts[part, beside] = 0, 1
        hidden = build_head(frontal.picture, frontal.landmarks, PlantedParts(parts, np.eye(2, 3)), SMALL)
        assert [ear.side for ear in hidden.ears] == [-1]

    @pytest.mark.parametrize(("yaw", "drawn"), [(-30, [0, 1]), (-8, [0, 0.5]), (-2, [0, 0]), (2, [0, 0]), (30, [1, 0])])
    def test_an_ear_comes_into_view_with_the_rotation(self, head, yaw, drawn):
        assert [ear.weight(yaw) for ear in head.ears] == drawn

    def test_an_ear_is_drawn_at_its_position(self, head):
        turn = rotation(-25)
        ear = head.ears[1]
        colours, alpha = draw_ear(ear, turn, head.axis, head.region.size)
        rows, columns = np.nonzero(alpha > 0.5)
        points = (ear.points - head.axis) @ turn.T + head.axis
        low, high = points[:, :2].min(0) - 1, points[:, :2].max(0) + 1
        assert len(rows) > 0.01 * head.region.width**2
        assert ((columns > low[0]) & (columns < high[0]) & (rows > low[1]) & (rows < high[1])).all()
        shown = colours[rows, columns]
        assert (shown > 0.2 * ear.colours.min(0)).all()
        assert (shown < 1.6 * ear.colours.max(0)).all()

    def test_the_head_ends_at_the_jaw_under_one(self, frontal):
        rows, columns = np.mgrid[: frontal.picture.shape[0], : frontal.picture.shape[1]]
        jaw, top = frontal.landmarks[12], frontal.landmarks[16, 1]
        ear = (columns > jaw[0]) & (columns < CENTRE[0] + 0.62 * WIDTH) & (rows > top) & (rows < top + 0.5 * WIDTH)
        picture, parts = frontal.picture.copy(), frontal.parts.probabilities.copy()
        picture[ear & ~frontal.face] = np.median(picture[frontal.face], axis=0)
        parts[0, ear], parts[1, ear] = 0, 1
        head = build_head(picture, frontal.landmarks, PlantedParts(parts, np.eye(2, 3)), SMALL)
        turned, without = (turn_surfaces(h, -25).head for h in (head, replace(head, ears=())))
        under = slice(int(top + 0.44 * WIDTH), None), slice(int(jaw[0]), None)  # the drawn ear's lobe ends above
        assert turned[under].sum() < 0.6 * without[under].sum()

    @pytest.mark.shared_data
    def test_the_bundled_one_is_cut_from_the_face_model(self):
        if not ICT_PATH.is_file():
            pytest.skip("needs ../shared/data")
        made, bundled = make_ear(read_ict(ICT_PATH)), load_ear()
        assert np.array_equal(made.faces, bundled.faces)
        for name in ("points", "shade", "whole"):
            assert np.abs(getattr(made, name) - getattr(bundled, name)).max() < 2e-3


class TestHats:
    """What a hat hides is no hat where it ends."""

    def hatted(self, frontal, colour=(20, 20, 200), above=0.2, hair=False):
        """The planted head with everything so much `above` its middle, in W, a little beyond it, a blue hat; `hair` below."""
        picture, parts = frontal.picture.copy(), frontal.parts.probabilities.copy()
        rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]]
        hat = (np.abs(columns - CENTRE[0]) < 0.62 * WIDTH) & (rows < CENTRE[1] - above * WIDTH)
        hat &= rows > CENTRE[1] - 0.8 * WIDTH
        picture[hat] = colour
        parts[:, hat] = 0
        parts[6, hat] = 1
        if hair:
            below = (np.abs(np.abs(columns - CENTRE[0]) - 0.53 * WIDTH) < 0.09 * WIDTH) & ~hat
            below &= (rows > CENTRE[1] - above * WIDTH) & (rows < CENTRE[1] + 0.2 * WIDTH)
            picture[below] = (90, 60, 40)
            parts[:, below] = 0
            parts[2, below] = 1
        return build_head(picture, frontal.landmarks, PlantedParts(parts, np.eye(2, 3)), SMALL)

    def test_a_hat_ends_at_its_brim_over_hair(self, frontal):
        head = self.hatted(frontal, hair=True)
        width = head.region.width
        lowest = np.nonzero((head.outline.hat > 0.5) & head.outline.head)[0].max()
        for tone in (head.colours.tone, head.colours.back_tone):
            blue = tone[..., 2] > tone[..., 0] + 30
            assert blue[: int(lowest - 0.1 * width)].mean() > 0.5
            assert not blue[int(lowest + 0.2 * width) :].any()

    def test_a_hat_without_visible_hair_reaches_the_ears(self, frontal):
        """The planted head has none: a hat pushed back ends at the same row behind as one that is not."""
        ends = [
            np.nonzero((head.colours.back_tone[..., 2] > head.colours.back_tone[..., 0]).any(1))[0].max()
            for head in (self.hatted(frontal), self.hatted(frontal, above=0.35))
        ]
        assert ends[0] == pytest.approx(ends[1], abs=3)

    def test_a_narrow_band_is_no_hat(self, frontal, head):
        parts = frontal.parts.probabilities.copy()
        rows = np.arange(parts.shape[1])
        band = (np.abs(rows - CENTRE[1])[:, None] < 2) & (parts[1] > 0)
        parts[1, band], parts[6, band] = 0, 1
        other = build_head(frontal.picture, frontal.landmarks, PlantedParts(parts, np.eye(2, 3)), SMALL)
        assert np.abs(other.colours.back_tone - head.colours.back_tone).mean() < 6


class TestHair:
    """Hair keeps its own colours, lies over the ears it covers, and is flat where it hangs."""

    COLOUR = (60, 40, 30)

    def haired(self, frontal, behind=None, wall=None, bare=None, grey=None):
        """The planted head under long dark hair before a plain `behind`.

        Masks: `wall` seen through it, skin left `bare`, hair that is `grey`.
        """
        picture, parts = frontal.picture.copy(), frontal.parts.probabilities.copy()
        across, down = self.places(frontal)
        hair = (np.abs(across) < 0.75) & (down > -0.9) & (down < 1.2)
        hair &= ~frontal.face | (np.abs(across) > 0.42) | (down < -0.3)
        if bare is not None:
            hair &= ~bare
        if behind is not None:
            picture[~frontal.face] = behind
        picture[hair if wall is None else hair & ~wall] = self.COLOUR
        if grey is not None:
            picture[hair & grey] = 190
        parts[:, hair] = 0
        parts[2, hair] = 1
        return build_head(picture, frontal.landmarks, PlantedParts(parts, np.eye(2, 3)), SMALL)

    def places(self, frontal):
        """(h, w) each: how far right of the face's middle and below it, in widths."""
        rows, columns = np.mgrid[: frontal.picture.shape[0], : frontal.picture.shape[1]]
        return (columns - CENTRE[0]) / WIDTH, (rows - CENTRE[1]) / WIDTH

    def test_hanging_hair_is_flat(self, frontal):
        head = self.haired(frontal)
        outline, width = head.outline, head.region.width
        beside = outline.head & (np.abs(np.arange(outline.head.shape[1]) - head.axis[0]) > 0.6 * width)
        low, high = int(outline.cut - 2), int(outline.lobe - 0.3 * width)
        assert beside[low].any()
        for u in (head.front_u, head.back_u):
            assert np.sqrt(u[low][beside[low]]).max() < 0.03 * width
            assert np.sqrt(u[high][beside[high]]).max() > 0.1 * width

    def test_hair_takes_no_colour_from_background_in_its_mask(self, frontal):
        across, down = self.places(frontal)
        plain, through = (
            self.haired(frontal, behind=(200, 210, 60), wall=wall) for wall in (None, (across < -0.6) & (down < 0))
        )
        inside = plain.outline.head & ~plain.outline.face
        assert np.abs(through.colours.tone - plain.colours.tone)[inside].max() < 12

    def test_untypical_hair_colour_blends_into_the_rest(self, frontal):
        across, down = self.places(frontal)
        tone = self.haired(frontal, grey=(across < 0) & (down > -0.1)).colours.tone
        assert np.ptp(tone) > 20  # there is something to go over
        assert max(np.abs(np.diff(tone, axis=axis)).max() for axis in (0, 1)) < 15

    def test_large_rotations_keep_the_background(self, frontal, monkeypatch):
        across, down = self.places(frontal)
        stripes = np.where((across * 10 % 2 < 1)[..., None], 200, 40) + np.zeros(3, int)
        head = self.haired(frontal, behind=stripes[~frontal.face])

        def moved():
            turned = turn_surfaces(head, 60)
            away = (np.abs(across) > 0.85) & (down < 0) & (turned.head == 0)
            return (np.abs(turned.image.astype(int) - head.photograph).max(-1) > 60)[away].mean()

        left = moved()
        monkeypatch.setattr("latentrot.geometry.surroundings.DETACHED", (9.0, 10.0))
        assert left < 0.75 * moved()

    def test_hair_covers_the_lobes(self, frontal, head):
        across, down = self.places(frontal)
        lobe = (np.abs(across - 0.55) < 0.05) & (np.abs(down - 0.3) < 0.07)
        covered = self.haired(frontal, bare=lobe)
        place = np.array([[0.55, 0.3]]) * WIDTH + CENTRE
        column, row = covered.region.to_region(place)[0].astype(int)
        assert covered.colours.near_hair[row, column] > 0.5
        assert head.colours.near_hair.max() == 0


def test_a_rim_of_the_face_that_is_surely_background_is_left_out(frontal):
    parts = frontal.parts.probabilities.copy()
    rows, columns = np.mgrid[: parts.shape[1], : parts.shape[2]]
    wall = (columns > CENTRE[0] + 0.46 * WIDTH) & (rows > CENTRE[1] - 0.1 * WIDTH)
    error = (np.abs(columns - CENTRE[0]) < 4) & (np.abs(rows - CENTRE[1] - 20) < 4)  # on the nose
    for mask in (wall, error):
        parts[:, mask] = 0
        parts[0, mask] = 1
    head = build_head(frontal.picture, frontal.landmarks, PlantedParts(parts, np.eye(2, 3)), SMALL)
    inside = np.rint(head.region.to_region(np.array([[CENTRE[0], CENTRE[1] + 20]]))[0]).astype(int)
    outside = np.rint(head.region.to_region(np.array([[CENTRE[0] + 0.485 * WIDTH, CENTRE[1] + 8]]))[0]).astype(int)
    whole = head_of(frontal).outline.face
    assert head.outline.face[inside[1], inside[0]]
    assert whole[outside[1], outside[0]]
    assert not head.outline.face[outside[1], outside[0]]
