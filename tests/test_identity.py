"""Latents, labels and checkpoints know which images they were made of, whatever these are called."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from latentrot.data.celeba import FaceFolder
from latentrot.data.digests import MAX_WHOLE_BYTES, PART_BYTES, image_digest
from latentrot.data.tables import read_table, to_files
from latentrot.directions.fit import FitConfig, fit_directions
from latentrot.errors import LatentrotError
from latentrot.faces.exact import read_exact_labels
from latentrot.faces.table import read_labels, write_labels
from latentrot.store import shard as shards
from latentrot.store.identity import require_same_images
from latentrot.store.latent_store import LatentStore
from latentrot.store.merge import merge_stores
from latentrot.store.verify import verify_store
from latentrot.store.work import embed_folder
from latentrot.training.backbone import TrainConfig, train
from latentrot.training.checkpoints import images_of_run, require_images

N = 6


def folder_of(root: Path, seed: int) -> FaceFolder:
    """Six squares under the same six names, drawn by a seed, with exact labels."""
    root.mkdir()
    draw = np.random.default_rng(seed)
    names = [f"{i}.png" for i in range(N)]
    for name in names:
        Image.fromarray(draw.integers(0, 256, (16, 16, 3), np.uint8)).save(root / name)
    pose = pd.DataFrame({"image_id": names, "yaw_deg": np.linspace(-30, 30, N), "pitch_deg": 0.0, "roll_deg": 0.0})
    pose.to_csv(root / "pose.csv", index=False)
    pd.DataFrame({"image_id": names, "light": "center"}).to_csv(root / "light.csv", index=False)
    return FaceFolder(root)


@pytest.fixture
def a(tmp_path):
    return folder_of(tmp_path / "a", 1)


@pytest.fixture
def b(tmp_path):
    return folder_of(tmp_path / "b", 2)


@pytest.fixture
def store(tmp_path, a, model):
    """The latents of a, two a shard."""
    made = LatentStore(tmp_path / "store")
    embed_folder(a, model, made, shard_size=2, batch_size=2)
    return made


def latents_of(store: LatentStore) -> dict[str, torch.Tensor]:
    return {name: z for names, zs in store.batches() for name, z in zip(names, zs, strict=True)}


def test_a_digest_is_of_the_content_and_its_length(tmp_path):
    """Long files are told by their beginning, middle and end."""
    content = bytes(np.random.default_rng(0).integers(0, 256, MAX_WHOLE_BYTES + 3 * PART_BYTES, np.uint8))
    path = tmp_path / "x.jpg"
    seen = set()
    for changed in (content, content + b"x", b"x" + content[1:], content[:-1] + b"x",
                    content[: len(content) // 2] + b"xxxx" + content[len(content) // 2 + 4 :]):  # fmt: skip
        path.write_bytes(changed)
        seen.add(image_digest(path))
    assert len(seen) == 5
    assert all(d[0] == "x" and len(d) == 17 for d in seen)
    assert image_digest(tmp_path / "nowhere.jpg") == ""


def test_another_folder_of_the_same_names_is_refused(store, b, model):
    """Also where a shard is missing, which would become the other folder's."""
    before = latents_of(store)
    store.path_of(1).unlink()
    with pytest.raises(LatentrotError, match=r"4 of 4 have the same names but other content: 0.png, 1.png, 4.png"):
        embed_folder(b, model, store, shard_size=2, batch_size=2)
    assert all(torch.equal(z, before[name]) for name, z in latents_of(store).items())


def test_a_changed_image_is_embedded_again_and_named(store, a, b, model, caplog):
    """The store becomes what a store of the changed folder is from the start."""
    shutil.copy(b.root / "3.png", a.root / "3.png")
    assert [p for p in verify_store(store, folder=a) if "3.png" in p]
    with caplog.at_level(logging.WARNING):
        done, _ = embed_folder(a, model, store, shard_size=2, batch_size=2)
    assert (done, verify_store(store, folder=a)) == (2, [])
    assert "1 images have changed since they were embedded: 3.png; 1 shards are embedded again" in caplog.text
    fresh = LatentStore(store.root.parent / "fresh")
    embed_folder(a, model, fresh, shard_size=2, batch_size=2)
    assert all(torch.equal(z, latents_of(store)[name]) for name, z in latents_of(fresh).items())


def test_the_rest_of_a_stopped_shard_is_of_the_same_images(store, a, b, model):
    """What was kept of a shard counts only for the images it was made of."""
    number = 0
    header = shards.read_header(store.path_of(number))
    rows = shards.read_latent_rows(store.path_of(number), header)
    kept = shards.pack_shard(header.image_ids, rows * 0, header.space, [], 2, header.digests)
    store.path_of(number).unlink()
    store.partial_of(number).write_bytes(kept)
    shutil.copy(b.root / "0.png", a.root / "0.png")
    embed_folder(a, model, store, shard_size=2, batch_size=2)
    assert all(z.abs().sum() > 0 for z in latents_of(store).values())


