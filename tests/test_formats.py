"""Every artefact says of what format it is; another one is refused in one line, one without a number is of the first."""

import json
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tiny import SIZE, save_pixel_model, write_pictures

from latentrot.data.celeba import FaceFolder
from latentrot.diffusion.load import LatentModel, load_model
from latentrot.diffusion.solve import Schedule
from latentrot.directions.directions import Directions
from latentrot.directions.fit import FitConfig, gather_statistics
from latentrot.errors import LatentrotError
from latentrot.faces.face_networks import LandmarkNetwork, load_face_network, save_face_network
from latentrot.faces.network import FaceLabeler, load_labeler
from latentrot.faces.table import read_labels
from latentrot.geometry.ear import load_ear, write_ear
from latentrot.geometry.surface import load_surface, write_surface
from latentrot.geometry.template import load_template, write_template
from latentrot.store.latent_store import LatentStore
from latentrot.store.shard import pack_shard, read_header
from latentrot.store.space import LatentSpace
from latentrot.store.work import embed_folder
from latentrot.training.backbone import TrainConfig, train
from latentrot.training.embedder import EmbedderConfig, load_embedder, train_embedder

PLAN = Schedule(steps=2)
TINY = EmbedderConfig(steps=1, batch_size=2, channels=(16, 32), decode_steps=2, warmup=1, decay=1, held_out=0.0)
TRAIN = TrainConfig(
    steps=1, batch_size=2, resolution=SIZE, small_steps=0, channels=(16, 32), warmup=1, decay=1, held_out=0.0
)


def rewrite(path: Path, **changes: str | None) -> Path:
    """A safetensors file with other strings in its header."""
    with safe_open(path, "pt") as file:
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118  not a dict
        header = {**(file.metadata() or {}), **changes}
    path.unlink()
    save_file(tensors, path, {k: v for k, v in header.items() if v is not None})
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("faces") / "faces", 4)


@pytest.fixture
def store(data: Path, plain_model: LatentModel, tmp_path: Path) -> LatentStore:
    made = LatentStore(tmp_path / "latents")
    embed_folder(FaceFolder(data), plain_model, made, PLAN, shard_size=2)
    return made


def directions(model: LatentModel, path: Path) -> Path:
    slope = torch.ones(model.latent_shape)
    space = LatentSpace.of(model, PLAN)
    Directions("left", slope, slope.clone(), space, (-30.0, 0.0, 30.0), (-30.0, 0.0, 30.0), {}).save(path)
    return path


def refused(read, *quoted: str) -> None:
    with pytest.raises(LatentrotError) as info:
        read()
    text = str(info.value)
    assert "\n" not in text
    for words in quoted:
        assert words in text


class TestSafetensors:
    """Directions, shards, label and face networks, checkpoints, embedding networks, the face surface."""

    def check(self, path: Path, read, key: str = "format", *, old: bool = True) -> None:
        """Of another number it is refused, without one it is read where files were written so before."""
        with safe_open(path, "pt") as file:
            assert file.metadata()[key] == "1"
        read()
        rewrite(path, **{key: "99"})
        refused(read, path.name, "99")
        rewrite(path, **{key: "young"})
        refused(read, path.name, "young")
        if old:
            rewrite(path, **{key: None})
            read()

    def test_directions(self, plain_model, tmp_path):
        path = directions(plain_model, tmp_path / "left.safetensors")
        self.check(path, lambda: Directions.load(path))

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"schedule": None}, "lacks 'schedule'"),
            ({"calibration": None}, "lacks 'calibration'"),
            ({"calibration": "[]"}, "left.safetensors"),
            ({"schedule": '{"pace": 3}'}, "pace"),
            ({"shape": "none"}, "left.safetensors"),
        ],
    )
    def test_a_header_of_another_version_is_one_line(self, plain_model, tmp_path, changes, words):
        path = rewrite(directions(plain_model, tmp_path / "left.safetensors"), **changes)
        refused(lambda: Directions.load(path), words, "fit-directions")

    def test_shards(self, store):
        path = store.shards[0]
        self.check(path, lambda: read_header(path))
        rewrite(path, schedule=None)
        refused(lambda: read_header(path), "lacks 'schedule'")

    def test_label_network(self, tmp_path):
        path = tmp_path / "labeler.safetensors"
        save_file(FaceLabeler().state_dict(), path, {"kind": "latentrot labeler", "version": "1"})
        self.check(path, lambda: load_labeler(path), "version", old=False)

    def test_face_network(self, tmp_path):
        path = tmp_path / "landmarks.safetensors"
        save_face_network(LandmarkNetwork(), path, {})
        with safe_open(path, "pt") as file:
            assert file.metadata()["version"] == "1"
        rewrite(path, version="99")
        refused(lambda: load_face_network(LandmarkNetwork, path), path.name, "99")

    def test_face_surface(self, tmp_path):
        path = tmp_path / "face_surface.safetensors"
        write_surface(load_surface(), path)
        uncached = load_surface.__wrapped__
        self.check(path, lambda: uncached(path))

    def test_ear(self, tmp_path):
        path = tmp_path / "ear.safetensors"
        write_ear(load_ear(), path)
        uncached = load_ear.__wrapped__
        self.check(path, lambda: uncached(path))

    def test_whole_head(self, tmp_path):
        path = tmp_path / "head_template.safetensors"
        write_template(load_template(), path)
        uncached = load_template.__wrapped__
        self.check(path, lambda: uncached(path))

    def test_checkpoint(self, data, tmp_path):
        train([data], tmp_path, TRAIN, device="cpu")
        path = tmp_path / "checkpoint.safetensors"
        self.check(path, lambda: train([data], tmp_path, TRAIN, device="cpu"))
        rewrite(path, config='{"speed": 3}')
        refused(lambda: train([data], tmp_path, device="cpu"), "another command or version", "speed")

    def test_embedding_network_and_its_checkpoint(self, data, plain_model, tmp_path):
        path = train_embedder([data], tmp_path / "run", plain_model, TINY)
        self.check(path, lambda: load_embedder(path, plain_model))
        other = load_model(save_pixel_model(tmp_path / "other", "epsilon"), "cpu")
        refused(lambda: train_embedder([data], tmp_path / "run", other, TINY), "v_prediction", "epsilon")


