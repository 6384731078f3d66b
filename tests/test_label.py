"""Labels: the mirror law, sizes, refusals, tables, filters; and, where the photographs are, how good the labels are."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from latentrot.bundles import DEFAULT_BUNDLE, bundled_folder
from latentrot.data.celeba import FaceFolder, held_out
from latentrot.data.filters import matching
from latentrot.errors import LatentrotError
from latentrot.faces.estimate import LIGHTS, SURE, estimate_light, estimate_pose, light_names
from latentrot.faces.network import FaceLabeler, load_labeler
from latentrot.faces.table import COLUMNS, label_folder, read_labels, write_labels
from latentrot.training.labeler.augment import warp
from latentrot.training.labeler.config import LabelTrainConfig
from latentrot.training.labeler.faces import YaleFaces, yale_crops
from latentrot.training.labeler.relighting import Relighter

SHARED = Path(__file__).parent.parent.parent / "shared" / "data"
# measured: 2.0 and 2.1 degrees, 0.96; a third more than that is a worse network, not another sample
YAW_BOUND, PITCH_BOUND, LIGHT_BOUND = 2.7, 2.8, 0.93


def shared(name):
    if not (SHARED / name).is_dir():
        pytest.skip(f"no photographs at ../shared/data/{name}")
    return SHARED / name


def noise(n=4, size=64, seed=0):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


# --- the network ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labeler", [None, FaceLabeler().eval()], ids=["bundled", "untrained"])
def test_mirror_law(labeler):
    x = noise()
    pose, mirrored = (estimate_pose(v, labeler=labeler) for v in (x, x.flip(-1)))
    torch.testing.assert_close(mirrored, pose * torch.tensor([-1.0, 1.0, -1.0]), atol=1e-4, rtol=0)
    light, swapped = (estimate_light(v, labeler=labeler) for v in (x, x.flip(-1)))
    torch.testing.assert_close(swapped, light.flip(1), atol=1e-6, rtol=0)
    alone = estimate_pose(x, labeler=labeler, mirror=False)
    assert (alone - pose).abs().max() > 1e-3  # the network itself is not symmetric: the law comes from averaging


@pytest.mark.parametrize("size", [32, 64, 128, 200])
def test_estimates_are_similar_for_any_size(size):
    smooth = torch.nn.functional.interpolate(noise(size=8), size=64, mode="bicubic").clamp(-1, 1)
    other = torch.nn.functional.interpolate(smooth, size=size, mode="bilinear", antialias=True)
    assert (estimate_pose(other) - estimate_pose(smooth)).abs().max() < 5
    assert (estimate_light(other).sum(1) - 1).abs().max() < 1e-5


def test_batches_do_not_matter():
    x = noise(300)
    whole, parts = estimate_pose(x), torch.cat([estimate_pose(p) for p in x.split(70)])
    torch.testing.assert_close(whole, parts, atol=1e-3, rtol=0)
    assert estimate_pose(x[:0]).shape == estimate_light(x[:0]).shape == (0, 3)


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64), (1, 3, 64, 48), (1, 3, 4, 4)])
def test_bad_shapes_are_refused_with_the_shape(shape):
    for estimate in (estimate_pose, estimate_light):
        with pytest.raises(LatentrotError, match=str(shape).replace("(", r"\(").replace(")", r"\)")):
            estimate(torch.zeros(shape))


def test_bytes_are_refused():
    with pytest.raises(LatentrotError, match="uint8"):
        estimate_pose(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))


def test_uncertain_lights_are_not_assigned():
    p = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.35, 0.55], [0.0, 0.6, 0.4]])
    assert light_names(p, SURE) == ["left", "unsure", "center"]
    assert light_names(p[:, [2, 1, 0]], SURE) == ["right", "unsure", "center"]  # mirrored
    with pytest.raises(LatentrotError, match=r"min_probability=1\.5"):
        light_names(p, 1.5)


def test_light_names():
    assert light_names(torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7], [0.3, 0.4, 0.3]])) == ["left", "right", "center"]
    with pytest.raises(LatentrotError, match="2, 4"):
        light_names(torch.zeros(2, 4))


def test_bundled_labeler_is_small_and_kept():
    assert (bundled_folder(DEFAULT_BUNDLE) / "labeler.safetensors").stat().st_size < 2_000_000
    assert load_labeler() is load_labeler(device="cpu")
    assert not load_labeler().training


def test_wrong_files_are_refused(tmp_path):
    with pytest.raises(LatentrotError, match="no labeler"):
        load_labeler(tmp_path / "none.safetensors")
    (tmp_path / "text").write_text("not weights")
    with pytest.raises(LatentrotError, match=r"cannot read .*text"):
        load_labeler(tmp_path / "text")
    save_file({"a": torch.zeros(1)}, tmp_path / "other", metadata={"kind": "something else"})
    with pytest.raises(LatentrotError, match="something else"):
        load_labeler(tmp_path / "other")
    save_file({"a": torch.zeros(1)}, tmp_path / "empty", metadata={"kind": "latentrot labeler", "version": "1"})
    with pytest.raises(LatentrotError, match="does not fit"):
        load_labeler(tmp_path / "empty")


# --- what it is trained on ------------------------------------------------------------------------------------------


def test_a_positive_roll_leans_clockwise():
    upright = torch.zeros(64, 1, 80, 80)
    upright[:, :, 8:72, 38:42] = 1  # a vertical bar
    config = LabelTrainConfig(scale=0, shift=0)
    leaning, roll = warp(upright, config, torch.Generator().manual_seed(0))
    columns = torch.arange(64.0)
    top, bottom = ((leaning[:, 0, rows] * columns).sum((1, 2)) / leaning[:, 0, rows].sum((1, 2)) for rows in
                   (slice(8, 20), slice(44, 56)))  # fmt: skip
    lean = torch.atan2(top - bottom, torch.tensor(36.0)).rad2deg()
    assert roll.abs().max() > 10
    torch.testing.assert_close(lean, roll, atol=1, rtol=0)


def test_relit_faces_are_brighter_on_the_named_side():
    ramp = torch.linspace(1, 0.1, 40).expand(40, 40)
    faces = YaleFaces(
        torch.stack([ramp, torch.full((40, 40), 0.5), ramp.flip(1)]), np.array([60, 0, -60]), np.array(["a"] * 3)
    )
    relighter = Relighter(faces, torch.full((1, 3, 80, 80), 128, dtype=torch.uint8))
    x, light = relighter.batch(60, LabelTrainConfig(roll=0), torch.Generator().manual_seed(0))
    lean = x[:, :, 20:55, 14:30].mean((1, 2, 3)) - x[:, :, 20:55, 34:50].mean((1, 2, 3))  # left minus right
    assert lean[light == 0].min() > 0 > lean[light == 2].max()
    assert lean[light == 1].abs().max() < 0.1 + lean[light != 1].abs().max()
    assert torch.bincount(light, minlength=3).min() >= 10


# --- tables ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "faces"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(5):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes(b"not a picture")
    return folder


def test_a_folder_is_labelled_and_a_broken_image_named(pictures, caplog):
    table = label_folder(FaceFolder(pictures), batch_size=2, progress=False)
    assert list(table.index) == [f"{i}.png" for i in range(5)]
    assert list(table.columns)[: len(COLUMNS)] == list(COLUMNS)
    assert table.columns[-1] == "digest"
    assert "broken.png" in caplog.text
    np.testing.assert_allclose(table[["p_left", "p_center", "p_right"]].sum(axis=1), 1, atol=1e-5)
    assert set(table["light"]) <= set(LIGHTS)
    np.testing.assert_allclose(table["confidence"], table[["p_left", "p_center", "p_right"]].max(axis=1))


def test_a_folder_without_readable_images_is_refused(tmp_path):
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(LatentrotError, match="none of the 1 images"):
        label_folder(FaceFolder(tmp_path), progress=False)


@pytest.mark.parametrize("name", ["labels.parquet", "labels.csv"])
def test_table_round_trip(pictures, tmp_path, name):
    table = label_folder(FaceFolder(pictures), progress=False)
    write_labels(table, tmp_path / "new" / name)
    pd.testing.assert_frame_equal(read_labels(tmp_path / "new" / name), table, check_dtype=False, rtol=1e-5)
    assert [p.name for p in (tmp_path / "new").iterdir()] == [name]  # nothing temporary is left


def test_unfit_tables_are_refused(pictures, tmp_path):
    with pytest.raises(LatentrotError, match=r"latentrot label --data DIR --out labels\.parquet"):
        read_labels(tmp_path / "none.parquet")
    with pytest.raises(LatentrotError, match=r"\.parquet or \.csv"):
        read_labels(tmp_path / "labels.txt")
    (tmp_path / "few.csv").write_text("image_id,yaw_deg,light\na.jpg,1,left\n")
    with pytest.raises(LatentrotError, match="lacks the columns pitch_deg, roll_deg, p_left"):
        read_labels(tmp_path / "few.csv")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(LatentrotError, match=r"cannot read .*bad\.parquet"):
        read_labels(tmp_path / "bad.parquet")
    with pytest.raises(LatentrotError, match="lacks the columns"):
        write_labels(pd.DataFrame({"yaw_deg": [1.0]}), tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


# --- filters --------------------------------------------------------------------------------------------------------

PEOPLE = pd.DataFrame(
    {"Male": [1, 1, -1, -1], "Eyeglasses": [1, -1, 1, -1], "yaw_deg": [-30.0, -5.0, 5.0, 30.0]}, list("abcd")
)


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ("Male == 1", "ab"),
        ("Male == 1 and Eyeglasses == -1", "b"),
        ("Male == 1 or Eyeglasses == -1", "abd"),
        ("not (Male == 1 or Eyeglasses == -1)", "c"),
        ("-10 < yaw_deg <= 5", "bc"),
        ("Male != Eyeglasses", "bc"),
        ("yaw_deg >= 5.0 and not Male == 1 and Eyeglasses > 0", "c"),
    ],
)
def test_filters(where, kept):
    keep = matching(PEOPLE, where)
    assert keep.dtype == bool
    assert "".join(str(name) for name in keep.index[keep.to_numpy()]) == kept


@pytest.mark.parametrize(
    "where",
    [
        "__import__('os').getcwd() == 1", "Male.real == 1", "Male", "1", "Male == 'x'", "Male + 1 == 2", "Male == True",
        "Male in Eyeglasses", "[Male][0] == 1", "(lambda: 1)() == 1", "(Male := 1) == 1", "Male is 1", "", "Male ==",
        "Male == 1; 1", "~Male == 1", "Male == 1 if Male == 1 else Male == 1", "(" * 300,
    ],
)  # fmt: skip
def test_invalid_filters_are_refused(where):
    with pytest.raises(LatentrotError, match="filter"):
        matching(PEOPLE, where)


def test_an_unknown_column_is_named_with_near_ones():
    with pytest.raises(LatentrotError, match=r"no column 'Eyeglass'; did you mean Eyeglasses\?"):
        matching(PEOPLE, "Eyeglass == 1")
    with pytest.raises(LatentrotError, match=r"did you mean Male"):
        matching(PEOPLE, "male == 1")


# --- photographs ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def strangers():
    folder = FaceFolder(shared("celeba"))
    ids = np.array(folder.ids)[held_out(folder.identities.to_numpy())][:300]
    pose = pd.read_csv(folder.root / "pose.csv", index_col="image_id").loc[ids]
    x = torch.from_numpy(folder.read_crops(list(ids), 64)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return x, torch.tensor(pose[["yaw_deg", "pitch_deg"]].to_numpy(np.float32))


@pytest.mark.shared_data
def test_pose_of_held_out_people(strangers):
    x, truth = strangers
    error = (estimate_pose(x)[:, :2] - truth).abs().mean(0)
    assert error[0] <= YAW_BOUND  # always saying 0 gives over 10
    assert error[1] <= PITCH_BOUND
    correlation = np.corrcoef(estimate_pose(x)[:, 0], truth[:, 0])[0, 1]
    assert correlation > 0.9  # in particular: the sign


@pytest.mark.shared_data
def test_pose_is_steady_under_another_crop(strangers):
    x, _ = strangers
    moved = torch.nn.functional.pad(x, (2, 0, 0, 2), mode="replicate")[:, :, 2:, :64]  # two pixels right and up
    zoomed = x[:, :, 3:-3, 3:-3]
    for other in (moved, zoomed):
        assert (estimate_pose(other)[:, 0] - estimate_pose(x)[:, 0]).abs().mean() < 3


@pytest.mark.shared_data
def test_light_of_held_out_yale_people():
    x, truth = yale_crops(shared("yaleb"), slice(-LabelTrainConfig().yale_held_out, None))
    right = estimate_light(x).argmax(1).numpy() == truth
    assert len(right) > 400
    assert right.mean() >= LIGHT_BOUND
    wrong_side = estimate_light(x).argmax(1).numpy() + truth == 2
    assert (wrong_side & (truth != 1)).mean() < 0.02  # left for right or right for left


@pytest.mark.shared_data
def test_light_of_held_out_people_is_independent_of_yaw(strangers):
    x, truth = strangers
    light = estimate_light(x)
    assert abs(np.corrcoef(light[:, 2] - light[:, 0], truth[:, 0])[0, 1]) < 0.4
    share = torch.bincount(light.argmax(1), minlength=3) / len(x)
    assert share.min() > 0.12
    # the face is brighter on the side named, images of heads turned either way alike
    face = x[:, :, 18:50].mean(1)
    lean = face[:, :, 14:32].mean((1, 2)) - face[:, :, 32:50].mean((1, 2))
    for turned in (truth[:, 0] < -5, truth[:, 0].abs() <= 5, truth[:, 0] > 5):
        left, right = (lean[turned & (light.argmax(1) == side)].mean() for side in (0, 2))
        assert left > right
