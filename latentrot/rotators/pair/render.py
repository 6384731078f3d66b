"""Pairs as images: sources, as they are or turned by geometry to where their targets are, made once and kept on the disk.

Turning by geometry takes a good part of a second an image, a training step a few hundredths: so conditions are rendered
before the training, in shards that are whole or not there. A run that is stopped goes on with the next shard.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from latentrot.data.digests import image_digest
from latentrot.data.frame import CROP_BOX, FRAME_WIDTH, face_box
from latentrot.data.images import resize
from latentrot.errors import LatentrotError
from latentrot.faces.alignment import Alignment, align_landmarks
from latentrot.faces.landmarks import estimate_landmarks
from latentrot.faces.parts import estimate_parts
from latentrot.faces.upright import five_of, mirrored
from latentrot.geometry import Head, MeshConfig, TurnedHead, build_head, turn_head
from latentrot.geometry.fitter import face_of_crop
from latentrot.geometry.surface import fit_surface
from latentrot.rotators.pair.config import KINDS
from latentrot.rotators.pair.pairs import BACKS, PairFolder, Source
from latentrot.synthetic.shards import RenderJob, read_shards, render_shards

__all__ = ["RenderedPairs", "Turner", "read_pairs", "render_pairs"]

log = logging.getLogger(__name__)

#: sources of one shard
SHARD = 24
#: side of the squares that are turned, times the resolution; the geometry works on faces of two thirds of that
ENLARGED = 2.25
#: turns of pairs beyond this many degrees are left out: nothing of the source is seen in the target
MAX_DISTANCE = 80.0


@dataclass(frozen=True, eq=False)
class RenderedPairs:
    """Pairs at a model's resolution.

    Args:
        condition: (n, 4, s, s) uint8, the source turned by geometry to the target's pose, and 255 where the source shows it;
            without geometry the source as it is, all of it shown.
        source: (n, 3, s, s) uint8.
        target: (n, 3, s, s) uint8, a photograph.
        poses: (n, 2, 2) float32, yaw and pitch of source and target, degrees.
        kind: (n,) uint8, the place in `KINDS`.
    """

    condition: torch.Tensor
    source: torch.Tensor
    target: torch.Tensor
    poses: torch.Tensor
    kind: torch.Tensor

    def __len__(self) -> int:
        return len(self.kind)


@dataclass(frozen=True)
class Turner:
    """Turns square crops by geometry at a model's resolution.

    Args:
        resolution: side of the model's images.
    """

    resolution: int

    @property
    def side(self) -> int:
        """Side of the squares that are turned: the landmarks' network and the resampling want more than the model shows."""
        return round(ENLARGED * self.resolution)

    @property
    def config(self) -> MeshConfig:
        """The geometry at no finer a grid than the result can show; the light is left to the model."""
        width = int(np.clip(round(1.5 * self.resolution), 96, 280))
        return MeshConfig(smallest_px=width, largest_px=width, light_follows=True)

    def head_of(self, square: np.ndarray, marks: np.ndarray | None = None) -> Head:
        """Set up the head in a crop in the CelebA frame, (s, s, 3) uint8 of any size.

        Args:
            square: the crop.
            marks: (68, 2) landmarks, if they are known, in pixels of an enlarged crop (`side`).

        Raises:
            LatentrotError: no face, or one hidden or turned too far.
        """
        large = resize(square, self.side)
        if marks is None:
            marks = self.marks_of(large)
        return build_head(large, marks, estimate_parts(large, marks), self.config)

    def marks_of(self, large: np.ndarray) -> np.ndarray:
        """(68, 2) landmarks of an enlarged crop (`side`), in its pixels.

        Raises:
            LatentrotError: no face, or one hidden.
        """
        return estimate_landmarks(large, face_of_crop(self.side).landmarks).require_sure().points

    def condition(self, turned: TurnedHead) -> np.ndarray:
        """(s, s, 4) uint8: the turned head in the CelebA frame, and how far the source shows each pixel."""
        alignment = turned.alignment
        image = alignment.crop(turned.image, self.resolution)
        seen = np.rint(255 * turned.coverage).astype(np.uint8)[..., None].repeat(3, 2)
        return np.concatenate([image, alignment.crop(seen, self.resolution)[..., :1]], -1)


@dataclass(frozen=True, eq=False)
class Framed:
    """An image with its landmarks.

    Args:
        square: (s, s, 3) uint8, the crop in the CelebA frame, enlarged.
        marks: (68, 2) in its pixels.
    """

    square: np.ndarray
    marks: np.ndarray

    @cached_property
    def pose(self) -> tuple[float, float]:
        """Yaw and pitch of the face that the geometry fits to it."""
        fit = fit_surface(self.marks)
        return fit.yaw_deg, fit.pitch_deg

    def mirrored(self) -> Framed:
        """The mirror image."""
        return Framed(self.square[:, ::-1].copy(), mirrored(self.marks, self.square.shape[1]))


