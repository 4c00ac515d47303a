"""The accessor ``ds.lsio``: xarray's reductions, computed by lsio while it reads.

A reduction of variables that were opened by the engine ``lsio`` and only selected from since becomes a query, whose
groups are those of xarray's own groupers. Whatever else comes, xarray computes, and a warning says why.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr

from ._errors import Note
from ._session import default_session
from .xarray_reduction import Codes, Parts
from .xarray_selection import NotLazy, selected

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable
    from types import EllipsisType

    from ._frame import DataFrame

    Dims: TypeAlias = Hashable | Iterable[Hashable] | EllipsisType | None

# Reductions that are xarray's.
_XARRAYS = ("all", "any", "cumprod", "cumsum", "first", "last", "prod")


class _Reductions:
    """The reductions of datasets and groups. Missing values are skipped."""

    def mean(self, dim: Dims = None, **options: Any) -> Any:
        """The mean, in double precision."""
        return self._reduce("mean", dim, options)

    def sum(self, dim: Dims = None, **options: Any) -> Any:
        """The sum, in double precision; ``min_count`` as xarray's."""
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

    def quantile(self, q: float | Iterable[float], dim: Dims = None, **options: Any) -> Any:
        """Quantiles, interpolated between neighbours: ``q`` is a fraction, or a list of them."""
        return self._reduce("quantile", dim, {"q": q, **options})

    def __getattr__(self, name: str) -> Any:
        if name not in _XARRAYS:
            raise AttributeError(f"'{type(self).__name__}' has no '{name}': lsio has {', '.join(_reductions())}")
        return _noted(name, getattr(self._plain(), name))

    def _reduce(self, name: str, dim: Dims, options: dict[str, Any]) -> Any:
        raise NotImplementedError

    def _plain(self) -> Any:
        """What xarray has in place of it."""
        raise NotImplementedError


def _reductions() -> list[str]:
    return [name for name in vars(_Reductions) if not name.startswith("_")]


