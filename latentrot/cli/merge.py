"""Several stores of latents to one: `merge`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from latentrot.errors import LatentrotError
from latentrot.files import check_writable

__all__ = ["Merge"]


@dataclass(frozen=True)
class Merge:
    """Make one store of latents of several people's or runs', all of the same model and schedule.

    Shards are hard links where the disk allows it. A store from an earlier version, without a manifest, gets one.
    """

    stores: Annotated[tuple[str, ...], tyro.conf.Positional]
    """folders or addresses of the stores"""
    out: str = "merged"
    """folder or address of the new one"""
    drop_duplicates: bool = False
    """keep the first store's latent of an image that several have, rather than refuse them"""

    def run(self) -> None:
        """Merge, and say how much."""
        check_writable(f"{self.out}/manifest-00000.parquet")
        from tqdm import tqdm  # noqa: PLC0415

        from latentrot.store.latent_store import LatentStore  # noqa: PLC0415
        from latentrot.store.merge import merge_stores  # noqa: PLC0415

        if not self.stores:
            raise LatentrotError("no stores to merge; give their folders")
        stores, out = [LatentStore(root) for root in self.stores], LatentStore(self.out)
        with tqdm(total=sum(len(s.numbers) for s in stores), unit="shard", desc="merge", disable=None) as bar:
            held, dropped = merge_stores(stores, out, drop_duplicates=self.drop_duplicates, progress=bar.update)
        print(f"{self.out}: {held} images in {len(out.numbers)} shards, {dropped} duplicates left out")