def framed(folder: PairFolder, image_id: str, turner: Turner) -> Framed:
    """Read an image, find its landmarks and lay the CelebA frame by them, as an edit does.

    Raises:
        LatentrotError: the image is missing, damaged, or no face is on it.
    """
    image = np.asarray(folder.faces.open_image(image_id))
    marks = landmarks_of(folder, image_id, image)
    alignment = align_landmarks(five_of(marks), (image.shape[1], image.shape[0]))
    return Framed(alignment.crop(image, turner.side), on_crop(alignment, marks, turner.side))


def landmarks_of(folder: PairFolder, image_id: str, image: np.ndarray) -> np.ndarray:
    """(68, 2) image pixels: those of the folder's table where it has them, else as they are found."""
    row = np.full(136, np.nan) if folder.landmarks is None else folder.landmarks.loc[image_id].to_numpy(np.float64)
    if np.isfinite(row).all():
        return row.reshape(68, 2) * (image.shape[1] / FRAME_WIDTH)
    left, top, right, _ = face_box(image.shape[1], image.shape[0])
    found = estimate_landmarks(image, face_of_crop(right - left).landmarks + np.array([left, top]))
    return found.require_sure().points


def on_crop(alignment: Alignment, points: np.ndarray, side: int) -> np.ndarray:
    """Photograph positions (n, 2) -> positions in the face crop of `side` pixels."""
    left, top, right, _ = CROP_BOX
    return (alignment.to_frame(points) - [left, top]) * (side / (right - left))


def pairs_of(
    source: Source, folder: PairFolder, turner: Turner, back_deg: float, geometry: bool = True
) -> list[dict[str, np.ndarray]]:
    """Every pair of one source, one after the other; those whose partner cannot be read are left out with a line each.

    Args:
        source: the image.
        folder: it lies in.
        turner: how images are turned.
        back_deg: it is turned away by up to so many degrees.
        geometry: turn the source to its targets, and make pairs of turns there and back; without, both are left out.

    Raises:
        LatentrotError: the source itself cannot be read or turned.
    """
    here = framed(folder, source.image_id, turner)
    head = turner.head_of(here.square, here.marks) if geometry else None
    found = [mirror_pair(head, here, source, turner), *scene_pairs(head, here, source, folder, turner)]
    if head is not None and not source.partners:
        found += back_pairs(head, here, source, turner, back_deg)
    return [pair for pair in found if pair is not None]


def pair_of(
    condition: np.ndarray, source: np.ndarray, target: np.ndarray, poses: Sequence[tuple[float, float]], kind: str, size: int
) -> dict[str, np.ndarray]:  # fmt: skip
    """One pair as arrays of `RenderedPairs`, channels first."""
    return {
        "condition": condition.transpose(2, 0, 1),
        "source": resize(source, size).transpose(2, 0, 1),
        "target": resize(target, size).transpose(2, 0, 1),
        "poses": np.asarray(poses, np.float32),
        "kind": np.uint8(KINDS.index(kind)),  # type: ignore[dict-item]
    }


def shown(head: Head | None, here: Framed, there: Framed, turner: Turner) -> np.ndarray | None:
    """What the network is shown of a source for a target, (s, s, 4) uint8; None where the turn between them is too far.

    Args:
        head: the source's, to be turned; None: the source is shown as it is.
        here: the source.
        there: the target.
        turner: how images are turned.
    """
    yaw, pitch = np.subtract(there.pose, here.pose if head is None else head.pose)
    if max(abs(yaw), abs(pitch)) > MAX_DISTANCE:
        return None
    if head is not None:
        return turner.condition(turn_head(head, yaw, pitch))
    return np.dstack([resize(here.square, turner.resolution), np.full((turner.resolution,) * 2, 255, np.uint8)])


def mirror_pair(head: Head | None, here: Framed, source: Source, turner: Turner) -> dict[str, np.ndarray] | None:
    """The source as shown for the pose of its mirror image, and the mirror image."""
    there = here.mirrored()
    condition = shown(head, here, there, turner)
    if condition is None:
        return None
    poses = [source.pose, (-source.pose[0], source.pose[1])]
    return pair_of(condition, here.square, there.square, poses, "mirror", turner.resolution)


