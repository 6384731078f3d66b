"""Real people as the truth: which pairs are taken, who may be measured, how faces are laid on each other, who cheats."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import latentrot
from latentrot.bundles import bundled_example, bundled_folder, bundled_part, trained_on
from latentrot.cli import main
from latentrot.data.celeba import held_out
from latentrot.errors import LatentrotError
from latentrot.evaluation.bench.compare import portrait_crop
from latentrot.evaluation.clips import read_clips
from latentrot.evaluation.judges import CachedEstimate, load_judge
from latentrot.evaluation.pairs import EvaluationConfig, Pairs
from latentrot.evaluation.place import align_to, sure_landmarks
from latentrot.evaluation.report import summary
from latentrot.evaluation.run import CEILING, FLOOR, TRUTH, evaluate
from latentrot.rotators.registry import load_rotator, rotator_names

EVERYBODY = EvaluationConfig(everybody=True, resamples=200)


def write_clips(root: Path, frames: list[tuple[str, str, float, np.ndarray]]) -> Path:
    """A folder of clips: (person, clip, yaw, image) each; landmarks on a circle, so that none have to be estimated."""
    (root / "img_align_celeba").mkdir(parents=True)
    circle = [89 + 40 * np.cos(t) if axis == "x" else 121 + 40 * np.sin(t) for t in np.arange(68) / 10 for axis in "xy"]
    tables: dict[str, list] = {"clip": [], "pose": [], "identity_CelebA": [], "landmarks68": []}
    for i, (person, clip, yaw, picture) in enumerate(frames):
        name = f"{i:03d}.png"
        Image.fromarray(picture).save(root / "img_align_celeba" / name)
        for table, values in zip(tables.values(), ([clip], [yaw], [person], circle), strict=True):
            table.append([name, *values])
    marks = [f"{axis}{i}" for i in range(68) for axis in "xy"]
    columns = {"clip": ["clip"], "pose": ["yaw_deg"], "identity_CelebA": ["identity"], "landmarks68": marks}
    for stem, rows in tables.items():
        pd.DataFrame(rows, columns=["image_id", *columns[stem]]).to_csv(root / f"{stem}.csv", index=False)
    return root


def plain(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8)


def many_people(count: int = 60) -> list[tuple[str, str, float, np.ndarray]]:
    """People with few frames, and one with many in several clips."""
    frames = [(f"p{i}", f"c{i}", yaw, plain(i)) for i in range(count) for yaw in (-8.0, 9.0)]
    rng = np.random.default_rng(0)
    return frames + [("many", f"m{i % 3}", float(rng.uniform(-50, 50)), plain(i)) for i in range(40)]


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("crowd"), many_people())


class TestPairs:
    def test_pairs_are_frames_of_one_clip_and_their_difference_in_yaw(self, crowd):
        pairs = read_clips(crowd, EVERYBODY)
        clip = pd.read_csv(crowd / "clip.csv").set_index("image_id")["clip"]
        named = np.array(pairs.names)
        for table in (pairs.table, pairs.still, pairs.nearest):
            source, truth = table["source"].to_numpy(), table["truth"].to_numpy()
            assert (clip[named[source]].to_numpy() == clip[named[truth]].to_numpy()).all()
            assert (source != truth).all()
        source, truth = pairs.table["source"].to_numpy(), pairs.table["truth"].to_numpy()
        turn = pairs.yaws[truth] - pairs.yaws[source]
        assert turn == pytest.approx(pairs.table["requested_deg"].to_numpy())
        assert (np.abs(np.abs(turn) - pairs.table["turn"]) <= 7.5).all()
        assert set(pairs.table["turn"]) <= {15.0, 30.0, 45.0, 60.0}

    def test_references_have_nearly_the_true_pose(self, crowd):
        pairs = read_clips(crowd, EVERYBODY)
        apart = pairs.yaws[pairs.still["source"]] - pairs.yaws[pairs.still["truth"]]
        assert len(apart) > 0
        assert np.abs(apart).max() <= 3
        near = pairs.nearest
        assert np.abs(pairs.yaws[near["source"]] - pairs.yaws[near["truth"]]).max() <= 5
        asked = pairs.table.loc[near.index]
        assert (near["truth"] == asked["truth"]).all()
        assert (near["source"] != asked["source"]).all()

    def test_people_have_equal_weight(self, crowd):
        for most in (1, 2, 5):
            pairs = read_clips(crowd, EvaluationConfig(everybody=True, per_person=most))
            assert pairs.table.groupby(["person", "turn"]).size().max() == most
            assert pairs.still.groupby("person").size().max() <= most
        assert len(pairs.turned_people) == 61

    def test_mirrored_clips_give_the_mirrored_pairs(self, crowd, tmp_path):
        flipped = [(person, clip, -yaw, picture[:, ::-1]) for person, clip, yaw, picture in many_people()]
        there = read_clips(crowd, EVERYBODY)
        here = read_clips(write_clips(tmp_path / "flipped", flipped), EVERYBODY)
        for name in ("table", "still", "nearest"):
            a, b = getattr(there, name), getattr(here, name)
            pd.testing.assert_frame_equal(a.drop(columns="requested_deg"), b.drop(columns="requested_deg"))
            assert a["requested_deg"].to_numpy() == pytest.approx(-b["requested_deg"].to_numpy())

    def test_sampling_depends_on_the_seed(self, crowd):
        one, two = (read_clips(crowd, EvaluationConfig(everybody=True, per_person=1, seed=s)).table for s in (0, 1))
        assert one.equals(read_clips(crowd, EvaluationConfig(everybody=True, per_person=1)).table)
        assert not one.equals(two)


class TestHeldOut:
    def test_only_held_out_people_are_measured(self, crowd):
        pairs = read_clips(crowd)
        people = [f"p{i}" for i in range(60)] + ["many"]
        kept = {p for p, out in zip(people, held_out(people), strict=True) if out}
        assert kept
        assert set(pairs.turned_people) == set(pairs.people) == kept
        assert set(read_clips(crowd, EVERYBODY).turned_people) == set(people)

    def test_everybody_needs_rotators_trained_on_another_data_set(self, crowd):
        class Secretive:
            def rotate(self, image, degrees):
                return image

        class Reader(Secretive):
            learned_from = ("ytf", "lfw")

        with pytest.raises(LatentrotError, match="does not name its training data"):
            evaluate({"secretive": Secretive()}, crowd, EVERYBODY)
        with pytest.raises(LatentrotError, match="reader was trained on lfw"):
            evaluate({"nothing": load_rotator("nothing"), "reader": Reader()}, crowd, EvaluationConfig(
                everybody=True, data_set="LFW"))  # fmt: skip
        with pytest.raises(LatentrotError, match="mesh was trained on ytf"):
            evaluate({"mesh": load_rotator("mesh")}, crowd, EvaluationConfig(everybody=True, data_set="ytf"))

    def test_heads_of_training_seeds_are_refused(self, tmp_path):
        folder = tmp_path / "heads"
        folder.mkdir()
        (folder / "heads.json").write_text('{"seed": 3, "test_seeds_from": 1000000}')

        class Drawn:
            learned_from = ("rendered",)

        with pytest.raises(LatentrotError, match="reserved for training"):
            evaluate({"drawn": Drawn()}, folder)

    def test_the_bundled_models_name_their_training_data(self):
        assert set(trained_on(bundled_folder("faces64"))) == {"celeba", "utkface", "yaleb"}
        assert trained_on(bundled_folder("heads64")) == ("rendered",)
        assert {"ytf", "lfw", "celeba"} <= set(trained_on(bundled_part("face")))
        assert load_rotator("mesh").learned_from == trained_on(bundled_part("face"))
        assert load_rotator("nothing").learned_from == load_rotator("mirror").learned_from == ()


class TestPlacing:
    def test_a_shifted_rolled_face_is_aligned(self):
        crop = portrait_crop(128)
        matrix = cv2.getRotationMatrix2D((64, 64), 5, 1.05)
        matrix[:, 2] += [4, -3]
        moved = cv2.warpAffine(crop, matrix, (128, 128), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        laid = align_to(moved, sure_landmarks(moved, 128), sure_landmarks(crop, 128), 128)
        assert laid is not None
        inside = (slice(24, 104),) * 2
        before, after = (np.mean((p[inside].astype(float) - crop[inside]) ** 2) for p in (moved, laid))
        assert after < before / 10

    def test_aligning_a_face_to_itself_changes_nothing(self):
        crop = portrait_crop(128)
        there = sure_landmarks(crop, 128)
        laid = align_to(crop, there, there, 128)
        assert laid is not None
        assert np.abs(laid.astype(int) - crop).max() <= 1

    def test_images_without_a_face_are_not_aligned(self):
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        assert align_to(noise, None, sure_landmarks(portrait_crop(64), 64), 64) is None


# ---- rotators that cheat --------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class OtherWay:
    """Returns the person's own frame that is nearest to the pose of the opposite turn."""

    pairs: Pairs
    learned_from = ()

    def rotate(self, image, degrees):
        row = next(i for i, picture in enumerate(self.pairs.images) if (picture == image).all())
        own = np.flatnonzero(self.pairs.people == self.pairs.people[row])
        wanted = self.pairs.yaws[row] - degrees
        return self.pairs.images[own[np.abs(self.pairs.yaws[own] - wanted).argmin()]]


