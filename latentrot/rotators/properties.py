"""Edit properties of a face in a photograph: invert once, edit many times.

editor = load_property_editor()
face = editor.prepare(photograph, alignment)
image, report = face.edit({"smile": by(1), "age": to(60)})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from latentrot.bundles import PROPERTIES, part_in
from latentrot.data.arrays import to_tensor, to_uint8
from latentrot.diffusion.load import LatentModel, load_model
from latentrot.diffusion.schedule import Schedule
from latentrot.directions.difference import Change, apply_change, combine_changes, difference
from latentrot.directions.properties import Property, Wanted, by, property_named, to
from latentrot.directions.property_directions import Calibration, PropertyDirections, load_property_directions
from latentrot.directions.property_walk import decode_walked, invert_through, walked
from latentrot.directions.regions import WITH_WALKED_PARTS, FaceMap, map_of
from latentrot.directions.search import find_steps
from latentrot.directions.warp import landmarks_of_crops
from latentrot.errors import LatentrotError
from latentrot.faces.alignment import Alignment, crop_alignment
from latentrot.faces.attributes import AttributeNetwork, attributes_beside
from latentrot.faces.landmarks import estimate_landmarks
from latentrot.faces.parts import estimate_parts
from latentrot.faces.table import describe
from latentrot.store.space import LatentSpace

__all__ = [
    "EditedProperty", "InvertedFace", "PropertyEditor", "PropertyReport", "Wanted", "by", "load_property_editor", "to",
]  # fmt: skip

#: change of presence from which an occluding object, such as dark glasses, is drawn
WORN_FROM = 0.5
#: max side in pixels of the crops on which results are measured
MEASURED_SIDE = 128
#: tolerance of a step size search, by unit
TOLERANCE = {"degrees": 1.0, "years": 1.5, "presence": 0.08, "probability": 0.08}
#: max error of a change that counts as reached, in tolerances
MISSED = 3.0
#: probe steps of a search, relative to the step of the average calibration
PROBES = (0.6, 1.2)


@dataclass(frozen=True)
class EditedProperty:
    """Result of the edit of one property.

    Attributes:
        name: name of the property.
        wanted: the requested change.
        step: step size, in units of the property's column.
        before: value of the source, in the property's unit; NaN if not measurable.
        after: value of the result.
        reached: whether the change was reached within the tolerance.
        clamped: whether the step was clamped to its limit.
    """

    name: str
    wanted: Wanted
    step: float
    before: float
    after: float
    reached: bool
    clamped: bool


@dataclass(frozen=True, eq=False)
class PropertyReport:
    """Result of an edit.

    Attributes:
        properties: results of the requested properties.
        before: row of `latentrot.describe` for the source.
        after: row of `latentrot.describe` for the result.
        warnings: warnings for the user.
    """

    properties: tuple[EditedProperty, ...]
    before: pd.Series
    after: pd.Series
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class PropertyEditor:
    """Edits properties of faces.

    Args:
        model: the diffusion model.
        directions: property directions of one or several depths, whose schedules share their noise levels.
        attributes: attributes network; None: age and attributes are not measured.

    Raises:
        LatentrotError: there are no directions, or they belong to another model or to incompatible schedules.
    """

    model: LatentModel
    directions: Sequence[PropertyDirections]
    attributes: AttributeNetwork | None = None

    def __post_init__(self) -> None:
        if not self.directions:
            raise LatentrotError("no property directions; make them with: latentrot fit-directions")
        for one in self.directions:
            one.space.require_same(LatentSpace.of(self.model, one.space.schedule), "directions of properties")
        path = self.deepest.levels(self.model)
        for one in self.directions:
            levels = one.space.schedule.levels(self.model)
            if levels != path[: len(levels)]:
                raise LatentrotError(
                    f"directions of {one.space.schedule} do not share the noise levels of {self.deepest}; fit them again"
                )

    @property
    def deepest(self) -> Schedule:
        """The deepest schedule; the noise levels of the other schedules are a prefix of its levels."""
        return max((d.space.schedule for d in self.directions), key=lambda s: s.depth)

    @property
    def properties(self) -> list[Property]:
        """The editable properties."""
        return [p for d in self.directions for p in d.properties]

    def of(self, name: str) -> tuple[Property, PropertyDirections]:
        """A property and its directions.

        Raises:
            LatentrotError: no property has this name.
        """
        one = property_named(name, self.properties)
        return one, next(d for d in self.directions if one in d.properties)

    def level(self, directions: PropertyDirections) -> int:
        """The noise level of the latents of some directions."""
        return directions.space.schedule.levels(self.model)[-1]

    def calibration(self, name: str) -> Calibration:
        """The average calibration of a property; for an uncalibrated property a step of 1 counts as one unit."""
        one, directions = self.of(name)
        return directions.calibrations.get(
            name, Calibration((one.limit[0], 0.0, one.limit[1]), (one.limit[0], 0.0, one.limit[1]))
        )

    def describe(self, x: torch.Tensor) -> pd.DataFrame:
        """Describe crops (n, 3, h, h) with the networks of the model."""
        return describe(x, labeler=self.model.labeler, attributes=self.attributes)

    def prepare(
        self, photograph: np.ndarray, alignment: Alignment, landmarks: np.ndarray | None = None
    ) -> InvertedFace:
        """Invert a face and estimate its parts, the slow step that all edits share.

        Args:
            photograph: (h, w, 3) uint8 RGB.
            alignment: alignment of the face.
            landmarks: (68, 2) landmarks in photograph pixels; None: estimated.

        Raises:
            LatentrotError: the landmarks of the face are too uncertain.
        """
        device = str(self.model.device)
        if landmarks is None:
            landmarks = estimate_landmarks(photograph, alignment, device=device).require_sure().points
        face = map_of(estimate_parts(photograph, landmarks, device=device), landmarks, alignment)
        x = to_tensor(alignment.crop(photograph, self.model.resolution))
        levels = sorted({self.level(d) for d in self.directions})
        latents = dict(zip(levels, invert_through(self.model, x, self.deepest, levels), strict=True))
        return InvertedFace(self, photograph, alignment, face, latents)


@dataclass(frozen=True, eq=False)
class InvertedFace:
    """An inverted face of a photograph, for many edits.

    Attributes:
        editor: the editor.
        photograph: (h, w, 3) uint8 RGB.
        alignment: alignment of the face.
        face: face parts and landmarks in the crop.
        latents: noise level -> latent (1, c, h, w).
        starts: cache of the results of `start`.
    """

    editor: PropertyEditor
    photograph: np.ndarray
    alignment: Alignment
    face: FaceMap
    latents: dict[int, torch.Tensor]
    starts: dict[int, tuple[torch.Tensor, np.ndarray | None]] = field(default_factory=dict)

    def edit(self, wanted: Mapping[str, Wanted | float], *, measure: bool = True) -> tuple[np.ndarray, PropertyReport]:
        """Edit properties in the photograph.

        Args:
            wanted: property name -> `by(...)` or `to(...)`; a plain number x means `by(x)`.
            measure: search the step for this photograph, for target values and years; False: use the average calibration.

        Returns:
            (h, w, 3) uint8, and the report; pixels that the edit does not change are equal bit for bit.

        Raises:
            LatentrotError: a property is unknown, or is changed by geometry, such as yaw.
        """
        requested = {name: w if isinstance(w, Wanted) else by(w) for name, w in wanted.items()}
        steps = {name: self.step_for(name, w, measure=measure) for name, w in requested.items()}
        change = self.change(steps)
        return apply_change(self.photograph, self.alignment, change), self.report(requested, steps, change)

    def step_for(self, name: str, wanted: Wanted, *, measure: bool = True) -> float:
        """The step size of a change, in units of the property's column."""
        one, _ = self.editor.of(name)
        if one.reaches == "geometry":
            raise LatentrotError(f"{name} is changed by geometry; use a rotator instead")
        calibration, before = self.editor.calibration(name), self.value(name, self.before)
        known = bool(one.measured) and np.isfinite(before)
        if wanted.absolute and not known:
            raise LatentrotError(
                f"{name} cannot be measured, and so cannot be changed to {wanted.value:g}; give a signed change"
            )
        change = wanted.value - before if wanted.absolute else self.possible(one, wanted.value, before)
        if one.covers:  # dark lenses are drawn completely or not at all: intermediate steps smear the eyes
            return one.limit[1] if change >= WORN_FROM else 0.0
        average = float(np.clip(calibration.step_for(change), *one.limit))
        if not (measure and known and (wanted.absolute or one.unit == "years")) or not change or not average:
            return average
        tolerance = TOLERANCE.get(one.unit, 1.0)
        longest = one.limit[1] if average > 0 else one.limit[0]
        probes = [float(np.clip(average * share, *one.limit)) for share in PROBES]

        def measured(steps: Sequence[float]) -> np.ndarray:
            rows = [self.described(self.change({name: step})) for step in steps]
            return np.array([(self.value(name, row) - before) / tolerance for row in rows])

        return find_steps([change / tolerance], probes, measured, [longest])[0]

    def possible(self, one: Property, change: float, before: float) -> float:
        """Clamp a change of presence so that the result is between 0 (absent) and 1 (present)."""
        if one.unit not in ("presence", "probability") or not np.isfinite(before):
            return change
        room = max(1 - before, 0.0) if change > 0 else -max(before, 0.0)
        return min(change, room) if change > 0 else max(change, room)

    def change(self, steps: Mapping[str, float]) -> Change:
        """The change for steps along several directions; steps are added in one latent, except those of light.

        Args:
            steps: property -> step, in units of its column.
        """
        shading = {name: step for name, step in steps.items() if self.editor.of(name)[0].shades}
        others = {name: step for name, step in steps.items() if name not in shading}
        groups = [group for group in (others, shading) if any(group.values())]
        return combine_changes([self.joint_change(group) for group in groups or [{}]])

    def joint_change(self, steps: Mapping[str, float]) -> Change:
        """The change for steps (property -> step) along several directions that are added in one latent."""
        # walk and decode
        offsets: dict[int, torch.Tensor] = {}
        properties = []
        for name, step in steps.items():
            one, directions = self.editor.of(name)
            if step:
                level = self.editor.level(directions)
                offsets[level] = offsets.get(level, 0) + step * directions.vectors[name][None]
                properties.append(one)
        entry = max(offsets, default=min(self.latents))
        start, before = self.start(entry)
        shown = self.decode(entry, offsets) if offsets else start

        # difference of the decodings
        after = landmarks_of_crops(shown, self.device)[0] if any(p.warp for p in properties) else None
        moved = self.walked_map(shown) if any(p.region in WITH_WALKED_PARTS for p in properties) else None
        return difference(start, shown, (before, after), self.face, properties, moved)

    def decode(self, entry: int, offsets: dict[int, torch.Tensor]) -> torch.Tensor:
        """Move the latent of noise level `entry` by its offset, and decode it: (1, 3, s, s).

        The offsets of lower noise levels are added when the decoding reaches them.
        """
        model = self.editor.model
        z = (
            walked(self.latents[entry], offsets[entry], model.first_stage.factor)
            if entry in offsets
            else self.latents[entry]
        )
        below = {level: offset for level, offset in offsets.items() if level != entry}
        return decode_walked(model, z, self.schedule(entry), below)

    def start(self, entry: int) -> tuple[torch.Tensor, np.ndarray | None]:
        """The decoded unchanged latent of noise level `entry`, (1, 3, s, s), and its landmarks; cached."""
        if entry not in self.starts:
            shown = self.decode(entry, {})
            self.starts[entry] = shown, landmarks_of_crops(shown, self.device)[0]
        return self.starts[entry]

    def schedule(self, level: int) -> Schedule:
        """The schedule whose latents have a noise level."""
        return next(d.space.schedule for d in self.editor.directions if self.editor.level(d) == level)

    def walked_map(self, shown: torch.Tensor) -> FaceMap | None:
        """Face parts and landmarks in a decoded image (1, 3, s, s); None if no face is found."""
        image = to_uint8(shown)[0]
        side = image.shape[0]
        frame = crop_alignment(side)
        points = landmarks_of_crops(shown, self.device)[0]
        if points is None:
            return None
        pixels = (points + 1) * side / 2
        return map_of(estimate_parts(image, pixels, device=self.device), pixels, frame)

    @property
    def device(self) -> str:
        """Device of the networks."""
        return str(self.editor.model.device)

    # --- measurement ----------------------------------------------------------------------------------------------------

    @cached_property
    def small(self) -> np.ndarray:
        """The crop for measurements, (k, k, 3) uint8."""
        side = int(np.clip(round(self.alignment.crop_side), self.editor.model.resolution, MEASURED_SIDE))
        return self.alignment.crop(self.photograph, side)

    @cached_property
    def before(self) -> pd.Series:
        """Description of the source."""
        return self.editor.describe(to_tensor(self.small)).iloc[0]

    def edited_crop(self, change: Change) -> np.ndarray:
        """Apply a change to the small crop: (k, k, 3) uint8."""
        return apply_change(self.small, crop_alignment(self.small.shape[0]), change)

    def described(self, change: Change) -> pd.Series:
        """Description of the small crop with a change."""
        return self.editor.describe(to_tensor(self.edited_crop(change))).iloc[0]

    def value(self, name: str, shown: pd.Series) -> float:
        """Value of a property in a description, in its unit; NaN if not measurable."""
        one, _ = self.editor.of(name)
        if not one.measured or one.measured not in shown:
            return float("nan")
        calibration = self.editor.calibration(name)
        found = 1 - float(shown[one.measured]) if one.negated else float(shown[one.measured])
        return (found - calibration.absent) / calibration.span

    def report(self, requested: Mapping[str, Wanted], steps: Mapping[str, float], change: Change) -> PropertyReport:
        """Measure the result of an edit."""
        after = self.before if change.is_nothing else self.described(change)
        rows = tuple(self.edited(name, requested[name], steps[name], after) for name in requested)
        warnings = tuple(
            f"{r.name}: requested {'' if r.wanted.absolute else 'a change of '}{r.wanted.value:g}, measured "
            f"{r.after if r.wanted.absolute else r.after - r.before:.2g}"
            + ("; the step is clamped to the limit" if r.clamped else "")
            for r in rows
            if not r.reached
        )
        return PropertyReport(rows, self.before, after, warnings)

    def edited(self, name: str, wanted: Wanted, step: float, after: pd.Series) -> EditedProperty:
        """Result of one property for the report."""
        one, _ = self.editor.of(name)
        old, new = self.value(name, self.before), self.value(name, after)
        if wanted.absolute:
            missing = wanted.value - new
        else:
            missing = self.possible(one, wanted.value, old) - (new - old)
            if one.unit in ("presence", "probability"):  # a larger change than requested also counts as reached
                missing = max(0.0, missing * float(np.sign(wanted.value)))
        reached = not abs(missing) > MISSED * TOLERANCE.get(one.unit, 1.0)
        clamped = bool(step) and (step >= one.limit[1] or step <= one.limit[0])
        return EditedProperty(name, wanted, step, old, new, reached, clamped)


def load_property_editor(
    model: str | Path | LatentModel | None = None,
    directions: str | Path | None = None,
    device: str | None = None,
    dtype: str | None = None,
) -> PropertyEditor:
    """Load a model with its property directions.

    Args:
        model: a loaded model, a diffusers folder, a Hub id or the name of a bundled model; None: the bundled faces.
        directions: a folder of files of directions, or one file; None: those in the model's folder (`properties/`).
        device: torch device.
        dtype: precision of the network evaluations.

    Raises:
        LatentrotError: there are no directions, or they belong to another model.
    """
    loaded = model if isinstance(model, LatentModel) else load_model(model, device, dtype)
    source = Path(directions) if directions else part_in(loaded.folder, PROPERTIES)
    if source is None:
        raise LatentrotError(f"{loaded.name} has no property directions; make them with: latentrot fit-directions")
    files = [source] if source.is_file() else sorted(source.glob("*.safetensors"))
    found = load_property_directions(files)
    return PropertyEditor(loaded, found, attributes_beside(loaded.folder, loaded.device))
