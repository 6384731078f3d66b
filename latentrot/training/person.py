"""Train the identity network on rendered heads and on photographs with known identities."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentrot.data.celeba import held_out, open_folder
from latentrot.errors import LatentrotError
from latentrot.faces.person import LENGTH, SIDE, PersonNetwork, save_person_network
from latentrot.synthetic.views import HeadViews
from latentrot.training.checkpoints import check_same_run, checkpoint_config, images_of_run
from latentrot.training.face.batches import squares_at
from latentrot.training.face.config import FaceTrainConfig
from latentrot.training.face.faces import MARGIN, Faces
from latentrot.training.loop import CHECKPOINT, channels_last, run_training

__all__ = ["PERSON_CONFIG", "head_people", "photographed_people", "train_person", "verification_accuracy"]

log = logging.getLogger(__name__)

PERSON_CONFIG = FaceTrainConfig(
    steps=2_500, decay=1_700, batch_size=64, learning_rate=2e-3, roll=8.0, scale=0.08, shift=0.03, weight_decay=0.05
)
#: file name of the network in the run folder
NAME = "person.safetensors"
#: margin and inverse temperature of the loss
COS_MARGIN, COS_SCALE = 0.25, 24.0
#: max absolute yaw of rendered heads for training, degrees
FACING_DEG = 70.0
#: max number of verification pairs of the same person, and of different people
PAIRS = 4_000


class Classifier(nn.Module):
    """The network with one class vector per person in the training set.

    Args:
        people: number of people.
    """

    def __init__(self, people: int) -> None:
        super().__init__()
        self.network = PersonNetwork()
        self.people = nn.Parameter(torch.randn(people, LENGTH))

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, 64, 64) crops -> (n, people) cosines."""
        return self.network(x) @ F.normalize(self.people).T


def cosface_loss(cosine: Tensor, person: Tensor) -> Tensor:
    """CosFace loss: cross entropy of cosines, with a margin subtracted from the cosine to the true person."""
    return F.cross_entropy(COS_SCALE * (cosine - COS_MARGIN * F.one_hot(person, cosine.shape[1])), person)


@dataclass(frozen=True, eq=False)
class PersonTask:
    """Training task of the identity network.

    Args:
        learned: faces to train on, with their identity as target.
        faces: training faces and held-out faces.
        config: configuration of the run.
        data: names of the training sets, for the network's header.
    """

    learned: Faces
    faces: Faces
    config: FaceTrainConfig
    data: str

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """Crops of a step, and their identities."""
        x, _, _, rows = squares_at(self.learned, step, self.config, SIDE)
        return x, torch.from_numpy(self.learned.targets[rows])

    def loss(self, model: Any, batch: tuple[Tensor, ...]) -> Tensor:
        """See `cosface_loss`."""
        x, person = batch
        return cosface_loss(model(channels_last(x)).float(), person)

    def export(self, out: Path, average: Any, step: int) -> None:
        """Write the averaged network with its verification accuracy on held-out people."""
        network = average.network.eval()
        found = verification(network, self.faces)
        log.info("step %d: verification of held-out people: %s", step, found)
        network.metadata = {
            "held_out": json.dumps(found), "data": self.data, "config": json.dumps(asdict(self.config)),
            "people": str(len(np.unique(self.learned.names))),
        }  # fmt: skip
        save_person_network(network, out / NAME)


# --- training sets -------------------------------------------------------------------------------------------------------


def head_people(views: HeadViews, share: float) -> Faces:
    """All images of rendered heads that show the face: from the multi-view images, and with other light and expression."""
    n, k = views.occasion.shape[:2]
    facing = (views.pose[..., 0].abs() <= FACING_DEG).numpy()
    images = torch.cat([views.image[torch.from_numpy(facing)], views.occasion.flatten(0, 1)])
    person = np.concatenate([np.repeat(np.arange(n), facing.sum(1)), np.repeat(np.arange(n), k)])
    names = np.array([f"heads {p}" for p in person])
    return people_of(images.permute(0, 2, 3, 1).numpy(), names, np.zeros(len(names), int), share)


def photographed_people(folders: Sequence[Path], share: float) -> Faces | None:
    """People with at least two photographs, from folders in CelebA's layout; None without folders."""
    images, names = [], []
    for root in folders:
        folder = open_folder(root)
        identity = folder.identities.astype(str)
        often = identity.map(identity.value_counts()).to_numpy() > 1
        if not often.any():
            raise LatentrotError(f"{root}: no person has two photographs by identity_CelebA.csv; leave the folder out")
        chosen = [i for i, many in zip(folder.ids, often, strict=True) if many]
        images.append(folder.read_crops(chosen, SIDE))
        names.append(np.array([f"{root.name} {name}" for name in identity[often]]))
    if not images:
        return None
    return people_of(np.concatenate(images), np.concatenate(names), np.ones(sum(map(len, names)), int), share)


