"""The pair model: it begins as the model it is made of, its pairs keep the mirror law, resuming is exact, poses steer it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import UNet2DModel
from PIL import Image
from safetensors.torch import load_file
from tiny import SIZE, gradients, save_image_variation, save_pixel_model

from latentrot.bundles import PORTRAIT, bundled_folder
from latentrot.cli import main
from latentrot.data.celeba import held_out
from latentrot.data.images import read_image
from latentrot.diffusion.load import load_model
from latentrot.errors import LatentrotError
from latentrot.faces.alignment import align_landmarks
from latentrot.faces.detect import detect_faces
from latentrot.faces.person import PersonNetwork
from latentrot.rotators.pair.config import KINDS, PairConfig
from latentrot.rotators.pair.model import initial_pair_model, load_pair_model, save_pair_model
from latentrot.rotators.pair.network import ImageEmbedding, PoseEmbedding
from latentrot.rotators.pair.pairs import open_pair_folder, plan_held_out, plan_sources
from latentrot.rotators.pair.render import ConditionRenderer, RenderedPairs, pairs_of, read_rendered_pairs, render_pairs
from latentrot.rotators.pair.rotator import PairRotator
from latentrot.rotators.pair.sample import PairSampleConfig, denoise, draw_pairs, trailing_levels
from latentrot.rotators.registry import load_rotator
from latentrot.training.backbone import TrainConfig, train
from latentrot.training.checkpoints import config_of_run
from latentrot.training.loop import generator_at, run_training
from latentrot.training.pair import PairTask, pair_rows, pairs_at


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny unconditional model over unshuffled images."""
    return save_pixel_model(tmp_path_factory.mktemp("start"), patch=2)


@pytest.fixture(scope="module")
def config(start: Path) -> PairConfig:
    return PairConfig(
        start=str(start), steps=6, batch_size=4, warmup=2, decay=2, learning_rate=1e-3, ema=0.5, drop_condition=0.3,
        drop_pose=0.3,
    )  # fmt: skip


def some_pairs(n: int = 12, size: int = SIZE) -> RenderedPairs:
    pictures = torch.from_numpy(gradients(3 * n, size)).permute(0, 3, 1, 2)
    seen = torch.full((n, 1, size, size), 255, dtype=torch.uint8)
    return RenderedPairs(
        torch.cat([pictures[:n], seen], 1), pictures[n : 2 * n], pictures[2 * n :],
        torch.randn(n, 2, 2, generator=torch.Generator().manual_seed(1)) * 20,
        torch.arange(n, dtype=torch.uint8) % len(KINDS),
    )  # fmt: skip


@pytest.fixture
def task(config: PairConfig) -> PairTask:
    return PairTask(initial_pair_model(config, "cpu"), some_pairs(), None, config)


class TestBeginning:
    def test_the_untrained_model_equals_the_unconditional_one(self, config, start):
        model, plain = initial_pair_model(config, "cpu"), UNet2DModel.from_pretrained(start / "unet")
        x, levels = torch.randn(3, *model.state_shape), torch.tensor([10, 500, 990])
        condition = torch.randn(3, 16, *x.shape[2:])
        poses = torch.tensor([[[10.0, 0], [20, 3]], [[0, 0], [torch.nan, 0]], [[-60, 2], [60, 2]]])
        with torch.no_grad():
            expected = plain(x, levels).sample
            source = initial_pair_model(replace(config, condition="source"), "cpu")
            assert torch.allclose(source.network(x, levels, condition, poses), expected, atol=1e-5)
            assert torch.allclose(model.network(x, levels, torch.zeros_like(condition), poses), expected, atol=1e-5)
            told = initial_pair_model(replace(config, condition="embedding"), "cpu")
            assert torch.allclose(told.network(x, levels, torch.rand(3, 3, SIZE, SIZE), poses), expected, atol=1e-5)

    def test_the_condition_is_used_at_high_noise_where_it_is_visible(self, config):
        model, generator = initial_pair_model(config, "cpu"), torch.Generator().manual_seed(4)
        noisy, level = torch.randn(1, *model.state_shape, generator=generator), torch.tensor([len(model.alpha_bar) - 1])
        picture = torch.rand(1, 12, *noisy.shape[2:], generator=generator) * 2 - 1

        def expected(shown):
            condition = torch.cat([picture, torch.full_like(picture[:, :4], shown)], 1)
            with torch.no_grad():
                v = model.network(noisy, level, condition, torch.zeros(1, 2, 2))
            a = float(model.alpha_bar[level])
            return (a**0.5 * noisy - (1 - a) ** 0.5 * v).sub(picture).square().mean()

        assert expected(1.0) < 0.1 * expected(0.0)

    def test_of_the_bundled_faces_too(self):
        if bundled_folder("faces64") is None:
            pytest.skip("faces64 is not in this build")
        model, plain = initial_pair_model(PairConfig(), "cpu"), load_model("faces64", "cpu")
        x, levels = torch.randn(1, *plain.latent_shape), 700
        with torch.no_grad():
            poses = torch.full((1, 2, 2), 30.0)
            out = model.network(x, torch.tensor([levels]), torch.zeros(1, 16, 32, 32), poses)
            assert torch.allclose(out, plain.unet(x, levels).sample, atol=1e-4)

    @pytest.mark.parametrize(
        ("change", "said"),
        [({"backbone": "latent"}, "DDIMPipeline pipeline"), ({"start": "no/such/model"}, "no/such/model")],
    )
    def test_from_a_model_of_another_kind_is_refused(self, config, change, said):
        with pytest.raises(LatentrotError, match=said) as info:
            initial_pair_model(replace(config, **change), "cpu")
        assert "\n" not in str(info.value)


