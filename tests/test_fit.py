"""Bins, centroids, lines, walks and the directions file: planted lines are found, the mirror law holds."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from latentrot.data.celeba import held_out
from latentrot.diffusion.fingerprint import Fingerprint
from latentrot.diffusion.first_stage import mirror_latents
from latentrot.diffusion.solve import Schedule
from latentrot.directions.directions import Directions
from latentrot.directions.fit import FitConfig, fit_directions, fit_lights
from latentrot.directions.frequencies import coarse_part, keep_octaves, shrink_noise
from latentrot.directions.lines import CentroidLine, Centroids, YawBins, YawDirections, merge_bins
from latentrot.directions.walk import walk_offset
from latentrot.errors import LatentrotError
from latentrot.store.latent_store import LatentStore
from latentrot.store.space import LatentSpace

SHAPE, BLOCK = (12, 4, 4), 2
MODEL = Fingerprint("0123456789abcdef", "fedcba9876543210", "epsilon", "linear 0.0001 to 0.02, 1000 levels", "identity")
SPACE = LatentSpace("tiny", MODEL, Schedule(steps=3), SHAPE, BLOCK)
CONFIG = FitConfig(calibrate=0, min_count=2)


def complaint(info: pytest.ExceptionInfo) -> str:
    text = str(info.value)
    assert text
    assert "\n" not in text
    return text


def planted(n: int = 4000, d: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Latents, their yaw, and the two slopes they were made with."""
    rng = np.random.default_rng(seed)
    base, left, right = rng.normal(size=(3, d))
    yaw = rng.uniform(-45, 45, n)
    x = base + np.minimum(yaw, 0)[:, None] * left + np.maximum(yaw, 0)[:, None] * right + rng.normal(0, 0.1, (n, d))
    return x.astype(np.float32), yaw, left, right


def make_labels(n: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "yaw_deg": rng.uniform(-44, 44, n),
            "light": rng.choice(["left", "center", "right"], n),
            "identity": rng.integers(0, n // 3, n),
        },
        index=pd.Index([f"{i:04d}.png" for i in range(n)], name="image_id"),
    )


def make_store(root: Path, labels: pd.DataFrame, latents: torch.Tensor, per_shard: int = 100) -> LatentStore:
    store = LatentStore(root)
    for start in range(0, len(labels), per_shard):
        store.append(list(labels.index[start : start + per_shard]), latents[start : start + per_shard], SPACE)
    return store


def make_latents(labels: pd.DataFrame, seed: int = 0) -> torch.Tensor:
    """Latents that turn along one line per side and light."""
    g = torch.Generator().manual_seed(seed)
    yaw = torch.tensor(labels["yaw_deg"].to_numpy()).float()[:, None, None, None] / 20
    latents = torch.randn(len(labels), *SHAPE, generator=g) * 0.3
    for light in ("left", "center", "right"):
        low, high = torch.randn(2, *SHAPE, generator=g)
        here = torch.from_numpy((labels["light"] == light).to_numpy())[:, None, None, None]
        latents += here * (yaw.clamp(max=0) * low + yaw.clamp(min=0) * high)
    return latents


@pytest.fixture(scope="module")
def labels() -> pd.DataFrame:
    return make_labels(600)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, labels: pd.DataFrame) -> LatentStore:
    return make_store(tmp_path_factory.mktemp("store"), labels, make_latents(labels))


def directions(seed: int = 0, **changes: object) -> Directions:
    left, right = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(seed))
    made = Directions(
        "left", left, right, SPACE, (-180.0, 0.0, 180.0), (-180.0, 0.0, 180.0), {"version": "0", "where": ""}
    )
    return replace(made, **changes)


class OnBothSides(YawDirections):
    """For scikit-learn's checks, whose targets are class labels or numbers of one sign: spread to yaws on both sides."""

    def fit(self, X, y):
        return super().fit(X, None if y is None else np.asarray(y, float) + np.linspace(-40, 40, len(y)))


