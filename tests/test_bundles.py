"""What a model's folder brings: found by whoever loads the model, and by the bundled models' names."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from tiny import SIZE, gradients, save_pixel_model, write_pictures
from views import write_views

from latentrot import bundles
from latentrot.cli import main
from latentrot.data.arrays import to_tensor
from latentrot.data.celeba import FaceFolder, held_out
from latentrot.diffusion.first_stage import mirror_latents
from latentrot.diffusion.load import load_model
from latentrot.diffusion.solve import Schedule
from latentrot.directions.calibrate import calibration_sources
from latentrot.directions.directions import Directions
from latentrot.directions.fit import FitConfig, fit_directions
from latentrot.errors import LatentrotError
from latentrot.evaluation.example import turn_example
from latentrot.faces.estimate import estimate_light, estimate_pose
from latentrot.faces.exact import read_exact_labels
from latentrot.faces.light.propagate import folder_features
from latentrot.faces.network import LIGHTS, FaceLabeler, load_labeler
from latentrot.faces.table import label_folder, read_labels, with_attributes, write_labels
from latentrot.output import list_path
from latentrot.rotators.latent.rotator import LatentRotator, load_latent_rotator
from latentrot.store.latent_store import LatentStore
from latentrot.store.space import LatentSpace
from latentrot.store.work import embed_folder
from latentrot.training.labeler.augment import pad_to_context, warp
from latentrot.training.labeler.config import LabelTrainConfig
from latentrot.training.labeler.exact import train_exact_labeler
from latentrot.training.labeler.labeler import DATA, save_labeler

SCHEDULE = Schedule(steps=2)


def write_lines(folder: Path, model, light: str = "left") -> Path:
    torch.manual_seed(1)
    shape = model.latent_shape
    Directions(
        light, torch.randn(shape) / 100, torch.randn(shape) / 100, LatentSpace.of(model, SCHEDULE),
        (-45.0, 0.0, 45.0), (-45.0, 0.0, 45.0), {},
    ).save(folder / f"{light}.safetensors")  # fmt: skip
    return folder


def write_labeler(path: Path, seed: int = 3) -> FaceLabeler:
    torch.manual_seed(seed)
    save_labeler(FaceLabeler(), path, LabelTrainConfig(), {}, DATA)
    return load_labeler(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A model's folder with everything in it."""
    folder = save_pixel_model(tmp_path_factory.mktemp("models") / "whole", patch=2)
    write_labeler(folder / "labeler.safetensors")
    for light in LIGHTS:
        write_lines(folder / "directions", load_model(folder), light)
    write_views(folder / "example", heads=1)
    return folder


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    return save_pixel_model(tmp_path_factory.mktemp("models") / "bare", patch=2)


def crop() -> np.ndarray:
    return gradients(1, 64)[0]


def test_the_bundled_faces_are_complete():
    folder = bundles.bundled_folder("faces64")
    assert bundles.DEFAULT_BUNDLE in bundles.bundle_names()
    assert {p.stem for p in bundles.part_in(folder, bundles.DIRECTIONS).iterdir()} == set(LIGHTS)
    assert bundles.part_in(folder, bundles.LABELER_FILE).is_file()
    assert load_model("faces64").digest == load_model().digest
    assert bundles.bundled_folder("heads63") is None
    assert bundles.bundled_folder("../bundled/faces64") is None


@pytest.mark.parametrize("name", bundles.bundle_names())
def test_every_bundled_model_has_directions_calibrated_with_its_label_network(name):
    rotator = load_latent_rotator(name, measure=False)
    assert set(rotator.directions) == set(LIGHTS)
    assert rotator.label_network.title.startswith(f"{name} ")
    assert rotator.label_network is load_labeler(name)


def test_a_held_out_head_rotates_towards_its_true_views(tmp_path):
    _, report = turn_example("heads64", tmp_path)
    frames = json.loads(report.read_text())["frames"]
    near = [f for f in frames if abs(f["requested_deg"]) <= 30]
    assert len(near) == 4
    for frame in near:
        # to the left this head's walk is held at its limit: longer steps are read as turns, and come no closer to the truth
        within = 3 if frame["requested_deg"] == 15 else 17
        assert abs(frame["yaw_deg"] - frame["true_yaw_deg"]) < within
        assert frame["squared_error"] < frame["squared_error_of_doing_nothing"]


