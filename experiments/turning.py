"""Measure rotation and its side effects on held-out people with independent networks.

    python experiments/turning.py --people 30
    python experiments/turning.py --people 30 --latents latents/ --labels labels.parquet

Reads ../shared/data/celeba and data_labels/; the judge in ../shared/judge measures yaw, pitch and identity. Writes
experiments/turning.csv: one row per variant of the walk and requested rotation. All variants share sources and model. The
controls take the same step sizes as the calibrated lines they replace; two of them, no light filter and one line, are fitted
again and need the latents and labels of the photographs of the bundled lines.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import tyro
from solvers import SHARED, quick_dtype, strangers

from latentrot.data.celeba import FaceFolder
from latentrot.directions.directions import Directions
from latentrot.directions.fit import FitConfig, fit_directions, gather_statistics, slope_of
from latentrot.directions.lines import CentroidLine
from latentrot.faces.table import read_labels
from latentrot.rotators.latent.rotator import LatentRotator, load_latent_rotator
from latentrot.rotators.protocol import RotatedCrops
from latentrot.store.latent_store import LatentStore

TURNS = (-30.0, -15.0, 15.0, 30.0)
DEFAULT = "two lines, light group"
#: variants of the walk: name in the table, whether the step size is measured on the image, whether pixels are warped
PLAIN = ("", False, True)
SHOWN = (
    (", measured on the picture", True, True),
    (", measured on the picture, as decoded", True, False),
    PLAIN,
)


def one_line(two: dict[str, Directions], store: LatentStore, labels: pd.DataFrame) -> dict[str, Directions]:
    """Fit one line to all centroids of an illumination class, for both sides, with the two lines' calibration."""
    config, found = FitConfig(calibrate=0), {}
    statistics = gather_statistics(store, labels, config)
    for light, lines in two.items():
        centroids = statistics.centroids(light, store.space.shape, store.space.factor, mirror=config.mirror)
        seen = centroids.counts_ > 0
        line = CentroidLine().fit(centroids.means_[seen], centroids.yaw_[seen], centroids.counts_[seen])
        slope = slope_of(line, store.space, config)
        found[light] = replace(lines, left=slope, right=slope)
    return found


def random_lines(lines: Directions, seed: int) -> Directions:
    """Control: directions of white noise, each as long as the line it replaces."""
    generator = torch.Generator().manual_seed(seed)

    def like(slope: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(slope.shape, generator=generator)
        return noise * (slope.norm() / noise.norm())

    return replace(lines, left=like(lines.left), right=like(lines.right))


def ways(
    two: dict[str, Directions], store: LatentStore | None, labels: pd.DataFrame
) -> dict[str, dict[str, Directions]]:
    """Lines of each variant, by illumination class."""
    found = {DEFAULT: two}
    if store is not None:
        everyone = fit_directions(store, labels, "any", FitConfig(calibrate=0))
        found |= {
            "no light filter": {k: replace(d, left=everyone.left, right=everyone.right) for k, d in two.items()},
            "one line": one_line(two, store, labels),
        }
    return found | {"random direction": {k: random_lines(d, i) for i, (k, d) in enumerate(two.items())}}


def measure(results: list[RotatedCrops], judge: object) -> pd.DataFrame:
    """One row per rotation: means over people, and the standard deviation of the yaw error."""
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


def main(people: int = 40, latents: Path | None = None, labels: Path = Path("labels.parquet")) -> None:
    """Walk, measure, and write the table.

    Args:
        people: number of held-out people.
        latents: store of the bundled model's latents, to fit further lines.
        labels: labels of the images in the store.
    """
    sys.path.insert(0, str(SHARED / "judge"))
    import judge  # type: ignore[import-not-found]  # noqa: PLC0415

    store = LatentStore(latents) if latents else None
    labelled = read_labels(labels) if latents else pd.DataFrame()
    bundled = load_latent_rotator(dtype=quick_dtype())
    model = bundled.model
    crops = FaceFolder(SHARED / "data" / "celeba").read_crops(strangers(people), model.resolution)
    tables = []
    for name, lines in ways(bundled.directions, store, labelled).items():
        for said, measured, carry in SHOWN if name == DEFAULT else (PLAIN,):
            rotator = LatentRotator(model, lines, measure=measured, carry=carry)
            table = measure([rotator.prepare(crop).rotate(TURNS) for crop in crops], judge)
            tables.append(table.assign(way=name + said))
            print(tables[-1].round(2).to_string(), flush=True)
    pd.concat(tables).set_index("way").round(3).to_csv(Path(__file__).with_suffix(".csv"))


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
