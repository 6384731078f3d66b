"""Check a store against its manifest."""

from __future__ import annotations

from collections.abc import Callable

import torch

from latentrot.data.celeba import FaceFolder
from latentrot.errors import LatentrotError
from latentrot.store.identity import changed_images
from latentrot.store.latent_store import LatentStore
from latentrot.store.manifest import Manifest
from latentrot.store.shard import checksum_of, raw_bytes, read_header, read_latent_rows

__all__ = ["verify_store"]


def verify_store(
    store: LatentStore, progress: Callable[[int], object] | None = None, folder: FaceFolder | None = None
) -> list[str]:
    """Check every shard: existence, checksum, image names, shape, and finite values.

    Args:
        store: the store.
        progress: called with 1 for every shard checked.
        folder: images; if given, the digests of the latents are compared with these files.

    Returns:
        One line per problem; empty for an intact store.

    Raises:
        LatentrotError: the store is empty or has no manifest.
    """
    manifest, numbers = store.manifest, set(store.numbers)
    if not manifest:
        _ = store.space  # raises for an empty store
        raise LatentrotError(
            f"{store.root} has no manifest to check it against; convert it into a planned store "
            f"with: latentrot embed merge {store.root} --out NEW"
        )
    planned = range(len(manifest))
    problems = [f"{store.path_of(n)}: not in the manifest" for n in sorted(numbers - set(planned))]
    absent = [n for n in planned if n not in numbers]
    problems += [f"shards {name} are missing; run the same embed command again" for name in ranges(absent)]
    for number in sorted(numbers & set(planned)):
        problems += [f"{store.path_of(number)}: {what}" for what in shard_problems(store, manifest, number)]
        if progress is not None:
            progress(1)
    if folder is not None and not problems:
        changes = changed_images(store, folder)
        problems += [f"{folder.image_dir / name}: differs from the image that was embedded" for name in changes.images]
        if changes.unknown:
            problems.append(f"{changes.unknown} latents have no recorded digest and cannot be checked")
    return problems


def ranges(numbers: list[int]) -> list[str]:
    """[1, 2, 3, 7] -> ["1-3", "7"]."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and runs[-1][1] == n - 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return [str(a) if a == b else f"{a}-{b}" for a, b in runs]


def shard_problems(store: LatentStore, manifest: Manifest, number: int) -> list[str]:
    """Problems of one existing shard."""
    path = store.path_of(number)
    try:
        header = read_header(path)
        header.space.require_same(manifest.space, str(path))
        latents = read_latent_rows(path, header)
    except LatentrotError as error:
        return [str(error).removeprefix(f"{path} ")]
    found = []
    if header.shape[1:] != manifest.space.shape or header.dtype != torch.float16:
        found.append(f"latents {header.dtype} {header.shape[1:]}, expected float16 {manifest.space.shape}")
    skipped = {name for name, _ in header.skipped}
    planned = manifest.shard_ids(number)
    if [i for i in planned if i not in skipped] != header.image_ids or not skipped <= set(planned):
        found.append("its images differ from the manifest's")
    if checksum_of(header.metadata, raw_bytes(latents)) != header.checksum:
        found.append("its checksum is wrong; delete it and run embed again")
    elif not torch.isfinite(latents).all():
        found.append("contains nan or inf; delete it and run embed again")
    return found
