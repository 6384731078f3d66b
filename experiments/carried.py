"""Show the steps of an edit on the portrait: decoding, walk, warp and compositing.

    python experiments/carried.py

Writes carried.png beside this script, a row for each rotation: the portrait, its latent decoded unchanged and after the
walk, each with its landmarks, the coverage of the rotated image by the portrait (white: fully visible), and the result.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from latentrot.data.arrays import to_tensor, to_uint8
from latentrot.directions.warp import (
    landmarks_of_crops,
    source_positions,
    source_shift,
    source_visibility,
    warp_to_walk,
)
from latentrot.evaluation.bench.compare import portrait_crop
from latentrot.rotators.latent.rotator import load_latent_rotator

TURNS = (-25.0, -12.0, 12.0, 25.0)
TITLES = ("the portrait", "its latent, decoded", "walked, decoded", "what the portrait shows", "carried")


def main() -> None:
    """Walk, warp, and write the figure."""
    rotator = load_latent_rotator()
    face = rotator.prepare(portrait_crop(rotator.model.resolution))
    walked = face.walk()
    decoded = walked.decode(walked.measured_steps(TURNS))
    before, *found = landmarks_of_crops(torch.cat([walked.start, decoded]))
    figure = Figure((10, 2.05 * len(TURNS)), layout="constrained")
    for row, (turn, picture, after) in enumerate(zip(TURNS, decoded, found, strict=True)):
        if before is None or after is None:
            raise SystemExit(f"no landmarks at {turn:+.0f} degrees")
        side = len(face.source)
        share = source_visibility(source_positions(source_shift(before, after, side), side)).float()
        shown = warp_to_walk(to_tensor(face.source), walked.start, picture[None])
        panels = [face.source, *to_uint8(torch.cat([walked.start, picture[None]])), share, to_uint8(shown)[0]]
        for column, (panel, title) in enumerate(zip(panels, TITLES, strict=True)):
            axes = figure.add_subplot(len(TURNS), len(TITLES), row * len(TITLES) + column + 1)
            axes.imshow(panel, cmap="gray", vmin=0, vmax=1, extent=(-1, 1, 1, -1), interpolation="bicubic")
            if column in (1, 2):
                points = np.array((before, after)[column - 1])
                axes.plot(*points.T, ".", color="#40e0d0", markersize=1.5)
            axes.set(xlim=(-1, 1), ylim=(1, -1))
            axes.set_xticks([])
            axes.set_yticks([])
            if not row:
                axes.set_title(title, fontsize=9)
            if not column:
                axes.set_ylabel(f"{turn:+.0f}°", rotation=0, labelpad=14)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=90)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
