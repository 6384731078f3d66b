"""What a training run of the pair model is, at one site."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Literal

from latentrot.errors import LatentrotError
from latentrot.runs import RunConfig

__all__ = ["KINDS", "PairConfig"]

#: kinds of pairs: an image and its mirror image; two images of one scene; an image turned away and, as condition, back
KINDS = ("mirror", "scene", "back")


@dataclass(frozen=True)
class PairConfig(RunConfig):
    """A run of `latentrot train pair`; written into its checkpoints, so that a resumed run is the same run.

    Args:
        backbone: "pixel", a small U-Net started from the model `start`; "latent", a latent diffusion pipeline with an image
            encoder (`StableDiffusionImageVariationPipeline`), which `start` names.
        start: a diffusers folder, a Hub id or the name of a bundled model.
        condition: "mesh", the source turned to the target's pose by geometry; "source", the source as it is; "embedding", the
            one vector that an image encoder makes of the source (the latent backbone is told one in any case).
        shares: of mirror pairs, scenes and images turned there and back among the samples; what the folders lack is left
            out.
        sources: photographs that pairs are made of, over all folders.
        back_deg: images are turned away by up to so many degrees.
        drop_condition: share of the samples without their condition, for guidance.
        drop_pose: share of the samples without their poses, for guidance.
        mirror: show half of the pairs mirrored.
        held_out: share of the people kept out of training, for measuring on strangers (0 to 1).
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
        """Whether pairs are made with geometry: to be shown, or to be turned there and back."""
        return self.condition == "mesh" or self.shares[KINDS.index("back")] > 0

    def __post_init__(self) -> None:
        shares = self.shares
        if len(shares) != len(KINDS) or not all(isfinite(s) and s >= 0 for s in shares) or not sum(shares) > 0:
            raise LatentrotError(
                f"shares {shares}: expected one of at least 0 for each of {', '.join(KINDS)}, not all 0"
            )
        if self.backbone == "latent" and self.condition == "embedding":
            raise LatentrotError(
                "condition embedding is the pixel backbone's; the latent one embeds what it is shown: expected mesh or source"
            )
        self.check_ranges(
            ("drop_condition", 0, 1), ("drop_pose", 0, 1), ("held_out", 0, 1), ("ema", 0, 1), ("back_deg", 5, 90),
            ("sources", 1, 10**9), ("batch_size", 1, 10**6), ("steps", 1, 10**9),
        )  # fmt: skip
