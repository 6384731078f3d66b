"""The bundled portrait with properties changed, one at a time, as `latentrot edit --set` changes them.

    python experiments/property_sheet.py

Writes experiments/property_sheet.png: the portrait, which is in the public domain, and one result per setting, unselected.
"""

from __future__ import annotations

from pathlib import Path

from latentrot import edit
from latentrot.bundles import PORTRAIT
from latentrot.data.arrays import strip
from latentrot.data.images import read_image, write_image
from latentrot.portrait.results import synthetic_metadata

#: settings in the order of the figure
SETTINGS = (
    {"smile": "-1"}, {"mouth_open": "-1"}, {"age": "+20"}, {"age": "-10"}, {"male": "+0.6"}, {"light": "left"},
    {"light": "right"}, {"bangs": "-1"}, {"sunglasses": "+1"},
)  # fmt: skip
#: the part of the photograph that is shown: left, top, right, bottom
SHOWN = (90, 0, 400, 320)


def main() -> None:
    """Edit, crop, write."""
    left, top, right, bottom = SHOWN
    images = [read_image(PORTRAIT)]
    for setting in SETTINGS:
        edited = edit(PORTRAIT, set=setting)
        images.append(edited.image)
        print(setting, edited.report["properties"])
    cropped = [image[top:bottom, left:right] for image in images]
    metadata = synthetic_metadata({"model": "faces64", "properties": [str(s) for s in SETTINGS]})
    write_image(Path(__file__).with_suffix(".png"), strip(cropped, columns=5), metadata)


if __name__ == "__main__":
    main()
