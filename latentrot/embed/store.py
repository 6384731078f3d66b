"""A folder of latents: safetensors shards plus one parquet index; appended to shard by shard, never half written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from tqdm import tqdm

from latentrot.data.celeba import FaceFolder
from latentrot.data.images import to_tensor
from latentrot.embed.model import LatentModel
from latentrot.embed.solve import Schedule, invert, without_remainder
from latentrot.errors import LatentrotError
from latentrot.files import write_atomically

__all__ = ["LatentSpace", "LatentStore", "embed_folder"]

KIND = "latentrot latents"


@dataclass(frozen=True)
class LatentSpace:
    """What latents must have in common to be added, averaged or moved along one another's lines.

    Attributes:
        model: the model's name, for people.
        digest: its weights' digest, for the check.
        schedule: steps, solver and depth of the inversion.
        shape: (c, h, w) of one latent.
        block: side of the first stage's pixel blocks (see `mirror_latents`).
    """

    model: str
    digest: str
    schedule: Schedule
    shape: tuple[int, int, int]
    block: int

    @classmethod
    def of(cls, model: LatentModel, schedule: Schedule) -> LatentSpace:
        """The space a model and a schedule span."""
        return cls(model.name, model.digest, schedule, model.latent_shape, model.first_stage.block)

    @classmethod
    def from_header(cls, header: dict[str, str]) -> LatentSpace:
        """Read from an artefact's header."""
        return cls(
            header["model"],
            header["digest"],
            Schedule(**json.loads(header["schedule"])),
            tuple(json.loads(header["shape"])),
            int(header["block"]),
        )

    def header(self) -> dict[str, str]:
        """As written into an artefact's header."""
        return {
            "model": self.model,
            "digest": self.digest,
            "schedule": json.dumps(asdict(self.schedule)),
            "shape": json.dumps(self.shape),
            "block": str(self.block),
        }

    def require_same(self, other: LatentSpace, what: str) -> None:
        """Refuse another model or schedule, quoting both values.

        Raises:
            LatentrotError: `what` (self) and the one in use (other) differ.
        """
        for name in ("digest", "schedule", "shape"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                raise LatentrotError(
                    f"{what} belongs to model {self.model!r} with {name} {mine}, but here {other.model!r} has {theirs}; "
                    "use the model and schedule it was made with, or make it anew"
                )


class LatentStore:
    """Latents on disk.

    Args:
        root: the store's folder; made on the first write.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    @property
    def shards(self) -> list[Path]:
        """The shards, in order."""
        return sorted(self.root.glob("shard-*.safetensors"))

    def header(self, shard: Path) -> dict[str, str]:
        """One shard's header.

        Raises:
            LatentrotError: the file is damaged or not a shard of latents.
        """
        try:
            with safe_open(shard, "pt") as file:
                header = file.metadata() or {}
        except (OSError, SafetensorError) as error:
            raise LatentrotError(f"{shard} is damaged ({error}); delete it and run embed again") from error
        if header.get("kind") != KIND:
            raise LatentrotError(f"{shard} is not a shard of latents (kind {header.get('kind')!r})")
        return header

    @cached_property
    def space(self) -> LatentSpace:
        """The space the latents live in; all shards must agree."""
        if not self.shards:
            raise LatentrotError(
                f"no latents in {self.root}; make them with: latentrot embed --data DIR --out {self.root}"
            )
        spaces = {shard: LatentSpace.from_header(self.header(shard)) for shard in self.shards}
        first = spaces[self.shards[0]]
        for shard, space in spaces.items():
            space.require_same(first, str(shard))
        return first

    def image_ids(self) -> list[str]:
        """Names of all embedded pictures, shard by shard."""
        return [i for shard in self.shards for i in json.loads(self.header(shard)["image_ids"])]

    def append(self, image_ids: list[str], latents: torch.Tensor, space: LatentSpace) -> Path:
        """Write one more shard: (n, c, h, w) latents, stored in half precision."""
        numbers = [int(p.stem.split("-")[1]) for p in self.shards]
        path = self.root / f"shard-{max(numbers, default=-1) + 1:05d}.safetensors"
        header = {"kind": KIND, "image_ids": json.dumps(image_ids), **space.header()}
        content = save({"latents": latents.half().contiguous()}, metadata=header)
        write_atomically(path, lambda p: p.write_bytes(content))
        self.__dict__.pop("space", None)
        return path

    def write_index(self) -> Path:
        """Write index.parquet: image_id, shard, row; rebuilt from the shards' headers."""
        rows = [
            (image_id, shard.name, row)
            for shard in self.shards
            for row, image_id in enumerate(json.loads(self.header(shard)["image_ids"]))
        ]
        table = pd.DataFrame(rows, columns=["image_id", "shard", "row"])
        path = self.root / "index.parquet"
        write_atomically(path, lambda p: table.to_parquet(p, index=False))
        return path

    def batches(self, wanted: set[str] | None = None, size: int = 64) -> Iterator[tuple[list[str], torch.Tensor]]:
        """Stream the latents in constant memory.

        Args:
            wanted: names of the pictures to yield; None: all.
            size: latents read at a time.

        Yields:
            image_ids and their (n, c, h, w) float32 latents, n <= size.
        """
        for shard in self.shards:
            image_ids = json.loads(self.header(shard)["image_ids"])
            with safe_open(shard, "pt") as file:
                rows = file.get_slice("latents")
                for start in range(0, len(image_ids), size):
                    names = image_ids[start : start + size]
                    keep = np.array([wanted is None or n in wanted for n in names])
                    if keep.any():
                        latents = rows[start : start + size][torch.from_numpy(keep)].float()
                        yield [n for n, k in zip(names, keep, strict=True) if k], latents


def embed_folder(
    folder: FaceFolder,
    model: LatentModel,
    store: LatentStore,
    schedule: Schedule | None = None,
    *,
    batch_size: int = 64,
    shard_size: int = 512,
) -> tuple[int, list[str]]:
    """Embed every picture of a folder that the store does not hold yet.

    Args:
        folder: the pictures.
        model: the model.
        store: where the latents go; one that exists is continued, if it is of the same model and schedule.
        schedule: the inversion's; None: the default.
        batch_size: pictures inverted at a time.
        shard_size: latents per shard; what a kill can lose.

    Returns:
        How many pictures were embedded now, and one line for each that could not be read.
    """
    space = LatentSpace.of(model, schedule or Schedule())
    if store.shards:
        store.space.require_same(space, str(store.root))
    done = set(store.image_ids())
    todo = [i for i in folder.ids if i not in done]
    bad: list[str] = []
    with tqdm(total=len(folder.ids), initial=len(done), disable=None, desc="embed", unit="img") as bar:
        for start in range(0, len(todo), shard_size):
            names, latents = [], []
            for i in range(start, min(start + shard_size, len(todo)), batch_size):
                wanted = todo[i : min(i + batch_size, start + shard_size)]
                batch, crops, complaints = folder.read_readable(wanted, model.resolution)
                bad += complaints
                if batch:
                    latents.append(without_remainder(invert(model, to_tensor(crops), schedule=space.schedule)))
                    names += batch
                bar.update(batch_size)
            if names:
                store.append(names, torch.cat(latents), space)
    if store.shards:
        store.write_index()
    return len(todo) - len(bad), bad
