"""Turn people never seen, compare with what they truly look like turned: `evaluate`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from latentrot.data.images import resize
from latentrot.errors import LatentrotError
from latentrot.evaluation.clips import is_clips, read_clips
from latentrot.evaluation.judges import Judge
from latentrot.evaluation.measure import Instruments, instruments_for, measure
from latentrot.evaluation.pairs import WIDE_BOX, EvaluationConfig, Pairs
from latentrot.evaluation.people import require_strangers
from latentrot.evaluation.views import pairs_of_views, read_views
from latentrot.faces.network import FaceLabeler, load_labeler
from latentrot.rotators.protocol import (
    Rotator,
    capabilities_of,
    load_rotator,
    rotate_face,
    rotate_many,
    takes_photographs,
)

__all__ = ["BASELINES", "CEILING", "FLOOR", "TRUTH", "Evaluation", "evaluate", "read_pairs"]

#: what every rotator is measured beside
BASELINES = ("nothing", "mirror")
#: the true images, measured as if a rotator had made them: what the measures say of a perfect one
TRUTH = "truth"
#: real people: the frame of the same clip that is nearest to the true pose; two frames in one pose, nothing turned
CEILING, FLOOR = "nearest frame", "same pose"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was measured.

    Attributes:
        rotators: names of those that were asked for.
        config: what was asked for.
        pairs: the truth.
        labeler: title of the label network that measured.
        judge: name of the judge that was given; empty where none was.
        rows: one per way and turned image: way, and the columns of `measure`.
        images: by way that turned anything, an image for each of the pairs, (w, w, 3) uint8: at the truth's size, or
            with more around it where a whole photograph was turned.
        seconds: by way, mean per turned image.
        provenance: what else is to be recorded, such as the model's name.
    """

    rotators: tuple[str, ...]
    config: EvaluationConfig
    pairs: Pairs
    labeler: str
    judge: str
    rows: pd.DataFrame
    pictures: dict[str, list[np.ndarray]]
    seconds: dict[str, float]
    provenance: dict[str, str] = field(default_factory=dict)


