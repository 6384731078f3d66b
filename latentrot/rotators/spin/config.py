"""What a training run of the multi-view model is, at one site."""

from __future__ import annotations

from dataclasses import dataclass

from latentrot.errors import LatentrotError
from latentrot.runs import RunConfig

__all__ = ["SpinConfig"]


@dataclass(frozen=True)
class SpinConfig(RunConfig):
    """A run of `latentrot train spin`; written into its checkpoints, so that a resumed run is the same run.

    Args:
        start: an unconditional model of pixels that predicts the velocity (a diffusers folder, a Hub id or a bundled one), or
            a multi-view one to go on from.
        people: rendered heads to train on.
        views: images of each, all around.
        together: views drawn together in a sample, those given among them.
        single_steps: steps at the start with one view given; after them none, one or three, a third of the samples each.
        frontal: share of the samples whose first given view shows the face, as a photograph would.
        attention: the finest maps whose positions look across views, side in places.
        drop_identity: share of the samples that are not told who it is, for guidance.
        drop_images: share of the samples whose given views are blank, for guidance.
        plain: share of the heads whose background is one colour.
        noise_mean: of the logarithm of the noise level, before it is shifted for the number of views drawn.
        noise_deviation: of the same.
        mirror: show half of the samples mirrored.
        identity_digest: of the weights of the identity network that the user brings; empty: the package's own, or none.
    """

    start: str = "heads64"
    people: int = 600
    views: int = 20
    together: int = 8
    single_steps: int = 500
    frontal: float = 0.5
    attention: int = 8
    steps: int = 4_000
    batch_size: int = 2
    learning_rate: float = 4e-4
    decay: int = 1_000
    ema: float = 0.998
    drop_identity: float = 0.15
    drop_images: float = 0.15
    plain: float = 0.5
    noise_mean: float = 0.5
    noise_deviation: float = 2.0
    mirror: bool = True
    identity_digest: str = ""

    def __post_init__(self) -> None:
        self.check_ranges(
            ("drop_identity", 0, 1), ("drop_images", 0, 1), ("plain", 0, 1), ("frontal", 0, 1), ("ema", 0, 1),
            ("people", 1, 10**6), ("together", 4, 64), ("batch_size", 1, 10**6), ("steps", 1, 10**9),
        )  # fmt: skip
        if self.views < self.together:
            raise LatentrotError(f"views {self.views}: expected at least the {self.together} drawn together")
