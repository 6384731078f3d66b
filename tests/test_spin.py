"""The multi-view model: it begins as the model it is made of, its views keep the mirror law, resuming is exact."""

import json
import shutil
import sys
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import DDIMScheduler, UNet2DModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_pair import portraits
from tiny import SIZE, gradients, save_pixel_model

from latentrot.bundles import PORTRAIT, bundled_folder, bundled_part
from latentrot.cli import main
from latentrot.cli.app import App
from latentrot.cli.common import chosen_options, rotator_options
from latentrot.data.images import read_image, write_image
from latentrot.errors import LatentrotError
from latentrot.faces.identity import load_identity
from latentrot.faces.person import PersonNetwork, load_person_network, save_person_network
from latentrot.geometry import HeadFitter
from latentrot.geometry.whole_view import skin_texture
from latentrot.portrait.photograph import edit_portrait
from latentrot.portrait.portrait import EditConfig, open_portrait
from latentrot.portrait.spin import camera_of, poses_around, slerp
from latentrot.rotators.mesh.rotator import MeshRotator
from latentrot.rotators.pair.pairs import open_pair_folder, plan_sources
from latentrot.rotators.registry import load_rotator
from latentrot.rotators.spin.cameras import DISTANCE_CM, head_to_camera, ray_map, reference_pose
from latentrot.rotators.spin.config import SpinConfig
from latentrot.rotators.spin.geometry import (
    HeadCamera,
    ProjectedColours,
    aligned_centre,
    colour_differences,
    composed,
)
from latentrot.rotators.spin.model import initial_spin_model, load_spin_model, save_spin_model, takes_identity
from latentrot.rotators.spin.network import IDENTITY_LENGTH
from latentrot.rotators.spin.reconstruct import carve, export_views
from latentrot.rotators.spin.render import camera_alignment, read_photographs, render_photographs
from latentrot.rotators.spin.sample import (
    ANCHORS_DEG,
    NULL_IDENTITY,
    SpinSampleConfig,
    SpinViews,
    draw_views,
    identity_of,
    nearest_anchors,
    noise_schedule,
    normals_of,
    spin,
)
from latentrot.synthetic import views as rendering
from latentrot.synthetic.head_model import load_head_model
from latentrot.synthetic.sample import with_pose
from latentrot.synthetic.shade import render
from latentrot.synthetic.views import HeadViews, read_head_views, render_views
from latentrot.training.checkpoints import config_of_run
from latentrot.training.loop import generator_at, run_training
from latentrot.training.person import Classifier, cosface_loss, verification_accuracy
from latentrot.training.spin import (
    SpinTask,
    ViewSets,
    embed_people,
    identity_of_run,
    mirror_conditions,
    person_of_run,
    samples_at,
)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny unconditional model over unshuffled images."""
    return save_pixel_model(tmp_path_factory.mktemp("start"), patch=2)


@pytest.fixture(scope="module")
def config(start: Path) -> SpinConfig:
    return SpinConfig(
        start=str(start), geometry=False, people=3, views=6, together=4, single_steps=0, attention=8, steps=6,
        batch_size=3, warmup=2, decay=2, learning_rate=1e-3, ema=0.5,
    )  # fmt: skip


def some_heads(n: int = 3, views: int = 6, size: int = SIZE) -> HeadViews:
    pictures = torch.from_numpy(gradients(n * (2 * views + 2), size)).permute(0, 3, 1, 2)
    image, normals, occasion = pictures.split([n * views, n * views, n * 2])
    pose = torch.stack([torch.linspace(-150, 150, views).expand(n, -1), torch.zeros(n, views) + 5], -1)
    return HeadViews(
        image.unflatten(0, (n, views)), normals.unflatten(0, (n, views)), pose, occasion.unflatten(0, (n, 2))
    )


def some_sets(n: int = 3, views: int = 6, *, geometry: bool = False) -> ViewSets:
    """The heads of `some_heads` with identities, and with conditions that resemble their views, fitted to the third view."""
    heads = some_heads(n, views)
    both = torch.cat([heads.image, heads.normals], 2)
    sets = ViewSets(both, heads.pose, some_people(n))
    masks = torch.full_like(both[:, :, :2], 200)
    return replace(sets, condition=torch.cat([both, masks], 2), source=torch.full((n,), 2)) if geometry else sets


def some_people(n: int = 3) -> torch.Tensor:
    vectors = torch.randn(n, 2, IDENTITY_LENGTH, generator=torch.Generator().manual_seed(4))
    return vectors / vectors.norm(dim=-1, keepdim=True)


@pytest.fixture
def task(config: SpinConfig) -> SpinTask:
    return SpinTask(initial_spin_model(config, None, "cpu"), some_sets(), some_heads(1), config)


def inputs(model, b=2, p=4, seed=0):
    """States, levels, given, rays, who."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(b, p, 6 * model.stage.factor**2, model.size, model.size, generator=generator)
    pose = torch.rand(b, p, 2, generator=generator) * 300 - 150
    given = (torch.arange(p) < 1).float().expand(b, -1)
    rays = ray_map(pose, reference_pose(pose, given), model.size)
    return x, given, rays, some_people(b)[:, 0]


class TestBeginning:
    """Untrained, it is the unconditional model of images, view by view, in EDM's variables."""

    def check(self, model, unet, scheduler, steps, tolerance):
        x, given, rays, who = inputs(model)
        bar = scheduler.alphas_cumprod[torch.tensor(steps)]
        alpha, sigma = bar.sqrt(), (1 - bar).sqrt()
        for t, a, s in zip(steps, alpha, sigma, strict=True):
            levels = (s / a).expand(x.shape[:2])
            with torch.no_grad():
                denoised = model.network(x, levels, given, rays, who)
                vp = a * x.flatten(0, 1)  # x = x0 + s noise, vp = alpha x0 + sigma noise
                half = vp.shape[1] // 2
                velocity = unet(vp[:, :half], t).sample
                expected = a * vp[:, :half] - s * velocity
            assert torch.allclose(denoised.flatten(0, 1)[:, :half], expected, atol=tolerance)
            # the normals' half is a plain share of the noisy one
            assert torch.allclose(denoised.flatten(0, 1)[:, half:], a * vp[:, half:], atol=tolerance)

    def test_the_untrained_model_equals_the_unconditional_one(self, config, start):
        unet, scheduler = (
            UNet2DModel.from_pretrained(start / "unet"),
            DDIMScheduler.from_pretrained(start / "scheduler"),
        )
        self.check(initial_spin_model(config, None, "cpu"), unet, scheduler, [3, 400, 800], 1e-4)

    def test_goes_on_from_a_multi_view_model(self, task, config, tmp_path):
        """To half precision, in which it was written, and ready to be trained."""
        with torch.no_grad():
            for parameter in task.model.network.parameters():
                parameter.add_(0.02)
        task.export(tmp_path, task.model.network, 0)
        begun = initial_spin_model(replace(config, start=str(tmp_path / "model")), None, "cpu")
        x, given, rays, who = inputs(begun)
        levels = torch.full(x.shape[:2], 2.0)
        here, there = (model.network(x, levels, given, rays, who) for model in (begun, task.model))
        assert torch.allclose(here, there, atol=2e-2)
        assert all(parameter.requires_grad for parameter in begun.network.parameters())

    def test_of_the_bundled_heads_too(self):
        folder = bundled_folder("heads64")
        if folder is None:
            pytest.skip("heads64 is not in this build")
        unet = UNet2DModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
        scheduler = DDIMScheduler.from_pretrained(folder / "scheduler")
        self.check(initial_spin_model(SpinConfig(), None, "cpu"), unet, scheduler, [500], 1e-3)