def _noted(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of xarray that tells that it is xarray's."""

    def called(*args: Any, **options: Any) -> Any:
        warnings.warn(f"xarray computes {name}: lsio doesn't", Note, stacklevel=2)
        return method(*args, **options)

    return called


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

    def __repr__(self) -> str:
        groups = "groupby, groupby_bins, resample and weighted"
        return f"<ds.lsio: {', '.join(_reductions())}; {groups}, which have them too; sql>"

    def _plain(self) -> Any:
        return self._data

    def groupby(self, *args: Any, **options: Any) -> Grouped:
        """Groups as in ``ds.groupby(…)``."""
        return Grouped(self._data, lambda data: data.groupby(*args, **options), _names(args, options))

    def groupby_bins(self, *args: Any, **options: Any) -> Grouped:
        """Groups as in ``ds.groupby_bins(…)``."""
        return Grouped(self._data, lambda data: data.groupby_bins(*args, **options), _names(args, options))

    def resample(self, *args: Any, **options: Any) -> Grouped:
        """Groups as in ``ds.resample(…)``."""
        return Grouped(self._data, lambda data: data.resample(*args, **options), _names(args, options))

    def weighted(self, weights: xr.DataArray) -> Weighted:
        """Weights as in ``ds.weighted(…)``."""
        return Weighted(self._data, weights)

    def sql(self, query: str, /, **parameters: Any) -> DataFrame:
        """A statement in which ``this`` is the dataset, without the selections that were made from it.

        >>> import xarray as xr
        >>> ds = xr.open_dataset("t2m.zarr", engine="lsio")
        >>> ds.lsio.sql("SELECT max(t2m) AS warmest FROM this").to_numpy()
        {'warmest': array([282.], dtype=float32)}
        """
        data = _dataset(self._data)
        sources = set()
        for name in data.variables:
            try:
                sources.add(selected(data, name).source)
            except NotLazy:
                continue
        if len(sources) != 1:
            raise ValueError(
                "the variables aren't read from one store: they are in memory, or of another engine. Open them with "
                "xr.open_dataset(…, engine='lsio'), or give the dataset to a statement: lsio.sql('… FROM ds', ds=ds)"
            )
        (source,) = sources
        return default_session().sql(query, this=source.frame(), **parameters)

    def _reduce(self, name, dim, options):
        data = _dataset(self._data)
        dims = _dims(dim, data.dims)
        plain = lambda part: getattr(part, name)(dim=_present(dim, part.dims), **options)
        keep_attrs = _keeps_attrs(options, lambda tiny: tiny.mean("x"))
        parts = Parts(data, name, dims, options)
        arrays, rest = parts.computed((), None)
        # Without the variables that lsio computes this is quick, and makes xarray's own coordinates.
        result = plain(rest)
        for variable, values in arrays.items():
            own = [each for each in data[variable].dims if each not in dims]
            quantiles = ["quantile"] if np.ndim(values) > len(own) else []
            values = np.moveaxis(values, -1, 0) if quantiles else values
            result[variable] = xr.Variable(quantiles + own, values, data[variable].attrs if keep_attrs else None)
        _add_quantile(result, options)
        return _restored(self._data, _ordered(result, data))


class Grouped(_Reductions):
    """Groups of a dataset: made by :meth:`LsioAccessor.groupby` and its like."""

    def __init__(self, data, group, names):
        self._data = data
        self._group = group
        # Names of variables that the groups may be made of.
        self._names = names

    def __repr__(self) -> str:
        groupers = self._groupers(_dataset(self._data))
        sizes = ", ".join(f"{_label(grouper)}: {len(grouper.full_index)}" for grouper in groupers)
        return f"<groups of ds.lsio ({sizes})>"

    def _plain(self) -> Any:
        return self._group(self._data)

    def _reduce(self, name, dim, options):
        data = _dataset(self._data)
        groupers = self._groupers(data)
        plain = lambda part: getattr(self._group(part), name)(dim=_present(dim, part.dims), **options)
        along = {each for grouper in groupers for each in grouper.codes.dims}
        dims = set(along) if dim is None else _dims(dim, data.dims)
        try:
            _check_groups(groupers, dims)
            groups = [_codes(grouper) for grouper in groupers]
        except NotLazy as reason:
            warnings.warn(f"xarray computes {name}: {reason}", Note, stacklevel=3)
            return _restored(self._data, plain(data))
        keep_attrs = _keeps_attrs(options, lambda tiny: tiny.groupby("x").mean())
        data = data.drop_vars([group.name for group in groups if group.name in data.data_vars and group.name not in dims])
        parts = Parts(data, name, dims, options)
        arrays, rest = parts.computed(groups, None)
        result = plain(rest) if rest.data_vars or not arrays else _left(data, dims | along, keep_attrs)
        for grouper, group in zip(groupers, groups):
            if group.name not in result.coords and not isinstance(grouper.full_index, pd.RangeIndex):
                attrs = getattr(grouper.unique_coord, "attrs", None)
                result.coords[group.name] = (group.name, grouper.full_index.rename(group.name), attrs)
        _add_quantile(result, options)
        for variable, values in arrays.items():
            own = data[variable]
            names = [group.name for group in groups] + [each for each in own.dims if each not in dims]
            names += ["quantile"] if np.ndim(values) > len(names) else []
            found = xr.Variable(names, values, own.attrs if keep_attrs else None)
            result[variable] = found.transpose(*self._order(names, groupers, own.dims))
        return _restored(self._data, _ordered(result, data))

    def _groupers(self, data):
        """xarray's groupers, made without reading what isn't grouped by."""
        plain = data.drop_vars([name for name in data.data_vars if name not in self._names])
        # Dimensions that only those have.
        missing = [dim for dim in data.dims if dim not in plain.dims]
        plain = plain.assign({f"lsio {dim}": (dim, np.zeros(data.sizes[dim], np.int8)) for dim in missing})
        return self._group(plain).groupers

    def _order(self, names, groupers, own_dims):
        """Dimensions in xarray's order: those of several groupers come last; that of one comes first in a Dataset, and in
        a DataArray where its own dimension was."""
        groups, others = names[: len(groupers)], names[len(groupers) :]
        if len(groups) > 1:
            return others + groups
        (grouper,) = groupers
        if isinstance(self._data, xr.Dataset) or grouper.codes.ndim > 1:
            return names if isinstance(self._data, xr.Dataset) else others + groups
        place = own_dims.index(grouper.codes.dims[0])
        before = [name for name in others if name in own_dims[:place]]
        return before + groups + others[len(before) :]


class Weighted:
    """A dataset with weights: made by :meth:`LsioAccessor.weighted`. Weights of missing values don't count."""

    def __init__(self, data, weights):
        self._data = data
        self._weights = weights

    def __repr__(self) -> str:
        return f"<weights of ds.lsio along {', '.join(map(str, self._weights.dims))}: mean, sum>"

    def __getattr__(self, name: str) -> Any:
        if name not in ("std", "var", "quantile", "sum_of_weights", "sum_of_squares"):
            raise AttributeError(f"'{type(self).__name__}' has no '{name}': lsio has mean and sum")
        return _noted(name, getattr(self._data.weighted(self._weights), name))

    def mean(self, dim: Dims = None, **options: Any) -> Any:
        """The weighted mean."""
        return self._reduce("mean", dim, options)

    def sum(self, dim: Dims = None, **options: Any) -> Any:
        """The weighted sum."""
        return self._reduce("sum", dim, options)

    def _reduce(self, name, dim, options):
        data, weights = _dataset(self._data), self._weights
        dims = _dims(dim, [*data.dims, *weights.dims])
        # Makes what xarray makes of weights, and raises what it raises.
        data[[]].weighted(weights)
        plain = lambda part: getattr(part.weighted(weights), name)(
            dim=_present(dim, [*part.dims, *weights.dims]), **options
        )
        keep_attrs = _keeps_attrs(options, lambda tiny: tiny.weighted(xr.DataArray([1.0], dims="x")).mean("x"))
        parts = Parts(data, f"weighted {name}", dims, options)
        arrays, rest = parts.computed((), weights)
        result = _left(data, dims, keep_attrs)
        result = plain(rest).assign_coords(result.coords) if rest.data_vars or not arrays else result
        for variable, values in arrays.items():
            own = [each for each in data[variable].dims if each not in dims]
            result[variable] = xr.Variable(own, values, data[variable].attrs if keep_attrs else None)
        return _restored(self._data, _ordered(result, data))


def _names(args, options):
    """Names of variables among the arguments of a grouping, ``time`` for ``time.month``."""
    names = set(options)
    for each in args:
        if isinstance(each, str):
            names.add(each)
        elif isinstance(each, (list, tuple, dict)):
            names |= {name for name in each if isinstance(name, str)}
    return names | {name.partition(".")[0] for name in names}


def _check_groups(groupers, dims):
    """Raises :class:`NotLazy` for groups that aren't numbers along dimensions that are reduced."""
    for grouper in groupers:
        if grouper.codes.chunks is not None:
            raise NotLazy("the groups are chunks of dask")
        if isinstance(grouper.full_index, pd.MultiIndex):
            raise NotLazy("a label of the groups has several levels")
        outside = [dim for dim in grouper.codes.dims if dim not in dims]
        if outside:
            raise NotLazy(f"the dimension of the groups, '{outside[0]}', isn't among {sorted(map(str, dims))}")


def _codes(grouper):
    return Codes(_label(grouper), grouper.codes.dims, np.asarray(grouper.codes.values), len(grouper.full_index))


def _label(grouper):
    """The name of a dimension of groups."""
    return grouper.codes.dims[0] if grouper.name == "__resample_dim__" else grouper.name


def _left(data, gone, keep_attrs):
    """The coordinates that a reduction leaves."""
    coords = {name: own for name, own in data.coords.items() if not set(own.dims) & gone}
    return xr.Dataset(coords=coords, attrs=data.attrs if keep_attrs else None)


def _keeps_attrs(options, reduce):
    """Whether attributes are kept: as the options say, or else as xarray's own reduction does."""
    given = options.get("keep_attrs")
    if given is None:
        tiny = xr.Dataset({"a": ("x", [1.0], {"kept": True})}, {"x": [0]})
        return "kept" in reduce(tiny).a.attrs
    return bool(given)


def _add_quantile(result, options):
    q = options.get("q")
    if q is not None and "quantile" not in result.coords:
        result.coords["quantile"] = ("quantile", np.asarray(q, float)) if np.ndim(q) else float(q)


def _ordered(result, data):
    """In the order of the dataset's own variables."""
    first = [name for name in data.data_vars if name in result.data_vars]
    return result[[*first, *(name for name in result.data_vars if name not in first)]]


def _dims(dim, all_dims):
    if dim is None or dim is ...:
        return set(all_dims)
    dims = {dim} if isinstance(dim, str) else set(dim)
    unknown = dims - set(all_dims)
    if unknown:
        raise ValueError(
            f"there is no dimension {', '.join(map(repr, sorted(unknown)))}: there are {', '.join(map(str, all_dims))}"
        )
    return dims


def _present(dim, dims):
    """Of the dimensions to reduce those that are there."""
    if dim is None or dim is ...:
        return dim
    return [own for own in ([dim] if isinstance(dim, str) else dim) if own in dims]


# The name of a DataArray's variable as a Dataset.
_NAMELESS = "lsio values"


def _name(data):
    return _NAMELESS if data.name is None or data.name in data.coords or data.name in data.dims else data.name


def _dataset(data):
    return data if isinstance(data, xr.Dataset) else data.rename(None).to_dataset(name=_name(data))


def _restored(data, dataset):
    """What was a DataArray as a DataArray."""
    return dataset if isinstance(data, xr.Dataset) else dataset[_name(data)].rename(data.name)


xr.register_dataset_accessor("lsio")(LsioAccessor)
xr.register_dataarray_accessor("lsio")(LsioAccessor)