class TestYawBins:
    @pytest.mark.parametrize(("width", "limit"), [(10, 45), (5, 30), (7, 44), (0.1, 0.35), (90, 45), (20, 90)])
    def test_edges(self, width, limit):
        edges = YawBins(width, limit).edges
        assert np.allclose(edges, -edges[::-1])
        assert np.allclose(np.diff(edges), width)
        assert len(edges) % 2 == 0
        assert limit - width < edges[-1] + 1e-9 <= limit + 2e-9

    def test_assign(self):
        bins = YawBins(10, 45)
        yaw = np.linspace(-60, 60, 1001)
        index = bins.assign(yaw)
        inside = index >= 0
        assert np.array_equal(inside, np.abs(yaw) <= 45)
        assert (bins.edges[index[inside]] <= yaw[inside]).all()
        assert (yaw[inside] <= bins.edges[index[inside] + 1]).all()
        assert bins.assign(np.array([0.0])) == [4]
        assert bins.assign(np.array([np.nan])) == [-1]

    def test_mirrored_yaw_lands_in_the_mirrored_bin(self):
        bins = YawBins()
        yaw = np.random.default_rng(0).uniform(-44.9, 44.9, 500)
        assert np.array_equal(bins.assign(-yaw), len(bins.edges) - 2 - bins.assign(yaw))
        edges = bins.edges[1:-1]  # exactly on an edge as well
        assert np.array_equal(bins.assign(-edges), len(bins.edges) - 2 - bins.assign(edges))
        assert (bins.assign(bins.edges) >= 0).all()

    @pytest.mark.parametrize(("width", "limit"), [(0, 45), (-1, 45), (91, 45)])
    def test_refused(self, width, limit):
        with pytest.raises(LatentrotError, match=f"width {width}.*{limit}") as info:
            _ = YawBins(width, limit).edges
        complaint(info)