class Source:
    """Returns the image it was given."""

    learned_from = ()

    def rotate(self, image, degrees):
        return image.copy()


class SharpMirror:
    """Returns a mirror image that looks crisper than what it was given."""

    learned_from = ()

    def rotate(self, image, degrees):
        soft = cv2.GaussianBlur(image, (0, 0), 1.5).astype(float)
        return np.clip(image + (image - soft), 0, 255).astype(np.uint8)[:, ::-1].copy()


@pytest.fixture(scope="module")
def filmed(tmp_path_factory):
    """Four people: a rendered head in their own colours, each yaw once and the frontal one again a pixel lower."""
    example = bundled_example("heads64")
    views = pd.read_csv(example / "views.csv")
    frames = []
    for person, tint in enumerate(([1, 1, 1], [0.8, 0.8, 0.9], [0.95, 0.85, 0.75], [0.65, 0.6, 0.6])):
        for view in views.itertuples():
            if abs(view.yaw_deg) > 30:
                continue
            picture = np.asarray(Image.open(example / "img_align_celeba" / view.image_id).convert("RGB"))
            tinted = (picture * tint).round().astype(np.uint8)
            frames.append((str(person), f"c{person}", view.yaw_deg, tinted))
            frames.append((str(person), f"c{person}", view.yaw_deg + 1.0, np.roll(tinted, 1, 0)))
    root = write_clips(tmp_path_factory.mktemp("filmed"), frames)
    (root / "landmarks68.csv").unlink()  # these have faces: the package's own network finds them
    return root


