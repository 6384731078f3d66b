"""The joint regression: planted directions, streaming equals batch, resumption, mirror law, columns of one's own."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from latentrot.data.celeba import held_out
from latentrot.diffusion.fingerprint import Fingerprint
from latentrot.diffusion.first_stage import mirror_latents
from latentrot.diffusion.solve import Schedule
from latentrot.directions.design import COLOURS, GRAIN, design_of, mirrored_columns
from latentrot.directions.joint import JointSums, gather_joint, ridge_slopes, sums_of
from latentrot.directions.properties import PROPERTIES, Property, property_named
from latentrot.directions.property_directions import Calibration, PropertyDirections, load_property_directions
from latentrot.directions.property_fit import PropertyFitConfig, directions_of, fit_properties
from latentrot.errors import LatentrotError
from latentrot.faces.table import read_labels
from latentrot.store.latent_store import LatentStore
from latentrot.store.space import LatentSpace

SHAPE, FACTOR = (12, 4, 4), 2
MODEL = Fingerprint("0123456789abcdef", "fedcba9876543210", "epsilon", "linear 0.0001 to 0.02, 1000 levels", "identity")
SPACE = LatentSpace("tiny", MODEL, Schedule(steps=3), SHAPE, FACTOR)
PLAIN = PropertyFitConfig(mirror=False, held_out=0.0, ridge=0.0, orthogonal=False)


def make_labels(n: int = 1200, seed: int = 0) -> pd.DataFrame:
    """A label table in which smiling goes with gender, and gender with age."""
    rng = np.random.default_rng(seed)
    male = rng.random(n)
    table = {
        "yaw_deg": rng.uniform(-40, 40, n),
        "pitch_deg": rng.normal(0, 8, n),
        "light": rng.choice(["left", "center", "right"], n),
        "identity": rng.integers(0, n // 3, n),
        "age_years": 30 + 20 * male + rng.normal(0, 8, n),
        "p_Male": male,
        "p_Smiling": np.clip(0.8 - 0.5 * male + rng.normal(0, 0.2, n), 0, 1),
        "p_Young": rng.random(n),
        "p_Eyeglasses": rng.random(n),
        "eye_to_cheek": rng.uniform(0.3, 0.9, n),
        "size": rng.normal(700, 30, n),
        **{name: rng.random(n) for name in COLOURS},
    }
    return pd.DataFrame(table, index=pd.Index([f"{i:05d}.png" for i in range(n)], name="image_id"))


def make_latents(
    labels: pd.DataFrame, noise: float = 0.05, seed: int = 1
) -> tuple[torch.Tensor, dict[str, np.ndarray]]:
    """Latents in half precision that are linear in every column, and the slopes they were made with."""
    design = design_of(labels, ["size"]).table
    rng = np.random.default_rng(seed)
    slopes = rng.normal(0, 0.3, (len(design.columns), int(np.prod(SHAPE))))
    z = design.to_numpy() @ slopes + rng.normal(0, noise, (len(design), slopes.shape[1]))
    return torch.from_numpy(z.reshape(-1, *SHAPE)).half(), dict(zip(design.columns, slopes, strict=True))


def make_store(root, labels, latents, per_shard=100) -> LatentStore:
    store = LatentStore(root)
    for start in range(0, len(labels), per_shard):
        store.append(list(labels.index[start : start + per_shard]), latents[start : start + per_shard], SPACE)
    return store


@pytest.fixture(scope="module")
def labels() -> pd.DataFrame:
    return make_labels()


@pytest.fixture(scope="module")
def made(labels):
    return make_latents(labels)


@pytest.fixture(scope="module")
def store(tmp_path_factory, labels, made) -> LatentStore:
    return make_store(tmp_path_factory.mktemp("store"), labels, made[0])


class TestDesign:
    def test_columns_are_multiples_of_the_grain(self, labels):
        table = design_of(labels).table
        assert np.array_equal(table * GRAIN, (table * GRAIN).round())

    def test_redundant_columns_are_left_out(self, labels):
        names = design_of(labels).names
        assert "Young" not in names
        assert "Eyeglasses" not in names
        assert {"age", "glasses_clear", "glasses_dark", "Smiling"} < set(names)
        assert {"Young", "Eyeglasses"} < set(design_of(labels.drop(columns=["age_years", "eye_to_cheek"])).names)

    def test_celebas_own_attributes_come_before_estimates(self, labels):
        own = labels.assign(Smiling=np.where(np.arange(len(labels)) % 2, 1.0, -1.0))
        assert set(design_of(own).table["Smiling"]) == {-0.5, 0.5}

    def test_images_without_a_value_are_left_out(self, labels):
        some = labels.assign(size=labels["size"].where(np.arange(len(labels)) > 9))
        assert len(design_of(some, ["size"]).table) == len(labels) - 10
        assert len(design_of(some).table) == len(labels)

    @pytest.mark.parametrize(("column", "match"), [("nose", "no column 'nose'"), ("word", "constant or not numeric")])
    def test_constant_columns_are_refused(self, labels, column, match):
        with pytest.raises(LatentrotError, match=match):
            design_of(labels.assign(word="x"), [column])


class TestSums:
    def test_streaming_equals_a_batch_bit_for_bit(self, store, labels, made):
        design = design_of(labels, ["size"])
        streamed = gather_joint(store, design)
        batch = sums_of(design.table.to_numpy(), made[0].flatten(1).numpy(), design.names)
        for name in ("xx", "xz", "zz"):
            assert np.array_equal(getattr(streamed, name), getattr(batch, name))

    def test_sums_do_not_depend_on_order_and_chunks(self, tmp_path, labels, made):
        order = np.random.default_rng(3).permutation(len(labels))
        other = make_store(tmp_path, labels.iloc[order], made[0][torch.from_numpy(order)], per_shard=77)
        design = design_of(labels, ["size"])
        batch = sums_of(design.table.to_numpy(), made[0].flatten(1).numpy(), design.names)
        streamed = gather_joint(other, design)
        assert np.array_equal(streamed.xz, batch.xz)
        assert np.array_equal(streamed.zz, batch.zz)

    def test_resumed_equals_undisturbed(self, tmp_path, labels, made):
        design = design_of(labels)
        part = make_store(tmp_path, labels[:500], made[0][:500])
        gather_joint(part, design)
        assert list((tmp_path / "statistics").glob("joint-*"))
        for start in range(500, len(labels), 100):
            part.append(list(labels.index[start : start + 100]), made[0][start : start + 100], SPACE)
        read = []
        resumed = gather_joint(part, design, progress=read.append)
        batch = sums_of(design.table.to_numpy(), made[0].flatten(1).numpy(), design.names)
        assert np.array_equal(resumed.xz, batch.xz)
        assert sum(read) == len(labels)

    def test_other_labels_are_not_taken_for_the_same(self, tmp_path, labels, made):
        kept = make_store(tmp_path, labels, made[0])
        gather_joint(kept, design_of(labels))
        changed = labels.assign(p_Smiling=1 - labels["p_Smiling"])
        design = design_of(changed)
        batch = sums_of(design.table.to_numpy(), made[0].flatten(1).numpy(), design.names)
        assert np.array_equal(gather_joint(kept, design).xz, batch.xz)

    def test_sums_of_halves_add_up(self, labels, made):
        design = design_of(labels)
        x, z = design.table.to_numpy(), made[0].flatten(1).numpy()
        both = sums_of(x[:400], z[:400], design.names) + sums_of(x[400:], z[400:], design.names)
        assert np.array_equal(both.xz, sums_of(x, z, design.names).xz)
        with pytest.raises(LatentrotError, match="cannot be added"):
            _ = both + both.of(["Smiling"])

    def test_mirrored_sums_are_sums_of_mirrored_images(self, labels, made):
        light = labels["light"].map({"left": "right", "right": "left", "center": "center"})
        flipped = labels.assign(yaw_deg=-labels["yaw_deg"], light=light)
        z = mirror_latents(made[0].float(), FACTOR).half()
        one = sums_of(design_of(flipped).table.to_numpy(), z.flatten(1).numpy(), design_of(flipped).names)
        design = design_of(labels)
        two = sums_of(design.table.to_numpy(), made[0].flatten(1).numpy(), design.names).mirrored(SHAPE, FACTOR)
        assert np.array_equal(one.xx, two.xx)
        assert np.array_equal(one.xz, two.xz)
        assert np.array_equal(one.zz, two.zz)


class TestDirections:
    def test_planted_directions_are_recovered(self, store, labels, made):
        wanted = [replace(p, shrinkage=0.0) for p in PROPERTIES if p.name in ("smile", "age", "male", "light_left")]
        fitted = fit_properties(store, labels, [*wanted, replace(Property.of_column("size"), shrinkage=0.0)], PLAIN)
        for one in fitted.properties:
            truth = np.sum([(-1 if c[0] == "-" else 1) * made[1][c.removeprefix("-")] for c in one.columns], axis=0)
            cosine = np.corrcoef(fitted.vectors[one.name].flatten(), truth)[0, 1]
            assert cosine > 0.995, one.name
        size = float(np.linalg.norm(fitted.vectors["smile"]) / np.linalg.norm(made[1]["Smiling"]))
        assert size == pytest.approx(1, abs=0.05)

    def test_directions_are_partial_effects(self, labels, made):
        """A mean difference of two groups takes along what goes with them; the regression on all columns does not."""
        design = design_of(labels)
        slopes, explained = ridge_slopes(
            sums_of(design.table.to_numpy(), made[0].flatten(1).numpy(), design.names), 0.0
        )
        assert explained > 0.9
        z, smiles = made[0].flatten(1).numpy().astype(float), labels["p_Smiling"].to_numpy() > 0.5
        means = z[smiles].mean(0) - z[~smiles].mean(0)
        truth, male = made[1]["Smiling"], made[1]["Male"]
        share = lambda v: abs(v @ male) / np.linalg.norm(v) / np.linalg.norm(male)  # noqa: E731
        assert share(slopes["Smiling"] - truth) * np.linalg.norm(slopes["Smiling"] - truth) < 0.1 * np.linalg.norm(
            truth
        )
        assert np.corrcoef(slopes["Smiling"], truth)[0, 1] > np.corrcoef(means, truth)[0, 1] + 0.02

    def test_mirror_law(self, store, labels):
        fitted = fit_properties(store, labels, ["smile", "light_left", "light_right"], PropertyFitConfig(held_out=0.0))
        for one in fitted.properties:
            mirrored = mirror_latents(fitted.vectors[one.name][None], FACTOR)[0]
            torch.testing.assert_close(
                mirrored, fitted.vectors[one.mirrored or one.name] * one.sign, atol=1e-5, rtol=1e-4
            )

    def test_orthogonal_to_pose_light_and_colour(self, store, labels):
        sums = gather_joint(store, design_of(labels))
        smile = replace(property_named("smile"), shrinkage=0.0)
        vectors, _ = directions_of(sums, [smile], SPACE, replace(PLAIN, orthogonal=True))
        slopes, _ = ridge_slopes(sums, 0.0)
        for name in ("yaw_left", "pitch", "light_right", *COLOURS):
            one, other = vectors["smile"].flatten().numpy(), slopes[name]
            assert abs(one @ other) < 1e-5 * np.linalg.norm(one) * np.linalg.norm(other)

    def test_held_out_people_are_excluded(self, store, labels):
        fitted = fit_properties(store, labels, ["smile"], PropertyFitConfig(mirror=False, held_out=0.2))
        assert int(fitted.provenance["images"]) == (~held_out(labels["identity"].to_numpy(), 0.2)).sum()

    def test_few_latents_take_fewer_columns_and_say_so(self, tmp_path, labels, made):
        few = make_store(tmp_path, labels[:200], made[0][:200])
        fitted = fit_properties(few, labels[:200], ["smile", "size"], PLAIN)
        assert "few" in fitted.provenance["note"]
        assert "face_r" not in fitted.provenance["columns"]

    def test_a_table_of_one_column_is_enough(self, tmp_path, labels, made):
        """Of which a file holds nothing else; the planted direction is found where other columns vary beside it."""
        latents, slopes = made
        store = make_store(tmp_path / "one", labels, latents)
        labels[["size"]].to_csv(tmp_path / "sizes.csv")
        alone = read_labels(tmp_path / "sizes.csv", complete=False)
        found = fit_properties(store, alone, ["size"], replace(PLAIN, mirror=True)).vectors["size"].flatten().numpy()
        assert np.corrcoef(found, slopes["size"])[0, 1] > 0.4
        with pytest.raises(LatentrotError, match="lacks the columns yaw_deg"):
            read_labels(tmp_path / "sizes.csv")

    def test_an_unknown_property_is_refused_with_the_known_ones(self, store, labels):
        with pytest.raises(LatentrotError, match=r"'smirk'.*smile"):
            fit_properties(store, labels, ["smirk"])

    def test_yaw_is_a_property_like_the_others(self):
        assert property_named("yaw").reaches == "geometry"
        assert {p.mirrored for p in PROPERTIES if p.mirrored} == {"light_left", "light_right"}


class TestFile:
    def test_round_trip(self, tmp_path, store, labels):
        fitted = fit_properties(store, labels, ["smile", "age"])
        calibration = Calibration((-2.0, 0.0, 2.0), (-0.5, 0.0, 0.5), {"p_Male": 0.01}, 24, "faces64 0123")
        replace(fitted, calibrations={"smile": calibration}).save(tmp_path / "a.safetensors")
        (loaded,) = load_property_directions([tmp_path / "a.safetensors"])
        assert loaded.properties == fitted.properties
        assert loaded.calibrations == {"smile": calibration}
        assert loaded.space == fitted.space
        torch.testing.assert_close(loaded.vectors["smile"], fitted.vectors["smile"], atol=1e-3, rtol=1e-3)

    def test_two_directions_of_one_name_are_refused(self, tmp_path, store, labels):
        for name in ("a", "b"):
            fit_properties(store, labels, ["smile"]).save(tmp_path / f"{name}.safetensors")
        with pytest.raises(LatentrotError, match="both contain a direction for 'smile'"):
            load_property_directions([tmp_path / "a.safetensors", tmp_path / "b.safetensors"])

    def test_another_file_is_refused(self, tmp_path):
        (tmp_path / "a.safetensors").write_bytes(b"nothing")
        with pytest.raises(LatentrotError):
            PropertyDirections.load(tmp_path / "a.safetensors")


@pytest.mark.parametrize(("change", "step"), [(0.25, 1.0), (0.5, 2.0), (0.9, 2.0), (-0.5, -3.0), (0.0, 0.0)])
def test_the_shortest_step_for_a_change(change, step):
    calibration = Calibration((-6.0, -3.0, 0.0, 2.0, 4.0), (-0.5, -0.5, 0.0, 0.5, 0.5))
    assert calibration.step_for(change) == pytest.approx(step)


def test_columns_that_mirroring_swaps_must_both_be_there():
    with pytest.raises(LatentrotError, match="light_right"):
        mirrored_columns(["1", "light_left"])
    assert isinstance(JointSums(("1",), np.ones((1, 1)), np.zeros((1, 4)), np.zeros(4)).count, int)
