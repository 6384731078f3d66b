"""What latents must have in common to be added, averaged or moved along one another's lines."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from latentrot.embed.solve import Schedule
from latentrot.errors import LatentrotError
from latentrot.models.load import LatentModel

__all__ = ["LatentSpace"]


@dataclass(frozen=True)
class LatentSpace:
    """What latents must have in common to be added, averaged or moved along one another's lines.

    Attributes:
        model: the model's name, for people.
        digest: its weights' digest, for the check.
        schedule: steps, solver and depth of the inversion.
        shape: (c, h, w) of one latent.
        block: side of the first stage's pixel blocks (see `mirror_latents`).
    """

    model: str
    digest: str
    schedule: Schedule
    shape: tuple[int, int, int]
    block: int

    @classmethod
    def of(cls, model: LatentModel, schedule: Schedule) -> LatentSpace:
        """The space a model and a schedule span."""
        return cls(model.name, model.digest, schedule, model.latent_shape, model.first_stage.block)

    @classmethod
    def from_header(cls, header: dict[str, str]) -> LatentSpace:
        """Read from an artefact's header."""
        return cls(
            header["model"],
            header["digest"],
            Schedule(**json.loads(header["schedule"])),
            tuple(json.loads(header["shape"])),
            int(header["block"]),
        )

    def header(self) -> dict[str, str]:
        """As written into an artefact's header."""
        return {
            "model": self.model,
            "digest": self.digest,
            "schedule": json.dumps(asdict(self.schedule)),
            "shape": json.dumps(self.shape),
            "block": str(self.block),
        }

    def require_same(self, other: LatentSpace, what: str) -> None:
        """Refuse another model or schedule, quoting both values.

        Raises:
            LatentrotError: `what` (self) and the one in use (other) differ.
        """
        for name in ("digest", "schedule", "shape"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                raise LatentrotError(
                    f"{what} belongs to model {self.model!r} with {name} {mine}, but here {other.model!r} has {theirs}; "
                    "use the model and schedule it was made with, or make it anew"
                )