class TestCentroids:
    def test_chunks_equal_one_fit(self):
        x, yaw, *_ = planted(500)
        whole, parts = Centroids().fit(x, yaw), Centroids()
        for rows in np.split(np.arange(500), [1, 60, 61, 333]):
            parts.partial_fit(x[rows], yaw[rows])
        assert np.array_equal(whole.counts_, parts.counts_)
        np.testing.assert_allclose(whole.means_, parts.means_, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(whole.yaw_, parts.yaw_, rtol=1e-12, atol=1e-12)

    def test_are_the_means(self):
        x, yaw, *_ = planted(300)
        fitted = Centroids(YawBins(10, 45)).fit(x, yaw)
        for b in range(9):
            inside = (yaw >= 10 * b - 45) & (yaw < 10 * b - 35)
            assert fitted.counts_[b] == inside.sum()
            np.testing.assert_allclose(fitted.means_[b], x[inside].astype(np.float64).mean(0), rtol=1e-10)
            assert fitted.yaw_[b] == pytest.approx(yaw[inside].mean())

    def test_half_precision_does_not_lose_the_sum(self):
        x = np.full((5000, 2), 0.1, np.float16)
        assert Centroids().fit(x, np.zeros(5000)).means_[4] == pytest.approx(np.float64(np.float16(0.1)), rel=1e-12)

    def test_fit_forgets(self):
        x, yaw, *_ = planted(200)
        twice = Centroids().fit(x + 100, yaw).fit(x, yaw)
        assert twice.counts_.sum() == len(x)

    def test_shapes_refused(self):
        with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[4, 3\]"):
            Centroids().fit(np.zeros((4, 2)), np.zeros(3))


class TestLines:
    def test_one_line_is_the_weighted_regression(self):
        rng = np.random.default_rng(2)
        x, yaw, counts = rng.normal(size=(6, 20)), rng.uniform(-40, 40, 6), rng.integers(1, 50, 6)
        mine, theirs = CentroidLine().fit(x, yaw, counts), LinearRegression().fit(yaw[:, None], x, counts)
        np.testing.assert_allclose(mine.slope_, theirs.coef_[:, 0], atol=1e-10)
        np.testing.assert_allclose(mine.intercept_, theirs.intercept_, atol=1e-10)
        assert 0 <= mine.r2_ < 1
        assert CentroidLine().fit(np.outer(yaw, x[0]), yaw, counts).r2_ == pytest.approx(1)

    @pytest.mark.parametrize("yaw", [[3.0], [3.0, 3.0]])
    def test_needs_two_yaws(self, yaw):
        with pytest.raises(LatentrotError, match=r"two different yaws.*3\.0"):
            CentroidLine().fit(np.zeros((len(yaw), 2)), yaw)

    def test_planted_directions_are_found(self):
        # width 5: the middle bin straddles the kink, which shortens a line by under 1 % (over 2 % at width 10)
        x, yaw, left, right = planted()
        fitted = YawDirections(YawBins(5, 45)).fit(x, yaw)
        for line, truth in ((fitted.left_, left), (fitted.right_, right)):
            length, true_length = np.linalg.norm(line.slope_), np.linalg.norm(truth)
            assert line.slope_ @ truth / (length * true_length) > 0.99
            assert abs(length / true_length - 1) < 0.02
            assert line.r2_ > 0.98

    def test_sides_are_independent(self):
        x, yaw, *_ = planted()
        changed = np.where(yaw[:, None] > 10, x + 50, x)
        one, two = YawDirections().fit(x, yaw), YawDirections().fit(changed, yaw)
        assert np.array_equal(one.left_.slope_, two.left_.slope_)
        assert not np.allclose(one.right_.slope_, two.right_.slope_)

    @pytest.mark.parametrize("left_over", [0, 3])
    def test_a_poor_bin_joins_its_neighbour(self, left_over):
        x, yaw, _, right = planted(600)
        poor = (yaw >= 15) & (yaw < 25)
        keep = ~poor | np.isin(np.arange(600), np.flatnonzero(poor)[:left_over])
        fitted = YawDirections(min_count=5).fit(x[keep], yaw[keep])
        assert fitted.edges_.tolist() == [-45, -35, -25, -15, -5, 5, 25, 35, 45]
        assert fitted.counts_.sum() == keep.sum()
        assert fitted.counts_.min() >= 5
        slope = fitted.right_.slope_
        assert slope @ right / np.linalg.norm(slope) / np.linalg.norm(right) > 0.99

    @pytest.mark.parametrize(
        ("counts", "groups", "middle"),
        [
            ([5, 5, 5, 5, 5], [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)], 2),
            ([1, 4, 9, 4, 1], [(0, 2), (2, 3), (3, 5)], 1),
            ([5, 2, 9, 0, 7], [(0, 2), (2, 3), (3, 5)], 1),
            ([9, 3, 1, 3, 9], [(0, 1), (1, 4), (4, 5)], 1),
        ],
    )
    def test_bins_are_joined_until_each_holds_enough(self, counts, groups, middle):
        found, at = merge_bins(np.array(counts), 5)
        assert [(g.start, g.stop) for g in found] == groups
        assert at == middle

    @pytest.mark.parametrize("counts", [[0, 0, 0], [4, 9, 9], [9, 0, 9], [9, 9, 4, 0, 0]])
    def test_too_few_for_two_lines_are_counted(self, counts):
        with pytest.raises(LatentrotError, match=f"{sum(counts)} latents, .* 5 of each") as info:
            merge_bins(np.array(counts), 5)
        complaint(info)

    @parametrize_with_checks([YawBins(), Centroids(), CentroidLine(), OnBothSides(min_count=1)])
    def test_scikit_learn_contract(self, estimator, check):
        check(estimator)

    @pytest.mark.parametrize(
        "estimator", [YawBins(5, 30), Centroids(YawBins(5, 30)), CentroidLine(), YawDirections(YawBins(5, 30), 3)]
    )
    def test_clone(self, estimator):
        copy = clone(estimator)
        assert copy is not estimator
        assert repr(copy.get_params()) == repr(estimator.get_params())

    def test_clone_of_a_fitted_one_is_fresh(self):
        x, yaw, *_ = planted(600)
        assert not hasattr(clone(YawDirections().fit(x, yaw)), "left_")


