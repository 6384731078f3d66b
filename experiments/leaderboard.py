"""Compare all rotators on the same ground truth: real people in clips, real people in photographs, rendered heads.

    python experiments/leaderboard.py

Needs the photographs in ../shared/data. There are three sets, each with people (or heads) that no network was trained on:

- `ytf`: two frames of one clip; one frame is rotated to the pose of the other.
- `lfw`: two photographs of one person, taken on any days; aligned on first use in runs/leaderboard/lfw.
- `heads`: rendered heads in seven poses, rendered on first use in runs/leaderboard/heads.

Yaw and identity are also measured by ../shared/judge/judge.py if it exists. Each rotator is timed alone in a fresh process:
seconds per image, seconds until the first image, peak memory. Writes leaderboard.csv (one row per set, rotator and rotation)
and leaderboard.png beside this script, the full report of each set to runs/leaderboard, and prints the tables. With
`--rotators mesh pair` only these are measured; the rows of the others are kept.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tyro
from matplotlib.figure import Figure
from PIL import Image
from tqdm import tqdm

from latentrot.data.arrays import to_tensor
from latentrot.data.celeba import held_out
from latentrot.data.images import read_image
from latentrot.evaluation.judges import Judge, load_judge
from latentrot.evaluation.pairs import EvaluationConfig
from latentrot.evaluation.report import markdown_table, summary, write_evaluation
from latentrot.evaluation.run import evaluate, read_pairs
from latentrot.faces.detect import detect_faces
from latentrot.faces.estimate import estimate_pose
from latentrot.faces.framing import frame_face
from latentrot.files import create_folder
from latentrot.rotators.registry import load_rotator
from latentrot.synthetic.sample import TEST_SEED
from latentrot.synthetic.write import HeadFolder, ViewGrid, write_heads

HERE = Path(__file__).parent
WORK = Path("runs/leaderboard")
#: measures shown in the figure
SHOWN = ("squared_error_face", "ssim_face", "identity_true", "yaw_error_judge_deg")
#: the CelebA frame padded to a square: left, top, right, bottom, frame pixels
WHOLE_FRAME = (-20, 0, 198, 218)
#: program that times one rotator in its own process: seconds per image (median of three after the first), peak memory
COST = """
import json, resource, statistics, sys, time
from latentrot.evaluation.bench.compare import portrait_crop
from latentrot.rotators.registry import load_rotator
crop = portrait_crop(128)
rotator = load_rotator(sys.argv[1])
rotator.rotate(crop, 20.0)
ready, times = time.time(), []
for degrees in (-15.0, 15.0, 30.0):
    began = time.perf_counter()
    rotator.rotate(crop, degrees)
    times.append(time.perf_counter() - began)
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"ready": ready, "seconds_a_picture": statistics.median(times), "memory_mb": memory}))
"""


@dataclass(frozen=True)
class Leaderboard:
    """Options.

    Args:
        rotators: names of the rotators.
        sets: names of the sets.
        data: folder of the development data.
        judge: module that also measures yaw and identity; unused if missing.
        lfw_people: number of people of `lfw`; the first by name with two photographs that differ enough in yaw.
        heads: number of rendered heads.
        per_person: max rotations per person and bin of 15 degrees.
        out: output folder of leaderboard.csv and leaderboard.png.
    """

    rotators: tuple[str, ...] = ("mesh", "pair", "latent", "mirror", "nothing", "controls:MeanFilled")
    sets: tuple[str, ...] = ("ytf", "lfw", "heads")
    data: Path = Path("../shared/data")
    judge: Path = Path("../shared/judge/judge.py")
    lfw_people: int = 30
    heads: int = 12
    per_person: int = 1
    out: Path = HERE


def framed_lfw(data: Path, judge: Judge | None, out: Path) -> Path:
    """Write LFW people that are held out from all trainings and have several photographs, in CelebA's layout."""
    if (out / "clip.csv").is_file():
        return out
    people = sorted(p for p in data.iterdir() if p.is_dir() and held_out([p.name])[0] and len(list(p.iterdir())) > 1)
    create_folder(out / "img_align_celeba")
    rows = []
    for person in tqdm(people, desc="frame", unit="person", disable=None):
        for path in sorted(person.iterdir()):
            photograph = read_image(path)
            faces = detect_faces(photograph)
            if not faces:
                continue
            centre = np.array(photograph.shape[1::-1]) / 2
            face = min(faces, key=lambda f: float(np.linalg.norm(f.landmarks[2] - centre)))
            alignment = frame_face(photograph, face.landmarks)
            whole = alignment.crop(photograph, WHOLE_FRAME[2] - WHOLE_FRAME[0], WHOLE_FRAME)
            Image.fromarray(whole[:, 20:198]).save(out / "img_align_celeba" / f"{path.stem}.png")
            rows.append((f"{path.stem}.png", person.name, yaw_of(alignment.crop(photograph, 128), judge)))
    table = pd.DataFrame(rows, columns=["image_id", "identity", "yaw_deg"])
    table[["image_id", "yaw_deg"]].round(2).to_csv(out / "pose.csv", index=False)
    table[["image_id", "identity"]].to_csv(out / "identity_CelebA.csv", index=False)
    table[["image_id", "identity"]].set_axis(["image_id", "clip"], axis=1).to_csv(out / "clip.csv", index=False)
    return out


