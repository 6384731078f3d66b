"""A head as a mesh: `mesh`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from latentrot.errors import LatentrotError
from latentrot.files import check_writable

__all__ = ["Mesh"]


@dataclass(frozen=True)
class Mesh:
    """Write the head in a photograph as a textured 3D mesh."""

    image: Annotated[Path, tyro.conf.Positional]
    """the photograph"""
    out: Path
    """the .glb file"""
    face: str = "largest"
    """which face: largest, or its number"""
    device: str | None = None
    """cpu, cuda or cuda:N; by default cuda where there is one"""

    def run(self) -> None:
        """Find the face, set its head up, write it."""
        check_writable(self.out)
        from latentrot.geometry import HeadFitter  # noqa: PLC0415
        from latentrot.geometry.export import export_head  # noqa: PLC0415
        from latentrot.portrait.portrait import EditConfig, open_portrait  # noqa: PLC0415

        if self.face == "all":
            raise LatentrotError("a mesh is of one face; choose it with --face largest or --face NUMBER")
        config = EditConfig(face=self.face, device=self.device)
        portrait = open_portrait(self.image, config)
        fitter = HeadFitter(device=config.perception_device)
        head = fitter.fit(portrait.image, portrait.alignments[0], portrait.faces)
        export_head(head, self.out)
        for line in (*portrait.warnings, *head.warnings):
            print(f"note: {line}")
        print(f"a head turned by {head.pose[0]:+.0f} degrees, pitch {head.pose[1]:+.0f}; wrote {self.out}")
