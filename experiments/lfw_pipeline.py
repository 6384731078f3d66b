"""The way from any photograph to a finished image, on unaligned photographs of strangers.

    python experiments/lfw_pipeline.py --photos 500 --turn 0.2

Reads ../shared/data/lfw. Every photograph is searched for faces and its largest one aligned; a share of them is also taken
through latent and back with a turn of 0 degrees and of --deg degrees. What is measured:

- `problem`: why a photograph has no usable face; empty where it has one.
- `faces`: faces found. The photographs were chosen by their makers for one person; others stand in the background.
- `again_px`: the worse of the two eye centres' distances to CelebA's mean positions, in pixels of the 178x218 frame, by
  the whole detector run anew on the aligned frame at three times its size and on its mirror image, the mean of the two;
  `once_px`: without the mirror image, with the scatter and the half pixel's shift of a single detection. None of the
  squares these lay around the face are those the alignment was fitted to; the network that answers is the same, so that
  what it takes for an eye's centre is measured, not whether it is one.
- `look_px`: the same by looks of other sizes and shifts than those fitted to; `nose_px`, `mouth_px`: the nose tip's and the
  worse mouth corner's, which move when a head turns or smiles.
- `round_trip_db`: the model's reconstruction of the crop against the crop, at the model's resolution.
- `edit_zero_max`: the largest difference, of 255, of a turn of 0 degrees to the photograph; `outside_max`: of both
  turns outside the region that is worked in.
- `turned_deg`: by how many degrees the photograph that comes out is turned, by the label network; `carried`: the share
  of the face that the photograph itself shows.

Writes experiments/lfw_pipeline.csv, numbers and reasons only, a row a photograph, and prints the shares.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import tyro
from PIL import Image, ImageOps
from tqdm import tqdm

from latentrot.data.frame import FRAME_HEIGHT, FRAME_WIDTH, MIRRORED_LANDMARKS
from latentrot.data.images import Photograph, read_image
from latentrot.errors import LatentrotError
from latentrot.faces.alignment import MEAN_LANDMARKS, Alignment
from latentrot.faces.detect import choose_face, detect_faces
from latentrot.faces.framing import frame_face, landmarks_in_frame
from latentrot.portrait.photograph import edit_portrait
from latentrot.portrait.portrait import Portrait
from latentrot.rotators.latent.rotator import LatentRotator, load_latent_rotator

#: default of what is written
OUT = Path(__file__).with_suffix(".csv")

LFW = Path("../shared/data/lfw")
#: eye centres nearer than this to CelebA's means count as aligned, pixels of the 178x218 frame
EYE_TOLERANCE = 2.0
#: how much larger than 178x218 the frame is searched again
ENLARGED = 3
#: sizes and shifts of squares that `frame_face` does not look at
OTHER_LOOKS = ((0.82, 0.91, 1.0), ((-0.02, -0.02), (-0.02, 0.02), (0.02, -0.02), (0.02, 0.02)))


def chosen_photographs(root: Path, count: int, seed: int) -> list[Path]:
    """So many photographs, at most one a person as long as the people last, in an order fixed by the seed."""
    rng = np.random.default_rng(seed)
    people = [sorted(folder.glob("*.jpg")) for folder in sorted(root.iterdir()) if folder.is_dir()]
    order = [people[i] for i in rng.permutation(len(people))]
    longest = max(len(photos) for photos in order)
    return [photos[i] for i in range(longest) for photos in order if i < len(photos)][:count]


def misses(landmarks: np.ndarray) -> np.ndarray:
    """Distances of landmarks in the frame (5, 2) to CelebA's means, frame pixels -> (5,)."""
    return np.linalg.norm(landmarks - MEAN_LANDMARKS, axis=1)


def looked_elsewhere(photo: np.ndarray, alignment: Alignment) -> dict[str, float]:
    """Misses by looks that the alignment was not fitted to."""
    found = landmarks_in_frame(photo, alignment, OTHER_LOOKS)
    if found is None:
        return {}
    miss = misses(found)
    return {"look_px": miss[:2].max(), "nose_px": miss[2], "mouth_px": miss[3:].max()}


def nearest_in(frame: Image.Image) -> np.ndarray | None:
    """Landmarks, in frame pixels, of the face found nearest to where one is expected."""
    found = [face.landmarks / ENLARGED for face in detect_faces(np.array(frame))]
    return min(found, key=lambda points: misses(points)[:2].sum()) if found else None


