"""Every solver on every kind of prediction and schedule: there and back, in batches, and walked."""

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import SIZE, as_batch, gradients, psnr, save_pixel_model, write_pictures

from latentrot.data.celeba import FaceFolder
from latentrot.data.similarity import ssim_map
from latentrot.diffusion.load import LatentModel, load_model
from latentrot.diffusion.schedule import SOLVERS
from latentrot.diffusion.solve import Schedule, decode, evaluations, invert, without_residual
from latentrot.diffusion.solvers.step import rotate
from latentrot.directions.directions import Directions
from latentrot.directions.walk import walk
from latentrot.errors import LatentrotError
from latentrot.rotators.latent.rotator import LatentRotator
from latentrot.store.latent_store import LatentStore
from latentrot.store.space import LatentSpace
from latentrot.store.work import embed_folder

CASES = [
    (prediction, beta, zero_snr)
    for prediction in ("epsilon", "v_prediction", "sample")
    for beta, zero_snr in (
        ("linear", False),
        ("scaled_linear", False),
        ("scaled_linear", True),
        ("squaredcos_cap_v2", False),
    )
]


@pytest.fixture(scope="module", params=CASES, ids=lambda c: f"{c[0]}-{c[1]}{'-zero-snr' if c[2] else ''}")
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LatentModel:
    prediction, beta, zero_snr = request.param
    return load_model(save_pixel_model(tmp_path_factory.mktemp("m"), prediction, beta, zero_snr=zero_snr), "cpu")


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    return as_batch(gradients(2))


def depth_for(model: LatentModel) -> float:
    """An untrained noise predictor, divided by a small cosine, has no well-conditioned inverse deeper down."""
    return 0.3 if model.prediction_type == "epsilon" else 0.9


def lines_of(model: LatentModel, plan: Schedule) -> Directions:
    left, right = torch.randn(2, *model.latent_shape, generator=torch.Generator().manual_seed(3)) / 100
    steps = (-90.0, 0.0, 90.0)
    return Directions("any", left, right, LatentSpace.of(model, plan), steps, steps, {})


