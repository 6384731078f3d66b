"""Models as they are published: every layout loads to the same model, every other path is refused by name."""

import inspect
import json
import pickle
import re
import shutil
from dataclasses import replace
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DModel
from safetensors.torch import load_file, save_file
from tiny import (
    SIZE,
    as_batch,
    edit_json,
    gradients,
    save_latent_model,
    save_pixel_model,
    write_pictures,
)

from latentrot.cli import main
from latentrot.data.celeba import FaceFolder
from latentrot.diffusion.fingerprint import Fingerprint
from latentrot.diffusion.load import LatentModel, load_model
from latentrot.diffusion.noise import SCHEDULERS
from latentrot.diffusion.solve import Schedule
from latentrot.directions.directions import Directions
from latentrot.errors import LatentrotError
from latentrot.rotators.latent.rotator import load_latent_rotator
from latentrot.store.latent_store import LatentStore
from latentrot.store.space import LatentSpace
from latentrot.store.work import embed_folder

CASE = Path(__file__).resolve().parents[1].parent / "shared" / "cases" / "ddpm-at-root"
WEIGHTS = "diffusion_pytorch_model"


def refused(folder: Path | str, words: str) -> str:
    """The one line a model is refused with."""
    with pytest.raises(LatentrotError, match=words) as info:
        load_model(folder, "cpu")
    assert "\n" not in str(info.value)
    return str(info.value)


def as_bin(folder: Path) -> Path:
    """A U-Net's weights as a .bin file instead of safetensors."""
    torch.save(load_file(folder / f"{WEIGHTS}.safetensors"), folder / f"{WEIGHTS}.bin")
    (folder / f"{WEIGHTS}.safetensors").unlink()
    return folder


def at_root(source: Path, folder: Path) -> Path:
    """A model of a pixel pipeline with its files at the root, as early ones were published."""
    folder.mkdir()
    for part, name in ((".", "model_index.json"), ("scheduler", "scheduler_config.json"), ("unet", "config.json"),
                       ("unet", f"{WEIGHTS}.safetensors")):  # fmt: skip
        shutil.copy(source / part / name, folder)
    return folder


