"""Declarations of the properties of a face: their columns, measures, and transfer to the photograph.

Fitting, walks, calibration and compositing read these declarations. A new property is a row of `PROPERTIES`, or a `Property`
of any numeric column of a label table.

Depths, shrinkages, regions and limits were chosen on held-out people, with the networks of `experiments/properties.py` and
visually; `experiments/properties.csv` has the results on forty other people. Longer steps draw artefacts at this resolution:
ghosts of teeth, smears in place of beards or of bangs, which are therefore only reduced.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from latentrot.errors import LatentrotError

__all__ = ["DEEP", "MIDDLE", "PROPERTIES", "Property", "Region", "Wanted", "by", "property_named", "to"]

#: depths of the latents (see `Schedule.depth`): DEEP changes shapes; MIDDLE preserves the identity better and rotates the
#: head less
DEEP, MIDDLE = 0.9, 0.525

Region = Literal[
    "mouth", "eyes", "brows", "beard", "face", "skin and hair", "hair", "forehead and hair", "head", "person", "all"
]


@dataclass(frozen=True)
class Property:
    """A property of a face.

    Attributes:
        name: name for users.
        unit: unit of a change: degrees, years, or presence (0 absent, 1 present).
        columns: regression columns whose slopes are added to form the direction; "-NAME" subtracts one.
        measured: column of `latentrot.describe` that measures the property; empty: not measurable.
        negated: whether the measure decreases when the property increases.
        mirrored: name of the property of the mirrored image; empty: the same.
        sign: factor of mirroring: 1, or -1 as for yaw.
        region: region of the photograph that may change.
        keeps: parts whose mean colour may change; the mean colour of all other parts is preserved.
        fades: parts whose colour may become lighter, darker or greyer, but keep its hue.
        shades: whether the change is a gain on the brightness, which preserves hues, as for light.
        covers: whether the change occludes the photograph, as dark lenses do, instead of being added.
        warp: whether the photograph is warped by the motion of the landmarks.
        depth: depth of its latents.
        shrinkage: exponent of the Wiener gain of the direction: 0, 0.5 or 1.
        limit: max step down and max step up, in units of the column.
        reaches: transfer to the photograph: "difference" of two decodings, or "geometry".
    """

    name: str
    unit: str
    columns: tuple[str, ...]
    measured: str = ""
    negated: bool = False
    mirrored: str = ""
    sign: int = 1
    region: Region = "head"
    keeps: tuple[str, ...] = ()
    fades: tuple[str, ...] = ()
    shades: bool = False
    covers: bool = False
    warp: bool = False
    depth: float = DEEP
    shrinkage: float = 0.5
    limit: tuple[float, float] = (-6.0, 6.0)
    reaches: Literal["difference", "geometry"] = "difference"

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns, without the leading "-" of negated ones."""
        return tuple(c.removeprefix("-") for c in self.columns)

    @classmethod
    def of_column(cls, column: str) -> Property:
        """Declare a property for any numeric column of a label table, in units of the column."""
        return cls(column, "units of the column", (column,), region="person", keeps=("skin", "hair"), limit=(-6.0, 6.0))


def _attribute(name: str, attribute: str, **how: object) -> Property:
    """Declare a property for one of CelebA's attributes."""
    return Property(name, "presence", (attribute,), f"p_{attribute}", **how)  # pyright: ignore[reportArgumentType]


#: parts that accessories may hide, whose mean colours may then change
WORN = ("skin", "hair", "ears", "accessories")

PROPERTIES: tuple[Property, ...] = (
    Property("yaw", "degrees", ("yaw_left", "yaw_right"), "yaw_deg", sign=-1, warp=True, reaches="geometry"),
    _attribute("smile", "Smiling", region="mouth", warp=True, limit=(-4.0, 4.0)),
    _attribute("mouth_open", "Mouth_Slightly_Open", region="mouth", warp=True, limit=(-4.0, 4.0)),
    Property(
        "age", "years", ("age",), "age_years", region="skin and hair", keeps=("hair",), fades=("hair",), shrinkage=1.0,
        limit=(-8.0, 8.0),
    ),
    _attribute("male", "Male", region="head", keeps=("hair",), limit=(-4.0, 3.0)),
    Property(
        "light_left", "probability", ("light_left", "-light_right"), "p_left", mirrored="light_right",
        region="skin and hair", shades=True, depth=MIDDLE, shrinkage=1.0, limit=(0.0, 1.8),
    ),
    Property(
        "light_right", "probability", ("light_right", "-light_left"), "p_right", mirrored="light_left",
        region="skin and hair", shades=True, depth=MIDDLE, shrinkage=1.0, limit=(0.0, 1.8),
    ),
    Property("glasses", "presence", ("glasses_clear",), "p_Eyeglasses", region="eyes", keeps=WORN, limit=(0.0, 5.0)),
    Property(
        "sunglasses", "presence", ("glasses_dark",), "p_Eyeglasses", region="eyes", keeps=WORN, covers=True, limit=(0.0, 4.0),
    ),
    _attribute("bangs", "Bangs", region="forehead and hair", keeps=("skin",), limit=(-5.0, 0.0)),
    _attribute("blond", "Blond_Hair", region="hair", keeps=("hair",), limit=(-5.0, 3.0)),
    _attribute("black_hair", "Black_Hair", region="hair", keeps=("hair",), limit=(-5.0, 4.0)),
    Property(
        "beard", "presence", ("-No_Beard",), "p_No_Beard", negated=True, region="beard", keeps=("skin",), limit=(-3.5, 0.0),
    ),
    _attribute("stubble", "5_o_Clock_Shadow", region="beard", keeps=("skin",), limit=(-5.0, 5.0)),
    _attribute("makeup", "Heavy_Makeup", region="face", limit=(-5.0, 5.0)),
    _attribute("bushy_brows", "Bushy_Eyebrows", region="brows", limit=(-3.0, 3.0)),
    _attribute("eye_bags", "Bags_Under_Eyes", region="eyes", limit=(-5.0, 5.0)),
)  # fmt: skip


def property_named(name: str, known: Iterable[Property] = PROPERTIES) -> Property:
    """Find a property by name.

    Raises:
        LatentrotError: no property has this name.
    """
    known = tuple(known)
    for one in known:
        if one.name == name:
            return one
    raise LatentrotError(f"property {name!r}: expected one of {', '.join(p.name for p in known)}")


@dataclass(frozen=True)
class Wanted:
    """A requested change of a property.

    Attributes:
        value: value in the unit of the property.
        absolute: whether to change to the value, not by it.
    """

    value: float
    absolute: bool = False

    def __str__(self) -> str:
        return f"{self.value:g}" if self.absolute else f"{self.value:+g}"


def by(value: float) -> Wanted:
    """Request a change BY a value: `by(+1)` for `smile`, `by(-10)` for years."""
    return Wanted(float(value))


def to(value: float) -> Wanted:
    """Request a change TO a value: `to(60)` for years, `to(1)` for present, `to(0)` for absent."""
    return Wanted(float(value), absolute=True)
