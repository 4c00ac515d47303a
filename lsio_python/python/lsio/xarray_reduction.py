"""Reductions of variables that are selections from one store, as queries.

A query numbers indices and not labels: each dimension is a column of its indices, and groups are numbers. So labels may be
of any type, repeat or be missing, and whatever was done to coordinates after opening doesn't matter.
"""

import warnings

import numpy as np

from ._errors import Note
from ._expr import quoted
from ._session import default_session
from .xarray_selection import NotLazy, selected

# SQL of each reduction.
_SQL = {
    "mean": "avg({v})",
    "sum": "sum({v})",
    "min": "min({v})",
    "max": "max({v})",
    "count": "count({v})",
    "std": "stddev_pop({v})",
    "var": "var_pop({v})",
    "median": "median({v})",
    "quantile": "quantile_cont({v}, {q})",
    "weighted mean": "weighted_avg({v}, {w})",
    "weighted sum": "sum({v} * {w})",
}

# What false and true can be reduced by in SQL.
_OF_BOOLS = ("mean", "sum", "min", "max", "count")

_WEIGHT = "lsio weight"

# Reductions of datasets that leave out what isn't a number.
_NUMERIC_ONLY = ("mean", "sum", "std", "var", "median", "weighted mean", "weighted sum")


class Parts:
    """A dataset in parts: variables that one query each can reduce, and the rest, which is left to xarray."""

    def __init__(self, data, name, dims, options):
        self._data = data
        self._name = name
        self._dims = dims
        self._options = options

    def computed(self, groups, weights):
        """Arrays of variables by their names, and the dataset of the rest. Notes why xarray computes it."""
        alike, reasons, statistic = {}, {}, None
        for variable in self._data.data_vars:
            try:
                statistic = Statistic(self._name, self._options)
                own = self._lazy(variable, groups)
                _check(own, statistic, groups, weights)
                alike.setdefault(own.key(), []).append(own)
            except NotLazy as reason:
                if reason.args and not self._is_left_out(variable):
                    reasons[variable] = reason
        for variable, why in reasons.items():
            warnings.warn(f"xarray computes {self._name} of '{variable}': {why}", Note, stacklevel=4)
        arrays = {}
        for each in alike.values():
            arrays |= _reduced(each, statistic, self._dims, groups, weights)
        return arrays, self._data.drop_vars(list(arrays))

    def _lazy(self, variable, groups):
        own = self._data[variable]
        if own.size == 0:
            raise NotLazy
        along = {dim for group in groups for dim in group.dims}
        if not (set(own.dims) & (along if groups else self._dims)):
            # There is nothing to compute.
            raise NotLazy
        return selected(self._data, variable)

    def _is_left_out(self, variable):
        return self._name in _NUMERIC_ONLY and self._data[variable].dtype.kind not in "iufbcmM"


class Statistic:
    """A reduction with its options, as SQL. Raises :class:`NotLazy` for options that SQL doesn't have."""

    def __init__(self, name, options):
        options = dict(options)
        self.name = name
        self._skipna = options.pop("skipna", None)
        self._min_count = (options.pop("min_count", None) or 0) if name == "sum" else 0
        self._ddof = options.pop("ddof", 0) if name in ("std", "var") else 0
        # Fractions of quantiles: one, or a list of them, which is a dimension of the result.
        self.fractions = options.pop("q", None)
        # These are about the dataset.
        options.pop("numeric_only", None)
        options.pop("keep_attrs", None)
        if name == "quantile" and options.get("method", "linear") == "linear":
            options.pop("method", None)
        if options:
            raise NotLazy(f"lsio doesn't know the options {', '.join(sorted(options))}")
        if name == "quantile" and np.ndim(self.fractions) > 1:
            raise NotLazy("quantiles are a list of several dimensions")

    def columns(self, own):
        """SQL of the values of a variable: one, or one for each fraction."""
        value = f"this.{quoted(own.column)}"
        if own.dtype.kind == "b" and self.name not in _OF_BOOLS:
            raise NotLazy("its values are true and false")
        sql = _SQL[self.name].replace("{v}", value).replace("{w}", quoted(_WEIGHT))
        # As xarray does, integers are taken to have no missing values, unless one says so.
        skips = self._skipna or (self._skipna is None and own.dtype.kind == "f")
        if self.name in ("std", "var") and self._ddof != 0:
            left = f"greatest(count({value}) - {float(self._ddof)!r}, 0.0)"
            # numpy divides by nothing where it skips no missing values.
            left = f"nullif({left}, 0.0)" if skips and own.dtype.kind == "f" else left
            sql = f"var_pop({value}) * count({value}) / {left}"
            sql = f"sqrt({sql})" if self.name == "std" else sql
        if skips and self._min_count > 0:
            sql = f"CASE WHEN count({value}) >= {int(self._min_count)} THEN {sql} END"
        elif own.dtype.kind == "f" and not skips and self.name != "count":
            sql = f"CASE WHEN count({value}) = count(*) THEN {sql} END"
        elif own.dtype.kind == "f" and self.name in ("sum", "weighted sum"):
            sql = f"coalesce({sql}, 0)"
        if self.name == "quantile":
            return [sql.replace("{q}", repr(float(fraction))) for fraction in np.ravel(self.fractions)]
        return [sql]


class Codes:
    """Numbers of groups: along some dimensions, of each cell the number of its group, −1 for none."""

    def __init__(self, name, dims, codes, size):
        self.name = name
        self.dims = dims
        self.codes = codes
        self.size = size


