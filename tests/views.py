"""A tiny folder of views: a disc for a head, whose place across the image is its yaw, its colour the person."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

YAWS = (-45, -30, -15, 0, 15, 30, 45)
LIGHTS = ("left", "center", "right")
SIZE = 32


def disc(yaw: float, size: int = SIZE) -> np.ndarray:
    """(size, size) bool, a disc that moves by a fifth of a pixel per degree."""
    row, column = np.mgrid[:size, :size] - (size - 1) / 2
    return row**2 + (column - yaw / 5) ** 2 < 36


def head_picture(rng_seed: int, yaw: float, size: int = SIZE) -> np.ndarray:
    """(size, size, 3) uint8: a person's two colours on a disc, darker away from the person's light, over a plain ground."""
    top, bottom = np.random.default_rng(rng_seed).integers(60, 250, (2, 3))
    picture = np.full((size, size, 3), 30, np.uint8)
    face = disc(yaw, size)
    picture[face] = bottom
    upper = face & (np.arange(size)[:, None] < size / 2)
    picture[upper] = top
    ramp = np.linspace(1, 0.4, size)[:, None]
    shade = {"left": ramp, "center": np.ones((size, 1)), "right": ramp[::-1]}[LIGHTS[rng_seed % 3]]
    return (picture * shade).round().astype(np.uint8)


def write_views(root: Path, heads: int = 6, yaws: tuple[float, ...] = YAWS, *, masks: bool = True) -> Path:
    """The folder as the generator of heads lays it out."""
    (root / "img_align_celeba").mkdir(parents=True)
    if masks:
        (root / "masks").mkdir()
    rows = []
    for head in range(heads):
        for yaw in yaws:
            name = f"{len(rows) + 1:06d}.png"
            rows.append((name, f"{head:04d}", yaw, 0, LIGHTS[head % 3]))
            Image.fromarray(head_picture(head, yaw)).save(root / "img_align_celeba" / name)
            if masks:
                Image.fromarray(disc(yaw).astype(np.uint8)).save(root / "masks" / name)
    table = pd.DataFrame(rows, columns=["image_id", "head", "yaw_deg", "pitch_deg", "light"])
    table.to_csv(root / "views.csv", index=False)
    table.assign(roll_deg=0)[["image_id", "yaw_deg", "pitch_deg", "roll_deg"]].to_csv(root / "pose.csv", index=False)
    table[["image_id", "light"]].to_csv(root / "light.csv", index=False)
    table[["image_id", "head"]].set_axis(["image_id", "identity"], axis=1).to_csv(
        root / "identity_CelebA.csv", index=False
    )
    return root
