"""The space of latents: what they must have in common to be added, averaged, or walked along each other's directions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from latentrot.diffusion.fingerprint import Fingerprint
from latentrot.diffusion.load import LatentModel
from latentrot.diffusion.solve import Schedule
from latentrot.errors import LatentrotError

__all__ = ["LatentSpace"]


@dataclass(frozen=True)
class LatentSpace:
    """What latents must have in common to be added, averaged, or walked along each other's directions.

    Attributes:
        model: name of the model, for display.
        fingerprint: everything of the model that shapes a latent, for comparison.
        schedule: steps, solver and depth of the inversion.
        shape: (c, h, w) of one latent.
        factor: of the first stage's pixel-unshuffling (see `mirror_latents`).
    """

    model: str
    fingerprint: Fingerprint
    schedule: Schedule
    shape: tuple[int, int, int]
    factor: int

    @classmethod
    def of(cls, model: LatentModel, schedule: Schedule) -> LatentSpace:
        """The space of a model with a schedule.

        Raises:
            LatentrotError: the schedule does not fit the model.
        """
        schedule.levels(model)
        return cls(model.name, model.fingerprint, schedule, model.latent_shape, model.first_stage.factor)

    @classmethod
    def from_header(cls, header: Mapping[str, str]) -> LatentSpace:
        """Read from an artefact's header."""
        return cls(
            header["model"],
            Fingerprint.from_header(header),
            Schedule(**json.loads(header["schedule"])),
            tuple(json.loads(header["shape"])),
            int(header["block"]),
        )

    def header(self) -> dict[str, str]:
        """Header entries of an artefact."""
        return {
            "model": self.model,
            **self.fingerprint.header(),
            "schedule": json.dumps(asdict(self.schedule)),
            "shape": json.dumps(self.shape),
            "block": str(self.factor),
        }

    def require_same(self, other: LatentSpace, what: str) -> None:
        """Refuse another model or schedule, quoting both values; warn once about parts that an old file does not record.

        Raises:
            LatentrotError: `what` (self) and the one in use (other) differ.
        """
        self.fingerprint.require_same(other.fingerprint, what, self.model, other.model)
        for name in ("schedule", "shape", "factor"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                raise LatentrotError(
                    f"{what} belongs to model {self.model!r} with {name} {mine}, but here {other.model!r} has {theirs}; "
                    "use the model and schedule it was made with, or compute it again"
                )
