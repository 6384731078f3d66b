"""Light by hand and by model: answers that survive a kill, agreement, propagation, tables, and the page in a browser."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from latentrot.cli import main
from latentrot.data.celeba import FaceFolder
from latentrot.errors import LatentrotError
from latentrot.faces.light.agreement import agreed, disputed, fleiss_kappa, light_counts, pair_agreements, votes
from latentrot.faces.light.answers import UNDO, Answer, AnswerFile, read_answers, standing, to_same_images
from latentrot.faces.light.page import BUTTONS, serve_label_page
from latentrot.faces.light.propagate import (
    UNLABELLED,
    LightFeatures,
    folder_features,
    held_out_agreement,
    light_features,
    margin,
    propagate,
)
from latentrot.faces.light.session import LabelSession, SessionConfig, fit_light
from latentrot.faces.light.tables import light_table, read_light_labels, with_light, write_light_table
from latentrot.faces.network import LIGHTS, load_labeler
from latentrot.faces.table import label_folder, read_labels

TIME = "2026-01-02T03:04:05+00:00"
HEADER = "image_id,light,annotator,time,digest\n"
SHORT_HEADER = "image_id,light,annotator,time\n"
DIGEST = "x0123456789abcdef"


def answers_of(rows):
    """ "a.png left ann" ... -> the answers."""
    return [Answer(*row.split(), TIME) for row in rows]


def planted(n=120, seed=0):
    """Features in which the light is one direction, odd under mirroring, beside others that say nothing."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, n)
    odd = 3.0 * (truth - 1) + rng.normal(0, 0.4, n)
    noise = rng.normal(0, 1, (n, 2))
    plain, mirrored = (np.column_stack([sign * odd, np.abs(odd), noise]) for sign in (1, -1))
    return LightFeatures([f"{i:03}.png" for i in range(n)], plain, mirrored, np.full((n, 3), 1 / 3)), truth


