"""Latents of photographs already edited, on disk, so that a second edit of the same one need not invert it again.

A latent decodes into its photograph: to keep it is to keep the photograph. So nothing is kept unless it is asked for
(`edit --cache`), only its owner can read it, the folder is bounded, and the page, which shows other people's photographs,
has no cache.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import platformdirs
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from latentrot.errors import LatentrotError
from latentrot.files import write_atomically
from latentrot.store.space import LatentSpace

__all__ = ["LatentCache", "cache_folder", "latent_key"]


def cache_folder() -> Path:
    """The user's own, where the system keeps such things; on Linux $XDG_CACHE_HOME or ~/.cache, then latentrot/latents."""
    return platformdirs.user_cache_path("latentrot", appauthor=False) / "latents"


def latent_key(crop: np.ndarray, space: LatentSpace, tolerance: float, residual: bool = True) -> str:
    """What a latent depends on, as a digest: the very pixels, the model, the schedule and the tolerance.

    Args:
        crop: (s, s, 3) uint8 at the model's resolution.
        space: model and schedule.
        tolerance: of the inversion.
        residual: whether it is stored with its residual latent.
    """
    depends_on = {
        "format": 2,
        "model": space.fingerprint.key,
        "schedule": asdict(space.schedule),
        "tolerance": tolerance,
        "remainder": residual,
        "shape": crop.shape,
    }
    return hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode() + crop.tobytes()).hexdigest()[:40]


@dataclass(frozen=True)
class LatentCache:
    """A folder of latents by key; the least recently used go first.

    Args:
        root: the folder, made on the first write for its owner alone (0700, files 0600).
        most_bytes: the files never take more than this together.
    """

    root: Path = field(default_factory=cache_folder)
    most_bytes: int = 32 * 2**20

    def get(self, key: str) -> torch.Tensor | None:
        """The latent kept under a key; None where there is none, or what there is is damaged."""
        path = self.path(key)
        try:
            with safe_open(path, "pt") as file:
                latent = file.get_tensor("latent")
            os.utime(path)
        except (OSError, SafetensorError):
            return None
        return latent

    def put(self, key: str, latent: torch.Tensor) -> None:
        """Keep a latent; a cache that cannot be written is no reason for an edit to fail."""
        content = save({"latent": latent.contiguous()})
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self.root.chmod(0o700)
            write_atomically(self.path(key), lambda p: write_private(p, content))
            self.forget_oldest()
        except (OSError, LatentrotError):
            return

    def path(self, key: str) -> Path:
        """The file of a key."""
        return self.root / f"{key}.safetensors"

    def forget_oldest(self) -> None:
        """Delete the least recently used files beyond the bound."""
        files = sorted(((p.stat(), p) for p in self.root.glob("*.safetensors")), key=lambda f: -f[0].st_mtime_ns)
        total = 0
        for status, path in files:
            total += status.st_size
            if total > self.most_bytes:
                path.unlink(missing_ok=True)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that nobody but its owner could read at any moment."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
