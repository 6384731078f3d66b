"""Turn a face by walking its own latent along the lines of its light group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from latentrot.bundles import direction_files, directions_in, trained_on
from latentrot.data.images import resize, to_tensor, to_uint8
from latentrot.data.similarity import psnr
from latentrot.diffusion.load import LatentModel, load_model
from latentrot.diffusion.precision import computes_bfloat16
from latentrot.diffusion.solve import Schedule, decode, invert
from latentrot.diffusion.solvers import solver_of
from latentrot.directions.directions import Directions
from latentrot.directions.search import LIMIT, CalibrationCurve, find_steps, held, longest_step, probe_steps
from latentrot.directions.walk import walk
from latentrot.directions.warp import carry, landmarks_of_crops
from latentrot.errors import LatentrotError
from latentrot.faces.estimate import LIGHTS, estimate_light, estimate_pose, light_names
from latentrot.faces.network import FaceLabeler
from latentrot.numerics import check_degrees
from latentrot.progress import Clock
from latentrot.store.cache import LatentCache, latent_key
from latentrot.store.space import LatentSpace

__all__ = ["Embedded", "Frame", "LatentRotator", "Turned", "Walked", "load_latent_rotator"]

#: a picture to be turned is inverted to this residual per step: it is one picture, and its round trip is seen
TOLERANCE = 2e-3
#: a walk held at its longest step is told to fall short from so many degrees on: what is carried flat is read three degrees
#: short by the label network, and not by others (30 strangers asked for 30: 25.3 by it, 28.4 by the judge)
SHORT_DEG = 5.0


@dataclass(frozen=True, eq=False)
class Frame:
    """One turned face.

    Attributes:
        requested_deg: turn asked for, degrees.
        yaw_deg: yaw after the turn, measured by the label network, degrees.
        pitch_deg: pitch after the turn.
        light: light after the turn.
        image: (s, s, 3) uint8 RGB at the model's resolution.
        drawn_deg: by how many degrees the drawn face itself is turned, whatever geometry adds; NaN where none was drawn.
        held: whether the walk was held at its longest step and falls short.
    """

    requested_deg: float
    yaw_deg: float
    pitch_deg: float
    light: str
    image: np.ndarray
    drawn_deg: float = float("nan")
    held: bool = False


@dataclass(frozen=True, eq=False)
class Turned:
    """A face and its turns.

    Attributes:
        source: (s, s, 3) uint8, the crop at the model's resolution.
        reconstruction: the latent decoded as it is.
        yaw_deg: of the source, degrees.
        pitch_deg: of the source.
        light: the light group whose lines were walked.
        frames: one per turn asked for.
        round_trip_psnr_db: reconstruction against source.
        seconds: by stage.
    """

    source: np.ndarray
    reconstruction: np.ndarray
    yaw_deg: float
    pitch_deg: float
    light: str
    frames: list[Frame]
    round_trip_psnr_db: float
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Embedded:
    """A face and its latent: what every turn of one picture starts from.

    Attributes:
        source: (s, s, 3) uint8, the crop at the model's resolution.
        latent: (1, c, h, w), in the schedule of the rotator that made it.
        yaw_deg: of the source, degrees.
        pitch_deg: of the source.
        light: the light group whose lines are walked.
        seconds: by stage.
        decoded: (1, 3, s, s), the latent decoded as it is, kept where a face is turned many times; None: decoded each time.
    """

    source: np.ndarray
    latent: torch.Tensor
    yaw_deg: float
    pitch_deg: float
    light: str
    seconds: dict[str, float] = field(default_factory=dict)
    decoded: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class LatentRotator:
    """Walks latents.

    Args:
        model: the diffusion model.
        directions: by light group; all of the model's own latent space.
        measure: search the step on the picture itself: probe steps are decoded and measured, and the step that meets the
            request is found on this calibration curve. Without it the average calibration is trusted.
        keep_norm: scale a walked latent back to its source's length.
        labeler: the label network that measures pose and light; None: the one that belongs to the model.
        cache: latents of pictures embedded before; None: nothing is looked up and nothing kept.
        limit: how long a step may be (see `search`).
        carry: the source's own pixels go where the walk takes the face, and the walk draws what they do not show (see
            `latentrot.directions.warp`). Without it, and where no face is found, pictures are shown as they are decoded.
            None: as the lines were calibrated.
    """

    model: LatentModel
    directions: dict[str, Directions]
    measure: bool = True
    keep_norm: bool = True
    labeler: FaceLabeler | None = None
    cache: LatentCache | None = None
    limit: float = LIMIT
    carry: bool | None = None

    def __post_init__(self) -> None:
        first = next(iter(self.directions.values()), None)
        for light, lines in self.directions.items():
            if first is not None:
                lines.space.require_same(first.space, f"what is walked in light {light}")

    def rotate(self, image: np.ndarray, degrees: float) -> np.ndarray:
        """Turn a (s, s, 3) uint8 crop in the CelebA frame by degrees -> the same at the model's resolution."""
        return self.turn(image, [degrees]).frames[0].image

    def rotate_many(self, image: np.ndarray, degrees: Sequence[float]) -> list[np.ndarray]:
        """Several turns of one crop, which is inverted once; with `measure` they share one calibration curve."""
        return [frame.image for frame in self.turn(image, degrees).frames]

    @property
    def label_network(self) -> FaceLabeler:
        """What measures pose and light."""
        return self.labeler or self.model.labeler

    def embed(self, image: np.ndarray, light: str = "auto") -> Embedded:
        """Invert and label one crop: the costly part that all its turns share.

        Args:
            image: (s, s, 3) uint8 RGB face crop in the CelebA frame, any size.
            light: left, center or right; auto estimates it.

        Raises:
            LatentrotError: no lines for the light, or not a square picture.
        """
        clock = Clock()
        crop = resize(image, self.model.resolution)
        x = to_tensor(crop)
        yaw, pitch = (float(v) for v in estimate_pose(x, labeler=self.label_network)[0, :2])
        group = light_names(estimate_light(x, labeler=self.label_network))[0] if light == "auto" else light
        carries = self.carries(self.lines_of(group))
        clock.lap("label")
        # what the latent misses of the picture goes along as pixels, or else as the latent's remainder
        z = self.invert(crop, remainder=not carries or landmarks_of_crops(x, str(self.model.device))[0] is None)
        clock.lap("invert")
        return Embedded(crop, z, yaw, pitch, group, clock.seconds)

    def invert(self, crop: np.ndarray, remainder: bool = True) -> torch.Tensor:
        """(s, s, 3) uint8 at the model's resolution -> (1, c, h, w), or with its remainder where the solver has one.

        What is kept in the cache is taken from there.
        """
        space = self.any_directions.space
        key = latent_key(crop, space, TOLERANCE, remainder) if self.cache else ""
        kept = self.cache.get(key) if self.cache else None
        if kept is not None:
            return kept
        z = invert(
            self.model, to_tensor(crop), schedule=space.schedule, tolerance=TOLERANCE, remainder=remainder
        )  # fmt: skip
        if self.cache:
            self.cache.put(key, z)
        return z

    def turn(
        self,
        image: np.ndarray | Embedded,
        degrees: Sequence[float],
        *,
        absolute: bool = False,
        light: str = "auto",
        curve: CalibrationCurve | None = None,
    ) -> Turned:
        """Turn one crop several ways; the source is inverted once and all frames are decoded in one batch.

        Args:
            image: (s, s, 3) uint8 RGB face crop in the CelebA frame, any size; or what `embed` made of it.
            degrees: turns, each by so many degrees, or to them if `absolute`; > 0: nose to the viewer's right.
            absolute: degrees are poses to reach.
            light: left, center or right; auto estimates it. An `Embedded` has its own.
            curve: from `measure_curve`, to measure once for many calls; None measures for these turns, if at all.

        Raises:
            LatentrotError: no lines for the light, or not a square picture.
        """
        check_degrees(degrees)
        # embed and label
        face = image if isinstance(image, Embedded) else self.embed(image, light)
        lines = self.lines_of(face.light)
        turns = [d - face.yaw_deg if absolute else d for d in degrees]
        clock = Clock(dict(face.seconds) if face is not image else {})

        # walk
        walked = Walked(self, face)
        longest = [longest_step(lines, turn, self.limit) for turn in turns]
        if curve is not None:
            steps = [held(curve.root(turn), most) for turn, most in zip(turns, longest, strict=True)]
        elif self.measure:
            steps = walked.steps(turns, longest, self.limit)
        else:
            steps = [held(lines.nominal_for(turn), most) for turn, most in zip(turns, longest, strict=True)]
        clock.lap("measure")

        # decode
        pictures = walked.at([0.0, *steps])
        clock.lap("decode")

        poses = estimate_pose(pictures, labeler=self.label_network)
        lights = light_names(estimate_light(pictures, labeler=self.label_network))
        shown = to_uint8(pictures)
        is_held = [abs(step) >= abs(most) > 0 for step, most in zip(steps, longest, strict=True)]
        frames = [
            Frame(
                d, float(poses[i, 0]), float(poses[i, 1]), lights[i], shown[i], float(poses[i, 0]) - face.yaw_deg,
                bool(is_held[i - 1] and (d - float(poses[i, 0]) + face.yaw_deg) * np.sign(d) > SHORT_DEG),
            )
            for i, d in enumerate(turns, start=1)
        ]  # fmt: skip
        round_trip_db = float(psnr(walked.start, to_tensor(face.source)))
        clock.lap("label")
        back = to_uint8(walked.start)[0]
        return Turned(face.source, back, face.yaw_deg, face.pitch_deg, face.light, frames, round_trip_db, clock.seconds)

    def measure_curve(self, face: Embedded, turns: Sequence[float]) -> CalibrationCurve:
        """Measure probe steps roughly, up to and beyond the farthest of `turns` (degrees): one curve for many steps."""
        probes = probe_steps(self.lines_of(face.light), turns, self.limit)
        change = Walked(self, face).rough.change(probes) if probes else []
        return CalibrationCurve(np.array([0.0, *probes]), np.array([0.0, *change]))

    def keep_decoded(self, face: Embedded) -> Embedded:
        """The face with its latent decoded once for all its turns."""
        pictures = decode(self.model, face.latent, schedule=self.any_directions.space.schedule).clamp(-1, 1)
        return replace(face, decoded=pictures)

    def refine_curve(self, face: Embedded, curve: CalibrationCurve, turns: Sequence[float]) -> CalibrationCurve:
        """The curve with its roots for `turns` (degrees) measured, too: between two probes yaw is no straight line."""
        steps = [curve.root(turn) for turn in turns if turn]
        return curve.with_points(steps, Walked(self, face).change(steps)) if steps else curve

    @property
    def learned_from(self) -> tuple[str, ...] | None:
        """Data sets that the model's card says it, its lines and its label network learned from."""
        return trained_on(self.model.folder)

    @property
    def any_directions(self) -> Directions:
        """One of the directions; all share model and schedule."""
        return next(iter(self.directions.values()))

    def carries(self, lines: Directions) -> bool:
        """Whether the source's own pixels go along with a walk along these lines."""
        return lines.carry if self.carry is None else self.carry

    def lines_of(self, light: str) -> Directions:
        """The lines of a light group."""
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

    def walk(self, z: torch.Tensor, lines: Directions, steps: Sequence[float], yaw: float) -> torch.Tensor:
        """(1, c, h, w) latent -> (k, c, h, w) latents, one per nominal step."""
        return walk(z, lines, torch.tensor(steps, dtype=torch.float64), yaw, keep_norm=self.keep_norm)