class TestFolder:
    def test_has_directions_and_a_label_network(self, whole, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        rotator = load_latent_rotator(whole, measure=False)
        assert set(rotator.directions) == set(LIGHTS)
        own = load_labeler(whole)
        assert rotator.label_network.title == own.title
        assert own.title.startswith("whole ")
        x = torch.from_numpy(crop()).permute(2, 0, 1)[None].float() / 127.5 - 1
        assert torch.equal(estimate_pose(x, labeler=rotator.label_network), estimate_pose(x, labeler=own))
        assert not torch.equal(estimate_pose(x, labeler=own), estimate_pose(x))

    def test_is_measured_by_its_own_label_network(self, whole):
        own = load_labeler(whole)
        rotator = load_latent_rotator(whole, measure=False)
        turned = rotator.prepare(crop()).rotate([10.0])
        picture = torch.from_numpy(turned.frames[0].image).permute(2, 0, 1)[None].float() / 127.5 - 1
        yaw, pitch = estimate_pose(picture, labeler=own)[0, :2].tolist()
        assert turned.frames[0].yaw_deg == pytest.approx(
            yaw, abs=0.5
        )  # the frame was measured before rounding to uint8
        assert turned.frames[0].pitch_deg == pytest.approx(pitch, abs=0.5)
        source = torch.from_numpy(turned.source).permute(2, 0, 1)[None].float() / 127.5 - 1
        assert turned.light == LIGHTS[int(estimate_light(source, labeler=own).argmax())]

    def test_another_label_network_can_be_given(self, whole):
        rotator = load_latent_rotator(whole, measure=False)
        other = LatentRotator(rotator.model, rotator.directions, measure=False, labeler=load_labeler())
        assert other.label_network is load_labeler()
        assert other.prepare(crop()).yaw_deg != rotator.prepare(crop()).yaw_deg

    def test_without_either_the_bundled_label_network_and_local_directions_are_used(self, bare, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(LatentrotError, match="no directions in directions"):
            load_latent_rotator(bare)
        write_lines(tmp_path / "directions", load_model(bare))
        rotator = load_latent_rotator(bare)
        assert set(rotator.directions) == {"left"}
        assert rotator.label_network is load_labeler()

    def test_given_directions_take_precedence(self, whole, tmp_path):
        given = write_lines(tmp_path / "mine", load_model(whole))
        assert set(load_latent_rotator(whole, given).directions) == {"left"}

    def test_directions_of_another_model_are_refused(self, whole, tmp_path):
        other = save_pixel_model(tmp_path / "other", patch=2, seed=9)
        write_lines(other / "directions", load_model(whole))
        with pytest.raises(LatentrotError, match="belongs to model"):
            load_latent_rotator(other)

    def test_info_lists_its_files(self, whole, bare, capsys):
        assert main(["info", str(whole)]) == 0
        assert "directions: center, left, right\nlabeler: whole " in capsys.readouterr().out
        assert main(["info", str(bare)]) == 0
        assert "directions: none\nlabeler: faces64 " in capsys.readouterr().out

    def test_edit_and_the_demo_find_everything(self, whole, tmp_path, capsys, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Image.fromarray(crop()).save(tmp_path / "crop.png")
        argv = ["edit", "crop.png", "--crop", "--deg", "5", "--fast", "--model", str(whole), "--out", "o.png"]
        assert main(argv) == 0, capsys.readouterr().err
        assert main(["demo", "--heads", "--model", str(whole), "--out", "demo"]) == 0, capsys.readouterr().err
        report = json.loads((tmp_path / "demo" / "report.json").read_text())
        assert [f["true_yaw_deg"] for f in report["frames"]] == [-45, -30, -15, 15, 30, 45]
        assert report["source_yaw_deg"] == 0
        assert report["labeler"].startswith("whole ")
        listed = json.loads(list_path(tmp_path / "demo").read_text())["files"]
        assert sorted(listed) == sorted(p.name for p in (tmp_path / "demo").iterdir())
        with Image.open(tmp_path / "demo" / "strip.png") as strip:
            assert strip.size == (7 * 132 - 4, 2 * 132 - 4)
            assert "synthetic" in strip.info["Description"]

    def test_the_demo_reports_a_missing_example(self, tmp_path, capsys):
        assert main(["demo", "--heads", "--model", "faces64", "--out", str(tmp_path / "d")]) == 2
        assert "faces64 has no example" in capsys.readouterr().err
        assert not (tmp_path / "d").exists()


def test_calibration_uses_the_label_network_of_the_model(whole, tmp_path):
    model = load_model(whole)
    write_pictures(tmp_path / "faces", 12)
    store = LatentStore(tmp_path / "latents")
    embed_folder(FaceFolder(tmp_path / "faces"), model, store, SCHEDULE)
    yaw = np.linspace(-11, 11, 12)
    labels = pd.DataFrame(
        {"yaw_deg": yaw, "light": "left"}, pd.Index([f"{i:03d}.png" for i in range(12)], name="image_id")
    )
    labels.attrs["labeler"] = "somebody"
    config = FitConfig(width=10, limit=15, min_count=1, calibrate=2)
    own = fit_directions(store, labels, "left", config, model=model)
    assert own.provenance["labeler"] == load_labeler(whole).title
    assert own.provenance["labels"] == "somebody"
    other = fit_directions(store, labels, "left", config, model=model, labeler=load_labeler())
    assert other.provenance["labeler"].startswith("faces64 ")
    assert own.achieved != other.achieved
    assert torch.equal(own.left, other.left)
    own.save(tmp_path / "left.safetensors")
    assert Directions.load(tmp_path / "left.safetensors").provenance["labeler"] == own.provenance["labeler"]


def test_calibrations_of_left_and_right_light_are_mirrored(whole, tmp_path):
    model = load_model(whole)
    write_pictures(tmp_path / "faces", 12)
    store = LatentStore(tmp_path / "latents")
    embed_folder(FaceFolder(tmp_path / "faces"), model, store, SCHEDULE)
    names = pd.Index([f"{i:03d}.png" for i in range(12)], name="image_id")
    rows = pd.DataFrame({"yaw_deg": 0.0, "light": ["left", "right"] * 6}, names)
    left, right = (calibration_sources(store, rows, light, 6, 0, mirror=True) for light in ("left", "right"))
    mirrored = mirror_latents(right, store.space.factor)
    assert len(left) == 6
    assert torch.equal(left, torch.cat([mirrored[3:], mirrored[:3]]))
    only_left = calibration_sources(store, rows[rows["light"] == "left"], "left", 6, 0, mirror=True)
    assert len(only_left) == 6
    with pytest.raises(LatentrotError, match="nearly frontal"):
        calibration_sources(store, rows.assign(yaw_deg=30.0), "left", 6, 0)


# --- label networks -------------------------------------------------------------------------------------------------


class TestLabeler:
    def test_is_found_by_name_folder_and_file(self, whole):
        by_folder, by_file = load_labeler(str(whole)), load_labeler(whole / "labeler.safetensors")
        assert by_folder.title.split()[1] == by_file.title.split()[1]
        assert load_labeler("faces64") is load_labeler()
        assert load_labeler().title.startswith("faces64 ")
        assert FaceLabeler().title == "untrained"

    def test_a_folder_without_one_is_refused(self, bare):
        with pytest.raises(LatentrotError, match=r"no labeler at .*bare; give a labeler file.*faces64"):
            load_labeler(bare)

    def test_hand_labels_of_light_use_the_given_network(self, whole, tmp_path):
        folder, own = FaceFolder(write_pictures(tmp_path / "faces", 3)), load_labeler(whole)
        features = folder_features(folder, labeler=own, progress=False)
        x = to_tensor(folder.read_crops(folder.ids, 64))
        np.testing.assert_allclose(features.network, estimate_light(x, labeler=own), atol=1e-5)
        assert not np.allclose(features.plain, folder_features(folder, progress=False).plain, atol=1e-2)

    def test_a_table_names_its_source(self, whole, tmp_path, capsys):
        faces = write_pictures(tmp_path / "faces", 3)
        argv = ["label", "--data", str(faces), "--labeler", str(whole), "--out", str(tmp_path / "l.parquet")]
        assert main(argv) == 0
        assert read_labels(tmp_path / "l.parquet").attrs == {"labeler": load_labeler(whole).title, "pose": "bundled"}
        capsys.readouterr()
        assert main(["info", str(tmp_path / "l.parquet")]) == 0
        assert f"labeler: {load_labeler(whole).title}" in capsys.readouterr().out
        own = label_folder(FaceFolder(faces), labeler=load_labeler(whole), progress=False)
        pd.testing.assert_frame_equal(read_labels(tmp_path / "l.parquet")[own.columns], own, check_dtype=False)
        assert not np.allclose(own["yaw_deg"], label_folder(FaceFolder(faces), progress=False)["yaw_deg"], atol=0.1)


# --- exact labels ---------------------------------------------------------------------------------------------------


class TestExact:
    def test_are_read_from_the_tables_of_the_folder(self, tmp_path, capsys):
        root = write_views(tmp_path / "v", heads=3)
        argv = ["label", "--data", str(root), "--exact", "--out", str(tmp_path / "l.parquet")]
        assert main(argv) == 0, capsys.readouterr().err
        table = read_labels(tmp_path / "l.parquet")
        views = pd.read_csv(root / "views.csv", index_col="image_id", dtype={"head": str})
        assert (table["yaw_deg"] == views["yaw_deg"]).all()
        assert (table["light"] == views["light"]).all()
        assert (table["p_left"] == (views["light"] == "left")).all()
        assert (table["identity"] == views["head"]).all()
        assert table.attrs["labeler"].startswith("exact")

    def test_are_written_to_the_same_files(self, tmp_path):
        folder = FaceFolder(write_views(tmp_path / "v", heads=2))
        exact = with_attributes(read_exact_labels(folder), folder)
        write_labels(exact, tmp_path / "l.csv")
        pd.testing.assert_frame_equal(read_labels(tmp_path / "l.csv"), exact, check_dtype=False)

    def test_gaps_are_refused(self, tmp_path):
        root = write_views(tmp_path / "v", heads=2)
        light = pd.read_csv(root / "light.csv")
        for change, match in (
            (light.iloc[1:], "has no row for 1 of 14 images, such as 000001.png"),
            (light.assign(light="above"), r"names the lights \['above'\]"),
            (light.rename(columns={"light": "side"}), "lacks the columns light"),
        ):
            change.to_csv(root / "light.csv", index=False)
            with pytest.raises(LatentrotError, match=match):
                read_exact_labels(FaceFolder(root))
        (root / "pose.csv").unlink()
        with pytest.raises(LatentrotError, match="no such table"):
            read_exact_labels(FaceFolder(root))


class TestTraining:
    def test_is_trained_on_exact_labels(self, tmp_path):
        root = write_views(tmp_path / "v", heads=40)
        out = tmp_path / "labeler.safetensors"
        config = LabelTrainConfig(pose_steps=40, light_steps=25, batch_size=32, ema=0.8, roll=0)
        errors = train_exact_labeler(root, out, config)
        heads = pd.read_csv(root / "identity_CelebA.csv", dtype=str)["identity"]
        assert errors["pictures"] == held_out(heads).sum() > 0
        assert errors["yaw_mae_deg"] < 16  # always saying 0: 25.7
        assert errors["light_accuracy"] > 0.6  # always saying the same: a third
        with safe_open(out, "pt") as file:
            header = file.metadata()
        assert json.loads(header["held_out"]) == errors
        learned = (~held_out(heads.unique())).sum()
        assert header["data"] == f"{7 * learned} images of {learned} heads with exact labels"
        assert load_labeler(out).title.startswith("labeler.safetensors ")

    def test_from_the_command_line(self, tmp_path, capsys):
        root = write_views(tmp_path / "v", heads=20)
        out = tmp_path / "labeler.safetensors"
        argv = ["train", "labeler", "--heads", str(root), "--out", str(out), "--pose-steps", "1", "--light-steps", "1"]
        assert main(argv) == 0, capsys.readouterr().err
        printed = dict(line.split(": ") for line in capsys.readouterr().out.splitlines()[:-1])
        assert {"yaw_mae_deg", "pitch_mae_deg", "roll_mae_deg", "light_accuracy"} <= set(printed)
        assert out.is_file()

    def test_a_crop_without_context_is_padded_by_its_edges(self):
        x = torch.rand(2, 3, 64, 64)
        wide = pad_to_context(x)
        assert wide.shape == (2, 3, 80, 80)
        assert torch.equal(wide[:, :, 8:72, 8:72], x)
        assert torch.equal(wide[:, :, 40, 0], x[:, :, 32, 0])
        assert pad_to_context(wide) is wide
        still = LabelTrainConfig(scale=0, shift=0, roll=0)
        torch.testing.assert_close(warp(wide, still, torch.Generator())[0], x, atol=1e-4, rtol=0)

    @pytest.mark.parametrize(
        ("argv", "words"),
        [
            ([], ["--celeba and --yaleb", "none of them"]),
            (["--celeba", "."], ["got --celeba"]),
            (["--heads", ".", "--yaleb", "."], ["got --yaleb and --heads"]),
            (["--heads", ".", "--light-steps", "0"], ["--light-steps 0", "at least 1"]),
            (["--heads", "."], ["pose.csv"]),
            (["--heads", "v"], ["0 images of held-out heads"]),
        ],
    )
    def test_mistakes(self, argv, words, tmp_path, capsys, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Image.new("RGB", (SIZE, SIZE)).save(tmp_path / "1.png")
        root = write_views(tmp_path / "v", heads=2)
        assert root.is_dir()
        assert main(["train", "labeler", *argv, "--out", "l.safetensors"]) == 2
        err = capsys.readouterr().err
        assert len(err.splitlines()) == 1
        for word in words:
            assert word in err
        assert not (tmp_path / "l.safetensors").exists()