class TestPoses:
    def test_unknown_poses_have_their_own_embedding(self):
        embedding = PoseEmbedding(8)
        torch.nn.init.normal_(embedding.last.weight)
        poses = torch.zeros(3, 2, 2)
        poses[1, 0] = torch.nan
        poses[2, 1, 0] = torch.nan
        out = embedding(poses)
        assert torch.isfinite(out).all()
        assert torch.cdist(out, out)[[0, 0, 1], [1, 2, 2]].min() > 1e-3

    def test_the_embedding_of_unknown_poses_is_trained(self):
        embedding = PoseEmbedding(8)
        torch.nn.init.normal_(embedding.last.weight)
        embedding(torch.full((1, 2, 2), torch.nan)).sum().backward()
        assert embedding.unknown.grad is not None
        assert (embedding.unknown.grad != 0).all()

    def test_a_planted_pose_is_learned_and_controls_samples(self, config, tmp_path):
        """Heads of this world are dark where they look left, and bright where they look right."""
        n = 16
        yaw = torch.linspace(-40, 40, n)
        target = torch.full((n, 3, SIZE, SIZE), 40, dtype=torch.uint8)
        target[yaw > 0] = 215
        poses = torch.zeros(n, 2, 2)
        poses[:, 1, 0] = yaw
        blank = torch.full((n, 4, SIZE, SIZE), 128, dtype=torch.uint8)
        pairs = RenderedPairs(blank, blank[:, :3], target, poses, torch.ones(n, dtype=torch.uint8))
        learned = replace(
            config, steps=100, batch_size=8, learning_rate=4e-3, decay=20, ema=0.9, drop_pose=0.0, mirror=False
        )
        task = PairTask(initial_pair_model(learned, "cpu"), pairs, None, learned)
        run_training(task, task.model.network, learned, tmp_path, save_every=1000, device="cpu")
        model = load_pair_model(tmp_path / "model", "cpu")
        asked = torch.tensor([[[0.0, 0], [-30, 0]], [[0, 0], [30, 0]]])
        drawn = draw_pairs(model, blank[:2], asked).mean((1, 2, 3))
        assert drawn[0] + 0.5 < drawn[1]


