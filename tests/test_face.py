"""Landmarks and parts: laws of mirror and similarity, training that resumes, and what the bundled networks know."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from latentrot import cli
from latentrot.bundles import PORTRAIT
from latentrot.data.images import read_image
from latentrot.errors import LatentrotError
from latentrot.faces.alignment import align_landmarks
from latentrot.faces.face_networks import LandmarkNetwork, PartsNetwork, load_face_network, save_face_network
from latentrot.faces.landmarks import estimate_landmarks
from latentrot.faces.parts import PARTS, Parts, estimate_parts, without_others
from latentrot.faces.upright import five_of, mirrored
from latentrot.portrait.portrait import open_portrait
from latentrot.training.face import batches
from latentrot.training.face import train as training
from latentrot.training.face.batches import landmark_batch, moved, parts_batch, with_neighbours
from latentrot.training.face.config import FaceTrainConfig
from latentrot.training.face.faces import (
    GROUPS,
    MARGIN,
    POINTS,
    UNKNOWN,
    Faces,
    estimate_marks,
    masked_photographs,
    parts_faces,
    remove_other_people,
)
from latentrot.training.face.losses import joined_parts, landmark_loss, parts_loss
from latentrot.training.face.train import train_face

#: the bundled portrait's face as a detector finds it
FIVE = np.array([[221.7, 160.2], [289.7, 164.8], [254.0, 206.0], [216.2, 222.0], [286.5, 226.8]])


@pytest.fixture(scope="module")
def portrait():
    return read_image(PORTRAIT)


@pytest.fixture(scope="module")
def found(portrait):
    return estimate_landmarks(portrait, FIVE)


# ---- estimating -------------------------------------------------------------------------------------------------


def test_landmarks_lie_where_a_face_has_them(found):
    left_eye, right_eye, nose, left_mouth, right_mouth = five_of(found.points)
    assert np.abs(five_of(found.points) - FIVE)[:2].max() < 6
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_eye[1] < nose[1] < left_mouth[1] < found.points[8, 1]
    assert left_mouth[0] < right_mouth[0]
    assert found.points[0, 0] < found.points[36, 0]
    assert found.points[45, 0] < found.points[16, 0]
    assert 0.005 < found.spread < 0.06


def test_a_mirrored_image_gives_mirrored_landmarks_and_parts(portrait, found):
    width = portrait.shape[1]
    five = mirrored_five(FIVE, width)
    other = estimate_landmarks(np.ascontiguousarray(portrait[:, ::-1]), five)
    assert np.abs(mirrored(other.points, width) - found.points).max() < 0.35
    here = estimate_parts(portrait, found.points)
    there = estimate_parts(np.ascontiguousarray(portrait[:, ::-1]), mirrored(found.points, width))
    assert np.abs(here.probabilities - there.probabilities[:, :, ::-1]).mean() < 0.01


def mirrored_five(five: np.ndarray, width: float) -> np.ndarray:
    flipped = five[[1, 0, 2, 4, 3]].copy()
    flipped[:, 0] = width - flipped[:, 0]
    return flipped


@pytest.mark.parametrize(("scale", "lean"), [(2.0, 0.0), (0.6, 12.0)])
def test_landmarks_move_with_the_photograph(portrait, found, scale, lean):
    angle = np.radians(lean)
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shift = np.array([40.0, 90.0])
    inverse = np.linalg.inv(linear)
    size = round(portrait.shape[1] * scale + 140), round(portrait.shape[0] * scale + 200)
    moved = Image.fromarray(portrait).transform(
        size, Image.Transform.AFFINE, (*inverse[0], -inverse[0] @ shift, *inverse[1], -inverse[1] @ shift),
        Image.Resampling.BICUBIC,
    )  # fmt: skip
    again = estimate_landmarks(np.asarray(moved), FIVE @ linear.T + shift)
    apart = np.linalg.norm(again.points - (found.points @ linear.T + shift), axis=1) / scale
    assert apart.mean() < 1.5


def test_parts_are_named_where_they_are(portrait, found):
    parts = estimate_parts(portrait, found.points)
    assert parts.probabilities.shape == (7, 256, 256)
    assert np.allclose(parts.probabilities.sum(0), 1, atol=1e-3)

    def at(point):
        column, row = (parts.to_region[:, :2] @ point + parts.to_region[:, 2]).astype(int)
        return PARTS[int(parts.probabilities[:, row, column].argmax())]

    assert at(found.points[30]) == "skin"
    assert at(found.points[27] - [0, 95]) == "hair"
    assert at(np.array([30.0, 60.0])) == "background"
    assert 0 <= parts.unseen < 0.2
    larger = estimate_parts(portrait, found.points, 384)
    assert larger.probabilities.shape == (7, 384, 384)
    assert larger.to_region == pytest.approx(parts.to_region * 1.5)


def all_one_person(n: int = 64) -> Parts:
    """A square of 320 photograph pixels in which everything is said to be of one person: hair above, clothes below."""
    p = np.zeros((len(PARTS), n, n), np.float32)
    p[PARTS.index("hair"), : n // 2] = 1
    p[PARTS.index("clothes"), n // 2 :] = 1
    return Parts(p, np.array([[0.2, 0.0, 0.0], [0.0, 0.2, 0.0]]), 0.0)


def five_at(x: float, y: float, eyes: float = 40.0) -> np.ndarray:
    """(5, 2) landmarks of a face whose eyes have their middle at a place of the photograph."""
    return np.array([x, y]) + eyes * np.array([[-0.5, 0], [0.5, 0], [0, 0.6], [-0.4, 1.05], [0.4, 1.05]])


def test_another_face_takes_its_own_head_but_no_clothes():
    parts, own, other = all_one_person(), five_at(80, 100), five_at(230, 100)
    left = without_others(parts, own, [own, other])
    hair, clothes = (left.probabilities[PARTS.index(name)] for name in ("hair", "clothes"))
    assert np.array_equal(clothes, parts.probabilities[PARTS.index("clothes")])
    assert hair[20, 16] == 1  # between the own eyes
    assert hair[20, 46] == 0  # between the other's
    assert hair[20, 26] == 1  # nearer to the own, but not by much
    assert left.probabilities.sum(0) == pytest.approx(1.0)
    back = without_others(parts, other, [own, other]).probabilities[PARTS.index("hair")]
    assert back[20, 16] == 0
    assert not ((hair < 0.5) & (back < 0.5))[:32, :].any()  # nothing above is nobody's


@pytest.mark.parametrize(
    "others", [[], [five_at(80, 100)], [five_at(230, 100, 12.0)]], ids=["none", "own", "far behind"]
)
def test_a_single_face_keeps_all_parts(others):
    parts = all_one_person()
    assert without_others(parts, five_at(81, 101), others) is parts


def test_all_faces_are_found_along_with_the_chosen_one(tmp_path, portrait):
    Image.fromarray(np.hstack([portrait, portrait])).save(tmp_path / "two.png")
    found = open_portrait(tmp_path / "two.png")
    assert len(found.alignments) == 1
    assert len(found.faces) == 2


# ---- files ------------------------------------------------------------------------------------------------------


def test_networks_come_back_and_wrong_files_are_refused(tmp_path):
    torch.manual_seed(0)
    network = LandmarkNetwork().eval()
    save_face_network(network, tmp_path / "a.safetensors", {"held_out": {}})
    again = load_face_network(LandmarkNetwork, tmp_path / "a.safetensors")
    x = torch.rand(1, 3, 128, 128) * 2 - 1
    assert (again(x)[0] - network(x)[0]).abs().max() < 0.02
    with pytest.raises(LatentrotError, match="latentrot landmarks"):
        load_face_network(PartsNetwork, tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes(b"no")
    with pytest.raises(LatentrotError, match="train landmarks"):
        load_face_network(PartsNetwork, tmp_path / "b.safetensors")


def test_both_bundled_networks_take_at_most_six_megabytes():
    folder = PORTRAIT.parent / "face"
    assert sum(p.stat().st_size for p in folder.glob("*.safetensors")) <= 6e6
    assert (folder / "README.md").is_file()


# ---- training ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planted():
    """Squares with a bright spot; all 68 landmarks lie on it."""
    rng = np.random.default_rng(0)
    n, size = 40, 173
    centre = rng.uniform(60, 113, (n, 2)).astype(np.float32)
    rows, columns = np.mgrid[:size, :size]
    spots = np.exp(-((columns - centre[:, 0, None, None]) ** 2 + (rows - centre[:, 1, None, None]) ** 2) / 200)
    pictures = np.repeat((40 + 180 * spots)[..., None], 3, -1).astype(np.uint8)
    targets = np.repeat(centre[:, None], 68, 1) + 0.5
    names = np.array([f"p{i}" for i in range(n)])
    tests = np.arange(n) >= 32
    return Faces(pictures, targets, np.full(n, "spots"), np.ones(n), tests, names)


TINY = FaceTrainConfig(steps=6, batch_size=8, warmup=1, ema=0.5)


def test_a_resumed_run_is_the_undisturbed_one(planted, tmp_path):
    whole = train_face("landmarks", planted, tmp_path / "whole", TINY, save_every=6)

    class Stop(Exception):
        pass

    kept, saved = training.save_face_network, []

    def stop(*args):
        kept(*args)
        saved.append(1)
        raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "save_face_network", stop)
        with pytest.raises(Stop):
            train_face("landmarks", planted, tmp_path / "halves", TINY, save_every=3)
    halves = train_face("landmarks", planted, tmp_path / "halves", TINY, save_every=6)
    assert saved
    first, second = load_file(whole), load_file(halves)
    assert {k for k in first if not torch.equal(first[k], second[k])} == set()
    with pytest.raises(LatentrotError, match=r"batch_size=8.* this run has 9"):
        train_face("landmarks", planted, tmp_path / "halves", replace(TINY, batch_size=9))
    others = replace(planted, images=planted.images[::-1].copy())
    with pytest.raises(LatentrotError, match="32 images of the given folders, but this run has 32 different images"):
        train_face("landmarks", others, tmp_path / "halves", TINY)


def test_targets_move_with_the_squares_they_belong_to(planted):
    x, points = landmark_batch(planted, 3, FaceTrainConfig(batch_size=16))
    grey = x.mean(1)
    place = torch.linspace(-1, 1, x.shape[-1])
    weight = (grey - grey.amin((1, 2), keepdim=True)).square() ** 2
    weight = weight / weight.sum((1, 2), keepdim=True)
    column, row = (weight.sum(1) * place).sum(1), (weight.sum(2) * place).sum(1)
    apart = torch.stack([column - points[:, 0, 0], row - points[:, 0, 1]], 1).norm(dim=1)
    assert apart.median() < 0.12


def test_the_loss_rewards_calibrated_confidence():
    wanted = torch.zeros(1, 68, 2)
    sure, unsure = torch.full((1, 68), -4.0), torch.full((1, 68), -1.0)
    assert landmark_loss(wanted + 0.01, sure, wanted) < landmark_loss(wanted + 0.01, unsure, wanted)
    assert landmark_loss(wanted + 0.5, sure, wanted) > landmark_loss(wanted + 0.5, unsure, wanted)


def test_merged_labels_do_not_affect_the_loss():
    torch.manual_seed(0)
    logits = torch.zeros(1, 7, 4, 4)
    wanted = torch.full((1, 4, 4), 1)
    skin, neck = logits.clone(), logits.clone()
    skin[:, 1] = 9
    neck[:, 4] = 9
    lfw, celebamask = (joined_parts(name)[None] for name in ("lfw", "celebamask"))
    assert parts_loss(skin, wanted, lfw) == pytest.approx(float(parts_loss(neck, wanted, lfw)), abs=1e-5)
    assert parts_loss(neck, wanted, celebamask) > parts_loss(skin, wanted, celebamask) + 5
    assert parts_loss(neck, torch.full((1, 4, 4), UNKNOWN), celebamask) == 0
    for groups in GROUPS.values():
        flat = [c for group in groups for c in group]
        assert len(flat) == len(set(flat))
        assert set(flat) <= set(range(len(PARTS)))


def some_parts() -> Faces:
    """Four squares whose right half is bright hair; the last is held out."""
    masks = np.zeros((4, 346, 346), np.uint8)
    masks[:, :, 173:] = 2
    pictures = np.where(masks[..., None] == 2, 230, 20).astype(np.uint8).repeat(3, -1)
    return Faces(pictures, masks, np.full(4, "lfw"), np.ones(4), np.arange(4) == 3, np.arange(4).astype(str))


def head_at(column: int, size: int = 346) -> np.ndarray:
    """(size, size) parts of a head in hair with a neck, on nothing."""
    parts = np.zeros((size, size), np.uint8)
    rows, columns = np.ogrid[:size, :size]
    parts[((rows - 165) / 62) ** 2 + ((columns - column) / 50) ** 2 < 1] = 2
    parts[(abs(rows - 240) < 40) & (abs(columns - column) < 22)] = 4
    parts[((rows - 185) / 50) ** 2 + ((columns - column) / 38) ** 2 < 1] = 1
    return parts


def test_other_people_in_a_teachers_mask_are_background():
    """The one in the middle stays as it is, touched or not by another; so does background."""
    own = head_at(173)
    assert np.array_equal(remove_other_people(own), own)
    for column in (275, 300, 60):
        both = np.where(own > 0, own, head_at(column))
        seen = remove_other_people(both)
        assert np.array_equal(seen[:, 130:216], own[:, 130:216])
        assert (seen[both == 0] == 0).all()
        theirs = (head_at(column) > 0) & (own == 0)
        assert np.isin(seen[theirs], (0, UNKNOWN)).mean() > 0.9
        assert (seen[(head_at(column) == 1) & (own == 0)] == 0).all()
    far = own.copy()
    far[300:340, 5:60] = 5  # somebody's shoulder
    assert (remove_other_people(far)[far == 5] == UNKNOWN).all()


def test_glasses_do_not_make_a_forehead_another_face():
    own = head_at(173)
    own[172:186] = np.where(own[172:186] > 0, 6, 0)  # from side to side
    assert np.array_equal(remove_other_people(own), own)
    own[187:190, 100:250] = np.where(own[187:190, 100:250] > 0, UNKNOWN, 0)  # where the teacher is not sure
    assert np.array_equal(remove_other_people(own), own)


def test_a_mask_without_a_central_face_is_ignored():
    assert (remove_other_people(head_at(40)) == UNKNOWN).all()


def test_a_teachers_masks_join_those_made_by_hand(tmp_path, found):
    """They lie at the photographs' paths, squeezed to a square; the same people are held out."""
    with Image.open(PORTRAIT) as file:
        picture = file.convert("RGB")
    for folder in ("parts/lfw", "lfw/Some_Body", "masks/lfw/Some_Body"):
        (tmp_path / folder).mkdir(parents=True)
    for name in (
        "parts/lfw/Some_Body_0001.jpg",
        "lfw/Some_Body/Some_Body_0001.jpg",
        "lfw/Some_Body/Some_Body_0002.jpg",
    ):
        picture.save(tmp_path / name)
    by_hand = np.zeros(picture.size[::-1], np.uint8)
    by_hand[100:300, 180:320] = 1
    Image.fromarray(by_hand).save(tmp_path / "parts" / "lfw" / "mask.png")
    Image.fromarray(by_hand).resize((256, 256), 0).save(tmp_path / "masks" / "lfw" / "Some_Body" / "Some_Body_0002.png")
    pairs = {"image": ["lfw/Some_Body_0001.jpg"], "mask": ["lfw/mask.png"], "set": ["lfw"]}
    pd.DataFrame(pairs).to_csv(tmp_path / "parts" / "pairs.csv", index=False)
    table = masked_photographs(tmp_path, tmp_path / "masks")
    assert list(table["image"]) == ["parts/lfw/Some_Body_0001.jpg", "lfw/Some_Body/Some_Body_0002.jpg"]
    assert list(table["set"]) == ["lfw", "taught"]
    assert set(table["person"]) == {"Some_Body"}
    assert len(masked_photographs(tmp_path, None)) == 1
    rows = [[name, 0.0, *found.points.flatten()] for name in table["image"]]
    marks = pd.DataFrame(rows, columns=["image", "disagreement", *POINTS])
    faces = parts_faces(tmp_path, marks, tmp_path / "masks", 0.1)
    assert faces.tests[0] == faces.tests[1]
    assert np.array_equal(faces.images[0], faces.images[1])
    differ = faces.targets[0] != faces.targets[1]
    assert differ.mean() < 0.02  # a squeezed mask's edge
    centre = faces.targets.shape[1] // 2
    assert faces.targets[1, centre, centre] == 1
    assert faces.images.shape[1] == round(256 * MARGIN)


