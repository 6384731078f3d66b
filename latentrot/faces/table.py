"""Label tables: estimate the labels of a folder, write and read the table."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
import torch

from latentrot.bundles import DEFAULT_BUNDLE
from latentrot.data.arrays import to_tensor
from latentrot.data.celeba import FaceFolder
from latentrot.data.digests import image_digests, list_some
from latentrot.data.tables import as_numbers, check_unique, read_table, require_columns
from latentrot.errors import LatentrotError, one_line
from latentrot.faces.attributes import (
    AttributeNetwork,
    attribute_table,
    estimate_attributes,
    find_attributes,
    load_attributes,
)
from latentrot.faces.colours import COLOUR_COLUMNS, estimate_colours
from latentrot.faces.estimate import LabelerPose, PoseEstimator, estimate_light, estimate_pose, light_names
from latentrot.faces.network import LIGHTS, FaceLabeler, load_labeler
from latentrot.files import check_format, write_atomically
from latentrot.progress import Progress

__all__ = ["COLUMNS", "describe", "label_folder", "read_labels", "with_attributes", "write_labels"]

log = logging.getLogger(__name__)

COLUMNS = ("yaw_deg", "pitch_deg", "roll_deg", "light", "p_left", "p_center", "p_right", "confidence")
#: version of the file format, raised when an older version would misread it
FORMAT = 1


def label_folder(
    folder: FaceFolder,
    *,
    estimator: PoseEstimator | None = None,
    labeler: FaceLabeler | None = None,
    attributes: AttributeNetwork | None = None,
    mirror: bool = True,
    device: torch.device | str | None = None,
    batch_size: int = 256,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Estimate the labels of every image of a folder; a label network always estimates the light.

    Unreadable images are left out and named in a warning.

    Args:
        folder: aligned or square face images.
        estimator: pose estimator; None: the label network.
        labeler: the label network, on `device`; None: the bundled one.
        attributes: network for age and attributes, on `device`; None: the bundled one if `labeler` is None, otherwise these
            columns are left out.
        mirror: average all estimates with those of the mirrored image.
        device: device of the computation; None: the CPU.
        batch_size: images at a time.
        progress: show a progress bar; None: only on a terminal.

    Returns:
        One row per image, indexed by image_id: yaw_deg, pitch_deg and roll_deg in degrees, light (left, center or
        right), p_left, p_center and p_right (probabilities of the lights), confidence (the largest of them); age_years and
        the probabilities of CelebA's attributes (see `estimate_attributes`), if a network estimates them; mean colours (see
        `estimate_colours`); digest (of the image file, see `image_digest`). Its `attrs` record the estimators (labeler,
        pose, attributes); parquet keeps them.

    Raises:
        LatentrotError: the folder contains no images, no image can be read, or `batch_size` is below 1.
    """
    if batch_size < 1:
        raise LatentrotError(f"batch_size={batch_size}: expected at least 1")
    attributes = attributes or default_attributes(labeler, device)
    labeler = labeler or load_labeler(device=device)
    estimator = estimator or LabelerPose(labeler)
    parts = []
    with Progress("label", len(folder.ids), disable=None if progress is None else not progress) as bar:
        for start in range(0, len(folder.ids), batch_size):
            batch = folder.ids[start : start + batch_size]
            names, crops, complaints = folder.read_readable(batch, estimator.crop_size)
            for complaint in complaints:
                log.warning("left out: %s", complaint)
            bar.update(len(batch))
            if names:
                x = to_tensor(crops).to(device or "cpu")
                parts.append(describe_crops(x, estimator, labeler, attributes, mirror=mirror).set_axis(names))
    if not parts:
        raise LatentrotError(f"none of the {len(folder.ids)} images in {folder.image_dir} can be read")
    table = pd.concat(parts).rename_axis("image_id")
    table["digest"] = image_digests(folder.image_dir, table.index.tolist())
    table.attrs = {"labeler": labeler.title, "pose": estimator.name}
    if attributes is not None:
        table.attrs["attributes"] = attributes.title
    return table


def default_attributes(
    labeler: FaceLabeler | None, device: torch.device | str | None = None
) -> AttributeNetwork | None:
    """The bundled attributes network if it exists and `labeler` is None, the bundled label network."""
    there = labeler is None and find_attributes(DEFAULT_BUNDLE) is not None
    return load_attributes(device=device) if there else None


def describe(
    x: torch.Tensor,
    *,
    labeler: FaceLabeler | None = None,
    attributes: AttributeNetwork | None = None,
    mirror: bool = True,
) -> pd.DataFrame:
    """Describe face crops: pose, light, age and attributes.

    Args:
        x: (n, 3, h, h) crops in the CelebA frame, float in [-1, 1], of any size.
        labeler: the label network; None: the bundled one.
        attributes: the attributes network; None: the bundled one if `labeler` is None.
        mirror: average the estimates with those of the mirrored image.

    Returns:
        One row per crop with the columns of `label_folder`: yaw_deg, pitch_deg and roll_deg in degrees, light, p_left,
        p_center, p_right, confidence, age_years, p_Smiling and so on, face_r and the other colours.

    Raises:
        LatentrotError: `x` is not a batch of square RGB crops.

    Example:
        >>> shown = latentrot.describe(x)
        >>> shown.loc[0, ["yaw_deg", "light", "age_years", "p_Smiling"]]
    """
    attributes = attributes or default_attributes(labeler, x.device)
    labeler = labeler or load_labeler(device=x.device)
    return describe_crops(x, LabelerPose(labeler), labeler, attributes, mirror=mirror)


