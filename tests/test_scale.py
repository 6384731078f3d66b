"""Embedding that is killed, crowded, spread and merged: every image once, every checksum right, the same bits."""

import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from tiny import gradients, write_pictures

from latentrot.cli import main
from latentrot.data.celeba import FaceFolder
from latentrot.data.digests import image_digests
from latentrot.diffusion.fingerprint import Fingerprint
from latentrot.diffusion.load import LatentModel
from latentrot.diffusion.solve import Schedule
from latentrot.directions.fit import FitConfig, fit_directions
from latentrot.directions.lines import Centroids, YawBins
from latentrot.errors import LatentrotError
from latentrot.store import work
from latentrot.store.job import EmbedJob
from latentrot.store.latent_store import LatentStore
from latentrot.store.manifest import Manifest
from latentrot.store.merge import merge_stores
from latentrot.store.pool import embed_in_processes
from latentrot.store.shard import pack_shard, read_header
from latentrot.store.space import LatentSpace
from latentrot.store.verify import verify_store
from latentrot.store.work import ShardEmbedder, Sizes, embed_folder, pending_shards, plan

PLAN = Schedule(steps=2)
N = 26
CONFIG = FitConfig(width=30, limit=45, min_count=1, calibrate=0, held_out=0.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("data") / "faces", N)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, data: Path, model: LatentModel) -> LatentStore:
    """What an undisturbed run makes; not to be changed."""
    store = LatentStore(tmp_path_factory.mktemp("calm") / "latents")
    assert embed(data, model, store) == (N, [])
    return store


@pytest.fixture
def store(calm: LatentStore, tmp_path: Path) -> LatentStore:
    """A copy, to be damaged."""
    return LatentStore(shutil.copytree(calm.root, tmp_path / "latents", ignore=shutil.ignore_patterns("statistics")))


@pytest.fixture(scope="module")
def labels() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    names = pd.Index([f"{i:03d}.png" for i in range(N)], name="image_id")
    yaw = np.tile([-30.0, 0.0, 30.0], N)[:N] + rng.uniform(-9, 9, N)
    return pd.DataFrame({"yaw_deg": yaw, "light": rng.choice(["left", "center", "right"], N)}, index=names)


def embed(
    data: Path, model: LatentModel, store: LatentStore, *, seed: int = 0, **changes: bool
) -> tuple[int, list[str]]:
    return embed_folder(
        FaceFolder(data), model, store, PLAN, batch_size=3, shard_size=4, generator=random.Random(seed), **changes
    )


def checksums(store: LatentStore) -> dict[int, str]:
    return {number: header.checksum for number, header in store.headers()}


def slopes(store: LatentStore, labels: pd.DataFrame, light: str = "any", **changes: object) -> bytes:
    found = fit_directions(store, labels, light, replace(CONFIG, **changes))
    return found.left.numpy().tobytes() + found.right.numpy().tobytes()


def forked(task: Callable[[], object]) -> int:
    """Run a task in a copy of this process, in which everything is imported; its number."""
    child = os.fork()
    if child:
        return child
    try:
        torch.set_num_threads(1)
        task()
        os._exit(0)
    except BaseException:
        os._exit(1)


def complaint(info: pytest.ExceptionInfo) -> str:
    text = str(info.value)
    assert text
    assert "\n" not in text
    return text


