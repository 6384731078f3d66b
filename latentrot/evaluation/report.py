"""Write the report of an evaluation: JSON, tables, figures and example images."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from latentrot.data.arrays import resize, strip
from latentrot.data.images import write_image
from latentrot.evaluation.measure import MEASURES
from latentrot.evaluation.metrics import bootstrap_mean
from latentrot.evaluation.people import data_set_of
from latentrot.evaluation.published import PROTOCOL_COLUMNS, SPINMEROUND, SPINMEROUND_SOURCE
from latentrot.evaluation.run import BASELINES, CEILING, FLOOR, TRUTH, Evaluation
from latentrot.files import write_atomically
from latentrot.output import write_output_folder
from latentrot.portrait.results import synthetic_metadata

__all__ = ["evaluation_figure", "examples", "markdown_table", "protocol_table", "summary", "write_evaluation"]

Cell = dict[str, float | int | None]
#: columns of the table: measure -> title, factor, decimals; columns without measurements are left out
TABLE = {
    "squared_error_face": ("squared error in the face x 1000", 1000, 1),
    "squared_error": ("over the crop x 1000", 1000, 1),
    "ssim_face": ("SSIM in the face", 1, 3),
    "ssim": ("over the crop", 1, 3),
    "lpips": ("LPIPS", 1, 3),
    "identity_true": ("identity to the true image", 1, 3),
    "identity_source": ("to the source", 1, 3),
    "yaw_error_judge_deg": ("yaw error by the judge", 1, 1),
    "yaw_error_landmarks_deg": ("by landmarks", 1, 1),
    "yaw_error_pixels_deg": ("by pixels", 1, 1),
    "yaw_error_deg": ("by the label network", 1, 1),
    "rank": ("rank", 1, 1),
    "light_kept": ("light kept", 1, 2),
}


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """Summarise an evaluation, ready for JSON.

    Returns:
        Configuration, data, and descriptions of the measures; `ways`: results of each rotator and reference; `differences`:
        paired differences between each rotator and the references. Results are given over `all` rotations, `by_turn` and
        `by_light`: mean and 95% interval of each measure (bootstrap over people), and numbers of people and images.
    """
    from latentrot import __version__  # noqa: PLC0415  the package's top level imports this module lazily

    pairs, config = evaluation.pairs, evaluation.config
    tables = {way: rows.set_index("pair") for way, rows in evaluation.rows.groupby("way", sort=False)}
    measured = [name for name in MEASURES if evaluation.rows[name].notna().any()]
    return {
        "kind": "latentrot evaluation",
        "format": 1,
        "version": __version__,
        "rotators": list(evaluation.rotators),
        **evaluation.provenance,
        "labeler": evaluation.labeler,
        "judge": evaluation.judge,
        "config": asdict(config),
        "data": {
            "set": data_set_of(pairs.root, config),
            "rendered": pairs.rendered,
            "people": len(pairs.turned_people),
            "pairs": len(pairs.table),
            "gallery": {
                light: len(set(pairs.people[pairs.lights == light])) for light in sorted(set(pairs.lights)) if light
            },
            "size": pairs.size,
        },
        "measures": MEASURES,
        "not_measured": [name for name in MEASURES if name not in measured],
        "seconds_per_turn": {way: round(s, 4) for way, s in evaluation.seconds.items()},
        "ways": {way: cells_of(rows, evaluation) for way, rows in tables.items()},
        "differences": {
            name: {
                way: cells_of(paired_difference(tables[name], tables[way]), evaluation)
                for way in (*BASELINES, CEILING)
                if way != name and way in tables
            }
            for name in evaluation.rotators
        },
    }


def paired_difference(own: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Differences of the measures of two ways, for the images that both have."""
    both = own.index.intersection(other.index)
    measures = list(MEASURES)
    differences = own.loc[both, measures] - other.loc[both, measures]
    return own.loc[both].assign(**{name: differences[name] for name in measures})


def cells_of(rows: pd.DataFrame, evaluation: Evaluation) -> dict[str, object]:
    """Means and intervals over all rotations, by rotation and by light."""

    def cell(part: pd.DataFrame) -> dict[str, Cell]:
        return intervals(part, evaluation.config.resamples, evaluation.config.seed)

    signed = "{:+g}" if evaluation.pairs.rendered else "{:g}"
    return {
        "all": cell(rows),
        "by_turn": {signed.format(turn): cell(part) for turn, part in rows.groupby("turn")},
        "by_light": {light: cell(part) for light, part in rows.groupby("light")},
    }


