"""Configuration of the training of the pair model."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Literal

from latentrot.errors import LatentrotError
from latentrot.runs import RunConfig

__all__ = ["DEFAULT", "KINDS", "PairConfig"]

#: name of the bundled model
DEFAULT = "pair64"

#: kinds of pairs: an image and its mirror image; two images of one scene; an image rotated away and back by geometry
KINDS = ("mirror", "scene", "back")


@dataclass(frozen=True)
class PairConfig(RunConfig):
    """Configuration of `latentrot train pair`; stored in its checkpoints.

    Args:
        backbone: "pixel", a small U-Net initialised from the pixel model `start`; "latent", the latent diffusion pipeline
            `start` with an image encoder (`StableDiffusionImageVariationPipeline`).
        start: a diffusers folder, a Hub id or the name of a bundled model.
        condition: "mesh", the source rotated to the target's pose by geometry; "source", the source itself; "embedding", an
            embedding of the source. The latent backbone always embeds the condition.
        shares: sampling probabilities of the `KINDS`; kinds for which the folders contain no pairs are left out.
        sources: number of photographs to make pairs from, over all folders.
        back_deg: max yaw, degrees, by which pairs of kind "back" rotate an image away and back.
        drop_condition: share of the samples whose condition is dropped, for classifier-free guidance.
        drop_pose: share of the samples whose poses are dropped, for classifier-free guidance.
        mirror: mirror half of the pairs.
        held_out: share of the people held out of training (0 to 1).
    """

    backbone: Literal["pixel", "latent"] = "pixel"
    start: str = "faces64"
    condition: Literal["mesh", "source", "embedding"] = "mesh"
    shares: tuple[float, float, float] = (0.2, 0.5, 0.3)
    sources: int = 5_000
    back_deg: float = 40.0
    steps: int = 8_000
    batch_size: int = 16
    learning_rate: float = 3e-4
    decay: int = 2_000
    drop_condition: float = 0.1
    drop_pose: float = 0.1
    mirror: bool = True
    held_out: float = 0.1

    @property
    def geometry(self) -> bool:
        """Whether rendering the pairs uses geometry, for conditions or for images rotated away."""
        return self.condition == "mesh" or self.shares[KINDS.index("back")] > 0

    def __post_init__(self) -> None:
        shares = self.shares
        if len(shares) != len(KINDS) or not all(isfinite(s) and s >= 0 for s in shares) or not sum(shares) > 0:
            raise LatentrotError(
                f"shares {shares}: expected a number >= 0 for each of {', '.join(KINDS)}, and at least one > 0"
            )
        if self.backbone == "latent" and self.condition == "embedding":
            raise LatentrotError(
                "condition embedding is for the pixel backbone; the latent one embeds any condition: expected mesh or source"
            )
        self.check_ranges(
            ("drop_condition", 0, 1), ("drop_pose", 0, 1), ("held_out", 0, 1), ("ema", 0, 1), ("back_deg", 5, 90),
            ("sources", 1, 10**9), ("batch_size", 1, 10**6), ("steps", 1, 10**9),
        )  # fmt: skip
