"""Rotate a face by walking its own latent along the directions of its light."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from latentrot.bundles import DIRECTIONS, PROPERTIES, direction_files, part_in, trained_on
from latentrot.data.arrays import resize, to_tensor, to_uint8
from latentrot.data.similarity import psnr
from latentrot.diffusion.load import LatentModel, load_model
from latentrot.diffusion.schedule import Schedule
from latentrot.diffusion.solve import decode, invert
from latentrot.directions.directions import Directions
from latentrot.directions.search import LIMIT, CalibrationCurve
from latentrot.directions.warp import landmarks_of_crops
from latentrot.errors import LatentrotError
from latentrot.faces.estimate import LIGHTS, estimate_light, estimate_pose, light_names, pose_and_light
from latentrot.faces.network import FaceLabeler
from latentrot.numerics import check_degrees
from latentrot.progress import Clock
from latentrot.rotators.latent.reify import reify
from latentrot.rotators.latent.walk import Walk
from latentrot.rotators.protocol import RotatedCrop, RotatedCrops
from latentrot.store.cache import LatentCache, latent_key
from latentrot.store.space import LatentSpace

__all__ = ["LatentRotator", "PreparedLatent", "load_latent_rotator"]

#: tolerance per step of the inversion of an image
TOLERANCE = 2e-3
#: error of a clamped walk in degrees from which a warning is given; the label network underestimates rotations of warped
#: faces by three degrees (for 30 people rotated by 30 degrees it measures 25.3, an independent network 28.4)
SHORT_DEG = 5.0


@dataclass(eq=False)
class Inversion:
    """The latent of a crop, computed on first use, because geometry alone renders large rotations.

    Args:
        rotator: the rotator.
        source: (s, s, 3) uint8, the crop at the resolution of the model.
        warps: whether the pixels of the source are warped; then a residual latent is needed only if no face is found.
    """

    rotator: LatentRotator
    source: np.ndarray
    warps: bool

    @cached_property
    def latent(self) -> torch.Tensor:
        """(1, c, h, w), or (1, 2, c, h, w) with its residual latent, for the rotator's schedule."""
        device = str(self.rotator.model.device)
        # a warp needs landmarks; without a warp the residual latent provides the details
        faceless = landmarks_of_crops(to_tensor(self.source), device)[0] is None if self.warps else True
        return self.rotator.invert(self.source, residual=faceless)


