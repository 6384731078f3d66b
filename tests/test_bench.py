"""The benchmark measures what it says, on a tiny model."""

import csv

import numpy as np
import pytest
import torch
from tiny import as_batch, gradients, psnr, write_pictures

from latentrot.cli import main
from latentrot.errors import LatentrotError
from latentrot.evaluation.bench.compare import BenchConfig, benchmark_images, run_command
from latentrot.evaluation.bench.plain import PlainLoop
from latentrot.evaluation.bench.timing import flops_of, median_seconds, peak_flops


def test_the_plain_loop_has_the_models_schedule(model):
    loop = PlainLoop.of(model, 5)
    for scheduler in (loop.there, loop.back):
        assert np.allclose(scheduler.alphas_cumprod.numpy(), model.alpha_bar, rtol=1e-3, atol=1e-5)
        assert scheduler.config.prediction_type == "v_prediction"
        assert not scheduler.config.clip_sample


def test_the_plain_loop_gets_better_with_steps(model):
    x = as_batch(gradients(2))
    few, many = (psnr(loop.decode(loop.invert(x)), x) for loop in (PlainLoop.of(model, n) for n in (5, 50)))
    assert many > few + 3


def test_operations_are_counted_per_image(model):
    """The first convolution alone: 3 x 3 x 3 -> 16 channels at 256 positions, two operations each."""
    assert flops_of(model) > 2 * 27 * 16 * 256
    assert flops_of(model) == flops_of(model)
    assert peak_flops(64, 2) > 0


def test_median_excludes_the_warm_up_run():
    calls = []
    median_seconds(lambda: calls.append(1), 3)
    assert len(calls) == 4


def test_held_out_people_are_measured(tmp_path, model):
    data = write_pictures(tmp_path / "faces", 40)
    x = benchmark_images(data, model, 3)
    assert x.shape == (3, 3, 16, 16)
    with pytest.raises(LatentrotError, match="held-out"):
        benchmark_images(write_pictures(tmp_path / "few", 1), model, 3)


def test_a_failing_command_is_reported():
    with pytest.raises(LatentrotError, match=r"failed: .*nothing"):
        run_command(["python", "-c", "raise SystemExit('nothing')"])


def test_command(model_folder, model, tmp_path, capsys):
    data, out = write_pictures(tmp_path / "faces", 40), tmp_path / "bench.csv"
    options = ["--steps", "4", "--more-steps", "--batches", "1", "2", "--repeats", "1", "--people", "2"]
    threads = torch.get_num_threads()
    given = ["evaluate", "bench", "--model", str(model_folder), "--data", str(data), "--out", str(out), *options]
    assert main(given) == 0
    assert torch.get_num_threads() == threads
    rows = list(csv.DictReader(out.open()))
    assert f"wrote {out}" in capsys.readouterr().out
    value = {(r["part"], r["way"], r["quantity"]): float(r["value"]) for r in rows}
    assert value["round trip", "exact, 12 steps", "dB"] > 80 > value["round trip", "diffusers, 4 steps", "dB"]
    assert value["round trip", "fixed-point, 12 steps", "evaluations there"] == 20
    assert value["round trip", "corrected, 12 steps (the default)", "evaluations there"] == 32
    assert value["throughput", "diffusers, 4 steps", "inversions/s at batch 2"] > 0
    assert all(float(r["value"]) > 0 for r in rows)
    loop, x = PlainLoop.of(model, 4), benchmark_images(data, model, 2)
    here = psnr(loop.decode(loop.invert(x)).clamp(-1, 1), x)  # the loop of the table ran in a process of its own
    assert value["round trip", "diffusers, 4 steps", "dB"] == pytest.approx(here, abs=0.5)
    assert main(["evaluate", "bench", "--steps", "0"]) == 2


def test_the_defaults_are_defined_once():
    from latentrot.cli.bench import Bench  # noqa: PLC0415

    config, command = BenchConfig(), Bench()
    assert all(getattr(command, name) == getattr(config, name) for name in vars(config))