class TestWalk:
    @pytest.mark.parametrize("coarse", [0, 4])
    @pytest.mark.parametrize("yaw", [-30.0, -1.0, 0.0, 1.0, 30.0])
    def test_zero_step_is_exactly_zero(self, yaw, coarse):
        offset = walk_offset(directions(coarse=coarse), torch.tensor([0.0, 10.0, 0.0]), yaw)
        assert offset.shape == (3, *SHAPE)
        assert offset.dtype == torch.float32
        assert not offset[[0, 2]].any()
        assert offset[1].any()

    @pytest.mark.parametrize(
        ("yaw", "steps", "side"), [(-30.0, [-20.0, 10.0, 29.0], "left"), (30.0, [20.0, -10.0, -29.0], "right")]
    )
    def test_own_side_uses_its_own_direction(self, yaw, steps, side):
        d = directions()
        for step, offset in zip(steps, walk_offset(d, torch.tensor(steps), yaw), strict=True):
            torch.testing.assert_close(offset, step * getattr(d, side))

    @pytest.mark.parametrize("yaw", [-12.0, 12.0])
    def test_beyond_frontal_uses_the_other_direction(self, yaw):
        d = directions()
        own, other = (d.left, d.right) if yaw < 0 else (d.right, d.left)
        offset = walk_offset(d, torch.tensor([-yaw, -3 * yaw]), yaw)
        torch.testing.assert_close(offset[0], -yaw * own)
        torch.testing.assert_close(offset[1], -yaw * own - 2 * yaw * other)

    @pytest.mark.parametrize("yaw", [-12.0, 0.0, 12.0])
    def test_is_continuous(self, yaw):
        d = directions()
        steps = torch.linspace(-40, 40, 801)
        walked = walk_offset(d, steps, yaw)
        longest = max(d.left.norm(), d.right.norm())
        assert (walked[1:] - walked[:-1]).flatten(1).norm(dim=1).max() <= 0.1 * longest * 1.001

    def test_crossing_is_where_the_calibration_says(self):
        d = directions(step_sizes=(-90.0, 0.0, 90.0), achieved=(-30.0, 0.0, 30.0))
        offset = walk_offset(d, torch.tensor([30.0, 60.0]), -10.0)
        torch.testing.assert_close(offset[0], 30 * d.left)
        torch.testing.assert_close(offset[1], 30 * d.left + 30 * d.right)

    @pytest.mark.parametrize("yaw", [-50.0, -10.0, 0.0, 10.0, 50.0])
    def test_coarse_frequencies_move_by_the_degrees_turned(self, yaw):
        table = {"step_sizes": (-90.0, 0.0, 120.0), "achieved": (-30.0, 0.0, 30.0)}
        steps, turns = torch.tensor([-120.0, -30.0, 40.0, 160.0]), torch.tensor([-40.0, -10.0, 10.0, 40.0])
        d = directions(coarse=2, **table)
        plain = replace(d, coarse=0)
        by_turns = walk_offset(replace(plain, step_sizes=(-90.0, 0.0, 90.0), achieved=(-90.0, 0.0, 90.0)), turns, yaw)

        def parts(offset):
            pixels = F.pixel_shuffle(offset, SPACE.factor).double().numpy()
            low = np.stack([coarse_part(p, 2) for p in pixels])
            return low, pixels - low

        coarse, fine = parts(walk_offset(d, steps, yaw))
        assert coarse == pytest.approx(parts(by_turns)[0], abs=1e-3)
        assert fine == pytest.approx(parts(walk_offset(plain, steps, yaw))[1], abs=1e-3)

    def test_coarse_has_no_effect_on_a_calibration_of_one(self):
        steps = torch.tensor([-30.0, 5.0, 60.0])
        one, other = (walk_offset(directions(coarse=c), steps, 12.0) for c in (0, 4))
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)

    def test_turn_for_inverts_step_for(self):
        d = directions(step_sizes=(-90.0, -40.0, 0.0, 40.0, 90.0), achieved=(-30.0, -20.0, 0.0, 10.0, 25.0))
        steps = np.linspace(-200, 200, 81)
        assert [d.step_for(turn) for turn in d.turn_for(steps)] == pytest.approx(steps.tolist())

    def test_step_for_inverts_the_calibration(self):
        d = directions(step_sizes=(-90.0, -40.0, 0.0, 40.0, 90.0), achieved=(-30.0, -20.0, 0.0, 10.0, 25.0))
        for step_sizes, achieved in zip(d.step_sizes, d.achieved, strict=True):
            assert d.step_for(achieved) == pytest.approx(step_sizes)
        turns = np.linspace(-60, 60, 400)
        assert (np.diff([d.step_for(t) for t in turns]) > 0).all()
        assert d.reach == (-30.0, 25.0)


