"""Fit the two yaw lines of one illumination class from a store of latents and a table of labels."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch
import torch.nn.functional as F

from latentrot.data.celeba import held_out
from latentrot.data.filters import matching
from latentrot.diffusion.load import LatentModel
from latentrot.directions.calibrate import calibrate, calibration_sources
from latentrot.directions.directions import Directions
from latentrot.directions.frequencies import shrink_noise
from latentrot.directions.lines import CentroidLine, YawBins, YawDirections
from latentrot.directions.signs import check_yaw_sign
from latentrot.directions.statistics import Statistics, gather
from latentrot.errors import LatentrotError
from latentrot.faces.estimate import LIGHTS
from latentrot.faces.network import FaceLabeler
from latentrot.store.identity import require_same_images
from latentrot.store.latent_store import LatentStore
from latentrot.store.space import LatentSpace

__all__ = ["FitConfig", "fit_directions", "fit_lights", "gather_statistics"]

log = logging.getLogger(__name__)

#: min number of latents for stable lines; with fewer the lines are mostly noise
STEADY = 2_000
#: calibration table of uncalibrated directions: the step size is taken for the rotation in degrees
UNCALIBRATED = (-180.0, 0.0, 180.0)


@dataclass(frozen=True)
class FitConfig:
    """Parameters of a fit.

    Args:
        width: yaw bin width in degrees.
        limit: max absolute yaw of the bins in degrees.
        min_count: min number of latents per bin; smaller bins are merged with their neighbours.
        where: attribute filter such as "Male == 1 and Eyeglasses == -1"; empty: all images.
        mirror: also use every latent mirrored, with negated yaw and swapped light, in the fit and in the calibration.
        shrink: remove the estimation noise from the slopes (see `shrink_noise`).
        coarse: frequencies below this many half-waves per image are walked by measured degrees (see `walk_offset`); 0: none.
        held_out: share of the people left out of fitting and calibration (0 to 1).
        carry: warp the pixels of the image by the motion of a walk (see `latentrot.directions.warp`), in calibration and
            rotations.
        calibrate: number of images for the calibration of the step size; 0: no calibration.
        seed: seed of the choice of the calibration images.
    """

    width: float = 10.0
    limit: float = 45.0
    min_count: int = 5
    where: str = ""
    mirror: bool = True
    shrink: bool = True
    coarse: int = 0
    carry: bool = True
    held_out: float = 0.1
    calibrate: int = 32
    seed: int = 0


def training_rows(labels: pd.DataFrame, where: str, held_out_share: float) -> pd.DataFrame:
    """The labelled images that match the filter `where` and whose people are not held out.

    Raises:
        LatentrotError: no image is left.
    """
    rows = labels[matching(labels, where)] if where else labels
    if "identity" in rows:
        rows = rows[~held_out(rows["identity"].to_numpy(), held_out_share)]
    if rows.empty:
        raise LatentrotError(f"no labelled image is left after the filter {where!r}; loosen it")
    return rows


def gather_statistics(
    store: LatentStore, labels: pd.DataFrame, config: FitConfig, progress: Callable[[int], object] | None = None
) -> Statistics:
    """Sums per yaw bin and light over the usable images, from the store's cached statistics or in one streaming pass."""
    bins = YawBins(config.width, config.limit)
    return gather(
        store,
        training_rows(labels, config.where, config.held_out),
        bins,
        f"{config.where} / {config.held_out}",
        progress,
    )


def fit_directions(
    store: LatentStore,
    labels: pd.DataFrame,
    light: str,
    config: FitConfig | None = None,
    *,
    model: LatentModel | None = None,
    labeler: FaceLabeler | None = None,
    progress: Callable[[int], object] | None = None,
    calibrated: Callable[[int, int], object] | None = None,
) -> Directions:
    """Fit the two lines of one illumination class and calibrate their step size.

    An illumination class with too few latents for two lines uses the images of every light instead, and records this in a
    warning and in the file's header.

    Args:
        store: the latents.
        labels: image_id -> yaw_deg, light, and attributes and identity where known (see `read_labels`).
        light: left, center, right, or any for no light filter.
        config: bins, filter, calibration.
        model: the model of the latents, for the calibration; may be None if config.calibrate is 0.
        labeler: the label network that measures degrees in the calibration; None: the model's own.
        progress: called with the number of latents read since the last call.
        calibrated: called with the number of images decoded since the last call and the total.

    Raises:
        LatentrotError: the light is unknown, too few images match, the model or the labels belong to other latents, or the
            yaw labels have the opposite sign.
    """
    return next(
        fit_lights(
            store, labels, [light], config, model=model, labeler=labeler, progress=progress, calibrated=calibrated
        )
    )


