"""The accessor ``ds.lsio``: xarray's reductions, computed by lsio while it reads.

A reduction of variables that were opened by the engine ``lsio`` and only selected from since becomes a query, whose
groups are those of xarray's own groupers. Whatever else comes, xarray computes, and a warning says why.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import xarray as xr

from ._errors import Note
from ._expr import quoted
from ._session import default_session
from .xarray_selection import NotLazy, selected

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable
    from types import EllipsisType

    from ._frame import DataFrame

    Dims: TypeAlias = Hashable | Iterable[Hashable] | EllipsisType | None

# SQL of each reduction, xarray's name for it, and what groups without a value get.
_SQL = {
    "mean": ("avg({v})", np.nan),
    "sum": ("sum({v})", 0),
    "min": ("min({v})", np.nan),
    "max": ("max({v})", np.nan),
    "count": ("count({v})", 0),
    "std": ("stddev_pop({v})", np.nan),
    "var": ("var_pop({v})", np.nan),
    "median": ("median({v})", np.nan),
    "quantile": ("quantile_cont({v}, {q})", np.nan),
}

# The column of the groups' numbers, and the rows' own for a dimension without a coordinate.
_GROUP = "lsio group"


class _Reductions:
    """The reductions of datasets, groups and weighted datasets. Missing values are skipped."""

    def mean(self, dim: Dims = None, **options: Any) -> Any:
        """The mean, in double precision."""
        return self._reduce("mean", dim, options)

    def sum(self, dim: Dims = None, **options: Any) -> Any:
        """The sum, in double precision."""
        return self._reduce("sum", dim, options)

    def min(self, dim: Dims = None, **options: Any) -> Any:
        """The least value."""
        return self._reduce("min", dim, options)

    def max(self, dim: Dims = None, **options: Any) -> Any:
        """The greatest value."""
        return self._reduce("max", dim, options)

    def count(self, dim: Dims = None, **options: Any) -> Any:
        """The number of values that aren't missing."""
        return self._reduce("count", dim, options)

    def std(self, dim: Dims = None, **options: Any) -> Any:
        """The standard deviation; ``ddof`` as xarray's."""
        return self._reduce("std", dim, options)

    def var(self, dim: Dims = None, **options: Any) -> Any:
        """The variance; ``ddof`` as xarray's."""
        return self._reduce("var", dim, options)

    def median(self, dim: Dims = None, **options: Any) -> Any:
        """The median."""
        return self._reduce("median", dim, options)

    def quantile(self, q: float, dim: Dims = None, **options: Any) -> Any:
        """A quantile, interpolated between neighbours. ``q`` is one fraction."""
        return self._reduce("quantile", dim, {"q": q, **options})

    def _reduce(self, name: str, dim: Dims, options: dict[str, Any]) -> Any:
        raise NotImplementedError


class LsioAccessor(_Reductions):
    """``ds.lsio``, of a Dataset or a DataArray.

    >>> import xarray as xr
    >>> ds = xr.open_dataset("t2m.zarr", engine="lsio")
    >>> ds.lsio.mean(["time", "longitude"]).t2m.values
    array([280., 281., 282.])
    >>> ds.lsio.groupby("time.hour").max().sizes["hour"]
    6
    """

    def __init__(self, data: xr.Dataset | xr.DataArray) -> None:
        self._data = data

    def groupby(self, *args: Any, **options: Any) -> Grouped:
        """Groups as in ``ds.groupby(…)``."""
        return Grouped(self._data, lambda data: data.groupby(*args, **options))

    def groupby_bins(self, *args: Any, **options: Any) -> Grouped:
        """Groups as in ``ds.groupby_bins(…)``."""
        return Grouped(self._data, lambda data: data.groupby_bins(*args, **options))

    def resample(self, *args: Any, **options: Any) -> Grouped:
        """Groups as in ``ds.resample(…)``."""
        return Grouped(self._data, lambda data: data.resample(*args, **options))

    def weighted(self, weights: xr.DataArray) -> Weighted:
        """Weights as in ``ds.weighted(…)``: of one dimension."""
        return Weighted(self._data, weights)

    def sql(self, query: str, /, **parameters: Any) -> DataFrame:
        """A statement in which ``this`` is the dataset, without the selections that were made from it.

        >>> import xarray as xr
        >>> ds = xr.open_dataset("t2m.zarr", engine="lsio")
        >>> ds.lsio.sql("SELECT max(t2m) AS warmest FROM this").to_numpy()
        {'warmest': array([282.], dtype=float32)}
        """
        data = _dataset(self._data)
        sources: dict[Any, list[Hashable]] = {}
        for name, variable in data.variables.items():
            try:
                source = selected(data, name).source
                sources.setdefault(source, []).append(name)
            except NotLazy:
                continue
        if len(sources) != 1:
            raise ValueError(
                "the variables aren't those of one store: open them with xr.open_dataset(…, engine='lsio'), "
                "or register the dataset: lsio.connect().register('this', ds)"
            )
        (source,) = sources
        return default_session().sql(query, this=source.frame(), **parameters)

    def _reduce(self, name, dim, options):
        data = _dataset(self._data)
        dims = _dims(dim, data.dims)
        plain = lambda part: getattr(part, name)(dim=_present(dim, part), **options)
        return _restored(self._data, _reduced(data, name, dims, options, None, None, plain))