def test_an_old_store_is_read_with_a_warning(store, a, model, caplog, monkeypatch):
    """Shards without digests are taken as they are."""
    for number, header in list(store.headers()):
        rows = shards.read_latent_rows(store.path_of(number), header)
        store.path_of(number).write_bytes(shards.pack_shard(header.image_ids, rows, header.space, [], 2))
    with caplog.at_level(logging.WARNING):
        assert embed_folder(a, model, store, shard_size=2, batch_size=2)[0] == 0
    assert "6 latents have no recorded digest" in caplog.text
    assert verify_store(store) == []
    assert "cannot be checked" in verify_store(store, folder=a)[0]


def test_digests_outlive_a_merge(store, a, tmp_path):
    """Linked shards and those written anew."""
    merged = LatentStore(tmp_path / "merged")
    merge_stores([store, store], merged, drop_duplicates=True)
    assert verify_store(merged, folder=a) == []


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_labels_store_digests_of_their_images(a, store, tmp_path, suffix):
    """In a table of either kind, read back."""
    path = tmp_path / f"labels{suffix}"
    write_labels(read_exact_labels(a), path)
    assert read_labels(path)["digest"].tolist() == [image_digest(a.root / name) for name in a.ids]
    assert len(require_same_images(store, read_labels(path))) == N


def test_labels_of_other_images_are_refused(store, b, model):
    """A's latents and B's labels give no line."""
    with pytest.raises(
        LatentrotError, match=r"labels belong to other images than the latents .* 6 of 6 have the same names"
    ):
        fit_directions(store, read_exact_labels(b), "center", FitConfig(calibrate=0, held_out=0))


def test_labels_of_a_few_other_images_are_left_out(store, a, b, caplog):
    """And named."""
    shutil.copy(b.root / "3.png", a.root / "3.png")
    labels = read_exact_labels(a)
    assert list(require_same_images(store, labels).index) == [i for i in a.ids if i != "3.png"]
    assert "left out: 3.png" in caplog.text


def test_labels_without_digests_are_joined_by_name(store, a):
    """Tables of before, and other people's."""
    assert len(require_same_images(store, read_exact_labels(a).drop(columns="digest"))) == N


def test_a_run_goes_on_with_its_own_images_only(a, b, tmp_path):
    """The same images from another place are the same; others under the same names are not."""
    config = TrainConfig(steps=1, batch_size=2, resolution=16, small_steps=0, channels=(16, 32), held_out=0.0)
    train([a.root], tmp_path / "run", config, save_every=1, device="cpu")
    moved = tmp_path / "moved"
    shutil.copytree(a.root, moved)
    train([moved], tmp_path / "run", config, save_every=1, device="cpu")
    with pytest.raises(LatentrotError, match=r"trained on 6 images of .*a, but this run has 6 different images of .*b"):
        train([b.root], tmp_path / "run", config, save_every=1, device="cpu")


def test_a_checkpoint_without_digests_is_accepted(tmp_path, caplog):
    """Runs of before go on."""
    from safetensors.torch import save_file  # noqa: PLC0415

    save_file({"x": torch.zeros(1)}, tmp_path / "c.safetensors", metadata={"step": "1"})
    require_images(tmp_path / "c.safetensors", images_of_run([tmp_path], torch.zeros(2, 3, 4, 4, dtype=torch.uint8)))
    assert "assumed to be the same" in caplog.text


def test_stems_are_matched_row_by_row():
    """A part of the folder with another suffix keeps its rows; an exact name is nobody else's."""
    table = pd.DataFrame({"identity": list("ABCD")}, index=pd.Index(["1.jpg", "2.jpg", "3.jpg", "4"], name="image_id"))
    found = to_files(table, ["1.jpg", "1.png", "2.webp", "3.jpg", "4.png", "5.jpg"])["identity"]
    assert found.fillna("-").tolist() == ["A", "-", "B", "C", "D", "-"]


def test_people_of_a_partly_converted_folder_are_held_out_alike(a):
    """No held-out person leaks into training because some files have become another format."""
    people = pd.DataFrame({"image_id": [f"{i}.jpg" for i in range(N)], "identity": range(N)})
    people.to_csv(a.root / "identity_CelebA.csv", index=False)
    (a.root / "0.png").rename(a.root / "0.jpg")
    assert FaceFolder(a.root).identities.tolist() == [str(i) for i in range(N)]
    assert read_table(a.root / "identity_CelebA.csv").index[0] == "0.jpg"
