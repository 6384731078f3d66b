"""The evaluation: planted rotators score what they must, intervals behave, mistakes are one line."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from PIL import Image
from views import SIZE, YAWS, disc, head_picture, write_views

import latentrot
from latentrot.cli import main
from latentrot.data.frame import MIRRORED_LANDMARKS
from latentrot.errors import LatentrotError
from latentrot.evaluation.bench.compare import portrait_crop
from latentrot.evaluation.measure import MEASURES
from latentrot.evaluation.metrics import bootstrap_mean, identity_rank, squared_error, ssim
from latentrot.evaluation.pairs import EvaluationConfig
from latentrot.evaluation.perceptual import alexnet_weights, installed_lpips
from latentrot.evaluation.published import SPINMEROUND
from latentrot.evaluation.report import markdown_table, protocol_table, summary, write_evaluation
from latentrot.evaluation.run import evaluate
from latentrot.evaluation.views import pairs_of_views, read_views
from latentrot.evaluation.yaw import landmark_features, pixel_yaw
from latentrot.output import list_path
from latentrot.rotators.protocol import rotate_many
from latentrot.rotators.registry import load_rotator

QUICK = {"resamples": 200}


class Perfect:
    """Knows every head: returns the true view."""

    def __init__(self, views, source_yaw=0.0):
        self.views, self.source = views, source_yaw
        column = views.column(source_yaw)
        self.known = {p.tobytes(): h for h, p in enumerate(views.images[:, column])}

    def rotate(self, image, degrees):
        return self.views.images[self.known[image.tobytes()], self.views.column(self.source + degrees)]


class Stranger(Perfect):
    """Turns exactly, but into somebody else of the same light."""

    def rotate(self, image, degrees):
        other = (self.known[image.tobytes()] + 3) % len(self.views.heads)
        return self.views.images[other, self.views.column(self.source + degrees)]


def make_perfect():
    return Perfect(read_views(FOLDER["root"]))


FOLDER = {}  # for make_perfect, which the command line calls without arguments


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    FOLDER["root"] = write_views(tmp_path_factory.mktemp("views"))
    return read_views(FOLDER["root"])


@pytest.fixture(scope="module")
def perfect(views):
    return evaluate({"perfect": Perfect(views)}, views.root, EvaluationConfig(**QUICK))


def of(evaluation, way):
    return evaluation.rows[evaluation.rows["way"] == way].reset_index(drop=True)


class TestMetrics:
    def test_squared_error_is_in_unit_values(self):
        black, white = np.zeros((12, 12, 3), np.uint8), np.full((12, 12, 3), 255, np.uint8)
        assert squared_error(black, white) == 1
        assert squared_error(white, white) == 0
        half = black.copy()
        half[:, :6] = 51  # a fifth of the range on half the pixels
        assert squared_error(black, half) == pytest.approx(0.02)

    def test_ssim_matches_the_formula(self):
        rng = np.random.default_rng(0)
        a = rng.integers(0, 256, (14, 13, 3), np.uint8)
        b = np.clip(a.astype(int) + rng.integers(-60, 60, a.shape), 0, 255).astype(np.uint8)
        line = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
        window = np.outer(line, line) / line.sum() ** 2
        x, y = (p @ np.array([0.299, 0.587, 0.114]) / 255 for p in (a, b))
        values = []
        for i in range(4):
            for j in range(3):
                u, v = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
                mu, mv = (window * u).sum(), (window * v).sum()
                var, cov = (window * ((u - mu) ** 2 + (v - mv) ** 2)).sum(), (window * (u - mu) * (v - mv)).sum()
                values.append((2 * mu * mv + 1e-4) * (2 * cov + 9e-4) / ((mu**2 + mv**2 + 1e-4) * (var + 9e-4)))
        assert ssim(a, b) == pytest.approx(np.mean(values), abs=1e-9)

    def test_ssim_matches_torchmetrics(self):
        metrics = pytest.importorskip("torchmetrics.functional.image")
        rng = np.random.default_rng(2)
        a = rng.integers(0, 256, (40, 40, 3), np.uint8)
        b = np.clip(a.astype(int) + rng.integers(-60, 60, a.shape), 0, 255).astype(np.uint8)
        x, y = (torch.from_numpy(p @ np.array([0.299, 0.587, 0.114]) / 255)[None, None] for p in (a, b))
        _, theirs = metrics.structural_similarity_index_measure(x, y, sigma=1.5, data_range=1.0, return_full_image=True)
        # it also averages windows that reach beyond the image, on mirrored pixels
        assert ssim(a, b) == pytest.approx(float(theirs[..., 5:-5, 5:-5].mean()), abs=1e-9)

    def test_a_region_is_compared_alone(self):
        rng = np.random.default_rng(3)
        a, b = rng.integers(0, 256, (2, 40, 40, 3), np.uint8)
        half = np.zeros((40, 40), bool)
        half[:, :20] = True
        b[:, :26] = a[:, :26]  # the window reaches five pixels beyond the region
        assert squared_error(a, b, half) == 0
        assert ssim(a, b, half) == pytest.approx(1)
        assert squared_error(a, b, ~half) > 0.05
        assert ssim(a, b, ~half) < 0.5
        assert np.isnan(squared_error(a, b, half & ~half))

    def test_ssim_of_equal_and_unrelated_images(self):
        rng = np.random.default_rng(1)
        a, b = rng.integers(0, 256, (2, 40, 40, 3), np.uint8)
        assert ssim(a, a) == pytest.approx(1)
        assert abs(ssim(a, b)) < 0.1
        assert ssim(a, 255 - a) < -0.5
        assert ssim(a, b) == pytest.approx(ssim(b, a))
        slightly = np.clip(a.astype(int) + 8, 0, 255).astype(np.uint8)
        assert 0.9 < ssim(a, slightly) < 1

    def test_unequal_images_are_refused(self):
        a = np.zeros((12, 12, 3), np.uint8)
        for other in (a[:11], a.astype(float), a[..., 0]):
            with pytest.raises(LatentrotError, match="expected two"):
                squared_error(a, other)
        with pytest.raises(LatentrotError, match="at least 11"):
            ssim(a[:10, :10], a[:10, :10])

    def test_a_blurred_head_keeps_its_rank_and_the_region_counts(self):
        gallery = np.random.default_rng(2).integers(0, 256, (9, 8, 8, 3), np.uint8)
        everywhere = np.ones((8, 8), bool)
        mean = gallery.mean(0)
        for head in range(9):
            faint = np.round(mean + 0.1 * (gallery[head] - mean)).astype(np.uint8)
            assert identity_rank(faint, gallery, head, everywhere) == 1
        upper = np.zeros((8, 8), bool)
        upper[:4] = True
        chimera = np.concatenate([gallery[0, :4], gallery[1, 4:]])
        assert identity_rank(chimera, gallery, 0, upper) == 1
        assert identity_rank(chimera, gallery, 1, ~upper) == 1
        assert identity_rank(chimera, gallery, 0, ~upper) > 1
        assert identity_rank(gallery[3], gallery[3:4], 0, everywhere) == 1

    def test_intervals_shrink_with_the_number_of_heads_and_hold_the_mean(self):
        rng = np.random.default_rng(0)
        few, many = (np.diff(bootstrap_mean(rng.normal(size=(n, 40)))[1:], axis=0).mean() for n in (25, 400))
        assert few / many == pytest.approx(4, rel=0.15)
        assert many == pytest.approx(2 * 1.96 / 20, rel=0.1)
        ends = np.stack([bootstrap_mean(rng.normal(size=(50, 1)), 400, seed)[:, 0] for seed in range(200)])
        inside = np.mean((ends[:, 1] < 0) & (ends[:, 2] > 0))
        assert 0.87 < inside <= 0.99
        assert np.allclose(bootstrap_mean(np.full((5, 2), 3.0)), 3)
        with pytest.raises(LatentrotError, match="at least one"):
            bootstrap_mean(np.empty((0, 3)))


class TestPlanted:
    def test_a_perfect_rotator_scores_perfectly(self, perfect):
        rows = of(perfect, "perfect")
        assert len(rows) == 6 * 6
        assert (rows["squared_error"] == 0).all()
        assert rows["ssim"].min() == pytest.approx(1)
        assert (rows["rank"] == 1).all()
        assert (rows["top1"] == 1).all()
        assert (rows["pitch_drift_deg"] == 0).all()
        truth = of(perfect, "truth")
        pd.testing.assert_frame_equal(rows.drop(columns="way"), truth.drop(columns="way"))

    def test_the_baseline_nothing_has_its_known_error(self, perfect):
        rows = of(perfect, "nothing")
        for row in rows.itertuples():
            head = int(row.person)
            still, turned = head_picture(head, 0).astype(float), head_picture(head, row.requested_deg)
            assert row.squared_error == pytest.approx(np.mean((still - turned) ** 2) / 255**2)
        # the second opinion sees the head where it was
        assert rows["yaw_error_pixels_deg"].mean() == pytest.approx(rows["requested_deg"].abs().mean(), abs=4)
        assert rows["ssim"].max() < 1

    def test_another_head_has_the_pose_but_not_the_rank(self, views):
        rows = of(evaluate({"stranger": Stranger(views)}, views.root, EvaluationConfig(**QUICK)), "stranger")
        assert rows["rank"].min() == 2
        assert rows["top1"].max() == 0
        assert rows["yaw_error_pixels_deg"].mean() < 5
        assert rows["squared_error"].min() > 0

    def test_the_baseline_mirror_rotates_between_the_sides(self, views):
        config = EvaluationConfig(source_yaw=-30, targets=(30,), **QUICK)
        evaluation = evaluate({"perfect": Perfect(views, -30)}, views.root, config)
        assert set(evaluation.rows["requested_deg"]) == {60}
        mirrored = of(evaluation, "mirror")
        even = mirrored["light"] == "center"
        assert (mirrored["squared_error"][even] == 0).all()  # discs are symmetric, light from a side is not
        assert mirrored["squared_error"][~even].min() > 0
        assert (of(evaluation, "perfect")["squared_error"] == 0).all()
        assert of(evaluation, "nothing")["squared_error"].min() > 0

    def test_a_rotator_of_another_resolution_is_compared_at_the_views(self, views):
        class Large(Perfect):
            def rotate(self, image, degrees):
                return super().rotate(image, degrees).repeat(2, 0).repeat(2, 1)

        rows = of(evaluate({"large": Large(views)}, views.root, EvaluationConfig(people=3, **QUICK)), "large")
        assert rows["squared_error"].max() < 0.002
        assert (rows["rank"] == 1).all()

    @pytest.mark.parametrize("bad", [np.zeros((8, 9, 3), np.uint8), np.zeros((8, 8, 3)), np.zeros((8, 8), np.uint8)])
    def test_invalid_results_are_refused(self, views, bad):
        class Bad:
            def rotate(self, image, degrees):
                return bad

        with pytest.raises(LatentrotError, match="the rotator returned"):
            evaluate(Bad(), views.root)

    def test_rotate_many_is_used_where_available(self, views, perfect):
        class Many(Perfect):
            calls = 0

            def rotate_many(self, image, degrees):
                Many.calls += 1
                return [self.rotate(image, d) for d in degrees]

        rows = of(evaluate({"perfect": Many(views)}, views.root, EvaluationConfig(**QUICK)), "perfect")
        assert Many.calls == len(views.heads)
        pd.testing.assert_frame_equal(rows, of(perfect, "perfect"))
        picture = views.images[0, 3]
        alone = rotate_many(load_rotator("mirror"), picture, [1, 2])
        assert len(alone) == 2
        assert (alone[1] == picture[:, ::-1]).all()


def test_the_yaw_regression_works_on_unseen_heads(views):
    pairs = pairs_of_views(views, EvaluationConfig())
    assert np.abs(pixel_yaw(pairs).estimate(pairs.images, pairs.people) - pairs.yaws).mean() < 5


def test_landmarks_of_a_mirrored_image_are_the_mirrored_landmarks():
    crop = portrait_crop(64)
    points = landmark_features(np.stack([crop, crop[:, ::-1]])).reshape(2, 5, 2)
    mirrored = points[1][MIRRORED_LANDMARKS] * [-1, 1] + [1, 0]
    assert mirrored == pytest.approx(points[0], abs=1e-5)
    left, right, nose = points[0][0], points[0][1], points[0][2]
    assert left[0] < nose[0] < right[0]
    assert max(left[1], right[1]) < nose[1]


def test_lpips_is_measured_if_its_weights_are_installed(monkeypatch, tmp_path):
    pytest.importorskip("torchmetrics")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert installed_lpips() is None
    alexnet_weights().parent.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(torchvision.models.alexnet().state_dict(), alexnet_weights())  # no published weights: random ones
    distance, (a, b) = installed_lpips(), np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    near = a.copy()
    near[20:30, 20:30] = b[20:30, 20:30]
    assert distance(a, a) == 0
    assert 0 < distance(a, near) < distance(a, b)
    assert distance(a, b) == pytest.approx(distance(b, a))


class TestReport:
    def test_schema(self, perfect, tmp_path):
        report = summary(perfect)
        paths = write_evaluation(perfect, report, tmp_path / "out")
        assert {p.name for p in paths} == {p.name for p in (tmp_path / "out").iterdir()}
        read = json.loads((tmp_path / "out" / "evaluation.json").read_text(), parse_constant=pytest.fail)
        assert set(read["ways"]) == {"perfect", "nothing", "mirror", "truth"}
        assert read["rotators"] == ["perfect"]
        assert set(read["differences"]) == {"perfect"}
        assert set(read["differences"]["perfect"]) == {"nothing", "mirror"}
        assert set(read["measures"]) == set(MEASURES)
        assert read["data"] == {
            "set": "views0",
            "rendered": True,
            "people": 6,
            "pairs": 36,
            "gallery": {"left": 2, "center": 2, "right": 2},
            "size": SIZE,
        }
        assert read["labeler"].startswith("faces64 ")
        for part in (*read["ways"].values(), *read["differences"]["perfect"].values()):
            assert set(part) == {"all", "by_turn", "by_light"}
            assert set(part["by_turn"]) == {f"{y:+g}" for y in YAWS if y}
            assert set(part["by_light"]) == {"left", "center", "right"}
            for cell in (part["all"], *part["by_turn"].values(), *part["by_light"].values()):
                assert set(cell) == set(MEASURES)
                for name, value in cell.items():
                    if name in read["not_measured"]:
                        assert value["mean"] is None
                    else:
                        assert value["low"] <= value["mean"] <= value["high"]
        judged = {"yaw_error_judge_deg", "identity_true", "identity_source"}
        assert set(read["not_measured"]) - {"lpips"} == judged | {"placed"}
        assert len(pd.read_csv(tmp_path / "out" / "evaluation.csv")) == 4 * 6 * 6
        for name in ("evaluation.png", "examples.png"):
            with Image.open(tmp_path / "out" / name) as picture:
                picture.verify()

    def test_the_table_shows_every_way_and_what_was_measured(self, perfect):
        report = summary(perfect)
        head, _, *lines = markdown_table(report).splitlines()
        assert [line.split(" | ")[0].strip("| ") for line in lines] == ["perfect", "nothing", "mirror", "truth"]
        assert "rank" in head
        assert "identity" not in head
        assert all(line.count("|") == head.count("|") for line in lines)
        assert " 0.0 [0.0, 0.0] " in lines[0]

    def test_the_columns_of_multi_view_papers_are_filled_and_the_published_rows_marked(self, views):
        config = EvaluationConfig(source_yaw=-45, targets=None, people=2, **QUICK)
        report = summary(evaluate({"perfect": Perfect(views, -45)}, views.root, config))
        assert len(report["ways"]["perfect"]["by_turn"]) == len(YAWS) - 1
        table = protocol_table(report)
        ours = next(line for line in table.splitlines() if line.startswith("| perfect"))
        assert ours.split("|")[2:5:2] == [" 0.000 ", " 1.000 "]
        assert all(f"*{name}*" in table for name in SPINMEROUND)
        assert "other data" in table

    def test_intervals_are_over_people_not_images(self, perfect):
        once = summary(perfect)["ways"]["nothing"]["all"]["squared_error"]
        rows = pd.concat([perfect.rows] * 5, ignore_index=True)
        rows["pair"] += np.repeat(np.arange(5) * 1000, len(perfect.rows))
        again = summary(replace(perfect, rows=rows))["ways"]["nothing"]["all"]["squared_error"]
        assert again == once | {"pictures": 5 * once["pictures"]}

    def test_differences_are_paired(self, perfect):
        report = summary(perfect)
        nothing, gap = report["ways"]["nothing"]["all"], report["differences"]["perfect"]["nothing"]["all"]
        assert gap["squared_error"]["mean"] == pytest.approx(-nothing["squared_error"]["mean"], abs=1e-6)
        assert gap["squared_error"]["high"] < 0 < gap["ssim"]["low"]

    def test_one_head_has_no_interval(self, views):
        report = summary(evaluate({"perfect": Perfect(views)}, views.root, EvaluationConfig(people=1, **QUICK)))
        cell = report["ways"]["nothing"]["all"]["squared_error"]
        assert cell["mean"] > 0
        assert cell["low"] is cell["high"] is None
        assert report["data"]["people"] == 1
        assert report["data"]["gallery"] == {"left": 2, "center": 2, "right": 2}

    def test_the_public_name(self, views):
        evaluation = latentrot.evaluate(latentrot.load_rotator("nothing"), views.root, EvaluationConfig(people=1))
        assert set(evaluation.rows["way"]) == {"rotator", "nothing", "mirror", "truth"}


class TestViews:
    def test_what_is_read(self, views):
        assert views.images.shape == (6, 7, SIZE, SIZE, 3)
        assert (views.images[4, 5] == head_picture(4, 30)).all()
        assert (views.masks[2, 0] == disc(-45)).all()
        assert views.lights == ("left", "center", "right") * 2

    def test_without_masks_the_whole_image_counts(self, tmp_path):
        views = read_views(write_views(tmp_path / "v", heads=2, yaws=(0, 30), masks=False))
        assert pairs_of_views(views, EvaluationConfig()).faces.all()
        rows = of(evaluate({"perfect": Perfect(views)}, views.root, EvaluationConfig(**QUICK)), "perfect")
        assert (rows["rank"] == 1).all()

    def test_the_pitch_nearest_zero_is_used(self, tmp_path, views):
        root = write_views(tmp_path / "v", heads=2, yaws=(0, 30))
        level = pd.read_csv(root / "views.csv")
        other = level.assign(pitch_deg=15, image_id=level["image_id"].to_numpy()[::-1])
        pd.concat([other, level.assign(pitch_deg=-2)]).to_csv(root / "views.csv", index=False)
        assert (read_views(root).images == views.images[:2, 3:6:2]).all()

    def test_unsuitable_folders_are_refused(self, tmp_path, views):
        with pytest.raises(LatentrotError, match="no such folder"):
            read_views(tmp_path / "none")
        root = write_views(tmp_path / "v", heads=2, yaws=(0, 30))
        table = pd.read_csv(root / "views.csv", dtype={"head": str})

        def refused(change, match):
            change.to_csv(root / "views.csv", index=False)
            with pytest.raises(LatentrotError, match=match) as info:
                read_views(root)
            assert "\n" not in str(info.value)

        refused(table.drop(columns="light"), "lacks the columns light")
        refused(table.iloc[:0], "names no view")
        refused(table.iloc[:-1], r"head 0*1 has no view at 30")
        refused(table.assign(light=["left", "right", "left", "left"]), "has the lights left, right")
        refused(table.assign(light="above"), "above; expected one light per head, of left")
        refused(table.replace("000004.png", "000009.png"), "000009")
        table.to_csv(root / "views.csv", index=False)
        (root / "masks" / "000002.png").unlink()
        with pytest.raises(LatentrotError, match=r"no mask .*000002\.png"):
            read_views(root)

    def test_missing_poses_are_refused(self, views):
        with pytest.raises(LatentrotError, match=r"no views at a yaw of 7 degrees .* -45, -30"):
            evaluate(load_rotator("nothing"), views.root, EvaluationConfig(source_yaw=7))
        with pytest.raises(LatentrotError, match=r"no views at \+60 degrees"):
            evaluate(load_rotator("nothing"), views.root, EvaluationConfig(targets=(60,)))
        with pytest.raises(LatentrotError, match="people=0"):
            evaluate(load_rotator("nothing"), views.root, EvaluationConfig(people=0))


class TestCommand:
    def run(self, capsys, *argv):
        code = main(["evaluate", *map(str, argv)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    def test_a_user_defined_rotator(self, views, tmp_path, capsys):
        out = tmp_path / "out"
        code, printed, err = self.run(
            capsys, "--data", views.root, "--out", out, "--rotator", "test_evaluation:make_perfect", "--people", "3",
            "--targets", "-30", "30",
        )  # fmt: skip
        assert code == 0, err
        report = json.loads((out / "evaluation.json").read_text())
        assert report["ways"]["test_evaluation:make_perfect"]["all"]["squared_error"]["mean"] == 0
        assert set(report["ways"]["nothing"]["by_turn"]) == {"-30", "+30"}
        assert "squared error in the face" in printed
        assert "examples.png" in printed
        listed = json.loads(list_path(out).read_text())["files"]
        assert sorted(listed) == sorted(p.name for p in out.iterdir())

    def test_the_latent_rotator(self, views, tmp_path, capsys):
        code, _, err = self.run(
            capsys, "--data", views.root, "--out", tmp_path / "o", "--fast", "--people", "1", "--targets", "15"
        )
        assert code == 0, err
        report = json.loads((tmp_path / "o" / "evaluation.json").read_text())
        assert report["model"] == "faces64"
        assert set(report["ways"]) == {"latent", "nothing", "mirror", "truth"}
        assert report["seconds_per_turn"]["latent"] > report["seconds_per_turn"]["nothing"]

    @pytest.mark.parametrize(
        ("argv", "word"),
        [
            (["--data", "."], "views.csv"),
            (["--data", "VIEWS", "--rotator", "sideways"], "sideways"),
            (["--data", "VIEWS", "--rotator", "no_such_module:name"], "no_such_module"),
            (["--data", "VIEWS", "--rotator", "nothing", "--directions", "d"], "--directions"),
            (["--data", "VIEWS", "--people", "0"], "--people 0"),
            (["--data", "VIEWS", "--protocol", "views", "--targets", "15"], "--targets"),
            (["--data", "VIEWS", "--judge", "no.py"], "no such judge"),
            (["--data", "VIEWS", "--identity", "no.pt"], "no.pt"),
        ],
    )
    def test_mistakes(self, views, argv, word, tmp_path, capsys, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Image.new("RGB", (32, 32)).save(tmp_path / "x.png")
        code, out, err = self.run(capsys, *(views.root if a == "VIEWS" else a for a in argv))
        assert (code, out) == (2, "")
        assert word in err
        assert len(err.strip().splitlines()) == 1
        assert not (tmp_path / "evaluation").exists()