def intervals(rows: pd.DataFrame, resamples: int, seed: int) -> dict[str, Cell]:
    """Mean and 95% interval of each measure over people; the images of one person are averaged first."""
    people = rows.groupby("person")[list(MEASURES)].mean()
    cells: dict[str, Cell] = {
        name: {"mean": None, "low": None, "high": None, "people": 0, "pictures": 0} for name in MEASURES
    }
    for names, known in columns_by_people(people):
        ends = bootstrap_mean(known.to_numpy(np.float64), resamples, seed)
        for name, end in zip(names, ends.T, strict=True):
            rounded = [None if np.isnan(v) else round(float(v), 6) for v in end]
            images = int(rows[name].notna().sum())
            cells[name] = dict(zip(("mean", "low", "high"), rounded, strict=True))
            cells[name] |= {"people": len(known), "pictures": images}
    return cells


def columns_by_people(people: pd.DataFrame) -> Iterator[tuple[list[str], pd.DataFrame]]:
    """Group columns that are known for the same people, so that each group needs one bootstrap; yields names and values."""
    columns: dict[bytes, list[str]] = {}
    for name in people:
        columns.setdefault(people[name].notna().to_numpy().tobytes(), []).append(str(name))
    for names in columns.values():
        known = people[names].dropna()
        if len(known):
            yield names, known


# ---- the table --------------------------------------------------------------------------------------------------


def markdown_table(report: dict[str, Any]) -> str:
    """Means with 95% intervals of all ways, rotators first, as a Markdown table."""
    shown = [name for name in TABLE if name not in report["not_measured"]]
    order = [w for w in (*report["rotators"], *BASELINES, CEILING, FLOOR, TRUTH) if w in report["ways"]]
    lines = [
        "| | people / images | " + " | ".join(TABLE[name][0] for name in shown) + " |",
        "|---" * (len(shown) + 2) + "|",
    ]
    for way in dict.fromkeys(order):
        cells = report["ways"][way]["all"]
        counts = f"{cells['squared_error']['people']} / {cells['squared_error']['pictures']}"
        lines.append(f"| {way} | {counts} | " + " | ".join(format_cell(cells[n], *TABLE[n][1:]) for n in shown) + " |")
    return "\n".join(lines)


def format_cell(cell: Cell, times: float, decimals: int) -> str:
    """Format a mean and its interval."""
    if cell["mean"] is None:
        return ""
    mean, *ends = (
        None if cell[k] is None else f"{times * float(cell[k] or 0):.{decimals}f}" for k in ("mean", "low", "high")
    )
    return f"{mean}" if None in ends else f"{mean} [{ends[0]}, {ends[1]}]"


def protocol_table(report: dict[str, Any]) -> str:
    """The measures that multi-view papers publish, with published figures below, as Markdown."""
    lines = ["| | " + " | ".join(PROTOCOL_COLUMNS) + " |", "|---" * (len(PROTOCOL_COLUMNS) + 1) + "|"]
    for way in (*report["rotators"], *(b for b in BASELINES if b not in report["rotators"])):
        cells = [report["ways"][way]["all"][measure]["mean"] for measure in PROTOCOL_COLUMNS.values()]
        lines.append(f"| {way} | " + " | ".join("" if c is None else f"{c:.3f}" for c in cells) + " |")
    lines += [f"| *{name}* | " + " | ".join(f"*{v:g}*" for v in row) + " |" for name, row in SPINMEROUND.items()]
    return "\n".join(
        [*lines, "", f"In italics: published figures on other data, not comparable: {SPINMEROUND_SOURCE}."]
    )


# ---- images ---------------------------------------------------------------------------------------------------


