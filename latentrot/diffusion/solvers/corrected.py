"""The latent of the plain inverse, with a residual latent that makes the round trip accurate.

A latent with an accurate round trip contains every detail of the image at its position. After a walk the face has moved but
the details have not, and the decoder renders them as scratches and blotches. The plain inverse (`ddim`) loses the details:
its latents decode slightly blurred, but their walks have no such artefacts. Therefore these latents are stored, averaged and
walked. Their difference to the latents of the fixed-point solver is the *residual latent*. It is added before decoding:
completely without a walk, so that the round trip equals that of the fixed-point solver, and partly after a walk. A walk with
warped source pixels (`latentrot.directions.warp`) needs no residual latent.

Direct Inversion (Ju, Zeng, Bian, Liu, Xu, "PnP Inversion: Boosting Diffusion-based Editing with 3 Lines of Code", ICLR 2024)
also stores the inversion error during an edit, at every step of a guided sampler; here it is stored once, for the latent.
"""

from __future__ import annotations

import torch

from latentrot.diffusion.load import LatentModel
from latentrot.diffusion.schedule import Schedule
from latentrot.diffusion.solvers import ddim, fixed_point

__all__ = ["SOLVER", "Corrected"]


class Corrected:
    """Latent and residual latent, (n, 2, c, h, w); a latent without a residual is decoded unchanged."""

    states = 2
    #: on photographs (`experiments/walk_ways.py`) a smaller share loses detail, a larger one adds scratches
    residual_share = 0.8
    any_steps = True

    def evaluations(self, schedule: Schedule) -> tuple[int, int]:
        """The evaluations of both inversions; `latents` needs one per step."""
        plain, back = ddim.SOLVER.evaluations(schedule)
        return plain + fixed_point.SOLVER.evaluations(schedule)[0], back

    def invert(
        self, model: LatentModel, state: torch.Tensor, schedule: Schedule, tolerance: float | None
    ) -> torch.Tensor:
        """The latent of the plain inverse, and its difference to that of the fixed-point solver."""
        plain = self.latents(model, state, schedule, tolerance)
        return torch.stack([plain, fixed_point.SOLVER.invert(model, state, schedule, tolerance) - plain], 1)

    def latents(
        self, model: LatentModel, state: torch.Tensor, schedule: Schedule, tolerance: float | None
    ) -> torch.Tensor:
        """The latent of the plain inverse only."""
        return ddim.SOLVER.invert(model, state, schedule, None)

    def decode(self, model: LatentModel, z: torch.Tensor, schedule: Schedule) -> torch.Tensor:
        """Explicit DDIM steps from the corrected latent."""
        return ddim.decode_ddim(model, z.sum(1) if z.ndim == 5 else z, schedule)


SOLVER = Corrected()
