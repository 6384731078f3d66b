"""Evaluate rotators: rotate held-out people or heads and compare with the true images."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from latentrot.data.arrays import resize
from latentrot.errors import LatentrotError
from latentrot.evaluation.clips import is_clips, read_clips
from latentrot.evaluation.judges import Judge
from latentrot.evaluation.measure import Instruments, instruments_for, measure
from latentrot.evaluation.pairs import WIDE_BOX, EvaluationConfig, Pairs
from latentrot.evaluation.people import require_held_out
from latentrot.evaluation.views import pairs_of_views, read_views
from latentrot.faces.network import FaceLabeler, load_labeler
from latentrot.rotators.protocol import Rotator, capabilities_of, rotate_face, rotate_many, takes_photographs
from latentrot.rotators.registry import load_rotator

__all__ = ["BASELINES", "CEILING", "FLOOR", "TRUTH", "Evaluation", "evaluate", "read_pairs"]

#: baselines of every evaluation
BASELINES = ("nothing", "mirror")
#: reference: the true images, measured like those of a rotator, i.e. the values of a perfect rotator
TRUTH = "truth"
#: references for real people: the frame of the clip nearest to the true pose; two frames in the same pose
CEILING, FLOOR = "nearest frame", "same pose"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Result of an evaluation. A way is a rotator, a baseline or a reference.

    Attributes:
        rotators: names of the rotators.
        config: configuration.
        pairs: ground truth.
        labeler: title of the label network.
        judge: name of the judge; empty without one.
        rows: one row per way and image: way, and the columns of `measure`.
        images: rotator -> one image per pair, (w, w, 3) uint8: of the size of the true image, or larger if a whole
            photograph was rotated.
        seconds: rotator -> mean duration per image.
        provenance: further entries of the report, such as the name of the model.
    """

    rotators: tuple[str, ...]
    config: EvaluationConfig
    pairs: Pairs
    labeler: str
    judge: str
    rows: pd.DataFrame
    images: dict[str, list[np.ndarray]]
    seconds: dict[str, float]
    provenance: dict[str, str] = field(default_factory=dict)


def read_pairs(root: Path | str, config: EvaluationConfig) -> Pairs:
    """Read a folder of clips or of rendered views.

    Raises:
        LatentrotError: the folder contains neither, or none of the configured pairs.
    """
    root = Path(root)
    if is_clips(root):
        return read_clips(root, config)
    if root.is_dir() and not (root / "views.csv").is_file():
        raise LatentrotError(
            f"neither clip.csv nor views.csv in {root}: expected photographs with clip.csv (image_id, clip) and pose.csv "
            "(image_id, yaw_deg), or heads rendered by: latentrot heads make --views"
        )
    return pairs_of_views(read_views(root), config)


def evaluate(
    rotators: Rotator | Mapping[str, Rotator],
    data: Pairs | Path | str,
    config: EvaluationConfig | None = None,
    *,
    labeler: FaceLabeler | None = None,
    judge: Judge | None = None,
    provenance: Mapping[str, str] | None = None,
    progress: Callable[[int], object] | None = None,
) -> Evaluation:
    """Measure rotators, and the baselines `nothing` and `mirror`, on people or heads with known true images.

    Args:
        rotators: name -> rotator, or a single rotator: any object with `rotate(image, degrees) -> image`. Its
            `rotate_photograph` is used on whole photographs if it has one, otherwise `rotate_many` or `rotate` on crops.
        data: a folder of clips (`clip.csv`, `pose.csv`) or of rendered views, or the result of `read_pairs`.
        config: configuration.
        labeler: label network that measures yaw, pitch and light; None: the `label_network` of a single rotator, or the
            bundled one.
        judge: further estimators of yaw and identity.
        provenance: further entries of the report.
        progress: called with 1 after every source image.

    Raises:
        LatentrotError: there are no pairs, a rotator may have been trained on these people, or a rotator does not return
            square images.
    """
    config = config or EvaluationConfig()
    named = dict(rotators) if isinstance(rotators, Mapping) else {"rotator": rotators}
    require_held_out(named, data.root if isinstance(data, Pairs) else Path(data), config)
    pairs = data if isinstance(data, Pairs) else read_pairs(data, config)
    own = capabilities_of(next(iter(named.values()))).label_network if len(named) == 1 else None
    network = labeler or own or load_labeler()
    ways = named | {n: load_rotator(n) for n in BASELINES if n not in named}

    turned = rotate_all(pairs, ways, progress)
    instruments = instruments_for(pairs, network, judge)
    rows = [measure(pairs, pairs.table, t.images, instruments, t.refused).assign(way=w) for w, t in turned.items()]
    rows += [found.assign(way=way) for way, found in references(pairs, instruments).items()]
    return Evaluation(
        tuple(named), config, pairs, network.title, judge.name if judge else "", pd.concat(rows, ignore_index=True),
        {w: t.images for w, t in turned.items()}, {w: t.seconds for w, t in turned.items()}, dict(provenance or {}),
    )  # fmt: skip


