"""The command `embed merge`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from latentrot.errors import LatentrotError
from latentrot.files import check_writable

__all__ = ["Merge"]


@dataclass(frozen=True)
class Merge:
    """Merge several stores of latents into one; all must have the same model and schedule.

    Shards become hard links if the file system allows it. A store without a manifest, from an earlier version, gets one.
    """

    stores: Annotated[tuple[str, ...], tyro.conf.Positional]
    """folders or addresses of the stores"""
    out: str = "merged"
    """folder or address of the merged store"""
    drop_duplicates: bool = False
    """if an image is in several stores, keep the latent of the first one instead of failing"""

    def run(self) -> None:
        """Merge the stores and print the counts."""
        check_writable(f"{self.out}/manifest-00000.parquet")
        from tqdm import tqdm  # noqa: PLC0415

        from latentrot.store.latent_store import LatentStore  # noqa: PLC0415
        from latentrot.store.merge import merge_stores  # noqa: PLC0415

        if not self.stores:
            raise LatentrotError("no stores to merge; give at least one folder or address")
        stores, out = [LatentStore(root) for root in self.stores], LatentStore(self.out)
        with tqdm(total=sum(len(s.numbers) for s in stores), unit="shard", desc="merge", disable=None) as bar:
            held, dropped = merge_stores(stores, out, drop_duplicates=self.drop_duplicates, progress=bar.update)
        print(f"{self.out}: {held} images in {len(out.numbers)} shards, {dropped} duplicates dropped")
