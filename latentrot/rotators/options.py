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
    """A dataclass field with a default, and `doc` as its help on the command line."""
    return field(default=default, metadata={"help": doc})


@dataclass(frozen=True)
class RotatorOptions:
    """Options of one kind of rotator; modules of subclasses must not import slow packages.

    Every field is an option of `edit` and `evaluate` with the same name.

    Attributes:
        reifies: whether the rotator has `reify(image)`, which makes a painted face photograph-like.
        takes_loaded_model: whether `model` may be a loaded model.
        offered: whether the page offers the rotator; False for baselines.
        draws_process: whether the rotator has `process(image, degrees)`, which shows the sampling steps of one rotation.
        default_model: bundled folder of networks to use if `model` is None; empty: no networks are needed.
    """

    reifies: ClassVar[bool] = False
    draws_process: ClassVar[bool] = False
    default_model: ClassVar[str] = ""
    takes_loaded_model: ClassVar[bool] = False
    offered: ClassVar[bool] = True

    def check(self) -> None:
        """Refuse invalid options before slow imports.

        Raises:
            LatentrotError: an option is invalid; the message names it.
        """

    def is_available(self) -> bool:
        """Whether a model is given or the default one is in this build of the package."""
        given = getattr(self, "model", None) is not None
        return given or not self.default_model or bundled_part(self.default_model).is_dir()

    def with_identity(self, weights: Path | None) -> Self:
        """The options with weights of an identity network, if the model was trained with one; otherwise unchanged."""
        return self

    def load(self, device: str | None = None, dtype: str | None = None) -> Rotator:
        """Load the rotator.

        Args:
            device: "cpu", "cuda" or "cuda:N"; None: cuda if available.
            dtype: precision of the evaluations of a diffusion model; ignored by other rotators.

        Raises:
            LatentrotError: a file is missing or invalid.
        """
        raise NotImplementedError
