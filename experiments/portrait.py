"""The bundled portrait as `latentrot edit` turns it: carried by geometry, what it hid drawn by the model.

    python experiments/portrait.py

Writes experiments/portrait.png: the portrait, which is in the public domain, turned by -35 to +35 degrees, as it comes out.
"""

from __future__ import annotations

from pathlib import Path

from latentrot.bundles import PORTRAIT
from latentrot.data.images import strip, write_image
from latentrot.portrait.photograph import edit_photograph
from latentrot.portrait.results import synthetic_metadata
from latentrot.rotators.latent.rotator import load_latent_rotator

TURNS = (-35.0, -25.0, -15.0, 0.0, 15.0, 25.0, 35.0)
#: the part of the photograph that is shown: left, top, right, bottom
SHOWN = (40, 0, 480, 420)


def main() -> None:
    """Turn, cut, write."""
    rotator = load_latent_rotator()
    edited = edit_photograph(PORTRAIT, rotator, TURNS)
    left, top, right, bottom = SHOWN
    pictures = [edited.image_at(i)[top:bottom, left:right] for i in range(edited.count)]
    metadata = synthetic_metadata({"model": rotator.model.name, "asked_deg": list(TURNS)})
    write_image(Path(__file__).with_suffix(".png"), strip(pictures[:3] + pictures[4:], columns=3), metadata)
    for frame, carried in zip(edited.turned.frames, edited.faces[0].coverage, strict=True):
        print(
            f"asked {frame.requested_deg:+.0f}: yaw {frame.yaw_deg:+.1f}, {carried:.0%} of the face from the photograph"
        )


if __name__ == "__main__":
    main()