class TestExact:
    def test_round_trip_is_exact_for_every_model(self, model, pictures):
        plan = Schedule(steps=6, solver="exact", depth=depth_for(model))
        z = invert(model, pictures, schedule=plan)
        assert z.shape == (2, 2, *model.latent_shape)
        assert psnr(decode(model, z, schedule=plan), pictures) > 70

    @pytest.mark.parametrize("steps", [1, 2, 3, 25])
    def test_any_number_of_steps(self, plain_model, pictures, steps):
        plan = Schedule(steps=steps, solver="exact")
        assert psnr(decode(plain_model, invert(plain_model, pictures, schedule=plan), schedule=plan), pictures) > 90

    def test_unshuffled(self, tmp_path, pictures):
        model = load_model(save_pixel_model(tmp_path, patch=2), "cpu")
        z = invert(model, pictures, 6, "exact")
        assert z.shape == (2, 2, 12, SIZE // 2, SIZE // 2)
        assert psnr(decode(model, z, 6, "exact"), pictures) > 90

    def test_round_trip_is_exact_for_rough_evaluations(self, plain_model, pictures):
        half = replace(plain_model, dtype=torch.bfloat16)
        z = invert(half, pictures, 6, "exact")
        exact, usual = psnr(decode(half, z, 6, "exact"), pictures), Schedule(6, "fixed-point")
        assert exact > 45
        assert exact > psnr(decode(half, invert(half, pictures, schedule=usual), schedule=usual), pictures)

    def test_latents_are_ten_times_nearer_to_the_ode_than_ddim(self, plain_model, pictures, monkeypatch):
        """On an ODE whose solution is known, x = cos(a / 2)^2 x0: the prediction changes along the way."""
        monkeypatch.setattr(LatentModel, "velocity", lambda self, x, level: -math.tan(self.angle(level) / 2) * x)
        error = {}
        for steps in (8, 16, 32):
            plan = Schedule(steps)
            true = math.cos(plain_model.angle(plan.levels(plain_model)[-1]) / 2) ** 2 * pictures
            for solver in SOLVERS:
                z = invert(plain_model, pictures, schedule=replace(plan, solver=solver, iterations=9))
                error[solver, steps] = float((without_residual(z) - true).abs().max())
        assert min(error["exact", 8] / error["exact", 16], error["exact", 16] / error["exact", 32]) > 3
        for first_order in ("ddim", "fixed-point"):
            assert 1.6 < error[first_order, 8] / error[first_order, 16] < 2.5
            assert error["exact", 32] < error[first_order, 32] / 4

    def test_a_latent_alone_decodes_nearly_the_same(self, plain_model, pictures):
        z = invert(plain_model, pictures, 40, "exact")
        alone = decode(plain_model, without_residual(z), 40, "exact")
        assert 25 < psnr(alone, pictures) < psnr(decode(plain_model, z, 40, "exact"), pictures) - 20

    def test_other_solvers_refuse_a_residual(self, plain_model, pictures):
        z = invert(plain_model, pictures, 4, "exact")
        with pytest.raises(LatentrotError, match=r"2, 3, 16, 16\), expected floats of shape \(n, 3, 16, 16\)$"):
            decode(plain_model, z, 4, "fixed-point")
        with pytest.raises(LatentrotError, match=r"\(n, 3, 16, 16\) or \(n, 2, 3, 16, 16\)"):
            decode(plain_model, z[:, :, :2], 4, "exact")

    def test_a_rotator_walks_it(self, plain_model):
        """From crop to turned images with lines fitted along an exact schedule."""
        plan = Schedule(steps=5, solver="exact")
        rotator = LatentRotator(plain_model, {"any": lines_of(plain_model, plan)}, measure=False)
        crop = gradients(1)[0]
        turned = rotator.prepare(crop).rotate([0.0, 20.0])
        assert np.abs(turned.reconstruction.astype(int) - crop).max() <= 1
        assert np.array_equal(turned.frames[0].image, turned.reconstruction)
        assert not np.array_equal(turned.frames[1].image, turned.reconstruction)
        assert rotator.reify(crop).shape == crop.shape

    def test_a_store_holds_latents_without_residuals(self, plain_model, tmp_path):
        folder, store = FaceFolder(write_pictures(tmp_path / "faces", 3)), LatentStore(tmp_path / "latents")
        plan = Schedule(steps=4, solver="exact")
        assert embed_folder(folder, plain_model, store, plan) == (3, [])
        assert store.space.schedule == plan
        assert load_file(store.shards[0])["latents"].shape == (3, *plain_model.latent_shape)


class TestCorrected:
    def test_corrected_has_plain_latents_and_the_round_trip_of_fixed_point(self, plain_model, pictures):
        z = invert(plain_model, pictures, 6, "corrected", tolerance=1e-6)
        assert torch.equal(z[:, 0], invert(plain_model, pictures, 6, "ddim"))
        assert torch.allclose(z.sum(1), invert(plain_model, pictures, 6, "fixed-point", tolerance=1e-6), atol=1e-5)
        assert psnr(decode(plain_model, z, 6, "corrected"), pictures) > 60

    def test_a_latent_alone_decodes_as_the_plain_inverse(self, plain_model, pictures):
        z = invert(plain_model, pictures, 6, "corrected", residual=False)
        assert torch.equal(decode(plain_model, z, 6, "corrected"), decode(plain_model, z, 6, "ddim"))


class TestEverySolver:
    def test_identity_to_tolerance(self, model, pictures):
        if model.prediction_type == "sample":
            pytest.skip("the last decoding step returns the prediction itself: an untrained one cannot be any picture")
        plan = Schedule(steps=8, depth=depth_for(model))
        z = invert(model, pictures, schedule=plan, tolerance=1e-6)
        assert psnr(decode(model, z, schedule=plan), pictures) > 60

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_walking_by_zero_changes_nothing(self, plain_model, pictures, solver):
        plan = Schedule(steps=5, solver=solver)
        z = invert(plain_model, pictures[:1], schedule=plan)
        walked = walk(z, lines_of(plain_model, plan), torch.tensor([0.0, 20.0]), 5.0)
        assert torch.equal(walked[:1], z)
        shown = decode(plain_model, walked, schedule=plan)
        assert (shown[:1] - decode(plain_model, z, schedule=plan)).abs().max() < 1e-4
        assert (shown[1] - shown[0]).abs().max() > 1e-2

    @pytest.mark.parametrize(("solver", "kept"), [("exact", [1, 1, 1, 1]), ("corrected", [0.8, 1, 0.9, 0.8])])
    def test_a_walk_keeps_the_residual(self, plain_model, pictures, solver, kept):
        plan = Schedule(steps=5, solver=solver)
        z = invert(plain_model, pictures[:1], schedule=plan)
        lines, steps = lines_of(plain_model, plan), torch.tensor([-20.0, 0.0, 2.5, 20.0])
        walked = walk(z, lines, steps, 5.0)
        assert torch.allclose(walked[:, 1], torch.tensor(kept)[:, None, None, None] * z[:, 1])
        assert torch.equal(walked[:, 0], walk(z[:, 0], lines, steps, 5.0))

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_latents_alone_equal_those_with_residuals(self, plain_model, pictures, solver):
        alone = invert(plain_model, pictures, 5, solver, residual=False)
        assert torch.equal(alone, without_residual(invert(plain_model, pictures, 5, solver)))

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_batch_equals_one_by_one(self, plain_model, pictures, solver):
        together = invert(plain_model, pictures, 6, solver)
        single = torch.cat([invert(plain_model, x[None], 6, solver) for x in pictures])
        assert (together - single).abs().max() < 1e-3 * together.abs().max()
        apart = torch.cat([decode(plain_model, z[None], 6, solver) for z in together])
        assert (decode(plain_model, together, 6, solver) - apart).abs().max() < 1e-3 * apart.abs().max()

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_a_header_of_any_age_is_read(self, solver):
        plan = Schedule(solver=solver)
        assert Schedule(**json.loads(json.dumps(asdict(plan)))) == plan
        assert Schedule(
            **json.loads('{"steps": 12, "solver": "fixed-point", "iterations": 1, "depth": 0.9}')
        ) == Schedule(solver="fixed-point")

    def test_there_and_back_cost_about_the_same(self):
        for solver in SOLVERS:
            there, back = evaluations(Schedule(steps=50, solver=solver))
            assert back == 50 <= there <= (108 if solver == "corrected" else 58)


def test_rotation_turns_an_image_into_its_noise():
    x0, noise = torch.randn(2, 4, generator=torch.Generator().manual_seed(0)).double()
    at = [math.cos(a) * x0 + math.sin(a) * noise for a in (0.3, 1.1)]
    velocity = math.cos(0.3) * noise - math.sin(0.3) * x0
    assert torch.allclose(rotate(at[0], velocity, 0.8), at[1])


class TestSimilarity:
    def test_equal_mirrored_and_noisy(self):
        x = as_batch(gradients(3, 64))
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
        assert torch.allclose(ssim_map(x, x).mean((1, 2, 3)), torch.ones(3).double())
        little, more = ssim_map(x, x + 0.05 * noise).mean((1, 2, 3)), ssim_map(x, x + 0.2 * noise).mean((1, 2, 3))
        assert (little < 1).all()
        assert (little > more).all()
        assert torch.allclose(ssim_map(x.flip(-1), (x + 0.05 * noise).flip(-1)).mean((1, 2, 3)), little)

    def test_matches_the_published_values(self):
        """Means and variances of one window, by hand."""
        rng = np.random.default_rng(0)
        a, b = rng.uniform(-1, 1, (2, 11, 11))
        g = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
        w = np.outer(g, g) / g.sum() ** 2
        shown = torch.from_numpy(np.stack([a, b])[:, None, None])
        a, b = (a + 1) / 2, (b + 1) / 2  # published for images whose black is zero
        ma, mb = (w * a).sum(), (w * b).sum()
        va, vb, cov = (w * (a - ma) ** 2).sum(), (w * (b - mb) ** 2).sum(), (w * (a - ma) * (b - mb)).sum()
        c1, c2 = 0.01**2, 0.03**2
        expected = (2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
        assert float(ssim_map(shown[0], shown[1]).mean((1, 2, 3))) == pytest.approx(expected, rel=1e-9)

    def test_too_small(self):
        with pytest.raises(LatentrotError, match="sides of at least 11"):
            ssim_map(torch.zeros(1, 3, 10, 10), torch.zeros(1, 3, 10, 10)).mean((1, 2, 3))


def test_the_command_line_knows_every_solver():
    from typing import get_args, get_type_hints  # noqa: PLC0415

    from latentrot.cli.embed import Embed  # noqa: PLC0415

    choices = get_args(get_args(get_type_hints(Embed)["solver"])[0])
    assert choices == SOLVERS
