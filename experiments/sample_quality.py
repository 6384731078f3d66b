"""Sample quality of a model: Fréchet distance to photographs in features of the package's label network.

    python experiments/sample_quality.py faces64 runs/longer/model

Reads ../shared/data/celeba. The Fréchet distance (Heusel et al. 2017) is taken between Gaussians fitted to 176 features: the
last feature map of the pose trunk, averaged over positions, and the input of the light classifier. This is not the usual
FID: it does not use Inception, and its values are comparable only with each other. The reference value of a perfect model is
measured on photographs of training people, as many as there are held-out ones. Writes sample_quality.csv beside this script,
and with --sheet the first samples of each model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import scipy.linalg
import torch
import tyro
from solvers import SHARED, quick_dtype
from walk_limit import save_sheet

from latentrot.data.celeba import FaceFolder, held_out
from latentrot.data.images import to_tensor, to_uint8
from latentrot.diffusion.load import LatentModel, load_model
from latentrot.diffusion.schedule import Schedule
from latentrot.diffusion.solve import decode
from latentrot.faces.network import FaceLabeler, load_labeler

HERE = Path(__file__).parent
BATCH = 64
#: schedule of full sampling from pure noise
SAMPLING = Schedule(steps=25, solver="ddim", depth=1.0)


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


def main(models: Annotated[list[str], tyro.conf.Positional], samples: int = 2000, sheet: Path | None = None) -> None:
    """Sample, measure, and write the table.

    Args:
        models: names of bundled models, folders or Hub ids.
        samples: number of samples per model.
        sheet: output .png with 8 by 8 samples of each model, side by side; None: do not write it.
    """
    labeler = load_labeler()
    folder = FaceFolder(SHARED / "data" / "celeba")
    far = held_out(folder.identities.to_numpy())
    names = np.array(folder.ids)
    strangers = folder.read_crops(list(names[far]), 64)
    known = np.random.default_rng(0).choice(names[~far], far.sum(), replace=False)
    truth = features(labeler, strangers)
    rows = [
        {
            "pictures": "photographs of people trained on",
            "number": len(known),
            "distance": frechet_distance(features(labeler, folder.read_crops(list(known), 64)), truth),
        }
    ]
    strips = []
    for name in models:
        model = load_model(name, dtype=quick_dtype())
        drawn = sampled(model, samples)
        distance = frechet_distance(features(labeler, drawn), truth)
        rows.append({"pictures": f"samples of {name}", "number": samples, "distance": distance})
        strips.append(np.concatenate([np.concatenate(list(drawn[i : i + 8]), 1) for i in range(0, 64, 8)]))
        print(pd.DataFrame(rows).round(3).to_string(index=False), flush=True)
    pd.DataFrame(rows).round(4).to_csv(HERE / "sample_quality.csv", index=False)
    if sheet is not None:
        save_sheet([np.concatenate(strips, 1)], sheet)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    tyro.cli(main, description=__doc__)
