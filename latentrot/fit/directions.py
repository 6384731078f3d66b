"""The lines of one light group as an artefact: fitted from a store, calibrated in measured degrees, saved and loaded."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from sklearn.isotonic import IsotonicRegression

from latentrot.data.celeba import held_out
from latentrot.data.where import matching
from latentrot.embed.solve import decode
from latentrot.errors import LatentrotError
from latentrot.files import check_format, write_atomically
from latentrot.fit.lines import CentroidLine, YawBins, YawDirections, coarse_part, keep_octaves, shrink_noise
from latentrot.fit.statistics import Statistics, gather
from latentrot.label.estimate import LIGHTS, estimate_pose
from latentrot.label.network import FaceLabeler
from latentrot.models.load import LatentModel
from latentrot.store.latent_store import LatentStore
from latentrot.store.space import LatentSpace

__all__ = ["Directions", "FitConfig", "calibrate", "fit_directions", "gather_statistics", "walk", "walk_offset"]

log = logging.getLogger(__name__)

KIND = "latentrot directions"
#: of the file, raised when an older version would misread it
FORMAT = 1
SIGN = "yaw > 0: the nose points to the viewer's right; light: the picture's side the main light comes from"
#: latents from which on lines are steady; fewer do work, but are mostly noise
STEADY = 2_000
#: nominal degrees tried on every calibration picture
NOMINAL = (-180.0, -120.0, -90.0, -60.0, -30.0, 30.0, 60.0, 90.0, 120.0, 180.0)


@dataclass(frozen=True)
class FitConfig:
    """How lines are fitted.

    Args:
        width: yaw bin width in degrees.
        limit: largest |yaw| of the bins, degrees.
        least: fewest latents per bin; smaller bins are joined with their neighbours.
        where: attribute filter such as "Male == 1 and Eyeglasses == -1"; empty: everybody.
        mirror: use every latent a second time, mirrored, with yaw negated and light swapped.
        shrink: take the estimation noise out of the slopes (see `shrink_noise`).
        coarse: frequencies below so many half-waves a picture are walked by measured degrees (see `walk_offset`); 0: none.
        held_out: share of the people left out of fitting and calibration (0 to 1).
        calibrate: pictures the step length is calibrated on; 0 leaves it nominal.
        seed: of the choice of the calibration pictures.
    """

    width: float = 10.0
    limit: float = 45.0
    least: int = 5
    where: str = ""
    mirror: bool = True
    shrink: bool = True
    coarse: int = 0
    held_out: float = 0.1
    calibrate: int = 32
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Directions:
    """Two lines of one light group.

    Attributes:
        light: left, center, right, or any (no light filter).
        left: (c, h, w) float32, change of the latent per degree on the heads-left line.
        right: the same on the heads-right line.
        space: model and schedule the lines belong to.
        nominal: (k,) rising step lengths in nominal degrees, 0 among them.
        achieved: (k,) mean measured change of yaw in degrees for each; not falling.
        facts: what else the header records, as strings: bins, counts, r2, filter, version.
        coarse: frequencies below so many half-waves a picture are walked by measured degrees (see `walk_offset`).
    """

    light: str
    left: torch.Tensor
    right: torch.Tensor
    space: LatentSpace
    nominal: tuple[float, ...]
    achieved: tuple[float, ...]
    facts: dict[str, str]
    coarse: int = 0

    def nominal_for(self, degrees: float) -> float:
        """The nominal step for a measured turn, both in degrees; beyond the calibrated range its last slope goes on."""
        return float(beyond(np.array([degrees]), np.array(self.achieved), np.array(self.nominal))[0])

    def turn_for(self, nominal: np.ndarray) -> np.ndarray:
        """The measured turns of (k,) nominal steps, both in degrees: `nominal_for` the other way round."""
        return beyond(nominal, np.array(self.nominal), np.array(self.achieved))

    @property
    def reach(self) -> tuple[float, float]:
        """Turns in degrees within which the step length was calibrated."""
        return self.achieved[0], self.achieved[-1]

    def save(self, path: Path) -> None:
        """Write one safetensors file whose JSON header carries everything but the two lines."""
        header = {
            "kind": KIND,
            "format": str(FORMAT),
            "light": self.light,
            "sign": SIGN,
            "coarse": str(self.coarse),
            "calibration": json.dumps({"nominal": self.nominal, "achieved": self.achieved}),
            **self.space.header(),
            **self.facts,
        }
        content = save({"left": self.left.contiguous(), "right": self.right.contiguous()}, metadata=header)
        write_atomically(path, lambda p: p.write_bytes(content))

    @classmethod
    def load(cls, path: Path) -> Directions:
        """Read what `save` wrote.

        Raises:
            LatentrotError: no such file, or it is not a directions file.
        """
        try:
            with safe_open(path, "pt") as file:
                header = file.metadata() or {}
                if header.get("kind") != KIND:
                    raise LatentrotError(f"{path}: kind {header.get('kind')!r}, expected {KIND!r}")
                check_format(header.get("format", 1), FORMAT, path)
                left, right = file.get_tensor("left"), file.get_tensor("right")
        except (OSError, SafetensorError) as error:
            raise LatentrotError(
                f"cannot read the directions {path} ({error}); make them with: latentrot fit-directions --light NAME"
            ) from error
        table = json.loads(header["calibration"])
        known = {
            "kind",
            "format",
            "light",
            "sign",
            "coarse",
            "calibration",
            "model",
            "digest",
            "schedule",
            "shape",
            "block",
        }
        return cls(
            light=header["light"],
            left=left,
            right=right,
            space=LatentSpace.from_header(header),
            nominal=tuple(table["nominal"]),
            achieved=tuple(table["achieved"]),
            facts={k: v for k, v in header.items() if k not in known},
            coarse=int(header.get("coarse", 0)),
        )


def beyond(x: np.ndarray, known: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Linear interpolation between known points through (0, 0); outside them in proportion to the outermost one."""
    found = np.interp(x, known, values)
    if known[-1] > 0:
        found = np.where(x > known[-1], values[-1] * x / known[-1], found)
    if known[0] < 0:
        found = np.where(x < known[0], values[0] * x / known[0], found)
    return found