def eyes_again(photo: np.ndarray, alignment: Alignment) -> dict[str, float]:
    """The eyes' misses by the whole detector, run on the aligned frame and on its mirror image."""
    origin, right, down = alignment.to_photo(np.array([[0, 0], [1, 0], [0, 1]]) / ENLARGED)
    to_photo = (*np.column_stack([right - origin, down - origin, origin]).ravel(),)
    size = (ENLARGED * FRAME_WIDTH, ENLARGED * FRAME_HEIGHT)
    frame = Image.fromarray(photo).transform(size, Image.Transform.AFFINE, to_photo, Image.Resampling.BICUBIC)
    once, mirrored = nearest_in(frame), nearest_in(ImageOps.mirror(frame))
    if once is None or mirrored is None:
        return {}
    unmirrored = ([FRAME_WIDTH, 0] + mirrored * [-1, 1])[MIRRORED_LANDMARKS]
    return {"again_px": misses((once + unmirrored) / 2)[:2].max(), "once_px": misses(once)[:2].max()}


def largest_difference(a: np.ndarray, b: np.ndarray) -> int:
    """Of two uint8 arrays; 0 where they are empty."""
    return int(np.abs(a.astype(int) - b).max(initial=0))


def edited(photo: np.ndarray, alignment: Alignment, rotator: LatentRotator, degrees: float) -> dict[str, float]:
    """A turn of 0 and one of `degrees`, compared with the photograph."""
    found = Portrait(LFW, Photograph(photo, photo), (), (alignment,))
    result = edit_portrait(found, rotator, [0.0, degrees])
    face = result.faces[0]
    left, top, right, bottom = face.patch(1).box
    outside = np.ones(photo.shape[:2], bool)
    outside[top:bottom, left:right] = False
    zero, other = (result.image_at(i) for i in range(2))
    return {
        "round_trip_db": result.turned.round_trip_psnr_db,
        "edit_zero_max": largest_difference(zero, photo),
        "outside_max": max(largest_difference(p[outside], photo[outside]) for p in (zero, other)),
        "turned_deg": result.turned.frames[1].yaw_deg - result.turned.yaw_deg,
        "carried": face.coverage[1],
    }


def measure(path: Path, rotator: LatentRotator | None, degrees: float) -> dict[str, object]:
    """One row: a photograph from file to turn; not turned where there is no rotator."""
    row: dict[str, object] = {"photo": path.stem, "problem": ""}
    try:
        photo = read_image(path)
        faces = detect_faces(photo)
        row["faces"] = len(faces)
        face, _ = choose_face(faces)
        alignment = frame_face(photo, face.landmarks)
        row |= looked_elsewhere(photo, alignment) | eyes_again(photo, alignment)
        if rotator is not None:
            row |= edited(photo, alignment, rotator, degrees)
    except LatentrotError as error:
        row["problem"] = str(error).split(";")[0]
    return row


def print_summary(table: pd.DataFrame) -> None:
    """Shares and extremes."""
    used = table[table["problem"] == ""]
    print(f"{len(table)} photographs, {len(table) - len(used)} without a usable face")
    for problem, count in table.loc[table["problem"] != "", "problem"].value_counts().items():
        print(f"  {count} {problem}")
    print(f"more than one face: {(used['faces'] > 1).mean():.1%}")
    for name in ("again_px", "once_px", "look_px"):
        near, median = (used[name] < EYE_TOLERANCE).mean(), used[name].median()
        print(f"{name} under {EYE_TOLERANCE:.0f}: {near:.1%} of {len(used)}, median {median:.2f}")
    if "carried" in used:
        turned = used.dropna(subset="carried")
        print(f"taken through the model: {len(turned)}")
        column = turned["round_trip_db"]
        print(f"round_trip_db: mean {column.mean():.1f}, least {column.min():.1f}")
        print(f"turned: mean {turned['turned_deg'].mean():+.1f}, carried {turned['carried'].mean():.0%} of the face")
        print(f"largest difference: edit --deg 0 {turned['edit_zero_max'].max():.0f}, ", end="")
        print(f"outside the region {turned['outside_max'].max():.0f}")


def write_table(table: pd.DataFrame, path: Path) -> None:
    """The measurements as CSV; the order is fixed by the seed, and no names of people are in the file."""
    table.assign(photo=range(len(table))).round(3).to_csv(path, index=False)


def main(
    photos: int = 500,
    turn: float = 0.2,
    deg: float = 15.0,
    seed: int = 0,
    out: Path = OUT,
) -> None:
    """Measure, write.

    Args:
        photos: photographs to measure on.
        turn: share of them taken through the model, 0 to 1.
        deg: the turn besides 0 degrees.
        seed: of the choice of photographs.
        out: the table.
    """
    photographs = chosen_photographs(LFW, photos, seed)
    rotator = load_latent_rotator(measure=False)
    every = round(1 / turn) if turn > 0 else 0
    rows: list[dict[str, object]] = []
    for i, path in enumerate(tqdm(photographs, unit="photo", disable=None)):
        rows.append(measure(path, rotator if every and i % every == 0 else None, deg))
        if len(rows) % 50 == 0:  # an interrupted run keeps what it measured
            write_table(pd.DataFrame(rows), out)
    table = pd.DataFrame(rows)
    print_summary(table)
    write_table(table, out)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
