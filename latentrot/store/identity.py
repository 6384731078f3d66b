"""Check by digests that latents belong to the current images of a folder or of a label table."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import pandas as pd

from latentrot.data.celeba import FaceFolder
from latentrot.data.digests import changed_names, image_digests, list_some, refuse_most_changed
from latentrot.store.latent_store import LatentStore

__all__ = ["Changes", "changed_images", "forget_changed", "require_same_images"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Changes:
    """Differences between the images of a folder and those of a store.

    Attributes:
        images: names of changed images.
        shards: numbers of the shards that hold their latents.
        known: number of images of the folder with a recorded digest.
        unknown: number of images without one, from before digests were recorded.
    """

    images: list[str]
    shards: list[int]
    known: int
    unknown: int


def changed_images(store: LatentStore, folder: FaceFolder) -> Changes:
    """Compare the digests in a store with those of the files in a folder; images missing in the folder are ignored."""
    images, shards, known, unknown = [], [], 0, 0
    there = set(folder.ids)
    for number, header in store.headers():
        names = [(name, digest) for name, digest in zip(header.image_ids, header.digests, strict=True) if name in there]
        told = [(name, digest) for name, digest in names if digest]
        unknown += len(names) - len(told)
        now = image_digests(folder.image_dir, [name for name, _ in told])
        changed = [name for (name, digest), other in zip(told, now, strict=True) if other and other != digest]
        known += len(told)
        images += changed
        shards += [number] if changed else []
    return Changes(images, shards, known, unknown)


def forget_changed(store: LatentStore, folder: FaceFolder) -> None:
    """Delete the shards that contain changed images, with a warning, so that they are embedded again.

    Raises:
        LatentrotError: more than half of the images have changed, so the store belongs to another folder.
    """
    changes = changed_images(store, folder)
    if changes.unknown:
        log.warning(
            "%s: %d latents have no recorded digest; whether they belong to the current images in %s is unknown",
            store.root, changes.unknown, folder.image_dir,
        )  # fmt: skip
    if not changes.images:
        return
    refuse_most_changed(
        changes.images, changes.known, f"{store.root} holds latents of other images than {folder.image_dir}",
        "use another --out, or the folder it was embedded from",
    )  # fmt: skip
    log.warning("%d images have changed since they were embedded: %s; %d shards are embedded again",
                len(changes.images), list_some(changes.images), len(changes.shards))  # fmt: skip
    for number in changes.shards:
        store.path_of(number).unlink()


def require_same_images(store: LatentStore, labels: pd.DataFrame) -> pd.DataFrame:
    """Drop the labels of images whose digests differ from those in the store, with a warning.

    Args:
        store: the latents.
        labels: table indexed by image_id, with a column `digest` if digests were recorded.

    Raises:
        LatentrotError: more than half of the labels belong to other images.
    """
    if "digest" not in labels:
        log.info("the labels have no digests of their images; they are joined with the latents by name only")
        return labels
    embedded = {
        name: digest
        for _, header in store.headers()
        for name, digest in zip(header.image_ids, header.digests, strict=True)
    }
    others = changed_names(
        embedded, labels["digest"].dropna().astype(str).to_dict(),
        f"the labels belong to other images than the latents in {store.root}", "label the folder that was embedded",
    )  # fmt: skip
    if others:
        log.warning("%d images have changed between embedding and labelling, and are left out: %s; embed and label again",
                    len(others), list_some(others))  # fmt: skip
    return labels.drop(index=others)
