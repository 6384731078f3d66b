"""Yaw directions of one illumination class and their file: two slopes, step size calibration and provenance."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from latentrot.errors import LatentrotError, one_line
from latentrot.files import read_tensors, write_atomically
from latentrot.store.space import LatentSpace

__all__ = ["Directions"]

KIND = "latentrot directions"
#: version of the file format, raised when an older version would misread it
FORMAT = 1
SIGN = "yaw > 0: the nose points to the viewer's right; light: the side of the image from which the main light comes"


@dataclass(frozen=True, eq=False)
class Directions:
    """Yaw directions of one illumination class: one for each side of the frontal pose.

    Attributes:
        light: left, center, right, or any (no light filter).
        left: (c, h, w) float32, slope of the line for heads turned left: change of the latent per degree.
        right: (c, h, w) float32, slope of the line for heads turned right.
        space: model and schedule that the directions belong to.
        step_sizes: (k,) ascending step sizes in degrees of the fitted line, including 0.
        achieved: (k,) mean measured change of yaw in degrees for each step size; non-decreasing.
        provenance: further header entries, as strings: bins, counts, r2, filter, version.
        coarse: frequencies below this many half-waves per image are walked by measured degrees (see `walk_offset`).
        carry: whether the pixels of the image are warped by the motion of a walk, in calibration and rotations
            (see `latentrot.directions.warp`).
    """

    light: str
    left: torch.Tensor
    right: torch.Tensor
    space: LatentSpace
    step_sizes: tuple[float, ...]
    achieved: tuple[float, ...]
    provenance: dict[str, str]
    coarse: int = 0
    carry: bool = False

    def step_for(self, degrees: float) -> float:
        """Step size for a measured rotation in degrees; extrapolated proportionally beyond the calibrated range."""
        return float(interpolate_from_zero(np.array([degrees]), np.array(self.achieved), np.array(self.step_sizes))[0])

    def turn_for(self, step_sizes: np.ndarray) -> np.ndarray:
        """Measured rotations in degrees for (k,) step sizes: the inverse of `step_for`."""
        return interpolate_from_zero(step_sizes, np.array(self.step_sizes), np.array(self.achieved))

    @property
    def reach(self) -> tuple[float, float]:
        """Min and max calibrated rotation in degrees."""
        return self.achieved[0], self.achieved[-1]

    def save(self, path: Path) -> None:
        """Write one safetensors file; the JSON header holds everything except the two slopes."""
        header = {
            "kind": KIND,
            "format": str(FORMAT),
            "light": self.light,
            "sign": SIGN,
            "coarse": str(self.coarse),
            "carry": str(self.carry),
            "calibration": json.dumps({"nominal": self.step_sizes, "achieved": self.achieved}),
            **self.space.header(),
            **self.provenance,
        }
        content = save({"left": self.left.contiguous(), "right": self.right.contiguous()}, metadata=header)
        write_atomically(path, lambda p: p.write_bytes(content))

    @classmethod
    def load(cls, path: Path) -> Directions:
        """Read a file written by `save`.

        Raises:
            LatentrotError: the file is missing or is not a directions file.
        """
        remedy = "make directions with: latentrot fit-directions --light NAME"
        header, lines = read_tensors(path, KIND, FORMAT, remedy)
        known = {
            "kind",
            "format",
            "light",
            "sign",
            "coarse",
            "carry",
            "calibration",
            "model",
            "digest",
            "fingerprint",
            "schedule",
            "shape",
            "block",
        }
        try:
            table = json.loads(header["calibration"])
            return cls(
                light=header["light"],
                left=lines["left"],
                right=lines["right"],
                space=LatentSpace.from_header(header),
                step_sizes=tuple(table["nominal"]),
                achieved=tuple(table["achieved"]),
                provenance={k: v for k, v in header.items() if k not in known},
                coarse=int(header.get("coarse", 0)),
                carry=header.get("carry") == "True",  # missing in older files
            )
        except (KeyError, ValueError, TypeError) as error:
            reason = f"lacks {error}" if isinstance(error, KeyError) else one_line(error)
            raise LatentrotError(
                f"the header of {path} {reason}; the file is damaged or of another version: fit the directions again with: "
                "latentrot fit-directions --light NAME"
            ) from error


def interpolate_from_zero(x: np.ndarray, known: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Interpolate linearly between known points through (0, 0); beyond them extrapolate proportionally to the last point."""
    found = np.interp(x, known, values)
    if known[-1] > 0:
        found = np.where(x > known[-1], values[-1] * x / known[-1], found)
    if known[0] < 0:
        found = np.where(x < known[0], values[0] * x / known[0], found)
    return found
