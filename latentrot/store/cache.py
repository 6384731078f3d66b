"""On-disk cache of the latents of edited photographs, so that a second edit does not repeat the inversion.

A latent decodes into its photograph, so storing it means storing the photograph. Therefore the cache is opt-in (`edit
--cache`), readable by its owner only, and bounded in size; the web page, which edits other people's photographs, has none.
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
    """The user's cache folder; on Linux latentrot/latents in $XDG_CACHE_HOME or ~/.cache."""
    return platformdirs.user_cache_path("latentrot", appauthor=False) / "latents"


def latent_key(crop: np.ndarray, space: LatentSpace, tolerance: float, residual: bool = True) -> str:
    """Digest of everything a latent depends on: pixels, model, schedule and tolerance.

    Args:
        crop: (s, s, 3) uint8 at the model's resolution.
        space: model and schedule.
        tolerance: tolerance of the inversion.
        residual: whether the latent is stored with its residual latent.
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
    """A folder of latents by key with least-recently-used eviction.

    Args:
        root: the folder, created on the first write for its owner only (0700, files 0600).
        max_bytes: max total size of the files.
    """

    root: Path = field(default_factory=cache_folder)
    max_bytes: int = 32 * 2**20

    def get(self, key: str) -> torch.Tensor | None:
        """The latent of a key; None if it is missing or damaged."""
        path = self.path(key)
        try:
            with safe_open(path, "pt") as file:
                latent = file.get_tensor("latent")
            os.utime(path)
        except (OSError, SafetensorError):
            return None
        return latent

    def put(self, key: str, latent: torch.Tensor) -> None:
        """Store a latent; if the cache is not writable, nothing is stored and no error is raised."""
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
        """Delete the least recently used files until the total size is at most `max_bytes`."""
        files = sorted(((p.stat(), p) for p in self.root.glob("*.safetensors")), key=lambda f: -f[0].st_mtime_ns)
        total = 0
        for status, path in files:
            total += status.st_size
            if total > self.max_bytes:
                path.unlink(missing_ok=True)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that at no time is readable by others than its owner."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
