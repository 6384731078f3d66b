"""Compare models of faces: samples, loss, rotations and properties.

    python experiments/model_quality.py faces64 runs/longer/model

All models share the noise of the samples, the images, noise and levels of the losses, and the directions, which are those
of the first model; the others should have been trained further from it. Reads ../shared/data/celeba; the judges in
../shared/judge measure identity, yaw, expression and age. Writes model_quality.csv beside this script, a row per model:

- `frechet`: Fréchet distance of samples to photographs of held-out people;
- `loss_held_out`, `loss_training`: mean squared error of the velocity on photographs of held-out people, and of as many of
  people trained on; `..._change`, `..._se`: its paired difference to the first model, and the standard error;
- `turned_15`, `identity_15`, ...: rotation and identity to the source of held-out people, as decoded, mean of both sides;
- `smile`, `age`: identity to the source at the step at which the mean probability of a smile is .8, or the mean age has grown
  by ten years; NaN if no step reaches it.

The Fréchet distance (Heusel et al. 2017) is taken between Gaussians fitted to 176 features of the package's label network:
the last feature map of the pose trunk, averaged over positions, and the input of the light classifier. This is not the usual
FID: it does not use Inception, and its values are comparable only with each other. The first row is that of a perfect model:
photographs of training people, as many as there are held-out ones. `--sheet` writes the first samples of each model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import scipy.linalg
import torch
import tyro
from properties import GOALS, UNCHANGED, at_goal, judged, judges
from properties import measured as measured_property
from solvers import SHARED, quick_dtype, strangers
from walk_limit import save_sheet

from latentrot.data.arrays import resize, to_tensor, to_uint8
from latentrot.data.celeba import FaceFolder, held_out
from latentrot.diffusion.load import LatentModel, load_model
from latentrot.diffusion.schedule import Schedule
from latentrot.diffusion.scheduler import add_noise
from latentrot.diffusion.solve import decode
from latentrot.errors import LatentrotError
from latentrot.faces.network import FaceLabeler, load_labeler
from latentrot.rotators.latent.rotator import LatentRotator, load_latent_rotator
from latentrot.rotators.properties import PropertyEditor, load_property_editor
from latentrot.rotators.property_calibration import aligned_face
from latentrot.store.space import LatentSpace
from latentrot.training.backbone import TrainConfig, build_scheduler, stratified_levels, target_of

BATCH = 64
#: schedule of full sampling from pure noise
SAMPLING = Schedule(steps=25, solver="ddim", depth=1.0)
TURNS = (-30.0, -15.0, 15.0, 30.0)
#: goals of `properties.py` that are compared, and their columns
COMPARED = {"smile": "smile", "ten years older": "age"}
#: side of the images given to the judges, pixels
SIDE = 192


# ---- samples ---------------------------------------------------------------------------------------------------------


def features(labeler: FaceLabeler, pictures: np.ndarray) -> np.ndarray:
    """Compute features: (n, s, s, 3) uint8 images -> (n, 176) float64."""
    found = []
    for i in range(0, len(pictures), BATCH):
        x = to_tensor(pictures[i : i + BATCH])
        found.append(torch.cat([labeler.pose_trunk(x).mean((2, 3)), labeler.light_features(x)], 1))
    return torch.cat(found).double().numpy()


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance between Gaussians fitted to (n, d) and (m, d) features."""
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    shared = np.real(scipy.linalg.eigvals(first @ second)).clip(0)  # tr(sqrt(M)) = sum of roots
    apart = np.square(a.mean(0) - b.mean(0)).sum()
    return float(apart + np.trace(first) + np.trace(second) - 2 * np.sqrt(shared).sum())


