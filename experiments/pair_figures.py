"""The pair model in pictures that may be shown: the public-domain portrait and an unseen rendered head.

    python experiments/pair_figures.py

Writes beside this script pair_process.png (the source and what the model is shown of it, then above the states from noise to
picture, below what each is expected to become) and pair_examples.png (source, then turned by -30, -15, +15, +30 degrees: as
the network draws it, and with half of what geometry shows kept).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from latentrot.bundles import PORTRAIT, bundled_example
from latentrot.data.images import resize, strip, write_image
from latentrot.edit.find import find_faces
from latentrot.evaluation.views import read_views
from latentrot.rotate.pair.rotator import load_pair_rotator
from latentrot.rotate.protocol import rotate_many

HERE = Path(__file__).parent
TURNS = (-30.0, -15.0, 15.0, 30.0)
SIDE = 128


def main() -> None:
    """Draw both."""
    found = find_faces(PORTRAIT)
    portrait = found.alignments[0].crop(found.photo, SIDE)
    views = read_views(bundled_example("heads64"))
    head = views.pictures[0, views.column(0.0)]
    rotators = load_pair_rotator(keep=0.0), load_pair_rotator()
    write_image(HERE / "pair_process.png", rotators[1].process(portrait, 20.0))
    rows = [
        strip([resize(cell, SIDE) for cell in (source, *rotate_many(rotator, source, TURNS))])
        for source in (portrait, head)
        for rotator in rotators
    ]
    write_image(HERE / "pair_examples.png", np.concatenate(rows))


if __name__ == "__main__":
    main()
