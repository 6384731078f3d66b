"""Filters and tables answer what was meant, or refuse; they never take a missing or unlike value for "no"."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from latentrot.data.filters import matching
from latentrot.data.tables import read_table
from latentrot.diffusion.solve import Schedule
from latentrot.directions import signs
from latentrot.directions.signs import check_yaw_sign
from latentrot.errors import LatentrotError
from latentrot.faces.light.tables import read_light_labels
from latentrot.faces.table import COLUMNS, read_labels
from latentrot.store.latent_store import LatentStore
from latentrot.store.space import LatentSpace

TABLE = pd.DataFrame(
    {
        "identity": ["612", "612", "7", None],
        "light": ["left", "center", "right", "left"],
        "Male": [1, -1, np.nan, 1],
        "yaw_deg": [-20.0, 0.0, 20.0, np.nan],
    },
    index=pd.Index(list("abcd"), name="image_id"),
)


@pytest.mark.parametrize(
    ("filter_", "kept"),
    [
        ("identity == 612", "ab"),
        ('identity == "612"', "ab"),
        ("identity == 612.0", "ab"),
        ("612 == identity", "ab"),
        ("identity != 612", "c"),
        ("not identity == 612", "c"),
        ('light == "left"', "ad"),
        ("light != 'left'", "bc"),
        ("Male != 1", "b"),
        ("not (Male == 1)", "b"),
        ("Male == 1 or light == 'right'", "acd"),
        ("Male == 1 and light == 'left'", "ad"),
        ("not (Male == 1 and light == 'left')", "bc"),
        ("-10 < yaw_deg < 30", "bc"),
        ("not -10 < yaw_deg", "a"),
        ("yaw_deg != 0 or Male == -1", "abc"),
    ],
)
def test_rows_with_unknown_values_are_left_out(filter_, kept):
    """A value that is missing is neither like nor unlike another."""
    keep = matching(TABLE, filter_)
    assert "".join(keep.index[keep]) == kept


@pytest.mark.parametrize(
    ("filter_", "word"),
    [
        ("identity > 612", "only be compared by == or !="),
        ("identity == yaw_deg", "text column with a numeric one"),
        ('Male == "1"', "write a number"),
        ("Male != 0", "the column has no 0, only 1.0 and -1.0"),
    ],
)
def test_undecidable_comparisons_are_refused(filter_, word):
    """Rather than to keep everybody, or nobody."""
    with pytest.raises(LatentrotError, match=word):
        matching(TABLE, filter_)


def test_filters_without_effect_are_reported(caplog):
    """Rows left out for what they lack, and names nobody has."""
    with caplog.at_level(logging.WARNING):
        matching(TABLE, "Male == 1")
        matching(TABLE, "identity != 99")
    assert "1 of 4 rows lack a value that it needs" in caplog.text
    assert "the column has no 99" in caplog.text


def table_text(separator: str, comma: str, light: str = "left") -> str:
    """Two rows of labels in a dialect; the second row is that of nobody's light."""
    rows = [("a.png", -12.5, "center"), ("b.png", 3.0, light)]
    text = [separator.join(["image_id", *COLUMNS, "identity"])]
    for name, yaw, side in rows:
        values = [yaw, 0.0, 1.5, side, 0.1, 0.8, 0.1, 0.8]
        cells = [str(v).replace(".", comma) if isinstance(v, float) else v for v in values]
        text.append(separator.join([name, *cells, "612"]))
    return "\n".join(text) + "\n"


@pytest.mark.parametrize(
    ("separator", "comma", "encoding", "lead"),
    [
        (",", ".", "utf-8", ""), (";", ".", "utf-8", ""), (";", ",", "utf-8", ""), ("\t", ",", "utf-16", ""),
        (";", ",", "utf-8-sig", "sep=;\n"), (" ", ",", "utf-8", ""),
    ],
)  # fmt: skip
def test_every_spreadsheet_s_dialect_is_read(tmp_path, separator, comma, encoding, lead):
    """Semicolons, tabs, decimal commas, byte-order marks: the same numbers."""
    path = tmp_path / "labels.csv"
    path.write_text(lead + table_text(separator, comma), encoding=encoding)
    table = read_labels(path)
    assert table["yaw_deg"].tolist() == [-12.5, 3.0]
    assert table["roll_deg"].tolist() == [1.5, 1.5]
    assert table["identity"].tolist() == ["612", "612"]
    assert read_light_labels(path)["light"].tolist() == ["center", "left"]