@pytest.fixture(scope="module")
def cheated(filmed):
    config = EvaluationConfig(everybody=True, per_person=1, resamples=200)
    pairs = read_clips(filmed, config)
    rotators = {"other way": OtherWay(pairs), "source": Source(), "sharp mirror": SharpMirror()}
    return evaluate(rotators, pairs, config)


def worse(report, name, than, measure):
    """Whether the 95% interval of a paired difference lies wholly above zero."""
    return report["differences"][name][than]["all"][measure]["low"] > 0


class TestCheats:
    def test_a_frame_with_the_opposite_rotation_has_larger_errors(self, cheated):
        report = summary(cheated)
        for measure in ("yaw_error_deg", "squared_error_face"):
            assert worse(report, "other way", "nothing", measure), measure
        assert report["ways"]["other way"]["all"]["overturn_deg"]["high"] < -10

    def test_the_source_equals_the_baseline_nothing(self, cheated):
        report = summary(cheated)
        assert worse(report, "source", CEILING, "yaw_error_deg")
        assert worse(report, "source", CEILING, "squared_error_face")
        tied = report["differences"]["source"]["nothing"]["all"]
        assert all(tied[m]["low"] == tied[m]["high"] == 0 for m in ("yaw_error_deg", "squared_error", "ssim_face"))

    def test_a_sharpened_mirror_image_is_worse_than_the_nearest_frame(self, cheated):
        report = summary(cheated)
        for measure in ("yaw_error_deg", "squared_error_face", "squared_error"):
            assert worse(report, "sharp mirror", CEILING, measure), measure
        assert (
            report["ways"]["sharp mirror"]["all"]["ssim_face"]["high"]
            < report["ways"][TRUTH]["all"]["ssim_face"]["low"]
        )

    def test_floor_and_ceiling_lie_between_the_truth_and_doing_nothing(self, cheated):
        error = {way: cells["all"]["squared_error_face"]["mean"] for way, cells in summary(cheated)["ways"].items()}
        assert error[TRUTH] == 0
        assert error[FLOOR] < error[CEILING] + 1e-3 < error["nothing"]

    def test_images_and_pairs(self, cheated):
        rows = cheated.rows.groupby("way").size()
        assert (rows.drop([FLOOR, CEILING]) == len(cheated.pairs.table)).all()
        assert rows[FLOOR] == len(cheated.pairs.still)
        assert (np.stack(cheated.images["source"]) == cheated.pairs.images[cheated.pairs.table["source"]]).all()


