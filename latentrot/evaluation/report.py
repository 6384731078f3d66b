"""An evaluation in words, numbers and images."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from latentrot.data.images import resize, strip, write_image
from latentrot.evaluation.measure import MEASURES
from latentrot.evaluation.metrics import bootstrap_mean
from latentrot.evaluation.people import data_set_of
from latentrot.evaluation.published import PROTOCOL_COLUMNS, SPINMEROUND, SPINMEROUND_SOURCE
from latentrot.evaluation.run import BASELINES, CEILING, FLOOR, TRUTH, Evaluation
from latentrot.files import write_atomically
from latentrot.output import write_owned
from latentrot.portrait.results import synthetic_metadata

__all__ = ["evaluation_figure", "examples", "markdown_table", "protocol_table", "summary", "write_evaluation"]

Cell = dict[str, float | int | None]
#: the order of the table's columns, what each is multiplied by, and its decimals; only those that were measured are shown
TABLE = {
    "squared_error_face": ("squared error in the face x 1000", 1000, 1),
    "squared_error": ("over the crop x 1000", 1000, 1),
    "ssim_face": ("SSIM in the face", 1, 3),
    "ssim": ("over the crop", 1, 3),
    "lpips": ("LPIPS", 1, 3),
    "identity_true": ("identity to the true picture", 1, 3),
    "identity_source": ("to the source", 1, 3),
    "yaw_error_judge_deg": ("yaw error by the judge", 1, 1),
    "yaw_error_landmarks_deg": ("by landmarks", 1, 1),
    "yaw_error_pixels_deg": ("by pixels", 1, 1),
    "yaw_error_deg": ("by the label network", 1, 1),
    "rank": ("rank", 1, 1),
    "light_kept": ("light kept", 1, 2),
}


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """The evaluation as JSON can carry it.

    Returns:
        What was evaluated on what, the meaning of the measures, and for every way (`ways`) and for the paired differences
        of each rotator to what it has to beat (`differences`, by rotator and by what): `all` turns, `by_turn` and
        `by_light`, each with the measures' mean, low and high end of the 95% interval (bootstrap over people), and the
        numbers of people and of images.
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
                light: gallery_size(pairs.people, pairs.lights, light) for light in sorted(set(pairs.lights)) if light
            },
            "size": pairs.size,
        },
        "measures": MEASURES,
        "not_measured": [name for name in MEASURES if name not in measured],
        "seconds_per_turn": {way: round(s, 4) for way, s in evaluation.seconds.items()},
        "ways": {way: cells_of(rows, evaluation) for way, rows in tables.items()},
        "differences": {
            name: {
                way: cells_of(difference(tables[name], tables[way]), evaluation)
                for way in (*BASELINES, CEILING)
                if way != name and way in tables
            }
            for name in evaluation.rotators
        },
    }


def gallery_size(people: np.ndarray, lights: np.ndarray, light: str) -> int:
    """How many heads are lit from a side."""
    return len(set(people[lights == light]))