class TestBatches:
    def test_depend_on_the_step_alone(self, task):
        first, again, other = task.batch(7), (torch.rand(5), task.batch(7))[1], task.batch(8)
        assert all(torch.equal(a.nan_to_num(9), b.nan_to_num(9)) for a, b in zip(first, again, strict=True))
        assert not torch.equal(first[3], other[3])

    def test_mirror_law(self, config):
        """A pair shown mirrored is the pair of the mirrored images with its yaws negated; the pitch stays."""
        pairs = some_pairs()
        whole = replace(config, drop_condition=0.0, drop_pose=0.0, batch_size=64)
        straight = pairs_at(3, pairs, replace(whole, mirror=False), generator_at(3, whole))
        mixed = pairs_at(3, pairs, whole, generator_at(3, whole))
        flipped = (mixed[2] != straight[2]).flatten(1).any(1)
        assert 16 < flipped.sum() < 48
        for a, b in zip(mixed[:2], straight[:2], strict=True):
            assert torch.equal(a[flipped], b[flipped].flip(-1))
            assert torch.equal(a[~flipped], b[~flipped])
        assert torch.equal(mixed[2][flipped], straight[2][flipped] * torch.tensor([-1.0, 1.0]))

    def test_kinds_come_by_their_shares(self, config):
        kinds = np.array([0] * 50 + [1] * 5 + [2])
        rows = np.concatenate(
            [pair_rows(s, kinds, replace(config, shares=(0.25, 0.5, 0.25), batch_size=64)) for s in range(30)]
        )
        assert np.allclose(np.bincount(kinds[rows]) / len(rows), [0.25, 0.5, 0.25], atol=0.04)
        without = pair_rows(0, kinds[:50], replace(config, shares=(0.25, 0.5, 0.25)))
        assert (without < 50).all()

    def test_missing_kinds_of_pairs_are_refused(self, config):
        with pytest.raises(LatentrotError, match=r"no pairs to train on.*0\.0, 1\.0"):
            pair_rows(0, np.zeros(4, int), replace(config, shares=(0.0, 1.0, 0.0)))

    def test_dropped_shares(self, config):
        dropped = replace(config, drop_condition=0.5, drop_pose=0.25, batch_size=400)
        _, condition, poses = pairs_at(0, some_pairs(), dropped, generator_at(0, dropped))
        assert abs(condition.isnan().flatten(1).all(1).float().mean() - 0.5) < 0.08
        assert abs(poses.isnan().flatten(1).all(1).float().mean() - 0.25) < 0.08

    def test_the_source_itself_as_condition(self, config):
        pairs, plain = some_pairs(), replace(config, condition="source", mirror=False, drop_condition=0.0)
        rows = pair_rows(2, pairs.kind.numpy(), plain)
        condition = pairs_at(2, pairs, plain, generator_at(2, plain))[1]
        assert torch.equal(condition[:, :3], pairs.source[rows].float() / 127.5 - 1)
        assert (condition[:, 3] == 1).all()


class TestTraining:
    def whole(self, task, config, out):
        run_training(task, task.model.network, config, out, save_every=3, device="cpu")
        return out

    def test_resuming_is_exact(self, config, tmp_path, monkeypatch):
        tasks = [PairTask(initial_pair_model(config, "cpu"), some_pairs(), None, config) for _ in range(3)]
        self.whole(tasks[0], config, tmp_path / "whole")

        def killed(self, step, batch=PairTask.batch):
            if step == 4:
                raise KeyboardInterrupt
            return batch(self, step)

        with monkeypatch.context() as patch:
            patch.setattr(PairTask, "batch", killed)
            with pytest.raises(KeyboardInterrupt):
                self.whole(tasks[1], config, tmp_path / "run")
        self.whole(tasks[2], config, tmp_path / "run")
        for name in (
            "checkpoint.safetensors",
            "model/pair.safetensors",
            "model/unet/diffusion_pytorch_model.safetensors",
        ):
            a, b = load_file(tmp_path / "whole" / name), load_file(tmp_path / "run" / name)
            assert a.keys() == b.keys()
            assert all(torch.equal(a[k], b[k]) for k in a)

    def test_a_saved_model_draws_like_the_trained_one(self, task, config, tmp_path):
        self.whole(task, config, tmp_path)
        loaded = load_pair_model(tmp_path / "model", "cpu")
        stored = load_file(tmp_path / "checkpoint.safetensors")
        weights = {k.removeprefix("average.module."): v for k, v in stored.items() if k.startswith("average.module.")}
        fresh = initial_pair_model(config, "cpu")
        fresh.network.load_state_dict({k: v.half().float() for k, v in weights.items()})
        args = (task.pairs.condition[:2], task.pairs.poses[:2])
        assert torch.allclose(draw_pairs(loaded, *args), draw_pairs(fresh, *args), atol=1e-4)

    def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(
        self, task, config, tmp_path, monkeypatch
    ):
        original = PairTask.loss

        def broken(self, model, batch):
            loss = original(self, model, batch)
            return loss * torch.nan if torch.equal(batch[3], self.batch(4)[3]) else loss

        monkeypatch.setattr(PairTask, "loss", broken)
        with pytest.raises(LatentrotError, match=r"loss of step 4 is nan.* keeps the 3 steps") as info:
            self.whole(task, config, tmp_path)
        assert "\n" not in str(info.value)
        assert json.loads(Path(tmp_path / "model" / "first_stage.json").read_text())["factor"] == 2
        assert all(torch.isfinite(v).all() for v in load_file(tmp_path / "checkpoint.safetensors").values())

    def test_a_checkpoint_of_another_backbone_or_command_is_refused(self, task, config, tmp_path, start):
        self.whole(task, config, tmp_path)
        with pytest.raises(LatentrotError, match=r"backbone='pixel'.*'latent'"):
            config_of_run(tmp_path / "checkpoint.safetensors", replace(config, backbone="latent"), PairConfig)
        with pytest.raises(LatentrotError, match="another command") as info:
            config_of_run(tmp_path / "checkpoint.safetensors", None, TrainConfig)
        assert "\n" not in str(info.value)