def sampled(model: LatentModel, number: int) -> np.ndarray:
    """Sample (number, s, s, 3) uint8 faces from noise that is the same for all models."""
    noise = torch.randn(number, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    drawn = [decode(model, noise[i : i + BATCH], schedule=SAMPLING) for i in range(0, number, BATCH)]
    return to_uint8(torch.cat(drawn).clamp(-1, 1))


# ---- loss ------------------------------------------------------------------------------------------------------------


def losses(model: LatentModel, crops: np.ndarray) -> np.ndarray:
    """(n,) loss of each of (n, s, s, 3) uint8 crops, at noise and levels that are the same for all models."""
    scheduler, generator = build_scheduler(TrainConfig()), torch.Generator().manual_seed(0)
    x = model.first_stage.encode(to_tensor(crops))
    noise = torch.randn(x.shape, generator=generator)
    levels = stratified_levels(len(x), scheduler.config["num_train_timesteps"], generator)
    noisy, target = add_noise(scheduler, x, noise, levels), target_of(scheduler, x, noise, levels)
    # the package's network takes one level for all states of a batch
    drawn = torch.cat([model.unet(noisy[i : i + 1], int(levels[i])).sample for i in range(len(x))])
    return (drawn - target).square().mean((1, 2, 3)).double().numpy()


# ---- rotations and properties ----------------------------------------------------------------------------------------


def rotations(model: LatentModel, own: LatentRotator, crops: Sequence[np.ndarray]) -> dict[str, float]:
    """Rotation and identity of crops rotated as decoded, by the directions of another model's rotator."""
    judge, _ = judges()
    directions = {
        light: replace(lines, space=LatentSpace.of(model, lines.space.schedule))
        for light, lines in own.directions.items()
    }
    rotator = LatentRotator(model, directions, carry=False)
    results = [rotator.prepare(crop).rotate(TURNS) for crop in crops]
    shown = [[t.source, *(f.image for f in t.frames)] for t in results]
    yaw = np.stack([judge.pose(images)[:, 0] for images in shown])
    who = np.stack([judge.identity(images) for images in shown])
    turned = (yaw[:, 1:] - yaw[:, :1]) * np.sign(TURNS)
    alike = np.einsum("nkd,nd->nk", who[:, 1:], who[:, 0])
    return {
        f"{name}_{size:.0f}": float(values[:, np.abs(TURNS) == size].mean())
        for size in (15.0, 30.0)
        for name, values in (("turned", turned), ("identity", alike))
    }


def properties(model: LatentModel, own: PropertyEditor, people: Sequence[np.ndarray]) -> dict[str, float]:
    """Identity of photographs at equal success of each goal, by the directions of another model's editor."""
    moved = [replace(d, space=LatentSpace.of(model, d.space.schedule)) for d in own.directions]
    editor = PropertyEditor(model, moved, own.attributes)
    faces = []
    for photograph in people:
        try:
            faces.append(editor.prepare(photograph, aligned_face(photograph)))
        except LatentrotError:  # no face found: the same photographs for every model
            continue
    sources = judged([resize(f.small, SIDE) for f in faces], editor)
    found = {}
    for goal in (g for g in GOALS if g.name in COMPARED):
        before = 0.0 if goal.change else sources[goal.measure].mean()
        start = {"step": 0.0, "success": before, "identity": 1.0} | dict.fromkeys(UNCHANGED, 0.0)
        rows = pd.DataFrame([measured_property(faces, sources, editor, goal, step) for step in goal.steps])
        reached = rows["success"].max() >= goal.goal
        found[COMPARED[goal.name]] = float(at_goal(rows, goal, start)["identity"]) if reached else float("nan")
    return found


# ---- table -----------------------------------------------------------------------------------------------------------


def main(
    models: Annotated[list[str], tyro.conf.Positional], samples: int = 1000, people: int = 30, sheet: Path | None = None
) -> None:
    """Measure, and write the table.

    Args:
        models: names of bundled models, folders or Hub ids; the first has directions.
        samples: number of samples per model.
        people: number of held-out people for rotations and properties.
        sheet: output .png with 8 by 8 samples of each model, side by side; None: do not write it.
    """
    labeler = load_labeler()
    folder = FaceFolder(SHARED / "data" / "celeba")
    far = held_out(folder.identities.to_numpy())
    names = np.array(folder.ids)
    groups = {
        "held_out": folder.read_crops(list(names[far]), 64),
        "training": folder.read_crops(list(np.random.default_rng(0).choice(names[~far], far.sum(), replace=False)), 64),
    }
    truth = features(labeler, groups["held_out"])
    chosen = strangers(people)
    crops = folder.read_crops(chosen, 64)
    photographs = [np.asarray(folder.open_image(name)) for name in chosen]
    first = load_model(models[0], dtype=quick_dtype())
    rotator, editor = load_latent_rotator(first), load_property_editor(first)
    rows: list[dict[str, object]] = [
        {"model": "photographs", "frechet": frechet_distance(features(labeler, groups["training"]), truth)}
    ]
    strips, start = [], {}
    for name in models:
        model = load_model(name, dtype=quick_dtype())
        row: dict[str, object] = {"model": name}
        for group, images in groups.items():
            loss = losses(model, images)
            change = loss - start.setdefault(group, loss)
            row |= {
                f"loss_{group}": loss.mean(),
                f"{group}_change": change.mean(),
                f"{group}_se": change.std(ddof=1) / len(change) ** 0.5,
            }
        row |= rotations(model, rotator, list(crops)) | properties(model, editor, photographs)
        drawn = sampled(model, samples)
        row |= {"samples": samples, "frechet": frechet_distance(features(labeler, drawn), truth)}
        rows.append(row)
        strips.append(np.concatenate([np.concatenate(list(drawn[i : i + 8]), 1) for i in range(0, 64, 8)]))
        print(pd.DataFrame(rows).round(4).T.to_string(header=False), flush=True)
    pd.DataFrame(rows).round(5).to_csv(Path(__file__).with_suffix(".csv"), index=False)
    if sheet is not None:
        save_sheet([np.concatenate(strips, 1)], sheet)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    tyro.cli(main, description=__doc__)
