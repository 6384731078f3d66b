"""What turned pictures are measured against: the same heads truly turned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from latentrot.data.images import to_tensor
from latentrot.errors import LatentrotError
from latentrot.evaluation.metrics import identity_rank, squared_error, ssim
from latentrot.evaluation.perceptual import lpips_at_hand
from latentrot.evaluation.views import Views
from latentrot.evaluation.yaw import FittedYaw, LandmarkYaw, PixelYaw
from latentrot.label.estimate import estimate_light, estimate_pose, light_names
from latentrot.label.network import FaceLabeler

__all__ = ["MEASURES", "EvaluationConfig", "Truth"]

#: what is measured of every turned picture; the report carries the words
MEASURES = {
    "yaw_error_deg": "absolute difference of the label network's yaw to the true yaw, degrees",
    "yaw_error_pixels_deg": "the same by kernel ridge regression on pixels, fitted to the true views of other heads",
    "yaw_error_landmarks_deg": "the same by regression on five landmarks that the face detector finds",
    "overturn_deg": "the label network's yaw beyond (below 0: short of) the true one, in the direction of the turn, degrees",
    "squared_error": "mean squared difference to the true view over pixels and channels, values in [0, 1]",
    "ssim": "structural similarity to the true view (luma, 11x11 Gaussian window, standard deviation 1.5)",
    "lpips": "learned perceptual distance to the true view (AlexNet), where torchmetrics and AlexNet's weights are at hand",
    "rank": "place of the true head among all heads of its light in the true pose, by pixels on the head; 1 is best",
    "top1": "share of pictures for which that place is 1",
    "light_kept": "share of pictures the label network calls lit from the true side",
    "pitch_drift_deg": "absolute difference of the label network's pitch to its pitch of the true view, degrees",
}


@dataclass(frozen=True)
class EvaluationConfig:
    """What is asked for.

    Args:
        source_yaw: pose of the pictures given to the rotator, degrees.
        targets: true poses to turn to, degrees; those the views lack, and the source's own, are left out.
        heads: how many heads are turned, the first by name; None: all. The others still stand in the identity galleries.
        resamples: draws of the bootstrap.
        seed: of the draws.
    """

    source_yaw: float = 0.0
    targets: tuple[float, ...] = (-45.0, -30.0, -15.0, 0.0, 15.0, 30.0, 45.0)
    heads: int | None = None
    resamples: int = 2000
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Truth:
    """The true pictures of some turns, and what turned ones are measured by.

    Attributes:
        views: every head in every pose.
        source: column of the pose that is turned.
        columns: columns of the poses turned to.
        heads: how many heads are turned, the first; the others still stand in the identity galleries.
        network: the label network that measures yaw, pitch and light.
    """

    views: Views
    source: int
    columns: tuple[int, ...]
    heads: int
    network: FaceLabeler

    @classmethod
    def of(cls, views: Views, config: EvaluationConfig, network: FaceLabeler) -> Truth:
        """The turns a configuration asks for.

        Raises:
            LatentrotError: no such source pose, no turn left to ask for, or fewer than one head.
        """
        source, columns = turns_of(views, config)
        return cls(views, source, tuple(columns), min(len(views.heads), config.heads or len(views.heads)), network)

    @property
    def degrees(self) -> list[float]:
        """The turns, degrees."""
        return [float(self.views.yaws[c] - self.views.yaws[self.source]) for c in self.columns]

    @property
    def sources(self) -> np.ndarray:
        """(heads, s, s, 3) uint8, the pictures to turn."""
        return self.views.pictures[: self.heads, self.source]

    @property
    def pictures(self) -> np.ndarray:
        """(heads, turns, s, s, 3) uint8, the heads truly turned."""
        return self.views.pictures[: self.heads, self.columns]

    @cached_property
    def groups(self) -> dict[str, np.ndarray]:
        """Rows of the heads of each light."""
        return {light: self.views.group(light) for light in sorted(set(self.views.lights))}

    @cached_property
    def regions(self) -> dict[tuple[str, int], np.ndarray]:
        """Where heads of a light are compared, by light and column."""
        return {(light, c): self.views.region(rows, c) for light, rows in self.groups.items() for c in self.columns}

    @cached_property
    def pitch(self) -> np.ndarray:
        """(heads, turns) what the label network says of the true pictures, degrees."""
        return np.stack([estimate_pose(to_tensor(p), labeler=self.network)[:, 1].numpy() for p in self.pictures])

    @cached_property
    def others(self) -> dict[str, FittedYaw]:
        """The second opinions on the yaw, by measure; none for a single head, which leaves no other to learn from."""
        if len(self.views.heads) == 1:
            return {}
        return {"yaw_error_pixels_deg": PixelYaw(self.views), "yaw_error_landmarks_deg": LandmarkYaw(self.views)}

    @cached_property
    def perceptual(self) -> Callable[[np.ndarray, np.ndarray], float] | None:
        """LPIPS, where it is at hand."""
        return lpips_at_hand()

    def measure(self, way: str, pictures: np.ndarray) -> pd.DataFrame:
        """Measure turned pictures.

        Args:
            way: what turned them.
            pictures: (heads, turns, s, s, 3) uint8.

        Returns:
            One row per head and turn: way, head, light, requested_deg, true_yaw_deg, yaw_deg (by the label network), and
            the `MEASURES`.
        """
        return pd.DataFrame([row for head, turned in enumerate(pictures) for row in self.rows_of(way, head, turned)])

    def rows_of(self, way: str, head: int, turned: np.ndarray) -> Iterator[dict[str, object]]:
        """A row for each turn of one head."""
        light = self.views.lights[head]
        place = int(np.flatnonzero(self.groups[light] == head)[0])
        x = to_tensor(turned)
        pose = estimate_pose(x, labeler=self.network).numpy()
        called = light_names(estimate_light(x, labeler=self.network))
        seconds = {name: other.estimate(turned, head) for name, other in self.others.items()}
        unknown = np.full(len(turned), np.nan)
        for i, (c, request) in enumerate(zip(self.columns, self.degrees, strict=True)):
            yaw, true = self.views.yaws[c], self.views.pictures[head, c]
            rank = identity_rank(turned[i], self.views.pictures[self.groups[light], c], place, self.regions[light, c])
            yield {
                "way": way,
                "head": self.views.heads[head],
                "light": light,
                "requested_deg": request,
                "true_yaw_deg": float(yaw),
                "yaw_deg": float(pose[i, 0]),
                "yaw_error_deg": abs(pose[i, 0] - yaw),
                "yaw_error_pixels_deg": abs(seconds.get("yaw_error_pixels_deg", unknown)[i] - yaw),
                "yaw_error_landmarks_deg": abs(seconds.get("yaw_error_landmarks_deg", unknown)[i] - yaw),
                "overturn_deg": (pose[i, 0] - yaw) * np.sign(request),
                "squared_error": squared_error(turned[i], true),
                "ssim": ssim(turned[i], true),
                "lpips": self.perceptual(turned[i], true) if self.perceptual else np.nan,
                "rank": rank,
                "top1": float(rank == 1),
                "light_kept": float(called[i] == light),
                "pitch_drift_deg": abs(pose[i, 1] - self.pitch[head, i]),
            }


def turns_of(views: Views, config: EvaluationConfig) -> tuple[int, list[int]]:
    """Columns of the views: the source's, and those to turn to."""
    if config.heads is not None and config.heads < 1:
        raise LatentrotError(f"heads={config.heads}: expected at least 1")
    source = views.column(config.source_yaw)
    wanted = [c for c, yaw in enumerate(views.yaws) if np.abs(np.array(config.targets) - yaw).min(initial=90) < 0.05]
    columns = [c for c in wanted if c != source]
    if not columns:
        raise LatentrotError(
            f"{views.root} has no views at {', '.join(f'{t:+g}' for t in config.targets)} degrees besides the source's "
            f"{config.source_yaw:+g}; there are {', '.join(f'{y:+g}' for y in views.yaws)}"
        )
    return source, columns