def test_rows_that_lack_light_or_yaw_are_left_out(tmp_path, caplog):
    """They are named; a table of nothing else is refused."""
    path = tmp_path / "labels.csv"
    path.write_text(table_text(",", ".", light=""))
    with caplog.at_level(logging.WARNING):
        assert list(read_labels(path).index) == ["a.png"]
    assert "1 of 2 rows lack yaw_deg or light, and are left out: b.png" in caplog.text
    path.write_text(table_text(",", ".", light="").replace(",center,", ",,"))
    with pytest.raises(LatentrotError, match="no row with both"):
        read_labels(path)


@pytest.mark.parametrize("cell", ["twelve", "inf", "12°"])
def test_a_cell_that_is_no_number_is_named(tmp_path, cell):
    """With its column and image, on one line."""
    path = tmp_path / "labels.csv"
    path.write_text(table_text(",", ".").replace("-12.5", cell), encoding="utf-8")
    with pytest.raises(
        LatentrotError, match=rf"yaw_deg of a.png is '{cell}'; expected a number \(wrong in 1 of 2 rows"
    ):
        read_labels(path)


@pytest.fixture
def store(tmp_path, model):
    """Twelve latents, and labels that say how far each is turned."""
    made = LatentStore(tmp_path / "store")
    yaw = np.linspace(-33, 33, 12)
    latents = torch.from_numpy(yaw).float()[:, None, None, None].expand(-1, *model.latent_shape)
    made.append([f"{i}.png" for i in range(12)], latents, LatentSpace.of(model, Schedule()))
    return made, pd.DataFrame({"yaw_deg": yaw}, index=pd.Index([f"{i}.png" for i in range(12)], name="image_id"))


def test_yaw_in_radians_is_refused(store, model, monkeypatch):
    """As the latents tell."""
    monkeypatch.setattr(signs, "decode", lambda _, z, **__: z / 100)
    monkeypatch.setattr(signs, "estimate_pose", lambda x, **_: x.mean((2, 3)) * 100)
    latents, labels = store
    with pytest.raises(LatentrotError, match=r"yaw_deg seems to be in radians"):
        check_yaw_sign(latents, np.deg2rad(labels), model)


def test_a_yaw_of_the_other_sign_is_refused(store, model, monkeypatch, caplog):
    """The faces that the latents decode to say which way they are turned."""
    monkeypatch.setattr(signs, "decode", lambda _, z, **__: z / 100)
    monkeypatch.setattr(signs, "estimate_pose", lambda x, **_: x.mean((2, 3)) * 100)
    latents, labels = store
    assert check_yaw_sign(latents, labels, model) == pytest.approx(1, abs=0.01)
    with pytest.raises(
        LatentrotError, match=r"yaw_deg has the opposite sign: .* -18 and .18 degrees decode to faces of .18 and -18"
    ):
        check_yaw_sign(latents, -labels, model)
    shuffled = pd.DataFrame(
        {"yaw_deg": labels["yaw_deg"].to_numpy()[[0, 11, 1, 10, 2, 9, 3, 8, 4, 7, 5, 6]]}, index=labels.index
    )
    check_yaw_sign(latents, shuffled, model)
    assert "do the labels belong to the latents?" in caplog.text


def test_tables_without_a_header_or_rows(tmp_path: Path):
    """An empty table is refused by name."""
    (tmp_path / "x.csv").write_text("")
    with pytest.raises(LatentrotError, match="is empty"):
        read_table(tmp_path / "x.csv")
