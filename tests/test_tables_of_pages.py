"""A figure stands in one place: the tables of README and manual are those of the CSV files beside the scripts."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "experiments"))

import tables  # noqa: E402


@pytest.mark.parametrize("page", tables.PAGES)
def test_tables_are_as_measured(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert tables.BLOCK.search(text)
    assert tables.renewed(text) == text, "run: python experiments/tables.py"


def test_the_readme_has_one_table_of_at_most_six_rows_and_four_columns():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) <= 8
    assert all(line.count("|") == 5 for line in rows)
