"""Update the tables of README and manual from the CSV files beside this script.

    python experiments/tables.py

A table lies between `<!-- table NAME -->` and `<!-- end NAME -->`; the text between the two is replaced. A test fails if a
page differs from its CSV file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

HERE = Path(__file__).parent
#: pages that contain tables
PAGES = (
    "README.md",
    "docs/howto/properties.md",
    "docs/explain/degrees.md",
    "docs/explain/method.md",
    "docs/explain/properties.md",
    "docs/explain/light.md",
    "docs/explain/geometry.md",
    "docs/howto/recognition.md",
)
BLOCK = re.compile(r"(<!-- table (?P<name>[\w-]+) -->\n).*?(<!-- end (?P=name) -->)", re.DOTALL)


def read(name: str) -> pd.DataFrame:
    """A table of measurements."""
    return pd.read_csv(HERE / f"{name}.csv")


def number(value: Any, digits: int) -> str:
    """Format a number with some decimals, without the leading 0."""
    text = f"{value:.{digits}f}"
    return re.sub(r"^(-?)0\.", r"\1.", text)


def rotators() -> list[list[str]]:
    """Table of the rotators on frames of one clip: one number per cell."""
    table = read("leaderboard").query("set == 'ytf' and turn == 'all'").set_index("way")
    rows = [["rotator", "identity to the true frame", "yaw error, degrees", "squared error x 1000"]]
    for way in ("nothing", "mesh", "latent", "pair"):
        row = table.loc[way]
        figures = number(row["identity_true"], 3), number(row["yaw_error_judge_deg"], 1)
        rows.append([f"`{way}`", *figures, number(1000 * row["squared_error_face"], 1)])
    return rows


def goals() -> list[list[str]]:
    """Table of side effects of property edits at a fixed success, for three methods of finding the direction."""
    table = read("properties")
    methods = ("joint", "mean difference", "svm")
    rows = [["goal", "mean value reached", *(f"identity, {m}" for m in methods), "yaw change, degrees, joint"]]
    for goal, part in table.groupby("goal", sort=False):
        by = part.set_index("method")
        reached = (by["success"] - by["wanted"]).abs() < 0.01 * by["wanted"]
        cells = [number(by.loc[m, "identity"], 2) if reached[m] else "-" for m in methods]
        rows.append([str(goal), f"{by.loc['joint', 'success']:.3g}", *cells, number(by.loc["joint", "yaw"], 1)])
    return rows


def attributes() -> list[list[str]]:
    """Table of the attributes with the highest and the lowest AUC."""
    table = read("attributes")
    known = table[table["auc"].notna()].sort_values("auc", ascending=False)
    rows = [["attribute", "AUC", "accuracy"]]
    for _, row in pd.concat([known.head(6), known.tail(4)]).iterrows():
        rows.append([str(row["name"]), number(row["auc"], 3), number(row["accuracy"], 3)])
    return rows


def turns() -> list[list[str]]:
    """Table of the mean absolute rotation error, with step sizes measured on the image and from the mean calibration."""
    table = read("turning")
    names = {
        "two lines, light group, measured on the picture": "measured on the image",
        "two lines, light group": "`--fast`",
    }
    rows = [["mean absolute error, degrees", "-30", "-15", "+15", "+30"]]
    for way, shown in names.items():
        found = table[table["way"] == way].set_index("requested_deg")["yaw_mae_deg"]
        rows.append([shown, *(number(found[d], 1) for d in (-30.0, -15.0, 15.0, 30.0))])
    return rows


def light() -> list[list[str]]:
    """Table of heads rotated by geometry, with light that rotates with the head and with light fixed in the scene."""
    table = read("keep_light").query("set != 'lfw' and not (set == 'heads' and turn == 'all')")
    names = {"ytf": "real pairs", "ytf, others": "real pairs of others", "heads": "rendered heads, {} degrees"}
    rows = [["set", "people", "error, light follows", "light kept", "better for", "SSIM", "identity"]]
    for (name, turn), part in table.groupby(["set", "turn"], sort=False):
        by = part.set_index("way").loc[["light follows", "light kept"]]
        errors = by["absolute_error_face" if name == "heads" else "squared_error_face"]
        pairs = (" / ".join(number(v, 3) for v in by[m]) for m in ("ssim_face", "identity_true"))
        shown = [number(errors.iloc[0], 1), number(errors.iloc[1], 1), f"{by['share_better'].iloc[1]:.0%}"]
        rows.append([names[str(name)].format(turn), str(by["people"].iloc[0]), *shown, *pairs])
    return rows


def augmented() -> list[list[str]]:
    """Table of landmark and camera errors of rotated views by absolute yaw."""
    table = read("augmented_set")
    table["size"] = table["yaw_deg"].abs()
    found = table.groupby(["measure", "size"])[["inner_percent", "median_px", "p95_px"]].mean()
    pairs = {
        "to mediapipe's": "written, mediapipe",
        "to dlib's": "written, dlib",
        "these two apart": "dlib, mediapipe",
        "the package's network to mediapipe's": "mediapipe, own network",
    }
    rows = [["turned by, degrees", *pairs, "camera off by, pixels", "by 95% at most"]]
    for size in sorted(table["size"].unique()):
        cells = [number(found.loc[(f"landmarks: {pair}", size), "inner_percent"], 1) for pair in pairs.values()]
        camera = [number(found.loc[("camera", size), name], 2) for name in ("median_px", "p95_px")]
        rows.append([f"{size:g}", *cells, *camera])
    return rows


def photographs() -> list[list[str]]:
    """Rotated photographs of held-out people: measured rotation, its error, and identity."""
    table = read("photographs")
    sizes = sorted(table["size"].unique())
    rows = [["requested, degrees", *(f"{size:g}" for size in sizes)]]
    for rotator in ("mesh", "latent"):
        by = table[table["rotator"] == rotator].set_index("size")
        rows.append([f"`{rotator}`: measured", *(number(by.loc[s, "reached"], 1) for s in sizes)])
        rows.append(["mean absolute error", *(number(by.loc[s, "error"], 1) for s in sizes)])
        cells = (f"{number(by.loc[s, 'identity'], 2)} ({number(by.loc[s, 'identity_spread'], 2)})" for s in sizes)
        rows.append(["identity to the source (spread over people)", *cells])
    return rows


def similar() -> list[list[str]]:
    """Table of lines fitted on people who resemble the source, at 30 degrees, beside those of all."""
    table = read("similar").query("asked == 30")
    rows = [["lines", "set", "turned by", "mean abs. error", "identity to the source", "difference (standard error)"]]
    for (way, data), part in table.groupby(["way", "data"], sort=False):
        row = part.iloc[0]
        more = f"{row['identity_more']:+.3f} ({row['identity_more_se']:.3f})" if way != "all" else "0"
        turned = number(row["turned_deg"], 1), number(row["yaw_error_deg"], 1)
        rows.append([str(way), str(data), *turned, number(row["identity"], 3), more])
    return rows


def moved_light() -> list[list[str]]:
    """Table of light moved to another side, by the latent and by shading."""
    table = read("move_light")
    heads, photographs = (table[table["set"] == name].set_index("way") for name in ("heads", "photographs"))
    rows = [["way", "heads: squared error x 1000", "label reached", "photographs, nine of ten reached: identity"]]
    ways = {"nothing": None, "latent": "latent", "latent, heads64": None, "shading, 0.3": None, "shading, 0.6": None,
            "shading, 0.9": "shading", "shading, mirrored": None}  # fmt: skip
    for way, other in ways.items():
        found = "" if other is None else number(photographs["identity"][other], 2)
        rows.append([way, number(heads["squared_error"][way], 0), f"{heads['is_left'][way]:.0%}", found])
    return rows


TABLES: Mapping[str, Callable[[], list[list[str]]]] = {
    "rotators": rotators, "goals": goals, "turns": turns, "attributes": attributes,
    "light": light, "augmented": augmented, "photographs": photographs,
    "similar": similar, "moved-light": moved_light,
}  # fmt: skip


def markdown(rows: list[list[str]]) -> str:
    """Format rows as a Markdown table; the first row is the header."""
    head, *rest = rows
    lines = [head, ["---"] * len(head), *rest]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def renewed(text: str) -> str:
    """Return the text of a page with updated tables."""
    return BLOCK.sub(lambda m: m[1] + markdown(TABLES[m["name"]]()) + m[3], text)


def main() -> None:
    """Update all pages."""
    for page in PAGES:
        path = HERE.parent / page
        path.write_text(renewed(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
