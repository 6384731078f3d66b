"""Shared code of the experiments on rendered heads: heads, their latents, unseen heads in many poses, table of measures.

Data is rendered on first use and cached in runs/rendered. Lines are fitted to heads of seed 0, on which `heads64` was
trained. Heads of seed 1,000,000, used in no fit or training, are rotated and compared with their true views.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from latentrot.data.celeba import FaceFolder
from latentrot.diffusion.first_stage import mirror_latents
from latentrot.diffusion.load import LatentModel, load_model
from latentrot.diffusion.schedule import Schedule
from latentrot.directions.directions import Directions
from latentrot.directions.fit import FitConfig, fit_lights, training_rows
from latentrot.directions.statistics import MIRRORED_LIGHT
from latentrot.evaluation.measure import Instruments, instruments_for, measure
from latentrot.evaluation.metrics import bootstrap_mean
from latentrot.evaluation.pairs import EvaluationConfig, Pairs
from latentrot.evaluation.run import read_pairs
from latentrot.faces.estimate import LIGHTS
from latentrot.faces.exact import read_exact_labels
from latentrot.faces.table import with_attributes
from latentrot.rotators.latent.rotator import LatentRotator, PreparedLatent, load_latent_rotator
from latentrot.rotators.protocol import RotatedCrops
from latentrot.store.latent_store import LatentStore
from latentrot.store.work import embed_folder
from latentrot.synthetic.sample import TEST_SEED
from latentrot.synthetic.write import HeadFolder, ViewGrid, write_heads

__all__ = ["HERE", "LIGHTS", "Rendered", "lines_by_light"]

HERE = Path(__file__).parent
WORK = Path("runs/rendered")
TURNS = (-30.0, -15.0, 15.0, 30.0)
#: number of heads per illumination class for the calibration of step sizes
CALIBRATED_ON = 6
#: options of the bundled lines of heads64: without warping, because decoding is more accurate for rendered heads
LINES = FitConfig(coarse=4, carry=False)
#: columns of the tables: means, and ends of the 95% interval for the main measures
SHOWN = ("overturn_deg", "top1", "light_kept", "pitch_drift_deg")
DECIDING = ("yaw_error_deg", "yaw_error_landmarks_deg", "squared_error", "ssim")


@dataclass(frozen=True)
class Rendered:
    """Heads for the fit and for the test.

    Args:
        fitted: number of heads that lines are fitted to.
        tested: number of heads that are rotated.
        unseen: number of all unseen heads; those not rotated are distractors in the identity galleries.
    """

    fitted: int = 6000
    tested: int = 15
    unseen: int = 300

    @cached_property
    def model(self) -> LatentModel:
        """The diffusion model heads64."""
        return load_model("heads64")

    @cached_property
    def rotator(self) -> LatentRotator:
        """Rotator of heads64 with its bundled lines."""
        return load_latent_rotator(self.model)

    @cached_property
    def folder(self) -> FaceFolder:
        """Heads for the fit; rendered if missing."""
        return FaceFolder(drawn(HeadFolder(seed=0, count=self.fitted), WORK / f"heads-{self.fitted}"))

    @cached_property
    def labels(self) -> pd.DataFrame:
        """Exact labels, attributes and identities of the heads for the fit."""
        return with_attributes(read_exact_labels(self.folder), self.folder)

    def latents(self, plan: Schedule | None = None) -> LatentStore:
        """Latents of the heads for the fit; embedded if missing."""
        plan = plan or self.rotator.any_directions.space.schedule  # schedule of the heads to rotate
        name = f"latents-{self.fitted}-{self.model.digest[:8]}-{plan.solver}-{plan.steps}-{plan.depth:g}"
        store = LatentStore(WORK / name)
        embed_folder(self.folder, self.model, store, plan)
        return store

    def points(self, store: LatentStore, light: str) -> tuple[np.ndarray, np.ndarray]:
        """Training latents of an illumination class, and mirrored latents of the mirrored class.

        Returns:
            (n, d) latents and (n,) yaw in degrees, within the bins of the default fit.
        """
        rows = training_rows(self.labels, FitConfig.where, FitConfig.held_out)
        rows = rows[rows["yaw_deg"].abs() < FitConfig().limit]
        mirrored = MIRRORED_LIGHT.get(light, light)
        points, yaws = [], []
        for names, latents in store.batches(set(rows.index[rows["light"].isin({light, mirrored})])):
            here = rows.loc[names]
            yaw = here["yaw_deg"].to_numpy()
            for side, sign, z in ((light, 1, latents), (mirrored, -1, mirror_latents(latents, store.space.factor))):
                lit = (here["light"] == side).to_numpy()
                points.append(z[torch.tensor(lit)].flatten(1).float().numpy())
                yaws.append(sign * yaw[lit])
        return np.concatenate(points), np.concatenate(yaws)

    @cached_property
    def truth(self) -> Pairs:
        """Ground truth: unseen heads with true views."""
        angles = (-45.0, -30.0, -15.0, 0.0, 15.0, 30.0, 45.0)
        folder = HeadFolder(TEST_SEED, self.unseen, maps=True, views=ViewGrid(angles, same_light=True))
        config = EvaluationConfig(targets=TURNS, people=self.tested)
        return read_pairs(drawn(folder, WORK / f"views-{self.unseen}"), config)

    @cached_property
    def instruments(self) -> Instruments:
        """Networks and regressions of the measures."""
        return instruments_for(self.truth, self.model.labeler)

    @property
    def sources(self) -> list[int]:
        """Row of each image to rotate, by head."""
        return self.truth.table["source"].drop_duplicates().tolist()

    @cached_property
    def faces(self) -> list[PreparedLatent]:
        """Heads to rotate, embedded on the default schedule."""
        return self.embedded(self.rotator)

    def embedded(self, rotator: LatentRotator) -> list[PreparedLatent]:
        """Embed the heads to rotate on a rotator's schedule, with their true illumination class."""
        return [rotator.prepare(self.truth.images[source], str(self.truth.lights[source])) for source in self.sources]

    def compare(self, way: str, rotator: LatentRotator, faces: list[PreparedLatent] | None = None) -> pd.DataFrame:
        """Rotate the test heads and measure them: one row per rotation."""
        table = self.truth.table
        degrees = table["requested_deg"][table["source"] == self.sources[0]].tolist()
        results = [replace(face, rotator=rotator).rotate(degrees) for face in (self.faces if faces is None else faces)]
        pictures = [frame.image for result in results for frame in result.frames]
        return rows_of(measure(self.truth, table, pictures, self.instruments).assign(way=way), results)

    def compare_both(self, way: str, lines: dict[str, Directions], keep_norm: bool = True) -> pd.DataFrame:
        """Measure lines twice: with their calibrated step sizes, and with step sizes measured on each image."""
        tables = []
        for measured, steps in ((False, "the same"), (True, "measured on the picture")):
            rotator = LatentRotator(self.model, lines, measured, keep_norm)
            tables.append(self.compare(way, rotator).assign(steps=steps))
        return pd.concat(tables)


