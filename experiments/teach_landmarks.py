"""Label photographs with 68 landmarks for `latentrot train landmarks`; the teacher is MediaPipe.

Needed only to train the landmark network. MediaPipe pins old packages, so it needs a separate environment:

    python3 -m venv teacher && teacher/bin/pip install mediapipe==0.10.21 pandas pyarrow
    PYTHONPATH=. teacher/bin/python experiments/teach_landmarks.py OUT [--data ../shared/data]

MediaPipe predicts a mesh of 478 points that rotates with the head, whereas the 68 landmarks follow the visible contour of the
face. A ridge regression maps the mesh, normalised in position, size and roll, to the 68 points. It is fitted to YouTube Faces
stills, which have both, of people who are not held out. OUT/labels.parquet has one row per photograph: `image` (path relative
to the data), `disagreement` (distance between the teacher's landmarks of the photograph and of its mirror image, as a share
of the face's size), x0, y0 ... x67, y67 in pixels of the photograph.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import tyro
from PIL import Image

from latentrot.data.celeba import held_out

os.environ.setdefault("GLOG_minloglevel", "2")

#: min side of the teacher's input (smaller photographs are enlarged), and border as a share of height and width
SIDE, BORDER = 400, 0.25
#: points of the mesh at the two face edges, the forehead and the chin; they define its size
EXTENT = (234, 454, 10, 152)
COLUMNS = [f"{axis}{k}" for k in range(68) for axis in "xy"]
RIDGE, COMPONENTS = 3e-3, 60


def photographs(data: Path) -> list[str]:
    """Paths of the photographs to label, relative to the data folder."""
    found = [
        *data.glob("ytf/img_align_celeba/*.jpg"),
        *data.glob("lfw/*/*.jpg"),
        *data.glob("celeba/img_align_celeba/*.jpg"),
    ]
    parts = pd.read_csv(data / "parts" / "pairs.csv")["image"] if (data / "parts").is_dir() else []
    return [str(p.relative_to(data)) for p in sorted(found)] + [f"parts/{name}" for name in parts]


def bordered(image: np.ndarray) -> np.ndarray:
    """Pad a photograph by replicating its edges: the teacher's detector misses faces that fill the image."""
    height, width = image.shape[:2]
    down, across = round(height * BORDER), round(width * BORDER)
    return np.pad(image, ((down, down), (across, across), (0, 0)), "edge")


def label_all(data: Path, names: list[str]) -> np.ndarray:
    """Meshes of each photograph and its mirror image, (n, 2, 478, 3) float32 pixels; NaN if no face is detected."""
    import mediapipe as mp  # noqa: PLC0415  # pyright: ignore[reportMissingImports]

    mesh = mp.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True, max_num_faces=1)
    found = np.full((len(names), 2, 478, 3), np.nan, np.float32)
    for row, name in enumerate(names):
        image = Image.open(data / name).convert("RGB")
        scale = max(1.0, SIDE / min(image.size))
        large = np.asarray(
            image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
        )
        for side, seen in enumerate((large, np.ascontiguousarray(large[:, ::-1]))):
            found[row, side] = one_mesh(mesh, seen) / scale
        found[row, 1, :, 0] = image.width - found[row, 1, :, 0]
    return found


def one_mesh(mesh: Any, image: np.ndarray) -> np.ndarray:
    """Mesh in an image, (478, 3) pixels; NaN if the teacher detects no face."""
    seen = bordered(image)
    answer = mesh.process(seen).multi_face_landmarks
    if not answer:
        return np.full((478, 3), np.nan, np.float32)
    height, width = seen.shape[:2]
    points = np.array([[p.x * width, p.y * height, p.z * width] for p in answer[0].landmark], np.float32)
    return points - np.array([(width - image.shape[1]) / 2, (height - image.shape[0]) / 2, 0], np.float32)


