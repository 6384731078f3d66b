"""Gallery for the README from publishable images: the bundled portrait, and faces sampled from the bundled model.

    python experiments/gallery.py

The generated faces are decoded from white noise with the seeds in `ROWS`; they show no real person. Each row is composited
like a photograph in `edit`; failures are included. Writes experiments/gallery.png.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image, ImageDraw, ImageFont

from latentrot.data.arrays import resize, to_uint8
from latentrot.data.frame import CROP_BOX
from latentrot.data.images import Photograph, read_image, write_image
from latentrot.diffusion.solve import decode
from latentrot.faces.alignment import Alignment
from latentrot.faces.detect import choose_face, detect_faces
from latentrot.faces.framing import frame_face
from latentrot.portrait.photograph import edit_portrait
from latentrot.portrait.portrait import Portrait
from latentrot.portrait.results import synthetic_metadata
from latentrot.rotators.latent.rotator import LatentRotator, load_latent_rotator

#: default output
OUT = Path(__file__).with_suffix(".png")

PORTRAIT = Path(__file__).parents[1] / "latentrot" / "bundled" / "astronaut.jpg"
SIDE, LINE, GAP = 192, 22, 4
TURNS = (-30.0, -15.0, 15.0, 30.0)


@dataclass(frozen=True)
class Row:
    """A row: seed of a generated face (None: the portrait), and a caption with observations on the result."""

    seed: int | None
    caption: str


ROWS = (
    Row(
        None,
        "NASA's portrait of Eileen Collins (public domain). 15 degrees hold; at 30 the strands behind run across the head",
    ),
    Row(6, "A face the model drew (seed 6). The hair ends in a straight edge over the ear"),
    Row(8, "A face the model drew (seed 8). What lies beside the face is taken for hair and drawn along"),
    Row(1, "A face the model drew (seed 1), turned by 23 degrees already: background becomes the back of the head"),
)


def generated(rotator: LatentRotator, seed: int) -> np.ndarray:
    """Sample a face from white noise: (s, s, 3) uint8 at the model's resolution."""
    model, schedule = rotator.model, rotator.any_directions.space.schedule
    z = torch.randn((1, *model.latent_shape), generator=torch.Generator().manual_seed(seed))
    return to_uint8(decode(model, z, schedule=schedule))[0]


def source(rotator: LatentRotator, seed: int | None) -> tuple[np.ndarray, Alignment]:
    """Return an image and the alignment of its face; a generated crop is enlarged to serve as a photograph."""
    if seed is None:
        photo = read_image(PORTRAIT)
        return photo, frame_face(photo, choose_face(detect_faces(photo))[0].landmarks)
    photo, (left, top, right, _) = resize(generated(rotator, seed), SIDE), CROP_BOX
    scale = (right - left) / SIDE
    return photo, Alignment(np.array([[scale, 0, left], [0, scale, top]]), (SIDE, SIDE))


def turned_row(rotator: LatentRotator, row: Row) -> tuple[list[np.ndarray], list[str]]:
    """Source and rotations as squares of `SIDE` pixels, and a caption for each with requested and measured degrees."""
    photo, alignment = source(rotator, row.seed)
    edited = edit_portrait(Portrait(PORTRAIT, Photograph(photo, photo), (), (alignment,)), rotator, TURNS)
    turned, pictures = edited.turned, [photo, *(edited.image_at(i) for i in range(edited.count))]
    words = [f"source, yaw {turned.yaw_deg:+.0f}"]
    words += [f"asked {f.requested_deg:+.0f}, turned {f.yaw_deg - turned.yaw_deg:+.0f}" for f in turned.frames]
    return [alignment.crop(p, SIDE) for p in pictures], words


def gallery(rows: list[tuple[list[np.ndarray], list[str]]], captions: list[str]) -> np.ndarray:
    """Draw all rows on white, with a title above each row and captions below it."""
    width = len(rows[0][0]) * (SIDE + GAP) - GAP
    height = SIDE + 2 * LINE + GAP
    sheet = Image.new("RGB", (width, len(rows) * height), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for i, ((pictures, words), caption) in enumerate(zip(rows, captions, strict=True)):
        top = i * height
        pen.text((2, top + 3), caption, "black", font)
        for j, (picture, word) in enumerate(zip(pictures, words, strict=True)):
            sheet.paste(Image.fromarray(picture), (j * (SIDE + GAP), top + LINE))
            pen.text((j * (SIDE + GAP) + 2, top + LINE + SIDE + 2), word, "#444444", font)
    return np.array(sheet)


def main(out: Path = OUT) -> None:
    """Sample, rotate, and write the gallery.

    Args:
        out: output image.
    """
    rotator = load_latent_rotator()
    sheet = gallery([turned_row(rotator, row) for row in ROWS], [row.caption for row in ROWS])
    write_image(out, sheet, synthetic_metadata({"model": rotator.model.name, "asked_deg": list(TURNS)}))


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
