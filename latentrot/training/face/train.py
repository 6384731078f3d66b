"""Train the landmark network and the face parsing network on photographs with landmarks and masks.

The labels are made by hand, or predicted by a larger network in a separate program; predicted labels cover more people.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from latentrot.faces.face_networks import LandmarkNetwork, PartsNetwork, load_face_network, save_face_network
from latentrot.training.checkpoints import check_same_run, checkpoint_config, images_of_run
from latentrot.training.face.batches import landmark_batch, parts_batch
from latentrot.training.face.config import FaceTrainConfig
from latentrot.training.face.errors import landmark_errors, parts_errors
from latentrot.training.face.faces import Faces
from latentrot.training.face.losses import joined_parts, landmark_loss, parts_loss
from latentrot.training.loop import CHECKPOINT, channels_last, run_training

__all__ = ["train_face"]

log = logging.getLogger(__name__)

DATA = "YouTube Faces stills, LFW, CelebA, CelebAMask-HQ, LFW Part Labels, FASSEG, CCP; research use only"


@dataclass(frozen=True, eq=False)
class FaceTask:
    """Training task of a face network.

    Args:
        learned: faces to train on.
        tests: faces of held-out people.
        config: configuration of the run.
    """

    learned: Faces
    tests: Faces
    config: FaceTrainConfig

    #: file name of the network in the run folder, and function that measures its errors on held-out people
    name: ClassVar[str]
    errors: ClassVar[Callable[[nn.Module, Faces], dict]]

    def export(self, out: Path, average: Any, step: int) -> None:
        """Write the averaged network with its errors on held-out people."""
        errors = type(self).errors(average.eval(), self.tests)
        log.info("step %d: %s", step, errors)
        save_face_network(average, out / self.name, {"held_out": errors, "config": asdict(self.config), "data": DATA})


class LandmarkTask(FaceTask):
    """Training task of the landmark network."""

    name = "landmarks.safetensors"
    errors = staticmethod(landmark_errors)

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """See `landmark_batch`."""
        return landmark_batch(self.learned, step, self.config)

    def loss(self, model: Any, batch: tuple[Tensor, ...]) -> Tensor:
        """See `landmark_loss`."""
        x, wanted = batch
        points, scatter = model(channels_last(x))
        return landmark_loss(points, scatter, wanted)


class PartsTask(FaceTask):
    """Training task of the face parsing network."""

    name = "parts.safetensors"
    errors = staticmethod(parts_errors)

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """See `parts_batch`; the data set of each image is given by its `joined_parts`."""
        x, wanted, sets = parts_batch(self.learned, step, self.config)
        return x, wanted, torch.stack([joined_parts(str(name)) for name in sets])

    def loss(self, model: Any, batch: tuple[Tensor, ...]) -> Tensor:
        """See `parts_loss`."""
        x, wanted, joined = batch
        return parts_loss(model(channels_last(x)), wanted, joined)


#: name -> network and task
TAUGHT = {"landmarks": (LandmarkNetwork, LandmarkTask), "parts": (PartsNetwork, PartsTask)}


def train_face(
    which: Literal["landmarks", "parts"], faces: Faces, out: Path, config: FaceTrainConfig, *, save_every: int = 500,
    device: str | None = None,
) -> Path:  # fmt: skip
    """Train a face network, or resume its training exactly.

    Args:
        which: name of the network.
        faces: from `landmark_faces` or `parts_faces`.
        out: run folder: checkpoint.safetensors, log.csv and the network.
        config: configuration of the run.
        save_every: steps between checkpoints.
        device: "cpu", "cuda" or "cuda:N"; None: accelerate decides.

    Returns:
        File of the network.

    Raises:
        LatentrotError: `out` contains a checkpoint of another run or of other images.
    """
    kind, task = TAUGHT[which]
    if (out / CHECKPOINT).is_file():
        check_same_run(checkpoint_config(out / CHECKPOINT, FaceTrainConfig), config)
    torch.manual_seed(config.seed)
    network = kind()
    if config.init is not None:
        network.load_state_dict(load_face_network(kind, Path(config.init)).state_dict())
    taught = task(faces.subset(~faces.tests), faces.subset(faces.tests), config)
    images = images_of_run("the given folders", taught.learned.images)
    run_training(taught, network, config, out, save_every=save_every, device=device, metadata=images)
    return out / task.name
