"""Sample from a multi-view model: one set of views, or any number of views given an image, an identity, or neither."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from latentrot.data.arrays import to_uint8
from latentrot.errors import LatentrotError
from latentrot.rotators.spin.cameras import ray_map, reference_pose
from latentrot.rotators.spin.geometry import HeadCamera
from latentrot.rotators.spin.model import SpinModel
from latentrot.rotators.spin.render import camera_of_crop

__all__ = [
    "ANCHORS_DEG",
    "NULL_IDENTITY",
    "SpinSampleConfig",
    "SpinViews",
    "draw_views",
    "identity_of",
    "normals_of",
    "spin",
]

#: yaws of the anchor views, which are generated first and condition all other views
ANCHORS_DEG = (45.0, -45.0, 90.0, -90.0, 135.0, -135.0, 180.0)
#: the embedding that means no identity condition, for any length of embeddings
NULL_IDENTITY = torch.full((1,), torch.nan)


@dataclass(frozen=True)
class SpinSampleConfig:
    """Sampling options.

    Args:
        steps: number of sampling steps (published: 50) of one evaluation each, two with guidance other than 1. None: 1 with a
            geometric condition, else 16. A single step gives the conditional mean.
        guidance: classifier-free guidance scale of images and identity; 1: no guidance. None: 1 with a geometric condition,
            else 3.
        sigma_max: initial noise level.
        sigma_min: noise level before the last step.
        rho: exponent of the noise schedule; a larger one places more levels near sigma_min.
        together: number of views in one sample.
        seed: seed of the noise.
    """

    steps: int | None = None
    guidance: float | None = None
    sigma_max: float = 40.0
    sigma_min: float = 0.01
    rho: float = 7.0
    together: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise LatentrotError(f"steps {self.steps}: expected at least 1")
        if self.together < 5:
            raise LatentrotError(
                f"together {self.together}: expected at least 5: three given views and two generated ones"
            )
        if not 0 < self.sigma_min < self.sigma_max:
            raise LatentrotError(
                f"sigma_min {self.sigma_min}, sigma_max {self.sigma_max}: expected 0 < sigma_min < sigma_max"
            )

    def with_geometry(self, there: bool) -> tuple[int, float]:
        """Steps and guidance scale, with or without a geometric condition."""
        steps, guidance = (1, 1.0) if there else (16, 3.0)
        return self.steps or steps, guidance if self.guidance is None else self.guidance


@dataclass(frozen=True, eq=False)
class SpinViews:
    """Views of one head.

    Args:
        images: (n, 6, s, s) float in [-1, 1], image and normals in the camera's frame.
        pose: (n, 2) float32, yaw and pitch in degrees.
    """

    images: Tensor
    pose: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def joined(self, other: SpinViews) -> SpinViews:
        """Concatenate with other views."""
        return SpinViews(torch.cat([self.images, other.images]), torch.cat([self.pose, other.pose]))

    def chosen(self, rows: Sequence[int]) -> SpinViews:
        """Select views by index."""
        return SpinViews(self.images[list(rows)], self.pose[list(rows)])


@torch.no_grad()
def spin(
    model: SpinModel,
    image: Tensor | None,
    pose: Tensor,
    requested: Tensor,
    identity: Tensor = NULL_IDENTITY,
    config: SpinSampleConfig | None = None,
    camera: HeadCamera | None = None,
) -> SpinViews:
    """Generate views of a head in any poses: first anchors around the head, then each view from the nearest anchors.

    Source: Galanakis et al., "SpinMeRound", ICCV 2025.

    Args:
        model: from `load_spin_model`.
        image: (3, s, s) in [-1, 1], in the CelebA frame; None: sample a new person.
        pose: (2,) yaw and pitch of the image in degrees.
        requested: (n, 2) poses of the views, degrees.
        identity: (d,) embedding of the person, or `NULL_IDENTITY`.
        config: sampling options.
        camera: renders the head fitted to the image, for a model with a geometric condition; None: no geometry.

    Returns:
        The requested views, in their order.
    """
    config = config or SpinSampleConfig()
    # without an image: sample a frontal view, and use its identity and its geometry
    if image is None:
        first = draw_views(model, None, pose[None], identity, config)
        sampled = to_uint8(first.images[:, :3])[0]
        identity = identity_of(model, sampled) if identity.isnan().all() else identity
        camera = camera_of_crop(sampled, pose, model.resolution) if model.network.with_geometry else None
    # with an image: sample its normals, with the channels of the image fixed
    else:
        first = SpinViews(normals_of(model, image, pose, identity, config, camera)[None], pose[None])
    # anchors around the head, in one sample
    turn = torch.tensor([[yaw, 0.0] for yaw in ANCHORS_DEG])
    anchors = first.joined(draw_views(model, first, wrap_yaw(first.pose[0] + turn), identity, config, camera))
    # each view from the image and the two nearest anchors
    drawn: dict[int, Tensor] = {}
    for given, rows in nearest_anchors(anchors.pose, requested, config.together - 3):
        views = draw_views(model, anchors.chosen(given), requested[rows], identity, config, camera)
        drawn |= dict(zip(rows, views.images, strict=True))
    return SpinViews(torch.stack([drawn[i] for i in range(len(requested))]), requested)


def identity_of(model: SpinModel, crop: np.ndarray) -> Tensor:
    """The embedding of the person in a (s, s, 3) uint8 crop, (d,); `NULL_IDENTITY` for a model without identities."""
    return NULL_IDENTITY if model.person is None else torch.from_numpy(model.person.embed([crop])[0])


def wrap_yaw(pose: Tensor) -> Tensor:
    """Poses (n, 2) with yaws wrapped to -180 to 180."""
    return torch.stack([(pose[:, 0] + 180) % 360 - 180, pose[:, 1]], 1)


def nearest_anchors(anchors: Tensor, requested: Tensor, max_views: int) -> list[tuple[list[int], list[int]]]:
    """Group views by their anchors: the first anchor, and the two others that are nearest in yaw.

    Args:
        anchors: (a, 2) poses, that of the image first.
        requested: (n, 2) poses.
        max_views: max number of generated views in one sample.

    Returns:
        For each sample the indices of its anchors, and those of its requested views.
    """
    apart = ((requested[:, None, 0] - anchors[None, 1:, 0] + 180) % 360 - 180).abs()
    pairs = (apart.argsort(dim=1, stable=True)[:, :2] + 1).sort(1).values.tolist()
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, pair in enumerate(pairs):
        groups.setdefault((0, *pair), []).append(row)
    return [
        (list(given), rows[i : i + max_views]) for given, rows in groups.items() for i in range(0, len(rows), max_views)
    ]


# --- one sample -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def draw_views(
    model: SpinModel,
    given: SpinViews | None,
    requested: Tensor,
    identity: Tensor = NULL_IDENTITY,
    config: SpinSampleConfig | None = None,
    camera: HeadCamera | None = None,
) -> SpinViews:
    """Generate views in one sample.

    Args:
        model: from `load_spin_model`.
        given: given views; cameras are relative to the first one. None: no given views.
        requested: (n, 2) poses in degrees.
        identity: (d,) or `NULL_IDENTITY`.
        config: sampling options.
        camera: renders the head fitted to the image, for a model with a geometric condition; None: no geometry.

    Returns:
        The requested views.
    """
    config = config or SpinSampleConfig()
    known = 0 if given is None else len(given)
    size = model.resolution
    pose = requested if given is None else torch.cat([given.pose, requested])
    images = torch.zeros(len(pose), 6, size, size)
    if given is not None:
        images[:known] = given.images
    sample = Sample(model, pose, (torch.arange(len(pose)) < known).float(), identity, config, camera)
    states = sample.run(model.encode(images.to(model.device))[None])
    return SpinViews(model.decode(states)[0, known:].clamp(-1, 1).float().cpu(), requested)


@torch.no_grad()
def normals_of(
    model: SpinModel,
    image: Tensor,
    pose: Tensor,
    identity: Tensor = NULL_IDENTITY,
    config: SpinSampleConfig | None = None,
    camera: HeadCamera | None = None,
) -> Tensor:
    """Normals of an image by inpainting of channels (Papantoniou et al., "Relightify", ICCV 2023).

    At every noise level the channels of the image are replaced by the image with noise of that level.

    Args:
        model: from `load_spin_model`.
        image: (3, s, s) in [-1, 1].
        pose: (2,) yaw and pitch of the image in degrees.
        identity: (d,) or `NULL_IDENTITY`.
        config: sampling options.
        camera: renders the head fitted to the image, for a model with a geometric condition; None: no geometry.

    Returns:
        (6, s, s) the image and its normals.
    """
    config = config or SpinSampleConfig()
    sample = Sample(model, pose[None], torch.zeros(1), identity, config, camera)
    both = torch.cat([image, torch.zeros_like(image)])[None, None].to(model.device)
    states = sample.run(model.encode(both), image_known=True)
    return torch.cat([image, model.decode(states)[0, 0, 3:].clamp(-1, 1).float().cpu()])


class Sample:
    """The sampler of one set of views: DPM-Solver++ (2M) over the noise levels of Karras et al. 2022.

    Source: Lu et al., "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models", 2022. The published
    sampler is Heun's method with 50 steps, which overshoots and leaves noise with few, widely spaced noise levels.

    Args:
        model: the model.
        pose: (p, 2) poses of all views.
        given: (p,) 1 for given views.
        identity: (d,) or `NULL_IDENTITY`.
        config: sampling options.
        camera: renders the geometric condition; None: no geometry.
    """

    def __init__(
        self, model: SpinModel, pose: Tensor, given: Tensor, identity: Tensor, config: SpinSampleConfig,
        camera: HeadCamera | None = None,
    ) -> None:  # fmt: skip
        self.model, self.config = model, config
        self.given = given[None].to(model.device)
        self.rays = ray_map(pose[None], reference_pose(pose[None], given[None]), model.size).to(model.device)
        self.identity = identity[None].float().to(model.device)
        self.geometry = None
        if camera is not None and model.network.with_geometry:
            self.geometry = model.encode_geometry(camera.conditions(pose, model.resolution).to(model.device))[None]
        self.steps, self.guidance = config.with_geometry(self.geometry is not None)

    def run(self, known: Tensor, *, image_known: bool = False) -> Tensor:
        """Sample the states of the views.

        Args:
            known: (1, p, c, h, w) states; used for given views only, or also for the images of all views.
            image_known: `known` contains the image of every view, and only the normals are sampled.
        """
        mask = self.given[..., None, None, None].expand_as(known).clone()
        mask[:, :, : known.shape[2] // 2] += (1 - mask[:, :, : known.shape[2] // 2]) * image_known
        generator = torch.Generator().manual_seed(self.config.seed)
        noise = torch.randn(known.shape, generator=generator).to(known)

        def replace_known(x: Tensor, s: float) -> Tensor:
            """Replace the known channels by their values, with noise of level s added except in given views."""
            noisy = known + s * noise * (1 - self.given)[..., None, None, None]
            return mask * noisy + (1 - mask) * x

        levels = noise_schedule(self.config, self.steps)
        x, previous, s_previous = replace_known(noise * levels[0], levels[0]), None, levels[0]
        for s, s_next in pairwise(levels):
            denoised = estimate = self.denoise(x, s)
            if previous is not None and s_next > 0:  # second order: extrapolate by half a step in log s
                estimate = denoised + (denoised - previous) * math.log(s / s_next) / (2 * math.log(s_previous / s))
            x = replace_known(estimate + s_next / s * (x - estimate), s_next)
            previous, s_previous = denoised, s
        return x

    def denoise(self, x: Tensor, s: float) -> Tensor:
        """D(x; s), with joint classifier-free guidance on given views and identity."""
        levels = s * (1 - self.given)
        conditional = self.model.network(x, levels, self.given, self.rays, self.identity, self.geometry)
        if self.guidance == 1 or (not self.given.any() and self.identity.isnan().all()):
            return conditional
        blank = x * (1 - self.given)[..., None, None, None]
        unconditional = self.model.network(
            blank, levels, self.given, self.rays, torch.full_like(self.identity, torch.nan), self.geometry
        )
        return unconditional + self.guidance * (conditional - unconditional)


def noise_schedule(config: SpinSampleConfig, steps: int) -> list[float]:
    """Noise levels of the steps, from sigma_max to sigma_min, and 0."""
    high, low = config.sigma_max ** (1 / config.rho), config.sigma_min ** (1 / config.rho)
    return [(high + i / max(steps - 1, 1) * (low - high)) ** config.rho for i in range(steps)] + [0.0]