def evaluation_figure(report: dict[str, Any], title: str = "") -> Figure:
    """Plot every measure against the requested rotation, with 95% intervals.

    Args:
        report: from `summary`.
        title: title of the figure.
    """
    measured = [name for name in MEASURES if name not in report["not_measured"]]
    columns = -(-len(measured) // 3)
    figure = Figure(figsize=(4.2 * columns, 11), layout="constrained")
    panels = figure.subplots(3, columns, squeeze=False).ravel()
    for axes in panels[len(measured) :]:
        axes.remove()
    for axes, measure in zip(panels, measured, strict=False):
        for i, (way, cells) in enumerate(report["ways"].items()):
            cell = [by_turn[measure] for by_turn in cells["by_turn"].values()]
            mean, low, high = (np.array([c[end] for c in cell], np.float64) for end in ("mean", "low", "high"))
            bars = np.maximum(np.nan_to_num([mean - low, high - mean]), 0)
            style = {"linestyle": ":", "color": "grey"} if way == TRUTH else {"linestyle": "-", "color": f"C{i}"}
            turns = [float(turn) for turn in cells["by_turn"]]
            axes.errorbar(turns, mean, bars, marker="o", markersize=4, capsize=2, label=way, **style)
        axes.set(title=measure, xlabel="requested rotation (degrees)")
    panels[0].legend(fontsize="small")
    figure.suptitle(title)
    return figure


def examples(evaluation: Evaluation, max_people: int = 3, side: int = 128) -> np.ndarray:
    """Contact sheet of some people: source and true images, and below them the images of each rotator.

    Args:
        evaluation: from `evaluate`.
        max_people: max number of people: one per illumination class, or those with the largest rotations.
        side: side of each image in pixels.
    """
    pairs = evaluation.pairs
    table = pairs.table.reset_index(drop=True)
    chosen = [table.index[table["source"] == source] for source in example_sources(evaluation, max_people)]
    columns = max(map(len, chosen)) + 1
    blank = np.full_like(pairs.images[0], 255)
    rows: list[np.ndarray] = []
    for places in chosen:
        source = pairs.images[table["source"][places[0]]]
        truths = [pairs.images[table["truth"][place]] for place in places]
        for images in (
            truths,
            *([pairs.center_crop(evaluation.images[way][p]) for p in places] for way in evaluation.rotators),
        ):
            rows += [source, *images, *[blank] * (columns - 1 - len(images))]
    return strip([resize(r, side) for r in rows], columns=columns)


def example_sources(evaluation: Evaluation, max_people: int) -> list[int]:
    """Indices of the example sources: one per illumination class, or those of different people with the largest rotations."""
    pairs = evaluation.pairs
    table = pairs.table
    if pairs.rendered:
        first = table.assign(light=pairs.lights[table["source"]]).drop_duplicates("light")
        return first["source"].tolist()[:max_people]
    far = table.assign(far=table["requested_deg"].abs()).sort_values("far", ascending=False, kind="stable")
    return far.drop_duplicates("person")["source"].tolist()[:max_people]


def write_evaluation(evaluation: Evaluation, report: dict[str, Any], out: Path) -> list[Path]:
    """Write an evaluation into a folder.

    Args:
        evaluation: from `evaluate`.
        report: result of `summary`.
        out: target folder.

    Returns:
        The files: evaluation.json, .csv (measures of every image), .md (the table), .png, and examples.png.
    """
    data = report["data"]
    subjects = "held-out heads" if data["rendered"] else "held-out people"
    title = (
        f"{', '.join(evaluation.rotators)}: {data['people']} {subjects}, {data['pairs']} rotations; mean, 95% interval"
    )
    figure = evaluation_figure(report, title)
    metadata = synthetic_metadata({"rotator": ", ".join(evaluation.rotators), **evaluation.provenance})
    writers: dict[str, Callable[[Path], object]] = {
        "evaluation.json": lambda p: p.write_text(json.dumps(report, indent=2) + "\n"),
        "evaluation.csv": lambda p: evaluation.rows.to_csv(p, index=False, float_format="%.6g"),
        "evaluation.md": lambda p: p.write_text(markdown_table(report) + "\n"),
        "evaluation.png": lambda p: figure.savefig(p, format="png", dpi=100),
    }

    def write() -> list[Path]:
        for name, content in writers.items():
            write_atomically(out / name, content)
        write_image(out / "examples.png", examples(evaluation), metadata)
        return [*(out / name for name in writers), out / "examples.png"]

    return write_output_folder(out, write)
