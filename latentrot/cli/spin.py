"""The commands `spin`, `train person` and `train spin`, for the multi-view model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from latentrot.cli.common import FrameOptions, TrainOptions, check_folder, check_minimum
from latentrot.errors import LatentrotError
from latentrot.files import check_writable

if TYPE_CHECKING:
    from latentrot.portrait.portrait import Portrait
    from latentrot.portrait.spin import Spun
    from latentrot.rotators.spin.rotator import SpinRotator

__all__ = ["Spin", "TrainPerson", "TrainSpin"]


@dataclass(frozen=True)
class Spin:
    """Generate views around a head: of a photograph, or of a new person.

    The bundled model generates 64 pixels. Views of a photograph are composed in its own resolution: what it shows is rendered
    from its own pixels, and the generated views only correct what geometry has to make up. New people have 64 pixels.
    """

    image: Annotated[Path | None, tyro.conf.Positional] = None
    """the photograph, or an image of a head"""
    out: Path = Path("spin")
    """output folder: views/, normals/, poses.csv, sheet.png, the turntable and the mesh"""
    views: int = 48
    """number of views, evenly spaced over the span"""
    span: float = 360.0
    """arc of the views in degrees of yaw, centred on the front: 360 all around, 180 from profile to profile, 120 for +-60"""
    pitch: float = 0.0
    """pitch of the views in degrees; positive looks up"""
    new: bool = False
    """sample a new identity instead of reading a photograph; it depends on --seed"""
    between: tuple[Path, Path] | None = None
    """interpolate between the identity embeddings of the people in two images: between.png and between.gif"""
    seed: int = 0
    """seed of the noise"""
    model: str | None = None
    """folder written by train spin; by default the bundled spin64-geometry for images, and spin64 for --new and --between"""
    identity: Path | None = None
    """weights that were passed to train spin as --identity; without them such a model has no identity condition"""
    steps: int | None = None
    """number of sampling steps; by default 1 with geometry, which gives the mean, else 16"""
    guidance: float | None = None
    """guidance scale of image and identity; 1: no guidance, the default with geometry; else 3"""
    face: str = "largest"
    """face in the photograph: largest, or a number (0 is the largest)"""
    crop: bool = False
    """the images are already square crops in the CelebA frame"""
    motion: Literal["gif", "webp", "mp4"] = "gif"
    """format of the turntable or the interpolation; mp4 needs PyAV"""
    mesh: Literal["glb", "ply", "none"] = "glb"
    """format of the mesh; needs trimesh"""
    device: str | None = None
    """cpu, cuda or cuda:N; by default cuda if available"""

    def run(self) -> None:
        """Detect the face, generate the views and write the files."""
        self.check()
        from latentrot.portrait.spin import spin_between, spin_new, spin_photograph, write_between  # noqa: PLC0415

        if self.between is not None:
            portraits = [self.open(path) for path in self.between]
            rotator = self.rotator()
            provenance = {"source": ", ".join(path.name for path in self.between), "model": rotator.name}
            files = write_between(spin_between(portraits, rotator), self.out, provenance, motion=self.motion)
        elif self.image is not None:
            portrait = self.open(self.image)
            files = self.write(spin_photograph(portrait, self.rotator(), self.views, self.pitch, self.span))
        else:
            files = self.write(spin_new(self.rotator(), self.views, self.pitch, self.span))
        print("wrote " + ", ".join(map(str, files)))

    def write(self, spun: Spun) -> list[Path]:
        """Print the warnings and write the files."""
        from latentrot.portrait.spin import write_spun  # noqa: PLC0415

        for warning in spun.warnings:
            print(f"note: {warning}")
        for (yaw, _), distance in zip(spun.views.pose, () if spun.distances is None else spun.distances, strict=False):
            print(f"yaw {yaw:+.0f}: identity distance (1 - cosine) {distance:.3f}")
        return write_spun(spun, self.out, motion=self.motion, mesh=None if self.mesh == "none" else self.mesh)

    def check(self) -> None:
        """Refuse invalid options before slow imports."""
        modes = [self.image is not None, self.new, self.between is not None]
        if sum(modes) != 1:
            raise LatentrotError("expected exactly one of: an image, --new, --between A B")
        check_minimum("--views", self.views, 1)
        if not 0 < self.span <= 360:
            raise LatentrotError(f"--span {self.span}: expected more than 0, up to 360 degrees")
        if not abs(self.pitch) <= 45:
            raise LatentrotError(f"--pitch {self.pitch}: expected -45 to 45 degrees")
        if self.out.suffix:
            raise LatentrotError(f"--out {self.out}: expected a folder, a name without a suffix")
        check_writable(self.out)
        if self.motion == "mp4":
            from latentrot.data.video import check_pyav  # noqa: PLC0415

            check_pyav("--motion mp4 (gif and webp do not)")
        if self.mesh != "none" and self.between is None:
            from importlib.util import find_spec  # noqa: PLC0415

            if find_spec("trimesh") is None:
                raise LatentrotError("the mesh needs trimesh: pip install 'latentrot[mesh]', or give --mesh none")

    def open(self, path: Path) -> Portrait:
        """Open an image and detect its face."""
        from latentrot.portrait.portrait import EditConfig, open_portrait  # noqa: PLC0415

        if self.face == "all":
            raise LatentrotError(
                "--face all is not supported: spin supports one face only; give largest, or a number from 0"
            )
        return open_portrait(path, EditConfig(face=self.face, crop=self.crop, device=self.device))

    def rotator(self) -> SpinRotator:
        """Load the model."""
        from latentrot.rotators.spin.config import NEW_PEOPLE  # noqa: PLC0415
        from latentrot.rotators.spin.options import SpinOptions  # noqa: PLC0415

        model = self.model or (None if self.image is not None else NEW_PEOPLE)
        return SpinOptions(model, self.identity, self.steps, self.guidance, self.seed).load(self.device)


@dataclass(frozen=True, kw_only=True)
class HeadOptions(TrainOptions):
    """Options of the commands that train on rendered heads."""

    heads: Path | None = None
    """folder for the rendered heads; by default OUT/heads"""
    workers: int = 1
    """number of rendering processes"""
    face_model: Path = Path("../shared/data/ict/ict_face_model_light.npz")
    """face model written by latentrot heads import"""


@dataclass(frozen=True, kw_only=True)
class TrainPerson(HeadOptions):
    """Train the identity network that a multi-view model is conditioned on; resumes to the exact step.

    Training data are rendered heads, which train spin can reuse (--heads), and photographs with known identities.
    """

    data: tuple[Path, ...] = ()
    """folders of photographs in CelebA's layout with identity_CelebA.csv"""
    people: int = 600
    """number of rendered heads; 0: none"""
    frame: Annotated[FrameOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=FrameOptions)

    def run(self) -> None:
        """Render the heads, train and write the network."""
        for folder in self.data:
            check_folder(folder)
        self.check()
        if self.people < 1 and not self.data:
            raise LatentrotError("no training data; give --people, or --data with folders of photographs")
        self.frame.check(self.data, self.device)
        from latentrot.rotators.spin.config import SpinConfig  # noqa: PLC0415
        from latentrot.synthetic.views import read_head_views, render_views  # noqa: PLC0415
        from latentrot.training.face.config import FaceTrainConfig  # noqa: PLC0415
        from latentrot.training.person import PERSON_CONFIG, train_person  # noqa: PLC0415
        from latentrot.training.spin import SEED, SIZE  # noqa: PLC0415

        views = None
        if self.people > 0:
            spin = SpinConfig()
            options = {"seed": SEED + spin.seed, "views": spin.views, "size": SIZE, "plain": spin.plain}
            folder = self.heads or self.out / "heads"
            views = read_head_views(
                render_views(folder, range(self.people), **options, workers=self.workers, ict=self.face_model)
            )
        config = self.config(FaceTrainConfig, lambda: PERSON_CONFIG)
        path = train_person(views, self.data, self.out, config, save_every=self.save_every, device=self.device)
        print(f"wrote {path}")


