"""A serialisable embedding job, for processes of this machine or of a cluster."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch

from latentrot.data.celeba import FaceFolder
from latentrot.diffusion.load import load_model
from latentrot.store.latent_store import LatentStore
from latentrot.store.work import ShardEmbedder, Sizes

__all__ = ["EmbedJob"]


@dataclass(frozen=True)
class EmbedJob:
    """Description of an embedding run for another process, in which the paths must be valid, too.

    Args:
        data: the folder of images.
        store: the store's folder or address; its manifest must exist.
        model: a diffusers folder or a Hub id; None: the bundled model.
        dtype: precision of the network's evaluations.
        sizes: batch size and number of reader threads.
        retry: embed existing shards again.
        scale: scale of an autoencoder's latents, see `load_model`.
        vae: folder or Hub id of an autoencoder, see `load_model`.
    """

    data: Path
    store: str
    model: str | None = None
    dtype: str = "float32"
    sizes: Sizes = field(default_factory=Sizes)
    retry: bool = False
    scale: float | None = None
    vae: str | None = None

    def start(self, device: str | None, threads: int | None = None) -> ShardEmbedder:
        """Load the model and return an embedder.

        Args:
            device: target device; None: the best available one.
            threads: CPU threads of this process; None: PyTorch's default.
        """
        if threads:
            torch.set_num_threads(threads)
        return ShardEmbedder(
            FaceFolder(self.data),
            load_model(self.model, device, self.dtype, scale=self.scale, vae=self.vae),
            LatentStore(self.store),
            self.sizes,
        )
