"""Figure of the bundled portrait rotated by `latentrot edit`: rendered as a whole head.

    python experiments/portrait.py

Writes experiments/portrait.png: the public-domain portrait rotated by -60 to +60 degrees, without retouching.
"""

from __future__ import annotations

from pathlib import Path

from latentrot.bundles import PORTRAIT
from latentrot.data.arrays import strip
from latentrot.data.images import write_image
from latentrot.portrait.photograph import edit_photograph
from latentrot.portrait.results import synthetic_metadata
from latentrot.rotators.latent.rotator import load_latent_rotator

TURNS = (-60.0, -35.0, -20.0, 0.0, 20.0, 35.0, 60.0)
#: box of the photograph shown in the figure: left, top, right, bottom
SHOWN = (40, 0, 480, 420)


def main() -> None:
    """Rotate, crop, and write the figure."""
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
