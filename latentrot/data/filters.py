"""Filter expressions such as `Male == 1 and Eyeglasses == -1` on table rows. Parsed, never executed."""

from __future__ import annotations

import ast
import difflib
import logging
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from latentrot.data.tables import as_names
from latentrot.errors import LatentrotError

__all__ = ["matching"]

log = logging.getLogger(__name__)
Value: TypeAlias = "np.ndarray | float | str"

COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


@dataclass(frozen=True)
class TernaryMask:
    """Rows for which a condition is true, and rows for which it is false; rows with missing values are in neither mask."""

    yes: np.ndarray
    no: np.ndarray


def matching(attributes: pd.DataFrame, expression: str) -> pd.Series:
    """Rows that match a filter such as `Male == 1 and Eyeglasses == -1`.

    A filter compares columns with numbers (==, !=, <, <=, >, >=, also chained: `-10 < yaw_deg < 10`), or text columns with
    a text (`light == "left"`, `identity != 612`), and combines comparisons by `and`, `or`, `not` and parentheses. A column
    whose name is not a Python identifier, such as 5_o_Clock_Shadow, may be written with or without backticks. Nothing else
    is allowed, and nothing is executed. Rows whose result depends on a missing value are left out and counted in a warning.

    Args:
        attributes: the table whose columns the filter names.
        expression: the filter.

    Returns:
        Boolean series with the table's index.

    Raises:
        LatentrotError: the filter cannot be parsed, names an unknown column, compares a number with text, or compares a
            two-valued column with a value that never occurs.
    """
    text, table = _with_plain_names(expression, attributes)
    try:
        tree = ast.parse(text.strip(), mode="eval")
        answer = _condition(tree.body, table, expression)
    except (SyntaxError, RecursionError, MemoryError, ValueError, TypeError) as error:
        if isinstance(error, LatentrotError):
            raise
        raise LatentrotError(f"cannot understand the filter {expression!r}: {_advice(expression, error)}") from error
    if unknown := int((~(answer.yes | answer.no)).sum()):
        log.warning(
            "filter %r: %d of %d rows lack a value that it needs, and are left out", expression, unknown, len(table)
        )
    return pd.Series(answer.yes, index=attributes.index, dtype=bool)


