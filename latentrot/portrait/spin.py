"""A head from all around as files: of a photograph, of a new person, or between two people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from latentrot.data.animation import write_animation
from latentrot.data.images import resize, strip, to_uint8, write_image
from latentrot.errors import LatentrotError
from latentrot.files import write_atomically
from latentrot.output import write_owned
from latentrot.portrait.portrait import Portrait
from latentrot.portrait.results import make_folder, synthetic_metadata
from latentrot.rotators.spin.reconstruct import export_views
from latentrot.rotators.spin.rotator import SpinRotator, pose_of
from latentrot.rotators.spin.sample import SpinViews, draw_views, identity_of, spin

__all__ = ["Spun", "circle", "spin_between", "spin_new", "spin_photograph", "write_between", "write_spun"]

#: milliseconds a round of the turntable takes, and its side in pixels
ROUND_MS, SHOWN_PX = 4_800, 192
#: people between two, and the yaws each is shown at: what is drawn together in one sample
BETWEEN = 7
YAWS = (-135.0, -90.0, -45.0, 0.0, 45.0, 90.0, 135.0, 180.0)


@dataclass(frozen=True, eq=False)
class Spun:
    """A head from all around.

    Attributes:
        views: in order of yaw.
        warnings: what the user should know.
        facts: for the files' metadata.
    """

    views: SpinViews
    warnings: tuple[str, ...]
    facts: dict[str, object]


def circle(count: int, pitch: float = 0.0) -> torch.Tensor:
    """(count, 2) poses all around, the front among them: yaws evenly from -180 on."""
    yaw = (torch.arange(count) - count // 2) * (360 / count)
    return torch.stack([yaw, torch.full_like(yaw, pitch)], 1)


def spin_photograph(portrait: Portrait, rotator: SpinRotator, count: int, pitch: float = 0.0) -> Spun:
    """The head in a photograph from all around.

    Args:
        portrait: from `open_portrait`.
        rotator: from `load_rotator`.
        count: views.
        pitch: of the views, degrees.
    """
    crop = crop_of(portrait, rotator)
    pose = pose_of(crop)
    views = rotator.spun(crop, pose, circle(count, pitch))
    facts = {"source": portrait.path.name, "yaw_deg": round(float(pose[0]), 1), "pitch_deg": round(float(pose[1]), 1)}
    return Spun(views, (*portrait.warnings, *rotator.model.warnings), facts | facts_of(rotator))


def spin_new(rotator: SpinRotator, count: int, pitch: float = 0.0) -> Spun:
    """Somebody who does not exist; who, the seed says."""
    views = spin(rotator.model, None, torch.zeros(2), circle(count, pitch), config=rotator.sample)
    return Spun(views, rotator.model.warnings, {"source": "nobody"} | facts_of(rotator))


def spin_between(portraits: Sequence[Portrait], rotator: SpinRotator) -> list[SpinViews]:
    """People between two, who are told by their identity alone, from the same noise: the first, those between, the second.

    Raises:
        LatentrotError: the model is told nobody.
    """
    if rotator.model.person is None:
        why = rotator.model.warnings or (f"{rotator.name} was trained without identities",)
        raise LatentrotError(f"{why[0]}; people between two need a model that is told who it is")
    first, second = (identity_of(rotator.model, crop_of(portrait, rotator)) for portrait in portraits)
    asked = torch.tensor([[yaw, 0.0] for yaw in YAWS])
    shares = torch.linspace(0, 1, BETWEEN + 2).tolist()
    return [draw_views(rotator.model, None, asked, mixed(first, second, share), rotator.sample) for share in shares]


def mixed(a: torch.Tensor, b: torch.Tensor, share: float) -> torch.Tensor:
    """A unit vector on the great circle from a to b."""
    angle = torch.arccos((a @ b).clamp(-1, 1))
    if angle < 1e-4:
        return a
    return (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / torch.sin(angle)


def crop_of(portrait: Portrait, rotator: SpinRotator) -> np.ndarray:
    """The face crop a model is given: (s, s, 3) uint8 in the CelebA frame."""
    crops = portrait.alignments
    return crops[0].crop(portrait.image, 2 * rotator.model.resolution) if crops else portrait.image


def facts_of(rotator: SpinRotator) -> dict[str, object]:
    """What a file says of how it was made."""
    sample = rotator.sample
    return {"model": rotator.name, "steps": sample.steps, "guidance": sample.guidance, "seed": sample.seed}


# --- files ---------------------------------------------------------------------------------------------------------------


def as_pictures(views: SpinViews) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Images, and normals as images."""
    return list(to_uint8(views.images[:, :3])), list(to_uint8(views.images[:, 3:]))


def write_spun(spun: Spun, out: Path, *, motion: str, mesh: str | None) -> list[Path]:
    """As `spun_files`, as one run's; returns the two folders of images and the other files."""
    files = write_owned(out, lambda: spun_files(spun, out, motion=motion, mesh=mesh))
    return list(dict.fromkeys(f if f.parent == out else f.parent for f in files))


def spun_files(spun: Spun, out: Path, *, motion: str, mesh: str | None) -> list[Path]:
    """Write views/, normals/, poses.csv, sheet.png, turntable.MOTION and head.MESH into a folder; returns all files.

    Args:
        spun: a head.
        out: the folder.
        motion: gif, webp or mp4, which needs PyAV.
        mesh: glb or ply, which need trimesh; None: no mesh.
    """
    files: list[Path] = []
    images, normals = as_pictures(spun.views)
    metadata = synthetic_metadata(spun.facts)
    for name, pictures in (("views", images), ("normals", normals)):
        make_folder(out / name)
        for i, picture in enumerate(pictures):
            files.append(out / name / f"{i:03d}.png")
            write_image(files[-1], picture, metadata)
    table = pd.DataFrame(spun.views.pose.numpy().round(3), columns=["yaw_deg", "pitch_deg"])
    table.insert(0, "image_id", [f"{i:03d}.png" for i in range(len(table))])
    write_atomically(out / "poses.csv", lambda p: table.to_csv(p, index=False))
    shown = [np.concatenate([resize(p, SHOWN_PX) for p in pair], 1) for pair in zip(images, normals, strict=True)]
    turntable = out / f"turntable.{motion}"
    write_animation(turntable, shown, ROUND_MS // len(shown), metadata)
    some = np.unique(np.linspace(0, len(images) - 1, 8).astype(int))
    sheet = strip([images[i] for i in some] + [normals[i] for i in some], columns=len(some))
    write_image(out / "sheet.png", sheet, metadata)
    files += [out / "poses.csv", turntable, out / "sheet.png"]
    if mesh is not None:
        files.append(out / f"head.{mesh}")
        export_views(spun.views, files[-1])
    return files


def write_between(people: Sequence[SpinViews], out: Path, facts: Mapping[str, object], *, motion: str) -> list[Path]:
    """Write between.png, a person a row, and between.MOTION, their faces in motion (gif, webp or mp4)."""
    return write_owned(out, lambda: between_files(people, out, facts, motion))


def between_files(people: Sequence[SpinViews], out: Path, facts: Mapping[str, object], motion: str) -> list[Path]:
    """The files of `write_between`."""
    metadata, faces = synthetic_metadata(facts), [as_pictures(views)[0] for views in people]
    write_image(out / "between.png", strip([p for row in faces for p in row], columns=len(YAWS)), metadata)
    front = YAWS.index(0.0)
    moving = out / f"between.{motion}"
    write_animation(moving, [resize(row[front], SHOWN_PX) for row in faces], 250, metadata)
    return [out / "between.png", moving]
