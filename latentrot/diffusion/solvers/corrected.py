"""The plain inverse's latent, and beside it the correction that brings the picture back.

A latent from which a picture comes back holds all of the picture's details, each at its place. Walked, the face moves and
the details stay, and the decoder draws them as scratches and blotches. The plain inverse (`ddim`) loses them: what its
latents decode into is a little blurred, and walks cleanly. So its latents are what is stored, averaged and walked. What they
lack of the fixed point's latent is the *remainder*, added before decoding: all of it where nothing is turned, so that the
picture comes back as from the fixed point, and a share of it where something is. A walk that carries the picture's own pixels
(`latentrot.directions.warp`) needs no remainder.

That the part of a picture which an inversion misses is best kept aside while the rest is edited is the idea of Direct
Inversion (Ju, Zeng, Bian, Liu, Xu, "PnP Inversion: Boosting Diffusion-based Editing with 3 Lines of Code", ICLR 2024), which
keeps it at every step of a guided sampler; here it is kept once, in the latent.
"""

from __future__ import annotations

import torch

from latentrot.diffusion.load import LatentModel
from latentrot.diffusion.schedule import Schedule
from latentrot.diffusion.solvers import ddim, fixed_point

__all__ = ["SOLVER", "Corrected"]


class Corrected:
    """Latent and remainder, (n, 2, c, h, w); a latent alone is decoded as it is."""

    states = 2
    #: on real pairs and strangers (`experiments/walk_ways.py`) less lost detail of the face, more drew scratches
    carried = 0.8
    any_steps = True

    def evaluations(self, schedule: Schedule) -> tuple[int, int]:
        """Those of both inversions; a latent alone (`latents`) costs one a step."""
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
        """The plain inverse alone."""
        return ddim.SOLVER.invert(model, state, schedule, None)

    def decode(self, model: LatentModel, z: torch.Tensor, schedule: Schedule) -> torch.Tensor:
        """Explicit DDIM steps from the corrected latent."""
        return ddim.decode_ddim(model, z.sum(1) if z.ndim == 5 else z, schedule)


SOLVER = Corrected()