class TestLatentBackbone:
    @pytest.fixture
    def task(self, config, tmp_path):
        pytest.importorskip("transformers", reason="the image encoder is transformers'")
        latent = replace(config, backbone="latent", start=str(save_image_variation(tmp_path / "pipeline")), steps=4)
        return PairTask(initial_pair_model(latent, "cpu"), some_pairs(), None, latent)

    def test_trains_writes_and_draws(self, task, tmp_path):
        before = {k: v.clone() for k, v in task.model.network.state_dict().items()}
        stays = {k: v.clone() for k, v in task.model.space.encoder.state_dict().items()}
        run_training(task, task.model.network, task.config, tmp_path / "run", save_every=9, device="cpu")
        after = task.model.network.state_dict()
        assert not torch.equal(after["poses.last.weight"], before["poses.last.weight"])
        assert not torch.equal(after["unet.conv_in.weight"], before["unet.conv_in.weight"])
        assert all(torch.equal(v, stays[k]) for k, v in task.model.space.encoder.state_dict().items())
        loaded = load_pair_model(tmp_path / "run" / "model", "cpu")
        args = (task.pairs.condition[:2], task.pairs.poses[:2])
        drawn = draw_pairs(loaded, *args, PairSampleConfig(steps=2))
        assert drawn.shape == (2, 3, SIZE, SIZE)
        average = load_file(tmp_path / "run" / "checkpoint.safetensors")
        key = "poses.last.weight"
        assert torch.equal(loaded.network.state_dict()[key], average[f"average.module.{key}"].half().float())

    def test_pose_and_image_are_tokens_of_their_own(self, task):
        network = task.model.network
        torch.nn.init.normal_(network.poses.last.weight)
        condition, poses = task.pairs.condition[:2], task.pairs.poses[:2]
        x, levels = torch.randn(2, *task.model.state_shape), torch.tensor([900, 900])
        seen = task.model.condition(condition)
        with torch.no_grad():
            out = network(x, levels, seen, poses)
            assert not torch.allclose(network(x, levels, seen, poses + 30), out, atol=1e-5)
            assert not torch.allclose(network(x, levels, torch.zeros_like(seen), poses), out, atol=1e-5)

    def test_starts_from_no_other_pipeline(self, config, start):
        with pytest.raises(LatentrotError, match="needs a StableDiffusionImageVariationPipeline"):
            initial_pair_model(replace(config, backbone="latent"), "cpu")

    def test_a_pixel_model_starts_from_no_latent_pipeline(self, config, task):
        with pytest.raises(LatentrotError, match="expected an unconditional one"):
            initial_pair_model(replace(config, start=task.config.start), "cpu")


