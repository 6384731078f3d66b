"""What every rotator looks like from outside, and the registry of those that come with the package.

A rotator of one's own is anything with `rotate(image, degrees)`. What it can do beyond that it says by attributes
(`Capabilities`) and by the further methods below; nobody asks for its type or its name.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard, runtime_checkable

import numpy as np

from latentrot.data.frame import CROP_BOX
from latentrot.errors import LatentrotError
from latentrot.faces.alignment import Alignment, Square
from latentrot.numerics import check_degrees
from latentrot.rotators.options import RotatorOptions

if TYPE_CHECKING:
    from latentrot.diffusion.load import LatentModel
    from latentrot.faces.network import FaceLabeler
    from latentrot.geometry import HeadFitter

__all__ = [
    "CROP_SIDE",
    "ROTATORS",
    "Capabilities",
    "PhotographRotator",
    "Prepared",
    "RotatedCrop",
    "RotatedCrops",
    "Rotator",
    "capabilities_of",
    "load_rotator",
    "options_of",
    "prepare",
    "rotate_face",
    "rotate_many",
    "rotator_names",
    "takes_photographs",
]

#: side in pixels of the crops given to rotators that work at any size
CROP_SIDE = 256

#: the rotators that come with the package: the options each is loaded with, as module:name
ROTATORS = {
    "latent": "latentrot.rotators.latent.options:LatentOptions",
    "mesh": "latentrot.rotators.mesh.options:MeshOptions",
    "pair": "latentrot.rotators.pair.options:PairOptions",
    "spin": "latentrot.rotators.spin.options:SpinOptions",
    "nothing": "latentrot.rotators.baselines:NothingOptions",
    "mirror": "latentrot.rotators.baselines:MirrorOptions",
}


# ---- what a rotator does ----------------------------------------------------------------------------------------


class Rotator(Protocol):
    """Rotates the head in a face crop; every other method and attribute is optional."""

    def rotate(self, image: np.ndarray, degrees: float) -> np.ndarray:
        """Rotate a (s, s, 3) uint8 RGB crop in the CelebA frame by degrees (> 0: nose to the viewer's right)."""
        ...


@runtime_checkable
class BatchRotator(Rotator, Protocol):
    """A rotator with a quicker way to several rotations of one image."""

    def rotate_many(self, image: np.ndarray, degrees: Sequence[float]) -> list[np.ndarray]:
        """Rotate a (s, s, 3) uint8 crop by each of degrees."""
        ...


@runtime_checkable
class PhotographRotator(Rotator, Protocol):
    """A rotator that makes use of what lies around the crop."""

    def rotate_photograph(
        self, photograph: np.ndarray, face: Alignment, degrees: Sequence[float]
    ) -> Iterable[np.ndarray]:
        """Whole photographs, (h, w, 3) uint8, one face rotated by each of degrees of yaw; `face` says where it lies."""
        ...


@runtime_checkable
class PreparingRotator(Rotator, Protocol):
    """A rotator that does its slow part once for all rotations of one crop."""

    def prepare(self, image: np.ndarray, light: str = "auto", like: Any = None) -> Prepared:
        """Do what all rotations of a (s, s, 3) uint8 crop share.

        Args:
            image: in the CelebA frame.
            light: illumination class: left, center or right; auto estimates it.
            like: what was prepared of the same face in an earlier frame; its light and calibration are kept.
        """
        ...


def takes_photographs(rotator: Rotator) -> TypeGuard[PhotographRotator]:
    """Whether a rotator makes use of what lies around the crop."""
    return isinstance(rotator, PhotographRotator)


@dataclass(frozen=True)
class Capabilities:
    """What a rotator says of itself by attributes of these names; one that is missing has the default.

    Attributes:
        name: what reports call it.
        properties: what it can change: of yaw, pitch.
        draws: whether it draws the rotated face; one that does not leaves photographs to geometry.
        crop_side: side in pixels of the crops it is given.
        concurrent: whether it may run in a second thread beside the set-up of a head.
        label_network: measures pose and light of what it draws; None: that of the bundled faces.
        fitter: sets up the head its face is composited with; None: the default.
        learned_from: names of the data sets it learned from, empty where it learned from nobody; None: not said.
        warnings: sentences for its user, which every edit tells.
        property_model: the diffusion model whose properties are edited along with a rotation; None: the bundled one.
        hint: a few words for a user who chooses among rotators.
        provenance: what a report of measurements says of it, such as the model.
        digests: what identifies its networks and directions, by what they are: an edit is repeated with the same alone.
    """

    name: str
    properties: tuple[str, ...] = ("yaw",)
    draws: bool = True
    crop_side: int = CROP_SIDE
    concurrent: bool = False
    label_network: FaceLabeler | None = None
    fitter: HeadFitter | None = None
    learned_from: tuple[str, ...] | None = None
    warnings: tuple[str, ...] = ()
    property_model: LatentModel | None = None
    hint: str = ""
    provenance: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)


