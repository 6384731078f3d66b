"""Labels of a whole folder: make, write, read and filter them."""

from __future__ import annotations

import ast
import difflib
import logging
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from latentrot.data.celeba import FaceFolder
from latentrot.data.images import to_tensor
from latentrot.errors import LatentrotError
from latentrot.files import write_atomically
from latentrot.label.estimate import LabelerPose, PoseEstimator, estimate_light, estimate_pose, light_names
from latentrot.label.network import LIGHTS, FaceLabeler, load_labeler

__all__ = ["COLUMNS", "label_folder", "matching", "read_labels", "with_attributes", "write_labels"]

log = logging.getLogger(__name__)

COLUMNS = ("yaw_deg", "pitch_deg", "roll_deg", "light", "p_left", "p_center", "p_right", "confidence")


def label_folder(
    folder: FaceFolder,
    *,
    estimator: PoseEstimator | None = None,
    labeler: FaceLabeler | None = None,
    mirror: bool = True,
    device: torch.device | str | None = None,
    batch_size: int = 256,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Estimate pose and light of every picture of a folder; light is always by a label network.

    A picture that cannot be read is left out and named in a warning.

    Args:
        folder: aligned or square face pictures.
        estimator: what estimates the pose; None takes the label network.
        labeler: the label network, on `device`; None takes the one of the bundled faces.
        mirror: average with the mirrored picture, for pose and light.
        device: where to compute; None is the CPU.
        batch_size: pictures at a time.
        progress: show a progress bar; None shows one on a terminal only.

    Returns:
        One row per picture, indexed by image_id: yaw_deg, pitch_deg and roll_deg in degrees, light (left, center or
        right), p_left, p_center and p_right (its probabilities), confidence (the largest of them). Its `attrs` say what
        estimated them (labeler, pose); parquet keeps that.

    Raises:
        LatentrotError: the folder holds no pictures or none can be read, or `batch_size` is below 1.
    """
    if batch_size < 1:
        raise LatentrotError(f"batch_size={batch_size}: expected at least 1")
    labeler = labeler or load_labeler(device=device)
    estimator = estimator or LabelerPose(labeler)
    disable = None if progress is None else not progress
    parts = []
    with tqdm(total=len(folder.ids), disable=disable, desc="label", unit="picture") as bar:
        for start in range(0, len(folder.ids), batch_size):
            batch = folder.ids[start : start + batch_size]
            names, crops, complaints = folder.read_readable(batch, estimator.crop_size)
            for complaint in complaints:
                log.warning("left out: %s", complaint)
            bar.update(len(batch))
            if names:
                x = to_tensor(crops).to(device or "cpu")
                pose = estimate_pose(x, estimator=estimator, mirror=mirror)
                light = estimate_light(x, labeler=labeler, mirror=mirror)
                parts.append(_rows(names, pose.cpu(), light.cpu()))
    if not parts:
        raise LatentrotError(f"none of the {len(folder.ids)} pictures in {folder.image_dir} can be read")
    table = pd.concat(parts)
    table.attrs = {"labeler": labeler.title, "pose": estimator.name}
    return table


def with_attributes(labels: pd.DataFrame, folder: FaceFolder) -> pd.DataFrame:
    """Join what the folder's own tables say: the person of each picture, and CelebA's attributes for filters.

    Args:
        labels: from `label_folder`.
        folder: the folder they were made from.

    Returns:
        The same rows with a column identity and, where the folder has them, its attributes.
    """
    joined = labels.assign(identity=folder.identities.reindex(labels.index))
    joined = joined if folder.attributes is None else joined.join(folder.attributes)
    joined.attrs = labels.attrs  # a join forgets them
    return joined


def _rows(names: list[str], pose: torch.Tensor, light: torch.Tensor) -> pd.DataFrame:
    values = torch.cat([pose, light, light.amax(1, keepdim=True)], 1).numpy()
    numeric = [c for c in COLUMNS if c != "light"]
    table = pd.DataFrame(values, index=pd.Index(names, name="image_id"), columns=pd.Index(numeric))
    table["light"] = light_names(light)
    return table.reindex(columns=list(COLUMNS))


def write_labels(table: pd.DataFrame, path: Path | str) -> None:
    """Write a label table under a temporary name, then rename it: a kill never leaves half a table.

    Args:
        table: as `label_folder` returns it.
        path: where to; .parquet or .csv by the suffix.

    Raises:
        LatentrotError: another suffix, missing columns, or the file cannot be written.
    """
    path = Path(path)
    suffix = _suffix(path)
    _check_columns(table, "the table")
    write_atomically(path, lambda p: table.to_parquet(p) if suffix == ".parquet" else table.to_csv(p))


def read_labels(path: Path | str) -> pd.DataFrame:
    """Read a label table.

    Args:
        path: a .parquet or .csv file written by `write_labels`.

    Returns:
        The table, indexed by image_id, with the columns of `label_folder` and any further ones.

    Raises:
        LatentrotError: no such file, another suffix, an unreadable file, missing columns, or an unknown light.
    """
    path = Path(path)
    suffix = _suffix(path)
    if not path.is_file():
        raise LatentrotError(
            f"no label table at {path}; make one with `latentrot label --data DIR --out labels.parquet`"
        )
    try:
        table = pd.read_parquet(path) if suffix == ".parquet" else pd.read_csv(path)
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise LatentrotError(f"cannot read the label table {path}: {error}") from error
    if table.index.name != "image_id":
        if "image_id" not in table.columns:
            raise LatentrotError(f"{path} has no column image_id; it has {', '.join(map(str, table.columns))}")
        table = table.set_index("image_id")
    table.index = table.index.astype(str)
    _check_columns(table, str(path))
    if unknown := sorted(set(table["light"].astype(str)) - set(LIGHTS)):
        raise LatentrotError(f"{path} names the lights {', '.join(unknown)}; expected {', '.join(LIGHTS)}")
    return table


def _suffix(path: Path) -> str:
    if path.suffix not in (".parquet", ".csv"):
        raise LatentrotError(f"label table {path}: expected a name ending in .parquet or .csv, not {path.suffix!r}")
    return path.suffix


def _check_columns(table: pd.DataFrame, what: str) -> None:
    if missing := [c for c in COLUMNS if c not in table.columns]:
        raise LatentrotError(
            f"{what} lacks the columns {', '.join(missing)}; it has {', '.join(map(str, table.columns))}"
        )


# --- filters --------------------------------------------------------------------------------------------------------

COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def matching(attributes: pd.DataFrame, where: str) -> pd.Series:
    """Which rows a filter such as `Male == 1 and Eyeglasses == -1` keeps.

    A filter compares columns with numbers (==, !=, <, <=, >, >=, also chained: `-10 < yaw_deg < 10`) and joins
    comparisons by `and`, `or`, `not` and parentheses. Nothing else is understood, and nothing is ever executed.

    Args:
        attributes: the table whose columns the filter names.
        where: the filter.

    Returns:
        Bool by the table's index.

    Raises:
        LatentrotError: not a filter, or an unknown column (with the closest names).
    """
    try:
        tree = ast.parse(where.strip(), mode="eval")
        keep = _condition(tree.body, attributes, where)
    except (SyntaxError, RecursionError, MemoryError, ValueError, TypeError) as error:
        if isinstance(error, LatentrotError):
            raise
        raise LatentrotError(f"cannot understand the filter {where!r}: {error}") from error
    return pd.Series(keep, index=attributes.index, dtype=bool)


def _condition(node: ast.expr, table: pd.DataFrame, where: str) -> np.ndarray:
    match node:
        case ast.BoolOp(op=op, values=values):
            join = np.logical_and if isinstance(op, ast.And) else np.logical_or
            return join.reduce([_condition(v, table, where) for v in values])
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return ~_condition(operand, table, where)
        case ast.Compare(left=left, ops=ops, comparators=rest):
            return _comparison([left, *rest], ops, table, where)
    raise _refused(node, where, "a comparison such as Male == 1")


def _comparison(nodes: list[ast.expr], ops: list[ast.cmpop], table: pd.DataFrame, where: str) -> np.ndarray:
    values = [_value(n, table, where) for n in nodes]
    keep = np.ones(len(table), bool)
    for op, left, right in zip(ops, values, values[1:], strict=False):
        if type(op) not in COMPARISONS:
            raise LatentrotError(f"filter {where!r}: {type(op).__name__} is not one of == != < <= > >=")
        keep &= np.asarray(COMPARISONS[type(op)](left, right), bool)
    return keep


def _value(node: ast.expr, table: pd.DataFrame, where: str) -> np.ndarray | float:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.Name(id=name):
            return _column(name, table, where)
    raise _refused(node, where, "a column or a number")


def _column(name: str, table: pd.DataFrame, where: str) -> np.ndarray:
    if name in table.columns:
        return table[name].to_numpy()
    columns = [str(c) for c in table.columns]
    near = difflib.get_close_matches(name, columns, n=3, cutoff=0.5)
    near = near or [c for c in columns if c.lower() == name.lower()]
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(columns[:12])}"
    raise LatentrotError(f"filter {where!r}: no column {name!r}; {hint}")


def _refused(node: ast.AST, where: str, expected: str) -> LatentrotError:
    return LatentrotError(f"filter {where!r}: {ast.unparse(node)!r} is not allowed there, expected {expected}")
