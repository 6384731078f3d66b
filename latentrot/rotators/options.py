"""Options of rotators, for the command line and `load_rotator`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

from latentrot.bundles import bundled_part

if TYPE_CHECKING:
    from pathlib import Path

    from latentrot.rotators.protocol import Rotator

__all__ = ["RotatorOptions", "option"]


def option(default: Any, doc: str) -> Any:
    """A dataclass field whose help on the command line is `doc`."""
    return field(default=default, metadata={"help": doc})


@dataclass(frozen=True)
class RotatorOptions:
    """Options of one kind of rotator; a module with a subclass imports nothing slow.

    Every field is an option of `edit` and `evaluate` under its own name.

    Attributes:
        reifies: whether its rotators have `reify(image)`, which makes a painted face photograph-like.
        takes_loaded_model: whether `model` may be a model that is loaded already.
        offered: whether the page offers it; a baseline is not.
        draws_process: whether its rotators have `process(image, degrees)`, which draws the steps of one rotation.
        default_model: the bundled folder of networks that is used without a `model`; empty: none is needed.
    """

    reifies: ClassVar[bool] = False
    draws_process: ClassVar[bool] = False
    default_model: ClassVar[str] = ""
    takes_loaded_model: ClassVar[bool] = False
    offered: ClassVar[bool] = True

    def check(self) -> None:
        """Refuse options that cannot be loaded, before anything slow is imported.

        Raises:
            LatentrotError: naming the option.
        """

    def is_available(self) -> bool:
        """Whether the model is given, or comes with this build of the package."""
        given = getattr(self, "model", None) is not None
        return given or not self.default_model or bundled_part(self.default_model).is_dir()

    def with_identity(self, weights: Path | None) -> Self:
        """The options with weights of an identity network, where the model was trained with one; else unchanged."""
        return self

    def load(self, device: str | None = None, dtype: str | None = None) -> Rotator:
        """Load the rotator.

        Args:
            device: "cpu", "cuda" or "cuda:N"; None: cuda where there is one.
            dtype: precision of the evaluations of a diffusion model, where there is one.

        Raises:
            LatentrotError: a file is missing or does not fit.
        """
        raise NotImplementedError
