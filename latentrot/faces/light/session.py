"""A labelling session: select the next image for each annotator, store answers, and refit the model after each batch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from latentrot.errors import LatentrotError
from latentrot.faces.light.agreement import agreed, disputed, votes
from latentrot.faces.light.answers import CHOICES, UNDO, Answer, AnswerFile, checked_name, standing, to_same_images
from latentrot.faces.light.propagate import (
    LightFeatures,
    has_enough_seeds,
    margin,
    propagate,
    require_enough_seeds,
    seed_rows,
)
from latentrot.faces.light.tables import light_table

__all__ = ["LabelProgress", "LabelSession", "SessionConfig", "fit_light"]


@dataclass(frozen=True)
class SessionConfig:
    """Parameters of a session.

    Args:
        batch: answers of one annotator between two fits.
        rounds: batches per annotator; None: as long as there are images.
        again: share of a batch, 0 to 1, drawn from images that others have answered, to measure the agreement.
    """

    batch: int = 20
    rounds: int | None = None
    again: float = 0.2

    def __post_init__(self) -> None:
        if self.batch < 1 or (self.rounds is not None and self.rounds < 1):
            raise LatentrotError(f"batch {self.batch}, rounds {self.rounds}: expected at least 1")
        if not 0 <= self.again <= 1:
            raise LatentrotError(f"again {self.again} (share of repeated images): expected between 0 and 1")


@dataclass(frozen=True)
class LightFit:
    """Estimates from the answers so far.

    Args:
        votes: lights of which annotators are sure, from `agreement.votes`.
        hand: image_id -> light on which all annotators agree.
        seeds: (n,) index into LIGHTS, or UNLABELLED, in the order of the features.
        probabilities: (n, 3) in the order of LIGHTS; those of the label network as long as the seeds do not suffice.
        learned: whether the probabilities are based on the seeds.
    """

    votes: pd.DataFrame
    hand: pd.Series
    seeds: np.ndarray
    probabilities: np.ndarray
    learned: bool

    def least_certain(self, features: LightFeatures) -> list[str]:
        """Names of all images, the least certain first."""
        return [features.ids[row] for row in np.argsort(margin(self.probabilities), kind="stable")]

    def table(self, features: LightFeatures) -> pd.DataFrame:
        """The light of every image; agreed hand labels override the model (see `tables.light_table`).

        Raises:
            LatentrotError: the seeds do not suffice.
        """
        require_enough_seeds(self.seeds)
        return light_table(features.ids, self.probabilities, self.hand, features.digests)


def fit_light(features: LightFeatures, said: dict[tuple[str, str], str]) -> LightFit:
    """Estimate the light of every image from the valid answers.

    Args:
        features: features of the images.
        said: {(image_id, annotator): light} from `answers.standing`.
    """
    table = votes(said)
    hand = agreed(table)
    seeds = seed_rows(features.ids, dict(zip(hand.index, hand, strict=True)))
    learned = has_enough_seeds(seeds)
    return LightFit(table, hand, seeds, propagate(features, seeds) if learned else features.network, learned)


@dataclass(frozen=True)
class LabelProgress:
    """Progress of an annotator.

    Args:
        answered: number of images with a valid answer of this annotator.
        left: number of answers until the next fit.
        batch: number of answers between two fits.
        fits: number of fits in this session.
        hand: number of images on whose light the annotators agree.
        disputed: number of images on which they disagree.
        images: total number of images.
    """

    answered: int
    left: int
    batch: int
    fits: int
    hand: int
    disputed: int
    images: int


class LabelSession:
    """A session with several annotators; thread-safe.

    Args:
        answers: the answers file; existing answers are used.
        features: features of the images.
        config: parameters of the session.
        after_fit: called with the fit after every batch.
    """

    def __init__(
        self,
        answers: AnswerFile,
        features: LightFeatures,
        config: SessionConfig | None = None,
        after_fit: Callable[[LightFit], object] = lambda fit: None,
    ) -> None:
        self.answers = answers
        self.features = features
        self.config = config or SessionConfig()
        self.after_fit = after_fit
        self._lock = threading.RLock()
        self._queues: dict[str, list[str]] = {}
        self._rounds: dict[str, int] = {}
        self._known = set(features.ids)
        self._fits = -1
        self._fit()

    # --- called by the page ---

    def current(self, annotator: str) -> str | None:
        """The next image for an annotator; None if the rounds or the images are used up."""
        with self._lock:
            name = checked_name(annotator)
            queue = self._queues.get(name)
            if not queue:
                queue = self._queues[name] = self._draw(name)
            return queue[0] if queue else None

    def answer(self, annotator: str, image_id: str, light: str) -> bool:
        """Store an answer on disk.

        Args:
            annotator: name of the annotator.
            image_id: the displayed image.
            light: left, center, right or unsure.

        Returns:
            Whether the answer was stored. It is not stored if the image is not the current one, so that a key pressed twice
            does not answer the next image unseen.

        Raises:
            LatentrotError: the light is unknown, the name is empty, or the answer cannot be written.
        """
        if light not in CHOICES:
            raise LatentrotError(f"light {light!r}; expected {', '.join(CHOICES)}")
        with self._lock:
            name = checked_name(annotator)
            if self.current(name) != image_id:
                return False
            self._keep(self.answers.append(image_id, light, name, self.features.digests.get(image_id, "")))
            self._queues[name].pop(0)
            if not self._queues[name]:
                self._rounds[name] = self._rounds.get(name, 0) + 1
                self._fit()
            return True

    def undo(self, annotator: str) -> str | None:
        """Retract an annotator's latest answer and show its image again; returns the image, or None without an answer."""
        with self._lock:
            name = checked_name(annotator)
            theirs = [i for i, who in self.said if who == name and i in self._known]
            if not theirs:
                return None
            self.current(name)  # draws a batch if necessary, so that the image is inserted before it
            self._keep(self.answers.append(theirs[-1], UNDO, name, self.features.digests.get(theirs[-1], "")))
            self._queues[name].insert(0, theirs[-1])
            return theirs[-1]

    def progress(self, annotator: str) -> LabelProgress:
        """Progress of an annotator."""
        with self._lock:
            name = checked_name(annotator)
            table = votes(self.said)
            return LabelProgress(
                answered=sum(who == name for _, who in self.said),
                left=len(self._queues.get(name, [])),
                batch=self.config.batch,
                fits=self._fits,
                hand=len(agreed(table)),
                disputed=len(disputed(table)),
                images=len(self.features.ids),
            )

    # --- internal ---

    def _fit(self) -> None:
        self._rows = to_same_images(self.answers.read(), self.features.digests)
        self.said = standing(self._rows)
        self.fit = fit_light(self.features, self.said)
        self._order = self.fit.least_certain(self.features)
        self._fits += 1
        self.after_fit(self.fit)

    def _keep(self, answer: Answer) -> None:
        self._rows.append(answer)
        self.said = standing(self._rows)

    def _draw(self, name: str) -> list[str]:
        """Draw the next batch for an annotator: the least certain images, and some that others have answered."""
        if self.config.rounds is not None and self._rounds.get(name, 0) >= self.config.rounds:
            return []
        batch = self.config.batch
        theirs = {i for i, who in self.said if who == name}
        others = {i for i, who in self.said if who != name} - theirs
        waiting = {i for queue in self._queues.values() for i in queue}
        again = [i for i in self._order if i in others]
        new = [i for i in self._order if i not in theirs | others | waiting]
        first = again[: round(batch * self.config.again)]
        drawn = [*first, *new[: batch - len(first)]]
        drawn += again[len(first) :][: batch - len(drawn)]  # no new images are left: repeat more
        # shuffled, so that annotators cannot tell which images others have answered
        return list(np.random.default_rng(len(self._rows)).permutation(drawn)) if drawn else []
