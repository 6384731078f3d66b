"""How far heads turn, and what it costs: people never fitted on, measured by networks that are not the package's own.

    python experiments/turning.py --people 40

Reads latents/, labels.parquet and directions/, and ../shared/data/celeba; the judge in ../shared/judge measures yaw, pitch
and identity. Writes experiments/turning.csv: one row per way of walking and requested turn. All ways share sources, model
and run. Controls take the same nominal steps as the calibrated lines they replace.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from latentrot.data.celeba import FaceFolder, held_out
from latentrot.embed.model import load_model, resolve_device
from latentrot.embed.precision import computes_bfloat16
from latentrot.embed.store import LatentStore
from latentrot.fit.directions import (
    Directions,
    FitConfig,
    chosen_rows,
    fit_directions,
    gather_centroids,
    slope_of,
)
from latentrot.fit.lines import CentroidLine
from latentrot.label.table import read_labels
from latentrot.rotate.latent import LatentRotator, Turned

TURNS = (-30.0, -15.0, 15.0, 30.0)
SHARED = Path("../shared")


def one_line(two: Directions, store: LatentStore, labels: pd.DataFrame) -> Directions:
    """A single line through all centroids, on both sides, with the two lines' calibration."""
    config = FitConfig()
    centroids = gather_centroids(store, chosen_rows(labels, config), two.light, config)
    seen = centroids.counts_ > 0
    line = CentroidLine().fit(centroids.means_[seen], centroids.yaw_[seen], centroids.counts_[seen])
    slope = slope_of(line, store.space, config)
    return replace(two, left=slope, right=slope)


def random_lines(lines: Directions, seed: int) -> Directions:
    """Directions of white noise, each as long as the line it stands for."""
    generator = torch.Generator().manual_seed(seed)

    def like(slope: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(slope.shape, generator=generator)
        return noise * (slope.norm() / noise.norm())

    return replace(lines, left=like(lines.left), right=like(lines.right))


def ways(store: LatentStore, labels: pd.DataFrame, folder: Path) -> dict[str, dict[str, Directions]]:
    """The lines of every way of walking, by light group."""
    two = {light: Directions.load(folder / f"{light}.safetensors") for light in ("left", "center", "right")}
    everyone = fit_directions(store, labels, "any", FitConfig(calibrate=0))
    return {
        "two lines, light group": two,
        "no light filter": {k: replace(d, left=everyone.left, right=everyone.right) for k, d in two.items()},
        "one line": {k: one_line(d, store, labels) for k, d in two.items()},
        "random direction": {k: random_lines(d, i) for i, (k, d) in enumerate(two.items())},
    }


def measure(results: list[Turned], judge: object) -> pd.DataFrame:
    """One row per turn: means over people, and the spread of the yaw error."""
    pictures = [[t.source, t.reconstruction, *(f.image for f in t.frames)] for t in results]
    pose = np.stack([judge.pose(p) for p in pictures])  # type: ignore[attr-defined]
    identity = np.stack([judge.identity(p) for p in pictures])  # type: ignore[attr-defined]
    change = pose[:, 2:, 0] - pose[:, :1, 0]
    rows = []
    for i, turn in enumerate(TURNS):
        rows.append(
            {
                "requested_deg": turn,
                "people": len(results),
                "turned_deg": change[:, i].mean(),
                "turned_sd": change[:, i].std(ddof=1),
                "yaw_mae_deg": np.abs(change[:, i] - turn).mean(),
                "own_network_deg": np.mean([t.frames[i].yaw_deg - t.yaw_deg for t in results]),
                "pitch_drift_deg": np.abs(pose[:, 2 + i, 1] - pose[:, 0, 1]).mean(),
                "identity_source": np.einsum("nd,nd->n", identity[:, 2 + i], identity[:, 0]).mean(),
                "identity_reconstruction": np.einsum("nd,nd->n", identity[:, 2 + i], identity[:, 1]).mean(),
                "light_kept": np.mean([t.frames[i].light == t.light for t in results]),
                "light_flipped": np.mean([{t.frames[i].light, t.light} == {"left", "right"} for t in results]),
                "round_trip_db": np.mean([t.round_trip_psnr_db for t in results]),
                "round_trip_least_db": np.min([t.round_trip_psnr_db for t in results]),
            }
        )
    slope = np.polyfit(np.tile(TURNS, len(results)), change.ravel(), 1)[0]
    return pd.DataFrame(rows).assign(slope=slope)


def main() -> None:
    """Parse, walk, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=40)
    parser.add_argument("--directions", type=Path, default=Path("directions"))
    options = parser.parse_args()
    sys.path.insert(0, str(SHARED / "judge"))
    import judge  # type: ignore[import-not-found]  # noqa: PLC0415

    labels, store = read_labels("labels.parquet"), LatentStore("latents")
    strangers = labels[held_out(labels["identity"].to_numpy()) & (labels["yaw_deg"].abs() < 12)]
    chosen = strangers.drop_duplicates("identity").sample(options.people, random_state=0)
    model = load_model(dtype="bfloat16" if computes_bfloat16(resolve_device(None)) else None)
    crops = FaceFolder(SHARED / "data" / "celeba").read_crops(list(chosen.index), model.resolution)
    tables = []
    for name, lines in ways(store, labels, options.directions).items():
        for measured in (True, False) if name == "two lines, light group" else (False,):
            rotator = LatentRotator(model, lines, measure=measured)
            table = measure([rotator.turn(crop, TURNS) for crop in crops], judge)
            tables.append(table.assign(way=name + (", measured on the picture" if measured else "")))
            print(tables[-1].round(2).to_string(), flush=True)
    pd.concat(tables).set_index("way").round(3).to_csv(Path(__file__).with_suffix(".csv"))


if __name__ == "__main__":
    main()