class Grouped(_Reductions):
    """Groups of a dataset: made by :meth:`LsioAccessor.groupby` and its like."""

    def __init__(self, data, group):
        self._data = data
        self._group = group

    def _reduce(self, name, dim, options):
        data = _dataset(self._data)
        groups = self._group(data)
        if len(groups.groupers) != 1 or groups.groupers[0].codes.ndim != 1:
            reason = "the groups aren't along one dimension"
            return _restored(self._data, _by_xarray(groups, name, dim, options, reason))
        grouper = groups.groupers[0]
        along = grouper.codes.dims[0]
        dims = {along} if dim is None else _dims(dim, data.dims)
        if along not in dims:
            reason = f"the dimension of the groups, '{along}', isn't among {sorted(dims)}"
            return _restored(self._data, _by_xarray(groups, name, dim, options, reason))
        label = along if grouper.name == "__resample_dim__" else grouper.name
        index = grouper.full_index.rename(label)
        # xarray puts the groups of a Dataset first, and those of a DataArray where their dimension was.
        is_first = isinstance(self._data, xr.Dataset)
        group = _Group(along, label, index, np.asarray(grouper.codes.values), is_first)
        plain = lambda part: getattr(self._group(part), name)(dim=_present(dim, part), **options)
        return _restored(self._data, _reduced(data, name, dims, options, group, None, plain))


class Weighted:
    """A dataset with weights: made by :meth:`LsioAccessor.weighted`."""

    def __init__(self, data, weights):
        self._data = data
        self._weights = weights

    def mean(self, dim: Dims = None, **options: Any) -> Any:
        """The weighted mean. Weights of missing values don't count."""
        data = _dataset(self._data)
        dims = _dims(dim, data.dims)
        plain = lambda part: part.weighted(self._weights).mean(dim=_present(dim, part), **options)
        weights = self._weights
        if weights.ndim != 1 or weights.dims[0] not in data.dims:
            return _restored(self._data, _by_xarray(data.weighted(weights), "mean", dim, options, "the weights aren't along one dimension"))
        return _restored(self._data, _reduced(data, "mean", dims, options, None, weights, plain))


class _Group:
    """Groups along one dimension: a number for each index, −1 for none, and a label for each number."""

    def __init__(self, along, name, index, codes, is_first):
        self.is_first = is_first
        self.along = along
        self.name = name
        self.index = index
        self.codes = codes


def _reduced(data, name, dims, options, group, weights, plain):
    """The reduction, variable by variable: by lsio where that can be, else `plain` by xarray."""
    sql, keep_attrs = _sql(name, options)
    lazy, rest, reasons = {}, [], {}
    for variable in data.data_vars:
        try:
            if sql is None:
                raise NotLazy(f"lsio doesn't know the options {sorted(options)}")
            own = selected(data, variable)
            if not (set(own.dims) & dims) or (group is not None and group.along not in own.dims):
                raise NotLazy(None)
            if weights is not None and weights.dims[0] not in own.dims:
                raise NotLazy("it doesn't have the dimension of the weights")
            own.check_labels(dims)
            lazy.setdefault(own.key(), []).append(own)
        except NotLazy as reason:
            rest.append(variable)
            if reason.args[0]:
                reasons[variable] = reason.args[0]
    for variable, why in reasons.items():
        warnings.warn(f"xarray computes {name} of '{variable}': {why}", Note, stacklevel=4)
    found = plain(data[rest]) if rest or not lazy else xr.Dataset()
    arrays = {}
    for alike in lazy.values():
        arrays |= _queried(data, alike, sql, name, dims, group, weights)
    gone = dims if group is None else dims | {group.along}
    coords = {c: v for c, v in data.coords.items() if not set(v.dims) & gone and c not in found.coords}
    if group is not None and group.name not in found.coords:
        coords[group.name] = (group.name, group.index)
    if name == "quantile" and "quantile" not in found.coords:
        coords["quantile"] = float(options["q"])
    result = found.assign_coords(coords)
    for variable, (own_dims, values) in arrays.items():
        attrs = data[variable].attrs if keep_attrs else {}
        result[variable] = xr.Variable(own_dims, values, attrs)
    if keep_attrs:
        result.attrs = dict(data.attrs)
    # In the order of the dataset's own variables.
    return result[[variable for variable in data.data_vars if variable in result]]


