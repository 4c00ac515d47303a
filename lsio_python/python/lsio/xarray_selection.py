"""What a variable of xarray reads: which array of which store, and which indices of it.

This is the one module that knows how xarray nests its lazy arrays.
"""

import numpy as np
import pandas as pd
from xarray.core import indexing

from .xarray_backend import LsioArray


class NotLazy(Exception):
    """A variable isn't read from a store by lsio alone; the text says why."""


def selected(data, name):
    """What a variable of a Dataset reads.

    Raises :class:`NotLazy` with the reason, if it isn't a selection from an array of a store.
    """
    variable = data.variables[name]
    array, positions = _unwrapped(variable._data)
    if array.dtype.kind not in "iufb" or array._is_text:
        raise NotLazy(f"its values are no numbers, but {array.dtype}")
    if len(positions) != variable.ndim:
        raise NotLazy("its dimensions were changed")
    return Selected(data, name, variable.dims, array, positions)


class Selected:
    """A selection from an array of a store."""

    def __init__(self, data, name, dims, array, positions):
        self.name = name
        self.dims = dims
        self.source = array.source()
        self._column = array.name()
        self._positions = dict(zip(dims, positions))
        self._data = data
        if self._column != name:
            raise NotLazy(f"it is named '{self._column}' in the store")
        if array.dims() != dims:
            raise NotLazy(f"its dimensions are named {array.dims()} in the store")
        self._sizes = dict(zip(dims, array.full_shape()))

    def key(self):
        """Equal for variables that one query reads."""
        chosen = tuple((dim, own.tobytes()) for dim, own in self._positions.items())
        return self.source, self.dims, chosen

    def is_whole(self, dim):
        """Whether all indices of a dimension are selected, once and in order."""
        own = self._positions[dim]
        return len(own) == self._sizes[dim] and bool((own == np.arange(len(own))).all())

    def labels(self, dim):
        """Of each selected index of a dimension, its label in the table: its coordinate, or its number in the store."""
        if dim in self._data.coords:
            return self._data[dim].values
        return self._positions[dim].astype(np.int64)

    def positions(self, dim, labels):
        """Of labels that the table has given, their positions in the selection."""
        return pd.Index(self.labels(dim)).get_indexer(labels)

    def check_labels(self, dims):
        """Raises :class:`NotLazy` if labels don't tell indices apart, where that is needed."""
        for dim in self.dims:
            if dim in self._data.coords:
                labels = self._data[dim]
                if labels.dtype.kind not in "iufM":
                    raise NotLazy(f"labels of '{dim}' are {labels.dtype}")
                if not labels.to_index().is_unique or labels.isnull().any():
                    raise NotLazy(f"labels of '{dim}' don't tell its indices apart")
            elif len(np.unique(self._positions[dim])) < len(self._positions[dim]):
                raise NotLazy(f"indices of '{dim}' are selected several times")

    def frame(self, names):
        """The table with columns of these names."""
        return self.source.frame(names)


def _unwrapped(data):
    """The array that lazy arrays are around, and the selected positions along each dimension that is left."""
    keys = []
    while not isinstance(data, LsioArray):
        if isinstance(data, indexing.LazilyIndexedArray):
            keys.append(data.key.tuple)
        elif isinstance(data, np.ndarray):
            raise NotLazy("it is in memory")
        elif not hasattr(data, "array"):
            raise NotLazy(f"it is a {type(data).__name__}: open it with engine='lsio', without chunks")
        elif isinstance(data, indexing.LazilyVectorizedIndexedArray):
            raise NotLazy("points were selected from it")
        data = data.array
    axes = [np.arange(size) for size in data.shape]
    left = list(range(len(axes)))
    for key in reversed(keys):
        still = []
        for axis, own in zip(left, key):
            axes[axis] = axes[axis][own]
            if np.ndim(axes[axis]):
                still.append(axis)
        left = still
    if len(left) < len(axes):
        raise NotLazy("one index of a dimension was selected from it: select a slice of one")
    return data, [axes[axis] for axis in left]
