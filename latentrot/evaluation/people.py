"""Who may be measured: nothing that was trained on a person is measured on that person."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from latentrot.errors import LatentrotError
from latentrot.evaluation.pairs import EvaluationConfig
from latentrot.rotators.protocol import Rotator, capabilities_of

__all__ = ["data_set_of", "require_strangers"]

#: what cards call heads rendered from seeds that are not kept for testing
RENDERED = "rendered"


def data_set_of(root: Path, config: EvaluationConfig) -> str:
    """What a folder's data set is called: as configured, else as the folder is."""
    return (config.data_set or root.resolve().name).lower()


def require_strangers(rotators: Mapping[str, Rotator], root: Path, config: EvaluationConfig) -> None:
    """Refuse to measure rotators on people they may have learned from.

    By default only the tenth of the people is measured that no training of the package uses, of whatever set. Everybody is
    measured (`config.everybody`) only by rotators that say what they learned from, and that it was another set. Rendered
    heads are told by their seed, which the folder keeps.

    Raises:
        LatentrotError: a rotator that learned from the folder's set, or does not say from what it did.
    """
    name = data_set_of(root, config)
    seen = heads_for_training(root)
    for way, rotator in rotators.items():
        sets = capabilities_of(rotator).learned_from
        if seen and sets is not None and RENDERED in sets:
            raise LatentrotError(
                f"{root}: rotator {way} learned from rendered heads of seeds like this folder's; draw others with: "
                "latentrot heads make --views --seed 1000000"
            )
        if not config.everybody:
            continue
        if sets is None:
            raise LatentrotError(
                f"everybody in {root} cannot be measured by rotator {way}, which does not say what it learned from "
                "(`learned_from`, or `trained_on` in its model's card); measure the people held out"
            )
        if name in sets:
            raise LatentrotError(f"rotator {way} learned from {name}: only the people held out can be measured by it")


def heads_for_training(root: Path) -> bool:
    """Whether a folder's heads were drawn from a seed that is not kept for testing."""
    path = root / "heads.json"
    if not path.is_file():
        return False
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        return int(said["seed"]) < int(said["test_seeds_from"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
