"""Render the training data of a geometric condition: of rendered heads, and of pairs of photographs.

A head is fitted to one view of each rendered head, its source, and rendered from the cameras of all its views. Photographs
give pairs of a source and a target that was never rendered: two images of one scene, or a photograph rotated away by geometry
and the photograph itself. Fitting takes longer than a training step, so everything is rendered once, before training, into
shards.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from latentrot.data.arrays import resize
from latentrot.data.digests import image_digest
from latentrot.data.frame import CROP_BOX, FRAME_WIDTH
from latentrot.errors import LatentrotError
from latentrot.faces.alignment import Alignment
from latentrot.faces.parts import estimate_parts
from latentrot.geometry import Head, build_head
from latentrot.geometry.surface import SurfaceFit, fit_surface, rotation
from latentrot.rotators.pair.pairs import PairFolder, Source
from latentrot.rotators.pair.render import ConditionRenderer, photograph_landmarks
from latentrot.rotators.spin.cameras import LANDMARK_ROW_PX
from latentrot.rotators.spin.geometry import HeadCamera, aligned_centre
from latentrot.rotators.spin.network import GEOMETRY_CHANNELS
from latentrot.synthetic.shards import RenderJob, read_shards, render_shards
from latentrot.synthetic.views import HeadViews

__all__ = [
    "PhotographPairs",
    "camera_alignment",
    "camera_of_crop",
    "fit_head",
    "read_conditions",
    "read_photographs",
    "render_conditions",
    "render_photographs",
]

log = logging.getLogger(__name__)

#: max absolute yaw in degrees of the view of a rendered head that its head is fitted to
SOURCE_DEG = 45.0
#: width in frame pixels of the fitted face of the rendered heads: the median of forty, within 4 %
FACE_WIDTH_PX = 91.0
#: photographs per shard
SHARD = 24
#: number of pairs of a photograph without partners, and max yaw by which it is rotated away, degrees
AWAY_PAIRS, AWAY_DEG = 2, 60.0
#: max difference of the poses of a source and its partner, degrees
MAX_ROTATION_DEG = 80.0


def fit_head(crop: np.ndarray, resolution: int, landmarks: np.ndarray | None = None) -> Head:
    """Fit a head to a (s, s, 3) uint8 crop, with its light fixed in the scene; see `ConditionRenderer.fit_head`."""
    renderer = ConditionRenderer(resolution)
    large = resize(crop, renderer.side)
    landmarks = renderer.landmarks_of(large) if landmarks is None else landmarks
    config = replace(renderer.config, light_follows=False)
    return build_head(large, landmarks, estimate_parts(large, landmarks), config)


def camera_of_crop(crop: np.ndarray, pose: torch.Tensor, resolution: int) -> HeadCamera | None:
    """Camera of the head fitted to a (s, s, 3) uint8 crop in a pose (2,); None if no head can be fitted."""
    try:
        return HeadCamera.of_crop(fit_head(crop, resolution), pose, resolution)
    except LatentrotError as error:
        log.warning("no head can be fitted, so the views are generated without geometry: %s", error)
        return None


def camera_alignment(fit: SurfaceFit, photo_size: tuple[int, int]) -> Alignment:
    """Align a photograph as the rendered heads are: upright, with a face of constant size whatever its pose.

    `align_landmarks` enlarges rotated heads, because it keeps the distance of the eyes.
    """
    linear = FACE_WIDTH_PX / fit.width * rotation(0, 0, -fit.roll_deg)[:2, :2]
    centre = np.array([FRAME_WIDTH / 2, (CROP_BOX[1] + CROP_BOX[3]) / 2 + LANDMARK_ROW_PX])
    return Alignment(np.column_stack([linear, centre - linear @ aligned_centre(fit.landmarks)]), photo_size)


# --- rendered heads --------------------------------------------------------------------------------------------------------


def render_conditions(folder: Path, shards: Sequence[Path], resolution: int, seed: int, workers: int = 1) -> list[Path]:
    """Render the conditions of all views of rendered heads.

    Args:
        folder: target folder.
        shards: from `latentrot.synthetic.views.render_views`.
        resolution: side of the images in pixels.
        seed: seed of the choice of the sources.
        workers: number of processes.

    Returns:
        One file for each shard, for `read_conditions`.
    """
    jobs = [
        RenderJob(
            folder / path.name.replace("heads-", "conditions-"),
            {
                "kind": "latentrot head conditions",
                "heads": file_digest(path),
                "seed": str(seed),
                "size": str(resolution),
            },
            (path, resolution, seed),
        )
        for path in shards
    ]
    return render_shards(jobs, conditions_of_shard, what="conditions", workers=workers)


def file_digest(path: Path) -> str:
    """Digest of a file."""
    return hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()


def conditions_of_shard(path: Path, resolution: int, seed: int) -> dict[str, torch.Tensor]:
    """Conditions (n, v, GEOMETRY_CHANNELS, s, s) uint8, and index of the source view (n,), -1 if no head could be fitted."""
    views = HeadViews(**read_shards([path]))
    first = int(path.stem.rsplit("-", 1)[1])
    made = [conditions_of(views, i, resolution, np.random.default_rng((seed, 8, first + i))) for i in range(len(views))]
    return {"condition": torch.stack([c for c, _ in made]), "source": torch.tensor([s for _, s in made])}


def conditions_of(views: HeadViews, row: int, resolution: int, rng: np.random.Generator) -> tuple[torch.Tensor, int]:
    """Conditions (v, GEOMETRY_CHANNELS, s, s) of one rendered head from a random view of its face, and the view's index."""
    pose = views.pose[row]
    facing = np.flatnonzero(pose[:, 0].abs().numpy() <= SOURCE_DEG)
    for source in rng.permutation(facing)[:2]:
        try:
            head = fit_head(views.image[row, source].permute(1, 2, 0).numpy(), resolution)
        except LatentrotError:
            continue
        return HeadCamera.of_crop(head, pose[source], resolution).conditions(pose, resolution), int(source)
    return torch.zeros(len(pose), GEOMETRY_CHANNELS, resolution, resolution, dtype=torch.uint8), -1


