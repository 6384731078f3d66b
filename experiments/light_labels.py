"""Compare methods and features for propagating a few hand labels of the light, on people unseen by the label network.

Of the eight held-out people of Yale B, four have labels and the other four are tested, in five repetitions.
Run: python experiments/light_labels.py ../shared/data/yaleb
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier

from latentrot.faces.light.propagate import RIDGE, SURE, UNLABELLED, light_features
from latentrot.training.labeler.config import LabelTrainConfig
from latentrot.training.labeler.faces import in_frame, read_yale

#: classifiers from features to lights
Way = Pipeline | SelfTrainingClassifier
#: number of labels for left, center and right
SEEDS = ((3, 3, 3), (3, 3, 0), (2, 12, 2), (10, 3, 2), (30, 30, 30))


def regression(balanced: bool = True) -> Pipeline:
    """Ridge logistic regression."""
    weight = "balanced" if balanced else None
    return make_pipeline(StandardScaler(), LogisticRegression(C=RIDGE, class_weight=weight, max_iter=500))


def ways() -> dict[str, Way]:
    """Classifiers by name."""
    spreading = LabelSpreading(kernel="knn", n_neighbors=15, alpha=0.2, max_iter=100)
    return {
        "regression": regression(),
        "self-training": SelfTrainingClassifier(regression(), threshold=SURE),
        "self-training, lights not balanced": SelfTrainingClassifier(regression(False), threshold=SURE),
        "label spreading": make_pipeline(StandardScaler(), spreading),
    }


def brightness(x: torch.Tensor) -> np.ndarray:
    """Standardised brightness of 6 by 6 parts of the face: (n, 3, 64, 64) -> (n, 36)."""
    parts = F.adaptive_avg_pool2d(x.mean(1, keepdim=True)[:, :, 12:56, 12:52], 6).flatten(1)
    return ((parts - parts.mean(1, keepdim=True)) / (parts.std(1, keepdim=True) + 0.05)).numpy()


def draw(rng: np.random.Generator, light: np.ndarray, person: np.ndarray, number: tuple[int, ...]) -> np.ndarray:
    """Label some images of each light, of four people: (n,) index into LIGHTS, UNLABELLED, or -2 for test people."""
    inside = np.isin(person, rng.choice(np.unique(person), 4, replace=False))
    known = np.where(inside, UNLABELLED, -2)
    for side, count in enumerate(number):
        known[rng.choice(np.flatnonzero(inside & (light == side)), count, replace=False)] = side
    return known


def accuracy(way: Way, plain: np.ndarray, mirrored: np.ndarray, known: np.ndarray, light: np.ndarray) -> float:
    """Accuracy on the people without labels; mirrored images are added to the training set."""
    labels = np.maximum(known, UNLABELLED)
    labels = np.concatenate([labels, np.where(labels == UNLABELLED, UNLABELLED, 2 - labels)])
    rows = labels != UNLABELLED if not is_semi_supervised(way) else np.ones(len(labels), bool)
    way.fit(np.concatenate([plain, mirrored])[rows], labels[rows])
    found = way.predict_proba(plain) + way.predict_proba(mirrored)[:, ::-1]
    return float((found.argmax(1) == light)[known == -2].mean())


def is_semi_supervised(way: Way) -> bool:
    """Whether a classifier is semi-supervised: it also learns from unlabelled images."""
    last = getattr(way, "steps", [("", way)])[-1][1]
    return isinstance(last, (SelfTrainingClassifier, LabelSpreading))


def main() -> None:
    """Print the table and write it beside this file."""
    faces = read_yale(Path(sys.argv[1]))
    faces = faces.select(np.isin(faces.person, np.unique(faces.person)[-LabelTrainConfig().yale_held_out :]))
    x = (in_frame(faces.pixels.clamp(0, 1) ** (1 / 2.2), 64) * 2 - 1).expand(-1, 3, -1, -1).contiguous()
    network, parts = ([of(v) for v in (x, x.flip(-1))] for of in (light_features, brightness))
    both = [np.concatenate(pair, 1) for pair in zip(network, parts, strict=True)]
    rows = []
    for name, (plain, mirrored) in (("network", network), ("brightness", parts), ("both", both)):
        for way in ways():
            row: dict[str, object] = {"features": name, "way": way}
            for number in SEEDS:
                draws = [draw(np.random.default_rng(i), faces.light, faces.person, number) for i in range(5)]
                right = [accuracy(ways()[way], plain, mirrored, known, faces.light) for known in draws]
                row[" / ".join(map(str, number))] = round(100 * float(np.mean(right)), 1)
            rows.append(row)
    table = pd.DataFrame(rows)
    print(table.to_string(index=False))
    table.to_csv(Path(__file__).with_suffix(".csv"), index=False)


if __name__ == "__main__":
    main()
