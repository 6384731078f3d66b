"""The command `fit-directions`."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import tyro

from latentrot.cli.common import Light, RuntimeOptions, check_minimum, given_options
from latentrot.errors import LatentrotError
from latentrot.files import check_writable

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from latentrot.diffusion.load import LatentModel
    from latentrot.directions.fit import FitConfig
    from latentrot.directions.property_directions import PropertyDirections
    from latentrot.store.latent_store import LatentStore

__all__ = ["FitDirections"]


@dataclass(frozen=True)
class FitDirections:
    """Fit directions to latents and labels for each illumination class.

    A hundred photographs are enough for a test; directions are stable from a few thousand on.
    """

    light: Light | None = None
    """side of the image from which the main light comes; by default all three, one file each"""
    latents: str = "latents"
    """store written by embed: a folder or an fsspec address"""
    labels: Path = Path("labels.parquet")
    """table written by label; with --property any table with image_id and the columns of the properties"""
    out: Path | None = None
    """output folder for LIGHT.safetensors, by default directions/; with --light also a file NAME.safetensors"""
    property: tuple[str, ...] = ()
    """properties to fit instead of the yaw: names (smile, age, ...) or numeric columns of the table; by default the yaw and
    all properties whose columns are in the table, or with --light only the yaw"""
    data: Path | None = None
    """folder of the labelled images, to calibrate properties on held-out people; without it they are not calibrated"""
    where: str = ""
    """attribute filter, for example "Male == 1 and Eyeglasses == -1" """
    bins: float = 10.0
    """yaw bin width in degrees; bins with too few latents are merged"""
    limit: float = 45.0
    """max yaw of the bins in degrees"""
    mirror: bool = True
    """also use the mirror image of every latent"""
    held_out: float = 0.1
    """share of the people held out of the fit for measurements (0 to 1)"""
    coarse: int | None = None
    """walk spatial frequencies below this number of half-waves per image by the measured degrees, and others by the
    calibrated step size; 0: all by the calibrated step size. 4 halved the change of light on rendered heads"""
    carry: bool = True
    """warp the pixels of the image, in the calibration and in every rotation; --no-carry: show the decoded walks"""
    calibrate: int = 32
    """number of images for the calibration; 0: no calibration"""
    model: str | None = None
    """model of the latents; by default the one named in the store"""
    seed: int = 0
    """seed of the selection of calibration images"""
    runtime: Annotated[RuntimeOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=RuntimeOptions)

    def run(self) -> None:
        """Fit, calibrate and write the yaw for each illumination class, then the properties."""
        paths = {} if self.property and self.light is None else self.paths()
        for path in paths.values():
            check_writable(path)
        check_minimum("--calibrate", self.calibrate, 0)
        from latentrot.directions.fit import FitConfig  # noqa: PLC0415
        from latentrot.faces.table import read_labels  # noqa: PLC0415
        from latentrot.store.latent_store import LatentStore  # noqa: PLC0415

        store, labels = LatentStore(self.latents), read_labels(self.labels, complete=bool(paths))
        config = FitConfig(width=self.bins, **given_options(self, FitConfig))
        name = self.model or store.space.model
        model = self.loaded(name) if self.calibrate else None
        if paths:
            self.fit_yaw(paths, store, labels, config, model)
        if self.property or self.light is None:
            self.fit_properties(store, labels, name)

    def fit_properties(self, store: LatentStore, labels: pd.DataFrame, name: str) -> None:
        """Fit directions of properties; calibrate them if a folder of images is given."""
        from latentrot.directions.property_fit import PropertyFitConfig, available_properties, fit_properties  # noqa: PLC0415
        from latentrot.progress import Progress  # noqa: PLC0415

        wanted = list(self.property) or [p.name for p in available_properties(labels)]
        if not wanted:
            return
        config = PropertyFitConfig(self.where, self.mirror, self.held_out)
        with Progress("fit properties", len(labels), "latent") as bar:
            directions = fit_properties(store, labels, wanted, config, bar.update)
        out = self.property_path(store)
        if self.data is not None:
            directions = self.calibrated_properties(directions, labels, name)
        directions.save(out)
        print(f"properties: {', '.join(directions.names)}; {directions.provenance['images']} latents")
        print(f"wrote {out}")

    def property_path(self, store: LatentStore) -> Path:
        """Output file of the property directions."""
        if self.out is not None and self.out.suffix == ".safetensors":
            return self.out
        return (self.out or Path("directions")) / "properties" / f"depth-{store.space.schedule.depth:g}.safetensors"

    def calibrated_properties(
        self, directions: PropertyDirections, labels: pd.DataFrame, name: str
    ) -> PropertyDirections:
        """The directions, calibrated on held-out people."""
        from latentrot.data.celeba import FaceFolder  # noqa: PLC0415
        from latentrot.directions.property_fit import held_out_images  # noqa: PLC0415
        from latentrot.faces.attributes import attributes_beside  # noqa: PLC0415
        from latentrot.progress import Progress  # noqa: PLC0415
        from latentrot.rotators.properties import PropertyEditor  # noqa: PLC0415
        from latentrot.rotators.property_calibration import calibrate_properties  # noqa: PLC0415

        model = self.loaded(name)
        editor = PropertyEditor(model, [directions], attributes_beside(model.folder, model.device))
        folder, people = FaceFolder(cast("Path", self.data)), held_out_images(labels, self.held_out)
        with Progress("calibrate properties", len(directions.names), "property") as bar:
            return calibrate_properties(editor, folder, people, progress=lambda _: bar.update())[0]

    def loaded(self, name: str) -> LatentModel:
        """Load the model of the latents."""
        from latentrot.diffusion.load import load_model  # noqa: PLC0415

        runtime = self.runtime
        return load_model(name, runtime.device, runtime.dtype, scale=runtime.scale, vae=runtime.vae)

    def paths(self) -> dict[str, Path]:
        """Output file of each illumination class to fit."""
        if self.light is not None and self.out is not None and self.out.suffix:
            if self.out.suffix != ".safetensors":
                raise LatentrotError(f"--out {self.out}: expected a folder, or a name ending in .safetensors")
            return {self.light: self.out}
        folder = self.out or Path("directions")
        if folder.suffix == ".safetensors":
            raise LatentrotError(
                f"--out {folder}: three illumination classes need three files; give a folder, or one --light"
            )
        lights = get_args(Light) if self.light is None else (self.light,)
        return {light: folder / f"{light}.safetensors" for light in lights}

    def fit_yaw(
        self,
        paths: Mapping[str, Path],
        store: LatentStore,
        labels: pd.DataFrame,
        config: FitConfig,
        model: LatentModel | None,
    ) -> None:
        """Fit and write the directions of each light, with progress bars for reading latents and decoding images."""
        from latentrot.directions.fit import fit_lights  # noqa: PLC0415
        from latentrot.progress import Progress  # noqa: PLC0415

        with ExitStack() as bars:
            reading = bars.enter_context(Progress("fit", len(labels), "latent"))
            decoding: list[Progress] = []

            def calibrated(count: int, total: int) -> None:
                if not decoding or decoding[-1].n == decoding[-1].total:
                    decoding.append(bars.enter_context(Progress("calibrate", total)))
                decoding[-1].update(count)

            for directions in fit_lights(
                store, labels, list(paths), config, model=model, progress=reading.update, calibrated=calibrated
            ):
                path = paths[directions.light]
                directions.save(path)
                low, high = directions.reach
                counts = directions.provenance["counts"]
                print(f"{directions.light}: latents per bin {counts}, reaches {low:+.0f} to {high:+.0f} degrees")
                print(f"wrote {path}")
