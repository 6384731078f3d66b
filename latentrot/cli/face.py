"""The face's two estimators anew: `train-face`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from latentrot.cli.common import at_least, given_of
from latentrot.errors import LatentrotError

__all__ = ["TrainFace"]


@dataclass(frozen=True)
class TrainFace:
    """Train the network of landmarks or of parts; goes on where it stopped, to the exact step."""

    which: Annotated[Literal["landmarks", "parts"], tyro.conf.Positional]
    """landmarks: 68 points; parts: background, skin, hair, ears, neck, clothes, accessories"""
    data: Path
    """folder with ytf/, lfw/ and celeba/ for landmarks; parts/ and lfw/ for parts"""
    out: Path
    """run folder: checkpoint, log, and the network's file"""
    teacher: Path | None = None
    """table of a teacher's landmarks (.parquet or .csv: image, disagreement, x0, y0 ... x67, y67), as
    experiments/teach_landmarks.py writes it; with parts by default the bundled network's own, kept in OUT/marks.parquet"""
    init: str | None = None
    """a network's file to begin with, such as the bundled one's; by default random weights"""
    masks: Path | None = None
    """with parts: folder of a teacher's masks, as experiments/teach_parts.py writes it, to learn from beside those
    made by hand"""
    steps: int | None = None
    """optimiser steps in all"""
    batch_size: int | None = None
    """squares a step"""
    learning_rate: float | None = None
    """AdamW's peak rate"""
    seed: int | None = None
    """of everything random"""
    save_every: int = 250
    """steps between checkpoints"""

    def run(self) -> None:
        """Read, train, say how far it errs on people held out."""
        from latentrot.devices import resolve_device  # noqa: PLC0415
        from latentrot.diffusion.precision import computes_bfloat16  # noqa: PLC0415
        from latentrot.files import check_writable  # noqa: PLC0415
        from latentrot.training import face as training  # noqa: PLC0415
        from latentrot.training.face import FaceTrainConfig, read_teacher  # noqa: PLC0415

        for name in ("save_every", "steps", "batch_size"):
            at_least(f"--{name.replace('_', '-')}", getattr(self, name) or 1, 1)
        if self.masks is not None and self.which == "landmarks":
            raise LatentrotError("--masks is for parts; leave it out with landmarks")
        if self.teacher is None and self.which == "landmarks":
            raise LatentrotError("landmarks are learned from a table of them; give --teacher")
        check_writable(self.out / "log.csv")
        self.check_init()
        teacher = read_teacher(self.teacher or self.marks())
        config = FaceTrainConfig(**given_of(self, FaceTrainConfig))
        half = computes_bfloat16(resolve_device("cpu"))
        if self.which == "landmarks":
            faces = training.landmark_faces(self.data, teacher, config.held_out)
            path = training.train_landmarks(faces, self.out, config, bfloat16=half, save_every=self.save_every)
        else:
            faces = training.parts_faces(self.data, teacher, self.masks, config.held_out)
            path = training.train_parts(faces, self.out, config, bfloat16=half, save_every=self.save_every)
        print(f"wrote {path}")

    def check_init(self) -> None:
        """Refuse a start that is no such network, before photographs are read."""
        from latentrot.faces.face_networks import LandmarkNetwork, PartsNetwork, load_face_network  # noqa: PLC0415

        if self.init is None:
            return
        if self.which == "landmarks":
            load_face_network(LandmarkNetwork, Path(self.init))
        else:
            load_face_network(PartsNetwork, Path(self.init))

    def marks(self) -> Path:
        """The bundled network's landmarks of the photographs with masks, found once."""
        from latentrot.files import write_atomically  # noqa: PLC0415
        from latentrot.training.face import marks_of, masked_photographs  # noqa: PLC0415

        path = self.out / "marks.parquet"
        if not path.is_file():
            table = marks_of(self.data, list(masked_photographs(self.data, self.masks)["image"]))
            self.out.mkdir(parents=True, exist_ok=True)
            write_atomically(path, table.to_parquet)
        return path
