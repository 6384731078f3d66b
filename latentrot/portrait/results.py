"""Write the results of an edit: an image, a strip, an animation or a folder, and a report as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from itertools import chain
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from latentrot.data.animation import ANIMATED, check_encoder, forwards_and_backwards, shrink_to_side, write_animation
from latentrot.data.arrays import resize, strip
from latentrot.data.images import ENCODERS, as_png, check_target, write_image, write_photograph
from latentrot.data.metadata import SOURCE_TYPE, SYNTHETIC
from latentrot.errors import LatentrotError, one_line
from latentrot.files import check_writable, create_folder, is_same_file, write_atomically
from latentrot.output import write_output_folder

if TYPE_CHECKING:
    from latentrot.portrait.face import EditedFace
    from latentrot.portrait.photograph import Edited

__all__ = ["check_out", "face_strip", "report", "synthetic_metadata", "write_edited"]

#: max longer side of an animation, and min side of an animated crop, pixels
LONGEST_SIDE, CROP_SIDE = 1280, 256
#: duration of one pass of a sweep, and bounds of the duration of a frame, milliseconds
ONE_WAY_MS, FRAME_MS = 1500, (30, 250)
#: duration of each frame that alternates source and result, milliseconds
BEFORE_AFTER_MS = 1000


# ---- outputs ----------------------------------------------------------------------------------------------------


def is_folder(out: Path) -> bool:
    """Whether an output is a folder: an existing folder, or a name without a suffix."""
    return os.path.isdir(out) or not out.suffix


def is_animation_file(out: Path, count: int) -> bool:
    """Whether an output file is an animation: .gif and .mp4 always, .webp if there are several results."""
    return out.suffix.lower() in ANIMATED and (out.suffix.lower() != ".webp" or count > 1)


def check_out(out: Path, source: Path, count: int) -> None:
    """Refuse an output that cannot be written, before any computation.

    Args:
        out: file or folder.
        source: the photograph, which is never overwritten.
        count: number of results.

    Raises:
        LatentrotError: the suffix is unknown, its encoder or the folder is missing, permission is denied, the disk is full,
            or the output is the source photograph.
    """
    if is_folder(out):
        check_writable(out)
        return
    if out.suffix.lower() not in (*ENCODERS, *ANIMATED):
        raise LatentrotError(
            f"cannot write {one_line(out)}: unknown suffix {one_line(out.suffix)!r}; use .png, .jpg, .webp, .gif or "
            ".mp4, or a name without a suffix for a folder"
        )
    if is_animation_file(out, count):
        check_encoder(out)
    check_target(out)
    check_writable(out)
    if is_same_file(out, source):
        raise LatentrotError(f"{one_line(out)} is the photograph itself; choose another name")


# ---- images ---------------------------------------------------------------------------------------------------


def face_strip(edited: Edited, side: int = 192) -> np.ndarray:
    """Strip of crops resized to `side` pixels: one row per face, the source first, then each result."""
    pictures = chain([edited.before], map(edited.image_at, range(edited.count)))
    if edited.is_square:
        return strip([resize(p, side) for p in pictures])
    aligned = [face.alignment for face in edited.faces if face.alignment is not None]
    columns = [[a.crop(p, side) for a in aligned] for p in pictures]
    return strip([crop for row in zip(*columns, strict=True) for crop in row], columns=len(columns))


def shown(picture: np.ndarray) -> np.ndarray:
    """Resize an animation frame: photographs to at most `LONGEST_SIDE`, crops to at least `CROP_SIDE` pixels."""
    if picture.shape[0] == picture.shape[1] < CROP_SIDE:
        return resize(picture, CROP_SIDE)
    return shrink_to_side(picture, LONGEST_SIDE)


def preview(edited: Edited) -> bytes:
    """PNG bytes for a notebook, max side 1280 pixels: the photograph of a single result, the strip of several."""
    image = shown(edited.image) if edited.count == 1 else shrink_to_side(face_strip(edited), LONGEST_SIDE)
    return as_png(image, metadata_of(edited))


def animate(edited: Edited) -> tuple[list[np.ndarray], int]:
    """Frames of an animation and the duration of each in milliseconds.

    A sweep plays forwards, then backwards; a single result alternates with its source.
    """
    frames = [shown(edited.image_at(i)) for i in range(edited.count)]
    if len(frames) == 1:
        return [shown(edited.before), *frames], BEFORE_AFTER_MS
    return forwards_and_backwards(frames), int(round(float(np.clip(ONE_WAY_MS / len(frames), *FRAME_MS)), -1))


# ---- reports ----------------------------------------------------------------------------------------------------


def metadata_of(edited: Edited) -> dict[str, str]:
    """Metadata of every written file: the label "synthetic", the model, and requested and measured rotations."""
    faces = [
        {
            "asked_deg": [round(f.requested_deg, 2) for f in face.turned.frames],
            **{
                f"asked_{name}_deg": [round(getattr(t, name), 2) for t in face.turns]
                for name in ("pitch", "roll")
                if any(getattr(t, name) for t in face.turns)
            },
            "measured_deg": [round(f.yaw_deg - face.turned.yaw_deg, 2) for f in face.turned.frames],
        }
        for face in edited.faces
    ]
    turned = faces[0] if len(faces) == 1 else {"faces": faces}
    extra = {"reified": True} if edited.config.reify else {}
    extra |= {"upscaled_by": edited.upscaler} if edited.upscaler else {}
    extra |= properties_of(edited)
    extra |= previous_edit(edited.photograph.history)
    return synthetic_metadata({"model": edited.model, **extra, **turned})


def previous_edit(history: str) -> dict[str, object]:
    """Metadata of the previous edit of the file, which in turn contains that of the edit before it."""
    try:
        return {"earlier": json.loads(history)} if history else {}
    except ValueError:
        return {"earlier": history}


def synthetic_metadata(details: Mapping[str, object]) -> dict[str, str]:
    """Metadata that marks a file as synthetic, for `write_image` and `write_animation`.

    Args:
        details: details of the edit, such as model and degrees; written as JSON.
    """
    return {
        "Software": "latentrot",
        "Description": "synthetic: the face was edited by latentrot",
        SOURCE_TYPE: SYNTHETIC,
        "latentrot": json.dumps(details),
    }


def report(edited: Edited, output: Path | None) -> dict[str, object]:
    """Report of an edit, ready for JSON: degrees, dB, seconds; several faces form a list, the largest first."""
    common = {
        "input": str(edited.path),
        "output": None if output is None else str(output),
        "model": edited.model,
        **({"upscaled_by": edited.upscaler} if edited.upscaler else {}),
    }
    common |= properties_of(edited)
    last = {"notes": edited.warnings, **({"edit": edited.recipe.as_json()} if edited.recipe else {})}
    faces = [face_report(face) for face in edited.faces]
    if len(faces) == 1:
        return {**common, **faces[0], **last}
    return {**common, "faces": faces, **last}


def properties_of(edited: Edited) -> dict[str, object]:
    """Results of the edited properties: one entry per setting, and per face if there are several."""
    from latentrot.portrait.properties import property_report  # noqa: PLC0415  slow to import

    reports = [[property_report(r) for r in v.appearance.reports] for v in edited.variations if v.appearance.reports]
    each = [r[0] if len(r) == 1 else r for r in reports]
    return {"properties": each[0] if len(each) == 1 else each} if each else {}


def face_report(face: EditedFace) -> dict[str, object]:
    """Report of one face: plain values for a single rotation, lists for several."""
    turned = face.turned
    frames = [
        {
            "requested_deg": round(f.requested_deg, 2),
            "yaw_before_deg": round(turned.yaw_deg, 2),
            "yaw_after_deg": round(f.yaw_deg, 2),
            "pitch_before_deg": round(turned.pitch_deg, 2),
            "pitch_after_deg": round(f.pitch_deg, 2),
            "light_after": f.light,
            **({"drawn_turn_deg": round(f.drawn_deg, 2), "held_at_limit": f.clamped} if isfinite(f.drawn_deg) else {}),
            **({"requested_pitch_deg": round(turn.pitch, 2)} if turn.pitch else {}),
            **({"requested_roll_deg": round(turn.roll, 2)} if turn.roll else {}),
            **({"carried": round(face.coverage[i], 3)} if face.coverage else {}),
        }
        for i, (f, turn) in enumerate(zip(turned.frames, face.turns, strict=True))
    ]
    measured: dict[str, object] = {
        **({"round_trip_psnr_db": round(turned.round_trip_psnr_db, 2)} if isfinite(turned.round_trip_psnr_db) else {}),
        "seconds": {k: round(v, 3) for k, v in turned.seconds.items()},
    }
    if len(frames) == 1:
        return {"light": turned.light, **frames[0], **measured}
    ends = {k: [f[k] for f in frames] for k in ("requested_deg", "yaw_after_deg", "pitch_after_deg")}
    before = {k: frames[0][k] for k in ("yaw_before_deg", "pitch_before_deg")}
    return {"light": turned.light, **ends, **before, **measured, "frames": frames}


# ---- files ------------------------------------------------------------------------------------------------------


def write_edited(edited: Edited, out: Path) -> list[Path]:
    """Write an edit.

    Args:
        edited: from `edit_photograph`.
        out: an image (.png, .jpg; .webp of a single result): the edited photograph, or a strip of several results. An
            animation (.gif, .mp4; .webp of several results): see `animate`. A folder: strip, images and report.

    Returns:
        The files written, each atomically.
    """
    metadata = metadata_of(edited)
    if is_folder(out):
        return write_output_folder(out, lambda: write_folder(edited, out, metadata))
    if is_animation_file(out, edited.count):
        frames, milliseconds = animate(edited)
        write_animation(out, frames, milliseconds, metadata)
    else:
        write_still(out, edited, metadata)
    return [out]


def write_still(out: Path, edited: Edited, metadata: dict[str, str]) -> None:
    """Write an image: the single result, or a strip of several."""
    if edited.count == 1:
        write_turn(out, edited, 0, metadata)
    else:
        write_image(out, face_strip(edited), metadata)


def write_turn(out: Path, edited: Edited, i: int, metadata: dict[str, str]) -> None:
    """Write the i-th result as an image; a photograph keeps its colour profile."""
    if edited.is_square:
        write_image(out, edited.image_at(i), metadata)
    else:
        write_photograph(out, edited.image_at(i), edited.photograph, metadata)


def write_views(edited: Edited, folder: Path, stem: str) -> list[dict[str, object]]:
    """Write each result as an image whose name contains its pose.

    Returns:
        A row of views.csv for each image: file, source, requested and measured degrees, and coverage ("carried").
    """
    create_folder(folder)
    metadata, face = metadata_of(edited), edited.faces[0]
    rows: list[dict[str, object]] = []
    for i, (turn, frame) in enumerate(zip(face.turns, face.turned.frames, strict=True)):
        name = f"{stem}_{turn.name}{setting_name(edited, i)}.png"
        write_turn(folder / name, edited, i, metadata)
        rows.append(
            {
                "file": f"{folder.name}/{name}",
                "source": edited.path.name,
                "turn_yaw_deg": round(turn.yaw, 2),
                "turn_pitch_deg": round(turn.pitch, 2),
                **({"turn_roll_deg": round(turn.roll, 2)} if turn.roll else {}),
                "yaw_deg": round(frame.yaw_deg, 2),
                "pitch_deg": round(frame.pitch_deg, 2),
                **({"carried": round(face.coverage[i], 3)} if face.coverage else {}),
            }
        )
    return rows


def setting_name(edited: Edited, i: int) -> str:
    """Properties of the i-th result as a part of its file name, such as _smile+1; empty if there is only one setting."""
    if len(edited.variations) == 1:
        return ""
    reports = edited.variation_of(i)[0].appearance.reports
    wanted = [(row.name, row.wanted) for row in reports[0].properties] if reports else []
    return "".join(f"_{n}{w}" for n, w in wanted)


def write_folder(edited: Edited, out: Path, metadata: dict[str, str]) -> list[Path]:
    """Create a folder and write strip.png, the edited images and report.json into it."""
    create_folder(out)
    written = [out / "strip.png"]
    write_image(written[0], face_strip(edited), metadata)
    for i in range(edited.count):
        name = out / ("turned.png" if edited.count == 1 else f"turned-{i:02d}.png")
        write_turn(name, edited, i, metadata)
        written.append(name)
    path = out / "report.json"
    text = json.dumps(report(edited, out), indent=2) + "\n"
    write_atomically(path, lambda p: p.write_text(text))
    return [*written, path]