def fit_lights(
    store: LatentStore,
    labels: pd.DataFrame,
    lights: Sequence[str],
    config: FitConfig | None = None,
    *,
    model: LatentModel | None = None,
    labeler: FaceLabeler | None = None,
    progress: Callable[[int], object] | None = None,
    calibrated: Callable[[int, int], object] | None = None,
) -> Iterator[Directions]:
    """Fit the lines of several illumination classes; those with too few latents share the lines of all images.

    Args and errors are those of `fit_directions`.

    Yields:
        The directions of each of the `lights`, in their order.
    """
    config = config or FitConfig()
    if unknown := set(lights) - {*LIGHTS, "any"}:
        raise LatentrotError(f"light {min(unknown)!r}: expected {', '.join(LIGHTS)}, or any")
    if config.calibrate and model is None:
        raise LatentrotError("the calibration decodes latents and needs a model; pass model=..., or set calibrate=0")
    if model is not None:
        store.space.require_same(LatentSpace.of(model, store.space.schedule), str(store.root))
    labels = require_same_images(store, labels)
    rows = training_rows(labels, config.where, config.held_out)
    if model is not None:
        check_yaw_sign(store, rows, model, labeler)
    else:
        log.warning("--calibrate 0: the sign of yaw_deg is not checked (> 0: nose to the viewer's right)")
    statistics = gather_statistics(store, labels, config, progress)
    shared: Directions | None = None
    for light in lights:
        fitted, used = fitted_lines(statistics, store.space, light, config)
        if used == "any" and shared is not None:
            yield replace(shared, light=light)
            continue
        directions = uncalibrated_directions(fitted, store.space, light, config, labels.attrs.get("labeler", ""), used)
        if model is not None and config.calibrate:
            sources = calibration_sources(store, rows, used, config.calibrate, config.seed, config.mirror)
            directions = calibrate(directions, model, sources, labeler=labeler, progress=calibrated)
        if used == "any":
            shared = directions
        yield directions


def fitted_lines(
    statistics: Statistics, space: LatentSpace, light: str, config: FitConfig
) -> tuple[YawDirections, str]:
    """Fit the lines of an illumination class, or of all if it has too few latents; returns the lines and the class used."""
    bins = YawBins(config.width, config.limit)
    if not statistics.counts.any():
        raise LatentrotError("no latent has a label; embed and label the same images")

    def fit(group: str) -> YawDirections:
        centroids = statistics.centroids(group, space.shape, space.factor, mirror=config.mirror)
        return YawDirections(bins, config.min_count).fit_centroids(centroids)

    try:
        fitted, used = fit(light), light
    except LatentrotError as error:
        if light == "any":
            raise
        fitted, used = fit("any"), "any"
        log.warning("%s: %s. The images of every light are used instead", light, error)
    if len(fitted.counts_) < len(bins.edges) - 1:
        edges = " ".join(f"{edge:g}" for edge in fitted.edges_)
        log.warning(
            "%s: yaw bins of fewer than %d latents are merged; their edges are now %s", light, config.min_count, edges
        )
    if (count := int(fitted.counts_.sum())) < STEADY:
        log.warning("%s: lines of %d latents are mostly noise; use %d or more for stable lines", light, count, STEADY)
    return fitted, used


def uncalibrated_directions(
    fitted: YawDirections, space: LatentSpace, light: str, config: FitConfig, labels: str, used: str
) -> Directions:
    """Build uncalibrated directions from the fitted lines."""
    from latentrot import __version__  # noqa: PLC0415  the package's top level imports this module lazily

    return Directions(
        light=light,
        left=slope_of(fitted.left_, space, config),
        right=slope_of(fitted.right_, space, config),
        space=space,
        step_sizes=UNCALIBRATED,
        achieved=UNCALIBRATED,
        provenance={
            "version": __version__,
            "bin_edges": json.dumps(fitted.edges_.tolist()),
            "counts": json.dumps(fitted.counts_.tolist()),
            "lights": used,
            "r2_left": f"{fitted.left_.r2_:.4f}",
            "r2_right": f"{fitted.right_.r2_:.4f}",
            "where": config.where,
            "mirror": str(config.mirror),
            "shrink": str(config.shrink),
            "calibrated_on": "0",
            "labels": str(labels),
        },
        coarse=config.coarse,
        carry=config.carry,
    )


def slope_of(line: CentroidLine, space: LatentSpace, config: FitConfig) -> torch.Tensor:
    """Slope of a line as a (c, h, w) float32 latent, denoised on the pixel grid if `config.shrink`."""
    slope = torch.from_numpy(line.slope_.reshape(space.shape))
    if config.shrink:
        pixels = F.pixel_shuffle(slope, space.factor).numpy()
        slope = F.pixel_unshuffle(torch.from_numpy(shrink_noise(pixels)), space.factor)
    return slope.float()
