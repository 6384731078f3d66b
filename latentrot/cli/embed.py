"""Pictures to latents: `embed`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from latentrot.cli.common import Where, at_least

__all__ = ["Embed"]


@dataclass(frozen=True)
class Embed:
    """Embed a folder of faces: pictures -> latents; goes on where it stopped."""

    data: Path
    """CelebA folder, or any folder of aligned (178:218) or square face pictures"""
    out: Path = Path("latents")
    """the store's folder"""
    model: str | None = None
    """a diffusers folder or a Hub id; by default the bundled model"""
    steps: int | None = None
    """steps of the inversion"""
    solver: Literal["fixed-point", "exact", "ddim"] | None = None
    """how the ODE is solved, both ways"""
    batch_size: int = 64
    """pictures at a time"""
    where: Annotated[Where, tyro.conf.OmitArgPrefixes] = field(default_factory=Where)

    def run(self) -> None:
        """Embed what the store does not hold yet."""
        from latentrot.data.celeba import FaceFolder  # noqa: PLC0415
        from latentrot.embed.model import load_model  # noqa: PLC0415
        from latentrot.embed.solve import resolve_schedule  # noqa: PLC0415
        from latentrot.embed.store import LatentStore, embed_folder  # noqa: PLC0415

        at_least("--batch-size", self.batch_size, 1)
        folder = FaceFolder(self.data)
        model = load_model(self.model, self.where.device, self.where.dtype)
        store = LatentStore(self.out)
        schedule = resolve_schedule(self.steps, self.solver, None)
        done, bad = embed_folder(folder, model, store, schedule, batch_size=self.batch_size)
        for line in bad:
            print(f"skipped: {line}", file=sys.stderr)
        print(f"embedded {done} pictures, {len(bad)} skipped; {self.out} holds {len(store.image_ids())}")
