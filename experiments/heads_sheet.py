"""Contact sheet of `latentrot heads`: synthetic people, and nine views of one of them under one light.

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
    """Options."""

    model: Path = ICT_PATH
    """file of the face model"""
    out: Path = Path("experiments/heads.png")
    """output image"""
    seed: int = 1
    """seed of the people"""
    size: int = 96
    """side of each image in pixels"""


def main(config: HeadsSheet) -> None:
    """Render two rows of people and one row of views."""
    model = load_head_model(config.model)
    people = [sample_head(config.seed, i) for i in range(18)]
    views = [with_pose(people[0], yaw) for yaw in range(-60, 61, 15)]
    tiles = [render(model, head, config.size).image for head in (*people, *views)]
    rows = [np.concatenate(tiles[k : k + 9], 1) for k in range(0, len(tiles), 9)]
    Image.fromarray(np.concatenate(rows)).save(config.out, optimize=True)


if __name__ == "__main__":
    main(tyro.cli(HeadsSheet))