@dataclass(frozen=True, eq=False)
class PreparedLatent:
    """A face crop and its latent, shared by all rotations.

    Attributes:
        rotator: the rotator.
        source: (s, s, 3) uint8, the crop at the resolution of the model.
        inversion: yields the latent.
        yaw_deg: yaw of the source, degrees.
        pitch_deg: pitch of the source, degrees.
        light: the illumination class whose directions are walked.
        seconds: stage -> duration.
        decoded: (1, 3, s, s), the decoded unchanged latent, for faces that are rotated many times.
        curve: calibration curve of this face; None: measured at every call if the rotator measures.
        steady: use the curve without refining it for each rotation.
    """

    rotator: LatentRotator
    source: np.ndarray
    inversion: Inversion
    yaw_deg: float
    pitch_deg: float
    light: str
    seconds: dict[str, float] = field(default_factory=dict)
    decoded: torch.Tensor | None = None
    curve: CalibrationCurve | None = None
    steady: bool = False

    @property
    def latent(self) -> torch.Tensor:
        """See `Inversion.latent`."""
        return self.inversion.latent

    @property
    def directions(self) -> Directions:
        """Directions of the illumination class of the face."""
        return self.rotator.directions_of(self.light)

    @property
    def reach(self) -> tuple[float, float]:
        """See `Prepared.reach`."""
        return self.directions.reach

    def at_yaw(self, yaw_deg: float) -> PreparedLatent:
        """See `Prepared.at_yaw`."""
        return replace(self, yaw_deg=yaw_deg)

    def walk(self) -> Walk:
        """The walk of this face."""
        rotator, directions = self.rotator, self.directions
        return Walk(
            rotator.model, rotator.label_network, directions, self.source, self.latent, self.yaw_deg, rotator.keep_norm,
            rotator.warps(directions), rotator.limit, directions.space.schedule, self.decoded,
        )  # fmt: skip

    def calibrated(self, degrees: Sequence[float], steady: bool = False) -> PreparedLatent:
        """See `Prepared.calibrated`."""
        if not self.rotator.measure:
            return self
        walk = self.walk()
        curve = walk.measure_curve(degrees)
        if steady:
            return replace(self, curve=walk.refine_curve(curve, degrees), steady=True)
        return replace(self, curve=curve, decoded=walk.start)

    def rotate(self, degrees: Sequence[float]) -> RotatedCrops:
        """Rotate the face by each angle; all walks are decoded in one batch.

        Args:
            degrees: rotations in degrees; > 0: nose to the viewer's right.
        """
        check_degrees(degrees)
        clock = Clock()
        walk = self.walk()
        clock.lap("invert")
        steps = self.steps(walk, degrees)
        clock.lap("measure")

        images = walk.at([0.0, *steps])
        clock.lap("decode")

        poses = estimate_pose(images, labeler=walk.labeler)[1:, :2].tolist()
        lights = light_names(estimate_light(images, labeler=walk.labeler))[1:]
        clamped = [abs(step) >= abs(limit) > 0 for step, limit in zip(steps, walk.max_steps(degrees), strict=True)]
        frames = [
            self.frame(*measured)
            for measured in zip(degrees, poses, lights, to_uint8(images)[1:], clamped, strict=True)
        ]
        round_trip_db = float(psnr(walk.start, to_tensor(self.source)))
        clock.lap("label")
        return RotatedCrops(
            self.source, to_uint8(walk.start)[0], self.yaw_deg, self.pitch_deg, self.light, frames, round_trip_db,
            clock.seconds, (*self.reach_warnings(degrees), *self.clamp_warnings(frames)),
        )  # fmt: skip

    def steps(self, walk: Walk, degrees: Sequence[float]) -> list[float]:
        """Step sizes for rotations: from the stored curve, by measurement, or from the average calibration."""
        if self.curve is not None:
            curve = self.curve if self.steady else walk.refine_curve(self.curve, degrees)
            return walk.steps_on(curve, degrees)
        return walk.measured_steps(degrees) if self.rotator.measure else walk.average_steps(degrees)

    def frame(self, deg: float, pose: Sequence[float], light: str, image: np.ndarray, clamped: bool) -> RotatedCrop:
        """One rotation with its measurements."""
        drawn = pose[0] - self.yaw_deg
        short = clamped and (deg - drawn) * np.sign(deg) > SHORT_DEG
        return RotatedCrop(deg, pose[0], pose[1], light, image, drawn, bool(short))

    def reach_warnings(self, degrees: Sequence[float]) -> list[str]:
        """A warning for a rotation outside the calibrated range."""
        low, high = self.reach
        beyond = [d for d in degrees if not low <= d <= high]
        return [f"{d:+.0f} degrees is outside the calibrated range ({low:+.0f} to {high:+.0f})" for d in beyond[:1]]

    def clamp_warnings(self, frames: Sequence[RotatedCrop]) -> list[str]:
        """A warning for each clamped walk that does not reach its rotation."""
        return [
            f"the drawn face is rotated by {f.drawn_deg:+.0f} instead of {f.requested_deg:+.0f} degrees: steps beyond "
            f"--limit {self.rotator.limit:g} rotate it little further and change the person"
            for f in frames
            if f.clamped
        ]


