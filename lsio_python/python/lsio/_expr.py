"""Expressions on columns, which write SQL."""

from __future__ import annotations

import datetime
import math
import numbers
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


def col(name: str) -> Expr:
    """The column of this name.

    >>> lsio.col("t2m").mean() - 273.15
    <lsio.Expr (avg("t2m") - 273.15)>
    """
    return Expr(quoted(name))


def lit(value: Any) -> Expr:
    """A constant: a number, a text, a bool, a time or None.

    >>> lsio.lit("it's")
    <lsio.Expr 'it''s'>
    """
    return Expr(_literal(value))


def count(column: str | None = None) -> Expr:
    """The number of rows, or of the values of a column that aren't missing.

    >>> lsio.open("t2m.zarr").aggregate((), n=lsio.count()).to_numpy()
    {'n': array([72])}
    """
    return Expr("count(*)") if column is None else col(column).count()


def function(name: str, /, *arguments: Any) -> Expr:
    """Any function of SQL.

    >>> lsio.function("atan2", lsio.col("v"), lsio.col("u"))
    <lsio.Expr atan2("v", "u")>
    """
    return Expr(f"{name}({', '.join(sql_of(each, texts=False) for each in arguments)})")


class Expr:
    """An expression on columns. Made by :func:`col`, :func:`lit` and the operators and methods of other expressions."""

    def __init__(self, sql: str, name: str | None = None) -> None:
        self._sql = sql
        self._name = name

    def alias(self, name: str) -> Expr:
        """The same under another name."""
        return Expr(self._sql, name)

    def aliased(self) -> str:
        """SQL with its name, if it has one."""
        return self._sql if self._name is None else f"{self._sql} AS {quoted(self._name)}"

    def __repr__(self) -> str:
        return f"<lsio.Expr {self.aliased()}>"

    def __bool__(self) -> bool:
        raise TypeError("an expression is neither true nor false: use & for and, | for or, ~ for not")

    __hash__ = object.__hash__

    def _with(self, operator: str, other: Any, swapped: bool = False) -> Expr:
        left, right = self._sql, _literal(other)
        if swapped:
            left, right = right, left
        return Expr(f"({left} {operator} {right})")

    def __add__(self, other: Any) -> Expr:
        return self._with("+", other)

    def __radd__(self, other: Any) -> Expr:
        return self._with("+", other, swapped=True)

    def __sub__(self, other: Any) -> Expr:
        return self._with("-", other)

    def __rsub__(self, other: Any) -> Expr:
        return self._with("-", other, swapped=True)

    def __mul__(self, other: Any) -> Expr:
        return self._with("*", other)

    def __rmul__(self, other: Any) -> Expr:
        return self._with("*", other, swapped=True)

    def __truediv__(self, other: Any) -> Expr:
        return self._with("/", other)

    def __rtruediv__(self, other: Any) -> Expr:
        return self._with("/", other, swapped=True)

    def __pow__(self, other: Any) -> Expr:
        return Expr(f"power({self._sql}, {_literal(other)})")

    def __neg__(self) -> Expr:
        return Expr(f"(-{self._sql})")

    def __eq__(self, other: Any) -> Expr:  # type: ignore[override]
        return self.is_null() if other is None else self._with("=", other)

    def __ne__(self, other: Any) -> Expr:  # type: ignore[override]
        return ~self.is_null() if other is None else self._with("<>", other)

    def __lt__(self, other: Any) -> Expr:
        return self._with("<", other)

    def __le__(self, other: Any) -> Expr:
        return self._with("<=", other)

    def __gt__(self, other: Any) -> Expr:
        return self._with(">", other)

    def __ge__(self, other: Any) -> Expr:
        return self._with(">=", other)

    def __and__(self, other: Any) -> Expr:
        return self._with("AND", other)

    def __or__(self, other: Any) -> Expr:
        return self._with("OR", other)

    def __invert__(self) -> Expr:
        return Expr(f"(NOT {self._sql})")

    def is_null(self) -> Expr:
        """Whether the value is missing."""
        return Expr(f"({self._sql} IS NULL)")

    def is_between(self, low: Any, high: Any) -> Expr:
        """Whether the value is between two others, or one of them."""
        return Expr(f"({self._sql} BETWEEN {_literal(low)} AND {_literal(high)})")

    def is_in(self, values: Iterable[Any]) -> Expr:
        """Whether the value is one of a list."""
        return Expr(f"({self._sql} IN ({', '.join(map(_literal, values))}))")

    def cast(self, kind: str) -> Expr:
        """The value as another type of SQL, such as ``DOUBLE``."""
        return Expr(f"CAST({self._sql} AS {kind})")

    def date_part(self, part: str) -> Expr:
        """A part of a time: ``year``, ``month``, ``day``, ``hour``, ``doy``, …"""
        return Expr(f"date_part({_literal(part)}, {self._sql})", part)

    def _call(self, name: str, *more: Any) -> Expr:
        return Expr(f"{name}({', '.join([self._sql, *map(_literal, more)])})")

    def abs(self) -> Expr:
        """The value without its sign."""
        return self._call("abs")

    def sqrt(self) -> Expr:
        """The square root."""
        return self._call("sqrt")

    def round(self, digits: int = 0) -> Expr:
        """The value rounded to decimal digits."""
        return self._call("round", digits)

    # Aggregates.

    def mean(self) -> Expr:
        """The mean of a group."""
        return self._call("avg")

    def sum(self) -> Expr:
        """The sum of a group."""
        return self._call("sum")

    def min(self) -> Expr:
        """The least value of a group."""
        return self._call("min")

    def max(self) -> Expr:
        """The greatest value of a group."""
        return self._call("max")

    def count(self) -> Expr:
        """The number of a group's values that aren't missing."""
        return self._call("count")

    def std(self) -> Expr:
        """The sample standard deviation of a group."""
        return self._call("stddev")

    def var(self) -> Expr:
        """The sample variance of a group."""
        return self._call("var")

    def median(self) -> Expr:
        """The median of a group."""
        return self._call("median")

    def quantile(self, fraction: float) -> Expr:
        """The quantile of a group, interpolated between neighbours."""
        return self._call("quantile_cont", fraction)

    def weighted_mean(self, weights: Any) -> Expr:
        """The mean of a group with weights."""
        return self._call("weighted_avg", weights)