def test_refused_faces_are_counted_and_measured_unchanged(filmed):
    class Picky:
        learned_from = ()

        def rotate(self, image, degrees):
            raise LatentrotError("not this face")

    evaluation = evaluate({"picky": Picky()}, filmed, EvaluationConfig(everybody=True, people=1, per_person=1))
    rows = evaluation.rows.set_index("way")
    assert (rows.loc["picky", "refused"] == 1).all()
    assert (rows.loc["nothing", "refused"] == 0).all()
    assert (rows.loc["picky", "squared_error"] == rows.loc["nothing", "squared_error"].to_numpy()).all()


class TestJudges:
    def test_a_judge_measures_yaw_and_identity(self, filmed, tmp_path):
        judge = tmp_path / "arbiter.py"
        judge.write_text(
            "import numpy as np\n"
            "def pose(images):\n    return np.full((len(images), 2), 5.0)\n"
            "def identity(images):\n"
            "    v = np.stack([i.reshape(-1, 3).mean(0) for i in images])\n"
            "    return v / np.linalg.norm(v, axis=1, keepdims=True)\n"
        )
        config = EvaluationConfig(everybody=True, people=1, per_person=1)
        evaluation = evaluate({"nothing": load_rotator("nothing")}, filmed, config, judge=load_judge(judge))
        rows = evaluation.rows[evaluation.rows["way"] == "nothing"]
        assert evaluation.judge == "arbiter"
        assert rows["yaw_error_judge_deg"].to_numpy() == pytest.approx((5 - rows["true_yaw_deg"]).abs().to_numpy())
        assert rows["identity_source"].to_numpy() == pytest.approx(1, abs=0.01)  # its colours, laid on the true face
        assert rows["identity_true"].between(0.9, 1).all()

    @pytest.mark.parametrize(("text", "word"), [("pose = None", "neither"), ("import no_such_thing", "imported")])
    def test_a_judge_without_functions_is_refused(self, text, word, tmp_path):
        path = tmp_path / "judge.py"
        path.write_text(text)
        with pytest.raises(LatentrotError, match=word) as info:
            load_judge(path)
        assert "\n" not in str(info.value)

    def test_estimates_are_cached(self):
        seen = []

        def estimate(pictures):
            seen.extend(pictures)
            return [p.mean() for p in pictures]

        once = CachedEstimate(estimate)
        a, b = plain(0), plain(1)
        assert once([a, b, a]) == [a.mean(), b.mean(), a.mean()]
        assert once([b]) == [b.mean()]
        assert len(seen) == 2


