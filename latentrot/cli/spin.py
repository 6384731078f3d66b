"""Heads from all around: `spin`, `train person`, `train spin`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from latentrot.cli.common import FrameOptions, at_least, check_folder, given_of
from latentrot.errors import LatentrotError
from latentrot.files import check_writable

if TYPE_CHECKING:
    from latentrot.portrait.portrait import Portrait
    from latentrot.portrait.spin import Spun
    from latentrot.rotators.spin.rotator import SpinRotator

__all__ = ["Spin", "TrainPerson", "TrainSpin"]

ICT = Path("../shared/data/ict/ict_face_model_light.npz")


@dataclass(frozen=True)
class Spin:
    """Draw a head from all around: of a photograph, or of a new person."""

    image: Annotated[Path | None, tyro.conf.Positional] = None
    """the photograph, or an image of a head"""
    out: Path = Path("spin")
    """folder for views/, normals/, poses.csv, sheet.png, the turntable and the mesh"""
    views: int = 48
    """views, evenly all around"""
    pitch: float = 0.0
    """of the views, degrees; positive looks up"""
    new: bool = False
    """somebody who does not exist, instead of a photograph; --seed says who"""
    between: tuple[Path, Path] | None = None
    """people between those in two images, by their identities alone: between.png, and between.gif in motion"""
    seed: int = 0
    """of the noise"""
    model: str | None = None
    """a folder that train spin wrote; by default spin64, where it comes along"""
    identity: Path | None = None
    """the weights that the model was trained with by train spin --identity; without them it is told nobody"""
    steps: int | None = None
    """of the sampler; fewer are quicker and blur"""
    guidance: float | None = None
    """how much image and identity count; 1 as trained"""
    face: str = "largest"
    """which face of the photograph: largest, or its number"""
    crop: bool = False
    """the images are already square crops in the CelebA frame"""
    motion: Literal["gif", "webp", "mp4"] = "gif"
    """format of what moves, turntable.gif or between.gif; mp4 needs PyAV"""
    mesh: Literal["glb", "ply", "none"] = "glb"
    """format of the mesh, head.glb, which needs trimesh"""
    device: str | None = None
    """cpu, cuda or cuda:N; by default cuda where there is one"""

    def run(self) -> None:
        """Find the face, draw, write."""
        self.check()
        from latentrot.portrait.spin import spin_between, spin_new, spin_photograph, write_between  # noqa: PLC0415

        if self.between is not None:
            founds = [self.found(path) for path in self.between]
            rotator = self.rotator()
            facts = {"source": ", ".join(path.name for path in self.between), "model": rotator.name}
            files = write_between(spin_between(founds, rotator), self.out, facts, motion=self.motion)
        elif self.image is not None:
            found = self.found(self.image)
            files = self.write(spin_photograph(found, self.rotator(), self.views, self.pitch))
        else:
            files = self.write(spin_new(self.rotator(), self.views, self.pitch))
        print("wrote " + ", ".join(map(str, files)))

    def write(self, spun: Spun) -> list[Path]:
        """Say what should be known, write the files."""
        from latentrot.portrait.spin import write_spun  # noqa: PLC0415

        for note in spun.warnings:
            print(f"note: {note}")
        return write_spun(spun, self.out, motion=self.motion, mesh=None if self.mesh == "none" else self.mesh)

    def check(self) -> None:
        """Refuse what cannot be drawn or written, before anything slow is loaded."""
        asked = [self.image is not None, self.new, self.between is not None]
        if sum(asked) != 1:
            raise LatentrotError("give one of: a picture, --new, --between A B")
        at_least("--views", self.views, 1)
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

    def found(self, path: Path) -> Portrait:
        """A photograph and the face in it."""
        from latentrot.portrait.portrait import EditConfig, open_portrait  # noqa: PLC0415

        if self.face == "all":
            raise LatentrotError("--face all: one head is drawn; give largest, or its number from 0")
        return open_portrait(path, EditConfig(face=self.face, crop=self.crop, device=self.device))

    def rotator(self) -> SpinRotator:
        """The model."""
        from latentrot.rotators.spin.options import SpinOptions  # noqa: PLC0415

        return SpinOptions(self.model, self.identity, self.steps, self.guidance, self.seed).load(self.device)


@dataclass(frozen=True)
class TrainPerson:
    """Train the network that tells people apart, whose embeddings a multi-view model is told; resumes to the exact step.

    It learns from rendered heads, which are rendered first and which train spin can use again, and from photographs of
    known people.
    """

    out: Path
    """run folder: heads/, checkpoint, log, person.safetensors"""
    data: tuple[Path, ...] = ()
    """folders of photographs in CelebA's layout with identity_CelebA.csv"""
    people: int = 600
    """rendered heads; 0: none"""
    heads: Path | None = None
    """folder of the rendered heads; by default OUT/heads"""
    steps: int | None = None
    """optimiser steps in all"""
    batch_size: int | None = None
    """images a step"""
    learning_rate: float | None = None
    """AdamW's peak rate"""
    seed: int | None = None
    """of everything random"""
    save_every: int = 500
    """steps between checkpoints"""
    workers: int = 1
    """processes that render"""
    device: str | None = None
    """cpu, cuda or cuda:N; by default cuda where there is one"""
    face_model: Path = ICT
    """made by: latentrot heads import"""
    frame: Annotated[FrameOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=FrameOptions)

    def run(self) -> None:
        """Render, read, train, say how well people held out are told apart."""
        for folder in self.data:
            check_folder(folder)
        for name in ("save_every", "workers", "steps", "batch_size"):
            at_least(f"--{name.replace('_', '-')}", getattr(self, name) or 1, 1)
        if self.people < 1 and not self.data:
            raise LatentrotError("nobody to learn from; give --people, or --data with folders of photographs")
        check_writable(self.out / "log.csv")
        self.frame.check(self.data, self.device)
        from dataclasses import replace  # noqa: PLC0415

        from latentrot.rotators.spin.config import SpinConfig  # noqa: PLC0415
        from latentrot.synthetic.views import read_views, render_views  # noqa: PLC0415
        from latentrot.training.face.config import FaceTrainConfig  # noqa: PLC0415
        from latentrot.training.person import PERSON_CONFIG, train_person  # noqa: PLC0415
        from latentrot.training.spin import SEED, SIZE  # noqa: PLC0415

        views = None
        if self.people > 0:
            spin = SpinConfig()
            options = {"seed": SEED + spin.seed, "views": spin.views, "size": SIZE, "plain": spin.plain}
            folder = self.heads or self.out / "heads"
            views = read_views(
                render_views(folder, range(self.people), **options, workers=self.workers, ict=self.face_model)
            )
        config = replace(PERSON_CONFIG, **given_of(self, FaceTrainConfig))
        path = train_person(views, self.data, self.out, config, save_every=self.save_every, device=self.device)
        print(f"wrote {path}")