@dataclass(frozen=True, eq=False)
class LatentRotator:
    """Rotates faces by walks in latent space.

    Args:
        model: the diffusion model.
        directions: illumination class -> directions, all in the latent space of the model.
        measure: search the step size on each image by measuring decoded probe steps; False: use the average calibration.
        keep_norm: rescale each octave of a walked latent to its length in the source.
        labeler: label network that measures pose and light; None: the one of the model.
        cache: cache of latents; None: no cache.
        limit: max step size (see `latentrot.directions.search`).
        carry: warp the pixels of the source by the motion of the face, and fill disoccluded parts from the walk (see
            `latentrot.directions.warp`); False, or if no face is found: return the decoded walk. None: as in the calibration
            of the directions.
    """

    model: LatentModel
    directions: dict[str, Directions]
    measure: bool = True
    keep_norm: bool = True
    labeler: FaceLabeler | None = None
    cache: LatentCache | None = None
    limit: float = LIMIT
    carry: bool | None = None

    concurrent: ClassVar[bool] = True

    def __post_init__(self) -> None:
        first = next(iter(self.directions.values()), None)
        for light, directions in self.directions.items():
            if first is not None:
                directions.space.require_same(first.space, f"directions of light {light}")

    # ---- protocol -----------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name of the model."""
        return self.model.name

    @property
    def crop_side(self) -> int:
        """The resolution of the model, pixels."""
        return self.model.resolution

    @property
    def label_network(self) -> FaceLabeler:
        """Label network that measures pose and light."""
        return self.labeler or self.model.labeler

    @property
    def learned_from(self) -> tuple[str, ...] | None:
        """Training data of model, directions and label network, by the model's card."""
        return trained_on(self.model.folder)

    @property
    def property_model(self) -> LatentModel | None:
        """The model, if it has directions of properties."""
        return self.model if part_in(self.model.folder, PROPERTIES) is not None else None

    @property
    def provenance(self) -> dict[str, str]:
        """Entries for reports of evaluations."""
        step = "measured on every image" if self.measure else "average calibration"
        return {"model": self.model.name, "digest": self.model.digest, "step": step}

    @property
    def digests(self) -> dict[str, str]:
        """Digests of the model and its directions."""
        sha = hashlib.sha256()
        for light, one in sorted(self.directions.items()):
            sha.update(json.dumps([light, one.step_sizes, one.achieved, one.coarse, one.carry]).encode())
            sha.update(one.left.cpu().float().numpy().tobytes() + one.right.cpu().float().numpy().tobytes())
        return {"model": self.model.fingerprint.key, "directions": sha.hexdigest()[:16]}

    def rotate(self, image: np.ndarray, degrees: float) -> np.ndarray:
        """Rotate a (s, s, 3) uint8 crop in the CelebA frame by degrees -> a crop at the resolution of the model."""
        return self.rotate_many(image, [degrees])[0]

    def rotate_many(self, image: np.ndarray, degrees: Sequence[float]) -> list[np.ndarray]:
        """Rotate one crop by each angle; it is inverted once, and with `measure` all angles share one calibration curve."""
        check_degrees(degrees)
        return [frame.image for frame in self.prepare(image).rotate(degrees).frames]

    def prepare(self, image: np.ndarray, light: str = "auto", like: PreparedLatent | None = None) -> PreparedLatent:
        """Label one crop; its inversion, the slow step that all its rotations share, runs on first use.

        Args:
            image: (s, s, 3) uint8 RGB face crop in the CelebA frame, any size.
            light: left, center or right; auto estimates it.
            like: the same face in an earlier frame; its light and calibration are used.

        Raises:
            LatentrotError: there are no directions for the light, or the image is not square.
        """
        clock = Clock()
        crop = resize(image, self.model.resolution)
        yaw, pitch, estimated = pose_and_light(crop, self.label_network)
        group = like.light if like is not None else estimated if light == "auto" else light
        warps = self.warps(self.directions_of(group))
        clock.lap("label")
        curve, steady = (None, False) if like is None else (like.curve, like.steady)
        inversion = Inversion(self, crop, warps)
        return PreparedLatent(self, crop, inversion, yaw, pitch, group, clock.seconds, None, curve, steady)

    def reify(self, image: np.ndarray) -> np.ndarray:
        """Make a painted or drawn (s, s, 3) uint8 crop photograph-like -> a crop at the resolution of the model."""
        space = self.any_directions.space
        x = to_tensor(resize(image, self.model.resolution))
        z = reify(invert(self.model, x, schedule=space.schedule, residual=False), space.factor)
        return to_uint8(decode(self.model, z, schedule=space.schedule))[0]

    # ---- latents and directions ---------------------------------------------------------------------------------

    def invert(self, crop: np.ndarray, residual: bool = True) -> torch.Tensor:
        """(s, s, 3) uint8 at the resolution of the model -> latent (1, c, h, w), with residual (1, 2, c, h, w); cached."""
        space = self.any_directions.space
        key = latent_key(crop, space, TOLERANCE, residual) if self.cache else ""
        kept = self.cache.get(key) if self.cache else None
        if kept is not None:
            return kept
        x = to_tensor(crop)
        z = invert(self.model, x, schedule=space.schedule, tolerance=TOLERANCE, residual=residual)
        if self.cache:
            self.cache.put(key, z)
        return z

    @property
    def any_directions(self) -> Directions:
        """The directions of some illumination class, as all share model and schedule."""
        return next(iter(self.directions.values()))

    def warps(self, directions: Directions) -> bool:
        """Whether the pixels of the source are warped in a walk along these directions."""
        return directions.carry if self.carry is None else self.carry

    def directions_of(self, light: str) -> Directions:
        """The directions of an illumination class."""
        if "any" in self.directions:
            return self.directions["any"]
        if light not in self.directions:
            raise LatentrotError(
                f"no directions for light {light!r}, only for {', '.join(sorted(self.directions))}; "
                f"fit them with: latentrot fit-directions --light {light}"
                if light in LIGHTS
                else f"light {light!r}: expected auto, {', '.join(LIGHTS)}"
            )
        return self.directions[light]