class TestCommand:
    def run(self, capsys, *argv):
        code = main(["evaluate", *map(str, argv)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    def test_several_rotators_make_one_table(self, filmed, tmp_path, capsys):
        code, printed, err = self.run(
            capsys, "--data", filmed, "--rotator", "nothing", "mirror", "--everybody", "--people", "2", "--per-person", "1",
            "--out", tmp_path / "out",
        )  # fmt: skip
        assert code == 0, err
        names = {p.name for p in (tmp_path / "out").iterdir()}
        assert names == {"evaluation.json", "evaluation.csv", "evaluation.md", "evaluation.png", "examples.png"}
        assert (tmp_path / "out" / "evaluation.md").read_text().strip() in printed
        for way in ("nothing", "mirror", CEILING, FLOOR, TRUTH):
            assert f"| {way} |" in printed

    def test_unsuitable_folders_are_refused_in_one_line(self, crowd, tmp_path, capsys):
        frames = [f for f in many_people() if f[0] in ("p2", "p3", "p4")]
        assert not held_out([f[0] for f in frames]).any()
        root = write_clips(tmp_path / "c", frames)
        clip, pose = ((root / f"{stem}.csv").read_text() for stem in ("clip", "pose"))

        def refused(word, *more):
            code, out, err = self.run(capsys, "--data", root, "--rotator", "nothing", "--out", tmp_path / "o", *more)
            assert (code, out) == (2, "")
            assert word in err
            assert len(err.strip().splitlines()) == 1
            assert not (tmp_path / "o").exists()

        refused("held-out people")
        (root / "pose.csv").unlink()
        refused("pose.csv; expected yaw_deg for each image", "--everybody")
        (root / "pose.csv").write_text(pose.replace("yaw_deg", "yaw"))
        refused("lacks the columns yaw_deg", "--everybody")
        (root / "pose.csv").write_text(pose)
        (root / "clip.csv").write_text(clip.replace("c3", "c2"))
        refused("several people", "--everybody")
        (root / "clip.csv").unlink()
        refused("neither clip.csv nor views.csv", "--everybody")

    def test_rotators_are_named_in_the_refusal_of_another(self, crowd, capsys):
        code, _, err = self.run(capsys, "--data", crowd, "--rotator", "sideways")
        assert code == 2
        assert all(name in err for name in rotator_names())


def test_rotators_side_by_side(tmp_path, capsys):
    crop = tmp_path / "crop.png"
    Image.fromarray(portrait_crop(128)).save(crop)
    code = main(
        [
            "compare",
            str(crop),
            "--crop",
            "--rotator",
            "nothing",
            "mirror",
            "--deg",
            "-25",
            "25",
            "--out",
            str(tmp_path / "s.png"),
        ]
    )
    assert code == 0, capsys.readouterr().err
    sheet = np.asarray(Image.open(tmp_path / "s.png"))
    assert sheet.shape == (2 * 284 + 4, 3 * 256 + 8, 3)
    source, turned = sheet[28:284, :256], sheet[28 + 288 : 288 + 284, 260:516]
    assert (turned == source[:, ::-1]).all()
    code = main(["evaluate", "compare", str(crop), "--crop", "--face", "all", "--out", str(tmp_path / "t.png")])
    assert code == 2
    assert not (tmp_path / "t.png").exists()


@pytest.mark.shared_data
def test_real_held_out_people(shared_data):
    config = EvaluationConfig(people=2, per_person=1, resamples=200)
    evaluation = latentrot.evaluate(load_rotator("nothing"), shared_data / "ytf", config)
    assert held_out(evaluation.pairs.people).all()
    error = evaluation.rows.groupby("way")["squared_error_face"].mean()
    assert error[TRUTH] == 0
    assert 0 < error[FLOOR] < error["rotator"] < error["mirror"]
    assert evaluation.rows.groupby("way")["yaw_error_deg"].mean()["rotator"] > 5
