"""Calibrate directions of properties on photographs of held-out people.

The measurements are made on edited photographs, not on decoded faces. One unit of a presence is the difference between absent
and present as measured by the attributes network; one year is a year of the age estimate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from sklearn.isotonic import IsotonicRegression

from latentrot.bundles import bundled_part
from latentrot.data.arrays import to_tensor
from latentrot.data.celeba import FaceFolder
from latentrot.data.frame import FRAME_WIDTH
from latentrot.directions.properties import Property
from latentrot.directions.property_directions import Calibration, PropertyDirections
from latentrot.errors import LatentrotError
from latentrot.faces.alignment import Alignment
from latentrot.faces.person import PersonNetwork, load_person_network
from latentrot.rotators.properties import InvertedFace, PropertyEditor

__all__ = ["aligned_face", "calibrate_properties", "presence_of"]

#: steps to measure, relative to the limits
SHARES = (-1.0, -0.5, 0.34, 0.67, 1.0)
#: max presence of a property in people in whom it is increased; 1 minus this is the min presence for a decrease
LACKING = 0.4
#: unit -> change at which side effects are measured
EFFECTS_AT = {"presence": 0.8, "probability": 0.5, "years": 10.0}
#: measures that are reported as side effects
SIDE_EFFECTS = (
    "yaw_deg", "pitch_deg", "age_years", "p_Male", "p_Smiling", "p_Eyeglasses", "p_Mouth_Slightly_Open", "p_Blond_Hair",
    "p_left", "p_right", "face_r", "face_g", "face_b", "around_r", "around_g", "around_b",
)  # fmt: skip
#: number of images for an increase, and for a decrease
PEOPLE = 12


@dataclass(frozen=True, eq=False)
class Measured:
    """One step on one face: descriptions before and after, and cosine between the identity embeddings (NaN if unknown)."""

    step: float
    before: pd.Series
    after: pd.Series
    identity: float


def calibrate_properties(
    editor: PropertyEditor,
    folder: FaceFolder,
    image_ids: Sequence[str],
    progress: Callable[[str], object] | None = None,
) -> list[PropertyDirections]:
    """Calibrate all directions of an editor.

    Args:
        editor: editor with the directions.
        folder: aligned photographs.
        image_ids: images of held-out people.
        progress: called with the name of each calibrated property.

    Returns:
        The directions with their calibrations; properties that cannot be measured have none.

    Raises:
        LatentrotError: there are no images, or a network is missing.
    """
    if not len(image_ids):
        raise LatentrotError("no images of held-out people for the calibration; give a folder with more people")
    shown = editor.describe(to_tensor(folder.read_crops(image_ids, 64))).set_axis(list(image_ids))
    faces: dict[str, InvertedFace | None] = {}
    person = person_network()
    calibrated = []
    for directions in editor.directions:
        found = {}
        for one in directions.properties:
            if one.reaches == "difference" and one.measured in shown:
                found[one.name] = calibrated_property(editor, one, folder, shown, faces, person)
                if progress is not None:
                    progress(one.name)
        calibrated.append(replace(directions, calibrations={**directions.calibrations, **found}))
    return calibrated


def calibrated_property(
    editor: PropertyEditor,
    one: Property,
    folder: FaceFolder,
    shown: pd.DataFrame,
    faces: dict[str, InvertedFace | None],
    person: PersonNetwork | None,
) -> Calibration:
    """Calibrate one property; `faces` is a cache of prepared faces."""
    absent, span = presence_of(one, shown, folder)
    value = (measured_value(one, shown) - absent) / span
    rows: list[Measured] = []
    for side in (-1, 1):
        chosen = candidates(one, value, side)
        steps = [share * abs(one.limit[side > 0]) for share in SHARES if share * side > 0 and one.limit[side > 0]]
        for name in chosen if steps else []:
            if name not in faces:
                faces[name] = inverted_face(editor, folder, name)
            face = faces[name]
            if face is not None:
                rows += [measured_step(face, one, step, person) for step in steps]
    return summarised(one, rows, absent, span, "" if editor.attributes is None else editor.attributes.title)


def candidates(one: Property, value: pd.Series, side: int) -> list[str]:
    """Images for an increase (people without the property) or a decrease (people with it), by the sign of `side`."""
    if one.unit in ("presence", "probability"):
        value = value[value < LACKING] if side > 0 else value[value > 1 - LACKING]
    return list(value.sample(min(PEOPLE, len(value)), random_state=0).index)


def inverted_face(editor: PropertyEditor, folder: FaceFolder, name: str) -> InvertedFace | None:
    """Prepare a face for edits; None if its landmarks cannot be found."""
    photograph = np.asarray(folder.open_image(name))
    try:
        return editor.prepare(photograph, aligned_face(photograph))
    except LatentrotError:
        return None


def aligned_face(photograph: np.ndarray) -> Alignment:
    """The alignment of a photograph that is already in the CelebA frame, at any size."""
    height, width = photograph.shape[:2]
    scale = FRAME_WIDTH / width
    return Alignment(np.array([[scale, 0, 0], [0, scale, 0]], np.float64), (width, height))


def measured_step(face: InvertedFace, one: Property, step: float, person: PersonNetwork | None) -> Measured:
    """Measure one step on one face."""
    change = face.change({one.name: step})
    crop = face.edited_crop(change)
    after = face.editor.describe(to_tensor(crop)).iloc[0]
    vectors = None if person is None else person.embed([face.small, crop])
    return Measured(step, face.before, after, float("nan") if vectors is None else float(vectors[0] @ vectors[1]))


def presence_of(one: Property, shown: pd.DataFrame, folder: FaceFolder) -> tuple[float, float]:
    """Mean measure of images without a property, and difference to the mean with it; 0 and 1 for units other than presence.

    Images with the property are selected by the folder's attributes or, without these, by the network.
    """
    if one.unit != "presence":
        return 0.0, 1.0
    value = measured_value(one, shown)
    name = one.measured.removeprefix("p_")
    table = folder.attributes
    own = table[name].reindex(value.index) if table is not None and name in table else None
    has = value > 0.5 if own is None else (own > 0) != one.negated
    if has.all() or not has.any():
        return 0.0, 1.0
    return float(value[~has].mean()), float(value[has].mean() - value[~has].mean())


def measured_value(one: Property, shown: pd.DataFrame) -> pd.Series:
    """Measure of a property in each row."""
    found = shown[one.measured].astype(float)
    return 1 - found if one.negated else found


def summarised(one: Property, rows: Sequence[Measured], absent: float, span: float, measured_by: str) -> Calibration:
    """Summarise measurements as a calibration: monotone mean change per step, and mean side effects."""

    def change(row: Measured) -> float:
        sign = -1 if one.negated else 1
        return sign * float(row.after[one.measured] - row.before[one.measured]) / span

    steps = sorted({0.0, *(row.step for row in rows)})
    means = [float(np.mean([change(r) for r in rows if r.step == s])) if s else 0.0 for s in steps]
    weights = [1e6 if s == 0 else 1.0 for s in steps]
    monotone = IsotonicRegression().fit_transform(steps, means, sample_weight=weights)
    larger = [s for s in steps if s > 0] or steps  # of a property that is only reduced: its reduction
    wanted = EFFECTS_AT.get(one.unit, 1.0)
    reference = min(larger, key=lambda s: abs(abs(means[steps.index(s)]) - wanted))
    at = [r for r in rows if r.step == reference]
    effects = {
        name: round(float(np.mean([r.after[name] - r.before[name] for r in at])), 4)
        for name in SIDE_EFFECTS if at and name in at[0].after and name != one.measured
    }  # fmt: skip
    if at:
        effects |= {"step": reference, "identity": round(float(np.mean([r.identity for r in at])), 4)}
    people = len({id(r.before) for r in rows})
    return Calibration(
        tuple(steps),
        tuple(np.round(monotone, 4).tolist()),
        effects,
        people,
        measured_by,
        round(absent, 4),
        round(span, 4),
    )


def person_network() -> PersonNetwork | None:
    """The bundled identity network, or None if it is not in this build."""
    path = bundled_part("spin64") / "person.safetensors"
    return load_person_network(path) if path.is_file() else None
