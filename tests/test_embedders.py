"""Embedding by descent and by a network."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import SIZE, as_batch, gradients, save_pixel_model, write_pictures

from latentrot.cli import main
from latentrot.diffusion.descend import DescentConfig, decode_with_gradient, descend
from latentrot.diffusion.load import LatentModel, load_model
from latentrot.diffusion.solve import Schedule, decode, invert
from latentrot.errors import LatentrotError
from latentrot.training import embedder as embedding
from latentrot.training.embedder import EmbedderConfig, embed_with, load_embedder, train_embedder

PLAN = Schedule(steps=3)
TINY = EmbedderConfig(steps=6, batch_size=3, channels=(16, 32), decode_steps=2, warmup=2, decay=2, ema=0.5)


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    return as_batch(gradients(2))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("faces"), 10)


@pytest.fixture(scope="module")
def undisturbed(model: LatentModel, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of six steps in one go."""
    out = tmp_path_factory.mktemp("whole")
    train_embedder([data], out, model, TINY, save_every=3)
    return out


class TestDescent:
    @pytest.mark.parametrize("solver", ["corrected", "fixed-point", "exact"])
    def test_gradient_is_the_decoders(self, model, solver):
        plan = Schedule(steps=3, solver=solver)
        generator = torch.Generator().manual_seed(0)
        z, way, aim = torch.randn(3, 1, *model.latent_shape, generator=generator).double()
        z.requires_grad_()
        (decode_with_gradient(model, z, plan) * aim).sum().backward()
        ends = [float((decode(model, (z + s * 1e-2 * way).detach(), schedule=plan) * aim).sum()) for s in (1, -1)]
        assert float((z.grad * way).sum()) == pytest.approx((ends[0] - ends[1]) / 2e-2, rel=0.02)

    def test_converges_and_stops_at_the_tolerance(self, model, pictures):
        noise = torch.randn(2, *model.latent_shape, generator=torch.Generator().manual_seed(0))
        start = descend(model, pictures, noise, PLAN, DescentConfig(iterations=0)).psnr_db
        found = descend(model, pictures, noise, PLAN, DescentConfig(target_db=20, iterations=60, rate=0.1))
        assert (found.psnr_db >= 20).all()
        assert (start < 15).all()
        assert 0 < found.iterations < 60
        error = (decode(model, found.latents, schedule=PLAN) - pictures).square().flatten(1).mean(1)
        assert torch.allclose(10 * torch.log10(4 / error.double()), found.psnr_db, atol=0.01)

    def test_a_latent_within_the_tolerance_is_unchanged(self, model, pictures):
        plan = replace(PLAN, solver="fixed-point")
        z = invert(model, pictures, schedule=plan, tolerance=1e-6)
        found = descend(model, pictures, z, plan, DescentConfig(target_db=40))
        assert found.iterations == 0
        assert torch.equal(found.latents, z)

    def test_wrong_start(self, model, pictures):
        with pytest.raises(LatentrotError, match="2 images and 1 start latents"):
            descend(model, pictures, torch.zeros(1, *model.latent_shape))
        with pytest.raises(LatentrotError, match="latents"):
            descend(model, pictures, torch.zeros(2, 3, 8, 8))


class TestEmbedder:
    def test_resuming_is_exact(self, model, data, undisturbed, tmp_path, monkeypatch):
        original = embedding.images_at

        def killed(step, *rest):
            if step == 4:
                raise KeyboardInterrupt
            return original(step, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(embedding, "images_at", killed)
            with pytest.raises(KeyboardInterrupt):
                train_embedder([data], tmp_path, model, TINY, save_every=3)
        train_embedder([data], tmp_path, model, save_every=3)
        mine, whole = (load_file(out / "checkpoint.safetensors") for out in (tmp_path, undisturbed))
        assert mine.keys() == whole.keys()
        assert all(torch.equal(mine[k], whole[k]) for k in mine)

    def test_training_reduces_the_reconstruction_error(self, model, data, pictures, tmp_path):
        config = EmbedderConfig(steps=20, batch_size=6, channels=(16, 32), decode_steps=2, warmup=2, decay=5, ema=0.7)
        network = load_embedder(train_embedder([data], tmp_path, model, config, save_every=20), model)
        torch.manual_seed(1)
        fresh = embedding.build_embedder(model, config)
        errors = [
            float((decode(model, embed_with(n, model, pictures), schedule=config.schedule) - pictures).square().mean())
            for n in (network, fresh)
        ]
        assert errors[0] < errors[1] / 2

    def test_another_run_is_refused(self, model, data, undisturbed):
        with pytest.raises(LatentrotError, match=r"seed=0.*this run has 7"):
            train_embedder([data], undisturbed, model, EmbedderConfig(**{**vars(TINY), "seed": 7}))

    def test_another_model_is_refused(self, undisturbed, tmp_path):
        other = load_model(save_pixel_model(tmp_path, seed=4), "cpu")
        with pytest.raises(LatentrotError, match=f"{other.digest}"):
            load_embedder(undisturbed / "embedder.safetensors", other)

    def test_other_files_are_refused(self, model, undisturbed, tmp_path):
        for path in (tmp_path / "none.safetensors", undisturbed / "checkpoint.safetensors", undisturbed / "log.csv"):
            with pytest.raises(LatentrotError, match=path.name):
                load_embedder(path, model)

    def test_command(self, model, data, tmp_path, capsys):
        out = tmp_path / "run"
        small = ["--steps", "2", "--batch-size", "2", "--channels", "16", "32", "--decode-steps", "2"]
        assert main(["train", "embedder", "--data", str(data), "--out", str(out), "--model", model.name, *small]) == 0
        assert f"wrote {out / 'embedder.safetensors'}" in capsys.readouterr().out
        network = load_embedder(out / "embedder.safetensors", model)
        assert embed_with(network, model, torch.zeros(1, 3, SIZE, SIZE)).shape == (1, *model.latent_shape)
