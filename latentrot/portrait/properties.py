"""Edit properties of the faces in a photograph, such as smile, age or light, before their heads are rotated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from latentrot.data.images import Photograph
from latentrot.faces.alignment import Alignment, crop_alignment
from latentrot.portrait.compose import Patch, changed_patch
from latentrot.portrait.portrait import Portrait

if TYPE_CHECKING:
    import pandas as pd

    from latentrot.rotators.properties import PropertyEditor, PropertyReport, Wanted

__all__ = ["Appearance", "StillRotator", "edit_appearance", "property_report", "property_table"]


@dataclass(frozen=True, eq=False)
class Appearance:
    """A photograph after the edit of properties.

    Attributes:
        portrait: the photograph with edited pixels; faces and alignments are those of the source.
        patch: the changed part of the photograph.
        reports: measured properties, one report per face; empty if no property was edited.
    """

    portrait: Portrait
    patch: Patch
    reports: tuple[PropertyReport, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings for the user."""
        return tuple(note for report in self.reports for note in report.warnings)


@dataclass(frozen=True)
class StillRotator:
    """A rotator that returns its input; used when only properties are edited."""

    name: ClassVar[str] = "properties"

    def rotate(self, image: np.ndarray, degrees: float) -> np.ndarray:
        """Return the (s, s, 3) uint8 crop unchanged."""
        return image

    def rotate_photograph(
        self, photograph: np.ndarray, face: Alignment, degrees: Sequence[float]
    ) -> Iterable[np.ndarray]:
        """Return the unchanged (h, w, 3) uint8 photograph, once for each angle."""
        return [photograph] * len(degrees)


def edit_appearance(portrait: Portrait, editor: PropertyEditor | None, wanted: Mapping[str, Wanted]) -> Appearance:
    """Edit properties of the chosen faces of a photograph.

    Args:
        portrait: from `open_portrait`.
        editor: property editor; None: edit nothing.
        wanted: property name -> change or target value; empty: edit nothing.

    Raises:
        LatentrotError: a property is unknown, or a face cannot be edited.
    """
    image = portrait.image
    if not wanted or editor is None:
        return Appearance(portrait, Patch((0, 0, 0, 0), image[:0, :0], 1.0, crop_alignment(len(image))))
    edited, reports = image, []
    for alignment in portrait.alignments or (crop_alignment(len(image)),):
        edited, report = replace(editor.prepare(image, alignment), photograph=edited).edit(wanted)
        reports.append(report)
    changed = replace(portrait, photograph=Photograph(edited, edited))
    return Appearance(changed, changed_patch(image, edited, crop_alignment(len(image))), tuple(reports))


def property_report(report: PropertyReport) -> dict[str, dict[str, object]]:
    """Report of each property, ready for JSON: wanted (requested change), before, after, reached, step."""
    return {
        row.name: {
            "wanted": str(row.wanted),
            **({} if np.isnan(row.before) else {"before": round(row.before, 3)}),
            **({} if np.isnan(row.after) else {"after": round(row.after, 3)}),
            "reached": bool(row.reached),
            "step": round(row.step, 3),
        }
        for row in report.properties
    }


def property_table(editor: PropertyEditor) -> pd.DataFrame:
    """Table of editable properties with their calibration on held-out people.

    Returns:
        One row per property with the columns unit; from and to: mean change at the min and the max step; identity and
        yaw_deg: side effects of a change by about one unit, as mean cosine to the source and change of yaw, NaN if not
        measured.
    """
    import pandas as pd  # noqa: PLC0415  edits do not need it

    rows = {}
    for one in editor.properties:
        if one.reaches == "difference":
            calibration = editor.calibration(one.name)
            low, high = calibration.range
            effects = {name: calibration.side_effects.get(name, np.nan) for name in ("identity", "yaw_deg")}
            rows[one.name] = {"unit": one.unit, "from": round(low, 2), "to": round(high, 2)} | {
                name: round(value, 2) for name, value in effects.items()
            }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("property")
