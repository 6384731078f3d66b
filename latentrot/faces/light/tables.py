"""Tables of lights: read, write, and combine with label tables."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from latentrot.data.digests import changed_names, list_some
from latentrot.data.tables import as_numbers, parse_table, to_files
from latentrot.errors import LatentrotError
from latentrot.faces.network import LIGHTS
from latentrot.files import write_atomically

__all__ = ["light_table", "read_light_labels", "with_light", "write_light_table"]

log = logging.getLogger(__name__)


def light_table(
    ids: Sequence[str], probabilities: np.ndarray, hand: Mapping[str, str] | pd.Series,
    digests: Mapping[str, str] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Build a table with the light of every image.

    Args:
        ids: n names.
        probabilities: (n, 3) from the model, in the order of LIGHTS.
        hand: name -> hand label, which overrides the model.
        digests: name -> digest of the image file.

    Returns:
        Table indexed by image_id: light (left, center, right), confidence (the model's probability; 1 for hand labels),
        source (hand or model), digest (if given).
    """
    index = pd.Index(ids, name="image_id")
    by_hand = pd.Series(hand, dtype=object).reindex(index)
    given = by_hand.notna().to_numpy()
    light = np.where(given, by_hand.to_numpy(), np.array(LIGHTS)[probabilities.argmax(1)])
    confidence = np.where(given, 1.0, probabilities.max(1).round(4))
    source = np.where(given, "hand", "model")
    table = pd.DataFrame({"light": light, "confidence": confidence, "source": source}, index=index)
    return table.assign(digest=[digests.get(name, "") for name in ids]) if digests else table


def write_light_table(table: pd.DataFrame, path: Path | str) -> None:
    """Write a table from `light_table` as CSV, atomically; raises LatentrotError if it cannot be written."""
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
    """Read lights from a user's table or array.

    Args:
        path: .csv or .parquet table, or .npy array: (n,) light names or indices into `order`, or (n, 3) scores with one
            column per light in `order`.
        image_ids: names of the rows of an array; for a table, the rows to return.
        columns: standard name -> column name in the table, for example {"image_id": "file", "light": "side"}.
        values: value in the file -> light, for example {"L": "left", 0: "center", "?": None}; None drops a row, as does an
            empty cell. Values not listed must be left, center or right.
        order: light of each index or column of an array.

    Returns:
        Table indexed by image_id: light (left, center, right) and confidence (0 to 1; 1 if the file has none).

    Raises:
        LatentrotError: the file is unreadable, lacks columns, contains an unknown light or a duplicate image name, does not
            fit `image_ids` or `order`, or names none of `image_ids`.
    """
    path = Path(path)
    if not path.is_file():
        raise LatentrotError(f"no lights at {path}; create them with `latentrot label light --data DIR --out {path}`")
    if sorted(order) != sorted(LIGHTS):
        raise LatentrotError(f"order {', '.join(map(str, order))}: expected {', '.join(LIGHTS)} in any order")
    if path.suffix == ".npy":
        table = _from_array(path, image_ids, values or {}, order)
    else:
        table = _from_table(path, columns or {}, values or {})
    if doubled := sorted(set(table.index[table.index.duplicated()])):
        raise LatentrotError(f"{path} lists {len(doubled)} images twice, such as {doubled[0]}; keep one row for each")
    if image_ids is None:
        return table
    found = to_files(table, image_ids).dropna(subset="light")
    if len(image_ids) and found.empty:
        named = f"{len(table)}, {table.index[0]} among them" if len(table) else "none at all"
        raise LatentrotError(
            f"{path} names none of the {len(image_ids)} images ({image_ids[0]} and so on); it names {named}. Give a table "
            "of these images, or omit it to use the label network's estimates"
        )
    return found


def with_light(labels: pd.DataFrame, lights: pd.DataFrame) -> pd.DataFrame:
    """Replace the light in a label table.

    Args:
        labels: from `label_folder`.
        lights: from `read_light_labels`.

    Returns:
        The same rows; light and confidence are replaced for images in `lights`, and a warning counts the other images.
        p_left, p_center and p_right remain those of the network.

    Raises:
        LatentrotError: the tables have no image in common, or their digests differ.
    """
    common = labels.index.intersection(lights.index)
    if not len(common):
        raise LatentrotError(
            f"the light table contains none of the {len(labels)} images; image names look like {labels.index[0]!r}, "
            f"names in the light table like {next(iter(lights.index), 'none')!r}"
        )
    if len(common) < len(labels):
        log.warning(
            "%d of %d images keep the network's light, because the table does not contain them",
            len(labels) - len(common),
            len(labels),
        )
    if "digest" in lights and "digest" in labels:
        changed = changed_names(
            lights["digest"].dropna().to_dict(), labels["digest"].to_dict(),
            "the lights belong to other images than the folder's", "label the light of this folder",
        )  # fmt: skip
        if changed:
            log.warning("%d images have changed since their light was labelled, and keep the network's light: %s",
                        len(changed), list_some(changed))  # fmt: skip
        lights = lights.drop(index=changed)
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
            f"{path} has no column {', '.join(missing)}; it has {', '.join(map(str, table.columns))}: pass their "
            'names, for example columns={"image_id": "file", "light": "side"}'
        )
    given = theirs["confidence"] in table
    confidence = as_numbers(table, [theirs["confidence"]], path)[theirs["confidence"]] if given else np.ones(len(table))
    ids = table[theirs["image_id"]].astype(str)
    return _rows(path, ids, table[theirs["light"]], confidence, values, table.get("digest"))


def _from_array(
    path: Path, image_ids: Sequence[str] | None, values: Mapping[Any, str | None], order: Sequence[str]
) -> pd.DataFrame:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise LatentrotError(f"cannot read the lights {path}: {error}") from error
    if image_ids is None or len(image_ids) != len(np.atleast_1d(array)):
        got = 0 if image_ids is None else len(image_ids)
        raise LatentrotError(
            f"{path} holds an array of shape {array.shape}, but {got} image_ids were given; give one for each row"
        )
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
    path: Path, image_ids: Sequence[str] | pd.Series, lights: Any, confidence: Any, values: Mapping[Any, str | None],
    digests: pd.Series | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Build the table with translated lights; rows without a light are left out."""
    meant = [None if pd.isna(value) else values.get(value, value) for value in lights]
    if unknown := sorted({repr(value) for value in meant if value is not None and value not in LIGHTS}):
        raise LatentrotError(
            f"{path} contains the lights {', '.join(unknown[:8])}; expected {', '.join(LIGHTS)}: pass their meaning, for "
            'example values={"L": "left"}'
        )
    table = pd.DataFrame({"light": pd.Series(meant, dtype=object), "confidence": np.asarray(confidence, float)})
    if digests is not None:
        table["digest"] = digests.to_numpy()
    table.index = pd.Index([str(i) for i in image_ids], name="image_id")
    return table[table["light"].notna()]
