"""What the experiments on rendered heads share: heads and their latents, unseen heads in many poses, one table of measures.

Everything is made on first use in runs/rendered and kept there: heads of seed 0 (which `heads64` was trained on) to fit
lines to, and heads of seed 1,000,000, which nothing was ever fitted to, to turn and to compare with their true views.
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
from latentrot.directions.fit import FitConfig, fit_directions, training_rows
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
#: steps are chosen for each light on this many heads
CALIBRATED_ON = 6
#: how the bundled lines of heads64 were fitted: it draws heads truer than it carries them
LINES = FitConfig(coarse=4, carry=False)
#: columns of the tables: as measured, and the ends of the 95% interval for those that decide
SHOWN = ("overturn_deg", "top1", "light_kept", "pitch_drift_deg")
DECIDING = ("yaw_error_deg", "yaw_error_landmarks_deg", "squared_error", "ssim")


@dataclass(frozen=True)
class Rendered:
    """Heads to fit and heads to test.

    Args:
        fitted: heads that lines are fitted to.
        tested: heads that are turned.
        unseen: unseen heads in all; those not turned stand in the identity galleries.
    """

    fitted: int = 6000
    tested: int = 15
    unseen: int = 300

    @cached_property
    def model(self) -> LatentModel:
        """heads64."""
        return load_model("heads64")

    @cached_property
    def rotator(self) -> LatentRotator:
        """heads64 with its bundled lines."""
        return load_latent_rotator(self.model)

    @cached_property
    def folder(self) -> FaceFolder:
        """The heads lines are fitted to, drawn if missing."""
        return FaceFolder(drawn(HeadFolder(seed=0, count=self.fitted), WORK / f"heads-{self.fitted}"))

    @cached_property
    def labels(self) -> pd.DataFrame:
        """Their exact labels, attributes and identities."""
        return with_attributes(read_exact_labels(self.folder), self.folder)

    def latents(self, plan: Schedule | None = None) -> LatentStore:
        """Their latents, embedded if missing."""
        plan = plan or self.rotator.any_directions.space.schedule  # which the heads to turn are embedded on
        name = f"latents-{self.fitted}-{self.model.digest[:8]}-{plan.solver}-{plan.steps}-{plan.depth:g}"
        store = LatentStore(WORK / name)
        embed_folder(self.folder, self.model, store, plan)
        return store

    def points(self, store: LatentStore, light: str) -> tuple[np.ndarray, np.ndarray]:
        """All latents of a light group that lines may be fitted to, and the mirrored ones of the mirrored group.

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
        """Unseen heads truly turned."""
        angles = (-45.0, -30.0, -15.0, 0.0, 15.0, 30.0, 45.0)
        folder = HeadFolder(TEST_SEED, self.unseen, maps=True, views=ViewGrid(angles, same_light=True))
        config = EvaluationConfig(targets=TURNS, people=self.tested)
        return read_pairs(drawn(folder, WORK / f"views-{self.unseen}"), config)

    @cached_property
    def instruments(self) -> Instruments:
        """What measures them."""
        return instruments_for(self.truth, self.model.labeler)

    @property
    def sources(self) -> list[int]:
        """Rows of the images to turn, by head."""
        return self.truth.table["source"].drop_duplicates().tolist()

    @cached_property
    def faces(self) -> list[PreparedLatent]:
        """The heads to turn, embedded on the default schedule."""
        return self.embedded(self.rotator)

    def embedded(self, rotator: LatentRotator) -> list[PreparedLatent]:
        """The heads to turn, embedded on a rotator's schedule; the side of the light is known, not estimated."""
        return [rotator.prepare(self.truth.images[source], str(self.truth.lights[source])) for source in self.sources]

    def compare(self, way: str, rotator: LatentRotator, faces: list[PreparedLatent] | None = None) -> pd.DataFrame:
        """Turn the test heads and measure them: a row for each turn."""
        table = self.truth.table
        degrees = table["requested_deg"][table["source"] == self.sources[0]].tolist()
        results = [replace(face, rotator=rotator).rotate(degrees) for face in (self.faces if faces is None else faces)]
        pictures = [frame.image for result in results for frame in result.frames]
        return rows_of(measure(self.truth, table, pictures, self.instruments).assign(way=way), results)

    def compare_both(self, way: str, lines: dict[str, Directions], keep_norm: bool = True) -> pd.DataFrame:
        """Lines walked by the calibrated steps they carry, and by steps measured on each image."""
        tables = []
        for measured, steps in ((False, "the same"), (True, "measured on the picture")):
            rotator = LatentRotator(self.model, lines, measured, keep_norm)
            tables.append(self.compare(way, rotator).assign(steps=steps))
        return pd.concat(tables)


def drawn(heads: HeadFolder, path: Path) -> Path:
    """Draw what is missing of a folder of heads."""
    write_heads(heads, path, os.cpu_count() or 1)
    return path


def rows_of(measured: pd.DataFrame, results: list[RotatedCrops]) -> pd.DataFrame:
    """Means over heads with the ends of their 95% intervals; one row for each turn."""
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
    """The two lines of each light group, calibrated on a few heads if asked for."""
    config = replace(config or LINES, calibrate=CALIBRATED_ON if calibrate else 0)
    return {light: fit_directions(store, rendered.labels, light, config, model=rendered.model) for light in LIGHTS}