def capabilities_of(rotator: Rotator) -> Capabilities:
    """Read what a rotator says of itself."""
    said = {f.name: getattr(rotator, f.name) for f in fields(Capabilities) if hasattr(rotator, f.name)}
    return Capabilities(**{"name": type(rotator).__name__, **said})


# ---- rotations of one crop --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class RotatedCrop:
    """One rotation of a face crop.

    Attributes:
        requested_deg: rotation asked for, degrees of yaw.
        yaw_deg: yaw after it as the label network measures it, degrees.
        pitch_deg: pitch after it.
        light: illumination class after it.
        image: (s, s, 3) uint8 RGB.
        drawn_deg: by how many degrees the drawn face itself is rotated, whatever geometry adds; NaN where none was drawn.
        clamped: whether the walk was clamped to its max step size and falls short.
    """

    requested_deg: float
    yaw_deg: float
    pitch_deg: float
    light: str
    image: np.ndarray
    drawn_deg: float = float("nan")
    clamped: bool = False


@dataclass(frozen=True, eq=False)
class RotatedCrops:
    """A face crop and its rotations.

    Attributes:
        source: (s, s, 3) uint8, the crop at the size it was rotated at.
        reconstruction: what the rotator makes of the source without a rotation.
        yaw_deg: of the source, degrees.
        pitch_deg: of the source.
        light: illumination class of the source.
        frames: one for each rotation asked for.
        round_trip_psnr_db: reconstruction against source.
        seconds: by stage.
        warnings: what the user should know.
    """

    source: np.ndarray
    reconstruction: np.ndarray
    yaw_deg: float
    pitch_deg: float
    light: str
    frames: list[RotatedCrop]
    round_trip_psnr_db: float = float("inf")
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Prepared(Protocol):
    """One crop, prepared once to be rotated many times."""

    @property
    def source(self) -> np.ndarray:
        """(s, s, 3) uint8, the crop at the size it is rotated at."""
        ...

    @property
    def yaw_deg(self) -> float:
        """Yaw of the source, degrees."""
        ...

    @property
    def pitch_deg(self) -> float:
        """Pitch of the source, degrees."""
        ...

    @property
    def light(self) -> str:
        """Illumination class of the source."""
        ...

    @property
    def seconds(self) -> dict[str, float]:
        """What preparing took, by stage."""
        ...

    @property
    def reach(self) -> tuple[float, float] | None:
        """Rotations in degrees within which it was calibrated; None: nothing is calibrated."""
        ...

    def at_yaw(self, yaw_deg: float) -> Prepared:
        """The same with the yaw of the source known better, as from neighbouring frames."""
        ...

    def calibrated(self, degrees: Sequence[float], steady: bool = False) -> Prepared:
        """The same with its steps measured once for many rotations.

        Args:
            degrees: the farthest rotations to come.
            steady: measure exactly for `degrees` now and nothing later: frames of one face then move alike.
        """
        ...

    def rotate(self, degrees: Sequence[float]) -> RotatedCrops:
        """Rotate the crop by each of degrees (> 0: nose to the viewer's right)."""
        ...


@dataclass(frozen=True, eq=False)
class PreparedCrop:
    """A crop for a rotator that prepares nothing: every rotation begins with the crop; attributes as `Prepared`."""

    rotator: Rotator
    source: np.ndarray
    yaw_deg: float
    pitch_deg: float
    light: str
    device: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    reach: tuple[float, float] | None = None

    def at_yaw(self, yaw_deg: float) -> PreparedCrop:
        """See `Prepared.at_yaw`."""
        return replace(self, yaw_deg=yaw_deg)

    def calibrated(self, degrees: Sequence[float], steady: bool = False) -> PreparedCrop:
        """See `Prepared.calibrated`; there is nothing to calibrate."""
        return self

    def rotate(self, degrees: Sequence[float]) -> RotatedCrops:
        """See `Prepared.rotate`."""
        images = rotate_many(self.rotator, self.source, degrees)
        frames = [
            RotatedCrop(d, *measure(self.rotator, im, self.device), im) for d, im in zip(degrees, images, strict=True)
        ]
        return RotatedCrops(self.source, self.source, self.yaw_deg, self.pitch_deg, self.light, frames)


