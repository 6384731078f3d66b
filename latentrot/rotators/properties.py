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

from latentrot.bundles import properties_in
from latentrot.data.images import to_tensor, to_uint8
from latentrot.diffusion.load import LatentModel, load_model
from latentrot.diffusion.schedule import Schedule
from latentrot.directions.difference import Change, apply_change, difference, together
from latentrot.directions.properties import Property, Wanted, by, to
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

#: side in pixels of the crops that results are measured on, at most
MEASURED_SIDE = 128
#: of a property's unit, what a search for a step takes for reached; a search counts in multiples of it
TOLERANCE = {"degrees": 1.0, "years": 1.5, "presence": 0.08, "probability": 0.08}
#: so many times as far from what was wanted, and a value counts as not reached
MISSED = 3.0
#: probe steps of a search, as shares of the step that the average calibration names
PROBES = (0.6, 1.2)


@dataclass(frozen=True)
class EditedProperty:
    """What one property has become.

    Attributes:
        name: of the property.
        wanted: what was asked for.
        step: walked, in units of the property's column.
        before: measured on the source, in the property's unit; NaN where nothing measures it.
        after: measured on the result.
        reached: whether the result is what was asked for, or near it.
        held: whether the step was held at the longest allowed.
    """

    name: str
    wanted: Wanted
    step: float
    before: float
    after: float
    reached: bool
    held: bool


