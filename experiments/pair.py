"""Ablate the training pairs and the condition of the pair model: equal trainings, measured on held-out people.

    python experiments/pair.py --steps 30000 --sources 9000 --workers 8

Reads ../shared/data/celeba and ../shared/data/ytf; the judge in ../shared/judge measures yaw and identity. Each variant is
trained on the same number of samples in runs/pair/NAME, and resumes after an interruption; all variants share the rendered
conditions. There are two tests:

- strangers: held-out, nearly frontal people of CelebA, one photograph each at the model's resolution, rotated by 15 and 30
  degrees to both sides: measured rotation, and identity to the source;
- truth: pairs of frames of one clip of held-out people: squared error in the face, and identity to the true frame.

They measure the output of each variant's network (no pixels of geometry are composited), of the bundled model, and of
`nothing`, `mirror`, `latent` and `mesh`. Writes pair.csv (strangers) and pair_truth.csv beside this script, and to
runs/pair/strips.png for each variant a strip of a frontal head of the bundled rendered example. The strips show whether a
model trained on mirror pairs alone rotates a frontal face: mirroring a frontal face does not rotate it.

    python experiments/pair.py --variants --no-beside --models "mirror pairs, embedded, 500,000 samples" runs/told/model

measures models of longer trainings; their rows are added to the tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import tyro
from leaderboard import with_others
from solvers import SHARED, strangers

from latentrot.bundles import bundled_example
from latentrot.data.arrays import resize
from latentrot.data.celeba import FaceFolder
from latentrot.data.images import write_image
from latentrot.errors import LatentrotError
from latentrot.evaluation.judges import Judge, load_judge
from latentrot.evaluation.pairs import EvaluationConfig
from latentrot.evaluation.report import markdown_table, summary, write_evaluation
from latentrot.evaluation.run import evaluate
from latentrot.evaluation.views import read_views
from latentrot.geometry import turn_head
from latentrot.rotators.mesh.rotator import MeshRotator
from latentrot.rotators.pair.config import PairConfig
from latentrot.rotators.pair.render import ConditionRenderer
from latentrot.rotators.protocol import Rotator, rotate_many
from latentrot.rotators.registry import load_rotator
from latentrot.training.pair import train_pair

HERE = Path(__file__).parent
WORK = Path("runs/pair")
TURNS = (-30.0, -15.0, 15.0, 30.0)
#: variants: name -> condition of the network, and shares of the pair kinds: mirror, scene, back
VARIANTS: dict[str, tuple[Literal["mesh", "source", "embedding"], tuple[float, float, float]]] = {
    "mirror pairs": ("source", (1, 0, 0)),
    "mirror pairs and scenes": ("source", (0.4, 0.6, 0)),
    "mirror pairs, embedded": ("embedding", (1, 0, 0)),
    "mirror pairs, geometry": ("mesh", (1, 0, 0)),
    "mirror pairs and scenes, geometry": ("mesh", (0.4, 0.6, 0)),
    "all, geometry": ("mesh", (0.2, 0.5, 0.3)),
}


@dataclass(frozen=True)
class Ablation:
    """Options.

    Args:
        steps: training steps of each variant.
        batch_size: pairs per step.
        sources: number of photographs to make pairs from.
        people: number of strangers.
        pairs_people: number of people of clips; None: all held-out ones.
        workers: number of rendering processes.
        train: train the variants first; else measure the models in runs/pair.
        variants: names of the variants.
        models: further models to measure, name -> folder.
        beside: also measure the rotators of the package.
    """

    steps: int = 30_000
    batch_size: int = 16
    sources: int = 9_000
    people: int = 30
    pairs_people: int | None = None
    workers: int = 1
    train: bool = True
    variants: tuple[str, ...] = tuple(VARIANTS)
    models: dict[str, Path] = field(default_factory=dict)
    beside: bool = True


def trained(name: str, options: Ablation) -> Path:
    """Return the model folder of a variant, after training it if requested; rendered pairs are shared by a link."""
    folder = WORK / name.replace(", ", "-").replace(" ", "-")
    if not options.train:
        return folder / "model"
    folder.mkdir(parents=True, exist_ok=True)
    (WORK / "pairs").mkdir(exist_ok=True)
    if not (folder / "pairs").exists():
        (folder / "pairs").symlink_to("../pairs")
    condition, shares = VARIANTS[name]
    config = PairConfig(
        condition=condition, shares=shares, steps=options.steps, batch_size=options.batch_size, sources=options.sources,
        decay=options.steps // 3,
    )  # fmt: skip
    data = [SHARED / "data" / "celeba", SHARED / "data" / "ytf"]
    return train_pair(data, folder, config, workers=options.workers)


class Geometry:
    """Baseline: the condition of the model as the result: geometry at the same resolution, aligned to the rotated head."""

    def __init__(self, resolution: int = 64) -> None:
        self.renderer = ConditionRenderer(resolution)
        self.learned_from = MeshRotator().learned_from

    def rotate(self, image: np.ndarray, degrees: float) -> np.ndarray:
        """Turn a crop by degrees."""
        return self.rotate_many(image, [degrees])[0]

    def rotate_many(self, image: np.ndarray, degrees: list[float]) -> list[np.ndarray]:
        """Turn a crop by each of degrees."""
        head = self.renderer.fit_head(image)
        return [self.renderer.render(turn_head(head, turn))[..., :3] for turn in degrees]


def measure(crops: list[np.ndarray], rotator: Rotator, judge: Judge) -> pd.DataFrame:
    """One row per rotation: means over people."""
    if judge.pose is None or judge.identity is None:
        raise LatentrotError(f"the judge {judge.name} measures pose or identity only; expected both")
    turned = [rotate_many(rotator, crop, list(TURNS)) for crop in crops]
    before = judge.pose(crops)[:, 0], judge.identity(crops)
    rows = []
    for i, asked in enumerate(TURNS):
        pictures = [t[i] for t in turned]
        change = judge.pose(pictures)[:, 0] - before[0]
        rows.append(
            {
                "requested_deg": asked,
                "people": len(crops),
                "turned_deg": float(change.mean()),
                "yaw_mae_deg": float(np.abs(change - asked).mean()),
                "identity_source": float(np.einsum("nd,nd->n", judge.identity(pictures), before[1]).mean()),
            }
        )
    return pd.DataFrame(rows)


def strip_of(rotator: Rotator, size: int) -> np.ndarray:
    """Strip of a frontal rendered head and its rotations."""
    views = read_views(bundled_example("heads64"))
    source = views.images[0, views.column(0.0)]
    cells = [source, *rotate_many(rotator, source, list(TURNS))]
    return np.concatenate([resize(cell, size) for cell in cells], 1)


def rotators_of(options: Ablation) -> Iterator[tuple[str, Rotator]]:
    """Rotators to measure, by name; models return the output of their networks without pixels of geometry."""
    if options.beside:
        for name in ("nothing", "mirror", "latent"):
            yield name, load_rotator(name)
        yield "mesh", Geometry()
    for name in options.variants:
        yield name, load_rotator("pair", model=trained(name, options), keep=0.0)
    for name, folder in options.models.items():
        yield name, load_rotator("pair", model=folder, keep=0.0)
    if options.beside:
        yield "pair64, nothing kept", load_rotator("pair", keep=0.0)
        yield "pair64", load_rotator("pair")


def main(options: Ablation) -> None:
    """Train, measure, and write the tables."""
    judge = load_judge(SHARED / "judge" / "judge.py")
    rotators = dict(rotators_of(options))
    crops = list(FaceFolder(SHARED / "data" / "celeba").read_crops(strangers(options.people), 64))
    strips = []
    for name, rotator in rotators.items():
        table = measure(crops, rotator, judge)
        table.insert(0, "way", name)
        print(table.round(2).to_string(index=False), flush=True)
        with_others(table.round(3), HERE / "pair.csv", ["way", "requested_deg"]).to_csv(HERE / "pair.csv", index=False)
        strips.append(strip_of(rotator, 128))
    WORK.mkdir(parents=True, exist_ok=True)
    write_image(WORK / "strips.png", np.concatenate(strips))
    config = EvaluationConfig(people=options.pairs_people, size=64)
    ways = {name: rotator for name, rotator in rotators.items() if name not in ("nothing", "mirror")}
    evaluation = evaluate(ways, SHARED / "data" / "ytf", config, judge=judge)
    report = summary(evaluation)
    write_evaluation(evaluation, report, WORK / "truth")
    means = evaluation.rows.groupby("way").mean(numeric_only=True).round(4).reset_index()
    with_others(means, HERE / "pair_truth.csv", ["way"]).to_csv(HERE / "pair_truth.csv", index=False)
    print(markdown_table(report))


if __name__ == "__main__":
    main(tyro.cli(Ablation, description=__doc__))