def synthetic_face(side, rng, size=64):
    """An oval lit from the left (side 0), the middle (1) or the right (2): (size, size, 3) uint8."""
    down, across = np.mgrid[0:size, 0:size] / (size - 1) * 2 - 1
    shade = np.clip(0.6 + 0.45 * (1 - side) * -across + rng.normal(0, 0.03), 0.05, 1)
    face = (across / 0.65) ** 2 + (down / 0.85) ** 2 < 1
    picture = np.where(face[..., None], shade[..., None] * np.array([225, 180, 150]), 60) + rng.normal(
        0, 3, (size, size, 3)
    )
    return np.clip(picture, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(1)
    for i in range(30):
        Image.fromarray(synthetic_face(i % 3, rng)).save(folder / f"{i:02}.png")
    return folder


# --- answers --------------------------------------------------------------------------------------------------------


def test_every_answer_is_kept_and_an_undo_is_one_more_row(tmp_path):
    file = AnswerFile(tmp_path / "new" / "answers.csv")
    file.append("a.png", "left", "ann")
    file.append('odd, "name".png', "unsure", "ann")
    file.append("a.png", UNDO, "ann")
    assert file.path.read_text().startswith(HEADER)
    assert [a[:3] for a in file.read()] == [
        ("a.png", "left", "ann"), ('odd, "name".png', "unsure", "ann"), ("a.png", "undo", "ann")
    ]  # fmt: skip
    assert standing(file.read()) == {('odd, "name".png', "ann"): "unsure"}
    assert AnswerFile(file.path).read() == file.read()  # opening an old file changes nothing


def test_an_undo_brings_back_what_that_person_said_before():
    rows = ["a left ann", "a right bob", "a right ann", "b center ann", "a undo ann"]
    assert standing(answers_of(rows)) == {("a", "bob"): "right", ("b", "ann"): "center", ("a", "ann"): "left"}
    assert standing(answers_of([*rows, "a undo ann", "a undo ann"])) == {("a", "bob"): "right", ("b", "ann"): "center"}


@pytest.mark.parametrize(
    "torn",
    [
        "b.png,le",
        f"b.png,left,ann,{TIME},x0123",
        "b.png,left,an",
        "b.png,left,ann,",
        "b.png,left,ann,2026-01-0",
        'b"',
        "é",
    ],
)
def test_a_truncated_last_line_is_ignored(tmp_path, torn, caplog):
    path = tmp_path / "answers.csv"
    path.write_text(f"{HEADER}a.png,left,ann,{TIME}\n{torn}", encoding="utf-8")
    assert [a.image_id for a in read_answers(path)] == ["a.png"]
    assert "truncated" in caplog.text
    AnswerFile(path).append("c.png", "right", "ann")
    assert [a.image_id for a in read_answers(path)] == ["a.png", "c.png"]


def test_a_truncated_character_is_ignored(tmp_path):
    path = tmp_path / "answers.csv"
    path.write_bytes(f"{HEADER}a.png,left,ann,{TIME}\n".encode() + "é".encode()[:1])
    AnswerFile(path).append("c.png", "right", "ann")
    assert [a.image_id for a in read_answers(path)] == ["a.png", "c.png"]


def test_answers_without_digests_stay_without(tmp_path):
    path = tmp_path / "answers.csv"
    path.write_text(f"{SHORT_HEADER}a.png,left,ann,{TIME}\n")
    AnswerFile(path).append("c.png", "right", "ann", DIGEST)
    assert [(a.image_id, a.digest) for a in read_answers(path)] == [("a.png", ""), ("c.png", "")]
    assert path.read_text().startswith(SHORT_HEADER)


def test_answers_about_other_images_do_not_count(tmp_path, caplog):
    """The same name is not enough; a folder of other images is refused."""
    file = AnswerFile(tmp_path / "answers.csv")
    for name in ("a.png", "b.png", "c.png"):
        file.append(name, "left", "ann", DIGEST)
    now = dict.fromkeys(("a.png", "b.png", "c.png"), DIGEST) | {"b.png": DIGEST[::-1]}
    assert [a.image_id for a in to_same_images(file.read(), now)] == ["a.png", "c.png"]
    assert "left out: b.png" in caplog.text
    with pytest.raises(
        LatentrotError, match=r"other images than the folder.*3 of 3 have the same names but other content: a\.png"
    ):
        to_same_images(file.read(), dict.fromkeys(now, "xfedcba9876543210"))


def test_lights_of_other_images_do_not_replace_the_networks(faces, tmp_path, caplog):
    folder = FaceFolder(faces)
    features = folder_features(folder)
    labels = label_folder(folder)
    table = light_table(features.ids, features.network, {features.ids[0]: "right"}, features.digests)
    write_light_table(table, tmp_path / "light.csv")
    lights = read_light_labels(tmp_path / "light.csv")
    assert with_light(labels, lights)["light"].iloc[0] == "right"
    lights.loc[features.ids[0], "digest"] = DIGEST
    assert with_light(labels, lights)["light"].iloc[0] == labels["light"].iloc[0]
    assert "keep the network's light: 00.png" in caplog.text
    with pytest.raises(LatentrotError, match="the lights belong to other images"):
        with_light(labels, lights.assign(digest=DIGEST))


def test_a_file_written_by_hand_needs_no_last_line_end(tmp_path):
    path = tmp_path / "answers.csv"
    path.write_text(f"{HEADER}a.png,left,ann,{TIME}", newline="")
    AnswerFile(path).append("c.png", "right", "ann")
    assert [a.image_id for a in read_answers(path)] == ["a.png", "c.png"]
    (tmp_path / "windows.csv").write_bytes(f"{HEADER}a.png,left,ann,{TIME}\n".replace("\n", "\r\n").encode())
    assert len(read_answers(tmp_path / "windows.csv")) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (f"{HEADER}a.png,above,ann,{TIME}\n", "line 2: light 'above'; expected left, center, right, unsure or undo"),
        (f"{HEADER}a.png,left,ann,{TIME}\nb.png,left\n", "line 3: .* has 2 fields"),
        (f"{HEADER}a.png,left,,{TIME}\n", "names no annotator"),
        (f"{HEADER}a.png,left,ann,{TIME},12\n", "digest '12'; expected x and 16 hexadecimal digits"),
        (f"{HEADER}a.png,left,ann,noon\n", "time 'noon'; expected ISO 8601"),
        ("file,side\n", "starts with 'file,side'; expected 'image_id,light,annotator,time,digest'"),
        ("", "starts with ''"),
    ],
)
def test_unfit_answers_are_refused_with_the_line(tmp_path, content, words):
    path = tmp_path / "answers.csv"
    path.write_text(content)
    with pytest.raises(LatentrotError, match=words):
        read_answers(path)


