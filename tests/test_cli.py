"""The command line as a user meets it: real runs of the bundled model, and mistakes that end in one line."""

import json
import time
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latentrot.cli import guard_sweep, main
from latentrot.data.arrays import to_uint8
from latentrot.directions.search import CalibrationCurve, find_steps, max_step, probe_steps
from latentrot.errors import LatentrotError
from latentrot.evaluation.bench.compare import portrait_crop
from latentrot.portrait.turns import parse_sweep
from latentrot.rotators.latent.rotator import load_latent_rotator

PORTRAIT = Path(str(resources.files("latentrot") / "bundled" / "astronaut.jpg"))


def run(capsys, *argv):
    code = main([str(a) for a in argv])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_edit_rotates_the_bundled_portrait_and_reports(tmp_path, capsys):
    out = tmp_path / "turned"
    begun = time.perf_counter()
    code, printed, err = run(capsys, "edit", PORTRAIT, "--deg", "15", "--out", out, "--json")
    assert code == 0, err
    report = json.loads(printed)
    assert 0 < sum(report["seconds"].values()) < time.perf_counter() - begun  # no second counts in two stages
    assert min(report["seconds"].values()) >= 0
    assert {"input", "output", "model", "light", "requested_deg", "yaw_before_deg", "yaw_after_deg"} <= set(report)
    assert {"pitch_before_deg", "pitch_after_deg", "round_trip_psnr_db", "seconds"} <= set(report)
    assert report["round_trip_psnr_db"] > 22  # the latent alone: what it misses is carried along as pixels
    assert abs(report["yaw_after_deg"] - report["yaw_before_deg"] - 15) < 5
    assert {p.name for p in out.iterdir()} == {"strip.png", "turned.png", "report.json"}
    before, after = np.asarray(Image.open(PORTRAIT).convert("RGB")), np.asarray(Image.open(out / "turned.png"))
    assert before.shape == after.shape
    assert np.array_equal(before[-100:], after[-100:])  # below the face nothing is touched
    assert np.abs(before.astype(int) - after).max() > 30

    code, printed, _ = run(capsys, "info", out / "turned.png")
    assert code == 0
    assert "synthetic" in printed
    assert "faces64" in printed


def test_sweep_of_a_crop_gives_one_frame_per_rotation(tmp_path, capsys):
    square = tmp_path / "crop.png"
    Image.open(PORTRAIT).convert("RGB").crop((150, 90, 366, 306)).save(square)
    code, printed, err = run(
        capsys, "edit", square, "--crop", "--sweep", "-10:10:3", "--fast", "--json", "--out", tmp_path / "s.png"
    )
    assert code == 0, err
    report = json.loads(printed)
    assert [f["requested_deg"] for f in report["frames"]] == [-10, 0, 10]
    yaws = [f["yaw_after_deg"] for f in report["frames"]]
    assert yaws == sorted(yaws)


