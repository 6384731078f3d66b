"""The protocol of rotators.

A rotator is any object with `rotate(image, degrees)`. Attributes (`Capabilities`) and optional methods state what else it can
do; other modules do not depend on its type or name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard, runtime_checkable

import numpy as np

from latentrot.data.frame import CROP_BOX
from latentrot.faces.alignment import Alignment, Square
from latentrot.numerics import check_degrees

if TYPE_CHECKING:
    from latentrot.diffusion.load import LatentModel
    from latentrot.faces.network import FaceLabeler
    from latentrot.geometry import HeadFitter

__all__ = [
    "CROP_SIDE",
    "Capabilities",
    "PhotographRotator",
    "Prepared",
    "RotatedCrop",
    "RotatedCrops",
    "Rotator",
    "capabilities_of",
    "prepare",
    "rotate_face",
    "rotate_many",
    "takes_photographs",
]

#: side in pixels of the crops for rotators without a fixed size
CROP_SIDE = 256

# ---- protocol ---------------------------------------------------------------------------------------------------


class Rotator(Protocol):
    """Rotates the head in a face crop; all other methods and attributes are optional."""

    def rotate(self, image: np.ndarray, degrees: float) -> np.ndarray:
        """Rotate a (s, s, 3) uint8 RGB crop in the CelebA frame by degrees (> 0: nose to the viewer's right)."""
        ...


@runtime_checkable
class BatchRotator(Rotator, Protocol):
    """A rotator that computes several rotations of one image faster than one by one."""

    def rotate_many(self, image: np.ndarray, degrees: Sequence[float]) -> list[np.ndarray]:
        """Rotate a (s, s, 3) uint8 crop by each angle in degrees."""
        ...


@runtime_checkable
class PhotographRotator(Rotator, Protocol):
    """A rotator of whole photographs."""

    def rotate_photograph(
        self, photograph: np.ndarray, face: Alignment, degrees: Sequence[float]
    ) -> Iterable[np.ndarray]:
        """Rotate a face in a photograph by each yaw in degrees -> (h, w, 3) uint8 photographs."""
        ...


@runtime_checkable
class PreparingRotator(Rotator, Protocol):
    """A rotator with a slow step that all rotations of one crop share."""

    def prepare(self, image: np.ndarray, light: str = "auto", like: Any = None) -> Prepared:
        """Prepare a (s, s, 3) uint8 crop for rotations.

        Args:
            image: in the CelebA frame.
            light: illumination class: left, center or right; auto estimates it.
            like: the same face prepared in an earlier frame; its light and calibration are reused.
        """
        ...


def takes_photographs(rotator: Rotator) -> TypeGuard[PhotographRotator]:
    """Whether a rotator rotates whole photographs."""
    return isinstance(rotator, PhotographRotator)


@dataclass(frozen=True)
class Capabilities:
    """Capabilities of a rotator, read from its attributes of the same names; defaults apply to missing attributes.

    Attributes:
        name: name in reports.
        properties: which of yaw and pitch it can change.
        draws: whether it generates the rotated face; otherwise geometry alone rotates photographs.
        crop_side: side of its input crops in pixels.
        concurrent: whether it may run in a thread while a head is fitted.
        label_network: label network that measures its results; None: the bundled one.
        fitter: fits the head of a photograph; None: the default.
        learned_from: names of its training data sets; empty: not trained; None: unknown.
        warnings: warnings for the user, reported by every edit.
        property_model: diffusion model for edits of properties; None: the bundled one.
        hint: short description for users.
        provenance: entries for reports, such as the model.
        digests: digests of its networks and directions, which must be equal when an edit is repeated.
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
    """Read the capabilities of a rotator."""
    stated = {f.name: getattr(rotator, f.name) for f in fields(Capabilities) if hasattr(rotator, f.name)}
    return Capabilities(**{"name": type(rotator).__name__, **stated})


# ---- rotations of one crop --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class RotatedCrop:
    """One rotation of a face crop.

    Attributes:
        requested_deg: requested rotation, degrees of yaw.
        yaw_deg: yaw of the result by the label network, degrees.
        pitch_deg: pitch of the result.
        light: illumination class of the result.
        image: (s, s, 3) uint8 RGB.
        drawn_deg: measured rotation of the generated face before compositing; NaN if no face was generated.
        clamped: whether the walk was clamped to its max step size.
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
        source: (s, s, 3) uint8, the crop at the rotator's size.
        reconstruction: result of the rotator without a rotation.
        yaw_deg: yaw of the source, degrees.
        pitch_deg: pitch of the source, degrees.
        light: illumination class of the source.
        frames: one rotated crop per rotation.
        round_trip_psnr_db: PSNR of the reconstruction.
        seconds: stage -> duration.
        warnings: warnings for the user.
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
    """One crop, prepared for many rotations."""

    @property
    def source(self) -> np.ndarray:
        """The crop at the rotator's size, (s, s, 3) uint8."""
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
        """Duration of the preparation by stage."""
        ...

    @property
    def reach(self) -> tuple[float, float] | None:
        """Calibrated range in degrees; None: no calibration."""
        ...

    def at_yaw(self, yaw_deg: float) -> Prepared:
        """A copy with a more accurate yaw of the source, such as one smoothed over frames."""
        ...

    def calibrated(self, degrees: Sequence[float], steady: bool = False) -> Prepared:
        """A copy with a measured calibration for many rotations.

        Args:
            degrees: the largest rotations that will be requested.
            steady: measure accurately for `degrees` and do not refine later, so that all frames rotate consistently.
        """
        ...

    def rotate(self, degrees: Sequence[float]) -> RotatedCrops:
        """Rotate the crop by each angle in degrees (> 0: nose to the viewer's right)."""
        ...


@dataclass(frozen=True, eq=False)
class PreparedCrop:
    """A crop for a rotator that has no `prepare`; attributes as in `Prepared`."""

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
        """See `Prepared.calibrated`; returns itself."""
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
    """Prepare one crop for many rotations, with the rotator's `prepare` if it has one.

    Args:
        rotator: any rotator.
        image: (s, s, 3) uint8 RGB crop in the CelebA frame.
        light: illumination class of the source; auto estimates it.
        like: the same face prepared in an earlier frame; its light and calibration are reused.
        device: device of the bundled label network, which is used for rotators without a label network.
    """
    if isinstance(rotator, PreparingRotator):
        return rotator.prepare(image, light, like)
    return PreparedCrop(rotator, image, *measure(rotator, image, device), device)


def measure(rotator: Rotator, image: np.ndarray, device: str | None = None) -> tuple[float, float, str]:
    """Measure yaw and pitch in degrees, and the light, of a (s, s, 3) uint8 crop by the rotator's label network.

    For a rotator without a label network the bundled one is used, on `device` (None: the CPU).
    """
    from latentrot.faces.estimate import pose_and_light  # noqa: PLC0415  imports torch
    from latentrot.faces.network import load_labeler  # noqa: PLC0415

    return pose_and_light(image, getattr(rotator, "label_network", None) or load_labeler(device=device))


def rotate_many(rotator: Rotator, image: np.ndarray, degrees: Sequence[float]) -> list[np.ndarray]:
    """Rotate one image by each angle, with the rotator's `rotate_many` if it has one."""
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
    """Rotate one face of a photograph, with the rotator's `rotate_photograph` if it has one.

    Args:
        rotator: any rotator.
        photograph: (h, w, 3) uint8.
        face: alignment of the face.
        degrees: rotations in degrees of yaw.
        size: side in pixels of the returned crops and, for rotators of crops, of the input crop.
        box: square of the CelebA frame to crop: left, top, right, bottom in frame pixels.

    Returns:
        One crop per rotation: (size, size, 3) uint8, or of the size that a rotator of crops returns.
    """
    check_degrees(degrees, 180)
    if not takes_photographs(rotator):
        return rotate_many(rotator, face.crop(photograph, size, box), degrees)
    return [face.crop(rotated, size, box) for rotated in rotator.rotate_photograph(photograph, face, degrees)]
