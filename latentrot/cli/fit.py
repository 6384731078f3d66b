"""Latents to lines: `fit-directions`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from latentrot.cli.common import Light, Where, given_of

__all__ = ["FitDirections"]


@dataclass(frozen=True)
class FitDirections:
    """Fit the left and the right line of one light group: latents -> lines."""

    light: Light
    """side of the picture the main light comes from"""
    latents: str = "latents"
    """store made by embed: a folder, or an address fsspec knows"""
    labels: Path = Path("labels.parquet")
    """table made by label"""
    out: Path | None = None
    """by default directions/LIGHT.safetensors"""
    where: str = ""
    """attribute filter, for example "Male == 1 and Eyeglasses == -1" """
    bins: float = 10.0
    """yaw bin width in degrees"""
    limit: float = 45.0
    """largest yaw of the bins in degrees"""
    mirror: bool = True
    """use every latent mirrored as well"""
    held_out: float = 0.1
    """share of the people left out, to measure on (0 to 1)"""
    coarse: int | None = None
    """frequencies below so many half-waves a picture are walked by measured degrees, the finer ones by the calibrated step;
    by default none; 4 halved the change of light on rendered heads"""
    calibrate: int = 32
    """pictures the step length is calibrated on; 0: nominal steps"""
    model: str | None = None
    """the model of the latents; by default the one named in the store"""
    seed: int = 0
    """of the choice of calibration pictures"""
    runs_on: Annotated[Where, tyro.conf.OmitArgPrefixes] = field(default_factory=Where)

    def run(self) -> None:
        """Fit, calibrate, write."""
        from tqdm import tqdm  # noqa: PLC0415

        from latentrot.fit.directions import FitConfig, fit_directions  # noqa: PLC0415
        from latentrot.label.table import read_labels  # noqa: PLC0415
        from latentrot.models.load import load_model  # noqa: PLC0415
        from latentrot.store.latent_store import LatentStore  # noqa: PLC0415

        store, labels = LatentStore(self.latents), read_labels(self.labels)
        config = FitConfig(width=self.bins, **given_of(self, FitConfig))
        name = self.model or store.space.model
        model = load_model(name, self.runs_on.device, self.runs_on.dtype) if self.calibrate else None
        with tqdm(desc=f"fit {self.light}", unit="latent", disable=None) as bar:
            directions = fit_directions(store, labels, self.light, config, model=model, progress=bar.update)
        path = self.out or Path("directions") / f"{self.light}.safetensors"
        directions.save(path)
        low, high = directions.reach
        print(f"{self.light}: latents per bin {directions.facts['counts']}, reaches {low:+.0f} to {high:+.0f} degrees")
        print(f"wrote {path}")