def read_pairs(root: Path | str, config: EvaluationConfig) -> Pairs:
    """Read a folder whose images show people or heads in several poses: of clips, or of rendered views.

    Raises:
        LatentrotError: the folder is neither, or does not hold what was asked for.
    """
    root = Path(root)
    if is_clips(root):
        return read_clips(root, config)
    if root.is_dir() and not (root / "views.csv").is_file():
        raise LatentrotError(
            f"neither clip.csv nor views.csv in {root}: expected photographs with clip.csv (image_id, clip) and pose.csv "
            "(image_id, yaw_deg), or heads made with: latentrot heads make --views"
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
    """Measure rotators on people or heads whose true turned images are known, beside doing nothing and mirroring.

    Args:
        rotators: by name, or one, which is then called "rotator": anything with `rotate(image, degrees) -> image`. Where
            there is a whole photograph, `rotate_photograph` is used; else `rotate_many`, if a rotator has it.
        data: a folder of clips (`clip.csv`, `pose.csv`) or of rendered views, or what `read_pairs` made of it.
        config: who is turned, and by how much.
        labeler: the label network that measures yaw, pitch and light; None: that of the only rotator, if it has a
            `label_network`, else the one of the bundled faces.
        judge: further estimates of yaw and identity.
        provenance: what else is to be recorded.
        progress: called with 1 after every image turned by all.

    Raises:
        LatentrotError: no pairs there, nothing left to turn, a rotator that may have learned from these people, or that
            returns something else than square images.
    """
    config = config or EvaluationConfig()
    named = dict(rotators) if isinstance(rotators, Mapping) else {"rotator": rotators}
    require_strangers(named, data.root if isinstance(data, Pairs) else Path(data), config)
    pairs = data if isinstance(data, Pairs) else read_pairs(data, config)
    own = capabilities_of(next(iter(named.values()))).label_network if len(named) == 1 else None
    network = labeler or own or load_labeler()
    ways = named | {n: load_rotator(n) for n in BASELINES if n not in named}

    turned = turn_all(pairs, ways, progress)
    instruments = instruments_for(pairs, network, judge)
    rows = [measure(pairs, pairs.table, t.pictures, instruments, t.refused).assign(way=w) for w, t in turned.items()]
    rows += [found.assign(way=way) for way, found in references(pairs, instruments).items()]
    return Evaluation(
        tuple(named), config, pairs, network.title, judge.name if judge else "", pd.concat(rows, ignore_index=True),
        {w: t.pictures for w, t in turned.items()}, {w: t.seconds for w, t in turned.items()}, dict(provenance or {}),
    )  # fmt: skip


def references(pairs: Pairs, instruments: Instruments) -> dict[str, pd.DataFrame]:
    """What no rotator made: the true images themselves, and of real people other frames of their clips."""
    tables = {TRUTH: (pairs.table, "truth"), CEILING: (pairs.nearest, "source"), FLOOR: (pairs.still, "source")}
    return {
        way: measure(pairs, table, list(pairs.pictures[table[column].to_numpy()]), instruments)
        for way, (table, column) in tables.items()
        if len(table)
    }


# ---- turning ----------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class TurnedPictures:
    """What one way made of the pairs' sources: images, which of them it refused, seconds an image."""

    pictures: list[np.ndarray]
    refused: np.ndarray
    seconds: float = 0.0


def turn_all(
    pairs: Pairs, ways: Mapping[str, Rotator], progress: Callable[[int], object] | None = None
) -> dict[str, TurnedPictures]:
    """Turn every source by all its turns, every way."""
    count = len(pairs.table)
    sources = pairs.pictures[pairs.table["source"].to_numpy()]
    results = {way: TurnedPictures(list(sources), np.zeros(count, bool)) for way in ways}
    places = pairs.table.reset_index(drop=True).groupby("source", sort=False)
    for _, part in places:
        for way, rotator in ways.items():
            turn_source(pairs, int(part["source"].iloc[0]), part, rotator, results[way])
        if progress is not None:
            progress(1)
    for result in results.values():
        result.seconds /= max(count, 1)
    return results


def turn_source(pairs: Pairs, source: int, part: pd.DataFrame, rotator: Rotator, result: TurnedPictures) -> None:
    """Turn one source by each of its turns; a face that the rotator refuses stays as it is."""
    degrees = part["requested_deg"].tolist()
    began = time.perf_counter()
    try:
        turned, size = turned_by(rotator, pairs, source, degrees)
    except LatentrotError:
        if pairs.rendered:  # a rendered head is plain: what cannot turn it is broken
            raise
        result.refused[part.index] = True
        return
    finally:
        result.seconds += time.perf_counter() - began
    for place, picture in zip(part.index, fitting(turned, len(degrees), size), strict=True):
        result.pictures[place] = picture


def turned_by(rotator: Rotator, pairs: Pairs, source: int, degrees: Sequence[float]) -> tuple[list[np.ndarray], int]:
    """One source turned several ways, with all that the photograph shows where the rotator can make use of it.

    Returns:
        The images, and the side in pixels that they should have.
    """
    there = pairs.photograph(source) if takes_photographs(rotator) else None
    if there is None:
        return rotate_many(rotator, pairs.pictures[source], degrees), pairs.size
    return rotate_face(rotator, *there, degrees, pairs.wide, WIDE_BOX), pairs.wide


def fitting(turned: list[np.ndarray], count: int, size: int) -> list[np.ndarray]:
    """What a rotator returned, at the side it should have: (size, size, 3) uint8 each."""
    shapes = [np.shape(t) for t in turned]
    if len(turned) != count or any(len(s) != 3 or s[0] != s[1] or s[2] != 3 for s in shapes):
        raise LatentrotError(f"the rotator returned pictures of shapes {shapes}: expected {count} of (s, s, 3)")
    if any(t.dtype != np.uint8 for t in turned):
        raise LatentrotError(f"the rotator returned pictures of type {turned[0].dtype}: expected uint8")
    return [t if len(t) == size else resize(t, size) for t in turned]
