"""Evaluate the multi-view model on photographs of people held out of its training.

    python experiments/spin_photographs.py --people 30

Half of the people are from LFW, which the model was not trained on, half from the held-out tenth of the people in
../shared/data/ytf (two frames of one clip in different poses). Writes spin_photographs.csv beside this script, by the judge
in ../shared/judge: identity (cosine) of the views at yaw 0, 30 and 60 to the source, of the view in the pose of another frame
to that frame, and the error of the yaw; for `spin` (views composed in the photograph's resolution), for its generated views
alone, and for geometry alone. The views are aligned as photographs are, by a detection.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import tyro
from tqdm import tqdm

from latentrot.data.arrays import resize
from latentrot.data.images import write_image
from latentrot.errors import LatentrotError
from latentrot.evaluation.judges import load_judge
from latentrot.faces.detect import detect_faces
from latentrot.faces.framing import frame_face
from latentrot.portrait.portrait import EditConfig, Portrait, open_portrait
from latentrot.portrait.spin import camera_of, composed_views, crop_of, drawn_images
from latentrot.rotators.pair.pairs import open_pair_folder, plan_held_out
from latentrot.rotators.registry import load_rotator
from latentrot.rotators.spin.geometry import HeadCamera
from latentrot.rotators.spin.rotator import SpinRotator, aligned, pose_of

HERE = Path(__file__).parent
SHARED = HERE.parent.parent / "shared"
YAWS = (-60.0, -30.0, 0.0, 30.0, 60.0)


@dataclass(frozen=True)
class Options:
    """Options.

    Args:
        model: model folder of `latentrot train spin`; None: the bundled model.
        people: number of people.
        sheet: file of a contact sheet of the views, which must not be published.
        seed: seed of the choice of people.
    """

    model: str | None = None
    people: int = 30
    sheet: Path | None = None
    seed: int = 11


@dataclass(frozen=True)
class Person:
    """A photograph of a person, and another frame of the same clip if there is one."""

    name: str
    photograph: Path
    other: Path | None = None


def people_of(options: Options) -> Iterator[Person]:
    """People of LFW and held-out people of YTF, in turn, more than are needed."""
    folders = sorted((SHARED / "data" / "lfw").iterdir())
    order = np.random.default_rng(options.seed).permutation(len(folders))
    ytf = open_pair_folder(SHARED / "data" / "ytf")
    clips = [s for s in plan_held_out([ytf], 10**6, 0.1, 0) if s.partners]
    known: set[str] = set()
    for i, k in enumerate(order):
        yield Person(folders[k].name, min(folders[k].glob("*.jpg")))
        while clips:
            source = clips.pop(0)
            name = str(ytf.faces.identities[source.image_id])
            if name not in known:
                known.add(name)
                folder = ytf.faces.image_dir
                yield Person(f"ytf {name}", folder / source.image_id, folder / source.partners[0].image_id)
                break
        if i > 4 * options.people:
            return


def views_of(
    portrait: Portrait, rotator: SpinRotator, requested: list[float], other: Portrait | None
) -> dict[str, list[np.ndarray]]:
    """Aligned views by way: in the requested yaws, and in the pose of another frame.

    Raises:
        LatentrotError: no head can be fitted.
    """
    source = crop_of(portrait, rotator)
    pose = pose_of(source)
    camera, warnings = camera_of(portrait, rotator, pose)
    if camera is None:
        raise LatentrotError("; ".join(warnings))
    poses = torch.tensor([[yaw, 0.0] for yaw in requested])
    if other is not None:
        poses = torch.cat([poses, pose_of(crop_of(other, rotator))[None]])
    square = np.rint(camera.rendered(pose).image.clip(0, 255)).astype(np.uint8)
    views = rotator.draw(square, pose, poses, camera)
    drawn, rendered = drawn_images(views), [camera.rendered(p) for p in poses]
    ways = {
        "spin": list(composed_views(views, camera)),
        "spin, generated": [resize(d, camera.side) for d in drawn],
        "geometry": [np.rint(r.image.clip(0, 255)).astype(np.uint8) for r in rendered],
    }
    return {name: [framed(v, camera, p) for v, p in zip(shown, poses, strict=True)] for name, shown in ways.items()}


def framed(view: np.ndarray, camera: HeadCamera, pose: torch.Tensor) -> np.ndarray:
    """Align a view as photographs are, by a detection; without one by the landmarks of the fitted head."""
    margin = len(view) // 3
    padded = np.pad(view, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    faces = detect_faces(padded)
    if not faces:
        return aligned(view, camera, pose)
    face = min(faces, key=lambda f: float(np.linalg.norm(f.landmarks.mean(0) - len(padded) / 2)))
    return frame_face(padded, face.landmarks).crop(padded, 128)


def main(options: Options) -> None:
    """Measure, and write the table."""
    rotator = load_rotator("spin") if options.model is None else load_rotator("spin", model=options.model)
    assert isinstance(rotator, SpinRotator)
    judge = load_judge(SHARED / "judge" / "judge.py")
    assert judge.identity is not None
    assert judge.pose is not None
    rows: list[dict[str, object]] = []
    sheet: list[np.ndarray] = []
    people, bar = people_of(options), tqdm(total=options.people, disable=None)
    used = 0
    while used < options.people:
        person = next(people)
        try:
            portrait = open_portrait(person.photograph, EditConfig())
            other = open_portrait(person.other, EditConfig()) if person.other else None
            ways = views_of(portrait, rotator, list(YAWS), other)
        except LatentrotError as error:
            print(f"{person.name}: {error}")
            continue
        used += 1
        bar.update()
        source = portrait.alignments[0].crop(portrait.image, 128)
        sheet.append(np.concatenate([resize(v, 128) for v in (source, *ways["geometry"], *ways["spin"])], 1))
        for way, shown in ways.items():
            identity = judge.identity([source, *(resize(v, 128) for v in shown)])
            yaw = judge.pose([resize(v, 128) for v in shown])[:, 0]
            for k, requested in enumerate(YAWS):
                error = abs(float(yaw[k]) - requested)
                found = {"identity": float(identity[0] @ identity[k + 1]), "yaw_error": error}
                rows.append({"way": way, "view": f"{abs(requested):g}", **found})
            if other is not None:
                true = judge.identity([other.alignments[0].crop(other.image, 128)])[0]
                rows.append({"way": way, "view": "other frame", "identity": float(true @ identity[-1])})
    table = pd.DataFrame(rows).groupby(["way", "view"], sort=False).agg(
        identity=("identity", "mean"), spread=("identity", "std"), yaw_error=("yaw_error", "mean"), n=("identity", "size")
    )  # fmt: skip
    table.round(3).to_csv(HERE / "spin_photographs.csv")
    print(table.round(3))
    if options.sheet is not None:
        width = max(row.shape[1] for row in sheet)
        write_image(
            options.sheet, np.concatenate([np.pad(r, ((0, 0), (0, width - r.shape[1]), (0, 0))) for r in sheet])
        )


if __name__ == "__main__":
    main(tyro.cli(Options))