def difference(own: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """The measures of one way minus those of another, image by image, where both have one."""
    both = own.index.intersection(other.index)
    measures = list(MEASURES)
    apart = own.loc[both, measures] - other.loc[both, measures]
    return own.loc[both].assign(**{name: apart[name] for name in measures})


def cells_of(rows: pd.DataFrame, evaluation: Evaluation) -> dict[str, object]:
    """Means and intervals of all turns, by turn and by light."""

    def cell(part: pd.DataFrame) -> dict[str, Cell]:
        return intervals(part, evaluation.config.resamples, evaluation.config.seed)

    signed = "{:+g}" if evaluation.pairs.rendered else "{:g}"
    return {
        "all": cell(rows),
        "by_turn": {signed.format(turn): cell(part) for turn, part in rows.groupby("turn")},
        "by_light": {light: cell(part) for light, part in rows.groupby("light")},
    }


def intervals(rows: pd.DataFrame, resamples: int, seed: int) -> dict[str, Cell]:
    """Mean and 95% interval of each measure; the images of one person are averaged first, for they are not independent."""
    people = rows.groupby("person")[list(MEASURES)].mean()
    cells: dict[str, Cell] = {
        name: {"mean": None, "low": None, "high": None, "people": 0, "pictures": 0} for name in MEASURES
    }
    for names, known in alike_columns(people):
        ends = bootstrap_mean(known.to_numpy(np.float64), resamples, seed)
        for name, end in zip(names, ends.T, strict=True):
            rounded = [None if np.isnan(v) else round(float(v), 6) for v in end]
            pictures = int(rows[name].notna().sum())
            cells[name] = dict(zip(("mean", "low", "high"), rounded, strict=True))
            cells[name] |= {"people": len(known), "pictures": pictures}
    return cells


def alike_columns(people: pd.DataFrame) -> Iterator[tuple[list[str], pd.DataFrame]]:
    """Columns that are known of the same people, and those people's values: one bootstrap serves them all."""
    columns: dict[bytes, list[str]] = {}
    for name in people:
        columns.setdefault(people[name].notna().to_numpy().tobytes(), []).append(str(name))
    for names in columns.values():
        known = people[names].dropna()
        if len(known):
            yield names, known


# ---- the table --------------------------------------------------------------------------------------------------


def markdown_table(report: dict[str, Any]) -> str:
    """All ways, the rotators first, with their 95% intervals, as a Markdown table."""
    shown = [name for name in TABLE if name not in report["not_measured"]]
    order = [w for w in (*report["rotators"], *BASELINES, CEILING, FLOOR, TRUTH) if w in report["ways"]]
    lines = [
        "| | people / pictures | " + " | ".join(TABLE[name][0] for name in shown) + " |",
        "|---" * (len(shown) + 2) + "|",
    ]
    for way in dict.fromkeys(order):
        cells = report["ways"][way]["all"]
        counts = f"{cells['squared_error']['people']} / {cells['squared_error']['pictures']}"
        lines.append(f"| {way} | {counts} | " + " | ".join(in_words(cells[n], *TABLE[n][1:]) for n in shown) + " |")
    return "\n".join(lines)


def in_words(cell: Cell, times: float, decimals: int) -> str:
    """A mean and its interval."""
    if cell["mean"] is None:
        return ""
    mean, *ends = (
        None if cell[k] is None else f"{times * float(cell[k] or 0):.{decimals}f}" for k in ("mean", "low", "high")
    )
    return f"{mean}" if None in ends else f"{mean} [{ends[0]}, {ends[1]}]"


def protocol_table(report: dict[str, Any]) -> str:
    """The columns that multi-view papers publish, ours above the published rows, as Markdown."""
    lines = ["| | " + " | ".join(PROTOCOL_COLUMNS) + " |", "|---" * (len(PROTOCOL_COLUMNS) + 1) + "|"]
    for way in (*report["rotators"], *(b for b in BASELINES if b not in report["rotators"])):
        cells = [report["ways"][way]["all"][measure]["mean"] for measure in PROTOCOL_COLUMNS.values()]
        lines.append(f"| {way} | " + " | ".join("" if c is None else f"{c:.3f}" for c in cells) + " |")
    lines += [f"| *{name}* | " + " | ".join(f"*{v:g}*" for v in row) + " |" for name, row in SPINMEROUND.items()]
    return "\n".join([*lines, "", f"In italics, from other data and so no ranking: {SPINMEROUND_SOURCE}."])


# ---- images ---------------------------------------------------------------------------------------------------


def evaluation_figure(report: dict[str, Any], title: str = "") -> Figure:
    """Every measure against the requested turn, a line per way with its 95% intervals.

    Args:
        report: from `summary`.
        title: above the figure.
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
        axes.set(title=measure, xlabel="requested turn (degrees)")
    panels[0].legend(fontsize="small")
    figure.suptitle(title)
    return figure


def examples(evaluation: Evaluation, most: int = 3, side: int = 128) -> np.ndarray:
    """Rows of images, the source first: somebody truly turned, and below turned by each rotator.

    Args:
        evaluation: from `evaluate`.
        most: people at most: the first of each light, or those turned farthest.
        side: of each image in pixels.
    """
    pairs = evaluation.pairs
    table = pairs.table.reset_index(drop=True)
    chosen = [table.index[table["source"] == source] for source in shown_sources(evaluation, most)]
    columns = max(map(len, chosen)) + 1
    blank = np.full_like(pairs.pictures[0], 255)
    rows: list[np.ndarray] = []
    for places in chosen:
        source = pairs.pictures[table["source"][places[0]]]
        truths = [pairs.pictures[table["truth"][place]] for place in places]
        for pictures in (
            truths,
            *([pairs.middle(evaluation.pictures[way][p]) for p in places] for way in evaluation.rotators),
        ):
            rows += [source, *pictures, *[blank] * (columns - 1 - len(pictures))]
    return strip([resize(r, side) for r in rows], columns=columns)


def shown_sources(evaluation: Evaluation, most: int) -> list[int]:
    """Rows of the images whose turns are shown: of different lights, or of different people turned far."""
    pairs = evaluation.pairs
    table = pairs.table
    if pairs.rendered:
        first = table.assign(light=pairs.lights[table["source"]]).drop_duplicates("light")
        return first["source"].tolist()[:most]
    far = table.assign(far=table["requested_deg"].abs()).sort_values("far", ascending=False, kind="stable")
    return far.drop_duplicates("person")["source"].tolist()[:most]


def write_evaluation(evaluation: Evaluation, report: dict[str, Any], out: Path) -> list[Path]:
    """Write an evaluation.

    Args:
        evaluation: from `evaluate`.
        report: its `summary`.
        out: folder, made if missing.

    Returns:
        The files: evaluation.json, .csv (every image's measures), .md (the table), .png, and examples.png.
    """
    data = report["data"]
    whom = "heads never seen" if data["rendered"] else "people never seen"
    title = (
        f"{', '.join(evaluation.rotators)}: {data['people']} {whom}, {data['pairs']} turns, means with 95% intervals"
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

    return write_owned(out, write)