@dataclass(frozen=True, kw_only=True)
class TrainSpin(HeadOptions):
    """Train a multi-view model, which generates a head from any side; resumes to the exact step.

    The heads are rendered once, before training, and stored in OUT/heads: a few seconds each on one core. So are the
    geometric conditions, and the pairs of photographs.
    """

    data: tuple[Path, ...] = ()
    """folders of photographs with poses beside them (pose.csv, from label), which teach the model photographs; with clip.csv,
    two images of one scene are a pair, else a photograph and itself rotated away by geometry"""
    geometry: bool | None = None
    """condition the model on the head that geometry fits to the given view; --no-geometry: as published"""
    photographs: float | None = None
    """share of the steps that train on photographs, if --data is given"""
    sources: int | None = None
    """number of photographs to make pairs from, over all folders"""
    person: Path | None = None
    """identity network written by train person; by default that of the multi-view model in --start; without either the
    model has no identity condition"""
    identity: Path | None = None
    """instead of --person: weights of facenet-pytorch's InceptionResnetV1 (20180402-114759-vggface2.pt). They are not copied;
    everyone who uses the model needs the same file"""
    start: str | None = None
    """initial model: a diffusers folder, a Hub id, a bundled model, or a multi-view model; by default heads64"""
    people: int | None = None
    """number of rendered heads"""
    views: int | None = None
    """number of images of each head"""
    together: int | None = None
    """number of views sampled together"""
    single_steps: int | None = None
    """number of initial steps with one given view per sample"""
    attention: int | None = None
    """max side of the feature maps with attention across views; a multi-view --start keeps its own"""
    frame: Annotated[FrameOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=FrameOptions)

    def run(self) -> None:
        """Render the heads, train and write the model."""
        for folder in self.data:
            check_folder(folder)
        self.check()
        from latentrot.rotators.spin.config import SpinConfig  # noqa: PLC0415
        from latentrot.training.spin import train_spin  # noqa: PLC0415

        self.frame.check(self.data, self.device)
        model = train_spin(
            self.out, self.config(SpinConfig), person=self.person, identity=self.identity, heads=self.heads,
            data=self.data, save_every=self.save_every, workers=self.workers, device=self.device, ict=self.face_model,
        )  # fmt: skip
        print(f"wrote {model}")