def _check(first, statistic, groups, weights):
    """Raises :class:`NotLazy` with the reason, if a variable can't be reduced by a query."""
    statistic.columns(first)
    tables = {group.dims for group in groups} | ({weights.dims} if weights is not None else set())
    for dim in first.dims:
        if first.repeats(dim) and sum(dim in table for table in tables) > 1:
            raise NotLazy(f"indices of '{dim}' are selected several times")
    for table in tables:
        if set(table) - set(first.dims):
            raise NotLazy(f"it doesn't vary along {', '.join(map(str, table))}")


def _reduced(alike, statistic, dims, groups, weights):
    """Arrays of variables with the same selection, reduced along dimensions by one query.

    `groups`: lists of :class:`Codes`, each along dimensions among `dims`. `weights`: a DataArray, or None. Gives for each
    variable an array whose axes are the groups and then the dimensions that are left, and last the fractions of
    quantiles if they are a list.
    """
    first = alike[0]
    query = _Query(first, alike)
    kept = [dim for dim in first.dims if dim not in dims]
    tables = {}
    for group in groups:
        tables.setdefault(group.dims, {})[_code(groups.index(group))] = group.codes
    if weights is not None:
        tables.setdefault(weights.dims, {})[_WEIGHT] = np.asarray(weights.values, np.float64)
    for table_dims, columns in tables.items():
        query.join_cells(table_dims, columns)
    joined = {dim for table_dims in tables for dim in table_dims}
    for dim in first.dims:
        if dim not in joined:
            query.select(dim, keeps_repeats=dim in dims)
    keys = [quoted(_code(number)) for number in range(len(groups))]
    keys += [f"this.{quoted(first.stored[dim])}" for dim in kept]
    wanted, names = [], {}
    for own in alike:
        names[own.name] = [f"lsio {len(wanted) + number}" for number in range(len(statistic.columns(own)))]
        wanted += [f"{sql} AS {quoted(name)}" for name, sql in zip(names[own.name], statistic.columns(own))]
    columns = query.run(keys, wanted)
    places, shape, order = [], [], {}
    for number, group in enumerate(groups):
        places.append(columns[_code(number)].astype(np.intp))
        shape.append(group.size)
    for axis, dim in enumerate(kept, len(groups)):
        indices, order[axis] = np.unique(first.positions[dim], return_inverse=True)
        places.append(np.searchsorted(indices, columns[first.stored[dim]]))
        shape.append(len(indices))
    arrays = {}
    for own in alike:
        parts = []
        for name in names[own.name]:
            dense = _dense(columns[name], places, shape)
            for axis, chosen in order.items():
                if len(chosen) != dense.shape[axis] or (chosen != np.arange(len(chosen))).any():
                    dense = dense.take(chosen, axis)
            parts.append(dense)
        arrays[own.name] = np.stack(parts, -1) if np.ndim(statistic.fractions) else parts[0]
    return arrays


def _code(number):
    return f"lsio group {number}"


class _Query:
    """A statement on the table of a selection."""

    def __init__(self, first, alike):
        self._first = first
        self._session = default_session()
        self._frames = {"this": first.frame([own.column for own in alike])}
        self._joins = ""
        self._conditions = [f"this.{quoted(dim)} = {index}" for dim, index in first.single.items()]

    def join_cells(self, dims, columns):
        """Joins columns of numbers along dimensions. Cells with a negative number of a group have no row."""
        indices = np.meshgrid(*(self._first.positions[dim] for dim in dims), indexing="ij")
        wanted = np.ones(indices[0].shape, bool)
        for name, values in columns.items():
            wanted &= (values >= 0) if name != _WEIGHT else True
        rows = {self._first.stored[dim]: own[wanted] for dim, own in zip(dims, indices)}
        own = {name: np.ascontiguousarray(values[wanted]) for name, values in columns.items()}
        self._join(rows, own)
        for dim in dims:
            self._within(dim)

    def select(self, dim, keeps_repeats):
        """Restricts a dimension to the selected indices. With `keeps_repeats` an index counts as often as it is selected."""
        if self._first.is_whole(dim):
            return
        self._within(dim)
        if not self._first.is_range(dim):
            indices = self._first.positions[dim]
            self._join({self._first.stored[dim]: indices if keeps_repeats else np.unique(indices)}, {})

    def run(self, keys, values):
        """The columns of the keys and values as arrays."""
        sql = f"SELECT {', '.join(keys + values)} FROM this{self._joins}"
        if self._conditions:
            sql += f" WHERE {' AND '.join(self._conditions)}"
        if keys:
            sql += f" GROUP BY {', '.join(keys)}"
        return self._session.sql(sql, **self._frames).to_numpy()

    def _join(self, indices, columns):
        table = f"lsio_{len(self._frames)}"
        rows = {name: values.astype(np.int64) for name, values in indices.items()}
        rows |= {name: values.astype(np.float64 if name == _WEIGHT else np.int64) for name, values in columns.items()}
        self._frames[table] = self._session.rows(rows)
        same = " AND ".join(f"this.{quoted(dim)} = {table}.{quoted(dim)}" for dim in indices)
        self._joins += f" JOIN {table} ON {same}"

    def _within(self, dim):
        if not self._first.is_whole(dim):
            indices = self._first.positions[dim]
            self._conditions.append(f"this.{quoted(self._first.stored[dim])} BETWEEN {indices.min()} AND {indices.max()}")


def _dense(values, places, shape):
    """Values at their places. Groups without a cell are missing."""
    if values.dtype == object:
        values = np.array([np.nan if value is None else value for value in values])
    if not shape:
        return np.asarray(values[0])
    if len(values) < int(np.prod(shape)) and values.dtype.kind != "f":
        values = values.astype(np.float64)
    dense = np.full(shape, np.nan if values.dtype.kind == "f" else 0, dtype=values.dtype)
    dense[tuple(places)] = values
    return dense
