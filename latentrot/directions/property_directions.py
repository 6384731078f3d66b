"""Directions of properties as an artefact: one direction each, their calibration, and where they come from."""

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
#: of the file, raised when an older version would misread it
FORMAT = 1
REMEDY = "make directions with: latentrot fit-directions"


@dataclass(frozen=True)
class Calibration:
    """What steps along one direction do on people held out.

    Attributes:
        steps: (k,) rising steps in units of the column, 0 among them.
        change: (k,) mean measured change in the property's unit; not falling.
        side_effects: what came along at a change of about one unit: measured column -> its mean change; identity -> mean
            cosine to the source.
        people: images measured on.
        measured_by: the network that measured.
        absent: what is measured on photographs where a presence is absent: 0 of its unit.
        span: how far apart absent and present are on photographs as measured: one unit. 0 and 1 for all but presences.
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
        """Changes that steps within the limit reach on average."""
        return self.change[0], self.change[-1]

    def step_for(self, change: float) -> float:
        """The shortest step that makes a change on average; the longest where none does."""
        steps, reached = np.array(self.steps), np.array(self.change)
        side = steps >= 0 if change >= 0 else steps <= 0
        order = np.argsort(np.abs(steps[side]))
        outwards = np.maximum.accumulate(np.abs(reached[side][order]))
        kept = np.append(True, np.diff(outwards) > 0)  # a plateau is reached where it begins
        return float(np.interp(abs(change), outwards[kept], steps[side][order][kept]))


@dataclass(frozen=True, eq=False)
class PropertyDirections:
    """Directions of several properties in one latent space.

    Attributes:
        properties: what they change.
        vectors: property name -> (c, h, w) float32, change of the latent per unit of the property's column.
        space: model and schedule the directions belong to.
        calibrations: property name -> what its steps do; lacking where nobody has measured.
        provenance: what else the header records, as strings: counts, columns, version.
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
        """Write one safetensors file, vectors in half precision, whose JSON header carries everything else."""
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
        """Read what `save` wrote.

        Raises:
            LatentrotError: no such file, or it is not a file of property directions.
        """
        header, vectors = read_tensors(path, KIND, FORMAT, REMEDY)
        try:
            properties = tuple(_property(row) for row in json.loads(header["properties"]))
            calibrations = {name: _calibration(row) for name, row in json.loads(header["calibrations"]).items()}
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
    """Read several files, of different depths; refuse a property that two of them hold.

    Raises:
        LatentrotError: a file that is none, or two directions of one name.
    """
    found: dict[str, Path] = {}
    loaded = [PropertyDirections.load(path) for path in paths]
    for path, directions in zip(paths, loaded, strict=True):
        for name in directions.names:
            if name in found:
                raise LatentrotError(f"{found[name]} and {path} both hold a direction of {name!r}; keep one")
            found[name] = path
    return loaded


def _property(row: dict[str, Any]) -> Property:
    return Property(**_tuples(row))


def _calibration(row: dict[str, Any]) -> Calibration:
    return Calibration(**_tuples(row))


def _tuples(row: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