def load_latent_rotator(
    model: str | Path | LatentModel | None = None,
    directions: str | Path | None = None,
    device: str | None = None,
    dtype: str | None = None,
    measure: bool = True,
    cache: bool = False,
    limit: float = LIMIT,
    carry: bool | None = None,
) -> LatentRotator:
    """Load a model with its directions.

    Args:
        model: a loaded model, a diffusers folder, a Hub id or the name of a bundled model; None: the bundled faces.
        directions: folder of directions files (left.safetensors, ...) or one file; None: those in the model's folder
            (`directions/`) or in the current folder.
        device: torch device.
        dtype: precision of the network evaluations.
        measure: see `LatentRotator`.
        cache: cache latents in the user's cache folder (see `latentrot.store.cache`).
        limit: see `LatentRotator`.
        carry: see `LatentRotator`.

    Raises:
        LatentrotError: there are no directions, or they belong to another model.
    """
    loaded = model if isinstance(model, LatentModel) else load_model(model, device, dtype)
    source = Path(directions) if directions else part_in(loaded.folder, DIRECTIONS) or Path("directions")
    by_light: dict[str, Directions] = {}
    schedule: Schedule | None = None
    files = direction_files(source)
    for path in files:
        found = Directions.load(path)
        schedule = schedule or found.space.schedule
        if found.space.schedule != schedule:
            raise LatentrotError(
                f"{source} mixes schedules: the directions in {files[0].name} use {schedule}, those in {path.name} "
                f"{found.space.schedule}; fit all from one store, or give each its own folder"
            )
        found.space.require_same(LatentSpace.of(loaded, schedule), str(path))
        if found.light in by_light:
            raise LatentrotError(
                f"{source} holds two files for light {found.light!r}, one of them {path.name}; keep one"
            )
        by_light[found.light] = found
    return LatentRotator(loaded, by_light, measure, cache=LatentCache() if cache else None, limit=limit, carry=carry)