def _with_plain_names(expression: str, table: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    """Replace column names that are not Python identifiers in the filter and the table."""
    odd = sorted((c for c in map(str, table.columns) if not c.isidentifier()), key=len, reverse=True)
    plain = {name: f"column_{i}_" for i, name in enumerate(odd)}
    words = "|".join(map(re.escape, odd))
    if odd:
        expression = re.sub(rf"`({words})`|(?<![\w.])({words})(?!\w)", lambda m: plain[m[1] or m[2]], expression)
    expression = re.sub(r"`(\w+)`", r"\1", expression)
    return expression, table.rename(columns=plain)


def _advice(expression: str, error: Exception) -> str:
    """A hint for correcting the filter."""
    if re.search(r"(?<![=!<>])=(?!=)", expression):
        return "two equal signs compare, as in Male == 1"
    if wrong := re.search(r"\b(AND|OR|NOT|And|Or|Not)\b|&&?|\|\|?", expression):
        word = {"&": "and", "|": "or"}.get(wrong[0][0], wrong[0].lower())
        return f"write {word} instead of {wrong[0]}"
    if "`" in expression:
        return f"no such column: {expression[expression.index('`') :]}"
    return f"{error}; expected something like Male == 1 and Eyeglasses == -1"


def _condition(node: ast.expr, table: pd.DataFrame, expression: str) -> TernaryMask:
    match node:
        case ast.BoolOp(op=op, values=values):
            parts = [_condition(v, table, expression) for v in values]
            every, some = np.logical_and.reduce, np.logical_or.reduce
            yes, no = [p.yes for p in parts], [p.no for p in parts]
            return TernaryMask(every(yes), some(no)) if isinstance(op, ast.And) else TernaryMask(some(yes), every(no))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            inner = _condition(operand, table, expression)
            return TernaryMask(inner.no, inner.yes)
        case ast.Compare(left=left, ops=ops, comparators=rest):
            return _comparison([left, *rest], ops, table, expression)
    raise _refused(node, expression, "a comparison such as Male == 1")


def _comparison(nodes: list[ast.expr], ops: list[ast.cmpop], table: pd.DataFrame, expression: str) -> TernaryMask:
    if any(isinstance(n, ast.BinOp) for n in nodes):  # & and | bind more tightly than comparisons
        raise LatentrotError(
            f"cannot understand the filter {expression!r}: {_advice(expression, TypeError('arithmetic'))}"
        )
    values = [_value(n, table, expression) for n in nodes]
    yes, no = np.ones(len(table), bool), np.zeros(len(table), bool)
    for op, left, right in zip(ops, values, values[1:], strict=False):
        if type(op) not in COMPARISONS:
            raise LatentrotError(f"filter {expression!r}: {type(op).__name__} is not one of == != < <= > >=")
        left, right = _alike(left, right, op, expression)  # noqa: PLW2901
        known = np.asarray(pd.notna(left) & pd.notna(right), bool)
        holds = np.zeros(len(table), bool)
        holds[known] = COMPARISONS[type(op)](_rows(left, known), _rows(right, known))
        yes, no = yes & holds, no | (known & ~holds)
    return TernaryMask(yes, no)


def _rows(value: Value, rows: np.ndarray) -> Value:
    """The given rows of a column; a scalar unchanged."""
    return value[rows] if isinstance(value, np.ndarray) else value


def _alike(left: Value, right: Value, op: ast.cmpop, expression: str) -> tuple[Value, Value]:
    """Convert both sides to numbers, or to text if a column holds text.

    Raises:
        LatentrotError: text is compared by order or with a number, or a value never occurs in a column.
    """
    named = [isinstance(v, np.ndarray) and v.dtype == object for v in (left, right)]
    columns = [isinstance(v, np.ndarray) for v in (left, right)]
    if any(named):
        if not isinstance(op, (ast.Eq, ast.NotEq)):
            raise LatentrotError(f"filter {expression!r}: a text column can only be compared by == or !=")
        if all(columns) and not all(named):
            raise LatentrotError(f"filter {expression!r} compares a text column with a numeric one")
        left, right = (v if isinstance(v, np.ndarray) else as_names([v])[0] for v in (left, right))
    elif isinstance(left, str) or isinstance(right, str):
        text = left if isinstance(left, str) else right
        raise LatentrotError(f"filter {expression!r}: text {text!r} is compared with numbers; write a number")
    if isinstance(op, (ast.Eq, ast.NotEq)) and sum(columns) == 1:
        _check_occurs(*((left, right) if columns[0] else (right, left)), expression)
    return left, right


def _check_occurs(column: Value, value: Value, expression: str) -> None:
    """Refuse a value that never occurs in a two-valued column (`!=` would match every row); warn for other columns."""
    found = pd.unique(pd.Series(column).dropna())
    if value in found or not len(found):
        return
    if len(found) == 2 and not isinstance(value, str):
        raise LatentrotError(f"filter {expression!r}: the column has no {value:g}, only {found[0]} and {found[1]}")
    log.warning("filter %r: the column has no %s", expression, value)


def _value(node: ast.expr, table: pd.DataFrame, expression: str) -> Value:
    match node:
        case ast.Constant(value=int() | float() | str() as given) if not isinstance(given, bool):
            return given
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.Name(id=name):
            return _column(name, table, expression)
    raise _refused(node, expression, "a column, a number or a name in quotes")


def _column(name: str, table: pd.DataFrame, expression: str) -> np.ndarray:
    if name in table.columns:
        column = table[name]
        numbers = pd.api.types.is_numeric_dtype(column)
        return column.to_numpy(np.float64, na_value=np.nan) if numbers else as_names(column).to_numpy(object)
    columns = [str(c) for c in table.columns]
    near = difflib.get_close_matches(name, columns, n=3, cutoff=0.5)
    near = near or [c for c in columns if c.lower() == name.lower()]
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(columns[:12])}"
    raise LatentrotError(f"filter {expression!r}: no column {name!r}; {hint}")


def _refused(node: ast.AST, expression: str, expected: str) -> LatentrotError:
    return LatentrotError(f"filter {expression!r}: {ast.unparse(node)!r} is not allowed; expected {expected}")
