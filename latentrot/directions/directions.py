"""The lines of one light group as an artefact: two slopes, the step lengths' calibration, and where they come from."""

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
#: of the file, raised when an older version would misread it
FORMAT = 1
SIGN = "yaw > 0: the nose points to the viewer's right; light: the picture's side the main light comes from"


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
        provenance: what else the header records, as strings: bins, counts, r2, filter, version.
        coarse: frequencies below so many half-waves a picture are walked by measured degrees (see `walk_offset`).
        carry: whether a picture's own pixels go along with a walk (see `latentrot.directions.warp`), as in the calibration.
    """

    light: str
    left: torch.Tensor
    right: torch.Tensor
    space: LatentSpace
    nominal: tuple[float, ...]
    achieved: tuple[float, ...]
    provenance: dict[str, str]
    coarse: int = 0
    carry: bool = False

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
            "carry": str(self.carry),
            "calibration": json.dumps({"nominal": self.nominal, "achieved": self.achieved}),
            **self.space.header(),
            **self.provenance,
        }
        content = save({"left": self.left.contiguous(), "right": self.right.contiguous()}, metadata=header)
        write_atomically(path, lambda p: p.write_bytes(content))

    @classmethod
    def load(cls, path: Path) -> Directions:
        """Read what `save` wrote.

        Raises:
            LatentrotError: no such file, or it is not a directions file.
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
                nominal=tuple(table["nominal"]),
                achieved=tuple(table["achieved"]),
                provenance={k: v for k, v in header.items() if k not in known},
                coarse=int(header.get("coarse", 0)),
                carry=header.get("carry") == "True",  # lines that do not say so are older than it
            )
        except (KeyError, ValueError, TypeError) as error:
            reason = f"lacks {error}" if isinstance(error, KeyError) else one_line(error)
            raise LatentrotError(
                f"the header of {path} {reason}; it is damaged, or of another version: make it anew with: "
                "latentrot fit-directions --light NAME"
            ) from error


def beyond(x: np.ndarray, known: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Linear interpolation between known points through (0, 0); outside them in proportion to the outermost one."""
    found = np.interp(x, known, values)
    if known[-1] > 0:
        found = np.where(x > known[-1], values[-1] * x / known[-1], found)
    if known[0] < 0:
        found = np.where(x < known[0], values[0] * x / known[0], found)
    return found
