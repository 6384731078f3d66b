"""Evaluate `latentrot edit` on photographs of unseen people: preserved identity, and measured rotation.

    python experiments/photographs.py --people 20

Reads LFW in ../shared/data. The judge in ../shared/judge, which is independent of the package, measures yaw and identity on
the face detected in the edited photograph. Writes experiments/photographs.csv: one row per rotator and rotation. People whose
source yaw exceeds 12 degrees are left out. `--strips FOLDER` saves the edited photographs for inspection.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import tyro
from solvers import SHARED

import latentrot
from latentrot.data.celeba import held_out
from latentrot.data.images import read_image, write_image
from latentrot.errors import LatentrotError
from latentrot.faces.detect import detect_faces
from latentrot.faces.framing import frame_face
from latentrot.portrait.face import PreparedFace, prepare_face
from latentrot.portrait.portrait import Portrait, open_portrait
from latentrot.portrait.turns import Turn

#: max absolute yaw of a source, degrees; others are left out
FRONTAL_DEG = 12.0
SIDE = 128


class Judge(Protocol):
    """Measures of (s, s, 3) uint8 crops in the CelebA frame."""

    def pose(self, crops: list[np.ndarray]) -> np.ndarray:
        """(n, 2) yaw and pitch, degrees."""
        ...

    def identity(self, crops: list[np.ndarray]) -> np.ndarray:
        """(n, d) unit vectors."""
        ...


@dataclass(frozen=True)
class Photographs:
    """Options.

    Args:
        people: number of people.
        skip: number of people to leave out at the start, because they may have been used during development.
        rotators: names, or package.module:name.
        degrees: rotations in yaw.
        strips: folder for the edited photographs; None: do not save them.
        out: output table.
    """

    people: int = 20
    skip: int = 0
    rotators: tuple[str, ...] = ("mesh", "latent")
    degrees: tuple[float, ...] = (-60.0, -45.0, -35.0, -25.0, -15.0, 15.0, 25.0, 35.0, 45.0, 60.0)
    strips: Path | None = None
    out: Path = Path("experiments/photographs.csv")


def crop_near(photo: np.ndarray, place: np.ndarray) -> np.ndarray | None:
    """Crop the detected face nearest to a position: (s, s, 3) uint8; None if no face is detected."""
    faces = detect_faces(photo)
    if not faces:
        return None
    face = min(faces, key=lambda f: np.linalg.norm(f.landmarks.mean(0) - place))
    return frame_face(photo, face.landmarks).crop(photo, SIDE)


def rotated(face: PreparedFace, degrees: float) -> np.ndarray:
    """The photograph with its face rotated by one angle, as a single edit: (h, w, 3) uint8."""
    image = face.portrait.image.copy()
    face.edit([Turn(degrees)]).patch(0).paste(image)
    return image


def rows_of(
    found: Portrait, images: list[np.ndarray], name: str, rotator: str, degrees: tuple[float, ...], judge: Judge
) -> list[dict]:
    """Measure one person: one row per rotation."""
    place = found.alignments[0].to_photo(np.array([[89.0, 124.0]]))[0]
    source = crop_near(found.image, place)
    rows = []
    for image, asked in zip(images, degrees, strict=True):
        turned = crop_near(image, place)
        if source is None or turned is None:
            rows.append({"rotator": rotator, "person": name, "asked": asked})
            continue
        (yaw, _), (after, _) = judge.pose([source, turned])
        a, b = judge.identity([source, turned])
        rows.append(
            {"rotator": rotator, "person": name, "asked": asked, "turned": after - yaw, "identity": float(a @ b)}
        )
    return rows


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Means and standard deviations over people, both directions pooled."""
    table = table.assign(
        size=table["asked"].abs(),
        error=(table["turned"] - table["asked"]).abs(),
        reached=table["turned"] * np.sign(table["asked"]),
    )
    groups = table.groupby(["rotator", "size"])
    found = groups[["identity", "error", "reached"]].mean()
    return found.assign(
        identity_spread=groups["identity"].std(),
        people=groups["person"].nunique(),
        not_found=groups["identity"].agg(lambda v: int(v.isna().sum())),
    ).round(3)


def main(options: Photographs) -> None:
    """Rotate LFW people with each rotator, measure, and write the table."""
    sys.path.insert(0, str(SHARED / "judge"))
    judge: Any = importlib.import_module("judge")  # no part of the package

    lfw = SHARED / "data" / "lfw"
    names = np.array(sorted(p.name for p in lfw.iterdir() if p.is_dir()))
    names = np.random.default_rng(5).permutation(names[held_out(names)])[options.skip :]
    rotators = {name: latentrot.load_rotator(name) for name in options.rotators}
    rows, done = [], 0
    for name in names:
        path = sorted((lfw / name).glob("*.jpg"))[0]
        try:
            found = open_portrait(path)
            square = found.alignments[0].crop(found.image, SIDE)
            if abs(judge.pose([square])[0, 0]) > FRONTAL_DEG:
                continue
            faces = {k: prepare_face(found, found.alignments[0], r) for k, r in rotators.items()}
            edits = {k: [rotated(face, degrees) for degrees in options.degrees] for k, face in faces.items()}
        except LatentrotError as error:
            print(f"{name}: {error}")
            continue
        for rotator, images in edits.items():
            rows += rows_of(found, images, name, rotator, options.degrees, judge)
            if options.strips is not None:
                options.strips.mkdir(parents=True, exist_ok=True)
                write_image(options.strips / f"{done:02d}-{rotator}.png", np.hstack([read_image(path), *images]))
        done += 1
        print(done, name, flush=True)
        if done == options.people:
            break
    table = summary(pd.DataFrame(rows))
    table.to_csv(options.out)
    print(table.to_string())


if __name__ == "__main__":
    main(tyro.cli(Photographs))