def test_masks_move_with_their_squares(monkeypatch):
    monkeypatch.setattr(batches, "NEIGHBOURS", 0.0)
    x, y, sets = parts_batch(some_parts(), 1, FaceTrainConfig(batch_size=4))
    assert list(sets) == ["lfw"] * 4
    bright = x.mean(1) > x.mean((1, 2, 3))[:, None, None]
    known = y != UNKNOWN
    assert ((bright == (y == 2)) & known).sum() / known.sum() > 0.85


def test_a_neighbour_stands_behind_and_stays_background():
    """What is pasted is another's head, only where the own image has background, and the answer does not change."""
    x, y = torch.zeros(40, 3, 64, 64), torch.zeros(40, 64, 64, dtype=torch.long)
    y[:, 12:, 22:42] = 2
    x += torch.arange(40)[:, None, None, None] + 1
    x[:, :, :12] = -1  # nobody's head
    before = y.clone()
    seen = with_neighbours(x, y, torch.Generator().manual_seed(0))
    changed = (seen != x).any(1)
    assert 0.1 < changed.flatten(1).any(1).float().mean() < 0.6
    assert not (changed & (y == 2)).any()
    assert torch.equal(y, before)
    others = x.roll(1, 0)[:, :, 20:21, 30:31].expand_as(x)
    assert torch.equal(seen[:, 0][changed], others[:, 0][changed])


