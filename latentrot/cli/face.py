"""The commands `train landmarks` and `train parts`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from latentrot.cli.common import TrainOptions

__all__ = ["TrainLandmarks", "TrainParts"]


@dataclass(frozen=True, kw_only=True)
class FaceOptions(TrainOptions):
    """Options of `train landmarks` and `train parts`."""

    data: Path
    """folder with ytf/, lfw/ and celeba/ to train landmarks, or with parts/ and lfw/ to train parts"""
    init: str | None = None
    """network file to initialise the weights from, such as the bundled one; by default random weights"""
    save_every: int = 250
    """steps between checkpoints; the first one of a run is written after a minute"""


@dataclass(frozen=True, kw_only=True)
class TrainLandmarks(FaceOptions):
    """Train the network for 68 landmarks; resumes to the exact step."""

    teacher: Path = Path("marks.parquet")
    """table of a teacher's landmarks (.parquet or .csv: image, disagreement, x0, y0 ... x67, y67), as
    experiments/teach_landmarks.py writes it"""

    def run(self) -> None:
        """Read the images, train and write the network."""
        self.check()
        from latentrot.faces.face_networks import LandmarkNetwork, load_face_network  # noqa: PLC0415
        from latentrot.training.face.config import FaceTrainConfig  # noqa: PLC0415
        from latentrot.training.face.faces import landmark_faces, read_teacher  # noqa: PLC0415
        from latentrot.training.face.train import train_face  # noqa: PLC0415

        config = self.config(FaceTrainConfig)
        if self.init is not None:
            load_face_network(LandmarkNetwork, Path(self.init))
        faces = landmark_faces(self.data, read_teacher(self.teacher), config.held_out)
        path = train_face("landmarks", faces, self.out, config, save_every=self.save_every, device=self.device)
        print(f"wrote {path}")


@dataclass(frozen=True, kw_only=True)
class TrainParts(FaceOptions):
    """Train the face parsing network (background, skin, hair, ears, neck, clothes, accessories); resumes exactly."""

    teacher: Path | None = None
    """table of landmarks as for `train landmarks`; by default the bundled network's landmarks, stored in OUT/marks.parquet"""
    masks: Path | None = None
    """folder of a teacher's masks written by experiments/teach_parts.py, used in addition to hand-made masks"""

    def run(self) -> None:
        """Read the images, train and write the network."""
        self.check()
        from latentrot.faces.face_networks import PartsNetwork, load_face_network  # noqa: PLC0415
        from latentrot.training.face.config import FaceTrainConfig  # noqa: PLC0415
        from latentrot.training.face.faces import parts_faces, read_teacher  # noqa: PLC0415
        from latentrot.training.face.train import train_face  # noqa: PLC0415

        config = self.config(FaceTrainConfig)
        if self.init is not None:
            load_face_network(PartsNetwork, Path(self.init))
        teacher = read_teacher(self.teacher or self.marks())
        faces = parts_faces(self.data, teacher, self.masks, config.held_out)
        path = train_face("parts", faces, self.out, config, save_every=self.save_every, device=self.device)
        print(f"wrote {path}")

    def marks(self) -> Path:
        """Table of the bundled network's landmarks for the photographs with masks, written once."""
        from latentrot.files import write_atomically  # noqa: PLC0415
        from latentrot.training.face.faces import estimate_marks, masked_photographs  # noqa: PLC0415

        path = self.out / "marks.parquet"
        if not path.is_file():
            table = estimate_marks(self.data, list(masked_photographs(self.data, self.masks)["image"]))
            self.out.mkdir(parents=True, exist_ok=True)
            write_atomically(path, table.to_parquet)
        return path
