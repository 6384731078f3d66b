"""Validate the landmarks and cameras that `latentrot edit --also` writes for rotated views.

    python experiments/augmented_set.py --peers peers/bin/python

Rotates one photograph of each of twenty held-out LFW people by -60 to 60 degrees with `latentrot edit --rotator mesh --also
landmarks camera`, and measures

- landmarks: distance to the landmarks that other detectors find in the views (`peer_landmarks.py`, run by the python of a
  separate environment, `--peers`). Median over people of the mean distance, in percent of the distance between the eye
  centres in the unrotated view; for the 51 inner landmarks, and for eye centres, nose tip and mouth corners. For
  comparison: the distance between two detectors, and between the package's landmark network and each of them;
- cameras: the OBJ mesh of `latentrot mesh` is rendered with each view's camera, and optical flow matches the rendering to
  the view. Median and 95th percentile of the flow's length over the face, in pixels of the view.

Writes experiments/augmented_set.csv: one row per yaw and pair of landmark sources.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import tyro
from solvers import SHARED

from latentrot.cli import main as latentrot
from latentrot.data.celeba import held_out
from latentrot.data.images import read_image
from latentrot.errors import LatentrotError
from latentrot.faces.alignment import Alignment
from latentrot.faces.estimate import pose_and_light
from latentrot.faces.landmarks import estimate_landmarks
from latentrot.faces.network import load_labeler
from latentrot.faces.upright import five_of
from latentrot.geometry.camera import project
from latentrot.geometry.draw import draw
from latentrot.portrait.portrait import open_portrait

#: default output
OUT = Path(__file__).with_suffix(".csv")
#: max absolute yaw of a source, degrees; others are left out
FRONTAL_DEG = 15.0
XY = [f"{axis}{k}" for k in range(68) for axis in "xy"]


@dataclass(frozen=True)
class Set:
    """Options.

    Args:
        peers: python executable of an environment with mediapipe, dlib and face_recognition_models.
        people: number of people.
        sweep: yaws, FIRST:LAST:COUNT, degrees.
        work: folder for photographs and views, which is kept; None: a temporary folder.
        out: output table.
    """

    peers: Path
    people: int = 20
    sweep: str = "-60:60:9"
    work: Path | None = None
    out: Path = OUT


def take_people(folder: Path, count: int) -> None:
    """Copy one photograph of each of several people that no network was trained on, into one folder per person."""
    lfw = SHARED / "data" / "lfw"
    names = np.array(sorted(p.name for p in lfw.iterdir() if p.is_dir()))
    for name in np.random.default_rng(39).permutation(names[held_out(names)]):
        path = sorted((lfw / name).glob("*.jpg"))[0]
        try:
            found = open_portrait(path)
            yaw = estimate_yaw(found.image, found.alignments[0])
        except LatentrotError:
            continue
        if abs(yaw) <= FRONTAL_DEG:
            (folder / name).mkdir(parents=True)
            shutil.copy(path, folder / name / "photo.jpg")
        if len(list(folder.iterdir())) == count:
            return


def estimate_yaw(image: np.ndarray, alignment: Alignment) -> float:
    """Yaw in degrees, by the label network."""
    return pose_and_light(alignment.crop(image, 128), load_labeler())[0]


# ---- landmarks --------------------------------------------------------------------------------------------------


def landmark_sets(views: Path) -> dict[str, dict[str, np.ndarray]]:
    """Read landmarks: source of landmarks and view -> (68, 2) pixels."""
    ours = pd.read_csv(views / "landmarks.csv", index_col="file")
    peers = pd.read_csv(views / "peer_landmarks.csv")
    found = {"written": ours} | {name: part.set_index("file") for name, part in peers.groupby("detector")}
    sets = {
        str(name): dict(zip(t.index.astype(str), t[XY].to_numpy(float).reshape(-1, 68, 2), strict=True))
        for name, t in found.items()
    }
    network = {
        f: estimate_landmarks(read_image(views / f), five_of(points)).points for f, points in sets["written"].items()
    }
    return {**sets, "own network": network}


def error_rows(views: pd.DataFrame, sets: dict[str, dict[str, np.ndarray]]) -> list[dict[str, object]]:
    """Compare landmarks: one row per yaw and pair of sources."""
    eyes = {}
    for row in views[views["turn_yaw_deg"] == 0].to_dict("records"):
        five = five_of(sets["written"][row["file"]])
        eyes[row["person"]] = float(np.linalg.norm(five[1] - five[0]))
    rows = []
    for (a, b), (yaw, part) in ((p, g) for p in combinations(sets, 2) for g in views.groupby("turn_yaw_deg")):
        inner, five = [], []
        for row in part.to_dict("records"):
            if row["file"] in sets[a] and row["file"] in sets[b]:
                first, second = sets[a][row["file"]], sets[b][row["file"]]
                inner.append(100 * np.linalg.norm(first - second, axis=1)[17:].mean() / eyes[row["person"]])
                five.append(100 * np.linalg.norm(five_of(first) - five_of(second), axis=1).mean() / eyes[row["person"]])
        if inner:
            medians = {
                "inner_percent": round(float(np.median(inner)), 2),
                "five_percent": round(float(np.median(five)), 2),
            }
            rows.append({"yaw_deg": yaw, "measure": f"landmarks: {a}, {b}", "people": len(inner), **medians})
    return rows


# ---- cameras ----------------------------------------------------------------------------------------------------


def read_obj(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Read points, texture coordinates, triangles and texture of an OBJ written by `latentrot mesh`."""
    words = [line.split() for line in path.read_text().splitlines()]
    points = np.array([w[1:] for w in words if w[0] == "v"], float)
    places = np.array([w[1:] for w in words if w[0] == "vt"], float)
    faces = np.array([[c.split("/")[0] for c in w[1:]] for w in words if w[0] == "f"], int) - 1
    return points, places, faces, read_image(path.with_suffix(".texture.png"))


