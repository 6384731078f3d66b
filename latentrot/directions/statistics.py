"""Sums of latents per yaw bin and light, the input of the regression; cached beside the shards for the next fit.

The 27 sums of nine bins and three lights, stored per shard, would add a fifth to a store; stored per block of 64 shards they
add a third of a percent. The file of a block records everything on which it depends: the checksum of each shard and the group
of each of its rows. Sums of half-precision latents in float64 are exact, so neither the order nor the partition into shards
changes a bit. The folder `statistics` may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from upath import UPath

from latentrot.diffusion.first_stage import mirror_latents
from latentrot.directions.lines import Centroids, YawBins, add_by_group
from latentrot.errors import LatentrotError
from latentrot.faces.estimate import LIGHTS
from latentrot.store.latent_store import LatentStore
from latentrot.store.places import write_atomic
from latentrot.store.shard import ShardHeader

__all__ = ["BLOCK", "MIRRORED_LIGHT", "ShardRows", "Statistics", "block_sums", "checked", "gather"]

KIND, FORMAT = "latentrot statistics", "1"
#: the light of a mirrored image
MIRRORED_LIGHT = {"left": "right", "right": "left"}
#: number of shards per file of sums
BLOCK = 64


@dataclass(eq=False)
class Statistics:
    """Sums per yaw bin and light.

    Attributes:
        bins: the yaw bins.
        counts: (bins, 3) latents; lights in the order of `LIGHTS`.
        sums: (bins, 3, d) float64 sums of latents.
        yaw: (bins, 3) sums of yaw in degrees.
    """

    bins: YawBins
    counts: np.ndarray
    sums: np.ndarray
    yaw: np.ndarray

    @classmethod
    def empty(cls, bins: YawBins, d: int) -> Statistics:
        """All-zero sums."""
        n = len(bins.edges) - 1
        return cls(bins, np.zeros((n, 3), np.int64), np.zeros((n, 3, d)), np.zeros((n, 3)))

    def centroids(self, light: str, shape: tuple[int, int, int], factor: int, *, mirror: bool) -> Centroids:
        """Centroids of one illumination class.

        Args:
            light: left, center, right, or any for all of them.
            shape: (c, h, w) of a latent.
            factor: pixel-unshuffle factor of the first stage, for mirroring.
            mirror: also count every latent mirrored; the mirrored sum equals the sum of the mirrored latents.
        """
        found = Centroids(self.bins)
        for name in LIGHTS if light == "any" else (light,):
            k = LIGHTS.index(name)
            found.add(self.counts[:, k], self.sums[:, k], self.yaw[:, k])
            if mirror:
                k = LIGHTS.index(MIRRORED_LIGHT.get(name, name))
                sums = torch.from_numpy(self.sums[::-1, k].reshape(-1, *shape).copy())
                flipped = mirror_latents(sums, factor).flatten(1).numpy()
                found.add(self.counts[::-1, k], flipped, -self.yaw[::-1, k])
        return found


@dataclass(frozen=True)
class Assigned:
    """The rows of one shard with their groups.

    Attributes:
        number: shard number.
        header: header of the shard.
        groups: (n,) group of each row, 3 * bin + light; -1: no group.
        yaw: (n,) degrees; 0 without a label.
    """

    number: int
    header: ShardHeader
    groups: np.ndarray
    yaw: np.ndarray

    @property
    def key(self) -> str:
        """Digest of everything on which the sums of the shard depend."""
        sha = hashlib.sha256(self.header.checksum.encode())
        sha.update(self.groups.astype("<i4").tobytes())
        return sha.hexdigest()[:32]

    @property
    def count(self) -> int:
        """Number of rows used."""
        return int((self.groups >= 0).sum())

    def add_to(self, sums: np.ndarray, latents: torch.Tensor) -> None:
        """Add (n, c, h, w) latents to (bins, 3, d) sums."""
        flat = np.zeros((sums.shape[0] * sums.shape[1] + 1, sums.shape[2]))
        add_by_group(flat, latents.flatten(1).numpy(), self.groups)
        sums += flat[:-1].reshape(sums.shape)


class ShardRows(Protocol):
    """The rows of a shard that are summed; `Assigned` sums by yaw bin, `ShardColumns` by table column."""

    @property
    def number(self) -> int:
        """Number of the shard."""
        ...

    @property
    def header(self) -> ShardHeader:
        """Header of the shard."""
        ...

    @property
    def key(self) -> str:
        """Digest of everything on which the sums depend."""
        ...

    @property
    def count(self) -> int:
        """Number of rows used."""
        ...

    def add_to(self, sums: np.ndarray, latents: torch.Tensor) -> None:
        """Add (n, c, h, w) latents to the sums, float64, in place."""
        ...


class Lookup:
    """Group and yaw of every labelled image, by name.

    Args:
        rows: table of the used images, indexed by image_id, with yaw_deg and light.
        bins: the yaw bins.
    """

    def __init__(self, rows: pd.DataFrame, bins: YawBins) -> None:
        self.index = rows.index
        self.yaw = rows["yaw_deg"].to_numpy(np.float64)
        light = pd.Categorical(rows["light"].to_numpy(), categories=list(LIGHTS)).codes.astype(np.int64)
        bin_ = bins.assign(self.yaw)
        self.groups = np.where((bin_ >= 0) & (light >= 0), 3 * bin_ + light, -1)

    def assign(self, number: int, header: ShardHeader) -> Assigned:
        """Look up group and yaw of the rows of one shard."""
        at = self.index.get_indexer(pd.Index(header.image_ids, dtype=self.index.dtype))
        groups = np.where(at >= 0, self.groups[at], -1)
        return Assigned(number, header, groups, np.where(groups >= 0, self.yaw[at], 0.0))


def gather(
    store: LatentStore,
    rows: pd.DataFrame,
    bins: YawBins,
    choice: str = "",
    progress: Callable[[int], object] | None = None,
) -> Statistics:
    """Sums over the labelled latents of a store; valid cached sums are reused.

    Args:
        store: the latents.
        rows: table of the used images, indexed by image_id, with yaw_deg and light.
        bins: the yaw bins.
        choice: description of how `rows` were chosen; each choice has its own cache files.
        progress: called with the number of labelled latents processed since the last call.
    """
    total = Statistics.empty(bins, int(np.prod(store.space.shape)))
    n, lookup = total.counts.size, Lookup(rows, bins)
    series = hashlib.sha256(repr((float(bins.width), float(bins.limit), choice)).encode()).hexdigest()[:12]
    for block, members in groupby(store.headers(), key=lambda pair: pair[0] // BLOCK):
        shards = [lookup.assign(number, checked(store, number, header)) for number, header in members]
        path = store.root / "statistics" / f"{series}-{block:05d}.safetensors"
        total.sums += block_sums(store, shards, path, total.sums.shape, progress)
        for shard in shards:
            kept = shard.groups >= 0
            total.counts += np.bincount(shard.groups[kept], minlength=n).reshape(-1, 3)
            total.yaw += np.bincount(shard.groups[kept], shard.yaw[kept], minlength=n).reshape(-1, 3)
    return total


def checked(store: LatentStore, number: int, header: ShardHeader) -> ShardHeader:
    """Return a shard's header after checking that its model and schedule are the store's.

    Raises:
        LatentrotError: the shard belongs to another model or schedule.
    """
    header.space.require_same(store.space, str(store.path_of(number)))
    return header


def block_sums(
    store: LatentStore,
    shards: Sequence[ShardRows],
    path: Path | UPath,
    shape: tuple[int, ...],
    progress: Callable[[int], object] | None,
) -> np.ndarray:
    """Sums over the shards of a block, of the given shape: cached sums plus the sums of shards that are not cached."""
    keys = {str(shard.number): shard.key for shard in shards}
    known, sums = read_block(path, keys, shape)
    for shard in shards:
        if progress is not None and str(shard.number) in known:
            progress(shard.count)
    left = {shard.number: shard for shard in shards if str(shard.number) not in known}
    for number, _, latents in store.stream((s.number, s.header) for s in left.values()):
        if left[number].count:
            left[number].add_to(sums, latents)
        if progress is not None:
            progress(left[number].count)
    if left and all(
        shard.header.checksum for shard in shards
    ):  # without checksums a changed shard would not be noticed
        header = {"kind": KIND, "format": FORMAT, "keys": json.dumps(keys)}
        with suppress(LatentrotError):  # a read-only store or a full disk must not stop the fit
            write_atomic(path, save({"sums": torch.from_numpy(sums)}, metadata=header))
    return sums


def read_block(path: Path | UPath, keys: dict[str, str], shape: tuple[int, ...]) -> tuple[set[str], np.ndarray]:
    """Keys of the shards in a block's file, and their sums; empty if one of the shards has changed."""
    nothing = set(), np.zeros(shape)
    try:
        content = path.read_bytes()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
        covered = json.loads(header["keys"])
        if (header["kind"], header.get("format", "1")) != (KIND, FORMAT) or not covered.items() <= keys.items():
            return nothing
        sums = load(content)["sums"].numpy()
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return nothing  # damaged or missing: compute it again
    return (set(covered), sums) if sums.shape == shape else nothing