def people_of(images: np.ndarray, names: np.ndarray, groups: np.ndarray, share: float) -> Faces:
    """Faces from images (n, 64, 64, 3), padded by their edges; people are sampled uniformly within each group."""
    margin = round(SIDE * (MARGIN - 1) / 2)
    padded = np.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode="edge")
    _, person, count = np.unique(names, return_inverse=True, return_counts=True)
    weights = count[person] ** -0.5
    return Faces(padded, person, groups, weights / weights.sum(), held_out(names, share), names)


def join_faces(sets: Sequence[Faces]) -> Faces:
    """Concatenate sets of faces with equal total sampling weight."""
    whole = Faces(*(np.concatenate([getattr(s, f) for s in sets]) for f in Faces.__dataclass_fields__))
    return replace(whole, targets=np.unique(whole.names, return_inverse=True)[1])


# --- verification --------------------------------------------------------------------------------------------------------


def verification_accuracy(vectors: np.ndarray, names: np.ndarray) -> dict[str, float]:
    """Measure verification, i.e. whether two images show one person, on equally many pairs of one person and of two people.

    Args:
        vectors: (n, d) unit vectors.
        names: (n,) identities.

    Returns:
        Accuracy in percent, for each half of the pairs at the best threshold of the other half; and the number of pairs.
    """
    rng = np.random.default_rng(0)
    a, b = np.triu_indices(len(names), 1)
    same = names[a] == names[b]
    count = min(PAIRS, int(same.sum()))
    rows = np.concatenate([rng.choice(np.flatnonzero(kind), count, replace=False) for kind in (same, ~same)])
    rows = rng.permutation(rows)
    cosine, truth = np.einsum("nd,nd->n", vectors[a[rows]], vectors[b[rows]]), same[rows]
    halves = np.arange(len(rows)) % 2 == 0
    right = [
        ((cosine[~half] > best_threshold(cosine[half], truth[half])) == truth[~half]).mean()
        for half in (halves, ~halves)
    ]
    return {"accuracy": round(100 * float(np.mean(right)), 2), "pairs": 2 * count}


def best_threshold(cosine: np.ndarray, same: np.ndarray) -> float:
    """The cosine threshold with the highest verification accuracy."""
    order = np.argsort(cosine)
    right = np.concatenate([[same.sum()], same.sum() + np.cumsum(np.where(same[order], -1, 1))])
    edges = np.concatenate([[-2.0], cosine[order]])
    return float(edges[int(right.argmax())])


def verification(network: PersonNetwork, faces: Faces) -> dict[str, dict[str, float]]:
    """`verification_accuracy` on held-out people, for rendered heads and for photographs."""
    margin = (faces.images.shape[1] - SIDE) // 2
    found = {}
    for group, title in ((0, "rendered"), (1, "photographs")):
        rows = np.flatnonzero(faces.tests & (faces.groups == group))
        if len(np.unique(faces.names[rows])) > 1:
            crops = faces.images[rows][:, margin : margin + SIDE, margin : margin + SIDE]
            found[title] = verification_accuracy(network.embed(list(crops)), faces.names[rows])
    return found


def train_person(
    heads: HeadViews | None, folders: Sequence[Path], out: Path, config: FaceTrainConfig = PERSON_CONFIG,
    save_every: int = 500, device: str | None = None,
) -> Path:  # fmt: skip
    """Train the network, or resume its training exactly.

    Args:
        heads: rendered heads, from `latentrot.synthetic.views`; None: only photographs.
        folders: photographs in CelebA's layout with identity_CelebA.csv.
        out: run folder: checkpoint.safetensors, log.csv, person.safetensors.
        config: the run.
        save_every: steps between checkpoints.
        device: "cpu", "cuda" or "cuda:N"; None: accelerate decides.

    Returns:
        File of the network, which also contains its verification accuracy on held-out people.

    Raises:
        LatentrotError: a folder has no identities, or `out` contains a checkpoint of another run or of other images.
    """
    sets = [head_people(heads, config.held_out)] if heads is not None else []
    photographs = photographed_people(folders, config.held_out)
    faces = join_faces([*sets, photographs] if photographs is not None else sets)
    kept = faces.subset(~faces.tests)
    kept = replace(kept, targets=np.unique(kept.names, return_inverse=True)[1])
    learned = "rendered heads" if heads is not None else ""
    data = ", ".join(filter(None, [learned, *(root.resolve().name for root in folders)]))
    if (out / CHECKPOINT).is_file():
        check_same_run(checkpoint_config(out / CHECKPOINT, FaceTrainConfig), config)
    torch.manual_seed(config.seed)
    classifier = Classifier(int(kept.targets.max()) + 1)
    task = PersonTask(kept, faces, config, data)
    images = images_of_run(data, kept.images)
    run_training(task, classifier, config, out, save_every=save_every, device=device, metadata=images)
    return out / NAME