def references(pairs: Pairs, instruments: Instruments) -> dict[str, pd.DataFrame]:
    """Measure the references: the true images and, for real people, other frames of their clips."""
    tables = {TRUTH: (pairs.table, "truth"), CEILING: (pairs.nearest, "source"), FLOOR: (pairs.still, "source")}
    return {
        way: measure(pairs, table, list(pairs.images[table[column].to_numpy()]), instruments)
        for way, (table, column) in tables.items()
        if len(table)
    }


# ---- rotation ---------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class RotatedImages:
    """Images by one rotator for all pairs, which of them it refused, and seconds per image."""

    images: list[np.ndarray]
    refused: np.ndarray
    seconds: float = 0.0


def rotate_all(
    pairs: Pairs, ways: Mapping[str, Rotator], progress: Callable[[int], object] | None = None
) -> dict[str, RotatedImages]:
    """Rotate every source by all its rotations with each rotator."""
    count = len(pairs.table)
    sources = pairs.images[pairs.table["source"].to_numpy()]
    results = {way: RotatedImages(list(sources), np.zeros(count, bool)) for way in ways}
    places = pairs.table.reset_index(drop=True).groupby("source", sort=False)
    for _, part in places:
        for way, rotator in ways.items():
            rotate_all_of(pairs, int(part["source"].iloc[0]), part, rotator, results[way])
        if progress is not None:
            progress(1)
    for result in results.values():
        result.seconds /= max(count, 1)
    return results


def rotate_all_of(pairs: Pairs, source: int, part: pd.DataFrame, rotator: Rotator, result: RotatedImages) -> None:
    """Rotate one source by each of its rotations; a source that the rotator refuses is left unchanged."""
    degrees = part["requested_deg"].tolist()
    began = time.perf_counter()
    try:
        turned, size = rotate_source(rotator, pairs, source, degrees)
    except LatentrotError:
        if pairs.rendered:  # a failure on a rendered head is a bug of the rotator
            raise
        result.refused[part.index] = True
        return
    finally:
        result.seconds += time.perf_counter() - began
    for place, image in zip(part.index, check_rotated(turned, len(degrees), size), strict=True):
        result.images[place] = image


def rotate_source(
    rotator: Rotator, pairs: Pairs, source: int, degrees: Sequence[float]
) -> tuple[list[np.ndarray], int]:
    """Rotate one source, on the whole photograph if the rotator takes photographs.

    Returns:
        The images, and the expected side in pixels.
    """
    photograph = pairs.photograph(source) if takes_photographs(rotator) else None
    if photograph is None:
        return rotate_many(rotator, pairs.images[source], degrees), pairs.size
    return rotate_face(rotator, *photograph, degrees, pairs.wide, WIDE_BOX), pairs.wide


def check_rotated(turned: list[np.ndarray], count: int, size: int) -> list[np.ndarray]:
    """Check the images that a rotator returned, and resize them to (size, size, 3) uint8."""
    shapes = [np.shape(t) for t in turned]
    if len(turned) != count or any(len(s) != 3 or s[0] != s[1] or s[2] != 3 for s in shapes):
        raise LatentrotError(f"the rotator returned images of shapes {shapes}: expected {count} of (s, s, 3)")
    if types := {str(t.dtype) for t in turned if t.dtype != np.uint8}:
        raise LatentrotError(f"the rotator returned images of type {', '.join(sorted(types))}: expected uint8")
    return [t if len(t) == size else resize(t, size) for t in turned]
