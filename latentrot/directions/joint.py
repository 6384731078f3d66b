"""Joint regression of the latents on all columns of a table, computed from sums.

    z = c + sum_k b_k x_k

`b_k` is the partial effect of column k. Ridge regression needs X'X, X'Z and, for the residual variance, the sum of z squared.
These sums over images are computed in constant memory and cached with the shards. They do not depend on the order: columns
are multiples of 1/64 and latents have half precision, so that products and their sums are exact in float64 (z is rounded to
multiples of 2^-12 before it is squared).

Source: Hoerl and Kennard, "Ridge Regression: Biased Estimation for Nonorthogonal Problems", Technometrics 12(1), 1970.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pandas as pd
import torch

from latentrot.diffusion.first_stage import mirror_latents
from latentrot.directions.design import Design, mirrored_columns
from latentrot.directions.statistics import BLOCK, block_sums, checked
from latentrot.errors import LatentrotError
from latentrot.store.latent_store import LatentStore
from latentrot.store.shard import ShardHeader

__all__ = ["JointSums", "gather_joint", "ridge_slopes", "sums_of"]

#: z is rounded to multiples of this before it is squared, so that sums of squares are exact
SQUARED_GRAIN = 2.0**-12
#: size of a block of latents, which stays in the processor's cache in float64
ROWS, COLUMNS = 256, 1024
#: ridge penalty, see `ridge_slopes`
RIDGE = 20.0


@dataclass(frozen=True, eq=False)
class JointSums:
    """Sums of the regression over images.

    Attributes:
        names: the k columns, the intercept ("1") first.
        xx: (k, k) float64, X'X; its first entry is the number of images.
        xz: (k, d) float64, X'Z.
        zz: (d,) float64, sum of z squared.
    """

    names: tuple[str, ...]
    xx: np.ndarray
    xz: np.ndarray
    zz: np.ndarray

    @property
    def count(self) -> int:
        """Number of images."""
        return int(self.xx[0, 0])

    def __add__(self, other: JointSums) -> JointSums:
        """Add sums of the same columns."""
        if self.names != other.names:
            raise LatentrotError(f"sums over columns {self.names} cannot be added to sums over {other.names}")
        return JointSums(self.names, self.xx + other.xx, self.xz + other.xz, self.zz + other.zz)

    def of(self, names: Sequence[str]) -> JointSums:
        """The sums for the intercept and the named columns."""
        kept = [i for i, name in enumerate(self.names) if name == "1" or name in names]
        return JointSums(tuple(self.names[i] for i in kept), self.xx[np.ix_(kept, kept)], self.xz[kept], self.zz)

    def mirrored(self, shape: tuple[int, int, int], factor: int) -> JointSums:
        """The sums over the mirrored images, computed by mirroring the sums.

        Args:
            shape: (c, h, w) of a latent.
            factor: pixel-unshuffle factor of the first stage.
        """
        order, sign = mirrored_columns(self.names)

        def flipped(rows: np.ndarray) -> np.ndarray:
            latents = torch.from_numpy(np.ascontiguousarray(rows)).reshape(-1, *shape)
            return mirror_latents(latents, factor).flatten(1).numpy()

        xx = self.xx[np.ix_(order, order)] * sign[:, None] * sign
        return JointSums(self.names, xx, flipped(self.xz[order]) * sign[:, None], flipped(self.zz[None])[0])


@dataclass(frozen=True, eq=False)
class ShardColumns:
    """One shard's rows with their columns: a `ShardRows`.

    Attributes:
        number: shard number.
        header: header of the shard.
        x: (n, k) float64; rows of unused images are zero.
    """

    number: int
    header: ShardHeader
    x: np.ndarray

    @property
    def key(self) -> str:
        """Digest of everything on which the sums of the shard depend."""
        return hashlib.sha256(self.header.checksum.encode() + self.x.tobytes()).hexdigest()[:32]

    @property
    def count(self) -> int:
        """Number of used rows."""
        return int(self.x[:, 0].sum())

    def add_to(self, sums: np.ndarray, latents: torch.Tensor) -> None:
        """Add X'Z and, as the last row, the sum of z squared: (k + 1, d) float64, in place."""
        add_terms(sums, self.x, latents.flatten(1))


