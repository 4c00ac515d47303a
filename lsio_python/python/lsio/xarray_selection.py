"""What a variable of xarray reads: which array of which store, and which indices of it.

This is the one module that knows how xarray nests its lazy arrays.
"""

import numpy as np
from xarray.core import indexing

from .xarray_backend import LsioArray

# What xarray wraps arrays in that changes no value.
_PLAIN = (indexing.CopyOnWriteArray, indexing.MemoryCachedArray, indexing.LazilyIndexedArray)


class NotLazy(Exception):
    """A variable isn't read from a store by lsio alone; the text says why. No text: nobody needs to be told."""


def selected(data, name):
    """What a variable of a Dataset reads.

    Raises :class:`NotLazy` with the reason, if it isn't a selection from an array of a store.
    """
    variable = data.variables[name]
    array, positions = _unwrapped(variable._data)
    if variable.dtype.kind not in "iufb" or array.dtype.kind not in "iufb":
        raise NotLazy(f"its values are no numbers, but {variable.dtype}")
    kept = [position for position in positions if np.ndim(position)]
    if len(kept) != variable.ndim:
        raise NotLazy("its dimensions were changed")
    return Selected(name, variable, array, positions)


class Selected:
    """A selection from an array of a store: of each of its dimensions some indices, or one, which is no dimension any
    more."""

    def __init__(self, name, variable, array, positions):
        self.name = name
        self.source = array.source()
        self.column = array.name()
        self.dtype = variable.dtype
        self.dims = variable.dims
        stored = [dim for dim, own in zip(array.dims(), positions) if np.ndim(own)]
        # The store's name of each dimension.
        self.stored = dict(zip(self.dims, stored))
        self.positions = dict(zip(self.dims, [own for own in positions if np.ndim(own)]))
        # Dimensions of the store of which one index is selected.
        self.single = {dim: int(own) for dim, own in zip(array.dims(), positions) if not np.ndim(own)}
        self.stored_sizes = dict(zip(array.dims(), array.full_shape()))
        if len(self.stored_sizes) < len(positions):
            raise NotLazy("one of its dimensions is there twice")
        if "," in self.column or any("," in dim for dim in self.stored_sizes):
            raise NotLazy("there is a comma in its name, or in one of its dimensions'")

    def key(self):
        """Equal for variables that one query reads."""
        chosen = tuple((dim, self.stored[dim], own.tobytes()) for dim, own in self.positions.items())
        return self.source, chosen, tuple(self.single.items())

    def is_whole(self, dim):
        """Whether all indices of a dimension are selected, once and in order."""
        own = self.positions[dim]
        return len(own) == self.stored_sizes[self.stored[dim]] and bool((own == np.arange(len(own))).all())

    def is_range(self, dim):
        """Whether the indices of a dimension follow each other."""
        own = self.positions[dim]
        return bool((np.diff(own) == 1).all())

    def repeats(self, dim):
        """Whether indices of a dimension are selected several times."""
        own = self.positions[dim]
        return len(np.unique(own)) < len(own)

    def frame(self, columns):
        """The table with columns of these names, and for each dimension a column of its indices."""
        return self.source.indexed_frame(columns, list(self.stored_sizes))


def _unwrapped(data):
    """The array that lazy arrays are around, and the selected positions along each of its dimensions."""
    keys = []
    decoded = False
    while not isinstance(data, LsioArray):
        if isinstance(data, indexing.LazilyIndexedArray):
            keys.append(data.key.tuple)
        elif isinstance(data, indexing.LazilyVectorizedIndexedArray):
            raise NotLazy("points were selected from it, or it was transposed")
        elif isinstance(data, np.ndarray):
            raise NotLazy("it is in memory")
        elif not hasattr(data, "array"):
            raise NotLazy(f"it is a {type(data).__name__}: open it with engine='lsio', without chunks")
        decoded |= not isinstance(data, _PLAIN)
        data = data.array
    if decoded and not data.source().decodes():
        raise NotLazy("it was decoded after it was opened")
    axes = [np.arange(size) for size in data.shape]
    left = list(range(len(axes)))
    for key in reversed(keys):
        still = []
        for axis, own in zip(left, key):
            axes[axis] = axes[axis][own]
            if np.ndim(axes[axis]):
                still.append(axis)
        left = still
    return data, axes