class TestDrawing:
    def test_levels_begin_at_the_highest_and_fall(self):
        assert trailing_levels(1000, 4) == [999, 749, 499, 249]
        assert trailing_levels(1000, 1) == [999]

    def test_guidance_of_one_has_no_effect_and_of_zero_removes_the_condition(self, task):
        network = task.model.network
        torch.nn.init.normal_(network.poses.last.weight, std=0.02)
        condition, poses = task.pairs.condition[:2], task.pairs.poses[:2]

        def drawn(condition, poses, **guide):
            return draw_pairs(task.model, condition, poses, PairSampleConfig(steps=2, keep=0.0, **guide))

        plain, nowhere = drawn(condition, poses), torch.full_like(poses, torch.nan)
        assert torch.allclose(drawn(condition, poses, guide_condition=1.0, guide_pose=1.0), plain)
        assert torch.allclose(drawn(condition, poses, guide_pose=0.0), drawn(condition, nowhere), atol=1e-5)
        blind = drawn(condition, poses, guide_condition=0.0, guide_pose=0.0)
        assert torch.allclose(blind, drawn(condition.flip(0), poses, guide_condition=0.0, guide_pose=0.0), atol=1e-5)
        assert not torch.allclose(drawn(condition, poses, guide_pose=3.0), plain, atol=1e-3)

    def test_keep_applies_to_visible_pixels_only(self, task):
        condition, poses = task.pairs.condition[:2].clone(), task.pairs.poses[:2]
        condition[:, 3, :, :4], condition[:, 3, :, 4:] = 0, 255
        none, half, whole = (
            draw_pairs(task.model, condition, poses, PairSampleConfig(keep=k)) for k in (0.0, 0.5, 1.0)
        )
        assert torch.equal(none[..., :4], whole[..., :4])
        assert torch.allclose(whole[..., 4:], condition[:, :3, :, 4:].float() / 127.5 - 1, atol=1e-6)
        assert torch.allclose(half, (none + whole) / 2, atol=1e-6)
        with pytest.raises(LatentrotError, match=r"keep 1\.5"):
            PairSampleConfig(keep=1.5)

    def test_the_last_state_is_the_image(self, task):
        *_, (state, picture) = denoise(
            task.model, task.pairs.condition[:1], task.pairs.poses[:1], PairSampleConfig(steps=3)
        )
        assert torch.allclose(state, picture, atol=1e-5)

    def test_samples_do_not_depend_on_the_batch(self, task):
        condition, poses = task.pairs.condition[:3], task.pairs.poses[:3]
        alone = torch.cat([draw_pairs(task.model, condition[i : i + 1], poses[i : i + 1]) for i in range(3)])
        assert torch.allclose(draw_pairs(task.model, condition, poses), alone, atol=1e-4)


def portraits(folder: Path, count: int = 3) -> Path:
    """The public-domain portrait, aligned, some times over: a scene, each frame with a pose of its own."""
    photo = read_image(PORTRAIT)
    alignment = align_landmarks(detect_faces(photo)[0].landmarks, (photo.shape[1], photo.shape[0]))
    square = Image.fromarray(alignment.crop(photo, 96))
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{i}.png" for i in range(count)]
    for name in names:
        square.save(folder / name)
    pd.DataFrame({"image_id": names, "yaw_deg": np.linspace(-9, 9, count), "pitch_deg": 0.0}).to_csv(
        folder / "pose.csv", index=False
    )
    return folder


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return portraits(tmp_path_factory.mktemp("faces"))


class TestEmbedding:
    @pytest.fixture
    def embedding(self) -> ImageEmbedding:
        torch.manual_seed(0)
        made = ImageEmbedding(32, PersonNetwork().eval())
        torch.nn.init.normal_(made.identity_embedding.last.weight)
        return made

    def test_the_embedding_is_mirror_invariant(self, embedding):
        pictures = torch.rand(3, 3, SIZE, SIZE) * 2 - 1
        told = embedding(pictures)
        assert torch.allclose(embedding(pictures.flip(-1)), told, atol=1e-4)
        assert (told[0] - told[1]).abs().max() > 1e-2

    def test_a_missing_image_trains_the_null_embedding_alone(self, embedding):
        pictures = torch.cat([torch.rand(1, 3, SIZE, SIZE), torch.zeros(1, 3, SIZE, SIZE)])
        embedding.train()
        embedding(pictures)[1].sum().backward()
        assert embedding.identity_embedding.null_identity.grad.abs().sum() > 0
        assert all(not p.grad.any() for p in embedding.encoder.parameters())
        assert not embedding.encoder.training

    def test_learns_with_the_network(self, config):
        told = replace(config, condition="embedding", drop_condition=0.0)
        task = PairTask(initial_pair_model(told, "cpu"), some_pairs(), None, told)
        optimizer = torch.optim.AdamW(task.model.network.parameters(), 1e-3)
        for step in range(2):  # the last layer is zero at first: it has to move before the encoder can
            optimizer.zero_grad()
            task.loss(task.model.network, task.batch(step)).backward()
            optimizer.step()
        assert all(
            p.grad is not None and p.grad.any()
            for p in task.model.network.image_embedding.encoder.head[-1:].parameters()
        )

    def test_of_a_latent_backbone_is_refused(self, config):
        with pytest.raises(LatentrotError, match="expected mesh or source"):
            replace(config, backbone="latent", condition="embedding")


