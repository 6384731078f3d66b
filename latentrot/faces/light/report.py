"""Text report on a set of answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from latentrot.data.celeba import FaceFolder
from latentrot.faces.light.agreement import disputed, fleiss_kappa, light_counts, pair_agreements
from latentrot.faces.light.answers import UNSURE
from latentrot.faces.light.propagate import UNLABELLED, LightFeatures, held_out_agreement, margin
from latentrot.faces.light.session import LightFit
from latentrot.faces.network import LIGHTS

__all__ = ["agreement_lines", "answer_lines", "model_lines"]


def answer_lines(said: dict[tuple[str, str], str], fit: LightFit) -> list[str]:
    """Number of answers per annotator, and how many of them are used for training."""
    number, unsure = (
        Counter(who for _, who in said),
        Counter(who for (_, who), light in said.items() if light == UNSURE),
    )
    people = ", ".join(f"{count} by {who} ({unsure[who]} unsure)" for who, count in sorted(number.items()))
    lines = [f"answers: {people or 'none'}", f"agreed: {_counts([str(light) for light in fit.hand])}"]
    if absent := len(fit.hand) - int((fit.seeds != UNLABELLED).sum()):
        lines.append(f"{absent} of the agreed images are not in the folder and are not used for training")
    return lines


def agreement_lines(votes: pd.DataFrame) -> list[str]:
    """Kappas, and the images on which annotators disagree."""
    lines = [
        f"agreement of {pair.first} and {pair.second}: {pair.alike:.1%} of {pair.images} images, "
        f"Cohen's kappa {_kappa(pair.kappa)}"
        for pair in pair_agreements(votes)
    ]
    counts = light_counts(votes)
    lines.append(f"Fleiss' kappa {_kappa(fleiss_kappa(counts))} on {len(counts)} images of which two or more are sure")
    contradicted = disputed(votes)
    lines.append(f"disputed, set aside: {len(contradicted)}")
    for image_id, row in contradicted.iterrows():
        lines.append(f"  {image_id}: " + ", ".join(f"{who} {light}" for who, light in row.dropna().items()))
    return lines


def model_lines(fit: LightFit, features: LightFeatures, folder: FaceFolder, doubtful: int) -> list[str]:
    """Report on the light model: accuracy on held-out hand labels, images per light, and the least certain images.

    Args:
        fit: result of `fit_light`.
        features: features of the images.
        folder: the images, with their identities.
        doubtful: number of least certain images to list.
    """
    seeds, people = fit.seeds, folder.identities.reindex(features.ids).to_numpy()
    rows = seeds != UNLABELLED
    before = float((features.network[rows].argmax(1) == seeds[rows]).mean())
    share = held_out_agreement(features, seeds, people)
    held_out = "too few to tell" if np.isnan(share) else f"{share:.1%}"
    table, lead = fit.table(features), margin(fit.probabilities)
    asked = [row for row in np.argsort(lead, kind="stable") if not rows[row]][:doubtful]
    return [
        f"of {rows.sum()} agreed images the model, shown none of the same person, is right for {held_out}, "
        f"the label network for {before:.1%}",
        f"all images: {_counts(table['light'].tolist())}; {(table['source'] == 'hand').sum()} by hand",
        "least certain: " + (", ".join(f"{features.ids[row]} ({lead[row]:.2f})" for row in asked) or "none"),
    ]


def _counts(lights: Sequence[str]) -> str:
    number = Counter(lights)
    return f"{len(lights)} (" + ", ".join(f"{light} {number[light]}" for light in LIGHTS) + ")"


def _kappa(value: float) -> str:
    return "undefined" if np.isnan(value) else f"{value:.3f}"