def drawn(heads: HeadFolder, path: Path) -> Path:
    """Render the missing images of a folder of heads."""
    write_heads(heads, path, os.cpu_count() or 1)
    return path


def rows_of(measured: pd.DataFrame, results: list[RotatedCrops]) -> pd.DataFrame:
    """Means over heads with the ends of their 95% intervals; one row per rotation."""
    yaw = {head: result.yaw_deg for head, result in zip(measured["person"].unique(), results, strict=True)}
    measured = measured.assign(turned_deg=measured["yaw_deg"] - measured["person"].map(yaw))
    rows = []
    for turn, part in measured.groupby("requested_deg"):
        mean, low, high = bootstrap_mean(part[list(DECIDING)].to_numpy(float))
        row = {"way": part["way"].iloc[0], "requested_deg": turn, "heads": len(part)}
        row |= {"turned_deg": part["turned_deg"].mean(), "turned_sd": part["turned_deg"].std(ddof=1)}
        for i, name in enumerate(DECIDING):
            row |= {name: mean[i], f"{name}_low": low[i], f"{name}_high": high[i]}
        rows.append(row | {name: part[name].mean() for name in SHOWN})
    return pd.DataFrame(rows)


def lines_by_light(
    rendered: Rendered, store: LatentStore, config: FitConfig | None = None, *, calibrate: bool = False
) -> dict[str, Directions]:
    """Fit the two lines of each illumination class, and calibrate them on a few heads if requested."""
    config = replace(config or LINES, calibrate=CALIBRATED_ON if calibrate else 0)
    return {d.light: d for d in fit_lights(store, rendered.labels, LIGHTS, config, model=rendered.model)}
