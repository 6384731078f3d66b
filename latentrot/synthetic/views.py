"""Training data for multi-view networks: rendered heads in poses over the full circle, with exact normals.

The head rotates; camera, light and background stay fixed. Normals are in the camera's frame: x to the viewer's right, y up,
z towards the viewer. Each person is also rendered with other lights, expressions and clothes, to learn the identity.
Shards are rendered before the training and written atomically.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from latentrot.synthetic.head_model import ICT_PATH, HeadModel, load_head_model
from latentrot.synthetic.sample import HeadParameters, sample_head, with_light_of, with_pose
from latentrot.synthetic.shade import render
from latentrot.synthetic.shards import RenderJob, read_shards, render_shards

__all__ = ["HeadViews", "read_head_views", "render_views"]

#: heads per shard
SHARD = 10
#: max absolute pitch of the views, degrees
PITCH_DEG = 30.0
#: number of images of each person with other light, expression and clothes
OCCASIONS = 4


@dataclass(frozen=True, eq=False)
class HeadViews:
    """Multi-view images of n heads in v poses.

    Args:
        image: (n, v, 3, s, s) uint8.
        normals: (n, v, 3, s, s) uint8, 0 to 255 for -1 to 1, in the camera's frame, 128 in the background.
        pose: (n, v, 2) float32, yaw and pitch in degrees.
        occasion: (n, k, 3, s, s) uint8, k further images of each person with other pose, light, expression and clothes.
    """

    image: torch.Tensor
    normals: torch.Tensor
    pose: torch.Tensor
    occasion: torch.Tensor

    def __len__(self) -> int:
        return len(self.image)


def poses_of(head: int, seed: int, views: int) -> np.ndarray:
    """(views, 2) yaw and pitch in degrees, stratified: one random yaw in each of `views` equal sectors of the circle."""
    rng = np.random.default_rng((seed, 5, head))
    yaw = (np.arange(views) + rng.uniform(0, 1, views)) * 360 / views - 180
    return np.column_stack([yaw, rng.uniform(-PITCH_DEG, PITCH_DEG, views)])


def head_of(index: int, seed: int, plain: float) -> HeadParameters:
    """Draw the parameters of a head; a share `plain` of the heads gets a background of one colour."""
    head = sample_head(seed, index)
    if np.random.default_rng((seed, 6, index)).uniform() >= plain:
        return head
    first = head.background.first
    return replace(head, background=replace(head.background, second=first, amount=0.0))


def with_appearance_of(head: HeadParameters, other: HeadParameters) -> HeadParameters:
    """Parameters of the same person with the pose, light, expression and clothes of another head."""
    lit = with_light_of(head, other)
    return with_pose(
        replace(lit, expression=other.expression, gaze=other.gaze, cloth=other.cloth), other.yaw_deg, other.pitch_deg
    )


def render_head(model: HeadModel, index: int, seed: int, views: int, plain: float, size: int) -> dict[str, np.ndarray]:
    """Render one head: arrays as in `HeadViews`, without the first dimension and with channels last."""
    head, poses = head_of(index, seed, plain), poses_of(index, seed, views)
    drawn = [render(model, with_pose(head, yaw, pitch), size, maps=True) for yaw, pitch in poses]
    days = [with_appearance_of(head, sample_head(seed + 1, index * OCCASIONS + k)) for k in range(OCCASIONS)]
    return {
        "image": np.stack([d.image for d in drawn]),
        "normals": np.stack([d.normals for d in drawn if d.normals is not None]),
        "pose": poses.astype(np.float32),
        "occasion": np.stack([render(model, day, size).image for day in days]),
    }


# --- shards ------------------------------------------------------------------------------------------------------------


def render_heads(heads: range, seed: int, views: int, size: int, plain: float, ict: Path) -> dict[str, torch.Tensor]:
    """Render several heads: name -> tensor, as in `HeadViews`."""
    model = load_head_model(ict)
    drawn = [render_head(model, index, seed, views, plain, size) for index in heads]
    stacked = {name: torch.from_numpy(np.stack([d[name] for d in drawn])) for name in drawn[0]}
    return {k: (v if k == "pose" else v.movedim(-1, 2)).contiguous() for k, v in stacked.items()}


def render_views(
    folder: Path, heads: range, *, seed: int, views: int, size: int, plain: float = 0.5, workers: int = 1,
    ict: Path = ICT_PATH,
) -> list[Path]:  # fmt: skip
    """Render all heads that were not rendered yet.

    Args:
        folder: target folder of the shards.
        heads: numbers of the heads.
        seed: seed of the set; below `latentrot.synthetic.sample.TEST_SEED` for training data.
        views: number of views of each head.
        size: side of the images in pixels.
        plain: share of heads with a background of one colour.
        workers: number of processes.
        ict: the face model, made by `latentrot heads import`.

    Returns:
        The shards, in order.

    Raises:
        LatentrotError: the face model is missing.
    """
    load_head_model(ict)  # fail before the first file is written
    header = {
        "kind": "latentrot head views",
        "seed": str(seed),
        "views": str(views),
        "size": str(size),
        "plain": str(plain),
    }
    groups = [heads[i : i + SHARD] for i in range(0, len(heads), SHARD)]
    jobs = [
        RenderJob(
            folder / f"heads-{group[0]:06d}.safetensors",
            header | {"heads": f"{group[0]}:{group[-1] + 1}"},
            (group, seed, views, size, plain, ict),
        )
        for group in groups
    ]
    return render_shards(jobs, render_heads, what="heads", workers=workers)


def read_head_views(paths: list[Path]) -> HeadViews:
    """Read all heads of some shards.

    Raises:
        LatentrotError: a shard cannot be read.
    """
    return HeadViews(**read_shards(paths))