def frames_of(mesh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position (n,), and size and roll (n,), as complex numbers, of each mesh (n, 478, 3)."""
    flat = mesh[..., 0] + 1j * mesh[..., 1]
    up = flat[:, EXTENT[3]] - flat[:, EXTENT[2]]
    across = np.linalg.norm(mesh[:, EXTENT[0]] - mesh[:, EXTENT[1]], axis=1)
    return flat.mean(1), np.sqrt(np.abs(up) * across) * up / np.abs(up) / 1j


def features_of(mesh: np.ndarray) -> np.ndarray:
    """Normalise meshes (n, 478, 3) in position, size and roll: (n, 1434)."""
    place, size = frames_of(mesh)
    flat = (mesh[..., 0] + 1j * mesh[..., 1] - place[:, None]) / size[:, None]
    return np.concatenate([flat.real, flat.imag, mesh[..., 2] / np.abs(size)[:, None]], 1)


class MeshTo68:
    """Ridge regression on principal components from the teacher's mesh to 68 points."""

    def fit(self, mesh: np.ndarray, points: np.ndarray) -> MeshTo68:
        """Fit to meshes (n, 478, 3) and points (n, 68, 2) of the same photographs."""
        x = features_of(mesh)
        self.mean_ = x.mean(0)
        _, _, axes = np.linalg.svd(x - self.mean_, full_matrices=False)
        self.axes_ = axes[:COMPONENTS]
        z = self._design(x)
        place, size = frames_of(mesh)
        flat = (points[..., 0] + 1j * points[..., 1] - place[:, None]) / size[:, None]
        y = np.concatenate([flat.real, flat.imag], 1)
        penalty = RIDGE * len(z) * np.diag((z**2).mean(0)) * (np.arange(z.shape[1]) > 0)
        self.weights_ = np.linalg.solve(z.T @ z + penalty, z.T @ y)
        return self

    def _design(self, x: np.ndarray) -> np.ndarray:
        z = (x - self.mean_) @ self.axes_.T
        first = z[:, :6] / 0.3  # the first components encode the pose; their products model the shift of the contour
        pairs = np.stack([first[:, i] * first[:, j] for i in range(6) for j in range(i, 6)], 1)
        cubes = first[:, :3] ** 3
        return np.concatenate([np.ones((len(z), 1)), z, pairs, cubes, np.abs(first[:, :3])], 1)

    def predict(self, mesh: np.ndarray) -> np.ndarray:
        """Map meshes (n, 478, 3) to landmarks (n, 68, 2), pixels."""
        place, size = frames_of(mesh)
        y = self._design(features_of(mesh)) @ self.weights_
        flat = (y[:, :68] + 1j * y[:, 68:]) * size[:, None] + place[:, None]
        return np.stack([flat.real, flat.imag], -1)


def mapped(data: Path, names: list[str], found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks (n, 68, 2) and disagreement (n,); prints the error of the regression on held-out people."""
    truth = pd.read_csv(data / "ytf" / "landmarks68.csv", index_col="image_id")
    people = pd.read_csv(data / "ytf" / "identity_CelebA.csv", index_col="image_id")["identity"]
    row_of = {name: row for row, name in enumerate(names)}
    rows = np.array([row_of[f"ytf/img_align_celeba/{i}"] for i in truth.index])
    points = truth[COLUMNS].to_numpy().reshape(-1, 68, 2)
    seen = np.isfinite(found[rows]).all((1, 2, 3))
    apart = held_out(people.reindex(truth.index).to_numpy())
    learn, test = seen & ~apart, seen & apart
    plain = MeshTo68().fit(found[rows[learn], 0], points[learn])
    mirrored = MeshTo68().fit(found[rows[learn], 1], points[learn])
    good = np.isfinite(found).all((1, 2, 3))
    answers = np.full((2, len(names), 68, 2), np.nan)
    for side, model in enumerate((plain, mirrored)):
        answers[side, good] = model.predict(found[good, side].astype(np.float64))
    both = answers.mean(0)
    size = np.linalg.norm(np.ptp(both, axis=1), axis=1)
    eyes = np.linalg.norm(points[:, 36] - points[:, 45], axis=1)
    error = np.linalg.norm(both[rows] - points, axis=2)
    for name, part in (("all", slice(0, 68)), ("contour", slice(0, 17)), ("inner", slice(17, 68))):
        percent = 100 * (error[test, part].mean(1) / eyes[test]).mean()
        print(f"held-out people, {test.sum()} photographs, {name}: {percent:.2f}% of the eye corners")
    return both, np.linalg.norm(answers[0] - answers[1], axis=2).mean(1) / size


def main(out: Annotated[Path, tyro.conf.Positional], data: Path = Path("../shared/data"), jobs: int = 2) -> None:
    """Label all photographs in parallel; existing labels are kept.

    Args:
        out: output folder of the labels.
        data: folder of the photographs.
        jobs: number of processes.
    """
    names = photographs(data)
    out.mkdir(parents=True, exist_ok=True)
    raw = out / "mesh.npy"
    if not raw.is_file():
        chunks = [names[k : k + 250] for k in range(0, len(names), 250)]
        with ProcessPoolExecutor(jobs) as pool:
            done = list(pool.map(label_all, [data] * len(chunks), chunks))
        np.save(raw, np.concatenate(done))
    points, disagreement = mapped(data, names, np.load(raw))
    table = pd.DataFrame(points.reshape(len(names), -1).round(2), columns=COLUMNS)
    table.insert(0, "image", names)
    table.insert(1, "disagreement", disagreement.round(4))
    table = table.dropna()
    table.to_parquet(out / "labels.parquet")
    print(f"{len(table)} of {len(names)} photographs have a face")


if __name__ == "__main__":
    tyro.cli(main)
