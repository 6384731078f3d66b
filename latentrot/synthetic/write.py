"""Write a folder of rendered heads in CelebA's layout, so that every command can read it."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from latentrot.errors import LatentrotError
from latentrot.files import write_atomically
from latentrot.synthetic.head_model import ICT_PATH, HeadModel, landmarks, load_head_model, mouth_gap_cm
from latentrot.synthetic.sample import (
    EXPRESSIONS,
    SIDES,
    TEST_SEED,
    HeadConfig,
    HeadParameters,
    light_side,
    sample_head,
    with_light_of,
    with_pose,
)
from latentrot.synthetic.shade import LARGEST, SMALLEST, render

__all__ = ["GENERATOR", "HeadFolder", "ViewGrid", "parse_degrees", "write_heads"]

#: version of the renderer, raised whenever the same settings give different images
GENERATOR = 1
#: offset of the head numbers from which the shared light of an illumination class is drawn
SHARED_LIGHT = 2**31
#: number of images that a process renders between progress reports
CHUNK = 16
IMAGES, MASKS, NORMALS = "img_align_celeba", "masks", "normals"
MOUTH_OPEN_CM, PALE_TONE, SMILE = 0.3, 0.12, 0.3


@dataclass(frozen=True)
class ViewGrid:
    """A grid of views of every head, which differ in pose only.

    Args:
        yaws: yaws in degrees; > 0: nose to the viewer's right.
        pitches: pitches in degrees, each combined with every yaw; > 0: looks up.
        same_light: all heads of one illumination class have the same light and background.
    """

    yaws: tuple[float, ...] = tuple(float(y) for y in range(-90, 91, 15))
    pitches: tuple[float, ...] = (0.0,)
    same_light: bool = False

    def __post_init__(self) -> None:
        for name, limit in (("yaws", 180), ("pitches", 60)):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values) or not all(abs(v) <= limit for v in values):
                raise LatentrotError(f"{name} {values}: expected distinct angles of at most {limit} degrees")


@dataclass(frozen=True)
class HeadFolder:
    """Contents of a folder of heads.

    Args:
        seed: seed of the set; seeds from TEST_SEED on are for testing only.
        count: number of heads; each gives one image, or one image per view.
        size: side of the square images in pixels.
        maps: also write masks and normals.
        config: distribution of the heads.
        views: grid of views of every head; None: one image per head.
        model: the face model, made by `latentrot heads import`.
    """

    seed: int = 0
    count: int = 1000
    size: int = 64
    maps: bool = False
    config: HeadConfig = field(default_factory=HeadConfig)
    views: ViewGrid | None = None
    model: Path = ICT_PATH

    def __post_init__(self) -> None:
        if self.seed < 0 or self.count < 1:
            raise LatentrotError(
                f"seed {self.seed}, count {self.count}: expected a seed of 0 or more and at least 1 head"
            )
        if not SMALLEST <= self.size <= LARGEST:
            raise LatentrotError(f"size {self.size}: expected {SMALLEST} to {LARGEST} pixels a side")

    @property
    def poses(self) -> list[tuple[float, float]]:
        """Yaw and pitch of each view of a head; empty without views."""
        return [(y, p) for p in self.views.pitches for y in self.views.yaws] if self.views else []

    @property
    def image_count(self) -> int:
        """Number of images."""
        return self.count * max(1, len(self.poses))

    def head_of(self, image: int) -> int:
        """Number of the head in an image, counted from 0."""
        return image // max(1, len(self.poses))

    def head(self, image: int) -> HeadParameters:
        """The head in an image, in its pose and light; images are counted from 0."""
        if self.views is None:
            return sample_head(self.seed, image, self.config)
        yaw, pitch = self.poses[image % len(self.poses)]
        return with_pose(_viewed(self.seed, self.head_of(image), self.config, self.views.same_light), yaw, pitch)

    def settings(self) -> dict[str, Any]:
        """Contents of heads.json: everything on which the images depend."""
        return {
            "generator": GENERATOR, "seed": self.seed, "test_seeds_from": TEST_SEED, "count": self.count, "size": self.size,
            "maps": self.maps, "config": asdict(self.config),
            "views": None if self.views is None else json.loads(json.dumps(asdict(self.views))),
            "model_sha256": _digest(self.model),
        }  # fmt: skip


@lru_cache(maxsize=64)
def _viewed(seed: int, index: int, config: HeadConfig, same_light: bool) -> HeadParameters:
    """Draw a head; from one number to the next the light cycles through left, center, right."""
    side = SIDES[index % len(SIDES)]
    head = sample_head(seed, index, config, side)
    shared = SHARED_LIGHT + index % len(SIDES)
    return with_light_of(head, sample_head(seed, shared, config, side)) if same_light else head


def parse_degrees(text: str) -> tuple[float, ...]:
    """Parse angles in degrees: `-45:45:15` (from, to, step) or `-20,0,20`.

    Raises:
        LatentrotError: the text has neither form, or the step does not lead from the first to the last angle.
    """
    try:
        if ":" not in text:
            return tuple(float(part) for part in text.split(","))
        first, last, step = (float(part) for part in text.split(":"))
    except ValueError as error:
        raise LatentrotError(
            f"angles {text!r}: expected FROM:TO:STEP such as -45:45:15, or a list such as -20,0,20"
        ) from error
    if not (step > 0 and last >= first and (last - first) / step <= 360):
        raise LatentrotError(f"angles {text!r}: expected a positive step that leads from the first angle to the last")
    return tuple(first + step * k for k in range(int((last - first) / step + 1e-9) + 1))


def image_id(image: int) -> str:
    """File name of an image, counted from 1 as in CelebA; `image` is counted from 0."""
    return f"{image + 1:06d}.png"


# --- images -------------------------------------------------------------------------------------------------------


def write_heads(folder: HeadFolder, out: Path | str, jobs: int = 1) -> int:
    """Render the missing images of a folder of heads, and write its tables.

    The images do not depend on the number of processes or on interruptions. Besides `img_align_celeba/` the
    folder gets heads.json, list_attr_celeba.csv (known attributes only), identity_CelebA.csv,
    list_landmarks_align_celeba.csv (in the 178x218 frame), pose.csv and light.csv; with maps `masks/` (0 background, 1
    face, 2 hair) and `normals/`; with views views.csv.

    Args:
        folder: contents of the folder.
        out: target folder.
        jobs: number of processes.

    Returns:
        Number of images rendered by this call.

    Raises:
        LatentrotError: the folder was rendered with other settings or is not writable, or the face model is missing.
    """
    out = Path(out)
    if jobs < 1:
        raise LatentrotError(f"jobs {jobs}: expected at least 1")
    model = load_head_model(folder.model)  # fail before the first file is written
    _claim(folder, out)
    for name in (IMAGES, *((MASKS, NORMALS) if folder.maps else ())):
        (out / name).mkdir(parents=True, exist_ok=True)
    there = {entry.name for entry in os.scandir(out / IMAGES)}
    missing = [p for p in range(folder.image_count) if image_id(p) not in there]
    with tqdm(total=len(missing), unit="head", disable=None) as progress:
        for done in _draw_all(folder, out, missing, jobs):
            progress.update(done)
    _write_tables(folder, model, out)
    return len(missing)


def _claim(folder: HeadFolder, out: Path) -> None:
    """Write heads.json, or compare the settings with the existing one; only the number of heads may increase."""
    path, wanted = out / "heads.json", folder.settings()
    if path.is_file():
        there = _read_settings(path)
        for name, value in wanted.items():
            if there.get(name) != value and not (name == "count" and there.get(name, 0) < value):
                raise LatentrotError(
                    f"{out} was made with {name} {json.dumps(there.get(name))}, not {json.dumps(value)}; "
                    "use the same settings or another folder"
                )
    elif (out / IMAGES).is_dir() and any((out / IMAGES).iterdir()):
        raise LatentrotError(
            f"{out / IMAGES} contains images, but {out} has no heads.json with their settings; use another folder"
        )
    write_atomically(path, lambda temporary: temporary.write_text(json.dumps(wanted, indent=1) + "\n"))


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise LatentrotError(f"cannot read {path}: {error}; use another folder") from error
    if not isinstance(settings, dict):
        raise LatentrotError(f"{path} does not describe a folder of heads; use another folder")
    return settings


@lru_cache(maxsize=4)
def _digest(path: Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _draw_all(folder: HeadFolder, out: Path, missing: list[int], jobs: int) -> Iterator[int]:
    """Render images, in several processes if requested; yields the number of images finished since the last report."""
    chunks = [missing[k : k + CHUNK] for k in range(0, len(missing), CHUNK)]
    if jobs == 1 or len(chunks) < 2:
        for chunk in chunks:
            yield _draw(folder, out, chunk)
        return
    # spawn, because a forked child would inherit locked mutexes of other threads
    pool = ProcessPoolExecutor(min(jobs, len(chunks)), multiprocessing.get_context("spawn"))
    try:
        for job in as_completed([pool.submit(_draw, folder, out, chunk) for chunk in chunks]):
            yield job.result()
    except BrokenProcessPool as error:
        raise LatentrotError("a rendering process was killed, perhaps for lack of memory; try fewer --jobs") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _draw(folder: HeadFolder, out: Path, images: list[int]) -> int:
    """Render some images in this process."""
    model = load_head_model(folder.model)
    for image in images:
        drawn = render(model, folder.head(image), folder.size, folder.maps)
        name = image_id(image)
        if drawn.mask is not None and drawn.normals is not None:
            _save(out / MASKS / name, drawn.mask)
            _save(out / NORMALS / name, drawn.normals)
        _save(out / IMAGES / name, drawn.image)  # written last: if it exists, the other files are complete
    return len(images)


def _save(path: Path, pixels: np.ndarray) -> None:
    write_atomically(path, lambda temporary: Image.fromarray(pixels).save(temporary, "PNG"))


# --- tables ---------------------------------------------------------------------------------------------------------

LANDMARK_COLUMNS = [f"{n}_{a}" for n in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for a in "xy"]


def _write_tables(folder: HeadFolder, model: HeadModel, out: Path) -> None:
    heads = [folder.head(p) for p in range(folder.image_count)]
    index = pd.Index([image_id(p) for p in range(folder.image_count)], name="image_id")

    def write(name: str, rows: Callable[[int, HeadParameters], dict[str, Any]]) -> None:
        table = pd.DataFrame([rows(p, head) for p, head in enumerate(heads)], index=index)
        write_atomically(out / name, table.to_csv)

    write("list_attr_celeba.csv", lambda _, head: attributes(model, head))
    write("identity_CelebA.csv", lambda p, _: {"identity": folder.head_of(p) + 1})
    write("list_landmarks_align_celeba.csv",
          lambda _, head: dict(zip(LANDMARK_COLUMNS, landmarks(model, head).ravel().round(2), strict=True)))  # fmt: skip
    write("pose.csv", lambda _, head: pose_row(head))
    write("light.csv", lambda _, head: light_row(head))
    if folder.views:
        write("views.csv", lambda p, head: {"head": folder.head_of(p), **view_row(head)})


def pose_row(head: HeadParameters) -> dict[str, float]:
    """The pose in degrees."""
    return {
        "yaw_deg": round(head.yaw_deg, 4),
        "pitch_deg": round(head.pitch_deg, 4),
        "roll_deg": round(head.roll_deg, 4),
    }


def light_row(head: HeadParameters) -> dict[str, Any]:
    """The key light: its side, and its position in degrees."""
    azimuth, elevation = round(head.light.azimuth_deg, 4), round(head.light.elevation_deg, 4)
    return {"light": light_side(azimuth), "azimuth_deg": azimuth, "elevation_deg": elevation}


def view_row(head: HeadParameters) -> dict[str, Any]:
    """Yaw, pitch and light."""
    return {"yaw_deg": head.yaw_deg, "pitch_deg": head.pitch_deg, "light": light_side(head.light.azimuth_deg)}


def attributes(model: HeadModel, head: HeadParameters) -> dict[str, int]:
    """CelebA's attributes (+1 or -1) that the parameters of the head determine."""
    smile = np.mean([head.expression[EXPRESSIONS.index(f"mouthSmile_{side}")] for side in "LR"])
    hair = head.hair
    known = {
        "Bald": hair.bald,
        "Bangs": not hair.bald and hair.fringe_deg > 0,
        "Black_Hair": not hair.bald and hair.colour == "black",
        "Blond_Hair": not hair.bald and hair.colour == "blond",
        "Brown_Hair": not hair.bald and hair.colour == "brown",
        "Eyeglasses": False,
        "Gray_Hair": not hair.bald and hair.colour == "gray",
        "Mouth_Slightly_Open": mouth_gap_cm(model, head) > MOUTH_OPEN_CM,
        "Pale_Skin": head.tone < PALE_TONE,
        "Smiling": smile > SMILE,
        "Wearing_Hat": False,
    }
    return {name: 1 if value else -1 for name, value in known.items()}
