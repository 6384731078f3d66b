"""Which photographs make pairs: mirror images, frames of one scene, and images turned there and back.

What a run is made of depends on the folders, the seed and nothing else; raising `sources` adds to it and changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from latentrot.data.celeba import FaceFolder, held_out, open_folder
from latentrot.data.tables import as_numbers, read_table, to_files
from latentrot.errors import LatentrotError, one_line

__all__ = ["PairFolder", "Partner", "Source", "open_pair_folder", "plan_sources"]

log = logging.getLogger(__name__)

#: other images of its scene that one source is paired with, at most
PARTNERS = 4
#: poses of one scene nearer than this teach nothing about turning, degrees
MIN_TURN = 4.0
#: turns away and back of one source that is in no scene
BACKS = 2


@dataclass(frozen=True)
class Partner:
    """Another image of a source's scene."""

    image_id: str
    pose: tuple[float, float]


@dataclass(frozen=True)
class Source:
    """An image and what it is paired with.

    Args:
        folder: which of the folders it lies in.
        image_id: its name there.
        pose: yaw and pitch, degrees.
        stranger: of the people held out.
        partners: other images of its scene.
        seed: of the turns drawn for it.
    """

    folder: int
    image_id: str
    pose: tuple[float, float]
    stranger: bool
    partners: tuple[Partner, ...]
    seed: int


@dataclass(frozen=True, eq=False)
class PairFolder:
    """A folder of images with poses.

    Args:
        faces: its images.
        poses: yaw_deg and pitch_deg by image_id, of the images that have both.
        scenes: name of the scene by image_id; empty where the folder has none.
        landmarks: (n, 136) in the pixels of a 178x218 frame by image_id, or None.
    """

    faces: FaceFolder
    poses: pd.DataFrame
    scenes: pd.Series
    landmarks: pd.DataFrame | None

    def sources(self, number: int, share: float, seed: int) -> list[Source]:
        """Every image with a pose as a source, in the order of the folder.

        Args:
            number: of the folder.
            share: of the people held out.
            seed: of the run.
        """
        strangers = held_out(self.faces.identities.reindex(self.poses.index).to_numpy(), share)
        together = {name: list(group.index) for name, group in self.scenes.groupby(self.scenes)}
        return [
            Source(number, i, self.pose(i), bool(stranger), self.partners(i, together), seed * 1_000_003 + k)
            for k, (i, stranger) in enumerate(zip(self.poses.index, strangers, strict=True))
        ]

    def pose(self, image_id: str) -> tuple[float, float]:
        """Yaw and pitch of an image, degrees."""
        yaw, pitch = self.poses.loc[image_id].to_numpy(np.float64)
        return float(yaw), float(pitch)

    def partners(self, image_id: str, together: dict[str, list[str]]) -> tuple[Partner, ...]:
        """The images of its scene that are turned farthest from it."""
        scene = self.scenes.get(image_id)
        others = [Partner(i, self.pose(i)) for i in together.get(scene, []) if i != image_id]  # type: ignore[arg-type]
        here = np.array(self.pose(image_id))
        far = {p: float(np.linalg.norm(np.array(p.pose) - here)) for p in others}
        return tuple(sorted((p for p in others if far[p] >= MIN_TURN), key=lambda p: -far[p])[:PARTNERS])


def open_pair_folder(root: Path) -> PairFolder:
    """A folder of aligned or square images and the tables that make pairs of them.

    Read are `pose` (or `views`: yaw_deg and, if there, pitch_deg), `clip` (images of one number show one scene; `views`:
    of one head) and `landmarks68`.

    Raises:
        LatentrotError: no such folder, no images, or no poses beside them.
    """
    faces = open_folder(root)
    pose_path = faces.find_table("pose") or faces.find_table("views")
    if pose_path is None:
        raise LatentrotError(
            f"no poses beside the images in {one_line(root)} (pose.csv, or views.csv); make them with: "
            f"latentrot label --data {one_line(root)} --out {one_line(Path(root) / 'pose.csv')}"
        )
    table = read_table(pose_path)
    if "yaw_deg" not in table:
        raise LatentrotError(
            f"{one_line(pose_path)} lacks the column yaw_deg; it has {', '.join(map(str, table.columns))}"
        )
    table = as_numbers(table.assign(pitch_deg=table.get("pitch_deg", 0.0)), ["yaw_deg", "pitch_deg"], pose_path)
    poses = to_files(table[["yaw_deg", "pitch_deg"]], faces.ids).dropna()
    if poses.empty:
        raise LatentrotError(f"{one_line(pose_path)} gives no pose of any of the {len(faces.ids)} images beside it")
    marks = faces.find_table("landmarks68")
    return PairFolder(
        faces,
        poses,
        read_scenes(faces, table, poses),
        None if marks is None else to_files(read_table(marks), faces.ids),
    )


def read_scenes(faces: FaceFolder, table: pd.DataFrame, poses: pd.DataFrame) -> pd.Series:
    """Names of scenes by image_id: from `clip`, or of rendered views the head."""
    path = faces.find_table("clip")
    if path is None and "head" not in table:
        return pd.Series(dtype=object)
    column = read_table(path).iloc[:, 0] if path else table["head"]
    there = {stem_of(i) for i in faces.ids}
    if missing := [i for i in column.index if stem_of(i) not in there]:
        log.warning("%s names %d images that are not there, %s among them: their pairs are left out",
                    one_line(path or "views"), len(missing), one_line(missing[0]))  # fmt: skip
    scenes = to_files(column.to_frame("scene"), faces.ids)["scene"].dropna().astype(str)
    return scenes[scenes.index.isin(poses.index)]


def stem_of(name: str) -> str:
    """An image's name without its suffix, by which tables name it too."""
    return name.rsplit(".", 1)[0]


def plan_sources(folders: Sequence[PairFolder], count: int, share: float, seed: int) -> list[Source]:
    """The sources of a run: so many of those who are not held out, folders and images mixed.

    Args:
        folders: all of the run.
        count: how many.
        share: of the people held out.
        seed: of the run.
    """
    return _mixed(folders, count, share, seed, strangers=False)


def plan_strangers(folders: Sequence[PairFolder], count: int, share: float, seed: int) -> list[Source]:
    """So many sources of people held out, those of scenes first, for sample sheets."""
    found = _mixed(folders, 10**9, share, seed, strangers=True)
    return sorted(found, key=lambda s: not s.partners)[:count]


def _mixed(folders: Sequence[PairFolder], count: int, share: float, seed: int, strangers: bool) -> list[Source]:
    """Each folder shuffled, then all merged so that any beginning holds equally many of each while they last."""
    ranked = []
    for number, folder in enumerate(folders):
        found = [s for s in folder.sources(number, share, seed) if s.stranger == strangers]
        order = np.random.default_rng((seed, 2, number)).permutation(len(found))
        ranked += [(rank, number, found[i]) for rank, i in enumerate(order)]
    return [source for _, _, source in sorted(ranked, key=lambda r: r[:2])[:count]]
