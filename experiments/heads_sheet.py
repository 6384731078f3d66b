"""What `latentrot heads` draws: people who do not exist, and one of them from nine sides under one light.

    python experiments/heads_sheet.py

Needs the extra `heads` and the face model, ../shared/data/ict/ict_face_model_light.npz or --model. Writes
experiments/heads.png.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

from latentrot.synthetic.head_model import ICT_PATH, load_head_model
from latentrot.synthetic.sample import sample_head, with_pose
from latentrot.synthetic.shade import render


@dataclass(frozen=True)
class HeadsSheet:
    """Draw the sheet."""

    model: Path = ICT_PATH
    """the face model"""
    out: Path = Path("experiments/heads.png")
    """image to write"""
    seed: int = 1
    """of the people"""
    size: int = 96
    """side of each image in pixels"""


def main(config: HeadsSheet) -> None:
    """Two rows of people, one row of views."""
    model = load_head_model(config.model)
    people = [sample_head(config.seed, i) for i in range(18)]
    views = [with_pose(people[0], yaw) for yaw in range(-60, 61, 15)]
    tiles = [render(model, head, config.size).image for head in (*people, *views)]
    rows = [np.concatenate(tiles[k : k + 9], 1) for k in range(0, len(tiles), 9)]
    Image.fromarray(np.concatenate(rows)).save(config.out, optimize=True)


if __name__ == "__main__":
    main(tyro.cli(HeadsSheet))