class TestManifest:
    def test_the_manifest_assigns_images_to_shards(self, calm):
        manifest = calm.manifest
        assert [manifest.shard_ids(i) for i in range(len(manifest))] == [h.image_ids for _, h in calm.headers()]
        assert manifest.counts.tolist() == [4] * 6 + [2]
        assert manifest.space == calm.space

    def test_new_images_get_shards_of_their_own(self, store, data, model, tmp_path):
        more = shutil.copytree(data, tmp_path / "more")
        for i, name in enumerate(("000a.png", "zzz.png", "010b.png")):
            shutil.copy(data / f"{i:03d}.png", more / name)
        before = checksums(store)
        assert embed(more, model, store) == (3, [])
        assert before.items() < checksums(store).items()
        assert store.manifest.shard_ids(7) == ["000a.png", "010b.png", "zzz.png"]
        assert verify_store(store) == []

    def test_two_that_plan_at_once_plan_every_image_once(self, tmp_path, model):
        space = LatentSpace.of(model, PLAN)
        some, others = ([f"{i:05d}.png" for i in range(k, 3000, 2)] for k in (0, 1))
        both = [pa.chunked_array([sorted(names)]) for names in (some, some + others[:700], others)]
        empty = Manifest(tmp_path)  # as each of them saw it at first
        threads = [threading.Thread(target=empty.extend, args=(names, space, 64, 8)) for names in both]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = [n for _, names in Manifest(tmp_path).chunks(100) for n in names.to_pylist()]
        assert sorted(found) == sorted(some + others)

    def test_holds_exactly_what_is_planned(self, calm):
        asked = pa.array(["", "000.png", "003.pn", "004.png", "025.png", "026.png", "ä"])
        assert calm.manifest.holds(asked).tolist() == [False, True, False, True, True, False, False]


class TestShard:
    def test_does_not_depend_on_what_was_done_before(self, calm, data, model, tmp_path):
        other = LatentStore(tmp_path / "other")
        sizes = Sizes(3, 4)
        plan(FaceFolder(data), other, calm.space, sizes)
        embedder = ShardEmbedder(FaceFolder(data), model, other, sizes)
        for number in (5, 2, 2, 6):
            embedder.embed_shard(number, force=True)
        assert checksums(other).items() < checksums(calm).items()
        assert sorted(other.missing()) == [0, 1, 3, 4]

    def test_unreadable_and_vanished_images_are_noted_and_leave_the_others_alone(self, calm, data, model, tmp_path):
        bad = shutil.copytree(data, tmp_path / "bad")
        (bad / "001.png").write_bytes(b"no picture")
        store = LatentStore(tmp_path / "latents")
        plan(FaceFolder(bad), store, calm.space, Sizes(3, 4))
        (bad / "006.png").unlink()
        done, lines = embed(bad, model, store)
        assert (done, len(lines)) == (N - 2, 2)
        assert "001.png" in lines[0]
        assert "006.png" in lines[1]
        assert verify_store(store) == []
        kept = dict(zip(calm.image_ids(), torch.cat([z for _, z in calm.batches()]), strict=True))
        assert all(torch.equal(z, kept[n]) for names, some in store.batches() for n, z in zip(names, some, strict=True))
        # not tried for ever, but when asked to
        assert embed(bad, model, store) == (0, [])
        for name in ("001.png", "006.png"):
            shutil.copy(data / name, bad / name)
        assert embed(bad, model, store, retry=True)[1] == []
        assert checksums(store) == checksums(calm)

    def test_a_missing_folder_is_not_treated_as_bad_images(self, store, data, model, tmp_path):
        store.shards[3].unlink()
        (tmp_path / "elsewhere").mkdir()
        shutil.copy(data / "000.png", tmp_path / "elsewhere")
        with pytest.raises(LatentrotError, match=r"none of the 4 images of shard 3.*merge") as info:
            embed(tmp_path / "elsewhere", model, store)
        complaint(info)
        assert store.missing() == [3]

    def test_the_order_of_shards_follows_the_generator(self, data, model, tmp_path):
        store = LatentStore(tmp_path / "latents")
        plan(FaceFolder(data), store, LatentSpace.of(model, PLAN), Sizes(3, 4))
        orders = [pending_shards(store, generator=random.Random(seed)) for seed in (0, 0, 1)]
        assert orders[0] == orders[1] != orders[2]
        assert sorted(orders[0]) == sorted(orders[2]) == sorted(pending_shards(store)) == list(range(7))

    @pytest.mark.parametrize("seed", [0, 5])  # 5: the last shard first
    def test_batches_are_halved_when_memory_is_short(self, calm, data, model, tmp_path, monkeypatch, caplog, seed):
        original, order = work.invert, list(range(7))
        random.Random(seed).shuffle(order)

        def small(model: LatentModel, x: torch.Tensor, **options: Any) -> torch.Tensor:
            if len(x) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
            return original(model, x, **options)

        monkeypatch.setattr(work, "invert", small)
        store = LatentStore(tmp_path / "latents")
        assert embed(data, model, store, seed=seed) == (N, [])
        whole = [
            "cpu: out of memory with 3 images at a time; continuing with 2",
            "cpu: out of memory with 2 images at a time; continuing with 1",
        ]  # the last shard holds two images only: where it comes first, three at a time are never tried
        assert [r.getMessage() for r in caplog.records] == whole[order[0] == 6 :]
        assert read_header(store.shards[0]).metadata["batch"] == "1"
        for (_, a), (_, b) in zip(calm.batches(), store.batches(), strict=True):
            torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-3)
        monkeypatch.setattr(work, "invert", lambda *_, **__: small(model, torch.zeros(2, 1), schedule=PLAN))
        with pytest.raises(LatentrotError, match="single image"):
            embed(data, model, LatentStore(tmp_path / "none"))


