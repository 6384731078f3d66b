"""Calibrate directions of properties: what steps do, measured on photographs of people nobody fitted on.

What is measured is what an editor shows: the photograph with the change in it, not the decoded face. A unit of a presence is
the way from absent to present as the attributes network measures it on photographs; a year is a measured year.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from sklearn.isotonic import IsotonicRegression

from latentrot.bundles import bundled_part
from latentrot.data.celeba import FaceFolder
from latentrot.data.frame import FRAME_WIDTH
from latentrot.data.images import to_tensor
from latentrot.directions.properties import Property
from latentrot.directions.property_directions import Calibration, PropertyDirections
from latentrot.errors import LatentrotError
from latentrot.faces.alignment import Alignment
from latentrot.faces.person import PersonNetwork, load_person_network
from latentrot.rotators.properties import InvertedFace, PropertyEditor

__all__ = ["PropertyCalibrationConfig", "aligned_face", "calibrate_properties", "presence_of"]

#: steps measured, as shares of the longest down and up
SHARES = (-1.0, -0.5, 0.34, 0.67, 1.0)
#: a presence is raised on people of less than this share of it, and lowered on people of more than the rest
LACKING = 0.4
#: change at which side effects are told, in the property's unit
TOLD_AT = {"presence": 0.8, "probability": 0.5, "years": 10.0}
#: what is told to come along
TOLD = ("yaw_deg", "pitch_deg", "age_years", "p_Male", "p_Smiling", "p_Eyeglasses", "p_Mouth_Slightly_Open", "p_Blond_Hair",
        "p_left", "p_right", "face_r", "face_g", "face_b", "around_r", "around_g", "around_b")  # fmt: skip


@dataclass(frozen=True)
class PropertyCalibrationConfig:
    """How directions are calibrated.

    Args:
        people: images measured each way.
        seed: of their choice.
    """

    people: int = 12
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Measured:
    """One step on one face: the step, what was shown before and after, and how alike the person is (cosine, or NaN)."""

    step: float
    before: pd.Series
    after: pd.Series
    alike: float


def calibrate_properties(
    editor: PropertyEditor,
    folder: FaceFolder,
    image_ids: Sequence[str],
    config: PropertyCalibrationConfig | None = None,
    progress: Callable[[str], object] | None = None,
) -> list[PropertyDirections]:
    """Measure what steps along every direction of an editor do.

    Args:
        editor: with the directions, calibrated or not.
        folder: aligned photographs.
        image_ids: those of people nobody fitted on.
        config: how many of them.
        progress: called with the name of each property that has been measured.

    Returns:
        The editor's directions with their calibrations; a property that nothing measures keeps none.

    Raises:
        LatentrotError: no images, or a network is missing.
    """
    config = config or PropertyCalibrationConfig()
    if not len(image_ids):
        raise LatentrotError("no images of people held out to calibrate on; give a folder with some")
    shown = editor.describe(to_tensor(folder.read_crops(image_ids, 64))).set_axis(list(image_ids))
    faces: dict[str, InvertedFace | None] = {}
    person = person_network()
    calibrated = []
    for directions in editor.directions:
        found = {}
        for one in directions.properties:
            if one.reaches == "difference" and one.measured in shown:
                found[one.name] = calibrated_property(editor, one, folder, shown, config, faces, person)
                if progress is not None:
                    progress(one.name)
        calibrated.append(replace(directions, calibrations={**directions.calibrations, **found}))
    return calibrated


def calibrated_property(
    editor: PropertyEditor,
    one: Property,
    folder: FaceFolder,
    shown: pd.DataFrame,
    config: PropertyCalibrationConfig,
    faces: dict[str, InvertedFace | None],
    person: PersonNetwork | None,
) -> Calibration:
    """What steps of one property do; `faces` keeps those that are prepared."""
    absent, span = presence_of(one, shown, folder)
    value = (measured_value(one, shown) - absent) / span
    rows: list[Measured] = []
    for side in (-1, 1):
        chosen = candidates(one, value, side, config)
        steps = [share * abs(one.limit[side > 0]) for share in SHARES if share * side > 0 and one.limit[side > 0]]
        for name in chosen if steps else []:
            if name not in faces:
                faces[name] = prepared(editor, folder, name)
            face = faces[name]
            if face is not None:
                rows += [measured_step(face, one, step, person) for step in steps]
    return summarised(one, rows, absent, span, "" if editor.attributes is None else editor.attributes.title)


def candidates(one: Property, value: pd.Series, side: int, config: PropertyCalibrationConfig) -> list[str]:
    """Images to change one way: of people who lack the property to raise it, of people who have it to lower it."""
    if one.unit in ("presence", "probability"):
        value = value[value < LACKING] if side > 0 else value[value > 1 - LACKING]
    return list(value.sample(min(config.people, len(value)), random_state=config.seed).index)


def prepared(editor: PropertyEditor, folder: FaceFolder, name: str) -> InvertedFace | None:
    """A face ready for edits; None where its landmarks cannot be found."""
    photograph = np.asarray(folder.open_image(name))
    try:
        return editor.prepare(photograph, aligned_face(photograph))
    except LatentrotError:
        return None


def aligned_face(photograph: np.ndarray) -> Alignment:
    """The alignment of a photograph in CelebA's frame, of any size."""
    height, width = photograph.shape[:2]
    scale = FRAME_WIDTH / width
    return Alignment(np.array([[scale, 0, 0], [0, scale, 0]], np.float64), (width, height))