def read_conditions(paths: Sequence[Path]) -> tuple[torch.Tensor, torch.Tensor]:
    """Conditions (n, v, GEOMETRY_CHANNELS, s, s) uint8 of all heads, and the index (n,) of the source of each.

    Raises:
        LatentrotError: a shard cannot be read.
    """
    read = read_shards(paths)
    return read["condition"], read["source"]


# --- photographs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class PhotographPairs:
    """Pairs of a source and a target, which is a photograph.

    Args:
        views: (n, 2, 6, s, s) uint8, images and normals of the fitted surfaces, 0 to 255 for -1 to 1.
        pose: (n, 2, 2) float32 yaw and pitch in degrees.
        condition: (n, 2, GEOMETRY_CHANNELS, s, s) uint8, the head of the source from both cameras.
    """

    views: torch.Tensor
    pose: torch.Tensor
    condition: torch.Tensor

    def __len__(self) -> int:
        return len(self.views)


@dataclass(frozen=True, eq=False)
class FittedPhotograph:
    """A photograph in the camera's frame with its head.

    Args:
        crop: (s, s, 3) uint8, enlarged.
        head: fitted to the crop.
    """

    crop: np.ndarray
    head: Head

    @property
    def pose(self) -> torch.Tensor:
        """(2,) yaw and pitch of the fitted face, degrees."""
        return torch.tensor(self.head.pose, dtype=torch.float32)

    def camera(self, side: int) -> HeadCamera:
        """Renders views of the head, `side` pixels a side."""
        return HeadCamera.of_crop(self.head, self.pose, side)


def open_photograph(folder: PairFolder, image_id: str, resolution: int) -> FittedPhotograph:
    """Read a photograph, align it as the rendered heads are, and fit its head.

    Raises:
        LatentrotError: the image is missing or damaged, or shows no face.
    """
    image = np.asarray(folder.faces.open_image(image_id))
    landmarks = photograph_landmarks(folder, image_id, image)
    alignment = camera_alignment(fit_surface(landmarks), (image.shape[1], image.shape[0]))
    side = ConditionRenderer(resolution).side
    left, top, right, _ = CROP_BOX
    placed = (alignment.to_frame(landmarks) - [left, top]) * (side / (right - left))
    crop = alignment.crop(image, side)
    return FittedPhotograph(crop, fit_head(crop, resolution, placed))


def pair_of(source: HeadCamera, target: FittedPhotograph, resolution: int) -> dict[str, torch.Tensor]:
    """One pair as tensors of `PhotographPairs`."""
    pose = torch.stack([source.pose, target.pose])
    condition = source.conditions(pose, resolution)
    views = torch.stack([condition[0, :6], target.camera(resolution).conditions(target.pose[None], resolution)[0, :6]])
    return {"views": views, "pose": pose, "condition": condition}


