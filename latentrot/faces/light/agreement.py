"""Agreement between annotators."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import cohen_kappa_score

from latentrot.faces.light.answers import UNSURE
from latentrot.faces.network import LIGHTS

__all__ = ["PairAgreement", "agreed", "disputed", "fleiss_kappa", "light_counts", "pair_agreements", "votes"]


class PairAgreement(NamedTuple):
    """Agreement of two annotators on the images of which both are sure: number, share of equal lights, Cohen's kappa.

    Kappa is nan if both gave the same light to all images.
    """

    first: str
    second: str
    images: int
    alike: float
    kappa: float


def votes(standing: Mapping[tuple[str, str], str]) -> pd.DataFrame:
    """Table of the lights of which annotators are sure.

    Args:
        standing: {(image_id, annotator): light} from `answers.standing`.

    Returns:
        One row per image of which an annotator is sure, one column per annotator: left, center, right, or missing (not asked
        or unsure).
    """
    sure = {key: light for key, light in standing.items() if light != UNSURE}
    if not sure:
        return pd.DataFrame(index=pd.Index([], name="image_id"))
    index = pd.MultiIndex.from_tuples(sure, names=["image_id", "annotator"])
    return pd.Series(list(sure.values()), index=index, dtype=object).unstack("annotator")


def agreed(table: pd.DataFrame) -> pd.Series:
    """The light of each image on which all annotators agree, by image_id; from `votes`."""
    one = table.nunique(axis=1) == 1
    return table[one].bfill(axis=1).iloc[:, 0].rename("light") if one.any() else pd.Series(dtype=object, name="light")


def disputed(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `votes` in which annotators disagree."""
    return table[table.nunique(axis=1) > 1]


def pair_agreements(table: pd.DataFrame) -> list[PairAgreement]:
    """Agreement of every two annotators who have at least one image in common; from `votes`."""
    found = []
    for first, second in itertools.combinations(sorted(table.columns), 2):
        both = table[[first, second]].dropna()
        if len(both):
            one, other = both[first].to_numpy(str), both[second].to_numpy(str)
            found.append(PairAgreement(first, second, len(both), float((one == other).mean()), cohen_kappa(one, other)))
    return found


def cohen_kappa(first: np.ndarray, second: np.ndarray) -> float:
    """Cohen's kappa of two annotators' lights (n,); nan if both gave the same light to all images."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 0/0 means undefined here
        return float(cohen_kappa_score(first, second, labels=list(LIGHTS)))


def light_counts(table: pd.DataFrame) -> np.ndarray:
    """(images, 3) votes for left, center, right, for images with at least two votes; from `votes`."""
    counts = np.stack([(table == light).sum(axis=1).to_numpy() for light in LIGHTS], 1)
    return counts[counts.sum(1) >= 2]


def fleiss_kappa(counts: np.ndarray) -> float:
    """Agreement of any number of annotators beyond chance (Fleiss, Psychological Bulletin 76, 1971).

    Args:
        counts: (n, k) number of annotators who assigned image i to class j. Fleiss assumes equally many annotators per image;
            here each image is weighted by its number of annotator pairs, and each class by its share of all answers.

    Returns:
        1 for full agreement, 0 for chance agreement, nan if undefined (no image has two answers, or all are one class).
    """
    counts = counts[counts.sum(1) >= 2].astype(float)
    if not len(counts):
        return float("nan")
    number = counts.sum(1)
    observed = (((counts**2).sum(1) - number) / (number * (number - 1))).mean()
    chance = ((counts.sum(0) / counts.sum()) ** 2).sum()
    return float((observed - chance) / (1 - chance)) if chance < 1 else float("nan")