@dataclass(frozen=True, eq=False)
class PropertyReport:
    """What an edit did.

    Attributes:
        properties: each that was asked for.
        before: a row of `latentrot.describe` of the source.
        after: the same of the result.
        warnings: what the user should know, a line each.
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
        directions: of one or more depths, whose schedules lie on one path.
        attributes: the network that measures age and attributes; None: what it measures is not measured.

    Raises:
        LatentrotError: directions of another model, none at all, or of schedules that lie on different paths.
    """

    model: LatentModel
    directions: Sequence[PropertyDirections]
    attributes: AttributeNetwork | None = None

    def __post_init__(self) -> None:
        if not self.directions:
            raise LatentrotError("no directions of properties; make them with: latentrot fit-directions")
        for one in self.directions:
            one.space.require_same(LatentSpace.of(self.model, one.space.schedule), "directions of properties")
        path = self.deepest.levels(self.model)
        for one in self.directions:
            levels = one.space.schedule.levels(self.model)
            if levels != path[: len(levels)]:
                raise LatentrotError(
                    f"directions of {one.space.schedule} do not lie on the path of {self.deepest}; fit them anew"
                )

    @property
    def deepest(self) -> Schedule:
        """The longest schedule; the others are beginnings of it."""
        return max((d.space.schedule for d in self.directions), key=lambda s: s.depth)

    @property
    def properties(self) -> list[Property]:
        """What can be edited."""
        return [p for d in self.directions for p in d.properties]

    def of(self, name: str) -> tuple[Property, PropertyDirections]:
        """A property and the directions that hold it.

        Raises:
            LatentrotError: there is none of this name.
        """
        for directions in self.directions:
            for one in directions.properties:
                if one.name == name:
                    return one, directions
        raise LatentrotError(f"property {name!r}: expected one of {', '.join(p.name for p in self.properties)}")

    def level(self, directions: PropertyDirections) -> int:
        """The noise level of some directions' latents."""
        return directions.space.schedule.levels(self.model)[-1]

    def calibration(self, name: str) -> Calibration:
        """What steps along a direction do on average; where nobody has measured, a step counts as a unit."""
        one, directions = self.of(name)
        return directions.calibrations.get(
            name, Calibration((one.limit[0], 0.0, one.limit[1]), (one.limit[0], 0.0, one.limit[1]))
        )

    def describe(self, x: torch.Tensor) -> pd.DataFrame:
        """What crops (n, 3, h, h) show, by the networks that belong to the model."""
        return describe(x, labeler=self.model.labeler, attributes=self.attributes)

    def prepare(
        self, photograph: np.ndarray, alignment: Alignment, landmarks: np.ndarray | None = None
    ) -> InvertedFace:
        """Invert a face and find its parts: the costly part that all edits share.

        Args:
            photograph: (h, w, 3) uint8 RGB.
            alignment: of the face.
            landmarks: (68, 2) photograph pixels; None finds them.

        Raises:
            LatentrotError: the face's landmarks cannot be found.
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
    """A face of a photograph, ready for many edits.

    Attributes:
        editor: that prepared it.
        photograph: (h, w, 3) uint8 RGB.
        alignment: of the face.
        face: what lies where in its crop.
        latents: noise level -> (1, c, h, w).
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
            wanted: property name -> `by(...)` or `to(...)`; a plain number changes by it.
            measure: find the step on the photograph itself where an absolute value or years are asked for; without it the
                average calibration is trusted.

        Returns:
            (h, w, 3) uint8, bit for bit the photograph where nothing changes; and what was measured.

        Raises:
            LatentrotError: an unknown property, or one that geometry brings about, such as yaw.
        """
        asked = {name: w if isinstance(w, Wanted) else by(w) for name, w in wanted.items()}
        steps = {name: self.step_for(name, w, measure=measure) for name, w in asked.items()}
        change = self.change(steps)
        return apply_change(self.photograph, self.alignment, change), self.report(asked, steps, change)

    def step_for(self, name: str, wanted: Wanted, *, measure: bool = True) -> float:
        """The step, in units of the property's column, that brings a property about."""
        one, _ = self.editor.of(name)
        if one.reaches == "geometry":
            raise LatentrotError(f"{name} is brought about by geometry; turn the head with a rotator")
        calibration, before = self.editor.calibration(name), self.value(name, self.before)
        known = bool(one.measured) and np.isfinite(before)
        if wanted.absolute and not known:
            raise LatentrotError(
                f"nothing measures {name}, so that it cannot be changed to {wanted.value:g}; give a change by"
            )
        change = wanted.value - before if wanted.absolute else self.possible(one, wanted.value, before)
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
        """A change as far as it can be made: nothing is more than present, or less than absent."""
        if one.unit not in ("presence", "probability") or not np.isfinite(before):
            return change
        room = max(1 - before, 0.0) if change > 0 else -max(before, 0.0)
        return min(change, room) if change > 0 else max(change, room)

    def change(self, steps: Mapping[str, float]) -> Change:
        """What steps along several directions change: all added in the latent, decoded once; light, which shades, apart.

        Args:
            steps: property name -> step in units of its column.
        """
        shading = {name: step for name, step in steps.items() if self.editor.of(name)[0].shades}
        others = {name: step for name, step in steps.items() if name not in shading}
        groups = [group for group in (others, shading) if any(group.values())]
        return together([self.change_at_once(group) for group in groups or [{}]])

    def change_at_once(self, steps: Mapping[str, float]) -> Change:
        """What steps along several directions change that reach the photograph alike: property name -> step."""
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

        # what that changes
        after = landmarks_of_crops(shown, self.device)[0] if any(p.warp for p in properties) else None
        moved = self.walked_map(shown) if any(p.region in WITH_WALKED_PARTS for p in properties) else None
        return difference(start, shown, (before, after), self.face, properties, moved)

    def decode(self, entry: int, offsets: dict[int, torch.Tensor]) -> torch.Tensor:
        """(1, 3, s, s), the latent at a noise level walked and decoded, passing the walks of the levels below."""
        model = self.editor.model
        z = (
            walked(self.latents[entry], offsets[entry], model.first_stage.factor)
            if entry in offsets
            else self.latents[entry]
        )
        below = {level: offset for level, offset in offsets.items() if level != entry}
        return decode_walked(model, z, self.schedule(entry), below)

    def start(self, entry: int) -> tuple[torch.Tensor, np.ndarray | None]:
        """The latent at a noise level decoded as it is, (1, 3, s, s), and its landmarks; made once."""
        if entry not in self.starts:
            shown = self.decode(entry, {})
            self.starts[entry] = shown, landmarks_of_crops(shown, self.device)[0]
        return self.starts[entry]

    def schedule(self, level: int) -> Schedule:
        """The schedule whose latents lie at a noise level."""
        return next(d.space.schedule for d in self.editor.directions if self.editor.level(d) == level)

    def walked_map(self, shown: torch.Tensor) -> FaceMap | None:
        """What lies where in a decoded image (1, 3, s, s); None where no face is found in it."""
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
        """Where networks run."""
        return str(self.editor.model.device)

    # --- what is measured -----------------------------------------------------------------------------------------------

    @cached_property
    def small(self) -> np.ndarray:
        """(k, k, 3) uint8, the face crop that results are measured on."""
        side = int(np.clip(round(self.alignment.crop_side), self.editor.model.resolution, MEASURED_SIDE))
        return self.alignment.crop(self.photograph, side)

    @cached_property
    def before(self) -> pd.Series:
        """What the source shows."""
        return self.editor.describe(to_tensor(self.small)).iloc[0]

    def edited_crop(self, change: Change) -> np.ndarray:
        """A change on the small crop alone: (k, k, 3) uint8."""
        return apply_change(self.small, crop_alignment(self.small.shape[0]), change)

    def described(self, change: Change) -> pd.Series:
        """What a change makes the small crop show."""
        return self.editor.describe(to_tensor(self.edited_crop(change))).iloc[0]

    def value(self, name: str, shown: pd.Series) -> float:
        """How much of a property an image shows, in its unit; NaN where nothing measures it."""
        one, _ = self.editor.of(name)
        if not one.measured or one.measured not in shown:
            return float("nan")
        calibration = self.editor.calibration(name)
        found = 1 - float(shown[one.measured]) if one.negated else float(shown[one.measured])
        return (found - calibration.absent) / calibration.span

    def report(self, asked: Mapping[str, Wanted], steps: Mapping[str, float], change: Change) -> PropertyReport:
        """Measure what an edit did."""
        after = self.before if change.is_nothing else self.described(change)
        rows = tuple(self.edited(name, asked[name], steps[name], after) for name in asked)
        warnings = tuple(
            f"{r.name}: wanted {'' if r.wanted.absolute else 'a change of '}{r.wanted.value:g}, got "
            f"{r.after if r.wanted.absolute else r.after - r.before:.2g}"
            + ("; the step is the longest allowed" if r.held else "")
            for r in rows
            if not r.reached
        )
        return PropertyReport(rows, self.before, after, warnings)

    def edited(self, name: str, wanted: Wanted, step: float, after: pd.Series) -> EditedProperty:
        """One property's row of the report."""
        one, _ = self.editor.of(name)
        was, is_now = self.value(name, self.before), self.value(name, after)
        if wanted.absolute:
            missing = wanted.value - is_now
        else:
            missing = self.possible(one, wanted.value, was) - (is_now - was)
            if one.unit in ("presence", "probability"):  # more of it than wanted is no miss
                missing = max(0.0, missing * float(np.sign(wanted.value)))
        reached = not abs(missing) > MISSED * TOLERANCE.get(one.unit, 1.0)
        held = bool(step) and (step >= one.limit[1] or step <= one.limit[0])
        return EditedProperty(name, wanted, step, was, is_now, reached, held)


def load_property_editor(
    model: str | Path | LatentModel | None = None,
    directions: str | Path | None = None,
    device: str | None = None,
    dtype: str | None = None,
) -> PropertyEditor:
    """Load a model and the directions of properties that belong to it.

    Args:
        model: a loaded model, a diffusers folder, a Hub id or the name of a bundled model; None: the bundled faces.
        directions: a folder of files of directions, or one file; None: those in the model's own folder (`properties/`).
        device: torch device.
        dtype: precision of the network's evaluations.

    Raises:
        LatentrotError: no directions there, or directions of another model.
    """
    loaded = model if isinstance(model, LatentModel) else load_model(model, device, dtype)
    source = Path(directions) if directions else properties_in(loaded.folder)
    if source is None:
        raise LatentrotError(
            f"no directions of properties come with {loaded.name}; make them with: latentrot fit-directions"
        )
    files = [source] if source.is_file() else sorted(source.glob("*.safetensors"))
    found = load_property_directions(files)
    return PropertyEditor(loaded, found, attributes_beside(loaded.folder, loaded.device))
