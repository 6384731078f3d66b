"""Write the pose table of data_labels/ and the numbers of its README: counts per light and pose, agreement, error.

    python experiments/label_tables.py --data ../shared/data/celeba

Reads data_labels/celeba_light.csv (see `latentrot label light`) and light_answers.csv; writes data_labels/celeba_pose.csv
and label_tables.csv beside this script.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import tyro

from latentrot.data.celeba import FaceFolder, held_out
from latentrot.faces.estimate import LIGHTS
from latentrot.faces.light.agreement import agreed, votes
from latentrot.faces.light.answers import read_answers, standing
from latentrot.faces.table import label_folder

HERE = Path(__file__).parent
LABELS = HERE.parent / "data_labels"
POSE = ["yaw_deg", "pitch_deg", "roll_deg"]
#: edges in degrees of the pose columns: far left, left, central, right, far right
EDGES = (-90.0, -25.0, -10.0, 10.0, 25.0, 90.0)


@dataclass(frozen=True)
class LabelTables:
    """Options."""

    data: Path
    """CelebA folder; if it contains pose.csv, the error is measured, too"""
    out: Path = LABELS
    """output folder of celeba_pose.csv"""


def cells(table: pd.DataFrame) -> pd.DataFrame:
    """Count images by light (rows) and yaw (columns)."""
    yaw = pd.cut(table["yaw_deg"], list(EDGES), right=False)
    return pd.crosstab(table["light"], yaw).reindex(LIGHTS)


def pose_error(table: pd.DataFrame, folder: FaceFolder) -> pd.DataFrame:
    """Mean absolute error to the reference poses, on all people and on those no network was trained on."""
    reference = pd.read_csv(folder.root / "pose.csv", index_col="image_id").reindex(table.index)
    error = (table[["yaw_deg", "pitch_deg"]] - reference[["yaw_deg", "pitch_deg"]]).abs()
    apart = held_out(folder.identities.reindex(table.index).to_numpy())
    rows = {"all": error.mean(), "held out": error[apart].mean()}
    counts = {"all": len(error), "held out": int(apart.sum())}
    return pd.DataFrame(rows).T.round(2).assign(pictures=pd.Series(counts))


def against_hand(table: pd.DataFrame) -> pd.DataFrame:
    """Confusion matrix of the light on images with unanimous hand labels: hand labels (rows), label network (columns)."""
    hand = agreed(votes(standing(read_answers(LABELS / "light_answers.csv"))))
    found = table.reindex(hand.index)
    return pd.crosstab(hand.rename("hand"), found["light"].rename("network")).reindex(LIGHTS)


def main(options: LabelTables) -> None:
    """Label, write the pose table, print the numbers."""
    folder = FaceFolder(options.data)
    network = label_folder(folder)
    network[POSE].round(2).to_csv(options.out / "celeba_pose.csv")
    light = pd.read_csv(LABELS / "celeba_light.csv", index_col="image_id")
    sure = light[light["confidence"] >= 0.6]
    both = network[POSE].join(light, how="inner")
    parts = {
        "pictures by light and yaw": cells(both),
        "the same, confidence at least 0.6": cells(both.loc[sure.index]),
        "network's light by hand label": against_hand(network),
    }
    if (folder.root / "pose.csv").is_file():
        parts["pose error, degrees"] = pose_error(network, folder)
    text = "\n\n".join(f"# {title}\n{part.to_csv()}" for title, part in parts.items())
    (HERE / "label_tables.csv").write_text(text)
    print(text)
    print(f"confidence of the light at least 0.6: {len(sure)} of {len(light)} images")


if __name__ == "__main__":
    main(tyro.cli(LabelTables, description=__doc__))
