"""A head as a mesh: `mesh`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from latentrot.files import check_writable

__all__ = ["Mesh"]


@dataclass(frozen=True)
class Mesh:
    """Write the head in a photograph as a textured 3D mesh that any viewer opens."""

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
        from latentrot.data.images import read_image  # noqa: PLC0415
        from latentrot.devices import resolve_device  # noqa: PLC0415
        from latentrot.faces.detect import choose_face, detect_faces  # noqa: PLC0415
        from latentrot.geometry.export import export_head  # noqa: PLC0415
        from latentrot.rotators.mesh import MeshRotator  # noqa: PLC0415

        photograph = read_image(self.image)
        device = str(resolve_device(self.device))
        faces = detect_faces(photograph, device)
        face, note = choose_face(faces, self.face)
        head = MeshRotator(device=device).head_of(photograph, face, faces)
        export_head(head, self.out)
        for line in filter(None, (note, *head.notes)):
            print(line)
        print(f"a head turned by {head.pose[0]:+.0f} degrees, pitch {head.pose[1]:+.0f}; wrote {self.out}")
