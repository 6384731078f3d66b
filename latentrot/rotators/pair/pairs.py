"""Select the photographs of a training run, and for each its partners from the same scene.

The selection depends only on the folders and the seed; a larger `sources` adds photographs without changing the others.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from latentrot.data.celeba import FaceFolder, held_out, open_folder
from latentrot.data.tables import as_numbers, read_table, require_columns, to_files
from latentrot.errors import LatentrotError, one_line

__all__ = ["PairFolder", "Partner", "Source", "open_pair_folder", "plan_sources"]

log = logging.getLogger(__name__)

#: max number of partners of a source
MAX_PARTNERS = 4
#: min difference of the poses of partners, degrees
MIN_ROTATION_DEG = 4.0
#: number of pairs of kind "back" for a source without partners
BACK_PAIRS = 2


@dataclass(frozen=True)
class Partner:
    """Another image of the same person in the same scene as the source."""

    image_id: str
    pose: tuple[float, float]


@dataclass(frozen=True)
class Source:
    """An image and its partners.

    Args:
        folder: index of the folder.
        image_id: name of the image in that folder.
        pose: yaw and pitch, degrees.
        held_out: whether the person is held out of training.
        partners: other images of its scene.
        seed: seed of the random rotations.
    """

    folder: int
    image_id: str
    pose: tuple[float, float]
    held_out: bool
    partners: tuple[Partner, ...]
    seed: int


@dataclass(frozen=True, eq=False)
class PairFolder:
    """A folder of images with poses.

    Args:
        faces: images of the folder.
        poses: table of yaw_deg and pitch_deg, indexed by image_id, of the images with both.
        scenes: image_id -> name of the scene; empty if the folder has no scenes.
        landmarks: (n, 136) table in pixels of a 178x218 frame, indexed by image_id; None without one.
    """

    faces: FaceFolder
    poses: pd.DataFrame
    scenes: pd.Series
    landmarks: pd.DataFrame | None

    def sources(self, number: int, share: float, seed: int) -> list[Source]:
        """All images with a pose, as sources, in the order of the folder.

        Args:
            number: index of the folder.
            share: share of the people held out.
            seed: seed of the run.
        """
        strangers = held_out(self.faces.identities.reindex(self.poses.index).to_numpy(), share)
        together = {name: list(group.index) for name, group in self.scenes.groupby(self.scenes)}
        return [
            Source(number, i, self.pose(i), bool(held_out), self.partners(i, together), seed * 1_000_003 + k)
            for k, (i, held_out) in enumerate(zip(self.poses.index, strangers, strict=True))
        ]

    def pose(self, image_id: str) -> tuple[float, float]:
        """Yaw and pitch of an image, degrees."""
        yaw, pitch = self.poses.loc[image_id].to_numpy(np.float64)
        return float(yaw), float(pitch)

    def partners(self, image_id: str, together: dict[str, list[str]]) -> tuple[Partner, ...]:
        """Partners of an image: the images of its scene with the most different poses."""
        scene = self.scenes.get(image_id)
        others = [Partner(i, self.pose(i)) for i in together.get(scene, []) if i != image_id]  # type: ignore[arg-type]
        here = np.array(self.pose(image_id))
        far = {p: float(np.linalg.norm(np.array(p.pose) - here)) for p in others}
        return tuple(sorted((p for p in others if far[p] >= MIN_ROTATION_DEG), key=lambda p: -far[p])[:MAX_PARTNERS])


def open_pair_folder(root: Path) -> PairFolder:
    """Open a folder of aligned or square images with its tables.

    The tables are `pose` or `views` (yaw_deg, optionally pitch_deg), and optionally `clip` (the scene of each image; for
    rendered views the head counts as the scene) and `landmarks68`.

    Raises:
        LatentrotError: the folder is missing, or contains no images or no poses.
    """
    faces = open_folder(root)
    pose_path = faces.find_table("pose") or faces.find_table("views")
    if pose_path is None:
        raise LatentrotError(
            f"no poses beside the images in {one_line(root)} (pose.csv, or views.csv); make them with: "
            f"latentrot label --data {one_line(root)} --out {one_line(Path(root) / 'pose.csv')}"
        )
    table = read_table(pose_path)
    require_columns(table, ["yaw_deg"], one_line(pose_path))
    table = as_numbers(table.assign(pitch_deg=table.get("pitch_deg", 0.0)), ["yaw_deg", "pitch_deg"], pose_path)
    poses = to_files(table[["yaw_deg", "pitch_deg"]], faces.ids).dropna()
    if poses.empty:
        raise LatentrotError(f"{one_line(pose_path)} contains no pose for any of the {len(faces.ids)} images beside it")
    marks = faces.find_table("landmarks68")
    return PairFolder(
        faces,
        poses,
        read_scenes(faces, table, poses),
        None if marks is None else to_files(read_table(marks), faces.ids),
    )


def read_scenes(faces: FaceFolder, table: pd.DataFrame, poses: pd.DataFrame) -> pd.Series:
    """image_id -> name of the scene: from `clip`, or the head of rendered views."""
    path = faces.find_table("clip")
    if path is None and "head" not in table:
        return pd.Series(dtype=object)
    column = read_table(path).iloc[:, 0] if path else table["head"]
    there = {stem_of(i) for i in faces.ids}
    if missing := [i for i in column.index if stem_of(i) not in there]:
        log.warning("%s names %d images that do not exist, such as %s; their pairs are left out",
                    one_line(path or "views"), len(missing), one_line(missing[0]))  # fmt: skip
    scenes = to_files(column.to_frame("scene"), faces.ids)["scene"].dropna().astype(str)
    return scenes[scenes.index.isin(poses.index)]


def stem_of(name: str) -> str:
    """The name of an image without its suffix; tables may contain names with or without."""
    return name.rsplit(".", 1)[0]


def plan_sources(folders: Sequence[PairFolder], count: int, share: float, seed: int) -> list[Source]:
    """Select the training sources of a run, shuffled over all folders.

    Args:
        folders: folders of the run.
        count: max number of sources.
        share: share of the people held out.
        seed: seed of the run.
    """
    return _mixed(folders, count, share, seed, strangers=False)


def plan_held_out(folders: Sequence[PairFolder], count: int, share: float, seed: int) -> list[Source]:
    """Select sources of held-out people for sample sheets, sources with partners first; arguments as in `plan_sources`."""
    found = _mixed(folders, 10**9, share, seed, strangers=True)
    return sorted(found, key=lambda s: not s.partners)[:count]


def _mixed(folders: Sequence[PairFolder], count: int, share: float, seed: int, strangers: bool) -> list[Source]:
    """Shuffle each folder and interleave the folders, so that every prefix contains them equally as long as they last."""
    ranked = []
    for number, folder in enumerate(folders):
        found = [s for s in folder.sources(number, share, seed) if s.held_out == strangers]
        order = np.random.default_rng((seed, 2, number)).permutation(len(found))
        ranked += [(rank, number, found[i]) for rank, i in enumerate(order)]
    return [source for _, _, source in sorted(ranked, key=lambda r: r[:2])[:count]]
