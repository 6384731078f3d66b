"""A head as a mesh: `mesh`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from latentrot.errors import LatentrotError
from latentrot.files import check_writable, is_same_file

__all__ = ["Mesh"]


@dataclass(frozen=True)
class Mesh:
    """Write the head in a photograph as a textured 3D mesh."""

    image: Annotated[Path, tyro.conf.Positional]
    """the photograph"""
    out: Path
    """.glb (its texture inside), .obj (with .mtl and .texture.png beside it) or .ply (colours at the points); the
    camera that shows the mesh in the photograph lies beside it as .camera.json"""
    pose: Literal["photograph", "frontal"] = "photograph"
    """as the head is turned in the photograph, or looking at the viewer"""
    face: str = "largest"
    """which face: largest, or its number"""
    device: str | None = None
    """cpu, cuda or cuda:N; by default cuda where there is one"""

    def run(self) -> None:
        """Find the face, set its head up, write it."""
        from latentrot.geometry import HeadFitter  # noqa: PLC0415
        from latentrot.geometry.export import export_head, mesh_files  # noqa: PLC0415
        from latentrot.portrait.portrait import EditConfig, open_portrait  # noqa: PLC0415

        for file in mesh_files(self.out):
            check_writable(file)
            if is_same_file(file, self.image):
                raise LatentrotError(f"--out {self.out} would replace the photograph; choose another name")
        if self.face == "all":
            raise LatentrotError("a mesh is of one face; choose it with --face largest or --face NUMBER")
        config = EditConfig(face=self.face, device=self.device)
        portrait = open_portrait(self.image, config)
        fitter = HeadFitter(device=config.perception_device)
        head = fitter.fit(portrait.image, portrait.alignments[0], portrait.faces)
        files = export_head(head, self.out, self.pose)
        for line in (*portrait.warnings, *head.warnings):
            print(f"note: {line}")
        print(
            f"a head turned by {head.pose[0]:+.0f} degrees, pitch {head.pose[1]:+.0f}; wrote "
            + ", ".join(map(str, files))
        )
