"""Training data of the face networks: photographs with landmarks and masks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from latentrot.data.celeba import held_out
from latentrot.data.images import read_image
from latentrot.errors import LatentrotError
from latentrot.faces.alignment import align_landmarks
from latentrot.faces.detect import detect_faces
from latentrot.faces.face_networks import (
    LANDMARK_SIDE,
    PARTS_SIDE,
)
from latentrot.faces.landmarks import FRAME_CENTRE, FRAME_REACH, estimate_landmarks
from latentrot.faces.parts import CLOTHES, REGION_LIFT, REGION_WIDTHS, SKIN
from latentrot.faces.upright import centred, cut_square, five_of, upright_square

log = logging.getLogger(__name__)

#: columns of a table of landmarks
POINTS = [f"{axis}{k}" for k in range(68) for axis in "xy"]
#: side of the stored squares relative to the input of the networks, to allow shifts, roll and scaling
MARGIN = 1.35
#: max disagreement of a teacher's results for a photograph and its mirror image, as a share of the face's size
DISAGREEMENT = 0.02
#: data set -> groups of parts that its masks merge; parts in no group are not distinguished by the set
GROUPS: dict[str, tuple[tuple[int, ...], ...]] = {
    "celebamask": ((0,), (1,), (2,), (3,), (4,), (5,), (6,)),
    "lfw": ((0, 5, 6), (1, 3, 4), (2,)),
    "fasseg": ((0, 5), (1,), (2,), (3,), (4,), (6,)),
    "ccp_heads": ((0,), (1, 3, 4), (2,), (5, 6)),
    "taught": ((0,), (1, 3), (2,), (4,), (5,), (6,)),
}
#: data set -> sampling weight of its photographs
WEIGHTS = {"celebamask": 3.0, "lfw": 1.0, "fasseg": 1.0, "ccp_heads": 0.5, "taught": 2.0}
#: label of pixels outside the photograph or of unknown parts
UNKNOWN = 255
#: max distance, in face widths, of a skin component of the face from the middle of the landmarks; glasses split faces
OWN_FACE = 0.6
#: min area of another face to count as one, as a share of the area of the face in the middle
OTHER_FACE = 0.03
#: ratio of the distances to another face and to the face in the middle, below which skin and hair become background
SURELY_THEIRS = 0.7
#: max gap in pixels between connected parts, because the teacher is uncertain at part boundaries
SEAM = 7


@dataclass(frozen=True, eq=False)
class Faces:
    """Squares around faces, `MARGIN` times as large as a network's input.

    Args:
        images: (n, s, s, 3) uint8.
        targets: (n, 68, 2) float32 landmarks in pixels of the squares, or (n, s, s) uint8 masks.
        groups: (n,) data set of each square.
        weights: (n,) sampling weight of each square.
        tests: (n,) bool, True for held-out people.
        names: (n,) name of each square, for tables.
    """

    images: np.ndarray
    targets: np.ndarray
    groups: np.ndarray
    weights: np.ndarray
    tests: np.ndarray
    names: np.ndarray

    def subset(self, rows: np.ndarray) -> Faces:
        """Select rows."""
        return Faces(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def points_of(table: pd.DataFrame) -> np.ndarray:
    """(n, 68, 2) landmarks from a table with columns x0, y0 ... x67, y67."""
    return table[POINTS].to_numpy(np.float64).reshape(-1, 68, 2)


def read_teacher(path: Path) -> pd.DataFrame:
    """Read a teacher's landmarks: image (path relative to the data folder), disagreement, x0, y0 ... x67, y67.

    Raises:
        LatentrotError: the table cannot be read, or lacks these columns.
    """
    try:
        table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise LatentrotError(
            f"cannot read the teacher's table {path}: {error}; give a .parquet or .csv file"
        ) from error
    missing = {"image", "disagreement", *POINTS} - set(table.columns)
    if missing:
        raise LatentrotError(
            f"{path} lacks the columns {', '.join(sorted(missing)[:4])}; expected a table of 68 landmarks"
        )
    return table


def estimate_marks(data: Path, images: Sequence[str]) -> pd.DataFrame:
    """Estimate landmarks of the most central face of each photograph by the bundled network, in the format of `read_teacher`.

    Args:
        data: data folder.
        images: paths relative to it.

    Returns:
        One row per photograph with a face.
    """
    rows = []
    for name in tqdm(images, desc="mark", disable=None):
        image = read_image(data / name)
        middle = np.array(image.shape[1::-1]) / 2
        faces = detect_faces(image)
        if faces:
            face = min(faces, key=lambda f: float(np.linalg.norm(f.landmarks.mean(0) - middle)))
            rows.append([name, 0.0, *estimate_landmarks(image, face.landmarks).points.flatten()])
    return pd.DataFrame(rows, columns=["image", "disagreement", *POINTS])


def landmark_rows(data: Path, teacher: pd.DataFrame) -> pd.DataFrame:
    """Table of all photographs with landmarks: image (path relative to `data`), person, set, weight, points."""
    teacher = teacher[teacher["disagreement"] < DISAGREEMENT]
    sets = teacher["image"].str.split("/").str[0]
    marked = pd.read_csv(data / "ytf" / "landmarks68.csv")
    people = pd.read_csv(data / "ytf" / "identity_CelebA.csv", dtype=str).set_index("image_id")["identity"]
    marked = marked.copy().assign(
        person=marked["image_id"].map(people), image="ytf/img_align_celeba/" + marked["image_id"]
    )
    celeba = pd.read_csv(data / "celeba" / "identity_CelebA.csv", dtype=str).set_index("image_id")["identity"]
    taught = teacher[sets.isin(["lfw", "celeba"])].copy()
    file = taught["image"].str.split("/").str[-1]
    folder = taught["image"].str.split("/").str[1]
    taught["person"] = np.where(taught["image"].str.startswith("lfw/"), folder, file.map(celeba))
    both = pd.concat([marked.assign(weight=3.0, set="ytf"), taught.assign(weight=1.0, set=sets[taught.index])])
    return both.reset_index(drop=True)


def landmark_faces(data: Path, teacher: pd.DataFrame, share: float) -> Faces:
    """Squares around the CelebA frame, and the landmarks in them."""
    table = landmark_rows(data, teacher)
    size = round(LANDMARK_SIDE * MARGIN)
    grain = LANDMARK_SIDE / (2 * FRAME_REACH)
    images = np.zeros((len(table), size, size, 3), np.uint8)
    targets = np.zeros((len(table), 68, 2), np.float32)
    for i, points in enumerate(tqdm(points_of(table), desc="read", disable=None)):
        with Image.open(data / str(table["image"][i])) as file:
            image = file.convert("RGB")
        alignment = align_landmarks(five_of(points), image.size)
        linear = alignment.matrix[:, :2] * grain
        shift = (alignment.matrix[:, 2] - FRAME_CENTRE) * grain + size / 2
        matrix = np.column_stack([linear, shift])
        images[i] = cut_square(np.asarray(image), matrix, size)
        targets[i] = points @ linear.T + shift
    tests = held_out(table["person"].astype(str).to_numpy(), share)
    return Faces(
        images,
        targets,
        table["set"].to_numpy(str),
        table["weight"].to_numpy(float),
        tests,
        table["image"].to_numpy(str),
    )


def masked_photographs(data: Path, masks: Path | None) -> pd.DataFrame:
    """Table of the photographs with masks: image (path relative to `data`), mask (path), set, weight, person.

    Args:
        data: the folder with parts/ and lfw/.
        masks: folder of a teacher's masks written by `experiments/teach_parts.py`; None: hand-made masks only.
    """
    pairs = pd.read_csv(data / "parts" / "pairs.csv")
    by_hand = pd.DataFrame(
        {
            "image": "parts/" + pairs["image"],
            "mask": [data / "parts" / m for m in pairs["mask"]],
            "set": pairs["set"],
            "weight": pairs["set"].map(WEIGHTS),
            "person": pairs["image"].str.split("/").str[-1].str.replace(r"_\d{4}\.\w+$", "", regex=True),
        }
    )
    return by_hand if masks is None else pd.concat([by_hand, taught_photographs(masks)], ignore_index=True)


def taught_photographs(masks: Path) -> pd.DataFrame:
    """Table of the LFW photographs with a teacher's mask, as in `masked_photographs`."""
    paths = sorted((masks / "lfw").rglob("*.png"))
    table = pd.DataFrame({"mask": paths, "set": "taught", "weight": WEIGHTS["taught"]})
    table["image"] = [str(path.relative_to(masks).with_suffix(".jpg")) for path in paths]
    table["person"] = [path.parent.name for path in paths]
    return table