def test_warping_and_unwarping_preserves_the_inside():
    x = torch.arange(3 * 8 * 8).reshape(3, 8, 8).float()
    for shift in ((2, 3), (-2, 3), (0, -4)):
        back = moved(moved(x, shift), (-shift[0], -shift[1]))
        assert ((back == x) | (back == 0)).all()
        assert (back == x).sum() >= 3 * (8 - abs(shift[0])) * (8 - abs(shift[1]))


def test_photographs_are_marked_by_the_bundled_network(tmp_path, found):
    """Those without a face are left out."""
    with Image.open(PORTRAIT) as file:
        file.save(tmp_path / "a.png")
    Image.new("RGB", (90, 90)).save(tmp_path / "b.png")
    table = estimate_marks(tmp_path, ["a.png", "b.png"])
    assert list(table["image"]) == ["a.png"]
    points = table.drop(columns=["image", "disagreement"]).to_numpy(float).reshape(68, 2)
    assert np.abs(points - found.points).max() < 3


def test_a_run_begins_with_the_network_it_is_given(tmp_path):
    """At a learning rate of nothing the network stays what it was."""
    faces = some_parts()
    config = FaceTrainConfig(steps=1, batch_size=2, learning_rate=0.0)
    first = train_face("parts", faces, tmp_path / "first", config)
    second = train_face("parts", faces, tmp_path / "second", replace(config, seed=3, init=str(first)))
    a, b = load_file(first), load_file(second)
    assert all(torch.equal(a[k], b[k]) for k in a if "running" not in k and "batches" not in k)


