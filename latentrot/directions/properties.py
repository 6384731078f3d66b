"""Properties of a face: what each is called, what says it, and how its change reaches the photograph.

A property is a declaration, nothing else. Everything that fits, walks, calibrates and composes reads it from here, so that a
new property is one more row of `PROPERTIES`, or one `Property` of one's own over any numeric column of a label table.

Depths, shrinkages, regions and limits were chosen on people held out, by the judges of `experiments/properties.py`
and by eye; what they come to on forty others stands in `experiments/properties.csv`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from latentrot.errors import LatentrotError

__all__ = ["DEEP", "MIDDLE", "PROPERTIES", "Property", "Region", "Wanted", "by", "property_named", "to"]

#: depths of the latents that are walked (see `Schedule.depth`): nearly noise, where shapes move; half way, where the
#: person is kept better and the head turns less
DEEP, MIDDLE = 0.9, 0.525

Region = Literal[
    "mouth", "eyes", "brows", "beard", "face", "skin and hair", "hair", "forehead and hair", "head", "person", "all"
]


@dataclass(frozen=True)
class Property:
    """What can be changed in a face.

    Attributes:
        name: as users write it.
        unit: of a change: degrees, years, or presence (0 absent, 1 present).
        columns: columns of the regression whose slopes, added up, are the direction; "-NAME" is subtracted.
        measured: column of `latentrot.describe` that says how much of it an image shows; empty: nothing does.
        negated: the measure runs the other way: less of the column is more of the property.
        mirrored: the property it becomes when the image is mirrored; empty: itself.
        sign: what mirroring multiplies it by: 1, or -1 as for yaw.
        region: where in the photograph it may change anything.
        keeps: parts whose mean colour may change; those of all others are held.
        fades: parts whose colour may grow lighter, darker or greyer, but turn no other hue.
        shades: whether only brightness changes, in proportion to what is there, as light does: every pixel keeps its hue.
        covers: whether what it draws hides what was there, as dark lenses do, instead of being added to it.
        warp: whether the photograph's own pixels move as the landmarks do.
        depth: of the latents that are walked.
        shrinkage: power of the Wiener gain the direction is multiplied by: 0 none, 0.5 its square root, 1 all of it.
        limit: longest steps down and up, in units of the column.
        reaches: how its change comes into the photograph: "difference" of two decodings, or "geometry".
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
        """The columns without their signs."""
        return tuple(c.removeprefix("-") for c in self.columns)

    @classmethod
    def of_column(cls, column: str) -> Property:
        """A property of one's own: whatever a numeric column of a label table says, in the column's own unit."""
        return cls(column, "units of the column", (column,), region="person", keeps=("skin", "hair"), limit=(-6.0, 6.0))


def _attribute(name: str, attribute: str, **how: object) -> Property:
    """A property that one of CelebA's attributes says."""
    return Property(name, "presence", (attribute,), f"p_{attribute}", **how)  # pyright: ignore[reportArgumentType]


#: what is worn over the face hides parts of it, whose mean colours are then no drift
WORN = ("skin", "hair", "ears", "accessories")

PROPERTIES: tuple[Property, ...] = (
    Property("yaw", "degrees", ("yaw_left", "yaw_right"), "yaw_deg", sign=-1, warp=True, reaches="geometry"),
    _attribute("smile", "Smiling", region="mouth", warp=True, limit=(-6.0, 6.0)),
    _attribute("mouth_open", "Mouth_Slightly_Open", region="mouth", warp=True, limit=(-6.0, 6.0)),
    Property(
        "age", "years", ("age",), "age_years", region="skin and hair", keeps=("hair",), fades=("hair",), shrinkage=1.0,
        limit=(-10.0, 10.0),
    ),
    _attribute("male", "Male", region="head", keeps=("hair",), limit=(-4.0, 3.0)),
    Property(
        "light_left", "probability", ("light_left", "-light_right"), "p_left", mirrored="light_right", region="person",
        shades=True, depth=MIDDLE, shrinkage=1.0, limit=(0.0, 1.8),
    ),
    Property(
        "light_right", "probability", ("light_right", "-light_left"), "p_right", mirrored="light_left", region="person",
        shades=True, depth=MIDDLE, shrinkage=1.0, limit=(0.0, 1.8),
    ),
    Property("glasses", "presence", ("glasses_clear",), "p_Eyeglasses", region="eyes", keeps=WORN, limit=(0.0, 5.0)),
    Property(
        "sunglasses", "presence", ("glasses_dark",), "p_Eyeglasses", region="eyes", keeps=WORN, covers=True, limit=(0.0, 4.0),
    ),
    _attribute("bangs", "Bangs", region="forehead and hair", keeps=("skin",), limit=(-5.0, 5.0)),
    _attribute("blond", "Blond_Hair", region="hair", keeps=("hair",), limit=(-5.0, 5.0)),
    _attribute("black_hair", "Black_Hair", region="hair", keeps=("hair",), limit=(-5.0, 5.0)),
    Property(
        "beard", "presence", ("-No_Beard",), "p_No_Beard", negated=True, region="beard", keeps=("skin",), limit=(-5.0, 5.0),
    ),
    _attribute("stubble", "5_o_Clock_Shadow", region="beard", keeps=("skin",), limit=(-5.0, 5.0)),
    _attribute("makeup", "Heavy_Makeup", region="face", limit=(-5.0, 5.0)),
    _attribute("bushy_brows", "Bushy_Eyebrows", region="brows", limit=(-3.0, 3.0)),
    _attribute("eye_bags", "Bags_Under_Eyes", region="eyes", limit=(-5.0, 5.0)),
)  # fmt: skip


def property_named(name: str, known: Iterable[Property] = PROPERTIES) -> Property:
    """The property of a name.

    Raises:
        LatentrotError: there is none.
    """
    known = tuple(known)
    for one in known:
        if one.name == name:
            return one
    raise LatentrotError(f"property {name!r}: expected one of {', '.join(p.name for p in known)}")


@dataclass(frozen=True)
class Wanted:
    """What a property shall become.

    Attributes:
        value: in the property's unit.
        absolute: to reach the value, not to change by it.
    """

    value: float
    absolute: bool = False


def by(value: float) -> Wanted:
    """Change a property by a value: `by(+1)` for `smile`, `by(-10)` for years."""
    return Wanted(float(value))


def to(value: float) -> Wanted:
    """Change a property to a value: `to(60)` for years, `to(1)` for present, `to(0)` for absent."""
    return Wanted(float(value), absolute=True)