class TestLayouts:
    def test_files_at_the_root(self, model_folder, plain_model, tmp_path):
        model = load_model(at_root(model_folder, tmp_path / "root"), "cpu")
        assert model.fingerprint == plain_model.fingerprint
        (tmp_path / "root" / "model_index.json").unlink()  # a U-Net saved alone with its scheduler
        assert load_model(tmp_path / "root", "cpu").fingerprint == plain_model.fingerprint
        (tmp_path / "root" / "scheduler_config.json").unlink()
        refused(tmp_path / "root", r"no readable scheduler \(scheduler_config\.json")

    def test_the_case_at_the_root(self):
        if not CASE.is_dir():
            pytest.skip(f"no model at {CASE}")
        model = load_model(CASE, "cpu")
        assert (model.resolution, model.latent_shape, model.prediction_type) == (256, (3, 256, 256), "epsilon")
        stored = torch.load(CASE / f"{WEIGHTS}.bin", weights_only=True)
        assert all(torch.equal(v, stored[k]) for k, v in model.unet.state_dict().items())
        with torch.no_grad():
            assert torch.isfinite(model.velocity(as_batch(gradients(1, 256)), 100)).all()

    def test_bin_weights(self, model_folder, plain_model, tmp_path):
        folder = shutil.copytree(model_folder, tmp_path / "m")
        as_bin(folder / "unet")
        assert load_model(folder, "cpu").fingerprint == plain_model.fingerprint

    def test_a_bin_file_runs_nothing(self, model_folder, tmp_path):
        folder = shutil.copytree(model_folder, tmp_path / "m")
        as_bin(folder / "unet")

        class Evil:
            def __reduce__(self):
                return (Path.touch, (tmp_path / "ran",))

        (folder / "unet" / f"{WEIGHTS}.bin").write_bytes(pickle.dumps({"conv_in.weight": Evil()}))
        refused(folder, "cannot load its weights")
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize("variant", ["fp16", "non_ema"])
    def test_a_variant_is_taken_where_there_is_nothing_else(self, model_folder, plain_model, tmp_path, variant):
        folder = shutil.copytree(model_folder, tmp_path / "m")
        plain = folder / "unet" / f"{WEIGHTS}.safetensors"
        half = {k: v.half() for k, v in load_file(plain).items()}
        save_file(half, folder / "unet" / f"{WEIGHTS}.{variant}.safetensors")
        assert load_model(folder, "cpu").fingerprint == plain_model.fingerprint  # the plain one first
        as_bin(folder / "unet")
        assert load_model(folder, "cpu").fingerprint == plain_model.fingerprint  # whatever its suffix
        (folder / "unet" / f"{WEIGHTS}.bin").unlink()
        model = load_model(folder, "cpu")
        assert all(torch.equal(v, half[k].float()) for k, v in model.unet.state_dict().items())
        assert model.digest != plain_model.digest

    def test_shards_of_a_variant(self, tmp_path):
        folder = save_pixel_model(tmp_path)
        unet = UNet2DModel.from_pretrained(folder / "unet")
        (folder / "unet" / f"{WEIGHTS}.safetensors").unlink()
        unet.save_pretrained(folder / "unet", variant="fp16", max_shard_size="50KB")
        assert len(list((folder / "unet").glob("*.fp16-*-of-*.safetensors"))) > 1
        assert load_model(folder, "cpu").digest == load_model(save_pixel_model(tmp_path / "whole"), "cpu").digest

    def test_attention_under_its_old_names(self, tmp_path):
        """As google/ddpm-celebahq-256 has it."""
        torch.manual_seed(0)
        unet = UNet2DModel(
            sample_size=SIZE, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=8, attention_head_dim=8,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        )  # fmt: skip
        unet.save_pretrained(tmp_path)
        DDIMScheduler().save_pretrained(tmp_path)
        new = load_model(tmp_path, "cpu")
        old = {}
        for key, value in load_file(tmp_path / f"{WEIGHTS}.safetensors").items():
            for now, then in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
                key = key.replace(f"attentions.0.{now}.", f"attentions.0.{then}.")  # noqa: PLW2901
            old[key] = value
        assert any("query" in k for k in old)
        save_file(old, tmp_path / f"{WEIGHTS}.safetensors")
        assert load_model(tmp_path, "cpu").digest == new.digest

    def test_a_folder_of_the_hubs_cache(self, model_folder, plain_model, tmp_path):
        home = tmp_path / "models--someone--tiny"
        for commit in ("a" * 40, "b" * 40):
            shutil.copytree(model_folder, home / "snapshots" / commit)
        refused(home, r"2 snapshots \(aaaa")
        (home / "refs").mkdir()
        (home / "refs" / "main").write_text("b" * 40)
        model = load_model(home, "cpu")
        assert (model.folder, model.fingerprint) == (home / "snapshots" / ("b" * 40), plain_model.fingerprint)
        assert load_model(tmp_path, "cpu").folder == model.folder  # a cache of one model
        shutil.rmtree(home / "snapshots" / ("a" * 40))
        assert load_model(home / "snapshots", "cpu").folder == model.folder
        (tmp_path / "models--someone--else").mkdir()
        refused(tmp_path, "2 models .*models--someone--else, models--someone--tiny")

    def test_missing_files_and_lfs_pointers(self, model_folder, tmp_path):
        folder = shutil.copytree(model_folder, tmp_path / "m")
        weights = folder / "unet" / f"{WEIGHTS}.safetensors"
        stored = load_file(weights)
        stored.pop("conv_in.bias")
        save_file(stored, weights)
        assert "conv_in.bias" in refused(folder, "1 missing")
        weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
        refused(folder, "git lfs pull")
        weights.unlink()
        refused(folder, "holds no weights")


def scheduler_classes() -> dict[str, type]:
    """Every scheduler diffusers has."""
    names = [n for n in dir(diffusers.schedulers) if n.endswith("Scheduler") and not n.startswith("Flax")]
    found = {n: getattr(diffusers.schedulers, n, None) for n in names}  # one is named and not there
    return {n: c for n, c in found.items() if inspect.isclass(c)}