def add_terms(sums: np.ndarray, x: np.ndarray, z: torch.Tensor) -> None:
    """Add X'Z and, as the last row, the sum of z squared, block by block.

    Args:
        sums: (k + 1, d) float64, changed in place.
        x: (n, k) columns, the first 1 or 0.
        z: (n, d) latents in half or single precision.
    """
    single, double = torch.empty(ROWS, COLUMNS), torch.empty(ROWS, COLUMNS, dtype=torch.float64)
    for top in range(0, len(z), ROWS):
        columns = np.ascontiguousarray(x[top : top + ROWS].T)
        for left in range(0, z.shape[1], COLUMNS):
            block = z[top : top + ROWS, left : left + COLUMNS]
            narrow, wide = (buffer[: block.shape[0], : block.shape[1]] for buffer in (single, double))
            wide.copy_(narrow.copy_(block))  # half to double is slower without this step
            part = sums[:, left : left + COLUMNS]
            part[:-1] += columns @ wide.numpy()
            wide.copy_(narrow.div_(SQUARED_GRAIN).round_())
            part[-1] += columns[0] @ wide.square_().numpy() * SQUARED_GRAIN**2


def sums_of(x: np.ndarray, z: np.ndarray, names: Sequence[str]) -> JointSums:
    """Sums of a batch in memory: (n, k) columns, the intercept first, and (n, d) latents in half precision."""
    both = np.zeros((len(names) + 1, z.shape[1]))
    add_terms(both, x, torch.from_numpy(z))
    return JointSums(tuple(names), x.T @ x, both[:-1], both[-1])


def gather_joint(
    store: LatentStore, design: Design, choice: str = "", progress: Callable[[int], object] | None = None
) -> JointSums:
    """Sums over the labelled latents of a store; valid cached sums are reused.

    Args:
        store: the latents.
        design: design matrix of the images that are used.
        choice: description of how the images were chosen; each choice has its own cache files.
        progress: called with the number of labelled latents processed since the last call.

    Raises:
        LatentrotError: the store contains none of the labelled images.
    """
    d, k = int(np.prod(store.space.shape)), len(design.names)
    xx, both = np.zeros((k, k)), np.zeros((k + 1, d))
    series = hashlib.sha256(repr(("joint", design.names, choice)).encode()).hexdigest()[:12]
    for block, members in groupby(store.headers(), key=lambda pair: pair[0] // BLOCK):
        shards = [columns_of(number, checked(store, number, header), design.table) for number, header in members]
        path = store.root / "statistics" / f"joint-{series}-{block:05d}.safetensors"
        both += block_sums(store, shards, path, both.shape, progress)
        xx += sum(shard.x.T @ shard.x for shard in shards)
    if not xx[0, 0]:
        raise LatentrotError(
            f"{store.root} contains none of the {len(design.table)} labelled images; label the images that were embedded"
        )
    return JointSums(design.names, xx, both[:-1], both[-1])


def columns_of(number: int, header: ShardHeader, table: pd.DataFrame) -> ShardColumns:
    """The columns of one shard's rows."""
    rows = table.reindex(pd.Index(header.image_ids, dtype=table.index.dtype)).to_numpy(np.float64)
    return ShardColumns(number, header, np.ascontiguousarray(np.nan_to_num(rows)))


def ridge_slopes(sums: JointSums, ridge: float = RIDGE) -> tuple[dict[str, np.ndarray], float]:
    """Regress the latents on all columns at once.

    Args:
        sums: sums over the images.
        ridge: penalty that is added to the diagonal of X'X of the columns, centred and scaled to a standard deviation of 1.

    Returns:
        Slope (d,) per unit of each column except the intercept; and the explained share of the variance of the latents.
    """
    # centre: the intercept is not penalised
    n = sums.xx[0, 0]
    mean_x, mean_z = sums.xx[0, 1:] / n, sums.xz[0] / n
    xx = sums.xx[1:, 1:] - n * np.outer(mean_x, mean_x)
    xz = sums.xz[1:] - n * np.outer(mean_x, mean_z)
    zz = sums.zz - n * mean_z**2

    # scale every column to a standard deviation of 1
    spread = np.sqrt(np.maximum(np.diag(xx) / n, 1e-12))
    xx, xz = xx / np.outer(spread, spread), xz / spread[:, None]

    # solve
    slopes = np.linalg.solve(xx + ridge * np.eye(len(xx)), xz)
    residual = zz.sum() - 2 * (slopes * xz).sum() + (slopes * (xx @ slopes)).sum()
    explained = 1 - float(residual / max(zz.sum(), 1e-30))
    return dict(zip(sums.names[1:], slopes / spread[:, None], strict=True)), explained