def _queried(data, alike, sql, name, dims, group, weights):
    """Arrays of variables with the same dimensions and selection, by one query."""
    first = alike[0]
    kept = [dim for dim in first.dims if dim not in dims]
    session = default_session()
    frames = {"this": first.frame([own.name for own in alike])}
    joins = ""
    for number, dim in enumerate(first.dims):
        is_grouped = group is not None and dim == group.along
        is_weight = weights is not None and dim == weights.dims[0]
        if not (is_grouped or is_weight or not first.is_whole(dim)):
            continue
        labels = first.labels(dim)
        columns = {dim: labels}
        wanted = np.ones(len(labels), bool)
        if is_grouped:
            columns[_GROUP] = group.codes.astype(np.int64)
            wanted = group.codes >= 0
        if is_weight:
            columns["lsio weight"] = np.asarray(weights.values, np.float64)
        table = f"lsio_{number}"
        frames[table] = session.rows({column: values[wanted] for column, values in columns.items()})
        joins += f" JOIN {table} ON this.{quoted(dim)} = {table}.{quoted(dim)}"
    keys = [f"this.{quoted(dim)}" for dim in kept]
    if group is not None:
        keys.append(quoted(_GROUP))
    if weights is not None:
        sql = 'weighted_avg({v}, "lsio weight")'
    values = [f"{sql.format(v='this.' + quoted(own.name))} AS {quoted(own.name)}" for own in alike]
    query = f"SELECT {', '.join(keys + values)} FROM this{joins}"
    if keys:
        query += f" GROUP BY {', '.join(keys)}"
    columns = session.sql(query, **frames).to_numpy()
    places, shape, result_dims = [], [], []
    order = list(first.dims)
    if group is not None and group.is_first:
        order.sort(key=lambda dim: dim != group.along)
    for dim in order:
        if group is not None and dim == group.along:
            places.append(columns[_GROUP].astype(np.intp))
            shape.append(len(group.index))
            result_dims.append(group.name)
        elif dim in kept:
            places.append(first.positions(dim, columns[dim]))
            shape.append(data.sizes[dim])
            result_dims.append(dim)
    return {
        own.name: (result_dims, _placed(columns[own.name], places, shape, _SQL[name][1])) for own in alike
    }


def _placed(values, places, shape, missing):
    if not shape:
        value = values[0]
        return np.asarray(missing if value is None or value != value else value)
    if values.dtype.kind in "iub" and np.isnan(missing) and len(values) < int(np.prod(shape)):
        values = values.astype(np.float64)
    if missing == 0:
        values = np.nan_to_num(values, nan=0.0) if values.dtype.kind == "f" else values
    dense = np.full(shape, missing, dtype=values.dtype)
    dense[tuple(places)] = values
    return dense


def _sql(name, options):
    """SQL of a reduction with xarray's options, and whether attributes are kept. No SQL for other options."""
    options = dict(options)
    keep_attrs = options.pop("keep_attrs", None)
    if keep_attrs is None:
        keep_attrs = xr.get_options()["keep_attrs"]
        keep_attrs = keep_attrs if isinstance(keep_attrs, bool) else True
    sql = _SQL[name][0]
    if name in ("std", "var") and options.pop("ddof", 0) == 1:
        sql = sql.replace("_pop", "_samp")
    if name == "quantile":
        fraction = options.pop("q")
        if np.ndim(fraction) != 0:
            return None, keep_attrs
        sql = sql.replace("{q}", repr(float(fraction)))
    if options.pop("skipna", None) is False:
        return None, keep_attrs
    return (None if options else sql), keep_attrs


def _by_xarray(groups, name, dim, options, reason):
    warnings.warn(f"xarray computes {name}: {reason}", Note, stacklevel=4)
    return getattr(groups, name)(dim=dim, **options)


def _dims(dim, all_dims):
    if dim is None or dim is ...:
        return set(all_dims)
    dims = {dim} if isinstance(dim, str) else set(dim)
    unknown = dims - set(all_dims)
    if unknown:
        raise ValueError(f"there is no dimension {', '.join(map(repr, sorted(unknown)))}: there are {', '.join(map(str, all_dims))}")
    return dims


def _present(dim, part):
    """The dimensions that a part of the dataset has."""
    if dim is None or dim is ...:
        return dim
    return [own for own in ([dim] if isinstance(dim, str) else dim) if own in part.dims]


# The name of a DataArray's variable as a Dataset.
_NAMELESS = "lsio values"


def _dataset(data):
    return data if isinstance(data, xr.Dataset) else data._to_temp_dataset().rename({xr.core.dataarray._THIS_ARRAY: data.name or _NAMELESS})


def _restored(data, dataset):
    """What was a DataArray as a DataArray."""
    if isinstance(data, xr.Dataset):
        return dataset
    name = data.name or _NAMELESS
    return dataset[name].rename(data.name)


xr.register_dataset_accessor("lsio")(LsioAccessor)
xr.register_dataarray_accessor("lsio")(LsioAccessor)