@pytest.fixture(scope="module")
def camera() -> HeadCamera:
    """Camera of the bundled portrait."""
    found = open_portrait(PORTRAIT, EditConfig())
    head = HeadFitter().fit(found.image, found.faces[0])
    alignment = camera_alignment(head.fit, (found.image.shape[1], found.image.shape[0]))
    return HeadCamera.of_photograph(head, alignment, torch.tensor([4.0, 2.0]), 96)


class TestGeometry:
    """The geometric condition: zero-initialised, blended by a confidence, rendered from the cameras of the views."""

    @pytest.fixture
    def fitted(self, task, config, tmp_path):
        """A model with a geometric condition, made of a multi-view model without one."""
        with torch.no_grad():
            for parameter in task.model.network.parameters():
                parameter.add_(0.02)
        task.export(tmp_path, task.model.network, 0)
        return initial_spin_model(replace(config, geometry=True, start=str(tmp_path / "model")), None, "cpu")

    def test_without_geometry_nothing_changes(self, task, fitted):
        x, given, rays, who = inputs(fitted)
        levels = torch.full(x.shape[:2], 2.0)
        with torch.no_grad():
            before = task.model.network(x, levels, given, rays, who)
            assert torch.allclose(fitted.network(x, levels, given, rays, who), before, atol=2e-2)
            zeros = torch.zeros(*x.shape[:2], x.shape[2] * 4 // 3, *x.shape[3:])
            assert torch.allclose(fitted.network(x, levels, given, rays, who, zeros), before, atol=2e-2)

    def test_much_noise_leaves_geometry_and_little_noise_leaves_the_state(self, fitted):
        x, given, rays, who = inputs(fitted)
        condition = torch.full((*x.shape[:2], 8, 2 * x.shape[3], 2 * x.shape[4]), 200, dtype=torch.uint8)
        condition[:, :, 6:] = 255  # the source shows it all
        geometry = fitted.encode_geometry(condition)
        target = fitted.encode(condition[:, :, :6].float() / 127.5 - 1)
        with torch.no_grad():
            much, bare = (
                fitted.network(x, torch.full(x.shape[:2], 40.0), given, rays, who, g) for g in (geometry, None)
            )
            little = fitted.network(x, torch.full(x.shape[:2], 0.004), given, rays, who, geometry)
        share = ((bare - much) / (bare - target)).median()
        assert share == pytest.approx(torch.tensor(2.0).sigmoid().item(), abs=0.03)
        assert torch.allclose(little, x, atol=0.03)

    def test_a_model_with_geometry_is_not_continued_without(self, fitted, config, tmp_path):
        save_spin_model(fitted, fitted.network.state_dict(), tmp_path / "fitted")
        assert load_spin_model(tmp_path / "fitted", "cpu").network.with_geometry
        with pytest.raises(LatentrotError, match="has a geometric condition"):
            initial_spin_model(replace(config, start=str(tmp_path / "fitted")), None, "cpu")

    def test_at_the_pose_of_the_source_it_is_the_photograph(self, camera):
        view, photograph = camera.view(4.0, 2.0), camera.head.photograph
        alignment = camera_alignment(camera.head.fit, (photograph.shape[1], photograph.shape[0]))
        assert np.abs(view.image - alignment.crop(photograph, 96)).mean() < 3
        assert (view.coverage == 1).all()
        length = np.linalg.norm(view.normals, axis=-1)
        assert set(np.unique(length.round(3))) == {0.0, 1.0}
        assert view.normals[48, 48, 2] > 0.8  # the middle of the face is turned to the viewer

    @pytest.mark.parametrize("pose", [(34.0, 2.0), (-60.0, -10.0), (120.0, 0.0), (-176.0, 0.0)])
    def test_the_eyes_stay_where_they_are_and_the_scale_too(self, camera, pose):
        still, moved = camera.landmarks(4.0, 2.0), camera.landmarks(*pose)
        assert np.allclose(aligned_centre(moved), aligned_centre(still), atol=1e-6)
        view = camera.view(*pose)
        assert 0.2 < view.head.mean() < 0.95
        assert (np.abs(view.normals).max(-1)[view.head > 0.99] > 0).mean() > 0.95  # a normal where the head is opaque
        assert view.coverage.mean() < 0.9

    def test_small_rotations_pass_into_the_photograph(self, camera):
        still, near = camera.view(4.0, 2.0), camera.view(4.5, 2.0)
        assert np.abs(near.image - still.image).mean() < 4

    def test_each_pose_is_rendered_once_and_reduced_by_averaging(self, camera):
        pose = torch.tensor([30.0, 0.0])
        assert camera.rendered(pose) is camera.rendered(pose.clone())
        condition = camera.conditions(pose[None], 32)
        assert condition.shape == (1, 8, 32, 32)
        assert condition.dtype == torch.uint8
        mean = camera.rendered(pose).image.reshape(32, 3, 32, 3, 3).mean((1, 3))
        assert np.abs(condition[0, :3].permute(1, 2, 0).numpy() - mean).max() < 1

    def test_differences_are_in_the_colours_of_the_source(self, camera):
        """A cast of all views is removed; a difference where the source shows nothing stays."""
        poses = torch.tensor([[4.0, 2], [90, 0], [180, 0]])
        views = [camera.rendered(p).reduced(32) for p in poses]
        rendered = np.stack([v.image for v in views])
        assert np.abs(colour_differences(rendered + np.float32([9, -4, 6]), poses, camera)).max() < 0.5
        hidden = np.stack([(1 - v.coverage) * v.head for v in views])[..., None]
        found = colour_differences(rendered + 20 * hidden, poses, camera)
        assert np.abs(found[0]).max() < 1
        assert found[2].max() == pytest.approx(20, abs=2)

    def test_composed_views_keep_what_the_source_shows(self, camera):
        view = camera.rendered(torch.tensor([45.0, 0.0]))
        found = composed(np.full((32, 32, 3), 20, np.float32), view).astype(float) - view.image.clip(0, 255)
        assert np.abs(found[view.coverage == 1]).max() < 1
        hidden, dark = view.coverage == 0, (view.image < 190).all(-1)
        assert np.abs(found[hidden & dark & (view.head == 1)] - 20).max() < 1
        beside = hidden & dark & (view.head == 0)
        assert beside.any()
        assert np.abs(found[beside]).max() < 1  # a small difference is a cast
        large = composed(np.full((32, 32, 3), 60, np.float32), view).astype(float) - view.image.clip(0, 255)
        assert np.abs(large[beside] - 60).max() < 1

    def test_generated_colours_reach_the_mesh_where_the_photograph_shows_nothing(self, camera):
        poses = torch.tensor([[0.0, 0], [90, 0], [180, 0], [-90, 0]])
        differences = np.full((4, 64, 64, 3), 30, np.float32)
        plain = skin_texture(camera.head, 128)
        brighter = skin_texture(camera.head, 128, ProjectedColours(camera, differences, poses)) - plain
        assert np.abs(brighter).max() <= 31
        assert (brighter.mean(-1) > 15).mean() > 0.05
        assert (np.abs(brighter).mean(-1) < 2).mean() > 0.05  # the face is the photograph's


class TestPhotographPairs:
    def test_targets_are_photographs_and_sources_are_rotated_away(self, tmp_path):
        folder = portraits(tmp_path / "data", 2)
        roots = [open_pair_folder(folder)]
        sources = plan_sources(roots, 2, 0.0, 0)
        shards = render_photographs(tmp_path / "pairs", sources, roots, 32)
        pairs = read_photographs(shards)
        assert len(pairs) >= 2
        assert pairs.views.shape[1:] == (2, 6, 32, 32)
        assert ((pairs.pose[:, 0] - pairs.pose[:, 1]).abs()[:, 0] >= 3).all()
        # the rendered surface is nearer to that of the target than that of the source is
        target, source = pairs.views[:, 1, 3:].float(), pairs.views[:, 0, 3:].float()
        rendered = pairs.condition[:, 1, 3:6].float()
        assert (rendered - target).abs().mean() < 0.8 * (source - target).abs().mean()
        # the condition of the source is the source itself
        assert torch.equal(pairs.condition[:, 0, :6], pairs.views[:, 0])
        before = [path.stat().st_mtime_ns for path in shards]
        assert [p.stat().st_mtime_ns for p in render_photographs(tmp_path / "pairs", sources, roots, 32)] == before


class TestCameras:
    def test_rays_start_at_the_camera(self):
        pose = torch.tensor([[[0.0, 0], [90, 0], [0, 30], [180, 0]]])
        rays = ray_map(pose, torch.zeros(1, 2), 4)[0]
        origin = rays[:, :3, 0, 0]
        expected = torch.tensor([[0, 0, 1], [-1, 0, 0], [0, -0.5, 0.75**0.5], [0, 0, -1]])
        assert torch.allclose(origin, expected, atol=1e-5)
        assert torch.allclose(rays[:, 3:6].norm(dim=1), torch.ones(4, 4, 4), atol=1e-5)
        assert ((rays[:, 3:6].mean((2, 3)) * origin).sum(1) < -0.98).all()  # it looks at the head

    def test_cameras_are_relative_to_the_first_given_view(self):
        pose = torch.tensor([[[30.0, 10], [70, 10]], [[-50.0, 10], [-10, 10]]])
        given = torch.tensor([[1.0, 0], [1, 0]])
        assert torch.equal(reference_pose(pose, given), pose[:, 0])
        rays = ray_map(pose, reference_pose(pose, given), 4)
        assert torch.allclose(rays[:, 0, :3, 0, 0], torch.tensor([0.0, 0, 1]).expand(2, -1), atol=1e-5)
        # the same turn from another pose of the same pitch is the same camera
        assert torch.allclose(rays[0, 1, :3], rays[1, 1, :3], atol=1e-5)
        assert torch.equal(reference_pose(pose, torch.zeros(2, 2)), torch.zeros(2, 2))

    def test_rotations_match_the_renderer(self):
        from latentrot.synthetic.head_model import _rotation  # noqa: PLC0415

        poses = torch.tensor([[20.0, -10], [-120, 25]])
        for pose, found in zip(poses, head_to_camera(poses), strict=True):
            assert torch.allclose(found, torch.from_numpy(_rotation(*pose.tolist(), 0.0)), atol=1e-6)

    def test_mirror_law(self):
        pose = torch.tensor([[[40.0, 10], [-90, 5]]])
        straight = ray_map(pose, torch.zeros(1, 2), 6)[:, :, :6]
        mirror = ray_map(pose * torch.tensor([-1.0, 1]), torch.zeros(1, 2), 6)[:, :, :6]
        sign = torch.tensor([-1.0, 1, 1, -1, 1, 1])[:, None, None]
        assert torch.allclose(mirror, straight.flip(-1) * sign, atol=1e-5)


class TestRendering:
    def test_shards_are_made_once_and_a_head_does_not_depend_on_its_shard(self, shared_data, tmp_path, monkeypatch):
        ict = shared_data / "ict" / "ict_face_model_light.npz"
        options = {"seed": 3, "views": 2, "size": 16, "ict": ict}
        monkeypatch.setattr(rendering, "SHARD", 1)
        shards = render_views(tmp_path, range(2), **options)
        before = [path.stat().st_mtime_ns for path in shards]
        assert render_views(tmp_path, range(2), **options) == shards
        assert [path.stat().st_mtime_ns for path in shards] == before
        both = read_head_views(shards)
        assert both.image.shape == both.normals.shape == (2, 2, 3, 16, 16)
        model, head = load_head_model(ict), rendering.head_of(1, 3, 0.5)
        yaw, pitch = rendering.poses_of(1, 3, 2)[1]
        drawn = render(model, with_pose(head, yaw, pitch), 16, maps=True)
        assert np.array_equal(both.image[1, 1].permute(1, 2, 0).numpy(), drawn.image)
        assert np.array_equal(both.normals[1, 1].permute(1, 2, 0).numpy(), drawn.normals)
        assert torch.allclose(both.pose[1, 1], torch.tensor([yaw, pitch], dtype=torch.float32))

    def test_views_go_all_around(self):
        yaw = rendering.poses_of(4, 0, 12)[:, 0]
        assert (np.diff(yaw) > 0).all()
        assert yaw.min() < -150
        assert yaw.max() > 150
        assert np.abs(rendering.poses_of(4, 0, 12)[:, 1]).max() <= 30

    def test_a_plain_background_is_one_colour(self):
        plain, varied = (rendering.head_of(2, 0, share).background for share in (1.0, 0.0))
        assert plain.first == plain.second == varied.first
        assert plain.amount == 0
        assert varied.first != varied.second


class TestBatches:
    def test_depend_on_the_step_alone(self, task):
        first, again, other = task.batch(7), (torch.rand(5), task.batch(7))[1], task.batch(8)
        assert all(torch.equal(a.nan_to_num(9), b.nan_to_num(9)) for a, b in zip(first, again, strict=True))
        assert not torch.equal(first[6], other[6])

    def test_mirror_law(self, config):
        heads, whole = some_sets(geometry=True), replace(config, batch_size=64, geometry=True)
        straight = samples_at(3, heads, None, replace(whole, mirror=False), generator_at(3, whole))
        mixed = samples_at(3, heads, None, whole, generator_at(3, whole))
        flipped = (mixed[1] != straight[1]).flatten(1).any(1)
        assert 16 < flipped.sum() < 48
        image, expected = mixed[0][flipped], straight[0][flipped].flip(-1)
        assert torch.equal(image[:, :, [0, 1, 2, 4, 5]], expected[:, :, [0, 1, 2, 4, 5]])
        assert torch.equal(image[:, :, 3], -expected[:, :, 3])
        assert torch.equal(mixed[1][flipped], straight[1][flipped] * torch.tensor([-1.0, 1]))
        assert torch.equal(mixed[0][~flipped], straight[0][~flipped])
        assert torch.equal(mixed.condition[flipped], mirror_conditions(straight.condition[flipped]))
        assert torch.equal(mirror_conditions(mirror_conditions(mixed.condition)), mixed.condition)
        # a condition that equals the normals of its view still does after mirroring
        there = (mixed.condition != 0).flatten(2).any(2)
        normal = mixed.condition[:, :, 3:6].float() / 127.5 - 1
        assert torch.allclose(normal[there], mixed.views[:, :, 3:][there], atol=1e-6)

    def test_numbers_of_given_views_and_dropped_conditions(self, config):
        many = replace(config, batch_size=600)
        _, _, given, blank, who, _ = samples_at(0, some_sets(), None, many, generator_at(0, many))
        counts = given.sum(1)
        assert all(abs((counts == k).float().mean() - 1 / 3) < 0.07 for k in (0, 1, 3))
        assert abs(blank.mean() - 0.15) < 0.05
        assert abs(who.isnan().all(1).float().mean() - 0.15) < 0.05
        single = replace(many, single_steps=5)
        assert (samples_at(4, some_sets(), None, single, generator_at(4, single))[2].sum(1) == 1).all()

    def test_geometry_was_fitted_to_the_first_view(self, config):
        many = replace(config, batch_size=400, geometry=True, drop_geometry=0.25, mirror=False)
        found = samples_at(0, some_sets(geometry=True), None, many, generator_at(0, many))
        there = (found.condition != 0).flatten(1).any(1)
        assert abs(there.float().mean() - 0.75) < 0.07
        assert torch.equal(found.pose[there, 0], torch.tensor([-30.0, 5]).expand(int(there.sum()), -1))
        assert torch.equal(found.condition[there, :, :3].float() / 127.5 - 1, found.views[there, :, :3])

    def test_photographs_are_pairs_of_a_given_source_and_its_target(self, config):
        both = replace(config, photographs=0.3, geometry=True)
        pairs = replace(some_sets(5, 2, geometry=True), source=torch.zeros(5, dtype=torch.int64))
        steps = [samples_at(k, some_sets(geometry=True), pairs, both, generator_at(k, both)) for k in range(100)]
        photographs = [s for s in steps if s.views.shape[1] == 2]
        assert 15 < len(photographs) < 45
        assert all(len(s.views) == both.batch_size * both.together // 2 for s in photographs)
        assert all(torch.equal(s.given, torch.tensor([1.0, 0]).expand(len(s.views), -1)) for s in photographs)

    def test_given_views_have_no_loss_and_no_noise(self, task):
        batch = list(task.batch(2))
        changed = [b.clone() for b in batch]
        changed[6] = changed[6] + 7 * batch[2][..., None, None, None]  # noise where views are given
        with torch.no_grad():
            assert torch.equal(
                task.loss(task.model.network, tuple(batch)), task.loss(task.model.network, tuple(changed))
            )


class TestTraining:
    def whole(self, task, config, out):
        run_training(task, task.model.network, config, out, save_every=3, device="cpu")
        return out

    def test_resuming_is_exact(self, config, tmp_path, monkeypatch):
        def fresh():
            return SpinTask(initial_spin_model(config, None, "cpu"), some_sets(), some_heads(1), config)

        self.whole(fresh(), config, tmp_path / "whole")

        def killed(self, step, batch=SpinTask.batch):
            if step == 4:
                raise KeyboardInterrupt
            return batch(self, step)

        with monkeypatch.context() as patch:
            patch.setattr(SpinTask, "batch", killed)
            with pytest.raises(KeyboardInterrupt):
                self.whole(fresh(), config, tmp_path / "run")
        self.whole(fresh(), config, tmp_path / "run")
        for name in ("checkpoint.safetensors", "model/spin.safetensors"):
            a, b = load_file(tmp_path / "whole" / name), load_file(tmp_path / "run" / name)
            assert a.keys() == b.keys()
            assert all(torch.equal(a[k], b[k]) for k in a)

    def test_training_reduces_the_loss_and_the_saved_model_draws(self, config, tmp_path):
        longer = replace(config, steps=60, learning_rate=4e-3, decay=10, batch_size=4)
        task = SpinTask(initial_spin_model(longer, None, "cpu"), some_sets(), some_heads(1), longer)
        batches = [task.batch(step) for step in range(1000, 1008)]

        def loss() -> float:
            with torch.no_grad():
                return sum(float(task.loss(task.model.network, batch)) for batch in batches)

        before = loss()
        run_training(task, task.model.network, longer, tmp_path, save_every=100, device="cpu")
        assert loss() < 0.9 * before
        model = load_spin_model(tmp_path / "model", "cpu")
        asked = torch.tensor([[float(yaw), 0.0] for yaw in (-90, 0, 45, 90, 170)])
        sample = SpinSampleConfig(steps=3, guidance=2.0, together=5)
        image = torch.zeros(3, SIZE, SIZE)
        drawn = spin(model, image, torch.zeros(2), asked, config=sample)
        assert drawn.images.shape == (5, 6, SIZE, SIZE)
        assert drawn.images.isfinite().all()
        assert torch.equal(drawn.images, spin(model, image, torch.zeros(2), asked, config=sample).images)


class TestSampling:
    def test_an_oracle_denoiser_reproduces_its_views(self, task):
        """A denoiser that knows the answer is followed to it, whatever the noise; what is given stays."""
        model = task.model
        truth = torch.rand(4, 6, SIZE, SIZE) * 2 - 1
        states = model.encode(truth)

        class Known(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight = torch.nn.Parameter(torch.zeros(1))

            def forward(self, x, s, given, rays, who, geometry):
                return states[None].expand_as(x)

        known = replace(model, network=Known())
        pose = torch.zeros(4, 2)
        drawn = draw_views(known, SpinViews(truth[:1], pose[:1]), pose[1:], config=SpinSampleConfig(steps=4))
        assert torch.allclose(drawn.images, truth[1:], atol=1e-4)

    def test_normals_are_inpainted_with_the_image_fixed(self, task):
        image = torch.rand(3, SIZE, SIZE) * 2 - 1
        both = normals_of(task.model, image, torch.zeros(2), config=SpinSampleConfig(steps=3))
        assert torch.equal(both[:3], image)
        other = normals_of(task.model, -image, torch.zeros(2), config=SpinSampleConfig(steps=3))
        assert both[3:].isfinite().all()
        assert other.shape == both.shape

    def test_poses_of_a_circle_and_of_an_arc(self):
        assert poses_around(4)[:, 0].tolist() == [-180, -90, 0, 90]
        assert poses_around(5, 3.0, span=120)[:, 0].tolist() == [-60, -30, 0, 30, 60]
        assert poses_around(5, 3.0, span=120)[:, 1].tolist() == [3.0] * 5
        assert poses_around(1, span=90).tolist() == [[0, 0]]

    def test_noise_levels_fall_to_zero(self):
        levels = noise_schedule(SpinSampleConfig(), 5)
        assert levels[0] == pytest.approx(40)
        assert levels[-2] == pytest.approx(0.01)
        assert levels[-1] == 0
        assert all(a > b for a, b in pairwise(levels))

    def test_every_view_comes_from_the_image_and_its_two_nearest_anchors_once(self):
        poses = torch.tensor([[10.0, 0.0], *([yaw + 10, 0.0] for yaw in ANCHORS_DEG)])
        asked = poses_around(48)
        groups = nearest_anchors(poses, asked, 5)
        assert sorted(row for _, rows in groups for row in rows) == list(range(48))
        for given, rows in groups:
            assert given[0] == 0
            assert len(given) == 3
            assert len(rows) <= 5
            for row in rows:
                apart = ((poses[1:, 0] - asked[row, 0] + 180) % 360 - 180).abs()
                assert apart[[g - 1 for g in given[1:]]].max() <= apart.sort().values[1] + 1e-4

    @pytest.mark.parametrize("wrong", [{"steps": 0}, {"together": 4}, {"sigma_min": 0.0}])
    def test_invalid_options_are_refused(self, wrong):
        with pytest.raises(LatentrotError) as info:
            SpinSampleConfig(**wrong)
        assert "\n" not in str(info.value)


class TestPerson:
    def test_verification_of_planted_vectors(self):
        rng = np.random.default_rng(0)
        names = np.repeat([f"p{i}" for i in range(30)], 4)
        centres = rng.standard_normal((30, 16)).repeat(4, 0)
        apart = centres + 0.05 * rng.standard_normal(centres.shape)
        blind = rng.standard_normal(centres.shape)
        unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (apart, blind)]
        assert verification_accuracy(unit[0], names)["accuracy"] > 99
        assert 40 < verification_accuracy(unit[1], names)["accuracy"] < 60
        assert verification_accuracy(unit[0], names)["pairs"] == 2 * 30 * 6

    def test_the_loss_is_lower_for_the_right_identity(self):
        torch.manual_seed(0)
        classifier = Classifier(3).eval()
        x = torch.rand(3, 3, 64, 64) * 2 - 1
        with torch.no_grad():
            classifier.people.copy_(classifier.network(x))
        assert cosface_loss(classifier(x), torch.tensor([0, 1, 2])) < cosface_loss(
            classifier(x), torch.tensor([1, 2, 0])
        )

    def test_a_mirrored_image_is_the_same_person_and_the_file_keeps_its_facts(self, tmp_path):
        torch.manual_seed(0)
        network = PersonNetwork().eval()
        network.metadata = {"data": "rendered heads, celeba", "people": "7"}
        picture = gradients(1, 64)[0]
        a, b = network.embed([picture, np.ascontiguousarray(picture[:, ::-1])])
        assert np.allclose(a, b, atol=1e-5)
        assert np.linalg.norm(a) == pytest.approx(1, abs=1e-5)
        save_person_network(network, tmp_path / "person.safetensors")
        loaded = load_person_network(tmp_path / "person.safetensors")
        assert loaded.metadata == network.metadata
        assert loaded.learned_from == ("celeba",)
        assert loaded.embed([picture])[0] @ a > 0.99
        assert (tmp_path / "person.safetensors").stat().st_size < 5e6

    def test_a_run_keeps_its_own_and_refuses_another(self, tmp_path):
        for seed in (0, 1):
            torch.manual_seed(seed)
            save_person_network(PersonNetwork(), tmp_path / f"{seed}.safetensors")
        assert person_of_run(tmp_path / "run", None, str(tmp_path)) is None
        person_of_run(tmp_path / "run", tmp_path / "0.safetensors", str(tmp_path))
        assert person_of_run(tmp_path / "run", None, str(tmp_path)) is not None
        with pytest.raises(LatentrotError, match="leave --person out"):
            person_of_run(tmp_path / "run", tmp_path / "1.safetensors", str(tmp_path))

    def test_a_run_uses_the_identity_network_of_its_start_model(self, task, tmp_path):
        """As long as it has begun with it; a run begun without one goes on so."""
        torch.manual_seed(0)
        told = replace(task.model, person=PersonNetwork())
        save_spin_model(told, told.network.state_dict(), tmp_path / "model")
        theirs = (tmp_path / "model" / "person.safetensors").read_bytes()
        for begun in (False, True):
            out = tmp_path / f"begun {begun}"
            out.mkdir()
            if begun:
                (out / "checkpoint.safetensors").touch()
            found = person_of_run(out, None, str(tmp_path / "model"))
            assert (found is None) == begun
            assert begun or (out / "person.safetensors").read_bytes() == theirs


def ball(radius: float, count: int, size: int) -> SpinViews:
    """What the model's own camera sees of a ball about the head's middle: its exact normals."""
    pose = poses_around(count)
    rays = ray_map(pose[:, None], pose, size)[:, 0, :6]  # in each camera's own axes
    origin, way = rays[:, :3] * DISTANCE_CM, rays[:, 3:]
    along = -(origin * way).sum(1)
    squared = along.square() - origin.square().sum(1) + radius**2
    hit = origin + (along - squared.clamp_min(0).sqrt())[:, None] * way
    normals = hit / radius * (squared > 0)[:, None]
    return SpinViews(torch.cat([torch.full_like(normals, 0.5), normals], 1), pose)


class TestReconstruction:
    @pytest.mark.parametrize(("suffix", "told"), [(".glb", b'"NORMAL"'), (".ply", b"property float nx")])
    def test_a_sphere_is_reconstructed(self, suffix, told, tmp_path):
        trimesh = pytest.importorskip("trimesh", reason="meshes are trimesh's")
        views = ball(6.0, 12, 32)
        directions = torch.nn.functional.normalize(
            torch.randn(60, 3, generator=torch.Generator().manual_seed(0)), dim=1
        )
        level = directions[directions[:, 1].abs() < 0.5].numpy().astype(float)
        off = np.abs(carve(level, views) - 6)  # a pixel is 0.7 cm; above and below, a ring of silhouettes encloses more
        assert off.mean() < 0.35
        assert off.max() < 1.3
        export_views(views, tmp_path / f"ball{suffix}")
        (mesh,) = trimesh.load_scene(tmp_path / f"ball{suffix}").geometry.values()
        assert told in (tmp_path / f"ball{suffix}").read_bytes()  # else trimesh makes normals of its own
        assert (mesh.visual.vertex_colors[:, :3] == 191).all()
        side = np.abs(mesh.vertices[:, 1]) < 2
        outward = mesh.vertices[side] / np.linalg.norm(mesh.vertices[side], axis=1, keepdims=True)
        assert np.einsum("nj,nj->n", mesh.vertex_normals[side], outward).mean() > 0.95

    def test_disjoint_silhouettes_are_refused(self, tmp_path):
        pytest.importorskip("trimesh", reason="meshes are trimesh's")
        nothing = SpinViews(torch.zeros(6, 6, 16, 16), poses_around(6))
        with pytest.raises(LatentrotError, match="do not intersect"):
            export_views(nothing, tmp_path / "head.glb")
        assert not list(tmp_path.iterdir())

    def test_another_format_is_refused(self, tmp_path):
        with pytest.raises(LatentrotError, match=r"head\.obj: expected a name ending in \.glb or \.ply"):
            export_views(ball(6.0, 4, 8), tmp_path / "head.obj")


@pytest.fixture(scope="module")
def trained(config: SpinConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model with a person network, hardly trained."""
    torch.manual_seed(0)
    person = PersonNetwork().eval()
    person.metadata = {"data": "rendered heads, celeba"}
    task = SpinTask(initial_spin_model(config, person, "cpu"), some_sets(), some_heads(1), config)
    out = tmp_path_factory.mktemp("trained")
    run_training(task, task.model.network, replace(config, steps=2), out, save_every=9, device="cpu")
    return out / "model"


@pytest.fixture(scope="module")
def with_geometry(config: SpinConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model with a geometric condition, not trained."""
    model = initial_spin_model(replace(config, geometry=True), None, "cpu")
    folder = tmp_path_factory.mktemp("geometry")
    save_spin_model(model, model.network.state_dict(), folder)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two files of random weights of an identity network that a user would bring."""
    facenet = pytest.importorskip("facenet_pytorch", reason="the identity network is facenet-pytorch's")
    folder, paths = tmp_path_factory.mktemp("weights"), []
    for seed in (0, 1):
        torch.manual_seed(seed)
        network = facenet.InceptionResnetV1(pretrained=None)
        for layer in network.modules():
            if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
                torch.nn.init.kaiming_normal_(layer.weight)  # as it is made, every image gives nearly the same vector
        paths.append(folder / f"{seed}.pt")
        torch.save(network.state_dict(), paths[-1])
    return paths


@pytest.fixture(scope="module")
def told(config: SpinConfig, weights: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that the first of those told who it is, hardly trained."""
    network = load_identity(weights[0])
    known = replace(config, identity_digest=network.digest, steps=2)
    heads = some_heads()
    sets = replace(some_sets(), identity=embed_people(network, heads.occasion))
    task = SpinTask(initial_spin_model(known, network, "cpu"), sets, some_heads(1), known)
    out = tmp_path_factory.mktemp("told")
    run_training(task, task.model.network, known, out, save_every=9, device="cpu")
    return out / "model"


class TestIdentityNetworkOfTheUser:
    def test_the_model_takes_embeddings_of_its_length(self, told, weights, trained):
        model = load_spin_model(told, "cpu", weights[0])
        picture = gradients(1, SIZE)[0]
        who = identity_of(model, picture)
        assert who.shape == (512,)
        assert model.network.identity_embedding.length == 512
        assert load_spin_model(trained, "cpu").network.identity_embedding.length == IDENTITY_LENGTH
        x, given, rays, _ = inputs(model, b=1)
        with torch.no_grad():
            model.network.identity_embedding.last.weight.add_(0.1)
            named, nobody, long = (
                model.network(x, 1 - given, given, rays, w[None])
                for w in (who, NULL_IDENTITY, torch.full((512,), torch.nan))
            )
        assert torch.equal(nobody, long)
        assert not torch.allclose(named, nobody, atol=1e-4)

    def test_its_weights_are_not_copied_and_no_others_are_taken(self, told, weights, trained):
        assert sum(p.stat().st_size for p in told.rglob("*") if p.is_file()) < 5e6
        assert takes_identity(told)
        assert not takes_identity(trained)
        with pytest.raises(LatentrotError, match="was trained with the weights"):
            load_spin_model(told, "cpu", weights[1])
        with pytest.raises(LatentrotError, match="leave --identity out"):
            load_spin_model(trained, "cpu", weights[0])
        assert load_rotator("spin", model=told, device="cpu", identity=weights[0]).learned_from == (
            "rendered",
            "vggface2",
        )

    def test_without_weights_there_is_no_identity_condition_and_a_warning(self, told, weights, tmp_path, capsys):
        common = ["--views", "5", "--steps", "2", "--model", str(told), "--mesh", "none"]
        for name, more in (("without", []), ("with", ["--identity", str(weights[0])])):
            assert main(["spin", "--new", "--out", str(tmp_path / name), *common, *more]) == 0
            assert ("runs without its identity condition" in capsys.readouterr().out) == (name == "without")
        write_image(tmp_path / "a.png", gradients(1, 32)[0])
        between = ["spin", "--between", *[str(tmp_path / "a.png")] * 2, "--crop", "--out", str(tmp_path / "b"), *common]
        assert main(between) == 2
        assert "needs a model with an identity condition" in capsys.readouterr().err
        assert main([*between, "--identity", str(weights[0])]) == 0
        square = ["spin", str(tmp_path / "a.png"), "--crop", "--out", str(tmp_path / "c"), *common]
        assert main([*square, "--identity", str(weights[0])]) == 0
        assert capsys.readouterr().out.count("identity distance") == 5
        assert pd.read_csv(tmp_path / "c" / "poses.csv")["identity_distance"].between(-1e-3, 2).all()

    def test_a_run_resumes_with_its_own_weights_only(self, config, weights, tmp_path):
        known = replace(config, identity_digest=load_identity(weights[0]).digest)
        assert identity_of_run(config, None, None, "cpu") is None
        assert identity_of_run(known, None, weights[0], "cpu").digest == known.identity_digest
        with pytest.raises(LatentrotError, match="pass --identity"):
            identity_of_run(known, None, None, "cpu")
        with pytest.raises(LatentrotError, match="leave one of them out"):
            identity_of_run(config, tmp_path / "person.safetensors", weights[0], "cpu")


def test_a_folder_and_a_checkpoint_from_before_identities_had_a_length_are_read(config, trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "model")
    with safe_open(folder / "spin.safetensors", "pt") as file:
        header = {name: file.metadata()[name] for name in ("kind", "format", "attention")}
    save_file(load_file(trained / "spin.safetensors"), folder / "spin.safetensors", header)
    old, new = load_spin_model(folder, "cpu"), load_spin_model(trained, "cpu")
    assert old.person is not None
    assert not old.warnings
    assert all(torch.equal(a, b) for a, b in zip(old.network.parameters(), new.network.parameters(), strict=True))
    stored = asdict(config)
    del stored["identity_digest"]
    header = {"kind": "latentrot training checkpoint", "config": json.dumps(stored)}
    save_file({"x": torch.zeros(1)}, tmp_path / "checkpoint.safetensors", header)
    assert config_of_run(tmp_path / "checkpoint.safetensors", config, SpinConfig) == config


class TestDoors:
    def test_views_of_an_image(self, trained, tmp_path):
        from PIL import Image  # noqa: PLC0415

        Image.fromarray(gradients(1, 32)[0]).save(tmp_path / "head.png")
        options = ["--views", "6", "--steps", "2", "--model", str(trained), "--crop", "--mesh", "none"]
        assert main(["spin", str(tmp_path / "head.png"), "--out", str(tmp_path / "out"), *options]) == 0
        table = pd.read_csv(tmp_path / "out" / "poses.csv")
        assert table["yaw_deg"].tolist() == [-180, -120, -60, 0, 60, 120]
        for name in table["image_id"]:
            assert read_image(tmp_path / "out" / "views" / name).shape == (SIZE, SIZE, 3)
            assert read_image(tmp_path / "out" / "normals" / name).shape == (SIZE, SIZE, 3)
        with Image.open(tmp_path / "out" / "turntable.gif") as moving:
            assert moving.n_frames == 6

    def test_views_of_a_photograph_are_composed_in_its_resolution(self, with_geometry, tmp_path):
        trimesh = pytest.importorskip("trimesh", reason="the mesh needs trimesh")
        options = ["--views", "4", "--model", str(with_geometry), "--out", str(tmp_path / "out")]
        assert main(["spin", str(PORTRAIT), *options]) == 0
        found = open_portrait(PORTRAIT)
        camera, _ = camera_of(found, load_rotator("spin", model=with_geometry, device="cpu"), torch.zeros(2))
        front = read_image(tmp_path / "out" / "views" / "002.png")
        assert front.shape == (camera.side, camera.side, 3)
        assert camera.side > SIZE
        # a view near the pose of the photograph shows the photograph
        square = camera_alignment(camera.head.fit, found.image.shape[1::-1]).crop(found.image, camera.side)
        face = (slice(camera.side * 3 // 10, camera.side * 3 // 4),) * 2
        assert np.abs(front[face].astype(float) - square[face]).mean() < 20
        normals = read_image(tmp_path / "out" / "normals" / "002.png")
        assert normals.shape == (SIZE, SIZE, 3)
        assert np.abs(normals[0, 0].astype(int) - 128).max() <= 1  # the background has none
        mesh = trimesh.load(tmp_path / "out" / "head.glb", force="mesh")
        assert mesh.visual.material.baseColorTexture is not None
        assert (tmp_path / "out" / "head.camera.json").is_file()

    def test_without_a_head_the_views_are_generated_without_geometry(self, with_geometry, tmp_path, capsys):
        write_image(tmp_path / "grey.png", np.full((64, 64, 3), 128, np.uint8))
        options = ["--views", "3", "--steps", "2", "--model", str(with_geometry), "--crop", "--mesh", "none"]
        assert main(["spin", str(tmp_path / "grey.png"), "--out", str(tmp_path / "out"), *options]) == 0
        assert "no head can be fitted" in capsys.readouterr().out
        assert read_image(tmp_path / "out" / "views" / "001.png").shape == (SIZE, SIZE, 3)

    def test_new_people_differ_by_seed_and_people_between_end_where_they_should(self, trained, tmp_path):
        from PIL import Image  # noqa: PLC0415

        common = ["--views", "5", "--steps", "2", "--model", str(trained), "--mesh", "none", "--new"]
        for seed in (3, 4):
            assert main(["spin", "--seed", str(seed), "--out", str(tmp_path / str(seed)), *common]) == 0
        a, b = (read_image(tmp_path / str(seed) / "views" / "002.png") for seed in (3, 4))
        assert (a != b).any()
        for i in range(2):
            Image.fromarray(gradients(2, 32)[i]).save(tmp_path / f"{i}.png")
        two = ["--between", str(tmp_path / "0.png"), str(tmp_path / "1.png"), "--crop", "--steps", "2"]
        assert main(["spin", *two, "--model", str(trained), "--out", str(tmp_path / "between")]) == 0
        assert (tmp_path / "between" / "between.png").is_file()
        model = load_spin_model(trained, "cpu")
        first, second = (identity_of(model, p) for p in gradients(2, 32))
        assert torch.allclose(slerp(first, second, 0.0), first, atol=1e-4)
        assert torch.allclose(slerp(first, second, 1.0), second, atol=1e-4)
        assert slerp(first, second, 0.3).norm() == pytest.approx(1, abs=1e-4)

    def test_the_animation_can_be_a_video(self, trained, tmp_path):
        pytest.importorskip("av")
        from latentrot.data.video import open_video  # noqa: PLC0415

        write_image(tmp_path / "a.png", gradients(1, 32)[0])
        common = ["--steps", "2", "--model", str(trained), "--mesh", "none", "--motion", "mp4"]
        assert main(["spin", "--new", "--views", "6", "--out", str(tmp_path / "new"), *common]) == 0
        pair = ["--between", str(tmp_path / "a.png"), str(tmp_path / "a.png"), "--crop"]
        assert main(["spin", *pair, "--out", str(tmp_path / "between"), *common]) == 0
        for name, count, width, seconds in (("new/turntable", 6, 384, 4.8), ("between/between", 9, 192, 2.25)):
            assert not (tmp_path / f"{name}.gif").exists()
            frames = list(open_video(tmp_path / f"{name}.mp4").frames)
            assert len(frames) == count
            assert frames[0].pixels.shape == (192, width, 3)
            assert sum(float(f.seconds) for f in frames) == pytest.approx(seconds)

    def test_a_video_without_pyav_is_refused_before_a_model_is_looked_for(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "av", None)
        monkeypatch.chdir(tmp_path)
        assert main(["spin", "--new", "--mesh", "none", "--motion", "mp4", "--model", "no/such"]) == 2
        assert "--motion mp4 (gif and webp do not) needs PyAV" in capsys.readouterr().err
        assert not list(tmp_path.iterdir())

    def test_the_rotator_follows_the_protocol(self, trained):
        rotator = load_rotator("spin", model=str(trained), device="cpu", steps=2)
        picture = gradients(1, 24)[0]
        many = rotator.rotate_many(picture, [-20, 30])
        assert [p.shape for p in many] == [(SIZE, SIZE, 3)] * 2
        assert rotator.rotate_many(picture, []) == []
        assert rotator.learned_from == ("celeba", "rendered")

    def test_in_a_photograph_it_fills_hidden_parts_only(self, trained):
        rotator, found = load_rotator("spin", model=trained, device="cpu", steps=2), open_portrait(PORTRAIT)
        drawn, bare = (edit_portrait(found, r, [20.0]) for r in (rotator, MeshRotator()))
        changed = (drawn.image_at(0) != bare.image_at(0)).any(-1)
        assert drawn.faces[0].coverage == bare.faces[0].coverage
        assert 0 < changed.sum() < 0.5 * (bare.image_at(0) != found.image).any(-1).sum()
        assert any(f"a head at {SIZE} pixels" in note for note in drawn.warnings)
        square = edit_portrait(found, rotator, [20.0], EditConfig(crop_only=True))
        assert square.image_at(0).shape == (SIZE, SIZE, 3)

    def test_the_page_offers_it_if_the_model_is_available(self, trained, tmp_path, monkeypatch):
        pytest.importorskip("gradio")
        from latentrot.app.page import Page  # noqa: PLC0415
        from latentrot.rotators.latent.rotator import load_latent_rotator  # noqa: PLC0415

        walk = {"latent": load_latent_rotator(device="cpu")}
        if not bundled_part("spin64").is_dir():
            assert "spin" not in str(Page(walk, tmp_path).result.rotator.info)
            monkeypatch.setenv("LATENTROT_MODELS", str(tmp_path / "models"))
            shutil.copytree(trained, tmp_path / "models" / "spin64")
        assert "spin" in App(device="cpu").rotators()
        page = Page({**walk, "spin": load_rotator("spin", model=trained, device="cpu", steps=2)}, tmp_path)
        assert page.result.rotator.choices[-1] == ("spin", "spin")
        assert "whole head" in page.result.rotator.info
        visitor = SimpleNamespace(session_hash="ann")
        page.open_example("auto", "latent", visitor)
        turned = page.apply_sliders("spin", visitor, 12, 0)
        assert page.result.compare in turned, turned
        assert page.result.sweep.strip in page.make_sweep("spin", visitor, 0, 0)

    @pytest.mark.parametrize(
        ("rotators", "whose"),
        [
            (("spin",), "spin"),
            (("mesh", "spin", "pair"), "spin"),
            (("pair", "spin"), "pair"),
            (("spin", "latent"), "spin"),
            (("latent", "spin"), "latent"),
        ],
    )
    def test_a_model_goes_to_the_first_rotator_that_has_one(self, rotators, whose):
        options = chosen_options(rotator_options()(model="m"), rotators)
        assert [name for name, made_by in options.items() if getattr(made_by, "model", None)] == [whose]

    @pytest.mark.parametrize(
        ("argv", "said"),
        [
            (["spin"], "expected exactly one of"),
            (["spin", "a.png", "--new"], "expected exactly one of"),
            (["spin", "--new", "--views", "0"], "--views 0"),
            (["spin", "--new", "--out", "a.gif"], "without a suffix"),
            (["spin", "--new", "--mesh", "none", "--model", "no/such"], "no multi-view model at no/such"),
            (["spin", "no-such.png", "--mesh", "none"], "no-such.png"),
            (["train", "spin", "--out", "x", "--person", "no-such.safetensors"], "no network at no-such.safetensors"),
            (["train", "spin", "--out", "x", "--identity", "no-such.pt"], "no-such.pt"),
            (
                ["edit", "a.png", "--deg", "9", "--identity", "w.pt"],
                "--identity is an option of the rotator spin, not of latent",
            ),
            (["train", "spin", "--out", "x", "--face-model", "no-such.npz"], "no-such.npz"),
            (["train", "person", "--out", "x", "--people", "0"], "no training data"),
        ],
    )
    def test_mistakes_are_one_line(self, argv, said, capsys, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert main(argv) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert said in error[-1]
        assert not list(tmp_path.glob("**/*.*"))


def test_weights_saved_under_the_old_names_of_parts_are_loaded(task):
    network = task.model.network
    old = {
        k.replace("identity_embedding.", "who.").replace("null_identity", "nobody"): v + 1
        for k, v in network.state_dict().items()
    }
    assert "who.nobody" in old
    network.load_state_dict(old)
    assert all(torch.equal(v, old[k.replace("identity_embedding.", "who.").replace("null_identity", "nobody")])
               for k, v in network.state_dict().items())  # fmt: skip