class TestStopped:
    """What an embedding that is stopped within a shard has done is kept, and the result is the same bits."""

    @pytest.mark.parametrize("batches", [1, 2, 3])
    def test_goes_on_within_the_shard(self, data, model, tmp_path, monkeypatch, batches):
        (data_bad := tmp_path / "faces").mkdir()
        for path in sorted(data.iterdir())[:11]:
            shutil.copy(path, data_bad)
        (data_bad / "001.png").write_bytes(b"broken")
        calm = LatentStore(tmp_path / "calm")
        embed_folder(FaceFolder(data_bad), model, calm, PLAN, batch_size=3, shard_size=11)
        store, original, seen = LatentStore(tmp_path / "latents"), work.invert, []

        def stopped(model: LatentModel, x: torch.Tensor, **options: Any) -> torch.Tensor:
            if len(seen) == batches:
                raise KeyboardInterrupt
            seen.append(len(x))
            return original(model, x, **options)

        monkeypatch.setattr(work, "invert", stopped)
        with pytest.raises(KeyboardInterrupt):
            embed_folder(FaceFolder(data_bad), model, store, PLAN, batch_size=3, shard_size=11)
        assert not store.numbers
        assert store.partial_of(0).exists()
        monkeypatch.setattr(work, "invert", lambda m, x, **options: seen.append(len(x)) or original(m, x, **options))
        done, bad = embed_folder(FaceFolder(data_bad), model, store, PLAN, batch_size=3, shard_size=11)
        assert (done, len(bad)) == (10, 1)
        assert seen == [3, 3, 3, 2]  # no image twice
        assert checksums(store) == checksums(calm)
        assert not store.partial_of(0).exists()
        assert verify_store(store) == []

    @pytest.mark.parametrize("damage", ["cut", "flip", "other model"])
    def test_a_part_that_is_not_whole_is_made_anew(self, calm, data, model, tmp_path, damage):
        store = LatentStore(tmp_path / "latents")
        plan(FaceFolder(data), store, calm.space, Sizes(3, 4))
        path, embedder = store.partial_of(2), ShardEmbedder(FaceFolder(data), model, store, Sizes(3, 4))
        ids = store.manifest.shard_ids(2)[:3]
        digests = image_digests(data, store.manifest.shard_ids(2))
        embedder.write_partial(path, ids, torch.ones(3, *calm.space.shape), {}, 3, digests[:3])
        content = path.read_bytes()
        assert embedder.read_partial(path, store.manifest.shard_ids(2), 3, digests)[2] == 3
        if damage == "other model":
            path.write_bytes(
                pack_shard(
                    ids,
                    torch.ones(3, *calm.space.shape),
                    replace(calm.space, fingerprint=Fingerprint("0" * 16)),
                    [],
                    3,
                    digests[:3],
                )
            )
        else:
            path.write_bytes(content[:-9] if damage == "cut" else content[:-9] + b"damaged!!")
        assert embedder.read_partial(path, store.manifest.shard_ids(2), 3, digests)[2] == 0
        embedder.embed_shard(2)
        assert checksums(store)[2] == checksums(calm)[2]


