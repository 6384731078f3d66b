"""The command `evaluate compare`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from latentrot.cli.common import RuntimeOptions, chosen_options, load_chosen, rotator_options
from latentrot.errors import LatentrotError

__all__ = ["Compare"]


@dataclass(frozen=True)
class Compare:
    """Write a contact sheet of a face rotated by several rotators, one row per rotator."""

    image: Annotated[Path, tyro.conf.Positional]
    """the photograph"""
    out: Path
    """output file of the contact sheet, .png or .jpg"""
    rotator: tuple[str, ...] = ("mesh", "latent")
    """rotators: latent, mesh, pair, spin, nothing, mirror, or your own as package.module:name"""
    deg: tuple[float, ...] = (-25.0, 25.0)
    """rotations in degrees; > 0: nose to the viewer's right"""
    face: str = "largest"
    """face to rotate: largest, or a number (0 is the largest)"""
    crop: bool = False
    """the image is already a square crop in the CelebA frame"""

    def run(self) -> None:
        """Rotate the face and write the contact sheet."""
        from latentrot.data.images import check_target, write_image  # noqa: PLC0415
        from latentrot.portrait.comparison import comparison_sheet  # noqa: PLC0415
        from latentrot.portrait.portrait import EditConfig  # noqa: PLC0415
        from latentrot.portrait.results import synthetic_metadata  # noqa: PLC0415

        if self.face == "all":
            raise LatentrotError("compare supports one face only; choose it with --face largest or --face NUMBER")
        check_target(self.out)
        options = chosen_options(rotator_options()(), self.rotator)
        rotators = {name: load_chosen(name, made_by, RuntimeOptions()) for name, made_by in options.items()}
        sheet = comparison_sheet(self.image, rotators, self.deg, EditConfig(face=self.face, crop=self.crop))
        metadata = synthetic_metadata({"rotator": ", ".join(self.rotator), "asked_deg": list(self.deg)})
        write_image(self.out, sheet, metadata)
        print(f"wrote {self.out}")
