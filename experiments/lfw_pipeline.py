"""The way from any photograph to a finished picture, on unaligned photographs of strangers.

    python experiments/lfw_pipeline.py --photos 500 --turn 0.2

Reads ../shared/data/lfw. Every photograph is searched for faces and its largest one aligned; a share of them is also taken
through latent and back with a turn of 0 degrees and of --deg degrees, and pasted. What is measured:

- `problem`: why a photograph has no usable face; empty where it has one.
- `faces`: faces found. The photographs were chosen by their makers for one person; others stand in the background.
- `eye_px`: the worse of the two eye centres' distances to CelebA's mean positions, in pixels of the 178x218 frame, by the
  landmarks that were aligned; `again_px`: by those found anew in the aligned frame, an independent look with its own scatter.
  `nose_px`, `mouth_px`: the same of the nose tip and of the worse mouth corner, which move when a head turns or smiles.
- `round_trip_db`: the model's reconstruction of the crop against the crop, at the model's resolution.
- `zero_db`: the photograph with the reconstruction pasted as any turned face is (against the crop it came from, so that the
  model's errors do not cancel) against the photograph, inside the mask. `edit --deg 0` pastes against the reconstruction,
  where they do cancel: `edit_zero_max` is the largest difference there, of 255.
- `outside_max`: the largest difference outside the mask, of 255, over all that was pasted, the turned face included.

Writes experiments/lfw_pipeline.csv, numbers and reasons only, a row a photograph, and prints the shares.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from latentrot.data.align import MEAN_LANDMARKS, Alignment, align_landmarks
from latentrot.data.detect import choose_face, detect_faces
from latentrot.data.frame import FRAME_HEIGHT, FRAME_WIDTH
from latentrot.data.images import read_image
from latentrot.errors import LatentrotError
from latentrot.rotate.latent import LatentRotator, load_latent_rotator

LFW = Path("../shared/data/lfw")
#: eye centres nearer than this to CelebA's means count as aligned, pixels of the 178x218 frame
EYE_TOLERANCE = 2.0


def chosen_photographs(root: Path, count: int, seed: int) -> list[Path]:
    """So many photographs, at most one a person as long as the people last, in an order fixed by the seed."""
    rng = np.random.default_rng(seed)
    people = [sorted(folder.glob("*.jpg")) for folder in sorted(root.iterdir()) if folder.is_dir()]
    order = [people[i] for i in rng.permutation(len(people))]
    longest = max(len(photos) for photos in order)
    return [photos[i] for i in range(longest) for photos in order if i < len(photos)][:count]


def landmark_misses(alignment: Alignment, landmarks: np.ndarray) -> dict[str, float]:
    """Distances of the aligned landmarks to CelebA's means, frame pixels."""
    miss = np.linalg.norm(alignment.to_frame(landmarks) - MEAN_LANDMARKS, axis=1)
    return {"eye_px": miss[:2].max(), "nose_px": miss[2], "mouth_px": miss[3:].max()}


def eyes_again(photo: np.ndarray, alignment: Alignment) -> dict[str, float]:
    """`eye_px` by landmarks found anew in the aligned frame at twice its size; nothing where no face is found."""
    origin, right, down = alignment.to_photo(np.array([[0, 0], [0.5, 0], [0, 0.5]]))
    to_photo = (*np.column_stack([right - origin, down - origin, origin]).ravel(),)
    size = (2 * FRAME_WIDTH, 2 * FRAME_HEIGHT)
    frame = Image.fromarray(photo).transform(size, Image.Transform.AFFINE, to_photo, Image.Resampling.BICUBIC)
    faces = detect_faces(np.array(frame))
    if not faces:
        return {}
    return {"again_px": float(np.linalg.norm(faces[0].landmarks / 2 - MEAN_LANDMARKS, axis=1)[:2].max())}


def psnr_db(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of uint8 values, decibels."""
    error = np.mean((a.astype(np.float64) - b) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-4)))


def largest_difference(a: np.ndarray, b: np.ndarray) -> int:
    """Of two uint8 arrays; 0 where they are empty."""
    return int(np.abs(a.astype(int) - b).max(initial=0))


def pasted(photo: np.ndarray, alignment: Alignment, rotator: LatentRotator, degrees: float) -> dict[str, float]:
    """A turn of 0 and one of `degrees`, pasted back and compared with the photograph."""
    crop = alignment.crop(photo, rotator.model.resolution)
    turned = rotator.turn(crop, [0.0, degrees])
    zero, other = (alignment.paste(photo, turned.reconstruction, f.image) for f in turned.frames)
    kept_errors = alignment.paste(photo, crop, turned.reconstruction)
    mask = alignment.mask()
    inside, outside = mask > 0.5, mask == 0
    return {
        "round_trip_db": turned.round_trip_psnr_db,
        "zero_db": psnr_db(kept_errors[inside], photo[inside]),
        "edit_zero_max": largest_difference(zero, photo),
        "outside_max": max(largest_difference(p[outside], photo[outside]) for p in (zero, kept_errors, other)),
    }


def measure(path: Path, rotator: LatentRotator | None, degrees: float) -> dict[str, object]:
    """One row: a photograph from file to pasted turn; not turned where there is no rotator."""
    row: dict[str, object] = {"photo": path.stem, "problem": ""}
    try:
        photo = read_image(path)
        faces = detect_faces(photo)
        row["faces"] = len(faces)
        face, _ = choose_face(faces)
        alignment = align_landmarks(face.landmarks, (photo.shape[1], photo.shape[0]))
        row |= landmark_misses(alignment, face.landmarks) | eyes_again(photo, alignment)
        if rotator is not None:
            row |= pasted(photo, alignment, rotator, degrees)
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
    for name in ("eye_px", "again_px"):
        column = used[name].dropna()
        print(f"{name} under {EYE_TOLERANCE:.0f}: {(column < EYE_TOLERANCE).mean():.1%}, median {column.median():.2f}")
    if "zero_db" in used:
        turned = used.dropna(subset="zero_db")
        print(f"taken through the model: {len(turned)}")
        for name in ("round_trip_db", "zero_db"):
            column = turned[name]
            print(f"{name}: mean {column.mean():.1f}, least {column.min():.1f}, 38 or more {(column >= 38).mean():.1%}")
        print(f"largest difference: edit --deg 0 {turned['edit_zero_max'].max():.0f}, ", end="")
        print(f"outside the mask {turned['outside_max'].max():.0f}")


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--turn", type=float, default=0.2, help="share of them taken through the model, 0 to 1")
    parser.add_argument("--deg", type=float, default=15.0, help="the turn pasted besides 0 degrees")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()

    photographs = chosen_photographs(LFW, options.photos, options.seed)
    rotator = load_latent_rotator(measure=False)
    every = round(1 / options.turn) if options.turn > 0 else 0
    rows = [
        measure(path, rotator if every and i % every == 0 else None, options.deg)
        for i, path in enumerate(tqdm(photographs, unit="photo", disable=None))
    ]
    table = pd.DataFrame(rows)
    print_summary(table)
    table["photo"] = range(len(table))  # the order is fixed by the seed; no names of people in the file
    table.round(3).to_csv(options.out, index=False)


if __name__ == "__main__":
    main()
