"""Detect landmarks of views with two independent detectors, in an environment of their own.

    python -m venv peers && peers/bin/pip install mediapipe==0.10.14 dlib-bin face-recognition-models
    peers/bin/python experiments/peer_landmarks.py VIEWS

Used by `augmented_set.py`. Reads views.csv in the folder of views and writes peer_landmarks.csv beside it: detector, file and
x0, y0 ... x67, y67 of the largest face, pixels with edges at pixel borders; views without a detected face have no row.
mediapipe: Face Mesh with 478 points, of which those that correspond to the 68 are used (it was a teacher of the package's
landmark network). dlib: regression trees trained on 300-W, on the boxes of dlib's detector.
"""

from __future__ import annotations

import csv
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

#: points of Face Mesh at the 68 landmarks
POINTS = (
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389,  # jaw
    71, 63, 105, 66, 107, 336, 296, 334, 293, 301,  # brows
    168, 197, 5, 4, 75, 97, 2, 326, 305,  # nose
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,  # eyes
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,  # lips outside
    78, 82, 13, 312, 308, 317, 14, 87,  # lips inside
)  # fmt: skip
#: factor by which photographs are enlarged for the detectors
ENLARGED = 2


def by_mediapipe(image: np.ndarray, network: Any) -> np.ndarray | None:
    """(68, 2) landmarks of a (h, w, 3) uint8 image."""
    found = network.process(image).multi_face_landmarks
    if not found:
        return None
    return np.array([[found[0].landmark[k].x, found[0].landmark[k].y] for k in POINTS]) * image.shape[1::-1]


def by_dlib(image: np.ndarray, detector: Any, predictor: Any) -> np.ndarray | None:
    """(68, 2) landmarks of a (h, w, 3) uint8 image."""
    boxes = sorted(detector(image, 0), key=lambda box: -box.area())
    if not boxes:
        return None
    shape = predictor(image, boxes[0])
    return np.array([[shape.part(k).x, shape.part(k).y] for k in range(68)]) + 0.5


def main(folder: Path) -> None:
    """Find the landmarks of all views."""
    import dlib  # type: ignore[import-not-found]  # noqa: PLC0415  of the other environment
    import mediapipe  # type: ignore[import-not-found]  # noqa: PLC0415

    mesh = mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True, min_detection_confidence=0.3)
    spec = importlib.util.find_spec("face_recognition_models")
    assert spec is not None
    assert spec.origin is not None
    trees = dlib.shape_predictor(str(Path(spec.origin).parent / "models/shape_predictor_68_face_landmarks.dat"))
    detector = dlib.get_frontal_face_detector()
    with (folder / "views.csv").open() as views, (folder / "peer_landmarks.csv").open("w", newline="") as out:
        table = csv.writer(out)
        table.writerow(["detector", "file", *(f"{axis}{k}" for k in range(68) for axis in "xy")])
        for row in csv.DictReader(views):
            with Image.open(folder / row["file"]) as opened:
                size = (ENLARGED * opened.width, ENLARGED * opened.height)
                image = np.asarray(opened.convert("RGB").resize(size, Image.Resampling.BICUBIC))
            found = {"mediapipe": by_mediapipe(image, mesh), "dlib": by_dlib(image, detector, trees)}
            for name, points in found.items():
                if points is not None:
                    table.writerow([name, row["file"], *(points / ENLARGED).round(2).ravel()])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