def describe_crops(
    x: torch.Tensor,
    estimator: PoseEstimator,
    labeler: FaceLabeler,
    attributes: AttributeNetwork | None,
    *,
    mirror: bool,
) -> pd.DataFrame:
    """(n, 3, h, h) crops -> one row per crop: pose, light, age and attributes (if a network is given), colours."""
    pose = estimate_pose(x, estimator=estimator, mirror=mirror)
    light = estimate_light(x, labeler=labeler, mirror=mirror)
    tables = [_rows(pose.cpu(), light.cpu())]
    if attributes is not None:
        tables.append(attribute_table(estimate_attributes(x, network=attributes, mirror=mirror)))
    tables.append(pd.DataFrame(estimate_colours(x).cpu().numpy(), columns=pd.Index(COLOUR_COLUMNS)))
    return pd.concat(tables, axis=1)


def with_attributes(labels: pd.DataFrame, folder: FaceFolder) -> pd.DataFrame:
    """Join the tables in the folder to the labels: the person in each image, and CelebA's attributes for filters.

    Args:
        labels: from `label_folder`.
        folder: the labelled folder.

    Returns:
        The same rows with a column identity (names as text) and, if in the folder, CelebA's attributes and partition
        (0 train, 1 validation, 2 test).
    """
    joined = labels.assign(identity=folder.identities.reindex(labels.index))
    if folder.partition is not None:
        joined = joined.assign(partition=folder.partition.reindex(labels.index))
    joined = joined if folder.attributes is None else joined.join(folder.attributes)
    joined.attrs = labels.attrs  # a join drops the attrs
    return joined


def _rows(pose: torch.Tensor, light: torch.Tensor) -> pd.DataFrame:
    values = torch.cat([pose, light, light.amax(1, keepdim=True)], 1).numpy()
    numeric = [c for c in COLUMNS if c != "light"]
    table = pd.DataFrame(values, columns=pd.Index(numeric))
    table["light"] = light_names(light)
    return table.reindex(columns=list(COLUMNS))


def write_labels(table: pd.DataFrame, path: Path | str) -> None:
    """Write a label table atomically.

    Args:
        table: as returned by `label_folder`.
        path: target; .parquet or .csv by the suffix.

    Raises:
        LatentrotError: the suffix or a column is wrong, an image name occurs twice, or the file cannot be written.
    """
    path = Path(path)
    suffix = check_labels_path(path)
    require_columns(check_unique(table, path), COLUMNS, "the table")
    table = table.copy(deep=False)
    table.attrs = {**table.attrs, "format": FORMAT}
    write_atomically(path, lambda p: table.to_parquet(p) if suffix == ".parquet" else table.to_csv(p))


def read_labels(path: Path | str, *, complete: bool = True) -> pd.DataFrame:
    """Read a label table.

    Args:
        path: a .parquet or .csv file written by `write_labels`, or a user's table.
        complete: require the columns of `label_folder`; False: accept any subset of them.

    Returns:
        The table, indexed by image_id, with the columns of `label_folder` and any further ones.

    Raises:
        LatentrotError: the file is missing, unreadable or of a newer version, the suffix or a column is wrong, a light is
            unknown, or an image name occurs twice.
    """
    path = Path(path)
    check_labels_path(path)
    if not path.is_file():
        raise LatentrotError(
            f"no label table at {path}; create one with `latentrot label --data DIR --out labels.parquet`"
        )
    table = read_table(path)
    check_format(table.attrs.pop("format", 1), FORMAT, path)
    if "identity" in table:  # each image without an identity gets a person of its own
        table["identity"] = table["identity"].fillna(table.index.to_series())
    if complete:
        require_columns(table, COLUMNS, str(path))
    table = as_numbers(table, [c for c in COLUMNS if c != "light" and c in table], path)
    table = _complete(table, path) if complete else table
    if unknown := sorted(set(table.get("light", pd.Series()).dropna().astype(str)) - set(LIGHTS)):
        raise LatentrotError(f"{path} names the lights {', '.join(unknown)}; expected {', '.join(LIGHTS)}")
    return table


def _complete(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Drop rows without yaw or light, with a warning."""
    lacking = table.index[table[["yaw_deg", "light"]].isna().any(axis=1)].tolist()
    if len(lacking) == len(table):
        raise LatentrotError(f"{one_line(path)} has no row with both yaw_deg and light; fill these columns")
    if lacking:
        log.warning("%s: %d of %d rows lack yaw_deg or light, and are left out: %s",
                    path, len(lacking), len(table), list_some(lacking))  # fmt: skip
    return table.drop(index=lacking)


def check_labels_path(path: Path) -> str:
    """Return the suffix of a label table; raises LatentrotError if it is neither .parquet nor .csv."""
    if path.suffix not in (".parquet", ".csv"):
        raise LatentrotError(f"label table {path}: expected a name ending in .parquet or .csv, not {path.suffix!r}")
    return path.suffix
