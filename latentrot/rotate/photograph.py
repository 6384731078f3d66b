"""From a photograph to a turned photograph: find the face, turn its crop, paste it back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latentrot.data.align import Alignment, align_landmarks
from latentrot.data.detect import choose_face, detect_faces
from latentrot.data.images import read_image, resize, strip, write_image
from latentrot.errors import LatentrotError
from latentrot.files import write_atomically
from latentrot.rotate.latent import Clock, LatentRotator, Turned

__all__ = ["Edited", "edit_photograph", "parse_sweep", "write_edited"]


@dataclass(frozen=True, eq=False)
class Edited:
    """A photograph and its turned versions.

    Attributes:
        path: the photograph.
        photo: (h, w, 3) uint8 RGB, upright.
        photos: one (h, w, 3) uint8 per frame, the turned face pasted back.
        turned: the crop's turns with their measurements.
        model: name of the model.
        notes: what the user should know, such as which of several faces was used.
        alignment: photograph -> CelebA frame; None for a picture that was a crop already.
    """

    path: Path
    photo: np.ndarray
    photos: list[np.ndarray]
    turned: Turned
    model: str
    notes: list[str]
    alignment: Alignment | None

    def report(self, output: Path | None) -> dict[str, object]:
        """The edit in plain numbers: degrees, decibels, seconds."""
        turned = self.turned
        frames = [
            {
                "requested_deg": round(f.requested_deg, 2),
                "yaw_before_deg": round(turned.yaw_deg, 2),
                "yaw_after_deg": round(f.yaw_deg, 2),
                "pitch_before_deg": round(turned.pitch_deg, 2),
                "pitch_after_deg": round(f.pitch_deg, 2),
                "light_after": f.light,
            }
            for f in turned.frames
        ]
        common: dict[str, object] = {
            "input": str(self.path),
            "output": None if output is None else str(output),
            "model": self.model,
            "light": turned.light,
        }
        measured: dict[str, object] = {
            "round_trip_psnr_db": round(turned.round_trip_psnr_db, 2),
            "seconds": {k: round(v, 3) for k, v in turned.seconds.items()},
            "notes": self.notes,
        }
        if len(frames) == 1:
            return {**common, **frames[0], **measured}
        ends = {k: [f[k] for f in frames] for k in ("requested_deg", "yaw_after_deg", "pitch_after_deg")}
        before = {k: frames[0][k] for k in ("yaw_before_deg", "pitch_before_deg")}
        return {**common, **ends, **before, **measured, "frames": frames}


def parse_sweep(text: str) -> list[float]:
    """Read "-30:30:7": seven turns from -30 to 30 degrees."""
    parts = text.split(":")
    try:
        first, last, count = float(parts[0]), float(parts[1]), int(parts[2])
    except (ValueError, IndexError) as error:
        raise LatentrotError(f"--sweep {text}: expected FIRST:LAST:COUNT, for example -30:30:7") from error
    if len(parts) != 3 or not 2 <= count <= 200 or not np.isfinite([first, last]).all():
        raise LatentrotError(f"--sweep {text}: expected FIRST:LAST:COUNT with 2 to 200 frames")
    return [float(v) for v in np.linspace(first, last, count)]


def edit_photograph(
    path: Path,
    rotator: LatentRotator,
    degrees: Sequence[float],
    *,
    absolute: bool = False,
    light: str = "auto",
    face: str = "largest",
    crop: bool = False,
) -> Edited:
    """Turn the face in a photograph.

    Args:
        path: the picture file.
        rotator: from `load_latent_rotator`.
        degrees: turns, or poses to reach if `absolute`; > 0: nose to the viewer's right.
        absolute: degrees are poses.
        light: auto, left, center or right.
        face: "largest" or the number of a face.
        crop: the picture is already a square crop in the CelebA frame: no detection, no pasting.

    Raises:
        LatentrotError: an unreadable picture, no face in it, no such face, not a square crop.
    """
    clock = Clock()
    photo = read_image(path)
    clock.lap("read")
    notes: list[str] = []
    alignment = None
    if crop:
        if photo.shape[0] != photo.shape[1]:
            raise LatentrotError(f"{path} is {photo.shape[1]}x{photo.shape[0]}; --crop expects a square face crop")
        square = photo
    else:
        found, note = choose_face(detect_faces(photo), face)
        notes += [note] if note else []
        alignment = align_landmarks(found.landmarks, (photo.shape[1], photo.shape[0]))
        square = alignment.crop(photo, rotator.model.resolution)
    clock.lap("find face")

    turned = rotator.turn(square, degrees, absolute=absolute, light=light)
    low, high = rotator.lines_of(turned.light).reach
    beyond = [f for f in turned.frames if not low <= f.requested_deg <= high]
    if beyond:
        notes.append(
            f"{beyond[0].requested_deg:+.0f} degrees is beyond what was calibrated ({low:+.0f} to {high:+.0f})"
        )

    if alignment is None:
        photos = [f.image for f in turned.frames]
    else:
        photos = [alignment.paste(photo, turned.reconstruction, f.image) for f in turned.frames]
    clock.lap("turn")
    spent = clock.seconds.pop("turn") - sum(turned.seconds.values())
    turned.seconds.update(clock.seconds)
    turned.seconds["paste"] = spent
    return Edited(path, photo, photos, turned, rotator.model.name, notes, alignment)


def face_strip(edited: Edited, side: int = 192) -> np.ndarray:
    """The source crop and the turned crops side by side, enlarged to `side` pixels each."""
    if edited.alignment is None:
        faces = [edited.photo, *edited.photos]
        return strip([resize(f, side) for f in faces])
    return strip([edited.alignment.crop(p, side) for p in [edited.photo, *edited.photos]])


def write_edited(edited: Edited, out: Path) -> list[Path]:
    """Write an edit: to a file the turned picture (a strip for several frames), to a folder strip, pictures and report.

    Returns:
        The files written, each whole or not at all.
    """
    facts = {
        "Software": "latentrot",
        "Description": "synthetic: the face was turned by latentrot",
        "latentrot": json.dumps(
            {"model": edited.model, "turned_deg": [round(f.requested_deg, 2) for f in edited.turned.frames]}
        ),
    }
    if out.suffix:
        picture = edited.photos[0] if len(edited.photos) == 1 else face_strip(edited)
        write_image(out, picture, facts)
        return [out]
    written = [out / "strip.png"]
    make_folder(out)
    write_image(written[0], face_strip(edited), facts)
    for i, photo in enumerate(edited.photos):
        name = out / ("turned.png" if len(edited.photos) == 1 else f"turned-{i:02d}.png")
        write_image(name, photo, facts)
        written.append(name)
    report = out / "report.json"
    text = json.dumps(edited.report(out), indent=2) + "\n"
    write_atomically(report, lambda p: p.write_text(text))
    return [*written, report]


def make_folder(path: Path) -> None:
    """Make a folder for results."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LatentrotError(f"cannot make the folder {path}: {error.strerror}") from error
