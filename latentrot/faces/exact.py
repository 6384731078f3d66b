"""Read exact labels, which a renderer writes together with its images."""

from __future__ import annotations

import pandas as pd

from latentrot.data.celeba import FaceFolder
from latentrot.data.digests import image_digests
from latentrot.data.tables import as_numbers, read_rows
from latentrot.errors import LatentrotError
from latentrot.faces.network import LIGHTS

__all__ = ["read_exact_labels"]

TABLES = {"pose": ["yaw_deg", "pitch_deg", "roll_deg"], "light": ["light"]}


def read_exact_labels(folder: FaceFolder) -> pd.DataFrame:
    """Read the labels of a folder from `pose.csv` and `light.csv`.

    Args:
        folder: images beside pose.csv (image_id, yaw_deg, pitch_deg, roll_deg) and light.csv (image_id, light).

    Returns:
        One row per image, as from `label_folder`: the columns of a label table, every light with probability 1.

    Raises:
        LatentrotError: a table, column or row is missing, or a light is unknown.
    """
    pose, light = (
        read_rows(folder.require_table(name, ", ".join(columns)), columns, folder.ids)
        for name, columns in TABLES.items()
    )
    table = as_numbers(pose, TABLES["pose"], folder.root / "pose.csv").join(light)
    if unknown := sorted(set(table["light"]) - set(LIGHTS)):
        raise LatentrotError(f"{folder.root / 'light.csv'} names the lights {unknown}; expected {', '.join(LIGHTS)}")
    for name in LIGHTS:
        table[f"p_{name}"] = (table["light"] == name).astype(float)
    table.attrs["labeler"] = "exact (pose.csv, light.csv)"
    return table.assign(confidence=1.0, digest=image_digests(folder.image_dir, folder.ids))