def walk_offset(directions: Directions, nominal: torch.Tensor, yaw: float) -> torch.Tensor:
    """What to add to a latent to walk it: along its own side's line up to the frontal pose, beyond it along the other's.

    Averaging over people washes out fine structure, which is why a step must be several nominal degrees long to turn a head
    by one. What is coarse, the light and the colours, survives averaging: walked as far, it would change several times as
    much as it does with the pose. So frequencies below `directions.coarse` move by the degrees the head really turns.

    Args:
        directions: of the picture's light group.
        nominal: (k,) steps in nominal degrees, signed.
        yaw: the picture's own yaw in degrees.

    Returns:
        (k, c, h, w) float32 offsets; exactly zero for a zero step.
    """
    steps = nominal.to(torch.float64)
    left, right = directions.left.double(), directions.right.double()
    frontal = directions.nominal_for(-yaw)  # the step at which the walk crosses the frontal pose
    if not directions.coarse:
        return two_sided(steps, frontal, left, right).float()
    turns = torch.from_numpy(directions.turn_for(steps.numpy()))
    coarse = [coarse_slope(line, directions) for line in (left, right)]
    fine = two_sided(steps, frontal, left - coarse[0], right - coarse[1])
    return (fine + two_sided(turns, -yaw, *coarse)).float()