def scene_pairs(
    head: Head | None, here: Framed, source: Source, folder: PairFolder, turner: Turner
) -> Iterator[dict[str, np.ndarray]]:
    """The source as shown for the poses of other images of its scene, and those images."""
    for partner in source.partners:
        try:
            there = framed(folder, partner.image_id, turner)
        except LatentrotError as error:
            log.warning("left out: the pair of %s and %s: %s", source.image_id, partner.image_id, error)
            continue
        condition = shown(head, here, there, turner)
        if condition is not None:
            poses = [source.pose, partner.pose]
            yield pair_of(condition, here.square, there.square, poses, "scene", turner.resolution)


def back_pairs(
    head: Head, here: Framed, source: Source, turner: Turner, back_deg: float
) -> Iterator[dict[str, np.ndarray]]:
    """The source turned away and, as condition, back; the untouched image is what it should have become."""
    rng = np.random.default_rng((source.seed, 3))
    sides = rng.permutation([-1, 1])
    for side in sides[:BACKS]:
        yaw, pitch = side * rng.uniform(5, back_deg), rng.normal(0, 4)
        try:
            away = turn_head(head, yaw, pitch)
            back = turn_head(turner.head_of(away.image, away.landmarks), -yaw, -pitch)
        except LatentrotError as error:
            log.warning("left out: %s turned by %+.0f degrees and back: %s", source.image_id, yaw, error)
            continue
        seen = away.alignment.crop(away.image, turner.resolution)
        poses = [(source.pose[0] + yaw, source.pose[1] + pitch), source.pose]
        yield pair_of(turner.condition(back), seen, here.square, poses, "back", turner.resolution)


# --- shards ------------------------------------------------------------------------------------------------------------


def render_sources(
    sources: Sequence[Source], roots: Sequence[PairFolder], resolution: int, back_deg: float, geometry: bool
) -> dict[str, torch.Tensor]:
    """The pairs of some sources, as arrays of `RenderedPairs`; a source that cannot be turned is left out with a line."""
    turner, found = Turner(resolution), []
    for source in sources:
        try:
            found += pairs_of(source, roots[source.folder], turner, back_deg, geometry)
        except LatentrotError as error:
            log.warning("left out: %s: %s", source.image_id, error)
    columns = {"condition": (4, resolution, resolution), "source": (3, resolution, resolution)}
    columns |= {"target": columns["source"], "poses": (2, 2), "kind": ()}
    empty = {k: np.zeros((0, *shape), np.float32 if k == "poses" else np.uint8) for k, shape in columns.items()}
    stacked = {k: np.stack([p[k] for p in found]) for k in columns} if found else empty
    return {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in stacked.items()}


def render_pairs(
    folder: Path, sources: Sequence[Source], roots: Sequence[PairFolder], resolution: int, back_deg: float,
    *, geometry: bool = True, workers: int = 1, name: str = "pairs",
) -> list[Path]:  # fmt: skip
    """Render all pairs of a run that are not there yet.

    Args:
        folder: where the shards go.
        sources: from `plan_sources`.
        roots: the folders they lie in.
        resolution: of the model.
        back_deg: images are turned away by up to so many degrees.
        geometry: see `pairs_of`.
        workers: processes.
        name: first word of the shards' names.

    Returns:
        The shards, in order.
    """
    groups = [sources[i : i + SHARD] for i in range(0, len(sources), SHARD)]
    jobs = [
        RenderJob(
            folder / f"{name}-{i:05d}.safetensors",
            header_of(group, roots, resolution, back_deg if geometry else None),
            (group, roots, resolution, back_deg, geometry),
        )
        for i, group in enumerate(groups)
    ]
    return render_shards(jobs, render_sources, what=name, workers=workers)


def header_of(
    sources: Sequence[Source], roots: Sequence[PairFolder], resolution: int, back_deg: float | None
) -> dict[str, str]:
    """What a shard was made from; `back_deg` is None without geometry."""
    files = [(s.folder, i) for s in sources for i in (s.image_id, *(p.image_id for p in s.partners))]
    digests = [image_digest(roots[folder].faces.image_dir / image_id) for folder, image_id in files]
    made = [[s.folder, s.image_id, s.seed] for s in sources]
    return {
        "kind": "latentrot pairs",
        "resolution": str(resolution),
        "back_deg": str(back_deg),
        "sources": json.dumps(made),
        "images": hashlib.sha256("".join(digests).encode()).hexdigest()[:16],
    }


def read_pairs(paths: Sequence[Path]) -> RenderedPairs:
    """All pairs of some shards.

    Raises:
        LatentrotError: a shard cannot be read, or there is no pair at all.
    """
    pairs = RenderedPairs(**read_shards(paths))
    if not len(pairs):
        raise LatentrotError(f"none of the images could be turned; {len(paths)} shards in {paths[0].parent} are empty")
    return pairs
