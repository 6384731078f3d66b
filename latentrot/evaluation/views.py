"""Pairs of rendered heads, whose images differ in pose only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from latentrot.data.celeba import FaceFolder
from latentrot.data.tables import as_numbers, require_columns
from latentrot.errors import LatentrotError
from latentrot.evaluation.pairs import EvaluationConfig, Pairs, pair_table
from latentrot.faces.network import LIGHTS

__all__ = ["Views", "pairs_of_views", "read_views"]

COLUMNS = ("image_id", "head", "yaw_deg", "light")
#: value of the face in a mask; 0: background, 2: hair
FACE = 1
MAKE = "render some with: latentrot heads make --views --out DIR"


@dataclass(frozen=True, eq=False)
class Views:
    """Images of every head in every pose.

    Attributes:
        root: folder of the images.
        heads: (h,) names.
        lights: (h,) illumination classes.
        yaws: (k,) yaws in degrees, ascending.
        images: (h, k, s, s, 3) uint8.
        masks: (h, k, s, s) bool, masks of the face; None if the folder has no masks.
    """

    root: Path
    heads: tuple[str, ...]
    lights: tuple[str, ...]
    yaws: np.ndarray
    images: np.ndarray
    masks: np.ndarray | None

    @property
    def size(self) -> int:
        """Side of the images in pixels."""
        return self.images.shape[2]

    def column(self, yaw: float) -> int:
        """Index of a yaw in `yaws`.

        Raises:
            LatentrotError: there are no views at this yaw.
        """
        near = np.flatnonzero(np.abs(self.yaws - yaw) < 0.05)
        if not len(near):
            shown = ", ".join(f"{y:+g}" for y in self.yaws)
            raise LatentrotError(f"no views at a yaw of {yaw:g} degrees in {self.root}; there are {shown}")
        return int(near[0])


def pairs_of_views(views: Views, config: EvaluationConfig) -> Pairs:
    """Pair one view of every head with its other views at the configured yaws.

    Raises:
        LatentrotError: there are no views at the source's yaw or at any target, or `config.people` is below 1.
    """
    source, columns = turns_of(views, config)
    count, poses = len(views.heads), len(views.yaws)
    heads = range(min(count, config.people or count))
    degrees = [float(views.yaws[c] - views.yaws[source]) for c in columns]
    rows = [
        (views.heads[h], h * poses + source, h * poses + c, turn, turn)
        for h in heads
        for c, turn in zip(columns, degrees, strict=True)
    ]
    images = views.images.reshape(-1, views.size, views.size, 3)
    faces = np.ones(images.shape[:3], bool) if views.masks is None else views.masks.reshape(images.shape[:3])
    return Pairs(
        views.root, True, tuple(f"{h} at {y:+g}" for h in views.heads for y in views.yaws), images, faces,
        np.tile(views.yaws, count), np.repeat(views.heads, poses), np.repeat(views.lights, poses), pair_table(rows),
    )  # fmt: skip


def turns_of(views: Views, config: EvaluationConfig) -> tuple[int, list[int]]:
    """Index of the source's view, and indices of the targets' views."""
    if config.people is not None and config.people < 1:
        raise LatentrotError(f"people={config.people}: expected at least 1")
    source = views.column(config.source_yaw)
    targets = views.yaws if config.targets is None else np.array(config.targets)
    columns = [c for c, yaw in enumerate(views.yaws) if c != source and np.abs(targets - yaw).min(initial=90) < 0.05]
    if not columns:
        raise LatentrotError(
            f"{views.root} has no views at {', '.join(f'{t:+g}' for t in targets)} degrees besides the source's "
            f"{config.source_yaw:+g}; there are {', '.join(f'{y:+g}' for y in views.yaws)}"
        )
    return source, columns


def read_views(root: Path | str) -> Views:
    """Read a folder of views.

    Args:
        root: folder of images for `FaceFolder`, with `views.csv` (image_id, head, yaw_deg, light, and optionally pitch_deg,
            of which only views at the value nearest to 0 are used) and optionally `masks/` with masks of the same names.

    Raises:
        LatentrotError: a folder, table, column, view or image is missing, or a head has several lights.
    """
    folder = FaceFolder(Path(root))
    table = read_view_table(folder.root / "views.csv")
    heads, yaws = sorted(set(table["head"])), sorted(set(table["yaw_deg"]))
    grid = table.pivot_table("image_id", "head", "yaw_deg", aggfunc="first").reindex(index=heads, columns=yaws)
    empty = np.argwhere(grid.isna().to_numpy())
    if len(empty):
        head, yaw = heads[empty[0, 0]], yaws[empty[0, 1]]
        raise LatentrotError(f"{folder.root / 'views.csv'}: head {head} has no view at {yaw:g} degrees; {MAKE}")
    sides = table.groupby("head")["light"].unique()
    if mixed := [h for h in heads if len(sides[h]) != 1 or sides[h][0] not in LIGHTS]:
        raise LatentrotError(
            f"{folder.root / 'views.csv'}: head {mixed[0]} has the lights {', '.join(map(str, sides[mixed[0]]))}; "
            f"expected one light per head, of {', '.join(LIGHTS)}"
        )
    names = grid.to_numpy().ravel().tolist()
    size = min(folder.open_image(names[0]).size)
    shape = (len(heads), len(yaws), size, size)
    images = folder.read_crops(names, size).reshape(*shape, 3)
    masks = read_masks(folder.root / "masks", names, size)
    return Views(
        folder.root, tuple(map(str, heads)), tuple(sides[h][0] for h in heads), np.array(yaws, np.float64), images,
        None if masks is None else masks.reshape(shape),
    )  # fmt: skip


def read_view_table(path: Path) -> pd.DataFrame:
    """Read the table of views, with yaws rounded to a tenth of a degree."""
    if not path.is_file():
        raise LatentrotError(
            f"no views.csv in {path.parent}: expected a table of image_id, head, yaw_deg and light; {MAKE}"
        )
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise LatentrotError(f"cannot read {path}: {error}") from error
    require_columns(table, COLUMNS, str(path))
    if table.empty:
        raise LatentrotError(f"{path} names no view; {MAKE}")
    numbers = table.columns.intersection(["yaw_deg", "pitch_deg"])
    table = as_numbers(table.set_index("image_id", drop=False), list(numbers), path).reset_index(drop=True)
    if "pitch_deg" in table:
        table = table[table["pitch_deg"] == min(table["pitch_deg"], key=abs)]
    return table.assign(yaw_deg=table["yaw_deg"].astype(float).round(1) + 0.0)


def read_masks(folder: Path, names: list[str], size: int) -> np.ndarray | None:
    """Read (n, size, size) bool masks of the face; None if the folder does not exist."""
    if not folder.is_dir():
        return None
    paths = [(folder / name).with_suffix(".png") for name in names]
    if missing := [p for p in paths if not p.is_file()]:
        raise LatentrotError(f"no mask {missing[0]}; expected one for each view, or no folder {folder}")
    images = [Image.open(p).convert("L").resize((size, size), Image.Resampling.NEAREST) for p in paths]
    return np.stack([np.asarray(p) == FACE for p in images])
