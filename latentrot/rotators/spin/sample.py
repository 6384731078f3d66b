"""Draw with a multi-view model: one sample of views, and a whole head from an image, from a name, or from nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from latentrot.data.images import to_uint8
from latentrot.errors import LatentrotError
from latentrot.rotators.spin.cameras import ray_map, reference_of
from latentrot.rotators.spin.model import SpinModel

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

#: yaws of the views that are drawn first, from which all others are
ANCHORS_DEG = (45.0, -45.0, 90.0, -90.0, 135.0, -135.0, 180.0)
#: an identity that is not told, whatever its length
NULL_IDENTITY = torch.full((1,), torch.nan)


@dataclass(frozen=True)
class SpinSampleConfig:
    """How views are drawn.

    Args:
        steps: of the ODE (published: 50); each is an evaluation, made twice where guidance is not 1.
        guidance: how much images and identity count: 1 as trained, more exaggerates.
        highest: noise level at the start.
        lowest: noise level before the last step.
        rho: how the levels are spread between: more, the denser near the lowest.
        together: views in one sample.
        seed: of the noise.
    """

    steps: int = 16
    guidance: float = 3.0
    highest: float = 40.0
    lowest: float = 0.01
    rho: float = 7.0
    together: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise LatentrotError(f"steps {self.steps}: expected at least 2")
        if self.together < 5:
            raise LatentrotError(f"together {self.together}: expected at least 5, three of which are given")
        if not 0 < self.lowest < self.highest:
            raise LatentrotError(f"noise levels {self.lowest} to {self.highest}: expected rising ones over 0")


@dataclass(frozen=True, eq=False)
class SpinViews:
    """Some views of one head.

    Args:
        images: (n, 6, s, s) float in [-1, 1], image and normals in the camera's frame.
        pose: (n, 2) float32, yaw and pitch in degrees.
    """

    images: Tensor
    pose: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def joined(self, other: SpinViews) -> SpinViews:
        """These, then others."""
        return SpinViews(torch.cat([self.images, other.images]), torch.cat([self.pose, other.pose]))

    def chosen(self, rows: Sequence[int]) -> SpinViews:
        """Some of them."""
        return SpinViews(self.images[list(rows)], self.pose[list(rows)])


@torch.no_grad()
def spin(
    model: SpinModel,
    image: Tensor | None,
    pose: Tensor,
    asked: Tensor,
    who: Tensor = NULL_IDENTITY,
    config: SpinSampleConfig | None = None,
) -> SpinViews:
    """A head from any side (Galanakis et al., SpinMeRound, ICCV 2025, sampling).

    Args:
        model: from `load_spin_model`.
        image: (3, s, s) in [-1, 1], the image in the CelebA frame; None: a new person.
        pose: (2,) its yaw and pitch in degrees.
        asked: (n, 2) poses of the views asked for.
        who: (d,) embedding of the person; `NULL_IDENTITY`: not told.
        config: how.

    Returns:
        The views asked for, in their order.
    """
    config = config or SpinSampleConfig()
    # a new person begins with a view of the face, and is then who that shows
    if image is None:
        first = draw_views(model, None, pose[None], who, config)
        who = identity_of(model, to_uint8(first.images[:, :3])[0]) if who.isnan().all() else who
    # (a) the image is aligned already; its normals, the image's own channels held to what they are
    else:
        first = SpinViews(normals_of(model, image, pose, who, config)[None], pose[None])
    # (b) anchors all around, drawn together
    turn = torch.tensor([[yaw, 0.0] for yaw in ANCHORS_DEG])
    anchors = first.joined(draw_views(model, first, level(first.pose[0] + turn), who, config))
    # (c) every view from the image and the two anchors nearest to it
    drawn: dict[int, Tensor] = {}
    for given, rows in nearest_anchors(anchors.pose, asked, config.together - 3):
        views = draw_views(model, anchors.chosen(given), asked[rows], who, config)
        drawn |= dict(zip(rows, views.images, strict=True))
    return SpinViews(torch.stack([drawn[i] for i in range(len(asked))]), asked)


def identity_of(model: SpinModel, crop: np.ndarray) -> Tensor:
    """The embedding of the person in a (s, s, 3) uint8 crop, (d,); `NULL_IDENTITY` where the model is told nobody."""
    return NULL_IDENTITY if model.person is None else torch.from_numpy(model.person.embed([crop])[0])


def level(pose: Tensor) -> Tensor:
    """Poses with yaws from -180 to 180."""
    return torch.stack([(pose[:, 0] + 180) % 360 - 180, pose[:, 1]], 1)


def nearest_anchors(anchors: Tensor, asked: Tensor, max_views: int) -> list[tuple[list[int], list[int]]]:
    """Which views are drawn together from which anchors: the first, and the two nearest of the others.

    Args:
        anchors: (a, 2) poses, the image's first.
        asked: (n, 2) poses.
        max_views: views in one sample beside the three given.

    Returns:
        Rows of the anchors, and rows of the views asked for.
    """
    apart = ((asked[:, None, 0] - anchors[None, 1:, 0] + 180) % 360 - 180).abs()
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
    asked: Tensor,
    who: Tensor = NULL_IDENTITY,
    config: SpinSampleConfig | None = None,
) -> SpinViews:
    """Draw views together.

    Args:
        model: from `load_spin_model`.
        given: what is known, the first of them what others are told relative to; None: nothing.
        asked: (n, 2) poses in degrees.
        who: (d,) or `NULL_IDENTITY`.
        config: how.

    Returns:
        The views asked for.
    """
    config = config or SpinSampleConfig()
    known = 0 if given is None else len(given)
    size = model.resolution
    pose = asked if given is None else torch.cat([given.pose, asked])
    pictures = torch.zeros(len(pose), 6, size, size)
    if given is not None:
        pictures[:known] = given.images
    sample = Sample(model, pose, (torch.arange(len(pose)) < known).float(), who, config)
    states = sample.run(model.encode(pictures.to(model.device))[None])
    return SpinViews(model.decode(states)[0, known:].clamp(-1, 1).float().cpu(), asked)


@torch.no_grad()
def normals_of(
    model: SpinModel, image: Tensor, pose: Tensor, who: Tensor = NULL_IDENTITY, config: SpinSampleConfig | None = None
) -> Tensor:
    """An image's normals by channel-wise inpainting (Papantoniou et al., Relightify, ICCV 2023).

    At every noise level the image's channels are the image's own with that much noise; the normals' are drawn.

    Args:
        model: from `load_spin_model`.
        image: (3, s, s) in [-1, 1].
        pose: (2,) its yaw and pitch.
        who: (d,) or `NULL_IDENTITY`.
        config: how.

    Returns:
        (6, s, s) the image and its normals.
    """
    config = config or SpinSampleConfig()
    sample = Sample(model, pose[None], torch.zeros(1), who, config)
    both = torch.cat([image, torch.zeros_like(image)])[None, None].to(model.device)
    states = sample.run(model.encode(both), image_known=True)
    return torch.cat([image, model.decode(states)[0, 0, 3:].clamp(-1, 1).float().cpu()])


class Sample:
    """One run of the sampler: DPM-Solver++ (2M) over the noise levels of Karras et al. 2022.

    Source: Lu et al., "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models", 2022. The published
    sampler is Heun's rule of Karras et al. with 50 steps; with few steps, whose noise levels lie far apart, that rule shoots
    past the mark and leaves grain.

    Args:
        model: the model.
        pose: (p, 2) of all views.
        given: (p,) 1 where a view is known.
        who: (d,) or `NULL_IDENTITY`.
        config: how.
    """

    def __init__(self, model: SpinModel, pose: Tensor, given: Tensor, who: Tensor, config: SpinSampleConfig) -> None:
        self.model, self.config = model, config
        self.given = given[None].to(model.device)
        self.rays = ray_map(pose[None], reference_of(pose[None], given[None]), model.size).to(model.device)
        self.who = who[None].float().to(model.device)

    def run(self, known: Tensor, *, image_known: bool = False) -> Tensor:
        """From noise to views.

        Args:
            known: (1, p, c, h, w) states of what is known, anything elsewhere.
            image_known: the image's half of the channels is known of every view.
        """
        held = self.given[..., None, None, None].expand_as(known).clone()
        held[:, :, : known.shape[2] // 2] += (1 - held[:, :, : known.shape[2] // 2]) * image_known
        generator = torch.Generator().manual_seed(self.config.seed)
        noise = torch.randn(known.shape, generator=generator).to(known)

        def kept(x: Tensor, s: float) -> Tensor:
            """What is known, with as much noise as there is around it; views that are given are without any."""
            truth = known + s * noise * (1 - self.given)[..., None, None, None]
            return held * truth + (1 - held) * x

        levels = noise_schedule(self.config)
        x, before, above = kept(noise * levels[0], levels[0]), None, levels[0]
        for s, below in pairwise(levels):
            guess = denoised = self.denoise(x, s)
            if before is not None and below > 0:  # where the guesses are heading: half as far on as the step is long
                guess = denoised + (denoised - before) * math.log(s / below) / (2 * math.log(above / s))
            x = kept(guess + below / s * (x - guess), below)
            before, above = denoised, s
        return x

    def denoise(self, x: Tensor, s: float) -> Tensor:
        """D(x; s), with classifier-free guidance over images and identity together."""
        levels = s * (1 - self.given)
        told = self.model.network(x, levels, self.given, self.rays, self.who)
        if self.config.guidance == 1 or (not self.given.any() and self.who.isnan().all()):
            return told
        blank = x * (1 - self.given)[..., None, None, None]
        unconditional = self.model.network(blank, levels, self.given, self.rays, torch.full_like(self.who, torch.nan))
        return unconditional + self.config.guidance * (told - unconditional)


def noise_schedule(config: SpinSampleConfig) -> list[float]:
    """Noise levels from the highest to none."""
    high, low = config.highest ** (1 / config.rho), config.lowest ** (1 / config.rho)
    return [(high + i / (config.steps - 1) * (low - high)) ** config.rho for i in range(config.steps)] + [0.0]
