"""Evaluate the whole pipeline on unaligned photographs: detection, alignment, inversion and rotation.

    python experiments/lfw_pipeline.py --photos 500 --turn 0.2

Reads ../shared/data/lfw. Detects the faces of each photograph and aligns the largest one. A share of the photographs is also
inverted, decoded and rotated by 0 degrees and by --deg degrees. The columns are:

- `problem`: reason why the photograph has no usable face; empty if it has one.
- `faces`: number of detected faces. Each photograph shows one named person; others may stand in the background.
- `again_px`: alignment error: the larger distance of the two eye centres to CelebA's mean positions, in pixels of the 178x218
  frame. The detector runs again on the aligned frame, enlarged three times, and on its mirror image; the two are averaged.
  `once_px`: without the mirror image; includes the noise and the half-pixel bias of a single detection. The detection
  windows differ from those of the alignment, but the network is the same, so its own bias at eye centres is not measured.
- `look_px`: the same with window sizes and shifts that the alignment does not use; `nose_px`, `mouth_px`: error of the nose
  tip and the larger error of the mouth corners, which change with pose and expression.
- `round_trip_db`: PSNR of the reconstructed crop, at the model's resolution.
- `edit_zero_max`: max absolute difference (0 to 255) between the photograph and its rotation by 0 degrees; `outside_max`: the
  same outside the working region, over both rotations.
- `turned_deg`: change of yaw in degrees, measured by the label network on the result; `carried`: share of the face's pixels
  that are visible in the photograph.

Writes experiments/lfw_pipeline.csv, one row per photograph without names, and prints the shares.
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

#: default output
OUT = Path(__file__).with_suffix(".csv")

LFW = Path("../shared/data/lfw")
#: max distance of aligned eye centres from CelebA's means, pixels of the 178x218 frame
EYE_TOLERANCE = 2.0
#: scale of the aligned frame, relative to 178x218, for the second detection
ENLARGED = 3
#: sizes and shifts of detection windows that `frame_face` does not use
OTHER_LOOKS = ((0.82, 0.91, 1.0), ((-0.02, -0.02), (-0.02, 0.02), (0.02, -0.02), (0.02, 0.02)))


def chosen_photographs(root: Path, count: int, seed: int) -> list[Path]:
    """Choose photographs in an order fixed by the seed: one per person first, then further ones."""
    rng = np.random.default_rng(seed)
    people = [sorted(folder.glob("*.jpg")) for folder in sorted(root.iterdir()) if folder.is_dir()]
    order = [people[i] for i in rng.permutation(len(people))]
    longest = max(len(photos) for photos in order)
    return [photos[i] for i in range(longest) for photos in order if i < len(photos)][:count]


def misses(landmarks: np.ndarray) -> np.ndarray:
    """Distances of landmarks in the frame (5, 2) to CelebA's means, frame pixels -> (5,)."""
    return np.linalg.norm(landmarks - MEAN_LANDMARKS, axis=1)


def looked_elsewhere(photo: np.ndarray, alignment: Alignment) -> dict[str, float]:
    """Alignment errors measured with windows that the alignment does not use."""
    found = landmarks_in_frame(photo, alignment, OTHER_LOOKS)
    if found is None:
        return {}
    miss = misses(found)
    return {"look_px": miss[:2].max(), "nose_px": miss[2], "mouth_px": miss[3:].max()}


def nearest_in(frame: Image.Image) -> np.ndarray | None:
    """Landmarks in frame pixels of the detected face that is nearest to the expected position."""
    found = [face.landmarks / ENLARGED for face in detect_faces(np.array(frame))]
    return min(found, key=lambda points: misses(points)[:2].sum()) if found else None


def eyes_again(photo: np.ndarray, alignment: Alignment) -> dict[str, float]:
    """Errors of the eye centres, by the detector on the aligned frame and on its mirror image."""
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
    """Max absolute difference of two uint8 arrays; 0 if they are empty."""
    return int(np.abs(a.astype(int) - b).max(initial=0))


def edited(photo: np.ndarray, alignment: Alignment, rotator: LatentRotator, degrees: float) -> dict[str, float]:
    """Compare rotations by 0 and by `degrees` with the photograph."""
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
    """Measure one photograph: a row of the table; without a rotator, only detection and alignment."""
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
    """Print shares and extremes."""
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
        print(f"inverted and rotated: {len(turned)}")
        column = turned["round_trip_db"]
        print(f"round_trip_db: mean {column.mean():.1f}, min {column.min():.1f}")
        print(f"turned_deg: mean {turned['turned_deg'].mean():+.1f}; visible in source: {turned['carried'].mean():.0%}")
        print(f"max difference: edit --deg 0 {turned['edit_zero_max'].max():.0f}, ", end="")
        print(f"outside the region {turned['outside_max'].max():.0f}")


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write the measurements as CSV, in an order fixed by the seed and without names of people."""
    table.assign(photo=range(len(table))).round(3).to_csv(path, index=False)


def main(
    photos: int = 500,
    turn: float = 0.2,
    deg: float = 15.0,
    seed: int = 0,
    out: Path = OUT,
) -> None:
    """Measure, and write the table.

    Args:
        photos: number of photographs.
        turn: share of them that is inverted and rotated, 0 to 1.
        deg: rotation besides 0 degrees.
        seed: seed of the choice of photographs.
        out: output table.
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
