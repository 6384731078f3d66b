"""Turn heads never seen, compare with the same heads truly turned: `evaluate`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from latentrot.data.images import resize, to_tensor
from latentrot.errors import LatentrotError
from latentrot.evaluation.metrics import identity_rank, squared_error, ssim
from latentrot.evaluation.views import Views, read_views
from latentrot.evaluation.yaw import PixelYaw
from latentrot.label.estimate import estimate_light, estimate_pose, light_names
from latentrot.label.network import FaceLabeler, load_labeler
from latentrot.rotate.baselines import MirrorRotator, NothingRotator
from latentrot.rotate.protocol import Rotator, rotate_many

__all__ = ["BASELINES", "MEASURES", "RENDER", "Evaluation", "EvaluationConfig", "evaluate"]

BASELINES: dict[str, Callable[[], Rotator]] = {"nothing": NothingRotator, "mirror": MirrorRotator}
#: the true pictures, measured as if a rotator had made them: what the measures say of a perfect one
RENDER = "render"
#: what is measured of every turned picture; the report carries the words
MEASURES = {
    "yaw_error_deg": "absolute difference of the label network's yaw to the true yaw, degrees",
    "yaw_error_pixels_deg": "the same by kernel ridge regression on pixels, fitted to the true views of other heads",
    "overturn_deg": "the label network's yaw beyond (below 0: short of) the true one, in the direction of the turn, degrees",
    "squared_error": "mean squared difference to the true view over pixels and channels, values in [0, 1]",
    "ssim": "structural similarity to the true view (luma, 11x11 Gaussian window, standard deviation 1.5)",
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
class Evaluation:
    """What was measured.

    Attributes:
        name: of the rotator.
        config: what was asked for.
        views: the truth.
        labeler: title of the label network that measured.
        rows: one per way, head and turn: way, head, light, requested_deg, true_yaw_deg, yaw_deg (by the label network),
            and the `MEASURES`.
        pictures: by way, (heads, turns, s, s, 3) uint8 at the views' size.
        seconds: by way, mean per turned picture.
        facts: what else is to be recorded, such as the model's name.
    """

    name: str
    config: EvaluationConfig
    views: Views
    labeler: str
    rows: pd.DataFrame
    pictures: dict[str, np.ndarray]
    seconds: dict[str, float]
    facts: dict[str, str] = field(default_factory=dict)


def evaluate(
    rotator: Rotator,
    data: Views | Path | str,
    config: EvaluationConfig | None = None,
    *,
    name: str = "rotator",
    labeler: FaceLabeler | None = None,
    facts: Mapping[str, str] | None = None,
    progress: Callable[[int], object] | None = None,
) -> Evaluation:
    """Measure a rotator on heads whose true turned pictures are known, beside doing nothing and mirroring.

    Args:
        rotator: anything with `rotate(image, degrees) -> image`; `rotate_many` is used where it has it.
        data: a folder of views, as `latentrot heads make --views` writes it, or what `read_views` made of it.
        config: source pose, turns, number of heads.
        name: what the rotator is called in the report.
        labeler: the label network that measures yaw, pitch and light; None: the rotator's own `label_network` if it has
            one, else the one of the bundled faces.
        facts: what else is to be recorded.
        progress: called with 1 after every head.

    Raises:
        LatentrotError: no views there, no such source pose, no turn left to ask for, or a rotator that returns something
            else than square pictures.
    """
    config = config or EvaluationConfig()
    views = data if isinstance(data, Views) else read_views(data)
    source, columns = turns_of(views, config)
    chosen = min(len(views.heads), config.heads or len(views.heads))
    network = labeler or getattr(rotator, "label_network", None) or load_labeler()
    ways = {name: rotator} | {n: make() for n, make in BASELINES.items() if n != name}

    # turn
    pictures = {way: np.empty((chosen, len(columns), views.size, views.size, 3), np.uint8) for way in ways}
    seconds = dict.fromkeys(ways, 0.0)
    degrees = [float(views.yaws[c] - views.yaws[source]) for c in columns]
    for head in range(chosen):
        for way, turning in ways.items():
            began = time.perf_counter()
            turned = rotate_many(turning, views.pictures[head, source], degrees)
            seconds[way] += time.perf_counter() - began
            pictures[way][head] = fitting(turned, len(columns), views.size)
        if progress is not None:
            progress(1)
    pictures[RENDER] = views.pictures[:chosen, columns]

    # measure
    yaw = PixelYaw(views) if len(views.heads) > 1 else None
    rows = pd.DataFrame([r for way in pictures for r in measured(way, pictures, views, source, columns, network, yaw)])
    per_turn = {way: total / (chosen * len(columns)) for way, total in seconds.items()}
    return Evaluation(name, config, views, network.title, rows, pictures, per_turn, dict(facts or {}))


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


def fitting(turned: list[np.ndarray], count: int, size: int) -> np.ndarray:
    """What a rotator returned, at the views' size: (k, size, size, 3) uint8."""
    shapes = [np.shape(t) for t in turned]
    if len(turned) != count or any(len(s) != 3 or s[0] != s[1] or s[2] != 3 for s in shapes):
        raise LatentrotError(f"the rotator returned pictures of shapes {shapes}: expected {count} of (s, s, 3)")
    if any(t.dtype != np.uint8 for t in turned):
        raise LatentrotError(f"the rotator returned pictures of type {turned[0].dtype}: expected uint8")
    return np.stack([t if len(t) == size else resize(t, size) for t in turned])


def measured(
    way: str,
    pictures: Mapping[str, np.ndarray],
    views: Views,
    source: int,
    columns: list[int],
    network: FaceLabeler,
    second: PixelYaw | None,
) -> Iterator[dict[str, object]]:
    """One row per head and turn of one way."""
    groups = {light: views.group(light) for light in set(views.lights)}
    regions = {(light, c): views.region(rows, c) for light, rows in groups.items() for c in columns}
    for head, turned in enumerate(pictures[way]):
        light = views.lights[head]
        truth = views.pictures[head, columns]
        x = to_tensor(turned)
        pose, called = estimate_pose(x, labeler=network).numpy(), light_names(estimate_light(x, labeler=network))
        true_pitch = estimate_pose(to_tensor(truth), labeler=network)[:, 1].numpy()
        pixels = second.estimate(turned, head) if second else np.full(len(columns), np.nan)
        for i, c in enumerate(columns):
            yaw, request = views.yaws[c], views.yaws[c] - views.yaws[source]
            rank = identity_rank(
                turned[i],
                views.pictures[groups[light], c],
                int(np.flatnonzero(groups[light] == head)[0]),
                regions[light, c],
            )
            yield {
                "way": way,
                "head": views.heads[head],
                "light": light,
                "requested_deg": float(request),
                "true_yaw_deg": float(yaw),
                "yaw_deg": float(pose[i, 0]),
                "yaw_error_deg": abs(pose[i, 0] - yaw),
                "yaw_error_pixels_deg": abs(pixels[i] - yaw),
                "overturn_deg": (pose[i, 0] - yaw) * np.sign(request),
                "squared_error": squared_error(turned[i], truth[i]),
                "ssim": ssim(turned[i], truth[i]),
                "rank": rank,
                "top1": float(rank == 1),
                "light_kept": float(called[i] == light),
                "pitch_drift_deg": abs(pose[i, 1] - true_pitch[i]),
            }
