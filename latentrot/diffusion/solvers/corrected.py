"""The latent of the plain inverse, with a residual latent that makes the round trip accurate.

A latent with an accurate round trip holds every detail of the image at its position. After a walk the face has moved but the
details have not, and the decoder draws them as scratches and blotches. The plain inverse (`ddim`) loses them: its latents
decode slightly blurred, and walk cleanly. So its latents are stored, averaged and walked. Their difference to the latent of
the fixed point is the *residual latent*, added before decoding: completely if nothing is turned, so that the round trip is
that of the fixed point, and partly after a walk. A walk with warped source pixels (`latentrot.directions.warp`) needs no
residual latent.

Keeping the part of an image that the inversion misses aside during an edit is the idea of Direct Inversion (Ju, Zeng, Bian,
Liu, Xu, "PnP Inversion: Boosting Diffusion-based Editing with 3 Lines of Code", ICLR 2024), which keeps it at every step of a
guided sampler; here it is kept once, in the latent.
"""

from __future__ import annotations

import torch

from latentrot.diffusion.load import LatentModel
from latentrot.diffusion.schedule import Schedule
from latentrot.diffusion.solvers import ddim, fixed_point

__all__ = ["SOLVER", "Corrected"]


class Corrected:
    """Latent and residual latent, (n, 2, c, h, w); a latent without residual is decoded as it is."""

    states = 2
    #: on real pairs and strangers (`experiments/walk_ways.py`) a smaller share loses detail, a larger one draws scratches
    residual_share = 0.8
    any_steps = True

    def evaluations(self, schedule: Schedule) -> tuple[int, int]:
        """Those of both inversions; the latent without residual (`latents`) costs one per step."""
        plain, back = ddim.SOLVER.evaluations(schedule)
        return plain + fixed_point.SOLVER.evaluations(schedule)[0], back

    def invert(
        self, model: LatentModel, state: torch.Tensor, schedule: Schedule, tolerance: float | None
    ) -> torch.Tensor:
        """Both inversions and their difference."""
        plain = self.latents(model, state, schedule, tolerance)
        return torch.stack([plain, fixed_point.SOLVER.invert(model, state, schedule, tolerance) - plain], 1)

    def latents(
        self, model: LatentModel, state: torch.Tensor, schedule: Schedule, tolerance: float | None
    ) -> torch.Tensor:
        """The plain inverse only."""
        return ddim.SOLVER.invert(model, state, schedule, None)

    def decode(self, model: LatentModel, z: torch.Tensor, schedule: Schedule) -> torch.Tensor:
        """Explicit DDIM steps from the corrected latent."""
        return ddim.decode_ddim(model, z.sum(1) if z.ndim == 5 else z, schedule)


SOLVER = Corrected()
