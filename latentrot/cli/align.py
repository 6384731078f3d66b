"""The command `align`: align photographs to the CelebA frame."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from latentrot.cli.common import check_minimum
from latentrot.errors import LatentrotError, one_line
from latentrot.files import check_writable

__all__ = ["Align"]


@dataclass(frozen=True)
class Align:
    """Align the faces of a folder to the CelebA frame, for label, embed and train.

    Writes NAME.png for each photograph, and transforms.csv with one row per image. Photographs that cannot be aligned are
    listed, and the exit code is then 2.
    """

    source: Annotated[Path, tyro.conf.Positional]
    """a photograph, or a folder of photographs; its subfolders are included"""
    out: Path = Path("aligned")
    """output folder for the aligned images"""
    size: int | None = None
    """write the square face crop with this side in pixels; by default the whole frame, 178x218"""
    people: bool = False
    """the photographs lie in one subfolder per person; also write identity_CelebA.csv, by which training holds out people"""
    device: str | None = None
    """cpu, cuda or cuda:N; by default cuda if available"""

    def run(self) -> None:
        """Align and write the photographs; list those that cannot be aligned."""
        if self.size is not None:
            check_minimum("--size", self.size, 16)
        from latentrot.faces.align import align_folder, identity_table, people_of, photographs_in, transform_table  # noqa: PLC0415
        from latentrot.output import output_folder  # noqa: PLC0415

        if not self.source.exists():
            raise LatentrotError(
                f"no such folder: {one_line(self.source)}; give a photograph or a folder of photographs"
            )
        paths = photographs_in(self.source)
        people = people_of(paths, self.source) if self.people else {}
        if self.out.resolve() in (self.source.resolve(), *self.source.resolve().parents):
            raise LatentrotError(
                f"{one_line(self.out)} contains the source photographs; choose another folder for --out"
            )
        check_writable(self.out)
        from latentrot.devices import resolve_device  # noqa: PLC0415
        from latentrot.progress import Progress  # noqa: PLC0415

        device = str(resolve_device(self.device))
        done = []
        with output_folder(self.out) as written, Progress("align", len(paths)) as bar:
            for aligned in align_folder(paths, self.out, self.size, device):
                done.append(aligned)
                bar.update()
                if not aligned.error:
                    written.add(self.out / aligned.name)
            written.write_csv(self.out / "transforms.csv", transform_table(done, self.source))
            if people:
                written.write_csv(self.out / "identity_CelebA.csv", identity_table(done, people))
        failed = [a for a in done if a.error]
        print(f"aligned {len(done) - len(failed)} of {len(done)} photographs; wrote {one_line(self.out)}")
        for a in failed:
            print(f"{one_line(a.path)}: {a.error}", file=sys.stderr)
        if failed:
            raise LatentrotError(f"{len(failed)} of {len(done)} photographs could not be aligned")
