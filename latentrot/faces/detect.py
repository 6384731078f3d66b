"""Face detection: boxes and five landmarks, by the bundled detector (`latentrot.faces.mtcnn`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from latentrot.data.arrays import check_image
from latentrot.errors import LatentrotError

__all__ = ["Face", "choose_face", "detect_faces", "detect_upright", "refine_landmarks"]

#: max side in pixels for detection; larger images are downscaled, and results are scaled back to the full size
MAX_SIDE = 1280
#: size of the smallest face to detect, in pixels of the downscaled image; also the min side of an image
MIN_FACE = 20


#: score from which a face certainly is upright, and min score for rotating a photograph; for each of 161 photographs the
#: upright orientation had the highest of the four scores
UPRIGHT_SCORE, TURN_SCORE = 0.999, 0.99


@dataclass(frozen=True, eq=False)
class Face:
    """A detected face.

    Coordinates are photograph pixels with edges at pixel borders (the first pixel's centre lies at 0.5, 0.5), columns
    first; left and right are the viewer's.

    Args:
        box: left, top, right, bottom of the part inside the photograph.
        score: the detector's confidence, 0 to 1.
        landmarks: (5, 2) left eye, right eye, nose tip, left mouth corner, right mouth corner, each (column, row).
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: np.ndarray

    @property
    def area(self) -> float:
        """Area of the box in square pixels."""
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)


def detect_faces(image: np.ndarray, device: str | None = None) -> list[Face]:
    """Detect every face in a photograph, largest first.

    Args:
        image: (h, w, 3) uint8 RGB.
        device: device of the detector ("cpu", "cuda", ...); the CPU by default.

    Returns:
        The faces, largest visible box first; may be empty.

    Raises:
        LatentrotError: the array is not an image.
    """
    from latentrot.faces.mtcnn import load_mtcnn  # noqa: PLC0415  (torch is slow to import)

    check_image(image)
    height, width = image.shape[:2]
    shrink = min(1.0, MAX_SIDE / max(height, width))
    searched = Image.fromarray(image)
    if shrink < 1:
        size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
        searched = searched.resize(size, Image.Resampling.LANCZOS)
    if min(searched.size) < MIN_FACE:
        return []
    boxes, scores, landmarks = load_mtcnn(str(device or "cpu"), MIN_FACE).detect(np.asarray(searched))
    back = np.array([width / searched.width, height / searched.height])
    # the detector counts box pixels from 1, both ends inclusive, and landmarks from the border of the first pixel
    corners = (np.asarray(boxes, np.float64) - [1, 1, 0, 0]) * np.tile(back, 2)
    corners = np.clip(corners, 0, [width, height, width, height])  # only the visible part of a face counts
    points = np.asarray(landmarks, np.float64) * back
    faces = [
        Face((float(b[0]), float(b[1]), float(b[2]), float(b[3])), float(s), p)
        for b, s, p in zip(corners, scores, points, strict=True)
    ]
    return sorted(faces, key=lambda face: -face.area)


def detect_upright(image: np.ndarray, device: str | None = None) -> tuple[list[Face], int]:
    """Detect every face in a photograph of unknown orientation.

    The detector finds faces in any orientation, but with a lower score if they are not upright: below `UPRIGHT_SCORE` all
    four orientations are tried and the one with the highest score is used.

    Args:
        image: (h, w, 3) uint8 RGB.
        device: as for `detect_faces`.

    Returns:
        The faces, largest first, and the counterclockwise quarter turns (`np.rot90`) after which they were found.
    """
    found = detect_faces(image, device)
    if best_score(found) >= UPRIGHT_SCORE:
        return found, 0
    tried = [found, *(detect_faces(np.ascontiguousarray(np.rot90(image, turns)), device) for turns in (1, 2, 3))]
    turns = max(range(4), key=lambda t: best_score(tried[t]))
    return (tried[turns], turns) if best_score(tried[turns]) >= TURN_SCORE else (found, 0)


def best_score(faces: Sequence[Face]) -> float:
    """Highest score of the faces; 0 if there are none."""
    return max((face.score for face in faces), default=0.0)


def refine_landmarks(squares: np.ndarray, device: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Refine landmarks with the detector's last network, in squares that each contain one face.

    Args:
        squares: (n, 48, 48, 3) uint8; the face from brow to chin nearly fills the square.
        device: device of the network; the CPU by default.

    Returns:
        (n, 5, 2) landmarks as shares of the square's side, ordered as in `Face`; (n,) confidence, 0 to 1.
    """
    import torch  # noqa: PLC0415  (slow to import)

    from latentrot.faces.mtcnn import load_mtcnn  # noqa: PLC0415

    x = torch.from_numpy(np.ascontiguousarray(squares)).to(device or "cpu").permute(0, 3, 1, 2).float()
    network = load_mtcnn(str(device or "cpu"), MIN_FACE)
    with torch.inference_mode():
        found = network.output(x)
    points = found["landmarks"].double().cpu().numpy().reshape(-1, 2, 5).transpose(0, 2, 1)
    return points, found["face"].cpu().numpy()


def choose_face(faces: Sequence[Face], which: str | int = "largest") -> tuple[Face, str]:
    """Choose the face to edit.

    Args:
        faces: as `detect_faces` returns them, largest first.
        which: "largest", or the index of a face in that order, from 0.

    Returns:
        The face, and a warning for the user, which is non-empty if one of several faces was chosen by default.

    Raises:
        LatentrotError: there is no face, the index is too large, or `which` is neither "largest" nor an index.
    """
    if not faces:
        raise LatentrotError(
            "no face found in the photograph; use one with a larger, clearer face, "
            "or --crop for an image that is already cropped to the face"
        )
    if which != "largest":
        return _face_at(faces, which), ""
    face = faces[0]
    if len(faces) == 1:
        return face, ""
    column, row = round((face.box[0] + face.box[2]) / 2), round((face.box[1] + face.box[3]) / 2)
    others = " or ".join(f"--face {i}" for i in range(1, min(len(faces), 4)))
    verb = "chooses" if len(faces) <= 4 else "and so on choose"
    return face, f"{len(faces)} faces found, using the largest (face 0, at {column},{row}); {others} {verb} another"


def _face_at(faces: Sequence[Face], which: str | int) -> Face:
    try:
        index = int(which)
    except ValueError as error:
        raise LatentrotError(f'face {which!r} is neither "largest" nor a number from 0') from error
    if not 0 <= index < len(faces):
        count = (
            "1 face was found; use 0"
            if len(faces) == 1
            else f"{len(faces)} faces were found; use 0 to {len(faces) - 1}"
        )
        raise LatentrotError(f"no face {index}: {count} (0 is the largest)")
    return faces[index]
