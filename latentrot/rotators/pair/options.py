"""Options of the rotator `pair`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from latentrot.rotators.options import RotatorOptions, option
from latentrot.rotators.pair.config import DEFAULT

if TYPE_CHECKING:
    from latentrot.rotators.pair.rotator import PairRotator

__all__ = ["PairOptions"]


@dataclass(frozen=True)
class PairOptions(RotatorOptions):
    """See the help of each field, and `latentrot.rotators.pair.sample.PairSampleConfig`."""

    model: str | None = option(None, f"folder written by train, or the name of a bundled model; by default {DEFAULT}")
    steps: int | None = option(None, "sampling steps")
    keep: float | None = option(
        None, "share of the geometry's rendering in the result where the source shows a point, 0 to 1"
    )
    guide_condition: float = option(1.0, "guidance scale of the condition image")
    guide_pose: float = option(1.0, "guidance scale of the poses")
    seed: int = option(0, "seed of the noise")

    default_model: ClassVar[str] = DEFAULT
    draws_process: ClassVar[bool] = True

    def load(self, device: str | None = None, dtype: str | None = None) -> PairRotator:
        """See `RotatorOptions.load`."""
        from latentrot.rotators.pair.model import load_pair_model  # noqa: PLC0415
        from latentrot.rotators.pair.rotator import PairRotator  # noqa: PLC0415
        from latentrot.rotators.pair.sample import PairSampleConfig  # noqa: PLC0415

        given: dict[str, Any] = {k: v for k, v in {"steps": self.steps, "keep": self.keep}.items() if v is not None}
        sample = PairSampleConfig(
            guide_condition=self.guide_condition, guide_pose=self.guide_pose, seed=self.seed, **given
        )  # fmt: skip
        return PairRotator(load_pair_model(self.model, device), sample)