class TestOthers:
    def test_manifest(self, store, plain_model):
        path = store.root / "manifest-00000.parquet"
        table = pq.read_table(path)
        assert table.schema.metadata[b"format"] == b"1"
        for changes, words in (({b"format": b"99"}, "99"), ({b"schedule": b"{"}, "model and schedule")):
            pq.write_table(table.replace_schema_metadata({**table.schema.metadata, **changes}), path)
            refused(lambda: LatentStore(store.root).space, path.name, words)
        old = {k: v for k, v in table.schema.metadata.items() if k != b"format"}
        pq.write_table(table.replace_schema_metadata(old), path)
        assert LatentStore(store.root).space == LatentSpace.of(plain_model, PLAN)

    def test_index(self, store):
        found = pq.read_schema(store.root / "index.parquet").metadata
        assert (found[b"kind"], found[b"format"]) == (b"latentrot index", b"1")

    def test_first_stage(self, data, tmp_path):
        folder = train([data], tmp_path, TRAIN, device="cpu")
        path = folder / "first_stage.json"
        stage = json.loads(path.read_text())
        assert stage["format"] == 1
        path.write_text(json.dumps({**stage, "format": 99}))
        refused(lambda: load_model(folder, "cpu"), "first_stage.json", "99")

    def test_statistics_of_another_format_are_made_anew(self, store):
        names = store.image_ids()
        labels = pd.DataFrame({"yaw_deg": [-20.0, 0.0, 10.0, 20.0], "light": "center"}, index=pd.Index(names))
        config = FitConfig(held_out=0.0)
        wanted = gather_statistics(store, labels, config).sums
        (path,) = (store.root / "statistics").iterdir()
        with safe_open(path, "pt") as file:
            assert file.metadata()["format"] == "1"
            sums = file.get_tensor("sums")
            header = file.metadata()
        save_file({"sums": sums + 1}, path, {**header, "format": "99"})
        assert (gather_statistics(store, labels, config).sums == wanted).all()

    def test_a_shard_of_another_schedule_among_them_is_refused(self, store, plain_model):
        other = LatentSpace.of(plain_model, Schedule(steps=3))
        header = read_header(store.shards[1])
        latents = torch.zeros(len(header.image_ids), *plain_model.latent_shape)
        store.shards[1].write_bytes(pack_shard(header.image_ids, latents, other, []))
        labels = pd.DataFrame({"yaw_deg": 0.0, "light": "center"}, index=pd.Index(store.image_ids()))
        refused(lambda: gather_statistics(store, labels, FitConfig()), "shard-00001", "steps=2", "steps=3")

    def test_labels(self, tmp_path):
        table = pd.DataFrame({"image_id": ["a.png"], "light": "left"})
        table.attrs = {"format": 99}
        table.to_parquet(tmp_path / "labels.parquet")
        refused(lambda: read_labels(tmp_path / "labels.parquet"), "labels.parquet", "99")
