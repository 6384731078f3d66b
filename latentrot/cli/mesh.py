"""The command `mesh`."""

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
    """.glb (embedded texture), .obj (with .mtl and .texture.png beside it) or .ply (vertex colours); the camera that
    projects the mesh onto the photograph is written beside it as .camera.json"""
    pose: Literal["photograph", "frontal"] = "photograph"
    """pose of the mesh: that of the head in the photograph, or frontal"""
    face: str = "largest"
    """face: largest, or a number (0 is the largest)"""
    device: str | None = None
    """cpu, cuda or cuda:N; by default cuda if available"""

    def run(self) -> None:
        """Detect the face, fit the head and write the mesh."""
        from latentrot.geometry import HeadFitter  # noqa: PLC0415
        from latentrot.geometry.export import export_head, mesh_files  # noqa: PLC0415
        from latentrot.portrait.portrait import EditConfig, open_portrait  # noqa: PLC0415

        for file in mesh_files(self.out):
            check_writable(file)
            if is_same_file(file, self.image):
                raise LatentrotError(f"--out {self.out} would replace the photograph; choose another name")
        if self.face == "all":
            raise LatentrotError("mesh supports one face only; choose it with --face largest or --face NUMBER")
        config = EditConfig(face=self.face, device=self.device)
        portrait = open_portrait(self.image, config)
        fitter = HeadFitter(device=config.perception_device)
        head = fitter.fit(portrait.image, portrait.alignments[0], portrait.faces)
        files = export_head(head, self.out, self.pose)
        for line in (*portrait.warnings, *head.warnings):
            print(f"note: {line}")
        yaw, pitch = head.pose[:2]
        print(f"head pose: yaw {yaw:+.0f}, pitch {pitch:+.0f} degrees; wrote {', '.join(map(str, files))}")