class TestSchedulers:
    def test_every_scheduler_of_diffusers_is_supported_or_refused(self, model_folder, tmp_path):
        folder = shutil.copytree(model_folder, tmp_path / "m")
        path = folder / "scheduler" / "scheduler_config.json"
        betas = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 500}
        wanted = DDIMScheduler(**betas).alphas_cumprod.double().numpy()
        classes = scheduler_classes()
        assert {"FlowMatchEulerDiscreteScheduler", "ScoreSdeVeScheduler", "EDMEulerScheduler", *SCHEDULERS} <= set(
            classes
        )
        for name in classes:
            path.write_text(json.dumps({"_class_name": name, **betas}))
            if name in SCHEDULERS:
                np.testing.assert_array_equal(load_model(folder, "cpu").alpha_bar, wanted)
            else:
                assert name in refused(folder, "not a variance-preserving.*expected one of DDIM")

    @pytest.mark.parametrize(
        ("kind", "changes", "words"),
        [
            ("FantasyScheduler", {}, "FantasyScheduler"),
            ("DPMSolverMultistepScheduler", {"use_flow_sigmas": True}, "use_flow_sigmas=True"),
            ("EulerDiscreteScheduler", {"timestep_type": "continuous"}, "timestep_type='continuous'"),
            ("UniPCMultistepScheduler", {"prediction_type": "flow_prediction"}, "flow_prediction"),
            ("PNDMScheduler", {"rescale_betas_zero_snr": True}, "zero-terminal-SNR"),
            ("DDIMScheduler", {"trained_betas": [0.1, 0.2, 1.5]}, "does not increase"),
            ("DDIMScheduler", {"trained_betas": "much"}, "unsupported"),
            ("DDIMScheduler", {"num_train_timesteps": "many"}, "unsupported"),
        ],
    )
    def test_unsupported_scheduler_options_are_refused(self, model_folder, tmp_path, kind, changes, words):
        folder = shutil.copytree(model_folder, tmp_path / "m")
        edit_json(folder / "scheduler" / "scheduler_config.json", _class_name=kind, **changes)
        refused(folder, words)

    def test_the_pipeline_names_the_scheduler_where_its_own_file_does_not(self, model_folder, tmp_path):
        folder = shutil.copytree(model_folder, tmp_path / "m")
        path = folder / "scheduler" / "scheduler_config.json"
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "_class_name"}))
        assert load_model(folder, "cpu").noise == load_model(model_folder, "cpu").noise
        edit_json(folder / "model_index.json", scheduler=["diffusers", "KarrasVeScheduler"])
        refused(folder, "KarrasVeScheduler")


UNETS = [
    ({"sample_size": [SIZE, 2 * SIZE]}, r"sample_size is \[16, 32\]"),
    ({"sample_size": None}, "sample_size is None"),
    ({"sample_size": "16"}, "sample_size is 16"),
    ({"sample_size": SIZE + 1}, "17 pixels 1 times"),
    ({"num_class_embeds": 10}, "class-conditional.*num_class_embeds 10"),
    ({"class_embed_type": "timestep"}, "class-conditional.*timestep"),
    ({"in_channels": 1, "out_channels": 1}, "1 channels.*grey"),
    ({"in_channels": 4, "out_channels": 4}, r"4 channels.*identity\) gives 3"),
    ({"out_channels": 6}, "3 channels and gives 6: networks that also predict the variance"),
    ({"out_channels": 4}, "3 channels and gives 4; expected equal numbers"),
    ({"_class_name": "UNet2DConditionModel"}, "UNet2DConditionModel"),
]


class TestUnets:
    def test_a_square_as_a_list(self, model_folder, plain_model, tmp_path):
        folder = shutil.copytree(model_folder, tmp_path / "m")
        edit_json(folder / "unet" / "config.json", sample_size=[SIZE, SIZE])
        model = load_model(folder, "cpu")
        assert (model.resolution, model.latent_shape) == (SIZE, (3, SIZE, SIZE))
        assert model.fingerprint == plain_model.fingerprint

    @pytest.mark.parametrize(("changes", "words"), UNETS)
    def test_others_are_one_line_and_leave_no_manifest(self, model_folder, tmp_path, capsys, changes, words):
        folder = shutil.copytree(model_folder, tmp_path / "m")
        edit_json(folder / "unet" / "config.json", **changes)
        faces, out = write_pictures(tmp_path / "faces", 2), tmp_path / "latents"
        assert main(["embed", "--data", str(faces), "--model", str(folder), "--out", str(out), "--device", "cpu"]) == 2
        err = capsys.readouterr().err
        assert re.search(words, err)
        assert err.count("\n") == 1
        assert not out.exists()

    def test_an_unsupported_schedule_leaves_no_manifest(self, plain_model, tmp_path):
        faces, store = FaceFolder(write_pictures(tmp_path / "faces", 2)), LatentStore(tmp_path / "latents")
        with pytest.raises(LatentrotError, match="2000 steps"):
            embed_folder(faces, plain_model, store, Schedule(steps=2000))
        assert not store.root.exists()


def save_autoencoder_model(folder: Path, **config: object) -> Path:
    """The tiny latent pipeline with an AutoencoderKL."""
    save_latent_model(folder)
    torch.manual_seed(2)
    AutoencoderKL(
        block_out_channels=(8, 16), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=3, norm_num_groups=4, sample_size=SIZE,
    ).save_pretrained(folder / "vae")  # fmt: skip
    shutil.rmtree(folder / "vqvae")
    index = json.loads((folder / "model_index.json").read_text())
    del index["vqvae"]
    (folder / "model_index.json").write_text(json.dumps({**index, "vae": ["diffusers", "AutoencoderKL"]}))
    return restate(folder / "vae", **config)


