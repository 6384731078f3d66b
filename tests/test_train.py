"""Training: resuming is exact, another run is refused, strangers stay strangers, and what comes out can be loaded."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from tiny import SIZE, write_pictures

from latentrot.data.celeba import FaceFolder, held_out
from latentrot.diffusion.load import load_model
from latentrot.diffusion.solve import invert
from latentrot.errors import LatentrotError
from latentrot.training import backbone as training
from latentrot.training import checkpoints, loop
from latentrot.training.backbone import (
    TrainConfig,
    batch_indices,
    build_scheduler,
    default_config,
    initial_model,
    target_of,
    train,
)
from latentrot.training.loop import learning_rate_at

TINY = TrainConfig(
    steps=6,
    batch_size=4,
    resolution=SIZE,
    small_steps=2,
    channels=(16, 32),
    warmup=2,
    decay=2,
    learning_rate=1e-3,
    ema=0.5,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("faces"), 10)


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of six steps in one go."""
    out = tmp_path_factory.mktemp("whole")
    train([data], out, TINY, save_every=3, device="cpu")
    return out


def run_killed(data: Path, out: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run folder of a run killed in its fifth step, two steps after its only checkpoint."""
    original = training.training_batch

    def killed(pictures, step, config, timesteps):
        if step == 4:
            raise KeyboardInterrupt
        return original(pictures, step, config, timesteps)

    with monkeypatch.context() as patch:
        patch.setattr(training, "training_batch", killed)
        with pytest.raises(KeyboardInterrupt):
            train([data], out, config, save_every=3, device="cpu")
    return out


@pytest.fixture
def interrupted(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return run_killed(data, tmp_path / "run", TINY, monkeypatch)


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model" / "unet" / "diffusion_pytorch_model.safetensors")


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


class TestResuming:
    def test_is_exact(self, data, interrupted, undisturbed):
        assert not equal(weights(interrupted), weights(undisturbed))
        train([data], interrupted, TINY, save_every=3, device="cpu")
        assert equal(weights(interrupted), weights(undisturbed))
        assert equal(
            load_file(interrupted / "checkpoint.safetensors"), load_file(undisturbed / "checkpoint.safetensors")
        )

    def test_without_a_config_takes_the_checkpoints(self, data, interrupted, undisturbed):
        train([data], interrupted, save_every=3, device="cpu")
        assert equal(weights(interrupted), weights(undisturbed))

    def test_a_kill_while_the_checkpoint_is_written_keeps_the_last_one(
        self, data, interrupted, undisturbed, monkeypatch
    ):
        def half(tensors, path, metadata):
            Path(path).write_bytes(b"half")
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(checkpoints, "save_file", half)
            with pytest.raises(KeyboardInterrupt):
                train([data], interrupted, TINY, save_every=3, device="cpu")
        assert not list(interrupted.glob(".*.tmp"))
        train([data], interrupted, TINY, save_every=3, device="cpu")
        assert equal(weights(interrupted), weights(undisturbed))

    @pytest.mark.parametrize(
        ("change", "quoted"),
        [
            ({"batch_size": 8}, "batch_size=4.*8"),
            ({"prediction_type": "epsilon"}, "prediction_type='v_prediction'.*'epsilon'"),
            ({"channels": (16, 48)}, r"channels=\(16, 32\).*\(16, 48\)"),
        ],
    )
    def test_as_another_run_is_refused(self, data, undisturbed, change, quoted):
        with pytest.raises(LatentrotError, match=quoted) as info:
            train([data], undisturbed, replace(TINY, **change), device="cpu")
        assert "\n" not in str(info.value)

    def test_damaged_checkpoint_is_one_clear_line(self, data, tmp_path):
        (tmp_path / "checkpoint.safetensors").write_bytes(b"no checkpoint")
        with pytest.raises(LatentrotError, match=r"checkpoint\.safetensors") as info:
            train([data], tmp_path, TINY, device="cpu")
        assert "\n" not in str(info.value)


class TestInit:
    """A run that begins with another model's weights."""

    def test_starts_from_exactly_these_weights(self, data, undisturbed, tmp_path):
        start = undisturbed / "model"
        warm = replace(TINY, init=str(start), seed=1, small_steps=0)
        assert equal(initial_model(warm).state_dict(), {k: v.float() for k, v in weights(undisturbed).items()})
        train([data], tmp_path, replace(warm, steps=1, learning_rate=0.0, warmup=0), device="cpu")
        assert equal(weights(tmp_path), weights(undisturbed))

    def test_resumes_exactly_and_without_that_model(self, data, undisturbed, tmp_path, monkeypatch):
        start = shutil.copytree(undisturbed / "model", tmp_path / "start")
        warm = replace(TINY, init=str(start), small_steps=0)
        train([data], tmp_path / "whole", warm, save_every=3, device="cpu")
        out = run_killed(data, tmp_path / "run", warm, monkeypatch)
        shutil.rmtree(start)
        train([data], out, save_every=3, device="cpu")
        assert equal(weights(out), weights(tmp_path / "whole"))
        assert not equal(weights(out), weights(undisturbed))

    @pytest.mark.parametrize(
        ("change", "quoted"),
        [
            ({"channels": (16, 48)}, r"block_out_channels \[16, 32\].*\[16, 48\]"),
            ({"layers": 2}, "layers_per_block 1.* 2"),
            ({"patch": 1}, "first stage pixel-unshuffle 2.*identity"),
            ({"prediction_type": "epsilon"}, "predicts v_prediction.*epsilon"),
        ],
    )
    def test_refuses_another_architecture(self, data, undisturbed, tmp_path, change, quoted):
        warm = replace(TINY, init=str(undisturbed / "model"), **change)
        with pytest.raises(LatentrotError, match=quoted) as info:
            train([data], tmp_path / "run", warm, device="cpu")
        assert "\n" not in str(info.value)
        assert not (tmp_path / "run").exists()

    def test_is_refused_where_another_run_is(self, data, undisturbed):
        with pytest.raises(LatentrotError, match=r"init=None.*choose another --out"):
            train([data], undisturbed, replace(TINY, init="faces64"), device="cpu")

    def test_the_bundled_faces_fit_the_defaults(self):
        begun, faces = initial_model(default_config("faces64")), load_model("faces64", "cpu")
        assert equal(begun.state_dict(), faces.unet.state_dict())


class TestOutcome:
    def test_loads_as_a_model(self, undisturbed):
        model = load_model(undisturbed / "model", "cpu")
        assert (model.resolution, model.latent_shape) == (SIZE, (12, SIZE // 2, SIZE // 2))
        assert model.prediction_type == TINY.prediction_type
        assert np.allclose(model.alpha_bar, build_scheduler(TINY).alphas_cumprod.double().numpy())
        assert torch.isfinite(invert(model, torch.zeros(1, 3, SIZE, SIZE), steps=3)).all()

    def test_exports_the_averaged_weights(self, undisturbed):
        stored = load_file(undisturbed / "checkpoint.safetensors")
        key = "conv_in.weight"
        assert torch.equal(weights(undisturbed)[key], stored[f"average.module.{key}"].half())
        assert not torch.equal(stored[f"average.module.{key}"], stored[f"model.{key}"])

    def test_log_has_a_header_and_numbers(self, undisturbed):
        log = pd.read_csv(undisturbed / "log.csv")
        assert list(log.columns) == ["step", "loss", "learning_rate"]
        assert np.isfinite(log.to_numpy()).all()


class TestDraws:
    def test_learning_rate_rises_holds_and_falls(self):
        config = replace(TINY, steps=100, warmup=10, decay=20, learning_rate=0.5)
        rate = np.array([learning_rate_at(s, config) for s in range(101)])
        assert (rate[:100] > 0).all()
        assert np.allclose(np.diff(rate[:10]), 0.05)
        assert np.allclose(rate[9:81], 0.5)
        assert np.allclose(np.diff(rate[80:]), -0.025)
        assert rate[100] == 0

    @pytest.mark.parametrize("n", [3, 4, 10, 16])
    def test_each_pass_shows_every_image_once(self, n):
        drawn = np.concatenate([batch_indices(s, TINY, n) for s in range(2 * n)])
        passes = drawn[: len(drawn) // n * n].reshape(-1, n)
        assert all(sorted(p) == list(range(n)) for p in passes)
        assert len({tuple(p) for p in passes}) > 1
        assert not np.array_equal(
            drawn, np.concatenate([batch_indices(s, replace(TINY, seed=1), n) for s in range(2 * n)])
        )

    def test_batches_depend_on_the_step_alone(self):
        pictures = torch.randint(0, 255, (10, 3, SIZE, SIZE), dtype=torch.uint8)
        first = training.training_batch(pictures, 7, TINY, 1000)
        torch.rand(5)
        again = training.training_batch(pictures, 7, TINY, 1000)
        other = training.training_batch(pictures, 8, TINY, 1000)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))

    def test_levels_cover_the_schedule(self):
        config = replace(TINY, batch_size=20)
        pictures = torch.zeros(30, 3, SIZE, SIZE, dtype=torch.uint8)
        levels = training.training_batch(pictures, 3, config, 1000)[2]
        assert sorted((levels // 50).tolist()) == list(range(20))

    def test_half_size_at_first(self):
        pictures = torch.zeros(10, 3, SIZE, SIZE, dtype=torch.uint8)
        shapes = [tuple(training.training_batch(pictures, s, TINY, 1000)[0].shape) for s in range(3)]
        assert shapes == [(4, 12, SIZE // 4, SIZE // 4)] * 2 + [(4, 12, SIZE // 2, SIZE // 2)]

    @pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
    def test_the_target_determines_the_image(self, kind):
        scheduler = build_scheduler(replace(TINY, prediction_type=kind))
        x0, noise = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
        levels = torch.tensor([400, 400])
        noisy = scheduler.add_noise(x0, noise, levels)
        scheduler.set_timesteps(10)
        step = scheduler.step(target_of(scheduler, x0, noise, levels), 400, noisy)
        torch.testing.assert_close(step.pred_original_sample, x0, rtol=1e-3, atol=1e-3)

    def test_held_out_people_are_excluded(self, tmp_path):
        write_pictures(tmp_path, 12)
        folder = FaceFolder(tmp_path)
        people = np.arange(12) // 2
        pd.DataFrame({"image_id": folder.ids, "identity": people}).to_csv(tmp_path / "identity_CelebA.csv", index=False)
        config = replace(TINY, held_out=0.5, small_steps=0, mirror=False, patch=1)
        away = held_out(people, 0.5)
        assert 0 < away.sum() < 12
        pictures = training.read_images([tmp_path], config)
        crops = folder.read_crops(folder.ids, SIZE).astype(np.float32) / 127.5 - 1
        seen = np.zeros(12, bool)
        for step in range(12):
            for x in training.training_batch(pictures, step, config, 1000)[0].permute(0, 2, 3, 1).numpy():
                seen |= np.abs(crops - x).max((1, 2, 3)) < 1e-5
        assert np.array_equal(seen, ~away)

    def test_several_folders_are_one_set(self, tmp_path):
        folders = [write_pictures(tmp_path / "a", 3), write_pictures(tmp_path / "b", 4)]
        config = replace(TINY, held_out=0.0)
        both = training.read_images(folders, config)
        apart = [training.read_images([folder], config) for folder in folders]
        assert torch.equal(both, torch.cat(apart))
        with pytest.raises(LatentrotError, match="no images left"):
            training.read_images(folders, replace(config, held_out=1.0))


def test_a_resumed_log_has_every_step_once(tmp_path):
    log = tmp_path / "log.csv"
    loop.forget_after(log, 40)  # no log yet
    for step in (0, 20, 40, 60):
        loop.record(log, step, 0.5, 1e-3)
    log.write_text(log.read_text()[:-5])  # killed while it wrote
    loop.forget_after(log, 40)
    loop.record(log, 40, 0.4, 1e-3)
    assert pd.read_csv(log)["step"].tolist() == [0, 20, 40]
    log.write_text(log.read_text() + "6")
    loop.forget_after(log, 1000)
    assert pd.read_csv(log)["step"].tolist() == [0, 20, 40]


@pytest.mark.parametrize(("content", "kept"), [("", False), ("\n", False), ("step,loss,lr,grad\n0,1,2,3\n", True)])
def test_a_log_of_another_version_or_an_empty_one_is_begun_anew(tmp_path, content, kept):
    log = tmp_path / "log.csv"
    log.write_text(content)
    loop.forget_after(log, 40)
    loop.record(log, 40, 0.5, 1e-3)
    assert pd.read_csv(log).to_dict("list") == {"step": [40], "loss": [0.5], "learning_rate": [1e-3]}
    assert [p.read_text() for p in tmp_path.glob("*.old")] == ([content] if kept else [])


def test_the_first_checkpoint_comes_early(tmp_path, monkeypatch):
    data = write_pictures(tmp_path / "faces", 4)
    monkeypatch.setattr(loop, "FIRST_CHECKPOINT_S", 0.0)
    out = tmp_path / "run"
    training.train([data], out, replace(TINY, steps=4, held_out=0.0), save_every=100, device="cpu")
    assert sorted(p.name for p in out.glob("samples-*.png")) == ["samples-000001.png", "samples-000004.png"]