def quoted(name: str) -> str:
    """A name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def sql_of(value: Any, texts: bool = True) -> str:
    """SQL of an expression, or a text of SQL."""
    if isinstance(value, Expr):
        return value._sql
    if isinstance(value, str) and texts:
        return value
    return _literal(value)


def _literal(value: Any) -> str:
    if isinstance(value, Expr):
        return value._sql
    if value is None:
        return "NULL"
    if hasattr(value, "item") and not isinstance(value, (datetime.datetime, datetime.date)):
        # Scalars of numpy. Times finer than microseconds have no Python type: they are told by numpy.
        if getattr(getattr(value, "dtype", None), "kind", "") == "M":
            return f"TIMESTAMP '{value}'"
        value = value.item()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, numbers.Integral):
        return str(value)
    if isinstance(value, numbers.Real):
        number = float(value)
        if not math.isfinite(number):
            return f"CAST('{number}' AS DOUBLE)"
        return repr(number)
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, datetime.datetime):
        if value.tzinfo is not None:
            value = value.astimezone(datetime.timezone.utc).replace(tzinfo=None)
        return f"TIMESTAMP '{value.isoformat(sep=' ')}'"
    if isinstance(value, datetime.date):
        return f"TIMESTAMP '{value.isoformat()} 00:00:00'"
    if isinstance(value, datetime.timedelta):
        micros = value // datetime.timedelta(microseconds=1)
        return f"INTERVAL '{micros} microseconds'"
    raise TypeError(f"a {type(value).__name__} can't be in an expression: give a number, a text, a bool or a time")
