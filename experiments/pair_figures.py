"""Figures of the pair model from publishable images: the public-domain portrait and an unseen rendered head.

    python experiments/pair_figures.py

Writes beside this script

- pair_method.png, a row for each kind of pair: source, condition, noisy target, output of the bundled model, target;
- pair_process.png: source and condition, then the states from noise to image (top) and the denoised prediction at each
  (bottom);
- pair_examples.png: the source, then rotations by -30, -15, +15, +30 degrees: output of the network, and output blended with
  half of the geometry's pixels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from latentrot.bundles import PORTRAIT, bundled_example
from latentrot.data.arrays import resize, strip, to_uint8
from latentrot.data.images import write_image
from latentrot.diffusion.scheduler import add_noise
from latentrot.evaluation.views import read_views
from latentrot.portrait.portrait import open_portrait
from latentrot.rotators.pair.model import PairModel
from latentrot.rotators.pair.options import PairOptions
from latentrot.rotators.pair.pairs import Source
from latentrot.rotators.pair.render import (
    AlignedFace,
    ConditionRenderer,
    back_pairs,
    make_pair,
    mirror_pair,
    pair_condition,
)
from latentrot.rotators.pair.sample import draw_pairs
from latentrot.rotators.protocol import rotate_many

HERE = Path(__file__).parent
TURNS = (-30.0, -15.0, 15.0, 30.0)
SIDE = 128
RESOLUTION = 64  # of the bundled model
LEVEL = 500  # of the noise that is shown
COLUMNS = ("source", "shown to the network", "target with noise", "drawn", "target")


def in_frame(square: np.ndarray, renderer: ConditionRenderer) -> AlignedFace:
    """A square crop in the CelebA frame with its landmarks."""
    large = resize(square, renderer.side)
    return AlignedFace(large, renderer.landmarks_of(large))


def kinds_of_pairs(portrait: np.ndarray, views: tuple[np.ndarray, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """One training pair of each kind: from the portrait, and from a frontal and a rotated view of one rendered head."""
    renderer = ConditionRenderer(RESOLUTION)
    here, frontal, turned = (in_frame(square, renderer) for square in (portrait, *views))
    heads = {face: renderer.fit_head(face.square, face.landmarks) for face in (here, frontal, turned)}
    source = {face: Source(0, "", face.pose, held_out=False, partners=(), seed=4) for face in heads}
    mirror = mirror_pair(heads[turned], turned, source[turned], renderer)
    condition = pair_condition(heads[frontal], frontal, turned, renderer)
    assert mirror is not None  # None if the rotation exceeds the limit
    assert condition is not None
    poses = [frontal.pose, turned.pose]
    return {
        "mirror image": mirror,
        "scene": make_pair(condition, frontal.square, turned.square, poses, "scene", RESOLUTION),
        "there and back": next(back_pairs(heads[here], here, source[here], renderer, 30.0)),
    }


def draw_method(model: PairModel, pairs: dict[str, dict[str, np.ndarray]]) -> Figure:
    """Draw a row for each pair; the network is trained to denoise the target."""
    figure = Figure(figsize=(10, 6.6), layout="constrained")
    level, noise = torch.tensor([LEVEL]), torch.Generator().manual_seed(0)
    for row, (kind, pair) in zip(figure.subplots(len(pairs), len(COLUMNS)), pairs.items(), strict=True):
        target = torch.from_numpy(pair["target"])[None].float() / 127.5 - 1
        state = model.space.encode(target)
        noisy = add_noise(model.scheduler, state, torch.randn(state.shape, generator=noise), level)
        condition, poses = (torch.from_numpy(np.ascontiguousarray(pair[name]))[None] for name in ("condition", "poses"))
        drawn = draw_pairs(model, condition, poses)
        pictures = (pair["source"], pair["condition"][:3], model.space.decode(noisy), drawn, pair["target"])
        (yaw, _), (to, _) = pair["poses"]
        labels = (f"{yaw:+.0f}°", f"turned by {to - yaw:+.0f}°", "", "", f"{to:+.0f}°")
        for axes, picture, label in zip(row, pictures, labels, strict=True):
            plain = picture.transpose(1, 2, 0) if isinstance(picture, np.ndarray) else to_uint8(picture.clamp(-1, 1))[0]
            axes.imshow(plain, interpolation="bicubic")
            axes.set(xticks=[], yticks=[], xlabel=label)
        row[0].set_ylabel(kind, fontsize=11)
        if kind == next(iter(pairs)):
            for axes, title in zip(row, COLUMNS, strict=True):
                axes.set_title(title, fontsize=11)
    return figure


def main() -> None:
    """Write the figures."""
    found = open_portrait(PORTRAIT)
    portrait = found.alignments[0].crop(found.image, SIDE)
    views = read_views(bundled_example("heads64"))
    head = views.images[0, views.column(0.0)]
    turned = views.images[0, views.column(15.0)]
    rotators = PairOptions(keep=0.0).load(), PairOptions().load()
    pairs = kinds_of_pairs(portrait, (head, turned))
    draw_method(rotators[0].model, pairs).savefig(HERE / "pair_method.png", dpi=80)
    write_image(HERE / "pair_process.png", rotators[1].process(portrait, 20.0))
    rows = [
        strip([resize(cell, SIDE) for cell in (source, *rotate_many(rotator, source, TURNS))])
        for source in (portrait, head)
        for rotator in rotators
    ]
    write_image(HERE / "pair_examples.png", np.concatenate(rows))


if __name__ == "__main__":
    main()
