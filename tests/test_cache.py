"""Latents kept between edits: found again, never another's, private, bounded, and never a reason to fail."""

import os
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import gradients

from latentrot.diffusion.fingerprint import Fingerprint
from latentrot.diffusion.load import LatentModel
from latentrot.diffusion.schedule import Schedule
from latentrot.directions.directions import Directions
from latentrot.rotators.latent.rotator import LatentRotator
from latentrot.store.cache import LatentCache, cache_folder, latent_key
from latentrot.store.space import LatentSpace


@pytest.fixture
def rotator(model, tmp_path) -> LatentRotator:
    line, steps = torch.zeros(model.latent_shape), (-90.0, 0.0, 90.0)
    space = LatentSpace.of(model, Schedule(steps=4))
    lines = {"any": Directions("any", line, line, space, steps, steps, {})}
    return LatentRotator(model, lines, cache=LatentCache(tmp_path / "cache"))


def test_an_image_is_inverted_once(rotator, monkeypatch):
    crop = gradients(1)[0]
    first = rotator.invert(crop)
    monkeypatch.setattr(LatentModel, "velocity", lambda *_: pytest.fail("inverted again"))
    assert torch.equal(rotator.invert(crop), first)


def test_nothing_is_stored_without_a_cache(rotator):
    replace(rotator, cache=None).invert(gradients(1)[0])
    assert not rotator.cache.root.exists()


def test_the_key_contains_everything_a_latent_depends_on(model):
    crop, space = gradients(1)[0], LatentSpace.of(model, Schedule())
    other = crop.copy()
    other[3, 4, 1] ^= 1
    keys = {
        latent_key(crop, space, 1e-3),
        latent_key(other, space, 1e-3),
        latent_key(crop, space, 1e-4),
        latent_key(crop, replace(space, fingerprint=Fingerprint("0")), 1e-3),
        latent_key(crop, replace(space, schedule=Schedule(steps=13)), 1e-3),
        latent_key(crop.reshape(8, 32, 3), space, 1e-3),
    }
    assert len(keys) == 6
    assert latent_key(np.ascontiguousarray(crop.copy()), replace(space, model="renamed"), 1e-3) in keys


def test_is_readable_by_its_owner_only(tmp_path):
    before = os.umask(0)
    try:
        cache = LatentCache(tmp_path / "a" / "b")
        cache.put("k", torch.zeros(1, 3, 4, 4))
    finally:
        os.umask(before)
    assert cache.root.stat().st_mode & 0o777 == 0o700
    assert cache.path("k").stat().st_mode & 0o777 == 0o600


def test_the_least_recently_used_are_removed_first(tmp_path):
    cache = LatentCache(tmp_path, max_bytes=3 * 4200)
    for i, key in enumerate("abc"):
        cache.put(key, torch.full((1, 1, 32, 32), float(i)))
        os.utime(cache.path(key), (time.time() - 100 + i,) * 2)
    assert cache.get("a") is not None
    cache.put("d", torch.zeros(1, 1, 32, 32))
    assert [cache.get(k) is not None for k in "abcd"] == [True, False, True, True]
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= cache.max_bytes


def test_damaged_files_and_unwritable_folders_are_ignored(rotator, tmp_path):
    crop = gradients(1)[0]
    first = rotator.invert(crop)
    (file,) = rotator.cache.root.iterdir()
    file.write_bytes(file.read_bytes()[:50])
    assert torch.equal(rotator.invert(crop), first)
    assert file.stat().st_size > 50
    (tmp_path / "file").write_text("")
    assert torch.equal(replace(rotator, cache=LatentCache(tmp_path / "file" / "cache")).invert(crop), first)


def test_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "latentrot" / "latents"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/paths/are/to/be/ignored")
    assert cache_folder().is_absolute()