def measured_step(face: InvertedFace, one: Property, step: float, person: PersonNetwork | None) -> Measured:
    """Take one step on one face."""
    change = face.change({one.name: step})
    crop = face.edited_crop(change)
    after = face.editor.describe(to_tensor(crop)).iloc[0]
    vectors = None if person is None else person.embed([face.small, crop])
    return Measured(step, face.before, after, float("nan") if vectors is None else float(vectors[0] @ vectors[1]))


def presence_of(one: Property, shown: pd.DataFrame, folder: FaceFolder) -> tuple[float, float]:
    """What is measured where a presence is absent, and how far from it present is; 0 and 1 for all other units.

    Which images have it the folder's own attributes say, or else the network itself.
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
    """How much of a property images show, as the network says it."""
    found = shown[one.measured].astype(float)
    return 1 - found if one.negated else found


def summarised(one: Property, rows: Sequence[Measured], absent: float, span: float, measured_by: str) -> Calibration:
    """Mean changes by step, made monotone, and what came along."""

    def change(row: Measured) -> float:
        sign = -1 if one.negated else 1
        return sign * float(row.after[one.measured] - row.before[one.measured]) / span

    steps = sorted({0.0, *(row.step for row in rows)})
    means = [float(np.mean([change(r) for r in rows if r.step == s])) if s else 0.0 for s in steps]
    weights = [1e6 if s == 0 else 1.0 for s in steps]
    rising = IsotonicRegression().fit_transform(steps, means, sample_weight=weights)
    told = min(
        (s for s in steps if s > 0), key=lambda s: abs(means[steps.index(s)] - TOLD_AT.get(one.unit, 1.0)), default=0
    )
    at = [r for r in rows if r.step == told]
    effects = {
        name: round(float(np.mean([r.after[name] - r.before[name] for r in at])), 4)
        for name in TOLD if at and name in at[0].after and name != one.measured
    }  # fmt: skip
    if at:
        effects |= {"step": told, "identity": round(float(np.mean([r.alike for r in at])), 4)}
    people = len({id(r.before) for r in rows})
    return Calibration(
        tuple(steps),
        tuple(np.round(rising, 4).tolist()),
        effects,
        people,
        measured_by,
        round(absent, 4),
        round(span, 4),
    )


def person_network() -> PersonNetwork | None:
    """The package's own network that tells people apart, where it is there."""
    path = bundled_part("spin64") / "person.safetensors"
    return load_person_network(path) if path.is_file() else None
