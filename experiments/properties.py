"""Evaluate property edits on photographs of held-out people, against mean difference and linear SVM on the same latents.

Usage: python experiments/properties.py CELEBA LABELS.parquet STORE... [people]

CELEBA: aligned photographs; LABELS: from `latentrot label`; STORE: latents of these photographs at one depth each. The
edited photographs are measured by independent judges in ../shared/judge (expression, age, gender, identity, pose), which
were not used for training. All methods walk the same latents and composite the change in the same way; only the directions
differ. Each method is measured at two or three step sizes, and its side effects are interpolated at the success given in
`GOALS`. Writes properties.csv beside this file.

Methods: `joint`, one regression on all columns at once, orthogonal to pose, light and colour; `mean difference` of two
groups; `svm`, the normal of a linear support vector machine on the latents' first 300 principal components (as in
InterFaceGAN and BoundaryDiffusion). The latter two are scaled to the length of `joint`.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import PCA
from sklearn.svm import LinearSVC

from latentrot.data.arrays import resize
from latentrot.data.celeba import FaceFolder, held_out
from latentrot.diffusion.load import load_model
from latentrot.directions.design import design_of
from latentrot.directions.fit import training_rows
from latentrot.directions.properties import property_named
from latentrot.directions.property_directions import PropertyDirections
from latentrot.directions.property_fit import PropertyFitConfig, fit_properties, shrink_slope
from latentrot.errors import LatentrotError
from latentrot.faces.attributes import attributes_beside
from latentrot.faces.parts import BACKGROUND, SKIN
from latentrot.faces.table import read_labels
from latentrot.rotators.properties import InvertedFace, PropertyEditor
from latentrot.rotators.property_calibration import aligned_face
from latentrot.store.latent_store import LatentStore

JUDGE = Path(__file__).resolve().parents[2] / "shared" / "judge"
SIDE = 192
#: side effects reported besides success and identity; 0 without an edit
UNCHANGED = ("yaw", "background", "skin_colour", "happy", "male", "age")


@dataclass(frozen=True)
class Goal:
    """Success criterion of an edit, measured by the judges.

    Attributes:
        name: name of the table row.
        prop: edited property.
        steps: step sizes to measure, in units of the column.
        measure: column of `judged` that measures the success.
        goal: target of the mean value, or of the mean change if `change`.
        of: query that selects the sources from the judged table.
        change: whether the goal is a change.
    """

    name: str
    prop: str
    steps: tuple[float, ...]
    measure: str
    goal: float
    of: str = ""
    change: bool = False


GOALS = (
    Goal("smile", "smile", (2.0, 4.0, 6.0), "happy", 0.80),
    Goal("stop smiling", "smile", (-2.0, -4.0, -6.0), "happy", 0.20),
    Goal("ten years older", "age", (3.0, 6.0, 9.0), "age", 10.0, change=True),
    Goal("light from the left", "light_left", (0.8, 1.4, 2.0), "is_left", 0.90, "is_left < 0.5"),
    Goal("male", "male", (1.5, 3.0, 4.5), "male", 0.60, "male < 0.5"),
    Goal("female", "male", (-1.5, -3.0, -4.5), "male", 0.45, "male > 0.5"),
)


def judges() -> tuple[ModuleType, ModuleType]:
    """Load the modules of the judges."""
    if not JUDGE.is_dir():
        raise LatentrotError(f"no judges at {JUDGE}; they are not part of the package")
    sys.path.insert(0, str(JUDGE))
    import attributes  # noqa: PLC0415  # pyright: ignore
    import judge  # noqa: PLC0415  # pyright: ignore

    return judge, attributes


def judged(images: list[np.ndarray], editor: PropertyEditor) -> pd.DataFrame:
    """Measure crops with the judges: one row per crop; the light by the label network."""
    from latentrot.data.arrays import to_tensor  # noqa: PLC0415
    from latentrot.faces.estimate import estimate_light  # noqa: PLC0415

    judge, attributes = judges()
    age, male = attributes.age_gender(images)
    light = estimate_light(to_tensor(np.stack([resize(im, 64) for im in images])), labeler=editor.model.labeler)
    return pd.DataFrame({
        "happy": attributes.expression(images)[:, 1], "age": age, "male": male, "yaw": judge.pose(images)[:, 0],
        "is_left": (light.argmax(1) == 0).numpy().astype(float), "who": list(judge.identity(images)),
    })  # fmt: skip


def other_directions(
    joint: PropertyDirections, store: LatentStore, labels: pd.DataFrame, method: str
) -> PropertyDirections:
    """Fit directions by mean difference or SVM on the same latents, scaled to the length of the joint directions."""
    design = design_of(training_rows(labels, PropertyFitConfig.where, PropertyFitConfig.held_out)).table
    names, latents = zip(*store.batches(set(design.index), 256), strict=True)
    z = torch.cat(latents).flatten(1).numpy()
    rows = design.loc[[n for batch in names for n in batch]]
    parts = PCA(300 if method == "svm" else 1, svd_solver="randomized", random_state=0).fit(z)
    code = parts.transform(z)
    vectors = {}
    for one in joint.properties:
        column = rows[one.column_names[0]].to_numpy()
        has = column > (np.median(column) if one.unit == "years" else (column.min() + column.max()) / 2)
        if method == "svm":
            normal = LinearSVC(C=1e-3, class_weight="balanced").fit(code / code.std(0), has).coef_[0] / code.std(0)
            direction = (normal @ parts.components_).astype(np.float64)
        else:
            difference = (z[has].mean(0) - z[~has].mean(0)).astype(np.float64)
            direction = shrink_slope(difference, store.space, one.shrinkage)
        length = float(joint.vectors[one.name].norm()) / np.linalg.norm(direction)
        vectors[one.name] = torch.from_numpy(direction * length).float().reshape(store.space.shape)
    return replace(joint, vectors=vectors)


def measured(faces: list[InvertedFace], sources: pd.DataFrame, editor: PropertyEditor, goal: Goal, step: float) -> dict:
    """Edit all faces with one step size: mean measures of the judges, and side effects."""
    edited, background, skin = [], [], []
    for face in faces:
        crop = face.edited_crop(face.change({goal.prop: step})).astype(float)
        edited.append(resize(crop.astype(np.uint8), SIDE))
        moved = crop - face.small
        place = [resize_plane(face.face.parts[k], crop.shape[0]) for k in (BACKGROUND, SKIN)]
        background.append((np.abs(moved).mean(-1) * place[0]).sum() / max(place[0].sum(), 1))
        skin.append(np.abs((moved * place[1][..., None]).sum((0, 1)) / place[1].sum()).mean())
    after = judged(edited, editor)
    alike = np.mean([a @ b for a, b in zip(sources["who"], after["who"], strict=True)])
    change = {k: (after[k].to_numpy() - sources[k].to_numpy()) for k in ("happy", "male", "age", "yaw")}
    return {
        "step": step, "success": (after[goal.measure] - (sources[goal.measure] if goal.change else 0)).mean(),
        "identity": alike, "yaw": np.abs(change["yaw"]).mean(), "background": np.mean(background),
        "skin_colour": np.mean(skin), **{k: change[k].mean() for k in ("happy", "male", "age")},
    }  # fmt: skip


def resize_plane(plane: np.ndarray, side: int) -> np.ndarray:
    """Resize (n, n) probabilities."""
    import cv2  # noqa: PLC0415

    return cv2.resize(plane, (side, side), interpolation=cv2.INTER_AREA)


def at_goal(rows: pd.DataFrame, goal: Goal, start: dict) -> pd.Series:
    """Interpolate the measures of a method at the goal; if no step reaches it, those of the largest step."""
    table = pd.concat([pd.DataFrame([start]), rows], ignore_index=True)
    falling = table["success"].iloc[-1] < table["success"].iloc[0]
    success = -table["success"] if falling else table["success"]
    wanted = -goal.goal if falling else goal.goal
    above = np.flatnonzero(success.to_numpy() >= wanted)
    if not len(above) or not above[0]:
        return table.iloc[-1]
    low, high = table.iloc[above[0] - 1], table.iloc[above[0]]
    share = (goal.goal - low["success"]) / (high["success"] - low["success"])
    return low + share * (high - low)


def main() -> None:
    """Measure, and write the table."""
    torch.set_num_threads(1)
    *given, people = sys.argv[1:] if sys.argv[-1].isdecimal() else [*sys.argv[1:], "40"]
    folder, labels, stores = FaceFolder(Path(given[0])), read_labels(given[1]), [LatentStore(s) for s in given[2:]]
    model = load_model(None, "cpu", "bfloat16")
    attributes = attributes_beside(model.folder)
    joint = []
    for store in stores:
        wanted = {g.prop for g in GOALS if property_named(g.prop).depth == store.space.schedule.depth}
        joint.append(fit_properties(store, labels, sorted(wanted)))
    editor = PropertyEditor(model, joint, attributes)

    # held-out people, from the half that is not used for calibration
    apart = np.array(folder.ids)[held_out(folder.identities.to_numpy(), 0.1)]
    apart = np.random.default_rng(1).permutation(apart[1::2])
    faces = []
    for name in apart:
        photograph = np.asarray(folder.open_image(name))
        try:
            faces.append(editor.prepare(photograph, aligned_face(photograph)))
        except LatentrotError:
            continue
        if len(faces) == 2 * int(people):
            break
    sources = judged([resize(f.small, SIDE) for f in faces], editor)
    rows = []
    for method in ("joint", "mean difference", "svm"):
        if method != "joint":
            others = [other_directions(j, s, labels, method) for j, s in zip(joint, stores, strict=True)]
            editor = PropertyEditor(model, others, attributes)
        for goal in GOALS:
            chosen = (sources.query(goal.of) if goal.of else sources).index[: int(people)]
            own = sources.loc[chosen].reset_index(drop=True)
            before = 0.0 if goal.change else own[goal.measure].mean()
            start = {"step": 0.0, "success": before, "identity": 1.0} | dict.fromkeys(UNCHANGED, 0.0)
            some = [replace(faces[i], editor=editor, starts=faces[i].starts) for i in chosen]
            taken = goal.steps[method != "joint" :]
            steps = pd.DataFrame([measured(some, own, editor, goal, step) for step in taken])
            found = at_goal(steps, goal, start)
            rows.append({"goal": goal.name, "method": method, "people": len(chosen), "wanted": goal.goal, **found})
            print(pd.DataFrame(rows[-1:]).round(3).to_string(index=False, header=len(rows) == 1), flush=True)
            table = pd.DataFrame(rows).sort_values(
                "goal", key=lambda g: g.map([x.name for x in GOALS].index), kind="stable"
            )
            table.round(4).to_csv(Path(__file__).with_suffix(".csv"), index=False)


if __name__ == "__main__":
    main()