@dataclass(frozen=True)
class TrainSpin:
    """Train, or go on training, a multi-view model that draws a head from all around; resumes to the exact step.

    Heads are rendered first, once, and kept in the run's folder: some seconds each on one core.
    """

    out: Path
    """run folder: heads/, checkpoint, log, sample sheets, model/"""
    person: Path | None = None
    """a network that train person wrote, which tells the model who it is; by default that of a multi-view --start, or nobody
    is named"""
    identity: Path | None = None
    """instead: weights of facenet-pytorch's InceptionResnetV1 (20180402-114759-vggface2.pt), which you have; they are not
    copied, so that whoever draws with the model needs them too"""
    heads: Path | None = None
    """folder of the rendered heads; by default OUT/heads"""
    start: str | None = None
    """the model to start from: a diffusers folder, a Hub id or a bundled model, or a multi-view model; by default heads64"""
    people: int | None = None
    """rendered heads"""
    views: int | None = None
    """images of each"""
    together: int | None = None
    """views drawn together"""
    single_steps: int | None = None
    """steps at the start with one view given"""
    attention: int | None = None
    """the finest maps that look across views, side in places; a multi-view --start keeps its own"""
    steps: int | None = None
    """optimiser steps in all"""
    batch_size: int | None = None
    """samples a step"""
    learning_rate: float | None = None
    """AdamW's peak rate"""
    decay: int | None = None
    """steps of the final linear decay of the rate"""
    seed: int | None = None
    """of everything random"""
    save_every: int = 500
    """steps between checkpoints; the first of a run is written after a minute"""
    workers: int = 1
    """processes that render"""
    device: str | None = None
    """cpu forces the CPU"""
    face_model: Path = ICT
    """made by: latentrot heads import"""

    def run(self) -> None:
        """Train with the options given; the others come from the run's checkpoint or the defaults."""
        at_least("--save-every", self.save_every, 1)
        at_least("--workers", self.workers, 1)
        check_writable(self.out / "checkpoint.safetensors")
        from dataclasses import replace  # noqa: PLC0415

        from latentrot.rotators.spin.config import SpinConfig  # noqa: PLC0415
        from latentrot.training.checkpoints import checkpoint_config  # noqa: PLC0415
        from latentrot.training.spin import train_spin  # noqa: PLC0415

        checkpoint = self.out / "checkpoint.safetensors"
        base = checkpoint_config(checkpoint, SpinConfig) if checkpoint.is_file() else SpinConfig()
        config = replace(base, **given_of(self, SpinConfig))
        model = train_spin(
            self.out, config, person=self.person, identity=self.identity, heads=self.heads, save_every=self.save_every,
            workers=self.workers, device=self.device, ict=self.face_model,
        )  # fmt: skip
        print(f"wrote {model}")