class TestFolders:
    def test_without_poses_is_refused_in_one_line(self, tmp_path):
        Image.fromarray(gradients(1)[0]).save(tmp_path / "a.png")
        with pytest.raises(LatentrotError, match=r"no poses beside.*latentrot label") as info:
            open_pair_folder(tmp_path)
        assert "\n" not in str(info.value)

    def test_pairs_with_a_missing_image_are_reported_and_left_out(self, faces, tmp_path, caplog):
        for path in faces.iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        pd.DataFrame({"image_id": ["0.png", "1.png", "gone.png"], "clip": [7, 7, 7]}).to_csv(
            tmp_path / "clip.csv", index=False
        )
        folder = open_pair_folder(tmp_path)
        assert "1 images that do not exist, such as gone.png" in caplog.text
        sources = {s.image_id: s for s in plan_sources([folder], 9, 0.0, 0)}
        assert {p.image_id for p in sources["0.png"].partners} == {"1.png"}
        (tmp_path / "1.png").write_bytes(b"damaged")
        found = pairs_of(sources["0.png"], folder, ConditionRenderer(SIZE), 30)
        assert [KINDS[int(p["kind"])] for p in found] == ["mirror"]
        assert "left out: the pair of 0.png and 1.png" in caplog.text

    def test_more_sources_only_add_and_held_out_people_are_excluded(self, tmp_path):
        names = [f"{i:02d}.png" for i in range(20)]
        for name in names:
            Image.fromarray(gradients(1)[0]).save(tmp_path / name)
        people = [f"p{i // 2}" for i in range(20)]
        pd.DataFrame({"image_id": names, "identity": people}).to_csv(tmp_path / "identity_CelebA.csv", index=False)
        pd.DataFrame({"image_id": names, "yaw_deg": 0.0, "pitch_deg": 0.0}).to_csv(tmp_path / "pose.csv", index=False)
        folder = open_pair_folder(tmp_path)
        few, many = (plan_sources([folder], n, 0.4, 5) for n in (4, 100))
        away = {n for n, gone in zip(names, held_out(people, 0.4), strict=True) if gone}
        assert 0 < len(away) < 20
        assert few == many[:4]
        assert {s.image_id for s in many} == set(names) - away
        assert {s.image_id for s in plan_held_out([folder], 100, 0.4, 5)} == away


class TestRendering:
    def test_without_geometry_the_condition_is_the_source(self, faces, tmp_path):
        folder = open_pair_folder(faces)
        sources = plan_sources([folder], 1, 0.0, 0)
        pairs = read_rendered_pairs(render_pairs(tmp_path, sources, [folder], 64, 30.0, geometry=False))
        assert pairs.kind.tolist() == [KINDS.index("mirror")]
        assert torch.equal(pairs.condition[:, :3], pairs.source)
        assert (pairs.condition[:, 3] == 255).all()
        turned = read_rendered_pairs(render_pairs(tmp_path / "turned", sources, [folder], 64, 30.0))
        assert torch.equal(turned.target[:1], pairs.target)
        assert torch.equal(turned.poses[:1], pairs.poses)

    def test_pairs_of_one_portrait(self, faces, tmp_path):
        """An image turned there and back comes back; what was hidden on the way is marked."""
        folder = open_pair_folder(faces)
        sources = plan_sources([folder], 1, 0.0, 0)
        shards = render_pairs(tmp_path, sources, [folder], 64, 30.0)
        pairs = read_rendered_pairs(shards)
        assert pairs.condition.shape == (3, 4, 64, 64)
        assert pairs.kind.tolist() == [0, 2, 2]
        for condition, target in zip(pairs.condition[1:].float(), pairs.target[1:].float(), strict=True):
            seen = condition[3] > 250
            assert 0.3 < seen.float().mean() < 1
            assert (condition[:3] - target)[:, seen].abs().mean() < 12
        sides = torch.sign(pairs.poses[1:, 1, 0] - pairs.poses[1:, 0, 0])
        assert sorted(sides.tolist()) == [-1, 1]
        before = [p.stat().st_mtime_ns for p in shards]
        assert render_pairs(tmp_path, sources, [folder], 64, 30.0) == shards
        assert [p.stat().st_mtime_ns for p in shards] == before
        shards[0].write_bytes(b"half")
        render_pairs(tmp_path, sources, [folder], 64, 30.0)
        assert torch.equal(read_rendered_pairs(shards).condition, pairs.condition)


