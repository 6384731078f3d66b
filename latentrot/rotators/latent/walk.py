"""One face along the directions of its light: every step is decoded once, and the step for a rotation is searched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch

from latentrot.data.images import to_tensor
from latentrot.diffusion.load import LatentModel
from latentrot.diffusion.precision import computes_bfloat16
from latentrot.diffusion.schedule import Schedule
from latentrot.diffusion.solve import decode
from latentrot.diffusion.solvers import solver_of
from latentrot.directions.directions import Directions
from latentrot.directions.search import CalibrationCurve, clamp_step, find_steps, max_step, probe_steps
from latentrot.directions.walk import walk
from latentrot.directions.warp import warp_to_walk
from latentrot.faces.estimate import estimate_pose
from latentrot.faces.network import FaceLabeler

__all__ = ["Walk"]


@dataclass(eq=False)
class Walk:
    """One face at the steps it was walked by.

    Args:
        model: decodes the latents.
        labeler: measures the pose of what is decoded.
        directions: of the light of the face.
        source: (s, s, 3) uint8, the crop at the resolution of the model.
        latent: (1, c, h, w), or (1, 2, c, h, w) with its residual latent.
        yaw_deg: of the source, degrees.
        keep_norm: see `latentrot.directions.walk.walk`.
        carry: show the source's own pixels, warped to where the walk moves the face.
        limit: max step size, see `latentrot.directions.search.max_step`.
        schedule: of the decoding.
        decoded: (1, 3, s, s) in [-1, 1], the latent decoded as it is, where it is known.
    """

    model: LatentModel
    labeler: FaceLabeler
    directions: Directions
    source: np.ndarray
    latent: torch.Tensor
    yaw_deg: float
    keep_norm: bool
    carry: bool
    limit: float
    schedule: Schedule
    decoded: torch.Tensor | None = None
    shown: dict[float, torch.Tensor] = field(default_factory=dict)

    @cached_property
    def rough(self) -> Walk:
        """The same walk in images that are good enough to measure: in half the time, in bfloat16 in a third of it.

        Thirty people rotated by 15 and 30 degrees were measured .5 degrees otherwise than in the images shown.
        """
        if not solver_of(self.schedule).any_steps:
            return self
        model = self.model
        if model.dtype == torch.float32 and computes_bfloat16(model.device):
            model = replace(model, dtype=torch.bfloat16)
        schedule = replace(self.schedule, steps=max(1, self.schedule.steps // 2))
        return replace(self, model=model, schedule=schedule, decoded=None, shown={})

    @property
    def start(self) -> torch.Tensor:
        """(1, 3, s, s) in [-1, 1], the latent decoded as it is."""
        if self.decoded is None:
            self.decoded = self.decode([0.0])
        return self.decoded

    def at(self, steps: Sequence[float]) -> torch.Tensor:
        """(k, 3, s, s) in [-1, 1], the images at k step sizes; what is not decoded yet is, in one batch."""
        # every rotation shows the source, too
        new = [step for step in dict.fromkeys([0.0, *steps]) if step not in self.shown]
        if new:
            unknown = new if self.decoded is None else [step for step in new if step]
            images = list(self.decode(unknown).split(1)) if unknown else []
            if self.decoded is None:
                self.decoded = images.pop(0)  # where nothing is decoded nothing is shown, and the source is first
            start = [self.decoded] if 0.0 in new else []
            self.shown |= dict(zip(new, self.warped(torch.cat(start + images)), strict=True))
        return torch.stack([self.shown[step] for step in steps])

    def decode(self, steps: Sequence[float]) -> torch.Tensor:
        """(k, 3, s, s) in [-1, 1], the latent decoded at k step sizes."""
        sizes = torch.tensor(steps, dtype=torch.float64)
        latents = walk(self.latent, self.directions, sizes, self.yaw_deg, keep_norm=self.keep_norm)
        return decode(self.model, latents, schedule=self.schedule).clamp(-1, 1)

    def warped(self, images: torch.Tensor) -> torch.Tensor:
        """Decoded images (k, 3, s, s) as they are shown: with the source's own pixels where `carry` is set."""
        if not self.carry:
            return images
        return warp_to_walk(to_tensor(self.source), self.start, images, str(self.model.device))

    def change(self, steps: Sequence[float]) -> np.ndarray:
        """By how many degrees each of k step sizes rotates the face, by the label network -> (k,)."""
        yaws = estimate_pose(self.at(steps), labeler=self.labeler)[:, 0].cpu().numpy()
        return yaws - self.yaw_deg

    # ---- step sizes ---------------------------------------------------------------------------------------------

    def longest(self, degrees: Sequence[float]) -> list[float]:
        """The max step size for each rotation, signed as the rotation."""
        return [max_step(self.directions, d, self.limit) for d in degrees]

    def average_steps(self, degrees: Sequence[float]) -> list[float]:
        """Step sizes by which the average face rotates by each of degrees."""
        step_sizes = map(self.directions.step_for, degrees)
        return [clamp_step(step, most) for step, most in zip(step_sizes, self.longest(degrees), strict=True)]

    def measured_steps(self, degrees: Sequence[float]) -> list[float]:
        """Step sizes that rotate this very face by each of degrees; see `find_steps`."""
        probes = probe_steps(self.directions, degrees, self.limit)
        return find_steps(degrees, probes, self.change, self.longest(degrees), self.rough.change)

    def steps_on(self, curve: CalibrationCurve, degrees: Sequence[float]) -> list[float]:
        """Step sizes for each of degrees on a curve that was measured before."""
        return [clamp_step(curve.root(d), most) for d, most in zip(degrees, self.longest(degrees), strict=True)]

    def measure_curve(self, degrees: Sequence[float]) -> CalibrationCurve:
        """Measure probe steps roughly, up to and beyond the farthest of degrees: one curve for many rotations."""
        probes = probe_steps(self.directions, degrees, self.limit)
        change = self.rough.change(probes) if probes else []
        return CalibrationCurve(np.array([0.0, *probes]), np.array([0.0, *change]))

    def refine_curve(self, curve: CalibrationCurve, degrees: Sequence[float]) -> CalibrationCurve:
        """The curve with its roots for degrees measured, too: between two probes yaw is not a straight line."""
        steps = [curve.root(d) for d in degrees if d]
        return curve.with_points(steps, self.change(steps)) if steps else curve