class Walked:
    """One face at the steps it was walked by: each is decoded once.

    Args:
        rotator: that walks it.
        face: from `embed`.
        rough: decode in half as many steps, and in bfloat16 where the device computes that: pictures nobody sees.
    """

    def __init__(self, rotator: LatentRotator, face: Embedded, rough: bool = False) -> None:
        self.rotator, self.face, self.lines = rotator, face, rotator.lines_of(face.light)
        self.model, self.schedule = rotator.model, self.lines.space.schedule
        if rough:
            self.schedule = replace(self.schedule, steps=max(1, self.schedule.steps // 2))
            if self.model.dtype == torch.float32 and computes_bfloat16(self.model.device):
                self.model = replace(self.model, dtype=torch.bfloat16)
        self.shown: dict[float, torch.Tensor] = {}
        self.decoded = None if rough else face.decoded

    @cached_property
    def rough(self) -> Walked:
        """The same walk in pictures that are good enough to measure: in half the time, in bfloat16 in a third of it.

        Thirty strangers turned by 15 and 30 degrees were read .5 degrees otherwise than in the pictures shown.
        """
        return Walked(self.rotator, self.face, rough=True) if solver_of(self.schedule).any_steps else self

    @property
    def start(self) -> torch.Tensor:
        """(1, 3, s, s) in [-1, 1], the latent decoded as it is."""
        if self.decoded is None:
            self.decoded = self.decode([0.0])
        return self.decoded

    def at(self, steps: Sequence[float]) -> torch.Tensor:
        """(k, 3, s, s) in [-1, 1], the pictures at k nominal steps; what is not decoded yet is, in one batch."""
        # every turn shows the source, too
        new = [step for step in dict.fromkeys([0.0, *steps]) if step not in self.shown]
        if new:
            unknown = new if self.decoded is None else [step for step in new if step]
            pictures = list(self.decode(unknown).split(1)) if unknown else []
            if self.decoded is None:
                self.decoded = pictures.pop(0)  # where nothing is decoded nothing is shown, and the source is first
            start = [self.decoded] if 0.0 in new else []
            self.shown |= dict(zip(new, self.carried(torch.cat(start + pictures)), strict=True))
        return torch.stack([self.shown[step] for step in steps])

    def decode(self, steps: Sequence[float]) -> torch.Tensor:
        """(k, 3, s, s) in [-1, 1], the latent decoded at k nominal steps."""
        latents = self.rotator.walk(self.face.latent, self.lines, steps, self.face.yaw_deg)
        return decode(self.model, latents, schedule=self.schedule).clamp(-1, 1)

    def carried(self, pictures: torch.Tensor) -> torch.Tensor:
        """Decoded pictures (k, 3, s, s) as they are shown: with the source's own pixels, if the rotator carries them."""
        if not self.rotator.carries(self.lines):
            return pictures
        return carry(to_tensor(self.face.source), self.start, pictures, str(self.model.device))

    def steps(self, turns: Sequence[float], longest: Sequence[float], limit: float = LIMIT) -> list[float]:
        """Nominal steps that turn the face by `turns` (degrees), at most the longest each; see `find_steps`."""
        return find_steps(turns, probe_steps(self.lines, turns, limit), self.change, longest, self.rough.change)

    def change(self, steps: Sequence[float]) -> np.ndarray:
        """By how many degrees each of k nominal steps turns the face, by the label network -> (k,)."""
        yaws = estimate_pose(self.at(steps), labeler=self.rotator.label_network)[:, 0].cpu().numpy()
        return yaws - self.face.yaw_deg


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
    """Load a model and the directions that belong to it.

    Args:
        model: a loaded model, a diffusers folder, a Hub id or the name of a bundled model; None: the bundled faces.
        directions: folder of directions files (left.safetensors, ...) or one file; None: those in the model's own folder
            (`directions/` in it), or where it has none `directions/` in the current folder.
        device: torch device.
        dtype: precision of the network's evaluations.
        measure: see `LatentRotator`.
        cache: keep latents in the user's cache folder, and use those kept there (see `latentrot.store.cache`).
        limit: see `LatentRotator`.
        carry: see `LatentRotator`.

    Raises:
        LatentrotError: no directions there, or directions of another model.
    """
    loaded = model if isinstance(model, LatentModel) else load_model(model, device, dtype)
    source = Path(directions) if directions else directions_in(loaded.folder) or Path("directions")
    lines: dict[str, Directions] = {}
    schedule: Schedule | None = None
    files = direction_files(source)
    for path in files:
        found = Directions.load(path)
        schedule = schedule or found.space.schedule
        if found.space.schedule != schedule:
            raise LatentrotError(
                f"{source} mixes schedules: the lines in {files[0].name} are of {schedule}, those in {path.name} of "
                f"{found.space.schedule}; fit all from one store, or give each its own folder"
            )
        found.space.require_same(LatentSpace.of(loaded, schedule), str(path))
        if found.light in lines:
            raise LatentrotError(
                f"{source} holds two files for light {found.light!r}, one of them {path.name}; keep one"
            )
        lines[found.light] = found
    return LatentRotator(loaded, lines, measure, cache=LatentCache() if cache else None, limit=limit, carry=carry)