@pytest.mark.parametrize(
    ("table", "words"),
    [("none.parquet", "cannot read the teacher's table"), ("short.csv", "lacks the columns")],
)
def test_bad_tables_are_one_line(table, words, tmp_path, capsys):
    pd.DataFrame({"image": ["a.jpg"]}).to_csv(tmp_path / "short.csv", index=False)
    code = cli.main(
        [
            "train",
            "landmarks",
            "--data",
            str(tmp_path),
            "--teacher",
            str(tmp_path / table),
            "--out",
            str(tmp_path / "o"),
        ]
    )
    err = capsys.readouterr().err
    assert code == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_a_start_that_is_no_network_is_refused_before_anything_is_read(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "parts", "--data", "nowhere", "--out", "o", "--init", "no-such.safetensors"]) == 2
    assert "no network in no-such.safetensors" in capsys.readouterr().err
    assert not Path("o").exists()


@pytest.mark.shared_data
def test_annotated_landmarks_are_met_within_a_twentieth():
    data = Path(__file__).parents[2] / "shared" / "data" / "ytf"
    if not data.is_dir():
        pytest.skip("needs ../shared/data")
    from latentrot.data.celeba import held_out  # noqa: PLC0415

    marks = pd.read_csv(data / "landmarks68.csv").set_index("image_id")
    people = pd.read_csv(data / "identity_CelebA.csv", dtype=str).set_index("image_id")["identity"]
    names = people.index[held_out(people.to_numpy())][::8]
    errors = []
    for name in names:
        wanted = marks.loc[name].to_numpy(float).reshape(68, 2)
        picture = read_image(data / "img_align_celeba" / name)
        size = (picture.shape[1], picture.shape[0])
        points = estimate_landmarks(picture, align_landmarks(five_of(wanted), size)).points
        errors.append(np.linalg.norm(points - wanted, axis=1).mean() / np.linalg.norm(wanted[45] - wanted[36]))
    assert np.mean(errors) < 0.055
