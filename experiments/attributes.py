"""Evaluate the attributes network on held-out people: accuracy, AUC and calibration per attribute, error of the age.

Usage: python experiments/attributes.py CELEBA AGE [ATTRIBUTES.safetensors]

CELEBA: aligned images with identity_CelebA.csv and list_attr_celeba.csv; AGE: age.csv and crops/. Writes attributes.csv
beside this file: a row per attribute (share of positive images, accuracy, accuracy of the majority class, AUC, expected
calibration error in ten bins, largest change under mirroring), and a row per decade of age (mean absolute error and bias
in years).
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score

from latentrot.data.arrays import to_tensor
from latentrot.data.celeba import FaceFolder, held_out
from latentrot.faces.attributes import ATTRIBUTES, AttributeNetwork, estimate_attributes, load_attributes
from latentrot.training.attributes import attributes_of, read_aged

SHARE = 0.1


def calibration_error(probability: np.ndarray, truth: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: mean distance between predicted probability and observed share, over equal bins."""
    place = np.minimum((probability * bins).astype(int), bins - 1)
    rows = [place == b for b in range(bins) if (place == b).any()]
    return float(sum(r.mean() * abs(probability[r].mean() - truth[r].mean()) for r in rows))


def attribute_rows(network: AttributeNetwork, celeba: Path) -> pd.DataFrame:
    """Measure each attribute on held-out people of CelebA: one row per attribute."""
    folder = FaceFolder(celeba)
    apart = held_out(folder.identities.to_numpy(), SHARE)
    x = to_tensor(folder.read_crops([i for i, a in zip(folder.ids, apart, strict=True) if a], 64))
    truth = attributes_of(folder).numpy()[apart]
    found = estimate_attributes(x, network=network).numpy()
    mirrored = np.abs(estimate_attributes(x.flip(-1), network=network).numpy() - found)
    rows = []
    for k, name in enumerate(ATTRIBUTES):
        p, t = found[:, k + 1], truth[:, k]
        rows.append({
            "name": name, "images": len(t), "share": t.mean(), "accuracy": ((p > 0.5) == t).mean(),
            "accuracy_commoner": max(t.mean(), 1 - t.mean()), "auc": roc_auc_score(t, p) if 0 < t.mean() < 1 else np.nan,
            "calibration_error": calibration_error(p, t), "mirror_difference": mirrored[:, k + 1].max(),
        })  # fmt: skip
    return pd.DataFrame(rows)


def age_rows(network: AttributeNetwork, aged: Path) -> pd.DataFrame:
    """Measure the age on held-out images: one row per decade, and one for all ages."""
    faces = read_aged(aged, SHARE)
    x = faces.crops[faces.held_out].float() / 127.5 - 1
    age = faces.age[faces.held_out].numpy()
    years = estimate_attributes(x, network=network)[:, 0].numpy()
    mirrored = np.abs(estimate_attributes(x.flip(-1), network=network)[:, 0].numpy() - years)
    groups = {"age, all": np.ones(len(age), bool)}
    groups |= {f"age, {low} to {low + 9}": (age >= low) & (age < low + 10) for low in range(10, 90, 10)}
    return pd.DataFrame([
        {
            "name": name, "images": rows.sum(), "mae_years": np.abs(years - age)[rows].mean(),
            "bias_years": (years - age)[rows].mean(), "mirror_difference": mirrored[rows].max(),
        }
        for name, rows in groups.items() if rows.any()
    ])  # fmt: skip


def main() -> None:
    """Measure and write the table."""
    torch.set_num_threads(1)
    celeba, aged = map(Path, sys.argv[1:3])
    network = load_attributes(sys.argv[3] if len(sys.argv) > 3 else None)
    table = pd.concat([attribute_rows(network, celeba), age_rows(network, aged)])
    table.round(4).to_csv(Path(__file__).with_suffix(".csv"), index=False)
    means = table[["accuracy", "accuracy_commoner", "auc", "calibration_error"]].mean().round(4)
    print(table.round(3).to_string(index=False), means.to_string(), sep="\n")


if __name__ == "__main__":
    main()