def yaw_of(crop: np.ndarray, judge: Judge | None) -> float:
    """Yaw of a crop in degrees, by the judge if available, else by the bundled label network."""
    if judge is not None and judge.pose is not None:
        return float(judge.pose([crop])[0][0])
    return float(estimate_pose(to_tensor(crop[None]))[0, 0])


def drawn_heads(count: int, out: Path) -> Path:
    """Render heads at the size of the photographs' crops."""
    angles = (-45.0, -30.0, -15.0, 0.0, 15.0, 30.0, 45.0)
    write_heads(
        HeadFolder(TEST_SEED, count, size=128, maps=True, views=ViewGrid(angles, same_light=True)),
        out,
        os.cpu_count() or 1,
    )
    return out


def cost_of(rotator: str) -> dict[str, float]:
    """Time a rotator in a fresh process: seconds per image, seconds until the first, peak memory in MB."""
    started = pd.Timestamp.now("UTC").timestamp()
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", COST, rotator],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return {
        "seconds_a_picture": found["seconds_a_picture"],
        "start_up_s": found["ready"] - started - found["seconds_a_picture"],
        "memory_mb": found["memory_mb"],
    }


def rows_of(name: str, report: dict, costs: dict[str, dict[str, float]]) -> list[dict[str, object]]:
    """One row per rotator and rotation of a set: means and the ends of their 95% intervals."""
    rows = []
    for way, cells in report["ways"].items():
        for turn, cell in {"all": cells["all"], **cells["by_turn"]}.items():
            row: dict[str, object] = {"set": name, "way": way, "turn": turn}
            row |= {key: cell["squared_error"][key] for key in ("people", "pictures")}
            row |= costs.get(way, {}) if turn == "all" else {}
            for measure, ends in cell.items():
                row |= {measure: ends["mean"], f"{measure}_low": ends["low"], f"{measure}_high": ends["high"]}
            rows.append(row)
    return rows


def figure_of(table: pd.DataFrame) -> Figure:
    """Plot a row of panels per set: the main measures over the requested rotation."""
    sets = list(table["set"].unique())
    figure = Figure(figsize=(4.2 * len(SHOWN), 3.4 * len(sets)), layout="constrained")
    panels = figure.subplots(len(sets), len(SHOWN), squeeze=False)
    ways = list(table["way"].unique())
    for name, axes_row in zip(sets, panels, strict=True):
        here = table[(table["set"] == name) & (table["turn"] != "all")]
        for measure, axes in zip(SHOWN, axes_row, strict=True):
            for way, turns in here.groupby("way", sort=False):
                part = turns.assign(at=turns["turn"].astype(float)).sort_values("at")
                mean, low, high = (part[f"{measure}{end}"].to_numpy(float) for end in ("", "_low", "_high"))
                bars = np.maximum(np.nan_to_num([mean - low, high - mean]), 0)
                colour = f"C{ways.index(way)}"
                axes.errorbar(part["at"], mean, bars, marker="o", markersize=4, capsize=2, label=way, color=colour)
            axes.set(title=f"{name}: {measure}", xlabel="requested turn (degrees)")
    panels[0][0].legend(fontsize="small")
    return figure


def with_others(table: pd.DataFrame, path: Path, key: list[str]) -> pd.DataFrame:
    """Merge new rows with the rows of a file that were not measured again, in the order of the file.

    Rows are identified by the columns `key`.
    """
    if not path.is_file():
        return table
    before, now = (part.astype(dict.fromkeys(key, str)).set_index(key) for part in (pd.read_csv(path), table))
    order = before.index.append(now.index.difference(before.index, sort=False))
    return pd.concat([before.loc[before.index.difference(now.index)], now]).loc[order].reset_index()


def main(options: Leaderboard) -> None:
    """Align, render, rotate, measure, and write the results."""
    judge = load_judge(options.judge) if options.judge.is_file() else None
    costs = {name: cost_of(name) for name in options.rotators}
    folders = {
        "ytf": lambda: options.data / "ytf",
        "lfw": lambda: framed_lfw(options.data / "lfw", judge, WORK / "lfw"),
        "heads": lambda: drawn_heads(options.heads, WORK / "heads"),
    }
    rows = []
    for name in options.sets:
        people = {"lfw": options.lfw_people, "heads": options.heads}.get(name)
        config = EvaluationConfig(people=people, per_person=options.per_person)
        pairs = read_pairs(folders[name](), config)
        rotators = {rotator: load_rotator(rotator) for rotator in options.rotators}
        with tqdm(total=pairs.table["source"].nunique(), desc=name, unit="picture", disable=None) as bar:
            evaluation = evaluate(rotators, pairs, config, judge=judge, progress=bar.update)
        report = summary(evaluation)
        create_folder(WORK / f"report-{name}")
        write_evaluation(evaluation, report, WORK / f"report-{name}")
        rows += rows_of(name, report, costs)
        print(f"\n{name}\n\n{markdown_table(report)}", flush=True)
    table = with_others(pd.DataFrame(rows), options.out / "leaderboard.csv", ["set", "way", "turn"])
    table.round(5).to_csv(options.out / "leaderboard.csv", index=False)
    figure_of(table).savefig(options.out / "leaderboard.png", dpi=70)
    print("\n" + pd.DataFrame(costs).T.round(3).to_string())


if __name__ == "__main__":
    main(tyro.cli(Leaderboard, description=__doc__))