class TestSurvival:
    def test_killed_again_and_again(self, calm, data, model, labels, tmp_path):
        store, rng = LatentStore(tmp_path / "latents"), random.Random(0)
        kills = 0
        while kills < 5:
            child = forked(lambda: embed(data, model, store))
            time.sleep(rng.uniform(0.02, 0.4))
            os.kill(child, signal.SIGKILL)
            kills += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
            for shard in store.shards[:2]:  # so that something is always left to do
                shard.unlink()
        embed(data, model, store)
        assert verify_store(store) == []
        assert checksums(store) == checksums(calm)
        assert slopes(store, labels) == slopes(calm, labels)

    def test_what_a_killed_run_was_writing_is_removed_later(self, store, data, model):
        old, new = store.root / ".shard-00001.safetensors.1.tmp", store.root / ".shard-00001.safetensors.2.tmp"
        for path in (old, new):
            path.write_bytes(b"half a shard")
        os.utime(old, (1, 1))
        embed(data, model, store)
        assert (old.exists(), new.exists()) == (False, True)

    def test_two_runs_on_one_store(self, calm, data, model, tmp_path):
        store = LatentStore(tmp_path / "latents")
        children = [forked(lambda: embed(data, model, store)) for _ in range(2)]
        assert [os.waitstatus_to_exitcode(os.waitpid(c, 0)[1]) for c in children] == [0, 0]
        assert verify_store(store) == []
        assert checksums(store) == checksums(calm)

    def test_a_full_disk_then_room(self, calm, data, model, tmp_path):
        folder = mounted(tmp_path / "small", "size=24k")
        try:
            store = LatentStore(folder / "latents")
            with pytest.raises(LatentrotError, match="disk is full") as info:
                embed(data, model, store)
            complaint(info)
            assert all("missing" in line for line in verify_store(store))
            subprocess.run(["mount", "-o", "remount,size=1m", str(folder)], check=True)
            embed(data, model, store)
            assert verify_store(store) == []
            assert checksums(store) == checksums(calm)
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)

    def test_a_folder_that_may_only_be_read(self, store, data, model, tmp_path):
        folder = mounted(tmp_path / "fixed", "size=1m")
        try:
            fixed = LatentStore(shutil.copytree(store.root, folder / "latents"))
            fixed.shards[2].unlink()
            subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
            with pytest.raises(LatentrotError, match="no permission to write") as info:
                embed(data, model, fixed)
            complaint(info)
            assert verify_store(fixed) == ["shards 2 are missing; run the same embed command again"]
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)

    def test_fits_from_a_folder_that_may_only_be_read(self, store, labels):
        (store.root / "statistics").write_text("a file where the folder should be")
        assert slopes(store, labels) == slopes(store, labels)


