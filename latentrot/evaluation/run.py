"""Turn heads never seen, compare with the same heads truly turned: `evaluate`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from latentrot.data.images import resize
from latentrot.errors import LatentrotError
from latentrot.evaluation.truth import EvaluationConfig, Truth
from latentrot.evaluation.views import Views, read_views
from latentrot.label.network import FaceLabeler, load_labeler
from latentrot.rotate.baselines import MirrorRotator, NothingRotator
from latentrot.rotate.protocol import Rotator, rotate_many

__all__ = ["BASELINES", "RENDER", "Evaluation", "evaluate"]

BASELINES: dict[str, Callable[[], Rotator]] = {"nothing": NothingRotator, "mirror": MirrorRotator}
#: the true pictures, measured as if a rotator had made them: what the measures say of a perfect one
RENDER = "render"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was measured.

    Attributes:
        name: of the rotator.
        config: what was asked for.
        views: the truth.
        labeler: title of the label network that measured.
        rows: one per way, head and turn: way, head, light, requested_deg, true_yaw_deg, yaw_deg (by the label network),
            and the measures of `Truth.measure`.
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
    network = labeler or getattr(rotator, "label_network", None) or load_labeler()
    truth = Truth.of(data if isinstance(data, Views) else read_views(data), config, network)
    ways = {name: rotator} | {n: make() for n, make in BASELINES.items() if n != name}

    # turn
    shape = (truth.heads, len(truth.columns))
    pictures = {way: np.empty((*shape, truth.views.size, truth.views.size, 3), np.uint8) for way in ways}
    seconds = dict.fromkeys(ways, 0.0)
    for head, source in enumerate(truth.sources):
        for way, turning in ways.items():
            began = time.perf_counter()
            turned = rotate_many(turning, source, truth.degrees)
            seconds[way] += time.perf_counter() - began
            pictures[way][head] = fitting(turned, shape[1], truth.views.size)
        if progress is not None:
            progress(1)
    pictures[RENDER] = truth.pictures

    # measure
    rows = pd.concat([truth.measure(way, turned) for way, turned in pictures.items()], ignore_index=True)
    per_turn = {way: total / (shape[0] * shape[1]) for way, total in seconds.items()}
    return Evaluation(name, config, truth.views, network.title, rows, pictures, per_turn, dict(facts or {}))


def fitting(turned: list[np.ndarray], count: int, size: int) -> np.ndarray:
    """What a rotator returned, at the views' size: (k, size, size, 3) uint8."""
    shapes = [np.shape(t) for t in turned]
    if len(turned) != count or any(len(s) != 3 or s[0] != s[1] or s[2] != 3 for s in shapes):
        raise LatentrotError(f"the rotator returned pictures of shapes {shapes}: expected {count} of (s, s, 3)")
    if any(t.dtype != np.uint8 for t in turned):
        raise LatentrotError(f"the rotator returned pictures of type {turned[0].dtype}: expected uint8")
    return np.stack([t if len(t) == size else resize(t, size) for t in turned])