def prepare(
    rotator: Rotator, image: np.ndarray, *, light: str = "auto", like: Prepared | None = None, device: str | None = None
) -> Prepared:
    """Prepare one crop for many rotations, in the rotator's own way if it has one.

    Args:
        rotator: any.
        image: (s, s, 3) uint8 RGB crop in the CelebA frame.
        light: illumination class of the source; auto estimates it.
        like: what was prepared of the same face in an earlier frame.
        device: where the label network runs that measures for a rotator without one of its own.
    """
    if isinstance(rotator, PreparingRotator):
        return rotator.prepare(image, light, like)
    return PreparedCrop(rotator, image, *measure(rotator, image, device), device)


def measure(rotator: Rotator, image: np.ndarray, device: str | None = None) -> tuple[float, float, str]:
    """Yaw and pitch in degrees and the light of a (s, s, 3) uint8 crop, by the label network of the rotator.

    A rotator without one is measured by that of the bundled faces, on `device` (None: the CPU).
    """
    from latentrot.faces.estimate import pose_and_light  # noqa: PLC0415  brings torch
    from latentrot.faces.network import load_labeler  # noqa: PLC0415

    return pose_and_light(image, getattr(rotator, "label_network", None) or load_labeler(device=device))


def rotate_many(rotator: Rotator, image: np.ndarray, degrees: Sequence[float]) -> list[np.ndarray]:
    """Several rotations of one image, in the rotator's own quick way if it has one, else one by one."""
    check_degrees(degrees, 180)
    if isinstance(rotator, BatchRotator):
        return rotator.rotate_many(image, degrees)
    return [rotator.rotate(image, d) for d in degrees]


def rotate_face(
    rotator: Rotator,
    photograph: np.ndarray,
    face: Alignment,
    degrees: Sequence[float],
    size: int,
    box: Square = CROP_BOX,
) -> list[np.ndarray]:
    """Rotate one face of a photograph, with all that the photograph shows where the rotator makes use of it.

    Args:
        rotator: any.
        photograph: (h, w, 3) uint8.
        face: where the face lies in it.
        degrees: rotations.
        size: side in pixels of the crop given to a rotator that takes no photographs, and of the crops returned.
        box: the square of the CelebA frame that is cut out: left, top, right, bottom in frame pixels.

    Returns:
        Crops, one for each rotation: (size, size, 3) uint8, or whatever size the rotator makes of a crop.
    """
    check_degrees(degrees, 180)
    if not takes_photographs(rotator):
        return rotate_many(rotator, face.crop(photograph, size, box), degrees)
    return [face.crop(rotated, size, box) for rotated in rotator.rotate_photograph(photograph, face, degrees)]


# ---- by name ----------------------------------------------------------------------------------------------------


def load_rotator(
    name: str = "latent", *, device: str | None = None, dtype: str | None = None, **options: Any
) -> Rotator:
    """Load a rotator by name.

    Args:
        name: one of `ROTATORS`; or a rotator of your own as "package.module:name", where calling the name makes one.
        device: "cpu", "cuda" or "cuda:N"; None: cuda where there is one. One of your own is not told.
        dtype: precision of the evaluations of a diffusion model: float32, bfloat16 or float16.
        **options: fields of the options of the rotator (such as `latentrot.rotators.latent.options.LatentOptions`), or
            arguments of your own.

    Raises:
        LatentrotError: an unknown name or option, or nothing to import by it.
    """
    made_by = options_of(name)
    if made_by is None:
        return _imported(name, name)(**options)
    known = {f.name for f in fields(made_by)}
    if unknown := sorted(set(options) - known):
        raise LatentrotError(
            f"rotator {name!r} has no option {', '.join(unknown)}; it has {', '.join(sorted(known)) or 'none'}"
        )
    return made_by(**options).load(device, dtype)


def options_of(name: str) -> type[RotatorOptions] | None:
    """The options of a rotator that comes with the package; None for one of the user's own."""
    if name in ROTATORS:
        return _imported(name, ROTATORS[name])
    if ":" not in name:
        raise LatentrotError(f"rotator {name!r}: expected {', '.join(rotator_names())}, or package.module:name")
    return None


def _imported(name: str, place: str) -> Any:
    """What lies at module:name.

    Raises:
        LatentrotError: nothing there.
    """
    module, _, attribute = place.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise LatentrotError(f"rotator {name!r} cannot be imported: {error}") from error


def rotator_names() -> list[str]:
    """Names of the rotators that come with the package, for help and pages."""
    return list(ROTATORS)
