"""Datasets of xarray as tables: rows are made block by block, as a query asks for them."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ._columns import column, column_type

if TYPE_CHECKING:
    from collections.abc import Iterator

# Cells of a block that is loaded at once, unless a chunk has more.
_LOADED = 1 << 20

# Rows that are made at a time.
_ROWS = 1 << 16


class Blocks:
    """A Dataset or DataArray as blocks of rows: a row for each cell, with coordinates and variables as columns."""

    def __init__(self, data: Any) -> None:
        if not hasattr(data, "data_vars"):
            data = data.to_dataset(name=data.name if data.name is not None else "value")
        # The dimensions of all variables, in the order in which variables have them.
        self._dims = tuple(data.dims)
        self._sizes = dict(data.sizes)
        plain = [dim for dim in self._dims if dim not in data.coords]
        # As of to_dataframe(): a dimension without a coordinate is counted.
        self._data = data.assign_coords({dim: np.arange(self._sizes[dim]) for dim in plain})
        names = [dim for dim in self._dims]
        names += [name for name in self._data.coords if name not in names]
        self._names = names + list(self._data.data_vars)

    def fields(self) -> list[tuple[str, str]]:
        """Name and type of each column."""
        return [(str(name), column_type(self._data.variables[name].dtype)) for name in self._names]

    def scan(self, names: list[str]) -> Iterator[tuple[int, list[tuple[str, str, Any]]]]:
        """Blocks with the columns of these names: the number of rows, and the columns."""
        by_text = {str(name): name for name in self._names}
        variables = [by_text[name] for name in names]
        wanted = self._data.reset_coords()[variables]
        for box in self._boxes(wanted):
            loaded = wanted.isel({dim: own for dim, own in box.items() if dim in wanted.dims}).load()
            sizes = [box[dim].stop - box[dim].start for dim in self._dims]
            for slab in _slabs(sizes):
                shape = tuple(own.stop - own.start for own in slab)
                within = dict(zip(self._dims, slab))
                yield math.prod(shape), [self._column(loaded.variables[name], str(name), within, shape) for name in variables]

    def _column(self, variable, name, within, shape):
        own = variable.isel({dim: within[dim] for dim in variable.dims})
        values = own.transpose(*(dim for dim in self._dims if dim in own.dims)).values
        values = values.reshape([size if dim in own.dims else 1 for dim, size in zip(self._dims, shape)])
        return column(name, np.broadcast_to(values, shape).reshape(-1))

    def _boxes(self, wanted):
        """Boxes to load one by one, which cut no chunk: a slice of each dimension."""
        steps = dict.fromkeys(self._dims, 1)
        for variable in wanted.variables.values():
            chunks = variable.encoding.get("preferred_chunks") or {}
            for dim in variable.dims:
                chunk = chunks.get(dim, 1)
                if variable.chunks is not None:
                    chunk = max(variable.chunksizes[dim])
                if isinstance(chunk, int):
                    steps[dim] = min(self._sizes[dim], max(steps[dim], chunk))
        # As many chunks side by side as may be loaded, the last dimension first.
        for dim in reversed(self._dims):
            others = math.prod(step for other, step in steps.items() if other != dim)
            more = max(1, _LOADED // max(1, others * steps[dim]))
            steps[dim] = max(1, min(self._sizes[dim], steps[dim] * more))
        along = [
            [slice(start, min(start + steps[dim], self._sizes[dim])) for start in range(0, self._sizes[dim], steps[dim])]
            for dim in self._dims
        ]
        for chosen in itertools.product(*along):
            yield dict(zip(self._dims, chosen))


def _slabs(sizes):
    """Slices of a box with few rows each, in the order of its cells."""
    steps = list(sizes)
    for axis, size in enumerate(sizes):
        rest = math.prod(sizes[axis + 1 :])
        steps[axis] = max(1, min(size, _ROWS // max(1, rest)))
        if rest <= _ROWS:
            break
    along = [
        [slice(start, min(start + step, size)) for start in range(0, size, max(1, step))] for size, step in zip(sizes, steps)
    ]
    return itertools.product(*along)
