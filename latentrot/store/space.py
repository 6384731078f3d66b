"""The space of latents: only latents with the same model and schedule may be averaged or share directions."""

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
    """Properties in which latents must agree to be averaged, or to be walked along the same directions.

    Attributes:
        model: name of the model, for display.
        fingerprint: identifies everything in the model that affects latents.
        schedule: steps, solver and depth of the inversion.
        shape: (c, h, w) of one latent.
        factor: pixel-unshuffle factor of the first stage (see `mirror_latents`).
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
        """Refuse a different model or schedule; warn once about properties that an old file does not record.

        Raises:
            LatentrotError: this space, of `what`, differs from the one in use (`other`); the message quotes both values.
        """
        self.fingerprint.require_same(other.fingerprint, what, self.model, other.model)
        for name in ("schedule", "shape", "factor"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                raise LatentrotError(
                    f"{what} belongs to model {self.model!r} with {name} {mine}, but here {other.model!r} has {theirs}; "
                    "use its model and schedule, or compute it again"
                )
