"""Render training pairs into shards: targets, and sources rotated by geometry to the pose of their target.

A rotation by geometry takes longer than a training step, so conditions are rendered once, before training. Shards are written
atomically; an interrupted run continues with the next shard.
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

from latentrot.data.arrays import resize
from latentrot.data.digests import image_digest
from latentrot.data.frame import CROP_BOX, FRAME_WIDTH, face_box
from latentrot.errors import LatentrotError
from latentrot.faces.alignment import Alignment, align_landmarks
from latentrot.faces.landmarks import estimate_landmarks
from latentrot.faces.parts import estimate_parts
from latentrot.faces.upright import five_of, mirrored
from latentrot.geometry import Head, MeshConfig, TurnedHead, build_head
from latentrot.geometry.fitter import face_of_crop
from latentrot.geometry.surface import fit_surface
from latentrot.geometry.turn import turn_surfaces
from latentrot.rotators.pair.config import KINDS
from latentrot.rotators.pair.pairs import BACK_PAIRS, PairFolder, Source
from latentrot.synthetic.shards import RenderJob, read_shards, render_shards

__all__ = ["ConditionRenderer", "RenderedPairs", "read_rendered_pairs", "render_pairs"]

log = logging.getLogger(__name__)

#: number of sources per shard
SHARD = 24
#: side of the crops that geometry rotates, relative to the model's resolution
ENLARGED = 2.25
#: max rotation of a pair in degrees: beyond it source and target show no common surface
MAX_ROTATION_DEG = 80.0


@dataclass(frozen=True, eq=False)
class RenderedPairs:
    """Pairs at a model's resolution.

    Args:
        condition: (n, 4, s, s) uint8, the source rotated by geometry to the target's pose, and its coverage (255: visible in
            the source); without geometry the source itself with full coverage.
        source: (n, 3, s, s) uint8.
        target: (n, 3, s, s) uint8, a photograph.
        poses: (n, 2, 2) float32, yaw and pitch of source and target, degrees.
        kind: (n,) uint8, index in `KINDS`.
    """

    condition: torch.Tensor
    source: torch.Tensor
    target: torch.Tensor
    poses: torch.Tensor
    kind: torch.Tensor

    def __len__(self) -> int:
        return len(self.kind)


@dataclass(frozen=True)
class ConditionRenderer:
    """Renders conditions: crops rotated by geometry, at a model's resolution.

    Args:
        resolution: side of the model's images in pixels.
    """

    resolution: int

    @property
    def side(self) -> int:
        """Side of the crops that geometry rotates; the landmark network needs more pixels than the model has."""
        return round(ENLARGED * self.resolution)

    @property
    def config(self) -> MeshConfig:
        """Parameters of the geometry: a grid no finer than the result, and shading that rotates with the head."""
        width = int(np.clip(round(1.5 * self.resolution), 96, 280))
        return MeshConfig(smallest_px=width, largest_px=width, light_follows=True)

    def fit_head(self, square: np.ndarray, landmarks: np.ndarray | None = None) -> Head:
        """Fit a head to a crop in the CelebA frame.

        Args:
            square: (s, s, 3) uint8, of any size.
            landmarks: (68, 2) landmarks in pixels of the enlarged crop (`side`); None: they are estimated.

        Raises:
            LatentrotError: the crop shows no face, or the face is occluded or rotated too far.
        """
        large = resize(square, self.side)
        if landmarks is None:
            landmarks = self.landmarks_of(large)
        return build_head(large, landmarks, estimate_parts(large, landmarks), self.config)

    def landmarks_of(self, large: np.ndarray) -> np.ndarray:
        """Estimate (68, 2) landmarks of an enlarged crop (`side`), in its pixels.

        Raises:
            LatentrotError: the crop shows no face, or the face is occluded.
        """
        return estimate_landmarks(large, face_of_crop(self.side).landmarks).require_sure().points

    def render(self, turned: TurnedHead) -> np.ndarray:
        """(s, s, 4) uint8: the rotated head in the CelebA frame, and its coverage by the source (255: visible)."""
        alignment = turned.alignment
        image = alignment.crop(turned.image, self.resolution)
        seen = np.rint(255 * turned.coverage).astype(np.uint8)[..., None].repeat(3, 2)
        return np.concatenate([image, alignment.crop(seen, self.resolution)[..., :1]], -1)


@dataclass(frozen=True, eq=False)
class AlignedFace:
    """An aligned crop with its landmarks.

    Args:
        square: (s, s, 3) uint8, the enlarged crop in the CelebA frame.
        landmarks: (68, 2) landmarks in pixels of the crop.
    """

    square: np.ndarray
    landmarks: np.ndarray

    @cached_property
    def pose(self) -> tuple[float, float]:
        """Yaw and pitch of the fitted face surface, degrees."""
        fit = fit_surface(self.landmarks)
        return fit.yaw_deg, fit.pitch_deg

    def mirrored(self) -> AlignedFace:
        """The mirror image."""
        return AlignedFace(self.square[:, ::-1].copy(), mirrored(self.landmarks, self.square.shape[1]))


def align_face(folder: PairFolder, image_id: str, renderer: ConditionRenderer) -> AlignedFace:
    """Read an image, estimate its landmarks, and align it by them to the CelebA frame, as in an edit.

    Raises:
        LatentrotError: the image is missing or damaged, or shows no face.
    """
    image = np.asarray(folder.faces.open_image(image_id))
    landmarks = photograph_landmarks(folder, image_id, image)
    alignment = align_landmarks(five_of(landmarks), (image.shape[1], image.shape[0]))
    return AlignedFace(alignment.crop(image, renderer.side), to_crop(alignment, landmarks, renderer.side))


def photograph_landmarks(folder: PairFolder, image_id: str, image: np.ndarray) -> np.ndarray:
    """(68, 2) landmarks in image pixels, from the folder's table, or estimated."""
    row = np.full(136, np.nan) if folder.landmarks is None else folder.landmarks.loc[image_id].to_numpy(np.float64)
    if np.isfinite(row).all():
        return row.reshape(68, 2) * (image.shape[1] / FRAME_WIDTH)
    left, top, right, _ = face_box(image.shape[1], image.shape[0])
    found = estimate_landmarks(image, face_of_crop(right - left).landmarks + np.array([left, top]))
    return found.require_sure().points