def test_unknown_lights_and_names_are_not_kept(tmp_path):
    file = AnswerFile(tmp_path / "answers.csv")
    for light, name, words in [("above", "ann", "above"), ("left", "  ", "annotator"), ("left", "a\nb", "annotator")]:
        with pytest.raises(LatentrotError, match=words):
            file.append("a.png", light, name)
    assert file.path.read_text() == HEADER
    with pytest.raises(LatentrotError, match="label light"):
        read_answers(tmp_path / "none.csv")


# --- agreement ------------------------------------------------------------------------------------------------------


def test_fleiss_kappa_of_the_published_example():
    counts = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1], [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    assert fleiss_kappa(np.array(counts)) == pytest.approx(0.210, abs=5e-4)
    assert fleiss_kappa(np.array([[3, 0], [0, 3]])) == 1
    assert fleiss_kappa(np.array([[1, 1], [1, 1]])) == -1
    assert np.isnan(fleiss_kappa(np.array([[2, 0], [2, 0]])))
    assert np.isnan(fleiss_kappa(np.array([[1, 0]])))


def test_agreement_and_disputes():
    rows = [
        "a left x",
        "b left x",
        "c center x",
        "d right x",
        "e unsure x",
        "a left y",
        "b center y",
        "c center y",
        "e left y",
    ]
    table = votes(standing(answers_of(rows)))
    (pair,) = pair_agreements(table)
    # alike 2/3; by chance 2/3 * 1/3 (left) + 1/3 * 2/3 (center) = 4/9
    assert (pair.first, pair.second, pair.images, pair.alike) == ("x", "y", 3, pytest.approx(2 / 3))
    assert pair.kappa == pytest.approx((2 / 3 - 4 / 9) / (1 - 4 / 9))
    assert light_counts(table).tolist() == [[2, 0, 0], [1, 1, 0], [0, 2, 0]]
    assert list(disputed(table).index) == ["b"]
    assert agreed(table).to_dict() == {"a": "left", "c": "center", "d": "right", "e": "left"}


def test_agreement_of_none_or_one_annotator():
    empty = votes({})
    assert len(agreed(empty)) == len(disputed(empty)) == len(pair_agreements(empty)) == len(light_counts(empty)) == 0
    assert np.isnan(fleiss_kappa(light_counts(empty)))
    (pair,) = pair_agreements(votes(standing(answers_of(["a left x", "a left y"]))))
    assert (pair.alike, np.isnan(pair.kappa)) == (1, True)


# --- propagation ----------------------------------------------------------------------------------------------------


def test_features_of_a_mirrored_image_are_the_mirrored_features(faces):
    features = folder_features(FaceFolder(faces), batch_size=7, progress=False)
    crops = np.stack([np.asarray(Image.open(faces / i))[:, ::-1] for i in features.ids])
    x = torch.from_numpy(crops.copy()).permute(0, 3, 1, 2).float() / 127.5 - 1
    np.testing.assert_allclose(light_features(x), features.mirrored, atol=1e-4)
    np.testing.assert_allclose(light_features(x.flip(-1)), features.plain, atol=1e-4)
    assert np.abs(features.plain - features.mirrored).max() > 0.1


def test_the_features_are_those_of_the_network(faces):
    net = load_labeler()
    x = torch.rand(3, 3, 64, 64) * 2 - 1
    torch.testing.assert_close(net.light_head[-1](torch.from_numpy(light_features(x))), net.light(x))


def test_planted_clusters_are_recovered_from_a_few_seeds():
    features, truth = planted()
    seeds = np.full(len(truth), UNLABELLED)
    for side in (0, 1):  # nobody labelled an image lit from the right: the mirror tells
        seeds[np.flatnonzero(truth == side)[:5]] = side
    found = propagate(features, seeds)
    np.testing.assert_allclose(found.sum(1), 1)
    assert (found.argmax(1) == truth).mean() > 0.97
    assert np.corrcoef(margin(found), np.abs(np.abs(features.plain[:, 0]) - 1.5))[0, 1] > 0.2  # doubt lies between


def test_mirroring_every_image_swaps_left_and_right():
    features, truth = planted()
    seeds = np.where(np.arange(len(truth)) < 12, truth, UNLABELLED)
    swapped = np.where(seeds == UNLABELLED, UNLABELLED, 2 - seeds)
    other = LightFeatures(features.ids, features.mirrored, features.plain, features.network)
    np.testing.assert_allclose(propagate(other, swapped), propagate(features, seeds)[:, ::-1], atol=2e-3)
    twice = [(features.plain, features.mirrored), (features.mirrored, features.plain), [features.network] * 2]
    both = LightFeatures(features.ids * 2, *(np.concatenate(pair) for pair in twice))
    found = propagate(both, np.concatenate([seeds, np.full(len(seeds), UNLABELLED)]))
    np.testing.assert_allclose(found[len(seeds) :], found[: len(seeds), ::-1], atol=1e-9)


@pytest.mark.parametrize("only", [[1], [0, 2], []])
def test_seeds_of_one_class_are_refused(only):
    features, truth = planted()
    seeds = np.where(np.isin(truth, only), truth, UNLABELLED)
    with pytest.raises(LatentrotError, match="at least one center and one left or right"):
        propagate(features, seeds)


def test_agreement_with_held_out_seeds():
    features, truth = planted()
    seeds, people = np.where(np.arange(120) < 40, truth, UNLABELLED), np.arange(120) // 2
    assert held_out_agreement(features, seeds, people) > 0.95
    shuffled = np.where(seeds == UNLABELLED, UNLABELLED, np.random.default_rng(0).permutation(truth))
    assert held_out_agreement(features, shuffled, people) < 0.7
    assert np.isnan(held_out_agreement(features, seeds, np.zeros(120)))


# --- sessions -------------------------------------------------------------------------------------------------------


def session(path, count=30, **config):
    features, truth = planted(count)
    return LabelSession(AnswerFile(path), features, SessionConfig(**config)), dict(
        zip(features.ids, truth, strict=True)
    )


def answer_truly(asked, truth, annotator, number):
    """Answer so many images rightly; returns their names."""
    names = []
    for _ in range(number):
        names.append(asked.current(annotator))
        assert asked.answer(annotator, names[-1], LIGHTS[truth[names[-1]]])
    return names


def test_a_session_goes_on_where_the_file_ends(tmp_path):
    first, truth = session(tmp_path / "a.csv", batch=4)
    done = answer_truly(first, truth, "ann", 6)
    again, _ = session(tmp_path / "a.csv", batch=4)
    assert again.progress("ann").answered == 6
    done += answer_truly(again, truth, "ann", 24)
    assert len(set(done)) == 30
    assert again.current("ann") is None
    assert again.progress("ann").fits == 6
    assert len(read_answers(tmp_path / "a.csv")) == 30


def test_a_key_pressed_twice_answers_one_image(tmp_path):
    asked, _ = session(tmp_path / "a.csv")
    shown = asked.current("ann")
    assert asked.answer("ann", shown, "left")
    assert not asked.answer("ann", shown, "left")
    assert len(read_answers(tmp_path / "a.csv")) == 1
    with pytest.raises(LatentrotError, match="above"):
        asked.answer("ann", asked.current("ann"), "above")


def test_undo_repeats_ones_own_last_question(tmp_path):
    asked, truth = session(tmp_path / "a.csv", batch=2, again=0)
    one, two = answer_truly(asked, truth, "ann", 2)
    (other,) = answer_truly(asked, truth, "bob", 1)
    assert [asked.undo("ann"), asked.current("ann")] == [two, two]
    assert [asked.undo("ann"), asked.current("ann")] == [one, one]
    assert asked.undo("ann") is None
    assert list(asked.said) == [(other, "bob")]
    assert answer_truly(asked, truth, "ann", 2) == [one, two]
    assert [r.light for r in read_answers(tmp_path / "a.csv")].count(UNDO) == 2


def test_two_people_share_the_work_and_some_images(tmp_path):
    asked, truth = session(tmp_path / "a.csv", batch=10, again=0.3)
    ann = answer_truly(asked, truth, "ann", 10)
    bob = answer_truly(asked, truth, "bob", 10)
    assert len(set(ann) & set(bob)) == 3
    only, _ = session(tmp_path / "a.csv", batch=10, again=1)
    assert set(answer_truly(only, truth, "cleo", 10)) <= set(ann) | set(bob)


def test_rounds_end(tmp_path):
    asked, truth = session(tmp_path / "a.csv", batch=3, rounds=2)
    answer_truly(asked, truth, "ann", 6)
    assert asked.current("ann") is None
    assert asked.current("bob") is not None
    for bad in ({"batch": 0}, {"rounds": 0}, {"again": 1.5}):
        with pytest.raises(LatentrotError, match=next(iter(bad))):
            SessionConfig(**bad)


def test_the_most_doubtful_images_are_asked_and_answers_improve_the_fit(tmp_path):
    asked, truth = session(tmp_path / "a.csv", count=120, batch=12)
    answer_truly(asked, truth, "ann", 12)
    assert asked.fit.learned
    doubt = dict(zip(asked.features.ids, margin(asked.fit.probabilities), strict=True))
    done = {i for i, _ in asked.said}
    next_batch = answer_truly(asked, truth, "ann", 11)
    assert max(doubt[i] for i in next_batch) <= sorted(doubt[i] for i in doubt if i not in done)[11]
    table = asked.fit.table(asked.features)
    assert (table["light"] == [LIGHTS[truth[i]] for i in table.index]).mean() > 0.95


def test_disputed_images_are_no_seeds():
    features, _ = planted(4)
    rows = ["000.png left x", "000.png right y", "001.png left x", "002.png center x", "003.png unsure x"]
    fit = fit_light(features, standing(answers_of(rows)))
    assert fit.seeds.tolist() == [UNLABELLED, 0, 1, UNLABELLED]
    assert fit.table(features)["source"].tolist() == ["model", "hand", "hand", "model"]


def test_many_threads_lose_nothing(tmp_path):
    asked, truth = session(tmp_path / "a.csv", count=40, batch=5, again=0.5)
    threads = [threading.Thread(target=answer_truly, args=(asked, truth, f"p{k}", 12)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(standing(read_answers(tmp_path / "a.csv"))) == 48


# --- tables ---------------------------------------------------------------------------------------------------------


def test_light_table_round_trip(tmp_path):
    table = light_table(["a", "b"], np.array([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4]]), {"b": "right"})
    write_light_table(table, tmp_path / "light.csv")
    assert (tmp_path / "light.csv").read_text() == (
        "image_id,light,confidence,source\na,left,0.7,model\nb,right,1.0,hand\n"
    )
    pd.testing.assert_frame_equal(
        read_light_labels(tmp_path / "light.csv"), table[["light", "confidence"]], check_dtype=False
    )
    with pytest.raises(LatentrotError, match=r"\.csv"):
        write_light_table(table, tmp_path / "light.txt")


def test_tables_of_other_formats(tmp_path):
    path = tmp_path / "theirs.csv"
    path.write_text("file,side,p\na.jpg,L,0.9\nb.jpg,F,0.5\nc.jpg,?,0.4\nd.jpg,,0.4\ne.jpg,right,0.6\n")
    columns = {"image_id": "file", "light": "side", "confidence": "p"}
    table = read_light_labels(path, columns=columns, values={"L": "left", "F": "center", "?": None})
    assert table["light"].to_dict() == {"a.jpg": "left", "b.jpg": "center", "e.jpg": "right"}
    assert table["confidence"].tolist() == [0.9, 0.5, 0.6]
    table.reset_index().to_parquet(tmp_path / "t.parquet", index=False)
    assert list(read_light_labels(tmp_path / "t.parquet", image_ids=["b.jpg", "z.jpg"]).index) == ["b.jpg"]
    with pytest.raises(LatentrotError, match=r"no column image_id, light; it has file, side, p"):
        read_light_labels(path)
    with pytest.raises(LatentrotError, match=r"contains the lights '\?', 'F', 'L'; expected left, center, right"):
        read_light_labels(path, columns=columns)
    with pytest.raises(LatentrotError, match="columns side: expected"):
        read_light_labels(path, columns={"side": "light"})
    path.write_text("image_id,light\na,left\na,right\n")
    with pytest.raises(LatentrotError, match="1 images twice, such as a"):
        read_light_labels(path)
    with pytest.raises(LatentrotError, match="no lights at"):
        read_light_labels(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("array", "options", "light", "confidence"),
    [
        ([2, 0, 1], {}, ["right", "left", "center"], [1, 1, 1]),
        ([2, 0, 1], {"order": ("right", "center", "left")}, ["left", "right", "center"], [1, 1, 1]),
        ([-1, 0, 1], {"values": {-1: "left", 0: "center", 1: "right"}}, ["left", "center", "right"], [1, 1, 1]),
        (["left", "right", "center"], {}, ["left", "right", "center"], [1, 1, 1]),
        ([[1, 0, 3], [0, 2, 0], [0.6, 0.2, 0.2]], {}, ["right", "center", "left"], [0.75, 1, 0.6]),
        ([[1.0, 0, 3]] * 3, {"order": ("center", "left", "right")}, ["right"] * 3, [0.75] * 3),
    ],
)
def test_arrays(tmp_path, array, options, light, confidence):
    np.save(tmp_path / "l.npy", np.array(array))
    table = read_light_labels(tmp_path / "l.npy", image_ids=list("abc"), **options)
    assert table["light"].to_dict() == dict(zip("abc", light, strict=True))
    assert table["confidence"].tolist() == pytest.approx(confidence)


def test_unfit_arrays_are_refused(tmp_path):
    path = tmp_path / "l.npy"
    for array, ids, words in [
        (np.zeros(3, int), None, "shape .3,., but 0 image_ids"),
        (np.zeros(3, int), list("ab"), "2 image_ids were given"),
        (np.zeros((3, 2)), list("abc"), r"expected \(n,\) or \(n, 3\)"),
        (np.array([0, 1, 7]), list("abc"), "contains the lights 7"),
        (np.array([[0.1, 0.9, 0], [np.nan, 0, 1], [1, 0, 0]]), list("abc"), "row 1: .*scores from 0 up"),
        (np.zeros((3, 3)), list("abc"), "row 0"),
        (np.array(["left", None, 1], object), list("abc"), "cannot read the lights"),
    ]:
        np.save(path, array, allow_pickle=True)
        with pytest.raises(LatentrotError, match=words):
            read_light_labels(path, image_ids=ids)
    with pytest.raises(LatentrotError, match="order left, right: expected"):
        read_light_labels(path, image_ids=list("abc"), order=("left", "right"))


def test_a_label_table_takes_its_light_from_elsewhere(faces, tmp_path, capsys, caplog):
    given = pd.DataFrame({"light": ["right", "left"]}, index=pd.Index(["00.png", "01.png"], name="image_id"))
    given.to_csv(tmp_path / "light.csv")
    out = tmp_path / "labels.csv"
    assert main(["label", "--data", str(faces), "--light", str(tmp_path / "light.csv"), "--out", str(out)]) == 0, capsys
    table, network = read_labels(out), label_folder(FaceFolder(faces), progress=False)
    assert table["light"].tolist() == ["right", "left", *network["light"][2:]]
    assert table["confidence"].tolist()[:2] == [1, 1]
    assert "28 of 30 images keep the network's light" in caplog.text
    with pytest.raises(
        LatentrotError,
        match=r"none of the 30 images; .* like '00\.png', names in the light table like 'x'",
    ):
        with_light(network, pd.DataFrame({"light": ["left"], "confidence": [1.0]}, index=["x"]))


# --- the command ----------------------------------------------------------------------------------------------------


def write_answers(path, rows):
    path.write_text(HEADER + "".join(",".join(a) + "\n" for a in answers_of(rows)))


def test_the_command_fits_writes_and_reports(faces, tmp_path, capsys):
    answers, out = tmp_path / "answers.csv", tmp_path / "light.csv"
    rows = [f"{i:02}.png {LIGHTS[i % 3]} {who}" for who in ("a1", "a2") for i in range(12)]
    write_answers(answers, [*rows, "12.png left a1", "12.png center a2", "elsewhere.png left a1", "13.png unsure a1"])
    assert main(["label", "light", "--data", str(faces), "--answers", str(answers), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    for words in (
        "answers: 15 by a1 (1 unsure), 13 by a2 (0 unsure)", "agreed: 13 (left 5, center 4, right 4)",
        "1 of the agreed images are not in the folder", "agreement of a1 and a2: 92.3% of 13 images, Cohen's kappa 0.8",
        "disputed, set aside: 1\n  12.png: a1 left, a2 center", "12 by hand", "least certain: ", f"wrote {out}",
    ):  # fmt: skip
        assert words in printed
    table = pd.read_csv(out, index_col="image_id")
    assert list(table.columns) == ["light", "confidence", "source", "digest"]
    assert len(table) == 30
    assert (table["light"] == [LIGHTS[i % 3] for i in range(30)]).mean() > 0.9


def test_mistakes_are_one_line(faces, tmp_path, capsys, monkeypatch):
    answers = tmp_path / "answers.csv"
    write_answers(answers, ["00.png left a1"])
    data = ["--data", str(faces)]
    for argv, words in [
        ([*data, "--answers", str(tmp_path / "none.csv")], "no answers at"),
        ([*data, "--answers", str(answers)], "left 1, center 0, right 0; expected at least"),
        ([*data, "--answers", str(answers), "--page", "--batch", "0"], "batch 0"),
        (["--data", str(tmp_path / "nowhere")], "no such folder"),
    ]:
        assert main(["label", "light", *argv]) == 2
        error = capsys.readouterr().err
        assert words in error.splitlines()[-1]
        assert error.splitlines()[-1].startswith("latentrot: ")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(LatentrotError, match=r"pip install .gradio>=6"):
        serve_label_page(None, None)


# --- the page -------------------------------------------------------------------------------------------------------


class Served:
    """The real command with its page, in a process of its own."""

    def __init__(self, faces, folder, port):
        argv = [
            "label", "light", "--data", faces, "--answers", folder / "answers.csv", "--out", folder / "light.csv",
            "--page", "--annotator", "ann", "--batch", "4", "--port", port,
        ]  # fmt: skip
        # a test run in a shell's background inherits that Ctrl-C is ignored
        code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        code += "from latentrot.cli import main; sys.exit(main())"
        self.log = (folder / "log.txt").open("a+")
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, argv)],
            stdout=self.log,
            stderr=self.log,
            cwd=Path(__file__).parents[1],
        )
        self.url = f"http://127.0.0.1:{port}/"

    def wait(self):
        for _ in range(900):
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", int(self.url.split(":")[2].strip("/")))) == 0:
                    return self
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        self.log.seek(0)
        raise AssertionError(f"no page: {self.log.read()}")

    def stop(self, how):
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(180)


def shown(page):
    return page.locator("#picture img").get_attribute("data-image", timeout=15000)


def press(page, key):
    """Press a key and wait until another image is there; returns the one answered."""
    before = shown(page)
    page.keyboard.press(key)
    page.wait_for_function("was => document.querySelector('#picture img')?.dataset.image !== was", arg=before)
    return before


def test_five_answers_by_keys_survive_a_kill(faces, tmp_path, browser, port):
    server = Served(faces, tmp_path, port)
    try:
        page = browser.new_page()
        asked_elsewhere = []
        page.on(
            "request",
            lambda r: None if r.url.startswith((server.url, "data:", "blob:")) else asked_elsewhere.append(r.url),
        )
        page.goto(server.wait().url)
        keys = {key: light for light, key, _ in BUTTONS}
        said = {press(page, key): keys[key] for key in "12301"}
        undone = press(page, "2")
        page.keyboard.press("u")
        page.wait_for_function("it => document.querySelector('#picture img')?.dataset.image === it", arg=undone)
        assert "answers by you: 5" in page.locator("#answered").inner_text()
        server.stop(signal.SIGKILL)

        kept = standing(read_answers(tmp_path / "answers.csv"))
        assert kept == {(image_id, "ann"): light for image_id, light in said.items()}
        assert [a.light for a in read_answers(tmp_path / "answers.csv")][-2:] == ["center", "undo"]

        server = Served(faces, tmp_path, port)
        page.goto(server.wait().url)
        assert shown(page) not in said
        assert "answers by you: 5" in page.locator("#answered").inner_text()
        page.locator("#annotator input, #annotator textarea").click()
        page.keyboard.type("1")  # a name, not an answer
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.querySelector('#answered').innerText === 'answers by you: 0'")
        page.locator("#say-left").click()
        page.wait_for_function("() => document.querySelector('#answered').innerText === 'answers by you: 1'")
        assert read_answers(tmp_path / "answers.csv")[-1][1:3] == ("left", "ann1")
        if where := os.environ.get("LATENTROT_SCREENSHOT"):
            page.screenshot(path=where)
        assert asked_elsewhere == []
        assert server.stop(signal.SIGINT) == 0
        assert (tmp_path / "light.csv").is_file()
    finally:
        server.stop(signal.SIGKILL)
        server.log.close()
