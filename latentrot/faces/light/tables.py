"""Tables of lights: ours, and those other people made."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from latentrot.data.tables import as_numbers, parse_table, to_files
from latentrot.errors import LatentrotError
from latentrot.faces.network import LIGHTS
from latentrot.files import write_atomically

__all__ = ["light_table", "read_light_labels", "with_light", "write_light_table"]

log = logging.getLogger(__name__)


def light_table(ids: Sequence[str], probabilities: np.ndarray, hand: Mapping[str, str] | pd.Series) -> pd.DataFrame:
    """The light of every image.

    Args:
        ids: n names.
        probabilities: (n, 3) the model's, in the order of LIGHTS.
        hand: lights given by people, by name; they stand against the model's.

    Returns:
        By image_id: light (left, center, right), confidence (the model's probability of it; 1 where by hand), source
        (hand or model).
    """
    index = pd.Index(ids, name="image_id")
    by_hand = pd.Series(hand, dtype=object).reindex(index)
    given = by_hand.notna().to_numpy()
    light = np.where(given, by_hand.to_numpy(), np.array(LIGHTS)[probabilities.argmax(1)])
    confidence = np.where(given, 1.0, probabilities.max(1).round(4))
    source = np.where(given, "hand", "model")
    return pd.DataFrame({"light": light, "confidence": confidence, "source": source}, index=index)


def write_light_table(table: pd.DataFrame, path: Path | str) -> None:
    """Write a table from `light_table` as CSV, whole or not at all; LatentrotError where it cannot be written."""
    path = Path(path)
    if path.suffix != ".csv":
        raise LatentrotError(f"light table {path}: expected a name ending in .csv, not {path.suffix!r}")
    write_atomically(path, table.to_csv)


# --- reading --------------------------------------------------------------------------------------------------------


def read_light_labels(
    path: Path | str,
    *,
    image_ids: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    values: Mapping[Any, str | None] | None = None,
    order: Sequence[str] = LIGHTS,
) -> pd.DataFrame:
    """Read lights, whoever made them.

    Args:
        path: a .csv or .parquet table, or an .npy array: (n,) of names or of indices into `order`, or (n, 3) of scores,
            a column per light in `order`.
        image_ids: names of the rows of an array; of a table, the only rows returned.
        columns: what a table calls its columns, for example {"image_id": "file", "light": "side"}; those left out are
            called as here.
        values: what its lights mean, for example {"L": "left", 0: "center", "?": None}; None leaves a row out, as
            does an empty cell. Values not named must be left, center or right.
        order: which light each index or column of an array stands for.

    Returns:
        By image_id: light (left, center, right) and confidence (0 to 1; 1 where the file says nothing).

    Raises:
        LatentrotError: an unreadable file, missing columns, an unknown light, an image named twice, an array that does not
            fit `image_ids` or `order`, or none of `image_ids` in it.
    """
    path = Path(path)
    if not path.is_file():
        raise LatentrotError(f"no lights at {path}; make some with `latentrot label light --data DIR --out {path}`")
    if sorted(order) != sorted(LIGHTS):
        raise LatentrotError(f"order {', '.join(map(str, order))}: expected {', '.join(LIGHTS)} in any order")
    if path.suffix == ".npy":
        table = _from_array(path, image_ids, values or {}, order)
    else:
        table = _from_table(path, columns or {}, values or {})
    if doubled := sorted(set(table.index[table.index.duplicated()])):
        raise LatentrotError(f"{path} names {len(doubled)} images twice, {doubled[0]} among them")
    if image_ids is None:
        return table
    found = to_files(table, image_ids).dropna(subset="light")
    if len(image_ids) and found.empty:
        named = f"{len(table)}, {table.index[0]} among them" if len(table) else "none at all"
        raise LatentrotError(
            f"{path} names none of the {len(image_ids)} images ({image_ids[0]} and so on); it names {named}. Give a table "
            "of these images, or leave it out for the network's lights"
        )
    return found


def with_light(labels: pd.DataFrame, lights: pd.DataFrame) -> pd.DataFrame:
    """Take the light of a label table from elsewhere.

    Args:
        labels: from `label_folder`.
        lights: from `read_light_labels`.

    Returns:
        The same rows with light and confidence replaced where `lights` names the image; a warning counts the others.
        p_left, p_center and p_right stay the network's.

    Raises:
        LatentrotError: the two have no image in common.
    """
    common = labels.index.intersection(lights.index)
    if not len(common):
        raise LatentrotError(
            f"the lights name none of the {len(labels)} images; one is called {labels.index[0]!r}, "
            f"of the lights {next(iter(lights.index), 'none')!r}"
        )
    if len(common) < len(labels):
        log.warning(
            "%d of %d images keep the network's light: no other is given", len(labels) - len(common), len(labels)
        )
    replaced = labels.copy()
    for column in ("light", "confidence"):
        replaced[column] = lights[column].reindex(labels.index).fillna(labels[column])
    replaced.attrs = {**labels.attrs, "light": "from a table"}
    return replaced


def _from_table(path: Path, columns: Mapping[str, str], values: Mapping[Any, str | None]) -> pd.DataFrame:
    if unknown := sorted(set(columns) - {"image_id", "light", "confidence"}):
        raise LatentrotError(f"columns {', '.join(unknown)}: expected image_id, light or confidence")
    try:
        table = pd.read_parquet(path).reset_index() if path.suffix == ".parquet" else parse_table(path)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        if isinstance(error, LatentrotError):
            raise
        raise LatentrotError(f"cannot read the lights {path}: {error}") from error
    theirs = {name: columns.get(name, name) for name in ("image_id", "light", "confidence")}
    needed = [theirs[name] for name in ("image_id", "light", *(["confidence"] if "confidence" in columns else []))]
    if missing := [name for name in needed if name not in table.columns]:
        raise LatentrotError(
            f"{path} has no column {', '.join(missing)}; it has {', '.join(map(str, table.columns))}: say what they "
            'are called, for example columns={"image_id": "file", "light": "side"}'
        )
    given = theirs["confidence"] in table
    confidence = as_numbers(table, [theirs["confidence"]], path)[theirs["confidence"]] if given else np.ones(len(table))
    return _rows(path, table[theirs["image_id"]].astype(str), table[theirs["light"]], confidence, values)


def _from_array(
    path: Path, image_ids: Sequence[str] | None, values: Mapping[Any, str | None], order: Sequence[str]
) -> pd.DataFrame:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise LatentrotError(f"cannot read the lights {path}: {error}") from error
    if image_ids is None or len(image_ids) != len(np.atleast_1d(array)):
        got = "none are given" if image_ids is None else f"{len(image_ids)} are given"
        raise LatentrotError(f"{path} holds an array of shape {array.shape}: it needs as many image_ids, {got}")
    if array.ndim == 2 and array.shape[1] == len(LIGHTS) and array.dtype.kind in "fiu":
        return _from_scores(path, image_ids, array.astype(float), order)
    if array.ndim != 1:
        raise LatentrotError(f"{path} holds an array of shape {array.shape}: expected (n,) or (n, {len(LIGHTS)})")
    meanings = values if values or array.dtype.kind not in "iu" else dict(enumerate(order))
    return _rows(path, image_ids, array.tolist(), np.ones(len(array)), meanings)


def _from_scores(path: Path, image_ids: Sequence[str], scores: np.ndarray, order: Sequence[str]) -> pd.DataFrame:
    if not (np.isfinite(scores).all() and (scores >= 0).all() and (scores.sum(1) > 0).all()):
        row = int(np.argmin(np.isfinite(scores).all(1) & (scores >= 0).all(1) & (scores.sum(1) > 0)))
        raise LatentrotError(f"{path}, row {row}: {scores[row].tolist()}; expected scores from 0 up, not all of them 0")
    light = [order[i] for i in scores.argmax(1)]
    return _rows(path, image_ids, light, scores.max(1) / scores.sum(1), {})


def _rows(
    path: Path, image_ids: Sequence[str] | pd.Series, lights: Any, confidence: Any, values: Mapping[Any, str | None]
) -> pd.DataFrame:
    """Put a table together, its lights translated; rows without a light are left out."""
    meant = [None if pd.isna(value) else values.get(value, value) for value in lights]
    if unknown := sorted({repr(value) for value in meant if value is not None and value not in LIGHTS}):
        raise LatentrotError(
            f"{path} names the lights {', '.join(unknown[:8])}; expected {', '.join(LIGHTS)}: say what they mean, for "
            'example values={"L": "left"}'
        )
    table = pd.DataFrame({"light": pd.Series(meant, dtype=object), "confidence": np.asarray(confidence, float)})
    table.index = pd.Index([str(i) for i in image_ids], name="image_id")
    return table[table["light"].notna()]