def pairs_of(source: Source, folder: PairFolder, resolution: int) -> Iterator[dict[str, torch.Tensor]]:
    """Render the pairs of a photograph: with its partners, or with itself rotated away.

    Raises:
        LatentrotError: the photograph cannot be read, or no head can be fitted to it.
    """
    here = open_photograph(folder, source.image_id, resolution)
    for partner in source.partners:
        try:
            there = open_photograph(folder, partner.image_id, resolution)
        except LatentrotError as error:
            log.warning("left out: the pair of %s and %s: %s", source.image_id, partner.image_id, error)
            continue
        if float((here.pose - there.pose).abs().max()) <= MAX_ROTATION_DEG:
            yield pair_of(here.camera(resolution), there, resolution)
    if not source.partners:
        yield from away_pairs(here, source, resolution)


def away_pairs(here: FittedPhotograph, source: Source, resolution: int) -> Iterator[dict[str, torch.Tensor]]:
    """Pairs whose target is the photograph, and whose source is the photograph rotated away to each side by geometry.

    The head of the source is fitted to its known landmarks: those estimated in strongly rotated faces are too frontal. It is
    rotated by the difference of the fitted poses, which are biased alike.
    """
    rng, camera = np.random.default_rng((source.seed, 9)), here.camera(len(here.crop))
    for side in rng.permutation([-1, 1])[:AWAY_PAIRS]:
        yaw, pitch = here.head.pose[0] + side * rng.uniform(5, AWAY_DEG), here.head.pose[1] + rng.normal(0, 5)
        try:
            seen = np.rint(camera.view(yaw, pitch).image.clip(0, 255)).astype(np.uint8)
            away = FittedPhotograph(seen, fit_head(seen, resolution, camera.landmarks(yaw, pitch) * camera.side))
        except LatentrotError as error:
            log.warning("left out: %s rotated to a yaw of %+.0f degrees: %s", source.image_id, yaw, error)
            continue
        yield pair_of(away.camera(resolution), here, resolution)


def render_sources(sources: Sequence[Source], roots: Sequence[PairFolder], resolution: int) -> dict[str, torch.Tensor]:
    """Render the pairs of several photographs, as tensors of `PhotographPairs`; unusable ones are left out."""
    found: list[dict[str, torch.Tensor]] = []
    for source in sources:
        try:
            found += pairs_of(source, roots[source.folder], resolution)
        except LatentrotError as error:
            log.warning("left out: %s: %s", source.image_id, error)
    side = (resolution, resolution)
    empty = {
        "views": torch.zeros(0, 2, 6, *side, dtype=torch.uint8),
        "pose": torch.zeros(0, 2, 2),
        "condition": torch.zeros(0, 2, GEOMETRY_CHANNELS, *side, dtype=torch.uint8),
    }
    return {k: torch.stack([p[k] for p in found]) if found else none for k, none in empty.items()}


def render_photographs(
    folder: Path, sources: Sequence[Source], roots: Sequence[PairFolder], resolution: int, workers: int = 1
) -> list[Path]:
    """Render the missing shards of the pairs of photographs.

    Args:
        folder: folder of the shards.
        sources: from `latentrot.rotators.pair.pairs.plan_sources`.
        roots: the folders of the sources.
        resolution: side of the images in pixels.
        workers: number of processes.

    Returns:
        All shards, in order.
    """
    groups = [sources[i : i + SHARD] for i in range(0, len(sources), SHARD)]
    jobs = [
        RenderJob(
            folder / f"photographs-{i:05d}.safetensors",
            {"kind": "latentrot photograph pairs", "size": str(resolution), "images": sources_digest(group, roots)},
            (group, roots, resolution),
        )
        for i, group in enumerate(groups)
    ]
    return render_shards(jobs, render_sources, what="photographs", workers=workers)


def sources_digest(sources: Sequence[Source], roots: Sequence[PairFolder]) -> str:
    """Digest of the images and seeds of some sources."""
    files = [(s.folder, i) for s in sources for i in (s.image_id, *(p.image_id for p in s.partners))]
    digests = [image_digest(roots[folder].faces.image_dir / image_id) for folder, image_id in files]
    return hashlib.sha256(json.dumps([digests, [s.seed for s in sources]]).encode()).hexdigest()[:16]


def read_photographs(paths: Sequence[Path]) -> PhotographPairs:
    """Read the pairs of some shards.

    Raises:
        LatentrotError: a shard cannot be read, or all are empty.
    """
    pairs = PhotographPairs(**read_shards(paths))
    if not len(pairs):
        raise LatentrotError(f"no pairs could be rendered; all {len(paths)} shards in {paths[0].parent} are empty")
    return pairs