def two_sided(steps: torch.Tensor, frontal: float, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """(k,) steps along two slopes (c, h, w), which change over at the step `frontal` -> (k, c, h, w)."""
    steps = steps.reshape(-1, 1, 1, 1)
    on_left = steps.clamp(max=frontal) - min(0.0, frontal)
    on_right = steps.clamp(min=frontal) - max(0.0, frontal)
    return on_left * left + on_right * right


def coarse_slope(slope: torch.Tensor, directions: Directions) -> torch.Tensor:
    """The coarse frequencies of a slope, on the pixel grid: (c, h, w) float64 -> the same."""
    pixels = F.pixel_shuffle(slope, directions.space.block).numpy()
    return F.pixel_unshuffle(torch.from_numpy(coarse_part(pixels, directions.coarse)), directions.space.block)


def walk(
    z: torch.Tensor, directions: Directions, nominal: torch.Tensor, yaw: float, *, keep_norm: bool = True
) -> torch.Tensor:
    """Walk one latent along its lines.

    Args:
        z: (1, c, h, w) the picture's own latent; or (1, 2, c, h, w) with its remainder, which is carried along.
        directions: of its light group.
        nominal: (k,) steps in nominal degrees, signed.
        yaw: the picture's own yaw in degrees.
        keep_norm: scale each octave of spatial frequencies of a walked latent back to its source's length. Noise lives
            on a shell; a long straight walk leaves it, most of all in the few coarse frequencies the lines are made
            of, and the decoder answers with blown-out pictures.

    Returns:
        (k, c, h, w) float32 latents, or (k, 2, c, h, w); the source itself, bit for bit, for a zero step.
    """
    if z.ndim == 5:
        walked = walk(z[:, 0], directions, nominal, yaw, keep_norm=keep_norm)
        return torch.stack([walked, z[:, 1].expand_as(walked)], 1)
    walked = z + walk_offset(directions, nominal, yaw)
    if keep_norm:
        block = directions.space.block
        kept = keep_octaves(F.pixel_shuffle(z, block).numpy(), F.pixel_shuffle(walked, block).numpy())
        kept = F.pixel_unshuffle(torch.from_numpy(kept).float(), block)
        walked = torch.where(nominal[:, None, None, None] == 0, z, kept)
    return walked


def chosen_rows(labels: pd.DataFrame, config: FitConfig) -> pd.DataFrame:
    """The labelled pictures that may be used: filter met, people not held out."""
    rows = labels
    if config.where:
        rows = rows[matching(rows, config.where)]
    if "identity" in rows:
        rows = rows[~held_out(rows["identity"].to_numpy(), config.held_out)]
    if rows.empty:
        raise LatentrotError(f"no labelled picture is left after the filter {config.where!r}; loosen it")
    return rows


def gather_statistics(
    store: LatentStore, labels: pd.DataFrame, config: FitConfig, progress: Callable[[int], object] | None = None
) -> Statistics:
    """Sums per yaw bin and light of the pictures a fit may use: from the store's statistics, or one streaming pass."""
    bins = YawBins(config.width, config.limit)
    return gather(store, chosen_rows(labels, config), bins, f"{config.where} / {config.held_out}", progress)


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
    """Fit the two lines of one light group, and calibrate their step length.

    A light group too small for two lines takes the pictures of every light instead, and says so in a warning and in the
    file's header.

    Args:
        store: the latents.
        labels: image_id -> yaw_deg, light, and attributes and identity where known (see `read_labels`).
        light: left, center, right, or any for no light filter.
        config: bins, filter, calibration.
        model: the model the latents are of, for the calibration; may be None if config.calibrate is 0.
        labeler: the label network that measures degrees in the calibration; None: the one that belongs to the model.
        progress: called with the number of latents read since the last call.
        calibrated: called with the number of pictures decoded since the last call, and how many there are in all.

    Raises:
        LatentrotError: unknown light, too few matching pictures, or a model of another latent space.
    """
    config = config or FitConfig()
    if light not in (*LIGHTS, "any"):
        raise LatentrotError(f"light {light!r}: expected {', '.join(LIGHTS)}, or any")
    if config.calibrate and model is None:
        raise LatentrotError("calibration decodes walked latents: give the model, or calibrate=0")
    if model is not None:
        store.space.require_same(LatentSpace.of(model, store.space.schedule), str(store.root))
    rows = chosen_rows(labels, config)
    statistics = gather_statistics(store, labels, config, progress)
    fitted, used = fitted_lines(statistics, store.space, light, config)
    directions = nominal_directions(fitted, store.space, light, config, labels.attrs.get("labeler", ""), used)
    if model is None or not config.calibrate:
        return directions
    sources = calibration_sources(store, rows, used, config)
    return calibrate(directions, model, sources, labeler=labeler, progress=calibrated)


def fitted_lines(
    statistics: Statistics, space: LatentSpace, light: str, config: FitConfig
) -> tuple[YawDirections, str]:
    """The lines of a light group, or of all lights where it holds too few latents; and the light they are of."""
    bins = YawBins(config.width, config.limit)
    if not statistics.counts.any():
        raise LatentrotError("no latent has a label; embed and label the same pictures")

    def fit(group: str) -> YawDirections:
        centroids = statistics.centroids(group, space.shape, space.block, mirror=config.mirror)
        return YawDirections(bins, config.least).fit_centroids(centroids)

    try:
        fitted, used = fit(light), light
    except LatentrotError as error:
        if light == "any":
            raise
        fitted, used = fit("any"), "any"
        log.warning("%s: %s. The pictures of every light are used instead", light, error)
    if len(fitted.counts_) < len(bins.edges) - 1:
        edges = " ".join(f"{edge:g}" for edge in fitted.edges_)
        log.warning(
            "%s: yaw bins of fewer than %d latents are joined; their edges are now %s", light, config.least, edges
        )
    if (count := int(fitted.counts_.sum())) < STEADY:
        log.warning("%s: lines of %d latents are mostly noise; with %d or more they are steady", light, count, STEADY)
    return fitted, used


def nominal_directions(
    fitted: YawDirections, space: LatentSpace, light: str, config: FitConfig, labels: str, used: str
) -> Directions:
    """The lines as an artefact, not yet calibrated."""
    from latentrot import __version__  # noqa: PLC0415  the package's top level imports this module lazily

    return Directions(
        light=light,
        left=slope_of(fitted.left_, space, config),
        right=slope_of(fitted.right_, space, config),
        space=space,
        nominal=(-180.0, 0.0, 180.0),
        achieved=(-180.0, 0.0, 180.0),
        facts={
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
    )


def slope_of(line: CentroidLine, space: LatentSpace, config: FitConfig) -> torch.Tensor:
    """A line's slope as a (c, h, w) float32 latent, its estimation noise shrunk on the pixel grid."""
    slope = torch.from_numpy(line.slope_.reshape(space.shape))
    if config.shrink:
        pixels = F.pixel_shuffle(slope, space.block).numpy()
        slope = F.pixel_unshuffle(torch.from_numpy(shrink_noise(pixels)), space.block)
    return slope.float()


def calibration_sources(store: LatentStore, rows: pd.DataFrame, light: str, config: FitConfig) -> torch.Tensor:
    """Latents of nearly frontal pictures of the light group: (n, c, h, w), n <= config.calibrate."""
    near = rows[(rows["yaw_deg"].abs() < 12) & ((rows["light"] == light) | (light == "any"))]
    there = [near.index.intersection(pd.Index(h.image_ids, dtype=near.index.dtype)) for _, h in store.headers()]
    near = near[near.index.isin(near.index[:0].append(there))]
    if near.empty:
        raise LatentrotError(f"no nearly frontal picture of light {light!r} to calibrate on; embed more pictures")
    chosen = near.sample(min(config.calibrate, len(near)), random_state=config.seed)
    return torch.cat([z for _, z in store.batches(set(chosen.index))])


def calibrate(
    directions: Directions,
    model: LatentModel,
    sources: torch.Tensor,
    *,
    labeler: FaceLabeler | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Directions:
    """Measure how far nominal steps really turn heads, on average over some pictures.

    Args:
        directions: the lines, nominal.
        model: the model of their space.
        sources: (n, c, h, w) latents of nearly frontal pictures.
        labeler: the label network that measures degrees; None: the one that belongs to the model.
        progress: called with the number of pictures decoded since the last call, and how many there are in all.

    Returns:
        The same lines with a calibration table: mean change of yaw measured by the label network, made monotone.
    """
    labeler = labeler or model.labeler
    # coarse frequencies are walked by what the table itself says: so there is a rough one first, from some of the pictures
    passes = [sources[::4], sources] if directions.coarse else [sources]
    total = sum(map(len, passes)) * (len(NOMINAL) + 1)
    for some in passes:
        directions = measured_once(
            directions, model, some, labeler, None if progress is None else lambda n: progress(n, total)
        )
    return replace(directions, facts={**directions.facts, "calibrated_on": str(len(sources)), "labeler": labeler.title})


def measured_once(
    directions: Directions,
    model: LatentModel,
    sources: torch.Tensor,
    labeler: FaceLabeler,
    progress: Callable[[int], object] | None = None,
) -> Directions:
    """The directions with the table measured by walking as their own table says."""
    steps = torch.tensor(NOMINAL)
    changes = []

    def yaw(latents: torch.Tensor) -> np.ndarray:
        pictures = decode(model, latents, schedule=directions.space.schedule).clamp(-1, 1)
        if progress is not None:
            progress(len(latents))
        return estimate_pose(pictures, labeler=labeler)[:, 0].numpy()

    for z in sources:
        walked = walk(z[None], directions, steps, 0.0)  # nearly frontal: each way along its own line
        changes.append(yaw(walked) - yaw(z[None]))
    mean = np.insert(np.mean(changes, 0), len(NOMINAL) // 2, 0.0)
    nominal = np.insert(np.array(NOMINAL), len(NOMINAL) // 2, 0.0)
    rising = IsotonicRegression().fit(nominal, mean, sample_weight=np.where(nominal == 0, 1e6, 1.0)).predict(nominal)
    return replace(directions, nominal=tuple(nominal.tolist()), achieved=tuple(np.round(rising, 3).tolist()))