@pytest.fixture(scope="module")
def folder(config: PairConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model as `train-pair` writes it."""
    model = initial_pair_model(config, "cpu")
    out = tmp_path_factory.mktemp("pair")
    save_pair_model(model, model.network.state_dict(), out)
    return out


class TestRotator:
    def test_by_the_protocol(self, folder, faces):
        rotator = load_rotator("pair", model=folder, device="cpu")
        square = read_image(faces / "0.png")
        turned = rotator.rotate_many(square, [-15, 15])
        assert [t.shape for t in turned] == [(SIZE, SIZE, 3)] * 2
        assert np.abs(rotator.rotate(square, 15).astype(int) - turned[1]).max() <= 1

    def test_process_shows_every_step(self, folder, faces):
        rotator = PairRotator(load_pair_model(folder, "cpu"), PairSampleConfig(steps=3, keep=0.0))
        square = read_image(faces / "0.png")
        strip = rotator.process(square, 20, steps=3)
        assert strip.shape == (2 * SIZE, 5 * SIZE, 3)
        assert np.abs(strip[-SIZE:, -SIZE:].astype(int) - rotator.rotate(square, 20)).max() <= 1

    def test_edit_turns_and_draws_the_process(self, folder, tmp_path):
        out, process = tmp_path / "a.png", tmp_path / "p.png"
        command = ["edit", str(PORTRAIT), "--deg", "20", "--rotator", "pair", "--model", str(folder)]
        assert main([*command, "--out", str(out), "--process", str(process)]) == 0
        assert Image.open(out).size == Image.open(PORTRAIT).size
        assert Image.open(process).width == 10 * 128

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--rotator", "mesh", "--process", "p.png"], "--process draws the sampling steps"),
            (["--rotator", "pair", "--process", "p.gif"], "--process p.gif"),
            (["--rotator", "pair", "--model", "nowhere"], "no pair model at nowhere"),
            (["--rotator", "pair", "--fast"], "--fast is an option of the rotator latent, not of pair"),
        ],
    )
    def test_edit_refuses_in_one_line(self, words, said, capsys, tmp_path):
        assert main(["edit", str(PORTRAIT), "--deg", "20", "--out", str(tmp_path / "a.png"), *words]) == 2
        message = capsys.readouterr().err.strip().splitlines()[-1]
        assert said in message


def test_train_pair_from_the_command_line(faces, start, tmp_path, capsys):
    words = ["--start", str(start), "--steps", "2", "--batch-size", "2", "--sources", "2", "--held-out", "0"]
    command = ["train", "pair", "--data", str(faces), "--out", str(tmp_path / "run"), "--device", "cpu", *words]
    assert main(command) == 0
    assert load_pair_model(tmp_path / "run" / "model", "cpu").resolution == SIZE
    assert (tmp_path / "run" / "samples-000002.png").is_file()
    told = ["--condition", "embedding", "--shares", "1", "0", "0"]
    assert (
        main(["train", "pair", "--data", str(faces), "--out", str(tmp_path / "told"), "--device", "cpu", *words, *told])
        == 0
    )
    rotator = load_rotator("pair", model=tmp_path / "told" / "model", device="cpu", steps=2)
    picture = np.asarray(Image.open(faces / "0.png"))
    assert rotator.rotate(picture, 20.0).shape == (SIZE, SIZE, 3)
    assert main([*command[:-2], "--held-out", "0.5"]) == 2
    assert "held_out=0.0" in capsys.readouterr().err
    train_folder = tmp_path / "other"
    train([faces], train_folder, TrainConfig(steps=1, batch_size=2, resolution=SIZE, small_steps=0, channels=(16, 32)),
          device="cpu")  # fmt: skip
    assert main(["train", "pair", "--data", str(faces), "--out", str(train_folder)]) == 2
    assert "another command" in capsys.readouterr().err
