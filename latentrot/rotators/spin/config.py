"""Configuration of the training of the multi-view model."""

from __future__ import annotations

from dataclasses import dataclass

from latentrot.errors import LatentrotError
from latentrot.runs import RunConfig

__all__ = ["DEFAULT", "NEW_PEOPLE", "SpinConfig"]

#: name of the bundled model for images, whose training with geometry and photographs cost it its new people; and of the one
#: for new people, which replaces it in builds without research-only networks
DEFAULT, NEW_PEOPLE = "spin64-geometry", "spin64"


@dataclass(frozen=True)
class SpinConfig(RunConfig):
    """Configuration of `latentrot train spin`; stored in its checkpoints.

    Args:
        start: the initial model: an unconditional pixel model with v_prediction (a diffusers folder, a Hub id or a bundled
            model), or a multi-view model to fine-tune.
        people: number of rendered heads.
        views: number of rendered views of each head.
        together: number of views in a sample, given and generated ones.
        single_steps: number of initial steps with one given view; later samples have none, one or three, equally often.
        frontal: share of the samples whose first given view shows the face, as a photograph does.
        attention: max side of the feature maps with attention across views.
        drop_identity: share of the samples without the identity condition, for classifier-free guidance.
        drop_images: share of the samples whose given views are blank, for classifier-free guidance.
        geometry: condition the model on the head that geometry fits to the first given view.
        drop_geometry: share of the samples without the geometric condition: new people have none.
        photographs: share of the steps that train on pairs of photographs, if there are any.
        sources: number of photographs to make pairs from.
        held_out: share of the people in photographs held out of training (0 to 1).
        plain: share of the heads with a background of one colour.
        noise: mean and standard deviation of the log noise level, before the shift by the number of generated views. None:
            2.0 and 1.5 with geometry, whose single sampling step starts at the highest level; else 0.5 and 2.0.
        mirror: mirror half of the samples.
        identity_digest: digest of the weights of a user's identity network; empty: the package's network, or no identities.
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
    geometry: bool = True
    drop_geometry: float = 0.15
    photographs: float = 0.5
    sources: int = 1_000
    held_out: float = 0.1
    plain: float = 0.5
    noise: tuple[float, float] | None = None
    mirror: bool = True
    identity_digest: str = ""

    @property
    def log_noise(self) -> tuple[float, float]:
        """Mean and standard deviation of the log noise level."""
        return self.noise or ((2.0, 1.5) if self.geometry else (0.5, 2.0))

    def __post_init__(self) -> None:
        self.check_ranges(
            ("drop_identity", 0, 1), ("drop_images", 0, 1), ("plain", 0, 1), ("frontal", 0, 1), ("ema", 0, 1),
            ("drop_geometry", 0, 1), ("photographs", 0, 1), ("held_out", 0, 1), ("sources", 1, 10**9),
            ("people", 1, 10**6), ("together", 4, 64), ("batch_size", 1, 10**6), ("steps", 1, 10**9),
        )  # fmt: skip
        if self.views < self.together:
            raise LatentrotError(f"views {self.views}: expected at least together, {self.together}")