def rendered(camera: np.ndarray, mesh: tuple, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Render the mesh with a camera: (h, w, 3) image, and mask of the mesh."""
    points, places, faces, texture = mesh
    away = np.cross(camera[0, :3], camera[1, :3])
    placed = np.column_stack([project(camera, points), -points @ away / np.linalg.norm(away)])
    uv = places * [texture.shape[1], -texture.shape[0]] + [0, texture.shape[0]]
    at, shown, _ = draw(placed, faces[:, ::-1], uv, np.ones(len(faces)), size)
    at = at - np.float32(0.5)
    return cv2.remap(texture, at[..., 0], at[..., 1], cv2.INTER_LINEAR), shown > 0


def displacement(image: np.ndarray, view: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Lengths of the optical flow between two images at the pixels of a mask, pixels."""
    grey = [cv2.cvtColor(v, cv2.COLOR_RGB2GRAY) for v in (image, view)]
    even = [
        cv2.createCLAHE(4.0, (6, 6)).apply(g) for g in grey
    ]  # the light is fixed in the scene in the view, but rotates with the mesh
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(even[0], even[1], None)  # type: ignore[arg-type]
    return np.linalg.norm(flow[mask], axis=1)


def camera_rows(views: pd.DataFrame, folder: Path, work: Path) -> list[dict[str, object]]:
    """Measure the cameras: one row per yaw."""
    cameras = json.loads((folder / "cameras.json").read_text())
    marks = pd.read_csv(folder / "landmarks.csv", index_col="file")[XY]
    found: dict[float, list[tuple[float, float]]] = {}
    for person, part in views.groupby("person"):
        obj = work / "meshes" / f"{person}.obj"
        photo = work / "people" / str(person) / "photo.jpg"
        assert latentrot(["mesh", str(photo), "--out", str(obj), "--pose", "frontal"]) == 0
        mesh = read_obj(obj)
        for row in part.to_dict("records"):
            entry = cameras[row["file"]]
            image, there = rendered(np.array(entry["camera"]), mesh, (entry["width"], entry["height"]))
            points = marks.loc[row["file"]].to_numpy(float).reshape(68, 2)[17:]
            hull = cv2.convexHull(points.round().astype(np.int32))
            inside = cv2.fillConvexPoly(np.zeros(there.shape, np.uint8), hull, 1)
            mask = (cv2.erode(inside, np.ones((5, 5))) > 0) & there
            moved = displacement(image, read_image(folder / row["file"]), mask)
            found.setdefault(row["turn_yaw_deg"], []).append((float(np.median(moved)), float(np.percentile(moved, 95))))
    return [
        {"yaw_deg": yaw, "measure": "camera", "people": len(v), "median_px": round(float(np.median([m for m, _ in v])), 3),
         "worst_median_px": round(max(m for m, _ in v), 3), "p95_px": round(float(np.median([p for _, p in v])), 3)}
        for yaw, v in sorted(found.items())
    ]  # fmt: skip


def main(options: Set) -> None:
    """Make the set, measure it, write the table."""
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        people, folder = work / "people", work / "views"
        if not people.is_dir():
            take_people(people, options.people)
        order = ["edit", str(people), f"--sweep={options.sweep}", "--rotator", "mesh", "--out", str(folder)]
        if not folder.is_dir():
            assert latentrot([*order, "--also", "landmarks", "camera", "--crops", "112"]) == 0
            script = Path(__file__).with_name("peer_landmarks.py")
            subprocess.run([options.peers, str(script), str(folder)], check=True)
        views = pd.read_csv(folder / "views.csv")
        rows = [*error_rows(views, landmark_sets(folder)), *camera_rows(views, folder, work)]
    table = pd.DataFrame(rows).sort_values(["measure", "yaw_deg"])
    table.to_csv(options.out, index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main(tyro.cli(Set))