def restate(part: Path, **config: object) -> Path:
    """An autoencoder's config.json without any scaling, but what is given."""
    stated = json.loads((part / "config.json").read_text())
    for name in ("scaling_factor", "shift_factor", "latents_mean", "latents_std"):
        stated.pop(name, None)
    (part / "config.json").write_text(json.dumps(stated | config))
    return part.parent


class TestAutoencoders:
    @pytest.mark.parametrize(
        ("make", "stated", "scale"),
        [
            ("vqvae", {}, 1.0),
            ("vqvae", {"scaling_factor": 0.5}, 0.5),
            ("vqvae", {"scaling_factor": 0.18215}, 0.18215),
            ("vae", {}, 0.18215),
            ("vae", {"scaling_factor": 2.0, "shift_factor": 0.25}, 2.0),
        ],
    )
    def test_latents_are_scaled_as_stated_or_as_is_usual_for_the_kind(self, tmp_path, make, stated, scale):
        folder = save_autoencoder_model(tmp_path, **stated) if make == "vae" else restate(
            save_latent_model(tmp_path) / "vqvae", **stated
        )  # fmt: skip
        stage, x = load_model(folder, "cpu").first_stage, as_batch(gradients(2))
        shift = stated.get("shift_factor", 0.0)
        with torch.no_grad():
            told = stage.vae.encode(x)
            bare = told.latent_dist.mode() if make == "vae" else told.latents
            torch.testing.assert_close(stage.encode(x), (bare - shift) * scale)
            torch.testing.assert_close(stage.decode(stage.encode(x)), stage.vae.decode(bare).sample)

    @pytest.mark.parametrize(
        ("stated", "words"),
        [
            ({"latents_mean": [0.0, 0.0, 0.0]}, "latents_mean"),
            ({"scaling_factor": "large"}, "'large'"),
            ({"scaling_factor": 0}, "scaling_factor 0"),
            ({"in_channels": 1, "out_channels": 1}, r"1 input and 1 output channels.*RGB"),
            ({"latent_channels": 4}, r"takes 3 channels.*gives 4|cannot load its weights"),
        ],
    )
    def test_others_are_refused(self, tmp_path, stated, words):
        refused(save_autoencoder_model(tmp_path, **stated), words)

    def test_another_kind(self, tmp_path):
        edit_json(save_latent_model(tmp_path) / "model_index.json", vqvae=["diffusers", "AutoencoderDC"])
        refused(tmp_path, "AutoencoderDC")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LatentModel]:
    """Models that differ from the plain one in one part each, and hold the same weights where they can."""
    home = tmp_path_factory.mktemp("others")
    made = {
        "weights": save_pixel_model(home / "weights", seed=1),
        "prediction": save_pixel_model(home / "prediction", "epsilon"),
        "noise": save_pixel_model(home / "noise", beta="linear"),
        "network": save_pixel_model(home / "network"),
    }
    edit_json(made["network"] / "unet" / "config.json", norm_eps=1e-3)
    return {name: load_model(folder, "cpu") for name, folder in made.items()}


