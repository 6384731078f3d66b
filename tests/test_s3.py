"""A store on an object store: over the real protocol, to a server in a thread."""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import write_pictures

from latentrot.cli import main
from latentrot.data.celeba import FaceFolder
from latentrot.diffusion.load import LatentModel
from latentrot.diffusion.solve import Schedule
from latentrot.directions.fit import FitConfig, fit_directions
from latentrot.store.latent_store import LatentStore
from latentrot.store.merge import merge_stores
from latentrot.store.verify import verify_store
from latentrot.store.work import embed_folder

pytest.importorskip("s3fs", reason="an extra")
moto = pytest.importorskip("moto.server", reason="the tests' object store")

PLAN, N = Schedule(steps=2), 10
CONFIG = FitConfig(width=30, limit=45, min_count=1, calibrate=0, held_out=0.0)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The address of an empty bucket."""
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        import boto3  # noqa: PLC0415  reads the environment

        boto3.client("s3").create_bucket(Bucket="faces")
        yield "s3://faces"
    server.stop()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("faces") / "faces", N)


def embed(data: Path, model: LatentModel, store: LatentStore, shard_size: int = 4) -> tuple[int, list[str]]:
    order = random.Random(0)
    return embed_folder(FaceFolder(data), model, store, PLAN, batch_size=2, shard_size=shard_size, generator=order)


def checksums(store: LatentStore) -> dict[int, str]:
    return {number: header.checksum for number, header in store.headers()}


def slopes(store: LatentStore) -> bytes:
    names = store.image_ids()
    yaw = np.resize([-30.0, 0.0, 30.0], len(names))
    labels = pd.DataFrame({"yaw_deg": yaw, "light": "center"}, index=pd.Index(names))
    return fit_directions(store, labels, "any", CONFIG).left.numpy().tobytes()


def test_a_bucket_holds_the_same_as_a_folder(bucket, data, plain_model, tmp_path):
    store, folder = LatentStore(f"{bucket}/latents"), LatentStore(tmp_path / "latents")
    assert embed(data, plain_model, store) == embed(data, plain_model, folder) == (N, [])
    assert checksums(store) == checksums(folder)
    assert store.image_ids() == folder.image_ids()
    assert verify_store(store) == []
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(store.batches(size=3), folder.batches(size=3), strict=True))
    assert slopes(store) == slopes(folder) == slopes(store)
    assert len(list((store.root / "statistics").iterdir())) == 1


def test_goes_on_where_it_stopped(bucket, data, plain_model):
    store = LatentStore(f"{bucket}/stopped")
    embed(data, plain_model, store)
    whole = checksums(store)
    store.shards[1].unlink()
    assert store.missing() == [1]
    assert embed(data, plain_model, store) == (4, [])
    assert checksums(store) == whole
    assert embed(data, plain_model, LatentStore(f"{bucket}/stopped")) == (0, [])


def test_a_stopped_shard_is_finished(bucket, data, plain_model, monkeypatch):
    from latentrot.store import work  # noqa: PLC0415

    store, original, seen = LatentStore(f"{bucket}/half"), work.invert, []

    def stopped(model, x, **options):
        if len(seen) == 1:
            raise KeyboardInterrupt
        seen.append(len(x))
        return original(model, x, **options)

    with monkeypatch.context() as patch:
        patch.setattr(work, "invert", stopped)
        with pytest.raises(KeyboardInterrupt):
            embed(data, plain_model, store, N)
    assert not store.numbers
    assert embed(data, plain_model, store, N) == (N, [])
    assert not [p for p in store.root.iterdir() if p.name.startswith("partial")]
    assert verify_store(store) == []


def test_two_that_plan_at_once(bucket, plain_model):
    """An object that is there is never written over: the second plan loses, and looks again."""
    from latentrot.store.places import as_path, create_atomic  # noqa: PLC0415

    path = as_path(f"{bucket}/race") / "manifest-00000.parquet"
    assert create_atomic(path, b"first")
    assert not create_atomic(path, b"second")
    assert path.read_bytes() == b"first"


def test_merge_and_commands(bucket, data, plain_model, tmp_path, capsys):
    one = LatentStore(f"{bucket}/one")
    embed(data, plain_model, one)
    out = LatentStore(f"{bucket}/merged")
    assert merge_stores([one], out) == (N, 0)
    assert checksums(out) == checksums(one)
    assert main(["embed", "--verify", "--out", f"{bucket}/merged"]) == 0
    assert f"{N} latents" in capsys.readouterr().out
    assert main(["embed", "--data", str(data), "--model", plain_model.name, "--steps", "3", "--out", f"{bucket}/one",
                 "--device", "cpu"]) == 2  # fmt: skip
    assert "steps=3" in capsys.readouterr().err


def test_a_bucket_that_is_not_there_is_one_line(bucket, data, plain_model, capsys):
    command = ["embed", "--data", str(data), "--model", plain_model.name, "--device", "cpu"]
    assert main([*command, "--out", "s3://nowhere/latents"]) == 2
    err = capsys.readouterr().err
    assert "nowhere" in err
    assert err.count("\n") == 1
