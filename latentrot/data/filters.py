"""Filters such as `Male == 1 and Eyeglasses == -1`: which rows of a table they keep. Parsed, never executed."""

from __future__ import annotations

import ast
import difflib
import operator
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from latentrot.errors import LatentrotError

__all__ = ["matching"]

COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def matching(attributes: pd.DataFrame, expression: str) -> pd.Series:
    """Which rows a filter such as `Male == 1 and Eyeglasses == -1` keeps.

    A filter compares columns with numbers (==, !=, <, <=, >, >=, also chained: `-10 < yaw_deg < 10`) and joins
    comparisons by `and`, `or`, `not` and parentheses. A column whose name is no word of that language, such as
    5_o_Clock_Shadow, may be written as it is or between backticks. Nothing else is understood, and nothing is executed.

    Args:
        attributes: the table whose columns the filter names.
        expression: the filter.

    Returns:
        Bool by the table's index.

    Raises:
        LatentrotError: not a filter, or an unknown column (with the closest names).
    """
    text, table = _with_plain_names(expression, attributes)
    try:
        tree = ast.parse(text.strip(), mode="eval")
        keep = _condition(tree.body, table, expression)
    except (SyntaxError, RecursionError, MemoryError, ValueError, TypeError) as error:
        if isinstance(error, LatentrotError):
            raise
        raise LatentrotError(f"cannot understand the filter {expression!r}: {_advice(expression, error)}") from error
    return pd.Series(keep, index=attributes.index, dtype=bool)


def _with_plain_names(expression: str, table: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    """The filter and the table with columns renamed that Python would not take for names."""
    odd = sorted((c for c in map(str, table.columns) if not c.isidentifier()), key=len, reverse=True)
    plain = {name: f"column_{i}_" for i, name in enumerate(odd)}
    words = "|".join(map(re.escape, odd))
    if odd:
        expression = re.sub(rf"`({words})`|(?<![\w.])({words})(?!\w)", lambda m: plain[m[1] or m[2]], expression)
    expression = re.sub(r"`(\w+)`", r"\1", expression)
    return expression, table.rename(columns=plain)


def _advice(expression: str, error: Exception) -> str:
    """What to write instead, where that can be guessed."""
    if re.search(r"(?<![=!<>])=(?!=)", expression):
        return "two equal signs compare, as in Male == 1"
    if wrong := re.search(r"\b(AND|OR|NOT|And|Or|Not)\b|&&?|\|\|?", expression):
        word = {"&": "and", "|": "or"}.get(wrong[0][0], wrong[0].lower())
        return f"write {word} instead of {wrong[0]}"
    if "`" in expression:
        return f"no such column: {expression[expression.index('`') :]}"
    return f"{error}; expected something like Male == 1 and Eyeglasses == -1"


def _condition(node: ast.expr, table: pd.DataFrame, expression: str) -> np.ndarray:
    match node:
        case ast.BoolOp(op=op, values=values):
            join = np.logical_and if isinstance(op, ast.And) else np.logical_or
            return join.reduce([_condition(v, table, expression) for v in values])
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return ~_condition(operand, table, expression)
        case ast.Compare(left=left, ops=ops, comparators=rest):
            return _comparison([left, *rest], ops, table, expression)
    raise _refused(node, expression, "a comparison such as Male == 1")


def _comparison(nodes: list[ast.expr], ops: list[ast.cmpop], table: pd.DataFrame, expression: str) -> np.ndarray:
    if any(isinstance(n, ast.BinOp) for n in nodes):  # & and | bind more tightly than comparisons
        raise LatentrotError(
            f"cannot understand the filter {expression!r}: {_advice(expression, TypeError('arithmetic'))}"
        )
    values = [_value(n, table, expression) for n in nodes]
    keep = np.ones(len(table), bool)
    for op, left, right in zip(ops, values, values[1:], strict=False):
        if type(op) not in COMPARISONS:
            raise LatentrotError(f"filter {expression!r}: {type(op).__name__} is not one of == != < <= > >=")
        keep &= np.asarray(COMPARISONS[type(op)](left, right), bool)
    return keep


def _value(node: ast.expr, table: pd.DataFrame, expression: str) -> np.ndarray | float:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.Name(id=name):
            return _column(name, table, expression)
    raise _refused(node, expression, "a column or a number")


def _column(name: str, table: pd.DataFrame, expression: str) -> np.ndarray:
    if name in table.columns:
        return table[name].to_numpy()
    columns = [str(c) for c in table.columns]
    near = difflib.get_close_matches(name, columns, n=3, cutoff=0.5)
    near = near or [c for c in columns if c.lower() == name.lower()]
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(columns[:12])}"
    raise LatentrotError(f"filter {expression!r}: no column {name!r}; {hint}")


def _refused(node: ast.AST, expression: str, expected: str) -> LatentrotError:
    return LatentrotError(f"filter {expression!r}: {ast.unparse(node)!r} is not allowed there, expected {expected}")
