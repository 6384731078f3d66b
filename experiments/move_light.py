"""Move the light to another side: by the latent (`--set light=left`) and by the shading of the geometry.

    python experiments/move_light.py

- `heads`: rendered heads lit from the right, moved to the light from the left. The truth is the same head, rendered with the
  azimuth of its light negated: squared error on face and hair, beside that of doing nothing.
- `photographs`: held-out people of ../shared/data/celeba whose light is not from the left, moved until the label network
  finds it there in nine of ten: identity by the judge in ../shared/judge, and side effects, measured as in properties.py.

Ways: `latent`, the properties' direction of faces64, and on heads of heads64; `shading`, pixels times the ratio of two
shadings in spherical harmonics of order 1 (`latentrot.geometry.shading`), whose component across is replaced, at several
strengths; `shading, mirrored`, on heads, changes the sign of that component, which presumes that the light moves to the
mirrored place. Writes move_light.csv beside this script. `--sheet FILE` saves the pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
import tyro
from properties import GOALS, SIDE, at_goal, judged, resize_plane
from solvers import SHARED

from latentrot.data.arrays import resize, strip, to_tensor
from latentrot.data.celeba import FaceFolder, held_out
from latentrot.data.images import write_image
from latentrot.directions.properties import to
from latentrot.errors import LatentrotError
from latentrot.faces.alignment import crop_alignment
from latentrot.faces.estimate import estimate_light
from latentrot.faces.parts import BACKGROUND, SKIN
from latentrot.faces.upright import centred
from latentrot.geometry import Head, HeadFitter
from latentrot.geometry.shading import GAMMA, HAIR, RATIO, Shading, relight, smooth_gain
from latentrot.portrait.edit_request import LIT
from latentrot.rotators.properties import InvertedFace, PropertyEditor, load_property_editor
from latentrot.rotators.property_calibration import aligned_face
from latentrot.synthetic.head_model import load_head_model
from latentrot.synthetic.sample import TEST_SEED, HeadConfig, sample_head
from latentrot.synthetic.shade import render

HERE = Path(__file__).parent
#: component across of the new shading, as a share of the luminance of a surface that faces the viewer
STRENGTHS = (0.3, 0.6, 0.9)
#: steps of the latent on photographs
STEPS = (0.8, 1.4, 1.8)
GOAL = next(goal for goal in GOALS if goal.prop == "light_left")


@dataclass(frozen=True)
class MoveLight:
    """Options.

    Args:
        heads: number of rendered heads.
        people: number of photographs.
        sheet: output .png of the first ones: source, (truth,) ways; None: none.
    """

    heads: int = 40
    people: int = 30
    sheet: Path | None = None


def shaded(head: Head, across: float | None) -> np.ndarray:
    """The photograph of a head with another shading; `across` as in `STRENGTHS`, < 0 from the left, None: mirrored."""
    old = head.shading.coefficients
    facing = float(head.shading(np.array([0.0, 0.0, 1.0])))
    new = Shading(np.r_[old[0], -old[1] if across is None else across * facing, old[2:]])
    ratio = np.clip(new(head.normals) / head.shading(head.normals), *RATIO)
    log_gain = np.where(head.outline.head, (1 - HAIR * head.outline.hair) * np.log(ratio) / GAMMA, 0).astype(np.float32)
    gain = smooth_gain(log_gain, head.outline.head, head.region.width)
    share = cv2.GaussianBlur(head.outline.head.astype(np.float32), (0, 0), 0.02 * head.region.width)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    height, width = head.photograph.shape[:2]
    moved = cv2.warpAffine(
        1 + share * (gain - 1), centred(head.region.matrix), (width, height), flags=flags, borderValue=1
    )
    return np.clip(np.rint(relight(head.photograph.astype(np.float32), moved)), 0, 255).astype(np.uint8)


def left_probability(images: Sequence[np.ndarray], editor: PropertyEditor) -> np.ndarray:
    """Probability of light from the left, by the label network."""
    x = to_tensor(np.stack([resize(im, 64) for im in images]))
    return estimate_light(x, labeler=editor.model.labeler)[:, 0].numpy()


def on_heads(options: MoveLight, editor: PropertyEditor, pictures: list[np.ndarray]) -> pd.DataFrame:
    """Rendered heads: one row per way."""
    model, config, rows = load_head_model(), HeadConfig(yaw_max=15, yaw_sd=8), []
    of_heads = load_property_editor("heads64", device="cpu", dtype="bfloat16")
    for number in range(options.heads):
        drawn = sample_head(TEST_SEED, number, config, "right")
        opposite = replace(drawn, light=replace(drawn.light, azimuth_deg=-drawn.light.azimuth_deg))
        source, truth = render(model, drawn, SIDE, maps=True), render(model, opposite, SIDE)
        try:
            head = HeadFitter().fit_crop(source.image)
            faces = {way: e.prepare(source.image, crop_alignment(SIDE)) for way, e in
                     (("latent", editor), ("latent, heads64", of_heads))}  # fmt: skip
        except LatentrotError as error:
            print(f"head {number}: {error}")
            continue
        shown = {"nothing": source.image} | {way: face.edit({"light_left": to(LIT)})[0] for way, face in faces.items()}
        shown |= {f"shading, {k:g}": shaded(head, -k) for k in STRENGTHS} | {"shading, mirrored": shaded(head, None)}
        assert source.mask is not None
        there = source.mask > 0
        errors = {way: 4 * np.square((im - truth.image.astype(float))[there] / 255).mean() for way, im in shown.items()}
        left = left_probability([*shown.values(), truth.image], editor)
        for k, (way, error) in enumerate(errors.items()):
            better = error < errors["nothing"]
            rows.append({"way": way, "squared_error": 1000 * error, "better": better, "is_left": left[k] > 0.5})
        rows.append({"way": "truth", "squared_error": 0.0, "better": True, "is_left": left[-1] > 0.5})
        pictures.append(np.hstack([source.image, truth.image, *list(shown.values())[1:]]))
    table = pd.DataFrame(rows)
    spread = table.groupby("way", sort=False)["squared_error"].sem().rename("squared_error_se")
    counts = table.groupby("way", sort=False).size().rename("images")
    return table.groupby("way", sort=False).mean().join(spread).join(counts).reset_index().assign(set="heads")


def measured(
    faces: list[InvertedFace], own: pd.DataFrame, editor: PropertyEditor, edited: Callable[[int], np.ndarray]
) -> dict[str, float]:
    """Means over photographs edited by a way: measures of the judges, and side effects."""
    crops = [edited(i) for i in range(len(faces))]
    after = judged([resize(crop, SIDE) for crop in crops], editor)
    parts: dict[int, list[float]] = {BACKGROUND: [], SKIN: []}
    for face, crop in zip(faces, crops, strict=True):
        moved = crop.astype(float) - face.small
        places = {k: resize_plane(face.face.parts[k], len(crop)) for k in parts}
        parts[BACKGROUND].append((np.abs(moved).mean(-1) * places[BACKGROUND]).sum() / max(places[BACKGROUND].sum(), 1))
        parts[SKIN].append(np.abs((moved * places[SKIN][..., None]).sum((0, 1)) / places[SKIN].sum()).mean())
    return {
        "success": float(after["is_left"].mean()),
        "identity": float(np.mean([a @ b for a, b in zip(own["who"], after["who"], strict=True)])),
        "yaw": float((after["yaw"] - own["yaw"]).abs().mean()), "background": float(np.mean(parts[BACKGROUND])),
        "skin_colour": float(np.mean(parts[SKIN])),
    }  # fmt: skip


def on_photographs(options: MoveLight, editor: PropertyEditor, pictures: list[np.ndarray]) -> pd.DataFrame:
    """Held-out people: one row per way, interpolated at the goal."""
    folder = FaceFolder(SHARED / "data" / "celeba")
    apart = np.array(folder.ids)[held_out(folder.identities.to_numpy(), 0.1)]
    faces: list[InvertedFace] = []
    heads: list[Head] = []
    for name in np.random.default_rng(1).permutation(apart[1::2]):
        photograph = np.asarray(folder.open_image(name))
        try:
            face = editor.prepare(photograph, aligned_face(photograph))
            if left_probability([face.small], editor)[0] >= 0.5:
                continue
            heads.append(HeadFitter().fit(photograph, face.alignment))
        except LatentrotError:
            continue
        faces.append(face)
        if len(faces) == options.people:
            break
    own = judged([resize(face.small, SIDE) for face in faces], editor)
    unchanged = dict.fromkeys(("step", "yaw", "background", "skin_colour"), 0.0)
    start = {**unchanged, "success": own["is_left"].mean(), "identity": 1.0}

    def by_latent(i: int, step: float) -> np.ndarray:
        return faces[i].edited_crop(faces[i].change({GOAL.prop: step}))

    def by_shading(i: int, strength: float) -> np.ndarray:
        return faces[i].alignment.crop(shaded(heads[i], -strength), len(faces[i].small))

    rows = []
    for way, steps, edited in (("latent", STEPS, by_latent), ("shading", STRENGTHS, by_shading)):
        table = pd.DataFrame([
            {"step": s, **measured(faces, own, editor, lambda i, s=s, f=edited: f(i, s))} for s in steps
        ])  # fmt: skip
        print(way, table.round(3).to_string(index=False), flush=True)
        rows.append({"set": "photographs", "way": way, "images": len(faces), **at_goal(table, GOAL, start)})
    for i, face in enumerate(faces):
        edits = [by_latent(i, STEPS[1]), *(by_shading(i, s) for s in STRENGTHS)]
        row = np.hstack([resize(im, SIDE) for im in (face.small, *edits)])
        pictures.append(np.pad(row, ((0, 0), (0, 3 * SIDE), (0, 0))))
    return pd.DataFrame(rows)


def main(options: MoveLight) -> None:
    """Move, measure, write."""
    editor, pictures, tables = load_property_editor(device="cpu", dtype="bfloat16"), [], []
    for measure in (on_heads, on_photographs):
        tables.append(measure(options, editor, pictures))
        table = pd.concat(tables, ignore_index=True)
        table.set_index(["set", "way", "images"]).round(4).to_csv(HERE / "move_light.csv")
        print(tables[-1].round(3).to_string(index=False), flush=True)
    if options.sheet is not None:
        write_image(options.sheet, strip(pictures, columns=1), {})


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(tyro.cli(MoveLight, description=__doc__))
