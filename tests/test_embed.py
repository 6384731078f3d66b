"""Models in every layout, inversion and decoding along one schedule, and the folder of latents."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import DDIMScheduler
from PIL import Image
from tiny import SIZE, as_batch, edit_json, gradients, psnr, save_latent_model, save_pixel_model, write_pictures

from latentrot.data.celeba import FaceFolder
from latentrot.diffusion.allocator import keep_large_blocks
from latentrot.diffusion.first_stage import PixelUnshuffle, mirror_latents
from latentrot.diffusion.load import LatentModel, load_model, resolve_dtype
from latentrot.diffusion.precision import computes_bfloat16
from latentrot.diffusion.schedule import SOLVERS
from latentrot.diffusion.solve import Schedule, decode, evaluations, invert
from latentrot.diffusion.solvers.step import accelerate
from latentrot.errors import LatentrotError
from latentrot.store.latent_store import LatentStore
from latentrot.store.work import embed_folder

BETAS = ("linear", "scaled_linear", "squaredcos_cap_v2")
CASES = [
    *(("epsilon", beta, False) for beta in BETAS),
    ("v_prediction", "squaredcos_cap_v2", False),
    ("v_prediction", "scaled_linear", True),
    ("sample", "linear", False),
    ("sample", "scaled_linear", True),
]


@pytest.fixture(scope="module", params=CASES, ids=lambda c: f"{c[0]}-{c[1]}{'-zero-snr' if c[2] else ''}")
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LatentModel:
    prediction, beta, zero_snr = request.param
    kind = "ddpm" if beta == "linear" else "ddim"
    return load_model(save_pixel_model(tmp_path_factory.mktemp("m"), prediction, beta, kind, zero_snr=zero_snr), "cpu")


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    return as_batch(gradients(3))


def diffusers_scheduler(model: LatentModel, **changes: object) -> DDIMScheduler:
    config = json.loads((Path(model.name) / "scheduler" / "scheduler_config.json").read_text())
    config = {k: v for k, v in config.items() if not k.startswith("_")}
    scheduler = DDIMScheduler.from_config(config, clip_sample=False, timestep_spacing="trailing", **changes)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    return scheduler


def complaint(info: pytest.ExceptionInfo) -> str:
    """The message, which must be one line."""
    text = str(info.value)
    assert text
    assert "\n" not in text
    return text


class TestModel:
    @pytest.mark.parametrize("level", [0, 499, 899])
    def test_velocity_is_that_of_the_predicted_image_and_noise(self, model, level):
        x = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(level)).double()
        with torch.no_grad():
            out = model.unet(x.float(), level).sample.double()
        scheduler = diffusers_scheduler(model)
        cos, sin = scheduler.alphas_cumprod[level] ** 0.5, (1 - scheduler.alphas_cumprod[level]) ** 0.5
        x0, eps = {
            "epsilon": lambda: ((x - sin * out) / cos, out),
            "sample": lambda: (out, (x - cos * out) / sin),
            "v_prediction": lambda: (cos * x - sin * out, sin * x + cos * out),
        }[model.prediction_type]()
        velocity = model.velocity(x, level)
        assert velocity.dtype == torch.float64
        scale = (cos * eps - sin * x0).abs().max()
        torch.testing.assert_close(velocity / scale, (cos * eps - sin * x0) / scale, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("steps", [5])
    def test_decode_is_the_plain_diffusers_loop(self, model, steps):
        if model.prediction_type == "epsilon" and model.alpha_bar[-1] < 1e-6:
            pytest.skip("dividing by the square root of a vanishing alpha amplifies rounding beyond comparison")
        z = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
        scheduler = diffusers_scheduler(model)
        scheduler.set_timesteps(steps)
        x = z.double()
        with torch.no_grad():
            for t in scheduler.timesteps:
                x = scheduler.step(model.unet(x.float(), t).sample.double(), int(t), x, eta=0.0).prev_sample
        mine = decode(model, z, schedule=Schedule(steps=steps, depth=1.0))
        assert Schedule(steps=steps, depth=1.0).levels(model)[:0:-1] == scheduler.timesteps.tolist()
        assert (mine - x).abs().max() < 1e-3 * x.abs().max()

    def test_angles_rise_from_zero(self, model):
        angles = [model.angle(level) for level in range(-1, len(model.alpha_bar))]
        assert angles[0] == 0
        assert all(b > a for a, b in itertools.pairwise(angles))
        assert angles[-1] <= np.pi / 2

    def test_digest_distinguishes_weights(self, model_folder, tmp_path):
        other = save_pixel_model(tmp_path / "other", seed=1)
        assert load_model(model_folder, "cpu").digest == load_model(model_folder, "cpu").digest
        assert load_model(model_folder, "cpu").digest != load_model(other, "cpu").digest

    def test_latent_diffusion_layout(self, tmp_path, pictures):
        model = load_model(save_latent_model(tmp_path), "cpu")
        assert (model.resolution, model.latent_shape) == (SIZE, (3, SIZE // 2, SIZE // 2))
        stage = model.first_stage
        with torch.no_grad():
            torch.testing.assert_close(stage.encode(pictures), 0.5 * stage.vae.encode(pictures).latents)
        z = invert(model, pictures, schedule=Schedule(steps=6, iterations=15, depth=0.3))
        assert z.shape == (3, 2, *model.latent_shape)
        x = decode(model, z, schedule=Schedule(steps=6, iterations=15, depth=0.3))
        with torch.no_grad():
            through_stage = stage.decode(stage.encode(pictures))
        assert x.shape == pictures.shape
        assert psnr(x, through_stage) > 50

    def test_bfloat16_is_close_but_not_equal(self, model_folder, plain_model, pictures):
        half = load_model(model_folder, "cpu", "bfloat16")
        exact, rough = plain_model.velocity(pictures, 300), half.velocity(pictures, 300)
        assert not torch.equal(exact, rough)
        assert psnr(exact, rough) > 30


class TestLoadingErrors:
    @pytest.mark.parametrize("name", ["nowhere", "./nowhere/at", "/nowhere/at/all", "a/b/c"])
    def test_missing(self, name):
        with pytest.raises(LatentrotError) as info:
            load_model(name)
        assert name in complaint(info)

    def test_not_a_diffusers_folder(self, tmp_path):
        with pytest.raises(LatentrotError) as info:
            load_model(tmp_path)
        assert str(tmp_path) in complaint(info)
        (tmp_path / "model_index.json").write_text("{broken")
        with pytest.raises(LatentrotError, match="JSONDecodeError") as info:
            load_model(tmp_path)
        complaint(info)

    def test_other_pipeline(self, tmp_path):
        edit_json(save_pixel_model(tmp_path) / "model_index.json", _class_name="StableDiffusionPipeline")
        with pytest.raises(LatentrotError, match=r"StableDiffusionPipeline.*DDIMPipeline") as info:
            load_model(tmp_path)
        complaint(info)

    def test_unknown_prediction(self, tmp_path):
        edit_json(save_pixel_model(tmp_path) / "scheduler" / "scheduler_config.json", prediction_type="flow")
        with pytest.raises(LatentrotError, match=r"'flow'.*epsilon.*v_prediction") as info:
            load_model(tmp_path)
        complaint(info)

    def test_unknown_beta_schedule(self, tmp_path):
        edit_json(save_pixel_model(tmp_path) / "scheduler" / "scheduler_config.json", beta_schedule="staircase")
        with pytest.raises(LatentrotError, match="staircase") as info:
            load_model(tmp_path)
        complaint(info)

    def test_damaged_weights(self, tmp_path):
        weights = save_pixel_model(tmp_path) / "unet" / "diffusion_pytorch_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
        with pytest.raises(LatentrotError, match="weights") as info:
            load_model(tmp_path)
        complaint(info)

    @pytest.mark.parametrize("device", ["abacus", "cuda:99"])
    def test_unknown_device(self, model_folder, device):
        with pytest.raises(LatentrotError, match=device) as info:
            load_model(model_folder, device)
        complaint(info)

    def test_unknown_dtype(self, model_folder):
        with pytest.raises(LatentrotError, match=r"'float8'.*bfloat16") as info:
            load_model(model_folder, "cpu", "float8")
        complaint(info)

    def test_hub(self, model_folder, plain_model, monkeypatch):
        monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **_: str(model_folder))
        model = load_model("someone/tiny", "cpu")
        assert (model.name, model.digest) == ("someone/tiny", plain_model.digest)

    def test_hub_without_a_connection(self, monkeypatch):
        def refuse(name, **_):
            raise OSError("offline\nvery much so")

        monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
        with pytest.raises(LatentrotError, match="someone/tiny") as info:
            load_model("someone/tiny", "cpu")
        complaint(info)


class TestRoundTrip:
    def test_fixed_point_is_near_exact_and_beats_ddim(self, model, pictures):
        if model.prediction_type == "sample":
            pytest.skip("the last decoding step returns the prediction itself: an untrained one cannot be any picture")
        # an untrained noise predictor, divided by a small cosine, has no well-conditioned inverse deeper down
        depth = 0.3 if model.prediction_type == "epsilon" else 0.9
        exact = Schedule(steps=10, iterations=15, depth=depth)
        usual = Schedule(steps=10, solver="ddim", depth=depth)
        back = decode(model, invert(model, pictures, schedule=exact), schedule=exact)
        rough = decode(model, invert(model, pictures, schedule=usual), schedule=usual)
        assert psnr(back, pictures) > 60
        assert psnr(back, pictures) > psnr(rough, pictures) + 20

    @pytest.mark.parametrize("beta", ["linear", "squaredcos_cap_v2"])
    def test_noise_prediction_is_inverted_at_any_depth(self, tmp_path, pictures, beta):
        """With a network that always predicts the same noise the inverse is known to exist and is unique."""
        model = load_model(save_pixel_model(tmp_path, "epsilon", beta), "cpu")
        torch.nn.init.zeros_(model.unet.conv_out.weight)
        plan = Schedule(steps=6, iterations=8)
        assert psnr(decode(model, invert(model, pictures, schedule=plan), schedule=plan), pictures) > 60

    def test_more_iterations_are_never_much_worse(self, plain_model, pictures):
        quality = []
        for iterations in (1, 4, 16):
            plan = Schedule(steps=8, iterations=iterations)
            quality.append(
                psnr(decode(plain_model, invert(plain_model, pictures, schedule=plan), schedule=plan), pictures)
            )
        assert quality[2] > quality[0]
        assert all(b > a - 3 for a, b in itertools.pairwise(quality))

    def test_acceleration_converges_where_plain_iteration_oscillates(self):
        turn = torch.tensor([[-0.95, 0.1], [0.0, 0.5]], dtype=torch.float64)
        aim = torch.tensor([[1.0, 2.0], [-3.0, 0.5]], dtype=torch.float64)  # two images of two pixels
        x, plain, tried = torch.zeros(2, 2).double(), torch.zeros(2, 2).double(), []
        for _ in range(3):
            mapped = (x - aim) @ turn.T + aim
            tried = [*tried[-2:], (mapped, mapped - x)]
            x = accelerate(tried)
            plain = (plain - aim) @ turn.T + aim
        assert torch.allclose(x, aim, atol=1e-6)
        assert (plain - aim).abs().max() > 1
        assert torch.isfinite(accelerate([(aim, 0 * aim), (aim, 0 * aim)])).all()  # already there

    def test_a_tolerance_is_reached_with_more_evaluations(self, plain_model, pictures, monkeypatch):
        plan = Schedule(steps=8)
        rough = (
            (decode(plain_model, invert(plain_model, pictures, schedule=plan), schedule=plan) - pictures).abs().max()
        )
        calls = []
        velocity = type(plain_model).velocity
        monkeypatch.setattr(type(plain_model), "velocity", lambda *a: calls.append(1) or velocity(*a))
        z = invert(plain_model, pictures, schedule=plan, tolerance=1e-6)
        assert evaluations(plan)[0] < len(calls) <= 1 + 8 * 12
        fine = (decode(plain_model, z, schedule=plan) - pictures).abs().max()
        assert fine < min(1e-4, rough)

    def test_batch_equals_one_by_one(self, model, pictures):
        together = invert(model, pictures, steps=6)
        single = torch.cat([invert(model, x[None], steps=6) for x in pictures])
        assert together.dtype == torch.float32
        assert (together - single).abs().max() < 1e-3 * together.abs().max()
        apart = torch.cat([decode(model, z[None], steps=6) for z in together])
        assert (decode(model, together, steps=6) - apart).abs().max() < 1e-3 * apart.abs().max()

    def test_evaluations_are_counted_right(self, plain_model, pictures, monkeypatch):
        calls = []
        original = LatentModel.velocity
        monkeypatch.setattr(
            LatentModel, "velocity", lambda self, x, level: calls.append(level) or original(self, x, level)
        )
        for plan in (*(Schedule(steps=5, solver=s) for s in SOLVERS), Schedule(steps=5, iterations=4)):
            calls.clear()
            z = invert(plain_model, pictures, schedule=plan)
            there = len(calls)
            decode(plain_model, z, schedule=plan)
            assert (there, len(calls) - there) == evaluations(plan)

    def test_unshuffled_model(self, tmp_path, pictures):
        model = load_model(save_pixel_model(tmp_path, patch=2), "cpu")
        assert (model.resolution, model.latent_shape) == (SIZE, (12, SIZE // 2, SIZE // 2))
        plan = Schedule(steps=8, iterations=15)
        assert psnr(decode(model, invert(model, pictures, schedule=plan), schedule=plan), pictures) > 60


class TestSchedule:
    @pytest.mark.parametrize(
        ("bad", "quoted"),
        [
            ({"steps": 0}, "steps=0"),
            ({"iterations": 0}, "iterations=0"),
            ({"depth": 0.0}, "depth=0.0"),
            ({"depth": 1.01}, "depth=1.01"),
            ({"depth": float("nan")}, "depth=nan"),
            ({"solver": "magic"}, "'magic'.*fixed-point"),
        ],
    )
    def test_refused(self, bad, quoted):
        with pytest.raises(LatentrotError, match=quoted) as info:
            Schedule(**bad)
        complaint(info)

    @pytest.mark.parametrize("depth", [0.05, 0.9, 1.0])
    def test_levels(self, plain_model, depth):
        levels = Schedule(steps=12, depth=depth).levels(plain_model)
        assert (levels[0], len(levels)) == (-1, 13)
        assert levels[-1] == round(depth * 1000) - 1

    def test_too_many_steps(self, plain_model):
        with pytest.raises(LatentrotError, match=r"200 steps.*100 noise levels"):
            Schedule(steps=200, depth=0.1).levels(plain_model)

    def test_both_forms_of_the_schedule_at_once(self, plain_model, pictures):
        with pytest.raises(LatentrotError, match="not both"):
            invert(plain_model, pictures, 5, schedule=Schedule())

    def test_noise_prediction_at_pure_noise(self, tmp_path, pictures):
        model = load_model(save_pixel_model(tmp_path, "epsilon", "scaled_linear", zero_snr=True), "cpu")
        with pytest.raises(LatentrotError, match="zero terminal SNR") as info:
            invert(model, pictures, schedule=Schedule(depth=1.0))
        complaint(info)
        assert torch.isfinite(invert(model, pictures, schedule=Schedule(steps=4, depth=0.5))).all()

    @pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
    def test_other_predictions_at_pure_noise(self, tmp_path, pictures, prediction):
        model = load_model(save_pixel_model(tmp_path, prediction, "scaled_linear", zero_snr=True), "cpu")
        assert model.angle(999) == pytest.approx(np.pi / 2)
        plan = Schedule(steps=10, iterations=20, depth=1.0)
        assert torch.isfinite(decode(model, invert(model, pictures, schedule=plan), schedule=plan)).all()

    @pytest.mark.parametrize("shape", [(3, SIZE, SIZE), (1, 1, SIZE, SIZE), (1, 3, SIZE, 2 * SIZE), (1, 3, 8, 8)])
    @pytest.mark.parametrize("way", [invert, decode])
    def test_wrong_shapes(self, plain_model, shape, way):
        with pytest.raises(LatentrotError, match=str(shape[-1])) as info:
            way(plain_model, torch.zeros(shape))
        complaint(info)

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    @pytest.mark.parametrize("way", [invert, decode])
    def test_not_finite(self, plain_model, bad, way):
        x = torch.zeros(2, 3, SIZE, SIZE)
        x[1, 2, 3, 4] = bad
        with pytest.raises(LatentrotError, match="NaN or infinity"):
            way(plain_model, x)

    def test_whole_numbers(self, plain_model):
        with pytest.raises(LatentrotError, match="uint8"):
            invert(plain_model, torch.zeros(1, 3, SIZE, SIZE, dtype=torch.uint8))


class TestFirstStage:
    @pytest.mark.parametrize("factor", [2, 4])
    def test_unshuffle_is_lossless_and_mirrors(self, factor):
        x, stage = torch.rand(2, 3, SIZE, SIZE), PixelUnshuffle(factor)
        assert torch.equal(stage.decode(stage.encode(x)), x)
        assert torch.equal(mirror_latents(stage.encode(x), stage.factor), stage.encode(x.flip(-1)))
        assert not torch.equal(mirror_latents(stage.encode(x), 1), stage.encode(x.flip(-1)))

    def test_mirroring_pixels(self):
        x = torch.rand(2, 3, SIZE, SIZE)
        assert torch.equal(mirror_latents(x, 1), x.flip(-1))


PLAN = Schedule(steps=3)


def rows_of(store: LatentStore, size: int = 64) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for names, latents in store.batches(size=size):
        assert len(names) == len(latents) <= size
        assert not found.keys() & set(names)
        found |= dict(zip(names, latents, strict=True))
    return found


def embed(data: Path, model: LatentModel, store: LatentStore, plan: Schedule = PLAN) -> tuple[int, list[str]]:
    return embed_folder(FaceFolder(data), model, store, plan, batch_size=2, shard_size=4)


class TestStore:
    @pytest.fixture
    def data(self, tmp_path: Path) -> Path:
        return write_pictures(tmp_path / "faces", 10)

    @pytest.fixture
    def store(self, tmp_path: Path, data: Path, plain_model: LatentModel) -> LatentStore:
        store = LatentStore(tmp_path / "latents")
        assert embed(data, plain_model, store) == (10, [])
        return store

    def test_holds_the_latents(self, store, plain_model):
        latents = rows_of(store)
        assert sorted(latents) == [f"{i:03d}.png" for i in range(10)]
        expected = invert(plain_model, as_batch(gradients(10)), schedule=PLAN, residual=False)
        for i, z in enumerate(expected):
            assert (latents[f"{i:03d}.png"] - z).abs().max() < 2e-3 * z.abs().max()

    def test_index_points_at_the_rows(self, store):
        index = pd.read_parquet(store.root / "index.parquet")
        assert index["image_id"].tolist() == store.image_ids()
        assert set(index["shard"]) == {s.name for s in store.shards}

    def test_resume_after_a_kill(self, store, data, plain_model):
        before = rows_of(store)
        store.shards[-1].unlink()
        store.shards[1].unlink()
        (store.root / ".shard-00002.safetensors.123.tmp").write_bytes(b"half a shard")
        again = LatentStore(store.root)
        assert embed(data, plain_model, again) == (6, [])
        after = rows_of(again)
        assert sorted(again.image_ids()) == sorted(before)
        for name, latent in before.items():
            torch.testing.assert_close(after[name], latent, rtol=2e-3, atol=2e-3)
        assert embed(data, plain_model, again) == (0, [])

    def test_kill_while_writing_leaves_whole_shards(self, data, tmp_path, plain_model, monkeypatch):
        store = LatentStore(tmp_path / "killed")
        original = Path.write_bytes

        def half(self, content):
            if len(store.shards) == 1:
                original(self, content[: len(content) // 2])
                raise KeyboardInterrupt
            return original(self, content)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_bytes", half)
            with pytest.raises(KeyboardInterrupt):
                embed(data, plain_model, store)
        first = len(rows_of(store))
        assert first in (2, 4)  # whichever shard was done first
        assert [p.name for p in store.root.iterdir() if p not in store.shards] == ["manifest-00000.parquet"]
        assert embed(data, plain_model, store) == (10 - first, [])
        assert len(rows_of(store)) == 10

    def test_another_model(self, store, data, plain_model, tmp_path):
        other = load_model(save_pixel_model(tmp_path / "other", seed=5), "cpu")
        with pytest.raises(LatentrotError, match=f"{plain_model.digest}.*{other.digest}") as info:
            embed(data, other, LatentStore(store.root))
        complaint(info)

    def test_another_schedule(self, store, data, plain_model):
        with pytest.raises(LatentrotError, match=r"steps=3.*steps=4") as info:
            embed(data, plain_model, LatentStore(store.root), Schedule(steps=4))
        complaint(info)

    def test_corrupt_image(self, tmp_path, plain_model):
        data = write_pictures(tmp_path / "some", 5)
        (data / "001.png").write_bytes((data / "002.png").read_bytes()[:60])
        (data / "003.png").write_bytes(b"no picture at all")
        Image.new("RGB", (30, 11)).save(data / "004.png")
        store = LatentStore(tmp_path / "out")
        done, bad = embed(data, plain_model, store)
        assert (done, store.image_ids()) == (2, ["000.png", "002.png"])
        assert len(bad) == 3
        for name, line in zip(("001.png", "003.png", "30x11|30.*11|004.png"), bad, strict=True):
            assert any(n in line for n in name.split("|")) or "30" in line
            assert "\n" not in line

    @pytest.mark.parametrize("keep", [0, 4, 200, 0.5])
    def test_damaged_shard(self, store, keep):
        shard = store.shards[1]
        content = shard.read_bytes()
        shard.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
        for use in (rows_of, LatentStore.image_ids, LatentStore.count):
            with pytest.raises(LatentrotError, match=f"{shard.name}.*damaged") as info:
                use(LatentStore(store.root))
            complaint(info)

    @pytest.mark.parametrize("size", [1, 3, 4, 100])
    def test_streaming_in_any_batch_size(self, store, size):
        whole, parts = rows_of(store), rows_of(store, size)
        assert list(whole) == list(parts)
        assert all(torch.equal(whole[k], parts[k]) for k in whole)

    def test_streaming_some(self, store):
        wanted = {"001.png", "006.png", "009.png", "unknown.png"}
        whole = rows_of(store)
        some = {n: z for names, latents in store.batches(wanted, 3) for n, z in zip(names, latents, strict=True)}
        assert sorted(some) == sorted(wanted - {"unknown.png"})
        assert all(torch.equal(whole[k], some[k]) for k in some)

    def test_empty(self, tmp_path):
        with pytest.raises(LatentrotError, match="latentrot embed") as info:
            _ = LatentStore(tmp_path / "none").space
        complaint(info)


@pytest.mark.skipif(not keep_large_blocks(), reason="the C library is not glibc")
def test_large_blocks_are_reused_by_the_allocator():
    code = """
import resource, sys
import numpy as np
from latentrot.diffusion.allocator import keep_large_blocks
if sys.argv[1] == "keep":
    keep_large_blocks()
np.ones(1 << 23)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.ones(1 << 23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = {
        way: int(subprocess.run([sys.executable, "-c", code, way], capture_output=True, check=True, text=True).stdout)
        for way in ("keep", "as it is")
    }
    assert faults["keep"] < faults["as it is"] / 10


def test_bfloat16_without_hardware_support_gives_a_warning(caplog):
    cpu = torch.device("cpu")
    with caplog.at_level("WARNING", logger="latentrot"):
        assert resolve_dtype("bfloat16", cpu) == torch.bfloat16
        assert resolve_dtype("float32", cpu) == torch.float32
    warned = [r.message for r in caplog.records]
    assert len(warned) == (0 if computes_bfloat16(cpu) else 1), warned
