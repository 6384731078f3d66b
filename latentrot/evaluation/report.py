"""An evaluation in words, numbers and pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from latentrot.data.images import resize, strip, write_image
from latentrot.edit.results import synthetic_notes
from latentrot.evaluation.metrics import bootstrap_mean
from latentrot.evaluation.run import BASELINES, RENDER, Evaluation
from latentrot.evaluation.truth import MEASURES
from latentrot.files import write_atomically

__all__ = ["evaluation_figure", "summary", "text_table", "write_evaluation"]

Cell = dict[str, float | int | None]


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """The evaluation as JSON can carry it.

    Returns:
        What was evaluated on what, the meaning of the measures, and for every way (`ways`) and for the paired differences
        of the rotator to each baseline (`differences`): `all` turns, `by_turn` and `by_light`, each with the measures'
        mean, low and high end of the 95% interval (bootstrap over heads) and number of heads.
    """
    from latentrot import __version__  # noqa: PLC0415  the package's top level imports this module lazily

    views, config = evaluation.views, evaluation.config
    tables = {
        way: rows.set_index(["head", "requested_deg"]) for way, rows in evaluation.rows.groupby("way", sort=False)
    }
    own = tables[evaluation.name]
    return {
        "kind": "latentrot evaluation",
        "format": 1,
        "version": __version__,
        "rotator": evaluation.name,
        **evaluation.facts,
        "labeler": evaluation.labeler,
        "config": asdict(config),
        "views": {
            "heads": int(own.index.get_level_values("head").nunique()),
            "gallery": {light: len(views.group(light)) for light in sorted(set(views.lights))},
            "size": views.size,
            "masks": views.masks is not None,
        },
        "measures": MEASURES,
        "not_measured": [name for name in MEASURES if not own[name].notna().to_numpy().any()],
        "seconds_per_turn": {way: round(s, 4) for way, s in evaluation.seconds.items()},
        "ways": {way: cells_of(rows, evaluation) for way, rows in tables.items()},
        "differences": {
            way: cells_of(difference(own, tables[way]), evaluation) for way in BASELINES if way != evaluation.name
        },
    }


def difference(own: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """The measures of one way minus those of another, head by head and turn by turn."""
    measures = list(MEASURES)
    return (own[measures] - other.loc[own.index, measures]).assign(light=own["light"])


def cells_of(rows: pd.DataFrame, evaluation: Evaluation) -> dict[str, object]:
    """Means and intervals of all turns, by turn and by light."""

    def cell(part: pd.DataFrame) -> dict[str, Cell]:
        return intervals(part, evaluation.config.resamples, evaluation.config.seed)

    turns = sorted(set(rows.index.get_level_values("requested_deg")))
    return {
        "all": cell(rows),
        "by_turn": {f"{t:+g}": cell(rows.xs(t, level="requested_deg", drop_level=False)) for t in turns},
        "by_light": {light: cell(part) for light, part in rows.groupby("light")},
    }


def intervals(rows: pd.DataFrame, resamples: int, seed: int) -> dict[str, Cell]:
    """Mean and 95% interval of each measure; the turns of one head are averaged first, since they are not independent."""
    heads = rows.groupby(level="head")[list(MEASURES)].mean()
    ends = bootstrap_mean(heads.to_numpy(np.float64), resamples, seed)
    if len(heads) == 1:
        ends[1:] = np.nan  # one head says nothing of how heads differ
    return {
        name: {
            **{
                k: None if np.isnan(v) else round(float(v), 6)
                for k, v in zip(("mean", "low", "high"), end, strict=True)
            },
            "heads": len(heads),
        }
        for name, end in zip(MEASURES, ends.T, strict=True)
    }


def evaluation_figure(report: dict, title: str = "") -> Figure:
    """Every measure against the requested turn, a line per way with its 95% intervals.

    Args:
        report: from `summary`.
        title: above the figure.
    """
    measured = [name for name in MEASURES if name not in report["not_measured"]]
    columns = -(-len(measured) // 2)
    figure = Figure(figsize=(4.2 * columns, 8), layout="constrained")
    panels = figure.subplots(2, columns).ravel()
    for axes in panels[len(measured) :]:
        axes.remove()
    for axes, measure in zip(panels, measured, strict=False):
        for i, (way, cells) in enumerate(report["ways"].items()):
            cell = [by_turn[measure] for by_turn in cells["by_turn"].values()]
            mean, low, high = (np.array([c[end] for c in cell], np.float64) for end in ("mean", "low", "high"))
            bars = np.maximum(np.nan_to_num([mean - low, high - mean]), 0)
            style = {"linestyle": ":", "color": "grey"} if way == RENDER else {"linestyle": "-", "color": f"C{i}"}
            turns = [float(turn) for turn in cells["by_turn"]]
            axes.errorbar(turns, mean, bars, marker="o", markersize=4, capsize=2, label=way, **style)
        axes.set(title=measure, xlabel="requested turn (degrees)")
    panels[0].legend(fontsize="small")
    figure.suptitle(title)
    return figure


def examples(evaluation: Evaluation, most: int = 3, side: int = 128) -> np.ndarray:
    """Rows of pictures, the source first: a head truly turned, and below it turned by the rotator.

    Args:
        evaluation: from `evaluate`.
        most: heads at most, the first of each light.
        side: of each picture in pixels.
    """
    rows: list[np.ndarray] = []
    lights = evaluation.views.lights[: len(evaluation.pictures[RENDER])]
    source = evaluation.views.column(evaluation.config.source_yaw)
    for head in [lights.index(light) for light in dict.fromkeys(lights)][:most]:
        for way in (RENDER, evaluation.name):
            rows += [evaluation.views.pictures[head, source], *evaluation.pictures[way][head]]
    return strip([resize(r, side) for r in rows], columns=evaluation.pictures[RENDER].shape[1] + 1)


def text_table(report: dict) -> str:
    """The means over all turns for people, a line per way."""
    means = {way: {name: cell["mean"] for name, cell in cells["all"].items()} for way, cells in report["ways"].items()}
    return (
        pd.DataFrame(means)
        .T.astype(float)
        .dropna(axis="columns", how="all")
        .to_string(float_format=lambda v: f"{v:.4g}")
    )


def write_evaluation(evaluation: Evaluation, report: dict, out: Path) -> list[Path]:
    """Write an evaluation.

    Args:
        evaluation: from `evaluate`.
        report: its `summary`.
        out: folder, made if missing.

    Returns:
        The files: evaluation.json, evaluation.csv (every picture's measures), evaluation.png and examples.png.
    """
    heads = report["views"]["heads"]
    figure = evaluation_figure(report, f"{evaluation.name}: {heads} heads never seen, means with 95% intervals")
    notes = synthetic_notes({"rotator": evaluation.name, **evaluation.facts})
    writers: dict[str, Callable[[Path], object]] = {
        "evaluation.json": lambda p: p.write_text(json.dumps(report, indent=2) + "\n"),
        "evaluation.csv": lambda p: evaluation.rows.to_csv(p, index=False, float_format="%.6g"),
        "evaluation.png": lambda p: figure.savefig(p, format="png", dpi=100),
    }
    for name, write in writers.items():
        write_atomically(out / name, write)
    write_image(out / "examples.png", examples(evaluation), notes)
    return [*(out / name for name in writers), out / "examples.png"]