def parts_faces(data: Path, teacher: pd.DataFrame, masks: Path | None, share: float) -> Faces:
    """Upright squares around heads, with masks made by hand or by a teacher.

    Args:
        data: the folder with parts/ and lfw/.
        teacher: landmarks that locate the heads, from `read_teacher` or `estimate_marks`.
        masks: folder of the teacher's masks; None: hand-made masks only.
        share: share of the people held out.
    """
    known = teacher.set_index("image")
    pairs = masked_photographs(data, masks)
    pairs = pairs[pairs["image"].isin(known.index)].reset_index(drop=True)
    size = round(PARTS_SIDE * MARGIN)
    images = np.zeros((len(pairs), size, size, 3), np.uint8)
    targets = np.zeros((len(pairs), size, size), np.uint8)
    marks = points_of(known.loc[pairs["image"]])
    files = zip(pairs["image"], pairs["mask"], pairs["set"], strict=True)
    for i, (image, mask, kind) in enumerate(tqdm(files, total=len(pairs), desc="read", disable=None)):
        with Image.open(data / image) as file:
            picture = file.convert("RGB")
        matrix = upright_square(marks[i], size, REGION_WIDTHS * MARGIN, REGION_LIFT)
        images[i] = cut_square(np.asarray(picture), matrix, size)
        targets[i] = mask_in(Path(mask), picture.size, matrix, size)
        if kind == "taught":
            targets[i] = remove_other_people(targets[i])
    faces = Faces(
        images,
        targets,
        pairs["set"].to_numpy(str),
        pairs["weight"].to_numpy(float),
        held_out(pairs["person"].astype(str), share),
        pairs["image"].to_numpy(str),
    )
    return faces.subset((targets != UNKNOWN).any((1, 2)))


