"""Files of directions of properties, with calibration and provenance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from latentrot.directions.properties import Property
from latentrot.errors import LatentrotError, one_line
from latentrot.files import read_tensors, write_atomically
from latentrot.store.space import LatentSpace

__all__ = ["Calibration", "PropertyDirections", "load_property_directions"]

KIND = "latentrot property directions"
#: version of the file format, raised when an older version would misread it
FORMAT = 1
REMEDY = "make directions with: latentrot fit-directions"


@dataclass(frozen=True)
class Calibration:
    """Calibration of one direction on held-out people.

    Attributes:
        steps: (k,) ascending steps in units of the column, including 0.
        change: (k,) mean measured change in the property's unit; monotone.
        side_effects: measure -> mean change at a change of about one unit; and `identity`, the mean cosine to the source.
        people: number of images.
        measured_by: network that made the measurements.
        absent: presence: mean measure of photographs without the property; 0 for other units.
        span: presence: difference between the mean measures with and without the property, which is one unit; 1 for other
            units.
    """

    steps: tuple[float, ...]
    change: tuple[float, ...]
    side_effects: dict[str, float] = field(default_factory=dict)
    people: int = 0
    measured_by: str = ""
    absent: float = 0.0
    span: float = 1.0

    @property
    def range(self) -> tuple[float, float]:
        """Mean changes at the min and the max step."""
        return self.change[0], self.change[-1]

    def step_for(self, change: float) -> float:
        """The smallest step that reaches a mean change; the largest step if none reaches it."""
        steps, reached = np.array(self.steps), np.array(self.change)
        side = steps >= 0 if change >= 0 else steps <= 0
        order = np.argsort(np.abs(steps[side]))
        outwards = np.maximum.accumulate(np.abs(reached[side][order]))
        kept = np.append(True, np.diff(outwards) > 0)  # keep only the first step of a plateau
        return float(np.interp(abs(change), outwards[kept], steps[side][order][kept]))


@dataclass(frozen=True, eq=False)
class PropertyDirections:
    """Directions of several properties in one latent space.

    Attributes:
        properties: the properties.
        vectors: name -> (c, h, w) float32, change of the latent per unit of the property's column.
        space: latent space (model and schedule).
        calibrations: name -> calibration, for calibrated properties.
        provenance: further header entries, as strings: counts, columns, version.
    """

    properties: tuple[Property, ...]
    vectors: dict[str, torch.Tensor]
    space: LatentSpace
    calibrations: dict[str, Calibration] = field(default_factory=dict)
    provenance: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Names of the properties."""
        return [p.name for p in self.properties]

    def save(self, path: Path) -> None:
        """Write a safetensors file with vectors in half precision and everything else in its JSON header."""
        header = {
            "kind": KIND,
            "format": str(FORMAT),
            "properties": json.dumps([asdict(p) for p in self.properties]),
            "calibrations": json.dumps({name: asdict(c) for name, c in self.calibrations.items()}),
            "provenance": json.dumps(self.provenance),
            **self.space.header(),
        }
        content = save({name: v.half().contiguous() for name, v in self.vectors.items()}, metadata=header)
        write_atomically(path, lambda p: p.write_bytes(content))

    @classmethod
    def load(cls, path: Path) -> PropertyDirections:
        """Read a file written by `save`.

        Raises:
            LatentrotError: the file is missing or does not contain property directions.
        """
        header, vectors = read_tensors(path, KIND, FORMAT, REMEDY)
        try:
            properties = tuple(Property(**_tuples(row)) for row in json.loads(header["properties"]))
            calibrations = {
                name: Calibration(**_tuples(row)) for name, row in json.loads(header["calibrations"]).items()
            }
            provenance = json.loads(header["provenance"])
            space = LatentSpace.from_header(header)
            return cls(
                properties, {p.name: vectors[p.name].float() for p in properties}, space, calibrations, provenance
            )
        except (KeyError, ValueError, TypeError) as error:
            reason = f"lacks {error}" if isinstance(error, KeyError) else one_line(error)
            raise LatentrotError(
                f"the header of {path} {reason}; it is damaged, or of another version: {REMEDY}"
            ) from error


def load_property_directions(paths: Sequence[Path]) -> list[PropertyDirections]:
    """Read several files with different depths and properties.

    Raises:
        LatentrotError: a file does not contain property directions, or two files contain the same property.
    """
    found: dict[str, Path] = {}
    loaded = [PropertyDirections.load(path) for path in paths]
    for path, directions in zip(paths, loaded, strict=True):
        for name in directions.names:
            if name in found:
                raise LatentrotError(f"{found[name]} and {path} both contain a direction for {name!r}; keep one")
            found[name] = path
    return loaded


def _tuples(row: dict[str, Any]) -> dict[str, Any]:
    """Convert the lists of JSON to tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
