"""What is measured of turned images, beside what they truly look like turned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from latentrot.data.images import to_tensor
from latentrot.evaluation.judges import Judge, Once
from latentrot.evaluation.metrics import identity_rank, squared_error, ssim
from latentrot.evaluation.pairs import Pairs
from latentrot.evaluation.perceptual import lpips_at_hand
from latentrot.evaluation.place import found_in, laid_on
from latentrot.evaluation.yaw import FittedYaw, landmark_yaw, pixel_yaw
from latentrot.faces.estimate import estimate_light, estimate_pose, light_names
from latentrot.faces.network import FaceLabeler

__all__ = ["MEASURES", "Instruments", "instruments_for", "measure"]

#: what is measured of every turned image; the report carries the words
MEASURES = {
    "yaw_error_deg": "absolute difference of the label network's yaw to the true yaw, degrees",
    "yaw_error_pixels_deg": "the same by kernel ridge regression on pixels, fitted to views of other heads (rendered heads)",
    "yaw_error_landmarks_deg": "the same by regression on the detector's five landmarks, fitted to other people or heads",
    "yaw_error_judge_deg": "the same by the judge that was given",
    "overturn_deg": "the label network's yaw beyond (below 0: short of) the true one, in the direction of the turn, degrees",
    "squared_error": "mean squared difference to the true picture over pixels and channels, values in [0, 1]",
    "squared_error_face": "the same inside the true picture's face",
    "ssim": "structural similarity to the true picture (luma, 11x11 Gaussian window, standard deviation 1.5)",
    "ssim_face": "the same inside the true picture's face",
    "lpips": "learned perceptual distance to the true picture (AlexNet), where torchmetrics and its weights are at hand",
    "identity_true": "cosine of who is seen to the true picture, by the identity network that was given",
    "identity_source": "the same to the picture that was turned",
    "rank": "place of the true head among all heads of its light in the true pose, by pixels on the head; 1 is best",
    "top1": "share of pictures for which that place is 1",
    "light_kept": "share of pictures the label network calls lit from the true side; of real people, from the side it calls "
    "the true picture lit from",
    "pitch_drift_deg": "absolute difference of the label network's pitch to its pitch of the true picture, degrees",
    "placed": "share of pictures whose face was found and laid on the true one's before they were compared (real people)",
    "refused": "share of pictures that the rotator refused to turn; they are measured as they were",
}


@dataclass(frozen=True, eq=False)
class Instruments:
    """What turned images are measured with.

    Attributes:
        network: the label network: yaw, pitch, light.
        yaws: further estimates of the yaw, by measure.
        perceptual: LPIPS, where it is at hand.
        landmarks: of each of (n) images; None where there is no face.
        pose: of (n) images, by the judge that was given, if it says any.
        identity: of (n) images, by the judge that was given, if it says any.
    """

    network: FaceLabeler
    yaws: dict[str, FittedYaw]
    perceptual: Callable[[np.ndarray, np.ndarray], float] | None
    landmarks: Once
    pose: Once | None = None
    identity: Once | None = None


def instruments_for(pairs: Pairs, network: FaceLabeler, judge: Judge | None = None) -> Instruments:
    """Fit the second opinions on the yaw (none where there are no other people to learn from), look LPIPS up."""
    yaws: dict[str, FittedYaw] = {}
    if len(set(pairs.people)) > 1:
        if pairs.rendered:
            yaws["yaw_error_pixels_deg"] = pixel_yaw(pairs)
        yaws["yaw_error_landmarks_deg"] = landmark_yaw(pairs)
    pose, identity = (None, None) if judge is None else (judge.pose, judge.identity)
    return Instruments(
        network, yaws, lpips_at_hand(), Once(lambda pictures: [found_in(p, pairs.size) for p in pictures]),
        Once(pose) if pose else None, Once(identity) if identity else None,
    )  # fmt: skip


def measure(
    pairs: Pairs,
    table: pd.DataFrame,
    turned: Sequence[np.ndarray],
    instruments: Instruments,
    refused: np.ndarray | None = None,
) -> pd.DataFrame:
    """Measure turned images.

    Args:
        pairs: the truth.
        table: which of its pairs were turned: a row for each image.
        turned: (n) images, (s, s, 3) uint8, or larger ones around the crop, of real people.
        instruments: from `instruments_for`.
        refused: (n,) bool, those that were not turned; None: all were.

    Returns:
        One row per image: pair (the table's index), person, light, requested_deg, turn, true_yaw_deg, yaw_deg (by the
        label network), and the `MEASURES`, not a number where they were not taken.
    """
    rows = pd.DataFrame({"pair": table.index, **{c: table[c].to_numpy() for c in ("person", "requested_deg", "turn")}})
    true, sources = table["truth"].to_numpy(), table["source"].to_numpy()
    placed, found = (
        (np.stack(turned), np.full(len(turned), np.nan))
        if pairs.rendered
        else place_all(pairs, true, turned, instruments.landmarks)
    )
    rows = pd.concat([rows, labels_of(pairs, true, placed, instruments.network)], axis=1)
    yaw, request = pairs.yaws[true], rows["requested_deg"]
    rows = rows.assign(
        yaw_error_deg=(rows["yaw_deg"] - yaw).abs(),
        overturn_deg=(rows["yaw_deg"] - yaw) * np.sign(request),
        placed=found,
    )
    for name, second in instruments.yaws.items():
        rows[name] = np.abs(second.estimate(placed, rows["person"].to_numpy(str)) - yaw)
    rows["refused"] = 0.0 if refused is None else refused.astype(float)
    rows = rows.assign(**judged(pairs, true, sources, placed, instruments))
    likeness = [
        likeness_to(pairs, row, picture, instruments.perceptual) for row, picture in zip(true, placed, strict=True)
    ]
    return pd.concat([rows, pd.DataFrame(likeness)], axis=1).reindex(columns=[*HEAD, *MEASURES])


HEAD = ("pair", "person", "light", "requested_deg", "turn", "true_yaw_deg", "yaw_deg")


def place_all(
    pairs: Pairs, true: np.ndarray, turned: Sequence[np.ndarray], landmarks: Once
) -> tuple[np.ndarray, np.ndarray]:
    """Turned images laid on the true ones where both faces are found: (n, s, s, 3), and (n,) whether."""
    here, there = landmarks(turned), landmarks([pairs.pictures[row] for row in true])
    laid = [laid_on(picture, a, b, pairs.size) for picture, a, b in zip(turned, here, there, strict=True)]
    pictures = [pairs.middle(picture) if moved is None else moved for picture, moved in zip(turned, laid, strict=True)]
    return np.stack(pictures), np.array([float(moved is not None) for moved in laid])


def labels_of(pairs: Pairs, true: np.ndarray, pictures: np.ndarray, network: FaceLabeler) -> pd.DataFrame:
    """What the label network says of images, and of the true ones."""
    x, y = to_tensor(pictures), to_tensor(pairs.pictures[true])
    pose, true_pose = (estimate_pose(p, labeler=network).numpy() for p in (x, y))
    called = np.array(light_names(estimate_light(x, labeler=network)))
    truly = pairs.lights[true] if pairs.rendered else np.array(light_names(estimate_light(y, labeler=network)))
    return pd.DataFrame(
        {
            "light": truly,
            "true_yaw_deg": pairs.yaws[true],
            "yaw_deg": pose[:, 0].astype(float),
            "light_kept": (called == truly).astype(float),
            "pitch_drift_deg": np.abs(pose[:, 1] - true_pose[:, 1]).astype(float),
        }
    )


def judged(
    pairs: Pairs, true: np.ndarray, sources: np.ndarray, placed: np.ndarray, instruments: Instruments
) -> dict[str, np.ndarray]:
    """The measures that a judge takes, of images that lie where the true ones do."""
    found: dict[str, np.ndarray] = {}
    if instruments.pose is not None:
        found["yaw_error_judge_deg"] = np.abs(np.stack(instruments.pose(list(placed)))[:, 0] - pairs.yaws[true])
    if instruments.identity is not None:
        who = np.stack(instruments.identity(list(placed)))
        for name, rows in (("identity_true", true), ("identity_source", sources)):
            known = np.stack(instruments.identity([pairs.pictures[row] for row in rows]))
            found[name] = np.einsum("nd,nd->n", who, known)
    return found


def likeness_to(
    pairs: Pairs, row: int, picture: np.ndarray, perceptual: Callable[[np.ndarray, np.ndarray], float] | None
) -> dict[str, float]:
    """How like an image is to the true one, and among how many rendered heads it is the likest."""
    true, face = pairs.pictures[row], pairs.faces[row]
    rank = rank_of(pairs, row, picture) if pairs.rendered else np.nan
    return {
        "squared_error": squared_error(picture, true),
        "squared_error_face": squared_error(picture, true, face),
        "ssim": ssim(picture, true),
        "ssim_face": ssim(picture, true, face),
        "lpips": perceptual(picture, true) if perceptual else np.nan,
        "rank": rank,
        "top1": np.nan if np.isnan(rank) else float(rank == 1),
    }


def rank_of(pairs: Pairs, row: int, picture: np.ndarray) -> float:
    """The true head's place among all in its pose and light, where at least half of them have their face."""
    gallery = pairs.gallery(row)
    region = pairs.faces[gallery].mean(0) >= 0.5
    return float(identity_rank(picture, pairs.pictures[gallery], int(np.flatnonzero(gallery == row)[0]), region))