def test_zero_degrees_is_the_round_trip(tmp_path, capsys):
    code, printed, err = run(capsys, "edit", PORTRAIT, "--deg", "0", "--out", tmp_path / "same.png", "--json")
    assert code == 0, err
    assert np.array_equal(
        np.asarray(Image.open(PORTRAIT).convert("RGB")), np.asarray(Image.open(tmp_path / "same.png"))
    )
    assert json.loads(printed)["requested_deg"] == 0


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["edit", "missing.png", "--deg", "5"], ["missing.png"]),
        (["edit", PORTRAIT], ["--deg", "--to", "--sweep"]),
        (["edit", PORTRAIT, "--deg", "5", "--to", "3"], ["--deg and --to"]),
        (["edit", PORTRAIT, "--deg", "500"], ["500", "-90 and 90"]),
        (["edit", PORTRAIT, "--deg", "nan"], ["nan"]),
        (["edit", PORTRAIT, "--sweep", "-3:x"], ["FIRST:LAST:COUNT"]),
        (["edit", PORTRAIT, "--deg", "5", "--face", "7"], ["7"]),
        (["edit", PORTRAIT, "--deg", "5", "--model", "./nowhere"], ["./nowhere"]),
        (["edit", PORTRAIT, "--deg", "5", "--directions", "nowhere"], ["nowhere"]),
        (["edit", PORTRAIT, "--deg", "5", "--out", "/proc/nothing/x.png"], ["/proc/nothing"]),
        (["embed", "--data", "nowhere"], ["nowhere"]),
        (["fit-directions", "--light", "left", "--labels", "none.parquet"], ["none.parquet", "latentrot label"]),
        (["info", "nothing.bin"], ["nothing.bin"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(argv, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *argv)
    assert code == 2
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    for word in words:
        assert word in err
    assert list(tmp_path.iterdir()) == []


def test_a_missing_face_is_reported(tmp_path, capsys):
    noise = np.random.default_rng(0).integers(0, 255, (120, 120, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    code, _, err = run(capsys, "edit", tmp_path / "noise.png", "--deg", "5", "--out", tmp_path / "o.png")
    assert code == 2
    assert "no face" in err.lower()
    assert "--crop" in err
    assert not (tmp_path / "o.png").exists()


def test_an_unknown_light_exits_with_2(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fit-directions", "--light", "above"])
    assert stop.value.code == 2


def test_sweep_values_may_start_with_a_minus_sign():
    assert guard_sweep(["edit", "x", "--sweep", "-30:30:7"]) == ["edit", "x", "--sweep=-30:30:7"]
    assert parse_sweep("-30:30:7") == [-30, -20, -10, 0, 10, 20, 30]
    with pytest.raises(LatentrotError):
        parse_sweep("1:2:1")


def test_the_root_lies_in_the_first_bracket():
    steps = np.array([-20.0, -10.0, 0.0, 10.0, 20.0, 30.0])
    change = np.array([-9.0, -4.0, 0.0, 5.0, 12.0, 8.0])
    curve = CalibrationCurve(steps, change)
    assert curve.root(0.0) == 0
    assert curve.root(5.0) == pytest.approx(10)
    assert curve.root(8.5) == pytest.approx(15)
    assert curve.root(-6.5) == pytest.approx(-15)
    assert curve.root(40.0) == 20  # out of reach: the step that turned farthest, not the longest
    assert CalibrationCurve(np.array([0.0, -10.0]), np.array([0.0, -4.0])).root(40.0) == 0  # nothing measured that way


def test_a_root_of_the_calibration_curve_is_measured_and_found_again():
    tried = []

    def bent(steps):
        tried.extend(steps)
        return np.sign(steps) * np.square(steps) / 10

    probes = [-30.0, -15.0, 15.0, 30.0]
    once = CalibrationCurve(np.array([0.0, *probes]), bent([0.0, *probes])).root(12.0)
    steps = find_steps([12.0, -50.0, 0.0], probes, bent)
    assert abs(bent(steps) - [12, -50, 0]).max() < 1.5 < abs(bent([once])[0] - 12)
    assert find_steps([0.0], [], bent) == [0.0]
    assert once in tried  # the first root was measured itself


def test_rough_measurements_only_start_the_search():
    tried = []

    def measure(steps):
        tried.append(list(steps))
        return np.sign(steps) * np.square(steps) / 10

    def roughly(steps):  # reads everything a little short
        return 0.97 * np.sign(steps) * np.square(steps) / 10

    probes = [-30.0, -15.0, 15.0, 30.0]
    steps = find_steps([12.0, -50.0], probes, measure, roughly=roughly)
    assert abs(measure(steps) - [12, -50]).max() < 1.5
    assert not set(probes) & set(tried[0])  # probes are decoded roughly alone
    tried.clear()
    find_steps([12.0], [10.0, 12.0], measure, roughly=lambda steps: np.square(steps) / 10)
    assert len(tried) == 1  # a root found roughly is measured once, where that is close enough


def test_steps_are_clamped_and_clamped_ones_are_measured_once():
    tried = []

    def slow(steps):
        tried.extend(steps)
        return 0.5 * np.asarray(steps)

    assert find_steps([12.0, -3.0], [-30.0, 30.0], slow, [15.0, -15.0]) == [15.0, -6.0]
    assert tried.count(15.0) == 1


def test_the_limit_follows_from_the_average_calibration():
    own = load_latent_rotator().directions_of("left")
    lines = replace(
        own, step_sizes=(-100.0, -50.0, 0.0, 40.0, 80.0, 160.0), achieved=(-20.0, -10.0, 0.0, 9.0, 10.0, 10.0)
    )
    assert max_step(lines, 5.0, 1.0) == max_step(lines, 30.0, 1.0) == pytest.approx(40)  # nine of ten degrees
    assert max_step(lines, -30.0, 1.5) == pytest.approx(-135)  # eighteen of twenty
    assert max_step(lines, 0.0) == 0
    assert probe_steps(lines, [2.0, -3.0], 1.0)[-1] == pytest.approx(40)
    flat = replace(own, step_sizes=(-100.0, 0.0, 100.0), achieved=(0.0, 0.0, 0.0))
    assert 0 < max_step(flat, 5.0, 1.0) <= 100
    decoded = replace(lines, carry=False)
    assert max_step(decoded, 5.0, 2.0) == max_step(decoded, 20.0, 2.0) == pytest.approx(2 * decoded.step_for(20))
    assert max_step(decoded, -40.0, 1.0) == pytest.approx(-200)


def test_a_clamped_walk_reports_its_rotation():
    rotator = load_latent_rotator(limit=0.4)
    face = rotator.prepare(portrait_crop(64), light="left")
    rotated = face.rotate([25.0])
    (frame,) = rotated.frames
    longest = max_step(rotator.directions_of("left"), 25.0, 0.4)
    walked = face.walk()
    assert np.array_equal(frame.image, to_uint8(walked.at([longest]))[0])
    assert frame.clamped
    assert frame.drawn_deg == pytest.approx(walked.change([longest])[0], abs=1e-3)
    assert frame.drawn_deg < 24
    assert walked.rough.change([longest])[0] == pytest.approx(frame.drawn_deg, abs=4)
    assert "of +25 degrees" in rotated.warnings[0]


def test_invalid_limits_are_refused(tmp_path, capsys):
    for limit in ("0", "-1", "inf", "nan"):
        code, _, err = run(capsys, "edit", PORTRAIT, "--deg", "5", "--limit", limit, "--out", tmp_path / "o.png")
        assert (code, "--limit" in err) == (2, True)


def test_two_files_for_one_light_are_refused(tmp_path, capsys):
    lines = PORTRAIT.parent / "faces64" / "directions" / "left.safetensors"
    folder = tmp_path / "directions"
    folder.mkdir()
    for name in ("left.safetensors", "men.safetensors"):
        (folder / name).write_bytes(lines.read_bytes())
    code, _, err = run(capsys, "edit", PORTRAIT, "--deg", "5", "--directions", folder, "--out", tmp_path / "o.png")
    assert code == 2
    assert "two files for light 'left'" in err


def test_a_face_embedded_once_turns_like_the_image_itself():
    rotator = load_latent_rotator(measure=False)
    crop = portrait_crop(64)
    face = rotator.prepare(crop, light="left")
    again = face.rotate([10.0]).frames[0].image
    assert np.array_equal(again, rotator.prepare(crop, light="left").rotate([10.0]).frames[0].image)
    curve = face.walk().measure_curve([-20.0, 20.0])
    probes = probe_steps(rotator.directions_of("left"), [-20.0, 20.0])
    assert curve.steps.tolist() == [0.0, *probes]
    assert len(curve.change) == len(curve.steps)
    read = replace(face, curve=curve).rotate([0.0, 10.0]).frames
    assert not np.array_equal(read[0].image, read[1].image)
    with pytest.raises(LatentrotError, match="nowhere"):
        rotator.prepare(crop, light="nowhere")


def test_training_the_labeler_needs_its_tables(tmp_path, capsys):
    Image.new("RGB", (178, 218)).save(tmp_path / "1.png")
    code, out, err = run(capsys, "train", "labeler", "--celeba", tmp_path, "--yaleb", tmp_path, "--out", tmp_path / "l")
    assert (code, out) == (2, "")
    assert "pose.csv" in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "l").exists()