class TestFitDirections:
    @pytest.mark.parametrize("pair", [("left", "right"), ("center", "center"), ("any", "any")])
    def test_mirror_law(self, store, labels, pair):
        one, other = (fit_directions(store, labels, light, CONFIG) for light in pair)
        scale = float(one.left.abs().max())
        torch.testing.assert_close(mirror_latents(one.left[None], BLOCK)[0], -other.right, rtol=0, atol=1e-5 * scale)
        torch.testing.assert_close(mirror_latents(one.right[None], BLOCK)[0], -other.left, rtol=0, atol=1e-5 * scale)

    def test_without_mirroring_the_law_does_not_hold_by_itself(self, store, labels):
        one = fit_directions(store, labels, "any", replace(CONFIG, mirror=False))
        assert not torch.allclose(mirror_latents(one.left[None], BLOCK)[0], -one.right, atol=1e-2)

    def test_light_groups_are_apart(self, store, labels, tmp_path):
        config = replace(CONFIG, mirror=False)
        changed = make_latents(labels)
        changed[(labels["light"] != "left").to_numpy()] += 20 * torch.randn(SHAPE)
        other = make_store(tmp_path, labels, changed)
        one, two = (fit_directions(s, labels, "left", config) for s in (store, other))
        assert torch.equal(one.left, two.left)
        assert torch.equal(one.right, two.right)

    def test_streaming_equals_one_matrix(self, store, labels):
        config = replace(CONFIG, mirror=False, held_out=0.0, shrink=False)
        latents = torch.cat([z for _, z in store.batches()]).flatten(1).numpy()
        expected = YawDirections(YawBins(config.width, config.limit), 2).fit(latents, labels["yaw_deg"].to_numpy())
        found = fit_directions(store, labels, "any", config)
        np.testing.assert_allclose(found.left.flatten(), expected.left_.slope_, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found.right.flatten(), expected.right_.slope_, rtol=1e-4, atol=1e-6)

    def test_people_held_out_do_not_matter(self, store, labels, tmp_path):
        config = replace(CONFIG, held_out=0.3)
        away = held_out(labels["identity"].to_numpy(), 0.3)
        assert 0 < away.sum() < len(away)
        changed = make_latents(labels)
        changed[away] *= -50
        other = make_store(tmp_path, labels, changed)
        one, two = (fit_directions(s, labels, "any", config) for s in (store, other))
        assert torch.equal(one.left, two.left)
        assert torch.equal(one.right, two.right)
        everybody = fit_directions(other, labels, "any", replace(config, held_out=0.0))
        assert not torch.allclose(everybody.left, one.left)

    def test_uncalibrated_steps_are_degrees(self, store, labels):
        d = fit_directions(store, labels, "center", CONFIG)
        assert [d.step_for(t) for t in (-33.0, 0.0, 12.5)] == [-33.0, 0.0, 12.5]
        assert d.provenance["calibrated_on"] == "0"

    def test_calibration_needs_the_model(self, store, labels):
        with pytest.raises(LatentrotError, match="calibrate=0") as info:
            fit_directions(store, labels, "center", replace(CONFIG, calibrate=4))
        complaint(info)

    def test_unknown_light(self, store, labels):
        with pytest.raises(LatentrotError, match=r"'up'.*left.*any") as info:
            fit_directions(store, labels, "up", CONFIG)
        complaint(info)

    def test_no_label_matches(self, store, labels):
        strangers = labels.set_index(pd.Index([f"other-{i}" for i in labels.index]))
        with pytest.raises(LatentrotError, match="embed and label the same images") as info:
            fit_directions(store, strangers, "left", CONFIG)
        complaint(info)

    def test_a_light_too_rare_takes_the_images_of_every_light(self, store, labels, caplog):
        rare = labels.assign(light=np.where(np.arange(len(labels)) < 3, "left", "center"))
        config = replace(CONFIG, mirror=False, held_out=0.0)
        lines, everybody = (fit_directions(store, rare, light, config) for light in ("left", "any"))
        assert lines.light == "left"
        assert lines.provenance["lights"] == "any"
        assert torch.equal(lines.left, everybody.left)
        assert "left: 3 latents" in caplog.text
        assert fit_directions(store, rare, "center", config).provenance["lights"] == "center"

    def test_several_lights_are_fitted_as_one_by_one(self, store, labels):
        rare = labels.assign(light=np.where(np.arange(len(labels)) < 3, "left", "center"))
        lights, config = ("left", "center", "right"), replace(CONFIG, mirror=False, held_out=0.0)
        together = list(fit_lights(store, rare, lights, config))
        assert [d.light for d in together] == list(lights)
        assert [d.provenance["lights"] for d in together] == ["any", "center", "any"]
        for found in together:
            alone = fit_directions(store, rare, found.light, config)
            assert torch.equal(found.left, alone.left)
            assert torch.equal(found.right, alone.right)
            assert (found.provenance, found.step_sizes) == (alone.provenance, alone.step_sizes)

    def test_progress_counts_every_latent_once(self, store, labels):
        seen: list[int] = []
        fit_directions(store, labels, "any", replace(CONFIG, held_out=0.0), progress=seen.append)
        assert sum(seen) == len(labels)

    def test_memory_does_not_grow_with_the_store(self, tmp_path):
        """Peak memory of a fit over 3,000 latents against 750.

        The 2,250 latents more are 14 MB as stored and 28 MB as they are computed with; one shard is 1.5 MB. A fit that
        held them would grow by at least 14 MB, so 7 MB tells the two apart.
        """
        if not Path("/proc/self/clear_refs").is_file():
            pytest.skip("peak memory of a process is read from /proc")
        space = replace(SPACE, shape=(12, 16, 16))
        latents = torch.randn(250, *space.shape)
        cases = []
        for n in (750, 3000):
            labels = make_labels(n)
            store = LatentStore(tmp_path / str(n))
            for start in range(0, n, 250):
                store.append(list(labels.index[start : start + 250]), latents, space)
            cases.append((store, labels))
        peaks = []
        for store, labels in (cases[0], *cases):  # the first once more: what is allocated on first use does not count
            Path("/proc/self/clear_refs").write_text("5")  # start the peak anew
            before = resident("VmRSS")
            fit_directions(store, labels, "any", CONFIG)
            peaks.append(resident("VmHWM") - before)
        assert peaks[2] - peaks[1] < 7


