"""The design matrix of the joint regression, from a label table.

Values are rounded to multiples of 1/64, so that products with half-precision latents, and their sums, are exact in float64
(see `latentrot.directions.joint`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from latentrot.errors import LatentrotError
from latentrot.faces.attributes import AGE, ATTRIBUTES
from latentrot.faces.colours import COLOUR_COLUMNS, EYE_TO_CHEEK

__all__ = ["COLOURS", "LIGHT", "POSE", "Design", "design_of", "mirrored_columns"]

#: values are rounded to 1 / GRAIN
GRAIN = 64
#: brightness of the eyes relative to the cheeks, from which glasses count as clear
CLEAR = 0.58
#: columns of pose, light and colours, to which the directions of properties are made orthogonal
POSE = ("yaw_left", "yaw_right", "pitch")
LIGHT = ("light_left", "light_right")
COLOURS = tuple(name for name in COLOUR_COLUMNS if name != EYE_TO_CHEEK)
#: column -> the column that it becomes when the image is mirrored, and the factor of its values
SWAPPED = {"yaw_left": ("yaw_right", -1.0), "yaw_right": ("yaw_left", -1.0)} | {
    "light_left": ("light_right", 1.0), "light_right": ("light_left", 1.0),
}  # fmt: skip
#: attributes that are replaced by better columns
REPLACED = {"Young": AGE, "Eyeglasses": EYE_TO_CHEEK}
#: unit of colour columns, as a share of the range 0 to 1
COLOUR_UNIT = 0.25


@dataclass(frozen=True, eq=False)
class Design:
    """The design matrix.

    Attributes:
        table: columns by image_id, float64 multiples of 1/64; the first one is the intercept, 1.
        scale: user-defined column -> its original units per unit of `table`.
    """

    table: pd.DataFrame
    scale: dict[str, float]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, the intercept first."""
        return tuple(map(str, self.table.columns))


def design_of(labels: pd.DataFrame, own: Sequence[str] = ()) -> Design:
    """Make the design matrix from a label table.

    The columns are the yaw to the left and to the right (two hinge functions) and the pitch in tens of degrees; light from
    the left and from the right, 0 or 1; CelebA's attributes from -1/2 (absent) to 1/2 (present), from CelebA's table or else
    by the attributes network; age in tens of years; clear and dark glasses; mean colours of face and surroundings.
    Columns missing in the table are left out.

    Args:
        labels: table indexed by image_id, as from `label_folder`, with any further columns.
        own: names of further numeric columns.

    Raises:
        LatentrotError: a further column does not exist, is not numeric, or is constant.
    """
    columns: dict[str, pd.Series] = {"1": pd.Series(1.0, labels.index)}
    columns |= _pose_and_light(labels) | _attributes(labels)
    for name in COLOURS:
        if name in labels:
            columns[name] = (labels[name].astype(float) - 0.5) / COLOUR_UNIT
    scale = {}
    for name in own:
        if name not in columns:
            columns[name], scale[name] = _own(labels, name)
    table = pd.DataFrame(columns).dropna()
    if table.empty:
        raise LatentrotError(f"none of {len(labels)} labelled images has a value in every column; fill or drop columns")
    varied = [name for name in table if name == "1" or table[name].nunique() > 1]  # drop constants
    return Design((table[varied] * GRAIN).round() / GRAIN, scale)


def mirrored_columns(names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Effect of mirroring on the columns of an image: value[i] becomes sign[i] * value[order[i]]; returns (order, sign).

    Raises:
        LatentrotError: only one of two columns that mirroring swaps is present.
    """
    pairs = [SWAPPED.get(name, (name, 1.0)) for name in names]
    if missing := [other for other, _ in pairs if other not in names]:
        raise LatentrotError(
            f"no column {missing[0]}, which mirroring needs; label more images, or fit with mirror=False"
        )
    return np.array([list(names).index(other) for other, _ in pairs]), np.array([sign for _, sign in pairs])


def _pose_and_light(labels: pd.DataFrame) -> dict[str, pd.Series]:
    columns = {}
    if "yaw_deg" in labels:
        yaw = labels["yaw_deg"].astype(float) / 10
        columns |= {"yaw_left": yaw.clip(upper=0), "yaw_right": yaw.clip(lower=0)}
    if "pitch_deg" in labels:
        columns["pitch"] = labels["pitch_deg"].astype(float) / 10
    if "light" in labels:
        columns |= {f"light_{side}": (labels["light"] == side).astype(float) for side in ("left", "right")}
    return columns


def _attributes(labels: pd.DataFrame) -> dict[str, pd.Series]:
    found = {name: value for name in ATTRIBUTES if (value := _attribute(labels, name)) is not None}
    glasses = found.get("Eyeglasses")
    found = {name: value for name, value in found.items() if REPLACED.get(name) not in labels}
    if AGE in labels:
        found["age"] = labels[AGE].astype(float) / 10
    if glasses is not None and EYE_TO_CHEEK in labels:
        clear = labels[EYE_TO_CHEEK] >= CLEAR
        found["glasses_clear"] = glasses.where(clear, -0.5)
        found["glasses_dark"] = glasses.where(~clear, -0.5)
    return found


def _attribute(labels: pd.DataFrame, name: str) -> pd.Series | None:
    """An attribute from -1/2 to 1/2: CelebA's label if available, else the estimated probability."""
    estimated = labels[f"p_{name}"].astype(float) - 0.5 if f"p_{name}" in labels else None
    if name not in labels:
        return estimated
    own = labels[name].astype(float) / 2
    return own if estimated is None else own.fillna(estimated)


def _own(labels: pd.DataFrame, name: str) -> tuple[pd.Series, float]:
    """A further column, centred and divided by a power of two near its standard deviation; and that power of two."""
    if name not in labels:
        raise LatentrotError(f"the label table has no column {name!r}; it has {', '.join(map(str, labels.columns))}")
    values = pd.to_numeric(labels[name], errors="coerce").astype(float)
    spread = values.std()
    if not spread > 0:
        raise LatentrotError(f"column {name!r} is constant or not numeric; expected a number for each image")
    unit = float(2.0 ** np.round(np.log2(spread)))
    # rounded, so that cached sums remain valid when the table grows
    middle = float(np.round(values.mean() / unit) * unit)
    return (values - middle) / unit, unit