def mounted(folder: Path, options: str) -> Path:
    """A small file system in memory, where one may be mounted."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    return folder


class TestVerify:
    def test_verify_reports_every_kind_of_damage(self, store, capsys):
        assert verify_store(store) == []
        paths = store.shards
        paths[0].unlink()
        flip(paths[1], -5)
        paths[2].write_bytes(paths[2].read_bytes()[:-1])
        shutil.copy(paths[4], paths[3])
        shutil.copy(paths[4], store.path_of(9))
        lines = verify_store(store)
        assert len(lines) == 5
        for line, what in zip(
            lines,
            ("00009.*not in the manifest", "shards 0 ", "00001.*checksum", "00002.*damaged", "00003.*differ from"),
            strict=True,
        ):  # fmt: skip
            assert re.search(what, line)
        assert main(["embed", "--verify", "--out", str(store.root)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 6

    def test_accepts(self, calm, capsys):
        assert main(["embed", "--verify", "--out", str(calm.root)]) == 0
        assert f"{N} latents" in capsys.readouterr().out

    def test_old_stores_are_read_but_not_continued(self, calm, data, model, tmp_path):
        old = LatentStore(tmp_path / "old")
        for _, header in calm.headers():
            old.append(header.image_ids, torch.zeros(len(header.image_ids), *calm.space.shape), calm.space)
        assert old.image_ids() == calm.image_ids()
        for use in (lambda: verify_store(old), lambda: embed(data, model, old)):
            with pytest.raises(LatentrotError, match="latentrot embed merge") as info:
                use()
            complaint(info)


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


class TestMerge:
    @pytest.fixture
    def halves(self, data, model, tmp_path) -> list[LatentStore]:
        found = []
        for name, rows in (("a", range(11)), ("b", range(11, N))):
            folder = tmp_path / f"faces-{name}"
            folder.mkdir()
            for i in rows:
                shutil.copy(data / f"{i:03d}.png", folder)
            found.append(LatentStore(tmp_path / name))
            embed(folder, model, found[-1])
        return found

    def test_two_halves(self, halves, calm, labels, tmp_path):
        out = LatentStore(tmp_path / "c")
        assert merge_stores(halves, out) == (N, 0)
        assert verify_store(out) == []
        assert out.image_ids() == [i for half in halves for i in half.image_ids()]
        assert out.shards[0].stat().st_ino == halves[0].shards[0].stat().st_ino
        out.shards[-1].unlink()
        assert merge_stores(halves, out) == (N, 0)  # goes on after a kill
        assert verify_store(out) == []
        with pytest.raises(LatentrotError, match="already contains a store"):
            merge_stores(halves[::-1], out)
        np.testing.assert_allclose(*(np.frombuffer(slopes(s, labels), np.float32) for s in (out, calm)), atol=1e-3)

    def test_duplicates(self, halves, calm, tmp_path):
        with pytest.raises(LatentrotError, match=r"15 images.*011\.png.*--drop-duplicates") as info:
            merge_stores([halves[1], calm], LatentStore(tmp_path / "c"))
        complaint(info)
        out = LatentStore(tmp_path / "c")
        assert merge_stores([halves[1], calm], out, drop_duplicates=True) == (N, 15)
        assert sorted(out.image_ids()) == calm.image_ids()
        assert verify_store(out) == []

    def test_an_old_store_becomes_a_planned_one(self, calm, data, model, tmp_path):
        old, out = LatentStore(tmp_path / "old"), LatentStore(tmp_path / "new")
        for names, latents in calm.batches(size=5):
            old.append(names[:3], latents[:3], calm.space)
        merge_stores([old], out)
        assert out.image_ids() == old.image_ids()
        assert embed(data, model, out)[0] == N - len(old.image_ids())
        assert verify_store(out) == []

    def test_another_schedule(self, calm, tmp_path, capsys):
        other = LatentStore(tmp_path / "other")
        other.append(["x"], torch.zeros(1, *calm.space.shape), replace(calm.space, schedule=Schedule(steps=9)))
        assert main(["embed", "merge", str(calm.root), str(other.root), "--out", str(tmp_path / "c")]) == 2
        line = capsys.readouterr().err
        assert "steps=2" in line
        assert "steps=9" in line
        assert not (tmp_path / "c").exists()


class TestStatistics:
    def test_a_refit_reads_no_latents(self, store, labels):
        first = slopes(store, labels)
        for path in store.shards:
            header = read_header(path)
            path.write_bytes(path.read_bytes()[: header.start] + bytes(header.size))
        assert slopes(store, labels) == first
        assert slopes(store, labels, width=29.0) != first  # other bins: these latents are read

    def test_are_made_anew_where_anything_changed(self, store, calm, data, model, labels):
        slopes(store, labels)
        changed = labels.assign(yaw_deg=labels["yaw_deg"].to_numpy()[::-1])
        assert slopes(store, changed) == slopes(calm, changed)
        assert slopes(store, labels, where="yaw_deg > -35") == slopes(calm, labels, where="yaw_deg > -35")
        for path in (store.root / "statistics").iterdir():
            path.write_bytes(path.read_bytes()[:-100])
        assert slopes(store, labels) == slopes(calm, labels)

    def test_grow_with_the_store(self, store, calm, data, model, labels):
        hidden = {path: path.read_bytes() for path in store.shards[2:5]}
        for path in hidden:
            path.unlink()
        slopes(store, labels)
        for path, content in hidden.items():
            path.write_bytes(content)
        assert slopes(store, labels) == slopes(calm, labels)

    def test_sums_are_exact_in_any_order(self):
        rng = np.random.default_rng(0)
        x, yaw = rng.normal(size=(600, 40)).astype(np.float16), rng.uniform(-44, 44, 600)
        whole, parts = Centroids().fit(x, yaw), []
        for rows in np.split(rng.permutation(600), [7, 100, 399]):
            parts.append(Centroids().fit(x[rows], yaw[rows]))
        merged = Centroids()
        for part in parts[::-1]:
            merged.merge(part)
        assert np.array_equal(whole.means_, merged.means_)
        assert np.array_equal(whole.counts_, merged.counts_)
        np.testing.assert_allclose(whole.yaw_, merged.yaw_, rtol=1e-12)

    def test_other_bins_are_not_merged(self):
        with pytest.raises(LatentrotError, match="bin edges"):
            Centroids().merge(Centroids(YawBins(5, 30)))


class TestElsewhere:
    def test_an_address_instead_of_a_folder(self, calm, data, model, labels):
        store = LatentStore(f"memory://latents-{os.getpid()}")
        assert embed(data, model, store) == (N, [])
        assert checksums(store) == checksums(calm)
        assert verify_store(store) == []
        assert slopes(store, labels) == slopes(calm, labels) == slopes(store, labels)
        assert len(list((store.root / "statistics").iterdir())) == 1
        out = LatentStore(f"memory://merged-{os.getpid()}")
        merge_stores([store], out)
        assert verify_store(out) == []

    @pytest.mark.parametrize("address", ["nonsense://there/latents"])
    def test_an_unknown_one(self, address):
        with pytest.raises(LatentrotError, match="nonsense") as info:
            LatentStore(address)
        complaint(info)

    def test_several_processes(self, calm, data, model_folder, tmp_path):
        store = LatentStore(tmp_path / "latents")
        plan(FaceFolder(data), store, calm.space, Sizes(3, 4))
        job = EmbedJob(data, str(store.root), str(model_folder), sizes=Sizes(3, 4))
        reports = list(embed_in_processes(job, pending_shards(store), ["cpu", "cpu"], threads=1))
        assert sorted(r.number for r in reports) == list(range(7))
        assert checksums(store) == checksums(calm)

    def test_a_lost_machine(self, calm, data, model, model_folder, tmp_path, monkeypatch):
        """Two nodes of a real cluster; one is killed while it works."""
        ray = pytest.importorskip("ray", reason="an extra")
        from ray.cluster_utils import Cluster  # noqa: PLC0415

        from latentrot.store.cluster import connect, embed_on_ray  # noqa: PLC0415

        monkeypatch.setenv("PYTHONPATH", str(Path(work.__file__).parents[2]))
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        try:
            node = cluster.add_node(num_cpus=1)
            cluster.wait_for_nodes()
            connect(cluster.address)
            store, alone = LatentStore(tmp_path / "latents"), LatentStore(tmp_path / "alone")
            for planned in (store, alone):
                plan(FaceFolder(data), planned, calm.space, Sizes(2, 2))
            job = EmbedJob(data, str(store.root), str(model_folder), sizes=Sizes(2, 2))
            done: list[int] = []
            workers: set[int] = set()
            for report in embed_on_ray(job, pending_shards(store)):
                done.append(report.number)
                workers.add(report.process)
                if node is not None and (len(workers) == 2 or len(done) == N // 2 - 2):
                    cluster.remove_node(node, allow_graceful=False)  # both are at work on a shard, as a rule
                    node = None
            assert sorted(done) == list(range(N // 2))
            assert verify_store(store) == []
            embed(data, model, alone)
            assert checksums(store) == checksums(alone)
        finally:
            ray.shutdown()
            cluster.shutdown()


def test_gradients_are_all_different():
    """Otherwise an image in another's place would go unnoticed here."""
    assert len({g.tobytes() for g in gradients(N)}) == N