def resident(name: str) -> float:
    """The process's resident memory, now (VmRSS) or at its peak (VmHWM), in MB."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[name].split()[0]) / 1024


class TestFile:
    def test_round_trip(self, tmp_path):
        one = directions(
            provenance={"version": "1", "where": "Male == 1", "counts": "[1, 2]"},
            achieved=(-31.5, 0.0, 30.25),
            coarse=3,
        )
        one.save(tmp_path / "d.safetensors")
        two = Directions.load(tmp_path / "d.safetensors")
        assert torch.equal(one.left, two.left)
        assert torch.equal(one.right, two.right)
        for name in ("light", "space", "step_sizes", "achieved", "provenance", "coarse"):
            assert getattr(one, name) == getattr(two, name)

    def test_another_kind_is_refused(self, store):
        with pytest.raises(LatentrotError, match=r"latentrot latents.*latentrot directions") as info:
            Directions.load(store.shards[0])
        complaint(info)

    @pytest.mark.parametrize("content", [None, b"", b"text", "half"])
    def test_damaged(self, tmp_path, content):
        path = tmp_path / "d.safetensors"
        if content == "half":
            directions().save(path)
            path.write_bytes(path.read_bytes()[:-50])
        elif content is not None:
            path.write_bytes(content)
        with pytest.raises(LatentrotError, match=r"d\.safetensors.*fit-directions") as info:
            Directions.load(path)
        complaint(info)

    @pytest.mark.parametrize("change", [{"schedule": Schedule(steps=9)}, {"shape": (3, 8, 8)}])
    def test_another_space_is_refused_with_both_values(self, change):
        other = replace(SPACE, **change)
        with pytest.raises(LatentrotError, match="belongs to") as info:
            directions().space.require_same(other, "the file")
        (name,) = change
        assert str(getattr(SPACE, name)) in complaint(info)
        assert str(getattr(other, name)) in complaint(info)

    @pytest.mark.parametrize("part", [f.name for f in fields(Fingerprint)])
    def test_another_part_of_the_model_is_refused_with_both_values(self, part):
        other = replace(SPACE, fingerprint=replace(SPACE.fingerprint, **{part: "another"}))
        with pytest.raises(LatentrotError, match="belongs to") as info:
            directions().space.require_same(other, "the file")
        assert getattr(SPACE.fingerprint, part) in complaint(info)
        assert "another" in complaint(info)

    def test_missing_fields_of_an_old_file_are_reported_once(self, tmp_path, caplog):
        old = replace(SPACE, fingerprint=Fingerprint(SPACE.fingerprint.weights))
        replace(directions(), space=old).save(tmp_path / "old.safetensors")
        found = Directions.load(tmp_path / "old.safetensors").space
        assert found == old
        for _ in range(2):
            found.require_same(SPACE, str(tmp_path / "old.safetensors"))
        (line,) = (r.getMessage() for r in caplog.records)
        for part in ("old.safetensors", "U-Net configuration", "prediction type", "noise schedule", "first stage"):
            assert part in line
        SPACE.require_same(SPACE, "a new one")
        assert len(caplog.records) == 1


class TestShrinkage:
    def test_keeps_a_smooth_slope_and_drops_the_noise(self):
        rng = np.random.default_rng(0)
        column = np.cos(np.arange(32) / 32 * np.pi)
        smooth = np.broadcast_to(column, (3, 32, 32))
        noise = rng.normal(0, 0.5, (3, 32, 32))
        found = shrink_noise(smooth + noise)
        assert np.linalg.norm(found - smooth) < 0.35 * np.linalg.norm(noise)

    def test_leaves_no_more_than_a_trace_of_pure_noise(self):
        noise = np.random.default_rng(1).normal(size=(3, 32, 32))
        assert np.linalg.norm(shrink_noise(noise)) < 0.4 * np.linalg.norm(noise)


class TestOctaves:
    def test_a_zero_walk_keeps_the_image(self):
        picture = np.random.default_rng(0).normal(size=(1, 3, 16, 16))
        np.testing.assert_allclose(keep_octaves(picture, picture), picture, atol=1e-12)

    def test_total_length_is_the_sources(self):
        rng = np.random.default_rng(0)
        source, walked = rng.normal(size=(1, 3, 16, 16)), 3 + 2 * rng.normal(size=(4, 3, 16, 16))
        kept = keep_octaves(source, walked)
        np.testing.assert_allclose(np.linalg.norm(kept.reshape(4, -1), axis=1), np.linalg.norm(source), rtol=1e-10)
        assert not np.allclose(kept[0], kept[1])
