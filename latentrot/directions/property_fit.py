"""Fit directions of properties to a store of latents and a label table."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from latentrot.data.celeba import held_out
from latentrot.directions.design import COLOURS, LIGHT, POSE, design_of
from latentrot.directions.fit import training_rows
from latentrot.directions.frequencies import shrink_noise
from latentrot.directions.joint import RIDGE, JointSums, gather_joint, ridge_slopes
from latentrot.directions.properties import PROPERTIES, Property, property_named
from latentrot.directions.property_directions import PropertyDirections
from latentrot.errors import LatentrotError
from latentrot.store.latent_store import LatentStore
from latentrot.store.space import LatentSpace

__all__ = ["PropertyFitConfig", "available_properties", "directions_of", "fit_properties", "held_out_images"]

log = logging.getLogger(__name__)

#: with fewer latents the regression uses only the `ESSENTIAL` columns and the columns of the properties
FEW = 1_000
ESSENTIAL = (*POSE, *LIGHT, "age", "Male", "Smiling")


@dataclass(frozen=True)
class PropertyFitConfig:
    """Configuration of the fit of directions of properties.

    Args:
        where: attribute filter such as "Male == 1"; empty: all images.
        mirror: also use the mirror image of every latent.
        held_out: share of the people held out (0 to 1).
        ridge: ridge penalty, see `ridge_slopes`.
        orthogonal: make the directions orthogonal to the slopes of pose, light and colour.
    """

    where: str = ""
    mirror: bool = True
    held_out: float = 0.1
    ridge: float = RIDGE
    orthogonal: bool = True


def fit_properties(
    store: LatentStore,
    labels: pd.DataFrame,
    properties: Sequence[Property | str] | None = None,
    config: PropertyFitConfig | None = None,
    progress: Callable[[int], object] | None = None,
) -> PropertyDirections:
    """Fit directions of properties by a joint regression of the latents on all columns of the table.

    Args:
        store: the latents.
        labels: table indexed by image_id, as from `label_folder`, with any further columns.
        properties: names of built-in properties, names of further numeric columns, or declarations; None: all built-in
            properties whose columns are in the table.
        config: filter, mirroring, regression.
        progress: called with the number of latents read since the last call.

    Returns:
        Uncalibrated directions in the space of the store.

    Raises:
        LatentrotError: a property is neither built in nor a column, or no image is left.
    """
    config = config or PropertyFitConfig()
    rows = training_rows(labels, config.where, config.held_out)
    wanted = None if properties is None else [as_property(p, labels) for p in properties]
    standard = {column for p in PROPERTIES for column in p.column_names}
    own = sorted({c for p in wanted or () for c in p.column_names if c in labels and c not in standard})
    design = design_of(rows, own)
    sums = gather_joint(store, design, f"{config.where} / {config.held_out}", progress)
    fitted = wanted or [p for p in PROPERTIES if p.reaches == "difference" and set(p.column_names) <= set(sums.names)]
    if config.mirror:
        sums = sums + sums.mirrored(store.space.shape, store.space.factor)
    sums, note = reduce_columns(sums, fitted)
    vectors, explained = directions_of(sums, fitted, store.space, config)
    provenance = {
        "images": str(sums.count), "columns": json.dumps(sums.names[1:]), "explained": f"{explained:.4f}", "note": note,
        "scale": json.dumps(design.scale), "where": config.where, "ridge": str(config.ridge),
        "attributes": str(labels.attrs.get("attributes", "")),
    }  # fmt: skip
    return PropertyDirections(tuple(fitted), vectors, store.space, {}, provenance)


def directions_of(
    sums: JointSums, properties: Sequence[Property], space: LatentSpace, config: PropertyFitConfig | None = None
) -> tuple[dict[str, torch.Tensor], float]:
    """Compute directions of properties from the sums of a regression.

    Args:
        sums: sums over the images.
        properties: properties with columns in the sums.
        space: space of the latents.
        config: ridge and orthogonality.

    Returns:
        Property -> (c, h, w) float32 per unit of the column; and the share of the variance that all columns explain.

    Raises:
        LatentrotError: the sums lack a column of a property.
    """
    config = config or PropertyFitConfig()
    slopes, explained = ridge_slopes(sums, config.ridge)
    vectors = {}
    for one in properties:
        if missing := [c for c in one.column_names if c not in slopes]:
            raise LatentrotError(f"no column {missing[0]!r} for {one.name!r}; the table has {', '.join(slopes)}")

        # shrink the direction
        signed = [-slopes[c[1:]] if c.startswith("-") else slopes[c] for c in one.columns]
        direction = shrink_slope(np.sum(signed, axis=0), space, one.shrinkage)

        # orthogonal to pose, light and colour
        if config.orthogonal:
            others = [shrink_slope(slopes[name], space, one.shrinkage) for name in nuisance_of(one) if name in slopes]
            direction = orthogonal_to(direction, others)
        vectors[one.name] = torch.from_numpy(direction.reshape(space.shape)).float()
    return vectors, explained


def nuisance_of(one: Property) -> list[str]:
    """Columns to whose slopes a direction is made orthogonal: pose, colour and, except for light itself, light."""
    own = {*one.column_names, *(LIGHT if set(one.column_names) & set(LIGHT) else ())}
    return [name for name in (*POSE, *LIGHT, *COLOURS) if name not in own]


def shrink_slope(slope: np.ndarray, space: LatentSpace, power: float) -> np.ndarray:
    """Shrink a slope (d,) against white estimation noise, on the pixel grid (see `shrink_noise`)."""
    pixels = F.pixel_shuffle(torch.from_numpy(slope.reshape(1, *space.shape)), space.factor)[0].numpy()
    smooth = torch.from_numpy(shrink_noise(pixels, power))[None]
    return F.pixel_unshuffle(smooth, space.factor).flatten().numpy()


def orthogonal_to(direction: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
    """Subtract from a direction (d,) its projection onto the span of the others."""
    others = [v for v in others if np.linalg.norm(v) > 0]
    if not others:
        return direction
    basis = np.linalg.qr(np.stack([v / np.linalg.norm(v) for v in others], 1))[0]
    return direction - basis @ (basis.T @ direction)


def available_properties(labels: pd.DataFrame) -> list[Property]:
    """The built-in properties whose columns a label table has; none without attributes."""
    columns = set(design_of(labels).names) if "Smiling" in labels or "p_Smiling" in labels else set()
    return [p for p in PROPERTIES if p.reaches == "difference" and set(p.column_names) <= columns]


def held_out_images(labels: pd.DataFrame, share: float) -> list[str]:
    """Names of the labelled images of people held out of the fit."""
    if "identity" not in labels:
        return []
    return labels.index[held_out(labels["identity"].to_numpy(), share)].tolist()


def as_property(wanted: Property | str, labels: pd.DataFrame) -> Property:
    """Find a property by name, or declare one for a column of the table."""
    if isinstance(wanted, Property):
        return wanted
    if wanted in labels and wanted not in {p.name for p in PROPERTIES}:
        return Property.of_column(wanted)
    return property_named(wanted)


def reduce_columns(sums: JointSums, properties: Sequence[Property]) -> tuple[JointSums, str]:
    """With few latents, reduce the sums to fewer columns; returns the sums and a warning, empty if nothing was reduced."""
    if sums.count >= FEW:
        return sums, ""
    kept = {*ESSENTIAL, *(c for p in properties for c in p.column_names)}
    fewer = sums.of([name for name in sums.names if name in kept])
    if len(fewer.names) == len(sums.names):
        return sums, ""
    note = f"{sums.count} latents are few: the regression uses {len(fewer.names) - 1} of {len(sums.names) - 1} columns"
    log.warning("%s", note)
    return fewer, note
