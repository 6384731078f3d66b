"""The commands `heads make`, `heads import` and `heads surface`, for rendered heads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from latentrot.files import check_writable

if TYPE_CHECKING:
    from latentrot.synthetic.write import ViewGrid

__all__ = ["Heads", "HeadsImport", "HeadsMake", "HeadsSurface"]


@dataclass(frozen=True)
class HeadsMake:
    """Render a folder of heads in CelebA's layout, with exact pose, light, identity and landmarks.

    Resumes after an interruption. The same seed gives the same images, bit for bit.
    """

    out: Path
    """output folder"""
    count: int = 1000
    """number of heads; with --views each head has several views"""
    seed: int = 0
    """seed of the heads; seeds from 1000000 up are reserved for testing: do not train or tune on them"""
    size: int = 64
    """side of the square images in pixels"""
    jobs: int = 2
    """number of processes"""
    maps: bool = False
    """also write masks/ (0 background, 1 face, 2 hair) and normals/"""
    views: bool = False
    """render several views of every head that differ in pose only; from head to head the light cycles left, center, right"""
    yaws: str = "-90:90:15"
    """with --views: yaws in degrees, FROM:TO:STEP or a list such as -30,0,30; positive: nose to the viewer's right"""
    pitches: str = "0"
    """with --views: pitches in degrees, in the same form; positive: looks up"""
    same_light: bool = False
    """with --views: give all heads with light from the same side the same light and background"""
    yaw_sd: float = 20.0
    """without --views: standard deviation of the yaw in degrees"""
    yaw_max: float = 60.0
    """without --views: max yaw to either side"""
    model: Path | None = None
    """face model; by default the output of `latentrot heads import`"""

    def run(self) -> None:
        """Render the missing images and write the tables."""
        check_writable(self.out / "heads.json")
        from latentrot.synthetic.head_model import ICT_PATH  # noqa: PLC0415
        from latentrot.synthetic.sample import HeadConfig  # noqa: PLC0415
        from latentrot.synthetic.write import HeadFolder, write_heads  # noqa: PLC0415

        config = HeadConfig(yaw_sd=self.yaw_sd, yaw_max=self.yaw_max)
        model = self.model or ICT_PATH
        folder = HeadFolder(self.seed, self.count, self.size, self.maps, config, self.chosen_views(), model)
        drawn = write_heads(folder, self.out, self.jobs)
        print(f"rendered {drawn} of {folder.image_count} images of {self.count} heads; wrote {self.out}")

    def chosen_views(self) -> ViewGrid | None:
        """The selected grid of views; None without --views."""
        from latentrot.synthetic.write import ViewGrid, parse_degrees  # noqa: PLC0415

        if not self.views:
            return None
        return ViewGrid(parse_degrees(self.yaws), parse_degrees(self.pitches), self.same_light)


@dataclass(frozen=True)
class HeadsImport:
    """Convert a clone of ICT Face Model Light's repository into the arrays that heads are rendered from."""

    clone: tyro.conf.Positional[Path]
    """the cloned repository, or the folder FaceXModel inside it"""
    out: Path | None = None
    """output .npz file; by default where `latentrot heads make` reads it"""

    def run(self) -> None:
        """Convert the model."""
        from latentrot.synthetic.head_model import ICT_PATH  # noqa: PLC0415

        check_writable(self.out or ICT_PATH)
        from latentrot.synthetic.ict import import_ict, write_ict  # noqa: PLC0415

        model, out = import_ict(self.clone), self.out or ICT_PATH
        write_ict(model, out)
        print(f"{len(model.base)} vertices, {len(model.ids)} identities, {len(model.expr)} expressions; wrote {out}")


@dataclass(frozen=True)
class HeadsSurface:
    """Cut the fitted surface, an ear and the whole head out of the face model; the package contains all three."""

    model: Path | None = None
    """face model; by default the output of `latentrot heads import`"""
    out: Path | None = None
    """output .safetensors file of the surface; the others are written beside it; by default the files in the package"""

    def run(self) -> None:
        """Write the three files."""
        from latentrot.geometry.ear import EAR_PATH, make_ear, write_ear  # noqa: PLC0415
        from latentrot.geometry.surface import SURFACE_PATH, make_surface, write_surface  # noqa: PLC0415
        from latentrot.geometry.template import TEMPLATE_PATH, make_template, write_template  # noqa: PLC0415
        from latentrot.synthetic.head_model import ICT_PATH  # noqa: PLC0415
        from latentrot.synthetic.ict import read_ict  # noqa: PLC0415

        check_writable(self.out or SURFACE_PATH)
        model, out = read_ict(self.model or ICT_PATH), self.out or SURFACE_PATH
        surface, ear, template = make_surface(model), make_ear(model), make_template(model)
        write_surface(surface, out)
        write_ear(ear, out.with_name(EAR_PATH.name))
        write_template(template, out.with_name(TEMPLATE_PATH.name))
        print(
            f"surface: {len(surface.mean)} vertices, {len(surface.identities)} identities; ear: {len(ear.points)} vertices; "
            f"head: {len(template.mean)} vertices; wrote {out}, {EAR_PATH.name}, {TEMPLATE_PATH.name}"
        )


@dataclass(frozen=True)
class Heads:
    """Render synthetic heads with exact labels; import the face model."""

    action: tyro.conf.OmitSubcommandPrefixes[
        Annotated[HeadsMake, tyro.conf.subcommand("make")]
        | Annotated[HeadsImport, tyro.conf.subcommand("import")]
        | Annotated[HeadsSurface, tyro.conf.subcommand("surface")]
    ]

    def run(self) -> None:
        """Run the chosen subcommand."""
        self.action.run()
