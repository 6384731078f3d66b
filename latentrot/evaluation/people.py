"""Check that rotators are evaluated only on people they were not trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from latentrot.errors import LatentrotError
from latentrot.evaluation.pairs import EvaluationConfig
from latentrot.rotators.protocol import Rotator, capabilities_of

__all__ = ["data_set_of", "require_held_out"]

#: data set in model cards: heads rendered from the seeds for training
RENDERED = "rendered"


def data_set_of(root: Path, config: EvaluationConfig) -> str:
    """Name of a folder's data set: `config.data_set`, or the name of the folder."""
    return (config.data_set or root.resolve().name).lower()


def require_held_out(rotators: Mapping[str, Rotator], root: Path, config: EvaluationConfig) -> None:
    """Refuse rotators that may have been trained on the people of a folder.

    By default only the tenth of the people that all trainings of the package hold out is measured. With `config.everybody`
    each rotator must name its training data, and the folder's data set must not be among them. For rendered heads the seed
    recorded in the folder decides.

    Raises:
        LatentrotError: a rotator was trained on the folder's data set, or does not name its training data.
    """
    name = data_set_of(root, config)
    seen = heads_for_training(root)
    for way, rotator in rotators.items():
        sets = capabilities_of(rotator).learned_from
        if seen and sets is not None and RENDERED in sets:
            raise LatentrotError(
                f"{root}: the heads have seeds that are reserved for training, and rotator {way} was trained on rendered "
                "heads; render other heads with: "
                "latentrot heads make --views --seed 1000000"
            )
        if not config.everybody:
            continue
        if sets is None:
            raise LatentrotError(
                f"rotator {way} cannot be evaluated on all people in {root}: it does not name its training data "
                "(`learned_from`, or `trained_on` in the model card); evaluate it on held-out people"
            )
        if name in sets:
            raise LatentrotError(f"rotator {way} was trained on {name}; evaluate it on held-out people")


def heads_for_training(root: Path) -> bool:
    """Whether the heads in a folder were rendered from a seed reserved for training."""
    path = root / "heads.json"
    if not path.is_file():
        return False
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        return int(said["seed"]) < int(said["test_seeds_from"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
