"""Options of the rotator `spin`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from latentrot.rotators.options import RotatorOptions, option
from latentrot.rotators.spin.config import DEFAULT, NEW_PEOPLE

if TYPE_CHECKING:
    from latentrot.rotators.spin.rotator import SpinRotator

__all__ = ["SpinOptions"]


@dataclass(frozen=True)
class SpinOptions(RotatorOptions):
    """See the help of each field, and `latentrot.rotators.spin.sample.SpinSampleConfig`."""

    model: str | None = option(None, f"folder written by train, or the name of a bundled model; by default {DEFAULT}")
    identity: Path | None = option(None, "weights of the identity network that the model was trained with")
    steps: int | None = option(None, "sampling steps")
    guidance: float | None = option(None, "guidance scale of image and identity")
    seed: int = option(0, "seed of the noise")

    default_model: ClassVar[str] = NEW_PEOPLE  # in every build; see `latentrot.rotators.spin.model.default_model`

    def with_identity(self, weights: Path | None) -> Self:
        """See `RotatorOptions.with_identity`."""
        from latentrot.rotators.spin.model import takes_identity  # noqa: PLC0415

        return replace(self, identity=weights) if weights is not None and takes_identity(self.model) else self

    def load(self, device: str | None = None, dtype: str | None = None) -> SpinRotator:
        """See `RotatorOptions.load`."""
        from latentrot.rotators.spin.model import load_spin_model  # noqa: PLC0415
        from latentrot.rotators.spin.rotator import SpinRotator  # noqa: PLC0415
        from latentrot.rotators.spin.sample import SpinSampleConfig  # noqa: PLC0415

        given: dict[str, Any] = {
            k: v for k, v in {"steps": self.steps, "guidance": self.guidance}.items() if v is not None
        }
        return SpinRotator(
            load_spin_model(self.model, device, self.identity), SpinSampleConfig(seed=self.seed, **given)
        )
