"""Compare solvers at equal numbers of evaluations: reconstruction error, and similarity of the latents to white noise.

    python experiments/solvers.py --people 8

Reads ../shared/data/celeba and data_labels/. Writes solvers.csv beside this script: round trips and latents of held-out
people, at equal budgets of evaluations. walk_ways.py compares the rotations.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
import tyro
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from latentrot.data.arrays import to_tensor
from latentrot.data.celeba import FaceFolder, held_out
from latentrot.data.similarity import psnr, ssim_map
from latentrot.devices import resolve_device
from latentrot.diffusion.load import LatentModel, load_model
from latentrot.diffusion.precision import computes_bfloat16
from latentrot.diffusion.schedule import Schedule
from latentrot.diffusion.solve import decode, evaluations, invert, without_residual
from latentrot.evaluation.bench.plain import PlainLoop
from latentrot.store.latent_store import LatentStore
from latentrot.store.space import LatentSpace

#: the three of the five published scales that fit into 64 pixels
SCALES = (0.0448, 0.2856, 0.3001)
SHARED = Path("../shared")
HERE = Path(__file__).parent
BUDGETS = (10, 20, 50, 100)
BATCH = 16


def within(budget: int, solver: str, iterations: int = 1) -> Schedule | None:
    """Schedule with the most steps within `budget` evaluations per direction; None if not even one step fits."""
    fitting = [Schedule(s, solver, iterations) for s in range(1, budget + 1)]
    fitting = [plan for plan in fitting if max(evaluations(plan)) <= budget]
    return fitting[-1] if fitting else None


def noise_statistics(z: torch.Tensor, factor: int) -> dict[str, float]:
    """Similarity of latents (n, c, h, w) to white noise: length per dimension, correlation of neighbours, kurtosis."""
    x = F.pixel_shuffle(z.double(), factor)
    power = x.square().mean()
    return {
        "norm": float(power.sqrt()),
        "neighbours": float((x[..., 1:] * x[..., :-1]).mean() / power),
        "kurtosis": float(((x - x.mean()) ** 4).mean() / x.var() ** 2),
    }


def round_trip_statistics(model: LatentModel, x: torch.Tensor, back: torch.Tensor, z: torch.Tensor) -> dict[str, float]:
    """Measure the error of a round trip, and the noise statistics of its latents."""
    back = back.clamp(-1, 1)
    db = psnr(back, x)
    return {
        "psnr_db": float(db.mean()),
        "least_db": float(db.min()),
        "ssim": float(ssim_map(back, x).mean((1, 2, 3)).mean()),
        "ms_ssim": float(multiscale_structural_similarity_index_measure(back, x, data_range=2.0, betas=SCALES)),
        **noise_statistics(without_residual(z), model.first_stage.factor),
    }


def strangers(n: int) -> list[str]:
    """Nearly frontal images of held-out people, one per person."""
    labels = pd.read_csv("data_labels/celeba_pose.csv", index_col="image_id")
    identities = FaceFolder(SHARED / "data" / "celeba").identities
    far = identities[
        held_out(identities.to_numpy()) & (labels["yaw_deg"].reindex(identities.index).abs() < 12).to_numpy()
    ]
    return list(far.drop_duplicates().sample(n, random_state=0).index)


def round_trips(model: LatentModel, x: torch.Tensor) -> None:
    """Measure each solver at each budget, and write solvers.csv."""
    rows = []

    def add(name: str, budget: int, spent: tuple[int, int], z: torch.Tensor, back: torch.Tensor) -> None:
        rows.append(
            {
                "solver": name,
                "budget": budget,
                "there": spent[0],
                "back": spent[1],
                **round_trip_statistics(model, x, back, z),
            }
        )
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
        pd.DataFrame(rows).assign(people=len(x)).round(4).to_csv(HERE / "solvers.csv", index=False)

    for budget in BUDGETS:
        for solver, iterations in (("fixed-point", 1), ("fixed-point", 2), ("exact", 1), ("ddim", 1)):
            plan = within(budget, solver, iterations)
            if plan is None:
                continue
            z = invert(model, x, schedule=plan)
            name = solver if iterations == 1 else f"{solver}, {iterations} iterations"
            add(f"{name}, {plan.steps} steps", budget, evaluations(plan), z, decode(model, z, schedule=plan))
        loop = PlainLoop.of(model, budget)
        z = loop.invert(x)
        add(f"diffusers, {budget} steps", budget, (budget, budget), z, loop.decode(z))


def latents_of(model: LatentModel, plan: Schedule, names: list[str], root: Path) -> LatentStore:
    """Latents of photographs on a schedule, embedded if missing; `root` contains one store per schedule."""
    folder = FaceFolder(SHARED / "data" / "celeba")
    store = LatentStore(root / f"latents-{plan.solver}-{plan.steps}-{plan.depth:g}")
    space = LatentSpace.of(model, plan)
    done = set(store.image_ids())
    todo = [p for p in names if p not in done]
    for i in range(0, len(todo), BATCH):
        batch = todo[i : i + BATCH]
        x = to_tensor(folder.read_crops(batch, model.resolution))
        store.append(batch, invert(model, x, schedule=plan, residual=False), space)
    return store


def pictures_to_fit(labels: pd.DataFrame, n: int) -> list[str]:
    """Choose people who are not held out, balanced over the yaw bins, because the outer bins determine the slopes."""
    known = labels[~held_out(labels["identity"].to_numpy()) & (labels["yaw_deg"].abs() < 35)]
    mixed = known.sample(frac=1, random_state=0)
    in_turn = mixed.groupby(mixed["yaw_deg"] // 10).cumcount()  # take one of each bin in turn until the bins are empty
    return list(in_turn.sort_values(kind="stable").index[:n])


def quick_dtype() -> str | None:
    """Fast precision of the device: bfloat16 if supported, else None for the model's precision."""
    return "bfloat16" if computes_bfloat16(resolve_device(None)) else None


def labels_of_photographs() -> pd.DataFrame:
    """Pose, light and identity of all photographs, by image_id."""
    pose = pd.read_csv("data_labels/celeba_pose.csv", index_col="image_id")
    light = pd.read_csv("data_labels/celeba_light.csv", index_col="image_id")["light"]
    return pose.join(light).assign(identity=FaceFolder(SHARED / "data" / "celeba").identities)


def main(people: int = 8) -> None:
    """Measure, and write the table.

    Args:
        people: number of held-out people.
    """
    model = load_model()
    crops = FaceFolder(SHARED / "data" / "celeba").read_crops(strangers(people), model.resolution)
    round_trips(model, to_tensor(crops))


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