class TestFingerprint:
    @pytest.mark.parametrize("part", ["weights", "prediction", "noise", "network"])
    def test_lines_of_a_model_that_differs_in_one_part_are_refused(self, plain_model, others, part, tmp_path):
        other, plan = others[part], Schedule(steps=3)
        if part != "weights":
            assert other.digest == plain_model.digest
        line(plain_model, plan).save(tmp_path / "center.safetensors")
        load_latent_rotator(plain_model, tmp_path)
        with pytest.raises(LatentrotError) as info:
            load_latent_rotator(other, tmp_path)
        for model in (plain_model, other):
            assert getattr(model.fingerprint, part) in str(info.value)
        assert "center.safetensors" in str(info.value)

    @pytest.mark.parametrize("part", ["prediction", "noise", "network"])
    def test_a_store_of_a_model_that_differs_in_one_part_is_refused(self, plain_model, others, part, tmp_path):
        faces, store = FaceFolder(write_pictures(tmp_path / "faces", 2)), LatentStore(tmp_path / "latents")
        embed_folder(faces, plain_model, store, Schedule(steps=2))
        with pytest.raises(LatentrotError, match="belongs to model") as info:
            embed_folder(faces, others[part], LatentStore(store.root), Schedule(steps=2))
        for model in (plain_model, others[part]):
            assert getattr(model.fingerprint, part) in str(info.value)

    def test_the_first_stage_and_its_scale_are_part_of_it(self, tmp_path):
        one, two, three = (
            load_model(restate(save_latent_model(tmp_path / name) / "vqvae", **stated), "cpu").fingerprint
            for name, stated in (("a", {}), ("b", {"scaling_factor": 1.0}), ("c", {"scaling_factor": 0.18215}))
        )
        assert one == two  # stated or not, it is the same
        assert one.difference(three) == ("first stage", one.first_stage, three.first_stage)
        weights = tmp_path / "c" / "vqvae" / f"{WEIGHTS}.safetensors"
        changed = load_file(weights)
        changed["encoder.conv_in.bias"] += 1
        save_file(changed, weights)
        assert load_model(tmp_path / "c", "cpu").fingerprint.first_stage != three.first_stage

    def test_the_digest_does_not_depend_on_the_file_layout(self, plain_model, model_folder, tmp_path):
        folder = shutil.copytree(model_folder, tmp_path / "m")
        edit_json(folder / "unet" / "config.json", _diffusers_version="0.1.0", an_option_of_a_later_version=3)
        edit_json(
            folder / "scheduler" / "scheduler_config.json", _class_name="DPMSolverMultistepScheduler", steps_offset=1
        )
        edit_json(folder / "scheduler" / "scheduler_config.json", beta_start=0.5)  # a cosine schedule has none
        assert load_model(folder, "cpu").fingerprint == plain_model.fingerprint

    def test_header(self, plain_model):
        whole = plain_model.fingerprint
        assert Fingerprint.from_header(whole.header()) == whole
        old = Fingerprint.from_header({"digest": whole.weights})
        assert old.difference(whole) is None
        assert len(old.unknown) == 4
        assert whole.unknown == []

    @pytest.mark.parametrize("name", ["faces64", "heads64"])
    def test_bundled_directions_state_every_part_of_their_model(self, name, caplog):
        rotator = load_latent_rotator(name, device="cpu")
        for lines in rotator.directions.values():
            assert lines.space.fingerprint == rotator.model.fingerprint
        assert "vouch" not in caplog.text


def line(model: LatentModel, plan: Schedule, light: str = "center") -> Directions:
    """Some lines of a model."""
    slope = torch.ones(model.latent_shape)
    space = LatentSpace.of(model, plan)
    return Directions(light, slope, slope.clone(), space, (-30.0, 0.0, 30.0), (-30.0, 0.0, 30.0), {})


class TestMixtures:
    @pytest.mark.parametrize(
        "other", [Schedule(steps=4), Schedule(steps=3, solver="ddim"), Schedule(steps=3, depth=0.5)]
    )
    def test_lines_of_two_schedules_in_one_folder_are_refused(self, plain_model, tmp_path, other):
        plan = Schedule(steps=3)
        line(plain_model, plan, "left").save(tmp_path / "left.safetensors")
        line(plain_model, other, "right").save(tmp_path / "right.safetensors")
        with pytest.raises(LatentrotError, match=r"left\.safetensors.*right\.safetensors") as info:
            load_latent_rotator(plain_model, tmp_path)
        assert str(plan) in str(info.value)
        assert str(other) in str(info.value)
        assert load_latent_rotator(plain_model, tmp_path / "left.safetensors").directions.keys() == {"left"}

    def test_a_rotator_refuses_directions_of_two_schedules(self, plain_model):
        rotator_lines = {"left": line(plain_model, Schedule(steps=3)), "right": line(plain_model, Schedule(steps=4))}
        from latentrot.rotators.latent.rotator import LatentRotator  # noqa: PLC0415

        with pytest.raises(LatentrotError, match=r"steps=4.*steps=3"):
            LatentRotator(plain_model, rotator_lines)

    def test_stores_of_two_models_are_not_merged_even_beside_an_old_one(self, plain_model, others, tmp_path, capsys):
        plan, names = Schedule(steps=3), []
        old = replace(LatentSpace.of(plain_model, plan), fingerprint=Fingerprint(plain_model.digest))
        for name, space in (
            ("old", old),
            *((m.noise, LatentSpace.of(m, plan)) for m in (plain_model, others["noise"])),
        ):
            store = LatentStore(tmp_path / name.replace(" ", "-"))
            store.append([f"{name}.png"], torch.zeros(1, *plain_model.latent_shape), space)
            names.append(str(store.root))
        assert main(["embed", "merge", *names, "--out", str(tmp_path / "all")]) == 2
        err = capsys.readouterr().err
        assert plain_model.noise in err
        assert others["noise"].noise in err
        assert not (tmp_path / "all").exists()