def mask_in(path: Path, photo_size: tuple[int, int], matrix: np.ndarray, size: int) -> np.ndarray:
    """Resample a mask to a square: (size, size) uint8 parts, `UNKNOWN` outside the photograph."""
    with Image.open(path) as file:
        classes = np.asarray(file.resize(photo_size, Image.Resampling.NEAREST))
    return np.asarray(
        cv2.warpAffine(classes, centred(matrix), (size, size), flags=cv2.INTER_NEAREST, borderValue=UNKNOWN), np.uint8
    )


def remove_other_people(parts: np.ndarray) -> np.ndarray:
    """Remove other people from a teacher's part labels of a square around a head.

    The teacher labels all people, the network only the person in the middle. Skin and hair that lie clearly nearer to
    another face become background. Pixels become `UNKNOWN` if they lie nearer to another face but may belong to the
    person in the middle, or if they are not connected with the face in the middle.

    Args:
        parts: (n, n) uint8 part labels.

    Returns:
        (n, n) uint8; all `UNKNOWN` if there is no face in the middle.
    """
    width = len(parts) / (REGION_WIDTHS * MARGIN)
    count, labels, stats, centres = cv2.connectedComponentsWithStats((parts == SKIN).astype(np.uint8))
    middle = len(parts) / 2 + np.array([0, REGION_LIFT * width])
    is_near = np.linalg.norm(centres - middle, axis=1) < OWN_FACE * width
    is_near[0] = False
    areas = stats[:, cv2.CC_STAT_AREA]
    own = np.isin(labels, np.flatnonzero(is_near))
    if own.sum() < 0.2 * width**2:
        return np.full_like(parts, UNKNOWN)
    others = [k for k in range(1, count) if not is_near[k] and areas[k] > OTHER_FACE * own.sum()]
    person = (parts > 0) & (parts != UNKNOWN)
    theirs = surely = np.zeros_like(person)
    if others:
        here, there = (
            cv2.distanceTransform((~face).astype(np.uint8), cv2.DIST_L2, 5) for face in (own, np.isin(labels, others))
        )
        theirs, surely = there < here, (there < SURELY_THEIRS * here) & (parts != CLOTHES)
    near = cv2.dilate((person & ~theirs).astype(np.uint8), np.ones((SEAM, SEAM), np.uint8))
    _, bodies = cv2.connectedComponents(near)
    mine = np.isin(bodies, np.unique(bodies[own]))
    return np.where(person & ~mine, np.where(surely, 0, UNKNOWN), parts).astype(np.uint8)
