"""Pairs of real people: two frames of one scene with different yaws."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from latentrot.data.celeba import FaceFolder, held_out
from latentrot.data.frame import CROP_BOX
from latentrot.data.tables import as_numbers, read_columns
from latentrot.errors import LatentrotError
from latentrot.evaluation.pairs import EvaluationConfig, Pairs, pair_table
from latentrot.evaluation.place import find_landmarks

__all__ = ["is_clips", "read_clips"]

#: width of the rotation bins, and centre of the last bin, degrees
BIN, FARTHEST = 15.0, 60.0
#: max difference in yaw of two frames that count as being in the same pose, degrees
STILL = 3.0
#: max difference in yaw between the true pose and the nearest other frame, degrees
NEAREST = 5.0


def is_clips(root: Path) -> bool:
    """Whether a folder contains clips, i.e. a clip.csv."""
    return (root / "clip.csv").is_file()


def read_clips(root: Path | str, config: EvaluationConfig | None = None) -> Pairs:
    """Read a folder of clips.

    Args:
        root: folder of images for `FaceFolder`, with clip.csv (image_id, clip: images of one clip show one person in one
            scene) and pose.csv (image_id, yaw_deg). Optional: identity_CelebA.csv (without it every clip is a person) and
            landmarks68.csv (image_id, x0, y0, ... in frame pixels; without it landmarks are estimated).
        config: selection of people and pairs, size of the crops.

    Returns:
        At most `config.per_person` pairs for each person and rotation bin, sampled with `config.seed`.

    Raises:
        LatentrotError: a table or a column is missing, or no pair is left.
    """
    config = config or EvaluationConfig()
    folder = FaceFolder(Path(root))
    frames = measured_people(read_frames(folder), config)
    both = all_pairs(frames)
    turns = both[both["turn"].between(BIN, FARTHEST)]
    if turns.empty:
        held_out = "" if config.everybody else "held-out "
        hint = "give another folder" + ("" if config.everybody else ", or measure everybody (--everybody)")
        raise LatentrotError(
            f"{folder.root}: no two frames of one clip are {BIN / 2:g} to {FARTHEST + BIN / 2:g} degrees of yaw apart among "
            f"{frames['person'].nunique()} {held_out}people; {hint}"
        )
    people = sorted(set(turns["person"]))[: config.people]
    rng = np.random.default_rng(config.seed)
    table = sample_pairs(turns[turns["person"].isin(people)], config.per_person, rng)
    still = both[(both["requested_deg"].abs() <= STILL) & both["person"].isin(people)]
    still = sample_pairs(still.assign(turn=0.0), config.per_person, rng)
    images = folder.read_crops(frames["image_id"].tolist(), config.size)
    truths = np.union1d(table["truth"], still["truth"])
    return Pairs(
        folder.root, False, tuple(frames["image_id"]), images, face_regions(folder, frames, images, truths),
        frames["yaw_deg"].to_numpy(float), frames["person"].to_numpy(str), np.full(len(frames), ""), table,
        nearest_frames(table, frames), still, folder,
    )  # fmt: skip


def measured_people(frames: pd.DataFrame, config: EvaluationConfig) -> pd.DataFrame:
    """The frames of held-out people, or of all people with `config.everybody` (see `latentrot.evaluation.people`)."""
    if config.people is not None and config.people < 1:
        raise LatentrotError(f"people={config.people}: expected at least 1")
    kept = frames if config.everybody else frames[held_out(frames["person"].to_numpy())]
    return kept.reset_index(drop=True)


def read_frames(folder: FaceFolder) -> pd.DataFrame:
    """One row for each image that is in all tables: image_id, clip, yaw_deg, person."""
    clip, pose = table_beside(folder, "clip", "clip"), table_beside(folder, "pose", "yaw_deg")
    table = clip.join(pose, how="inner")
    table = table[table.index.isin(folder.ids) & np.isfinite(table["yaw_deg"])]
    named = folder.find_table("identity_CelebA") is not None
    people = folder.identities.reindex(table.index) if named else table["clip"].astype(str)
    table = table.assign(person=people.astype(str))
    mixed = table.groupby("clip")["person"].nunique()
    if (mixed > 1).any():
        raise LatentrotError(f"{folder.root / 'clip.csv'}: clip {mixed.idxmax()} shows several people; expected one")
    return table.rename_axis("image_id").reset_index().sort_values("image_id")


def table_beside(folder: FaceFolder, name: str, column: str) -> pd.DataFrame:
    """One column of a table beside the images, by image_id."""
    path = folder.require_table(name, column)
    table = read_columns(path, [column])
    return as_numbers(table, [column], path) if column == "yaw_deg" else table


def all_pairs(frames: pd.DataFrame) -> pd.DataFrame:
    """All ordered pairs of frames of one clip, with the columns of `pair_table`; pairs are binned by absolute rotation."""
    rows = frames[["person", "clip", "yaw_deg"]].reset_index(names="row")
    both = rows.merge(rows, on=["person", "clip"], suffixes=("", "_true"))
    both = both[both["row"] != both["row_true"]]
    turn = both["yaw_deg_true"] - both["yaw_deg"]
    bins = (turn.abs() / BIN).round() * BIN
    return pair_table(list(zip(both["person"], both["row"], both["row_true"], turn, bins, strict=True)))


def sample_pairs(pairs: pd.DataFrame, max_pairs: int, rng: np.random.Generator) -> pd.DataFrame:
    """Sample at most `max_pairs` pairs for each person and bin; sorted by person and rotation."""
    shuffled = pairs.iloc[rng.permutation(len(pairs))]
    kept = shuffled.groupby(["person", "turn"], sort=False).head(max_pairs)
    return kept.sort_values(["person", "turn", "source", "truth"]).reset_index(drop=True)


def nearest_frames(table: pd.DataFrame, frames: pd.DataFrame) -> pd.DataFrame:
    """For each pair, the other frame of its clip nearest to the true yaw, if within `NEAREST` degrees."""
    rows: dict[int, tuple[str, int, int, float, float]] = {}
    yaws, clips = frames["yaw_deg"], frames["clip"]
    columns = ["person", "source", "truth", "requested_deg", "turn"]
    for index, person, source, truth, requested, turn in table[columns].itertuples(name=None):
        others = frames.index[clips == clips.loc[truth]].difference([source, truth])
        apart = np.nan_to_num(np.abs(yaws.loc[others].to_numpy(float) - float(yaws.loc[truth])), nan=np.inf)
        if len(apart) and apart.min() <= NEAREST:
            rows[index] = (person, int(others.to_numpy()[apart.argmin()]), truth, requested, turn)
    return pair_table(list(rows.values()), list(rows))


def face_regions(folder: FaceFolder, frames: pd.DataFrame, images: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """(n, s, s) bool: convex hulls of the landmarks, filled for the images in `truths` only."""
    size, path = images.shape[1], folder.root / "landmarks68.csv"
    known = np.full((len(images), 68, 2), np.nan)
    if path.is_file():
        table = read_columns(path, [f"{axis}{i}" for i in range(68) for axis in "xy"]).reindex(frames["image_id"])
        left, top, right, _ = CROP_BOX
        known = (table.to_numpy(float).reshape(-1, 68, 2) - [left, top]) * size / (right - left)
    regions = np.zeros((len(images), size, size), bool)
    for row in truths:
        points = known[row] if np.isfinite(known[row]).all() else find_landmarks(images[row], size).points
        regions[row] = hull(points, size)
    return regions


def hull(points: np.ndarray, size: int) -> np.ndarray:
    """(size, size) bool, true inside the convex hull of (k, 2) points in pixels."""
    mask = np.zeros((size, size), np.uint8)
    polygon = cv2.convexHull((points - 0.5).round().astype(np.int32))
    return cv2.fillConvexPoly(mask, polygon, 1).astype(bool)