def to_crop(alignment: Alignment, points: np.ndarray, side: int) -> np.ndarray:
    """Positions (n, 2) in the photograph -> positions in the face crop of `side` pixels."""
    left, top, right, _ = CROP_BOX
    return (alignment.to_frame(points) - [left, top]) * (side / (right - left))


def pairs_of(
    source: Source, folder: PairFolder, renderer: ConditionRenderer, back_deg: float, geometry: bool = True
) -> list[dict[str, np.ndarray]]:
    """Render all pairs of one source; unreadable partners are left out with a warning.

    Args:
        source: the source.
        folder: folder of the source.
        renderer: renders the conditions.
        back_deg: max yaw of pairs of kind "back", degrees.
        geometry: rotate the source to its targets by geometry, and render pairs of kind "back".

    Raises:
        LatentrotError: the source cannot be read, or no head can be fitted to it.
    """
    here = align_face(folder, source.image_id, renderer)
    head = renderer.fit_head(here.square, here.landmarks) if geometry else None
    found = [mirror_pair(head, here, source, renderer), *scene_pairs(head, here, source, folder, renderer)]
    if head is not None and not source.partners:
        found += back_pairs(head, here, source, renderer, back_deg)
    return [pair for pair in found if pair is not None]


def make_pair(
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


def pair_condition(
    head: Head | None, here: AlignedFace, there: AlignedFace, renderer: ConditionRenderer
) -> np.ndarray | None:
    """Render the condition of a pair, (s, s, 4) uint8; None if the rotation between its images is too large.

    Args:
        head: head fitted to the source; None: the condition is the source itself.
        here: the source.
        there: the target.
        renderer: renders the condition.
    """
    yaw, pitch = np.subtract(there.pose, here.pose if head is None else head.pose)
    if max(abs(yaw), abs(pitch)) > MAX_ROTATION_DEG:
        return None
    if head is not None:
        return renderer.render(turn_surfaces(head, yaw, pitch))
    return np.dstack([resize(here.square, renderer.resolution), np.full((renderer.resolution,) * 2, 255, np.uint8)])


def mirror_pair(
    head: Head | None, here: AlignedFace, source: Source, renderer: ConditionRenderer
) -> dict[str, np.ndarray] | None:
    """The pair of a source and its mirror image."""
    there = here.mirrored()
    condition = pair_condition(head, here, there, renderer)
    if condition is None:
        return None
    poses = [source.pose, (-source.pose[0], source.pose[1])]
    return make_pair(condition, here.square, there.square, poses, "mirror", renderer.resolution)


def scene_pairs(
    head: Head | None, here: AlignedFace, source: Source, folder: PairFolder, renderer: ConditionRenderer
) -> Iterator[dict[str, np.ndarray]]:
    """The pairs of a source and its partners."""
    for partner in source.partners:
        try:
            there = align_face(folder, partner.image_id, renderer)
        except LatentrotError as error:
            log.warning("left out: the pair of %s and %s: %s", source.image_id, partner.image_id, error)
            continue
        condition = pair_condition(head, here, there, renderer)
        if condition is not None:
            poses = [source.pose, partner.pose]
            yield make_pair(condition, here.square, there.square, poses, "scene", renderer.resolution)


def back_pairs(
    head: Head, here: AlignedFace, source: Source, renderer: ConditionRenderer, back_deg: float
) -> Iterator[dict[str, np.ndarray]]:
    """Render pairs: the source is rotated away, the condition away and back; the target is the photograph."""
    rng = np.random.default_rng((source.seed, 3))
    sides = rng.permutation([-1, 1])
    for side in sides[:BACK_PAIRS]:
        yaw, pitch = side * rng.uniform(5, back_deg), rng.normal(0, 4)
        try:
            away = turn_surfaces(head, yaw, pitch)
            back = turn_surfaces(renderer.fit_head(away.image, away.landmarks), -yaw, -pitch)
        except LatentrotError as error:
            log.warning("left out: %s rotated by %+.0f degrees and back: %s", source.image_id, yaw, error)
            continue
        seen = away.alignment.crop(away.image, renderer.resolution)
        poses = [(source.pose[0] + yaw, source.pose[1] + pitch), source.pose]
        yield make_pair(renderer.render(back), seen, here.square, poses, "back", renderer.resolution)


# --- shards ------------------------------------------------------------------------------------------------------------


def render_sources(
    sources: Sequence[Source], roots: Sequence[PairFolder], resolution: int, back_deg: float, geometry: bool
) -> dict[str, torch.Tensor]:
    """Render the pairs of several sources, as arrays of `RenderedPairs`; unusable sources are left out with a warning."""
    renderer, found = ConditionRenderer(resolution), []
    for source in sources:
        try:
            found += pairs_of(source, roots[source.folder], renderer, back_deg, geometry)
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
    """Render the missing shards of a run.

    Args:
        folder: folder of the shards.
        sources: from `plan_sources`.
        roots: the folders of the sources.
        resolution: resolution of the model, pixels.
        back_deg: max yaw of pairs of kind "back", degrees.
        geometry: see `pairs_of`.
        workers: number of processes.
        name: prefix of the file names.

    Returns:
        All shards of the run, in order.
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
    """Header of a shard, which identifies its inputs; `back_deg` is None if no geometry is used."""
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


def read_rendered_pairs(paths: Sequence[Path]) -> RenderedPairs:
    """Read the pairs of some shards.

    Raises:
        LatentrotError: a shard cannot be read, or all are empty.
    """
    pairs = RenderedPairs(**read_shards(paths))
    if not len(pairs):
        raise LatentrotError(f"no pairs could be rendered; all {len(paths)} shards in {paths[0].parent} are empty")
    return pairs
