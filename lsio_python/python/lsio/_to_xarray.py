"""Rows as xarray Datasets."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from . import _lsio
from ._errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import xarray as xr

# A dense array may have so many cells for each row; the rest would be missing.
_MOST_CELLS_PER_ROW = 1000
_FEW_CELLS = 1 << 20

# Attributes that tell how values were stored, and no longer hold for decoded ones.
_STORED_ONLY = {"scale_factor", "add_offset", "_FillValue", "missing_value", "units", "calendar", "dtype", "coordinates"}


def to_dataset(frame: _lsio.Frame, arrays: dict[str, Any], dims: str | Iterable[str] | None) -> xr.Dataset:
    """A Dataset of a frame's columns, some of which are dimensions."""
    import numpy as np
    import xarray as xr

    fields = {name: (kind, metadata) for name, kind, metadata in frame.columns()}
    dims = _dims(frame, fields, dims)
    rows = len(next(iter(arrays.values()))) if arrays else 0
    is_ordered = frame.is_ordered()
    known = {dim: None if is_ordered else _known(frame, dim, arrays[dim]) for dim in dims}
    grid = _lsio.Grid(rows, [(*_as_labels(arrays[dim]), known[dim]) for dim in dims], is_ordered)
    shape = grid.sizes()
    cells = math.prod(shape)
    if cells > _FEW_CELLS and cells > _MOST_CELLS_PER_ROW * max(rows, 1):
        raise InvalidRequestError(
            f"{rows} rows on {dict(zip(dims, shape))} would be an array of {cells} cells, nearly all of them missing: "
            "name fewer dimensions with dims=[…], or use to_pandas()"
        )
    if not dims and rows > 1:
        raise InvalidRequestError(f"{rows} rows have no dimension: name the columns that tell them apart with dims=[…]")
    if grid.repeated() is not None:
        raise InvalidRequestError(
            f"several rows have the same {', '.join(dims) or 'place'}: name the dimensions that tell rows apart "
            "with dims=[…], or use to_pandas()"
        )
    coords = {}
    for number, dim in enumerate(dims):
        labels = arrays[dim][np.frombuffer(grid.label_rows(number), np.int64)]
        coords[dim] = (dim, labels, _attributes(fields[dim]))
    variables = {}
    for name, values in arrays.items():
        if name in coords:
            continue
        dense = values.reshape(shape) if grid.is_in_order() else _scattered(values, grid, shape)
        variables[name] = (dims, dense, _attributes(fields[name]))
    attributes = _json(frame.metadata().get("zarr.attributes"))
    return xr.Dataset(variables, coords, attributes)


def _dims(frame, fields, dims):
    """The columns that are dimensions."""
    if dims is not None:
        dims = [dims] if isinstance(dims, str) else list(dims)
        for dim in dims:
            if dim not in fields:
                raise InvalidRequestError(f"there is no column '{dim}' to be a dimension: there are {', '.join(fields)}")
        return dims
    keys = frame.keys()
    if keys is not None:
        return keys
    return [name for name, (_, metadata) in fields.items() if json.loads(metadata.get("zarr.dims", "[]")) == [name]]


def _as_labels(values):
    """A column as the labels of a dimension: its type and values."""
    import numpy as np

    if values.dtype.kind == "O":
        return "text", list(values)
    values = values.astype("f4") if values.dtype == "f2" else np.ascontiguousarray(values)
    return values.dtype.str.lstrip("<>=|"), values.view(f"u{values.itemsize}")


def _known(frame, dim, values):
    """The labels of a dimension in their order, if it is one of a store's: as the grid takes them."""
    import numpy as np

    labels = frame.labels(dim)
    if labels is None:
        return None
    ((_, dtype, known),) = labels.collect().columns()
    known = np.array(known, object) if dtype == "object" else np.frombuffer(known, dtype)
    return _as_labels(known.astype(values.dtype, copy=False))[1]


def _scattered(values, grid, shape):
    import numpy as np

    kind = values.dtype.kind
    is_full = len(values) == math.prod(shape)
    if kind == "O":
        dense = np.full(math.prod(shape), None, dtype=object)
        dense[np.frombuffer(grid.cells_of_rows(), np.int64)] = values
        return dense.reshape(shape)
    if kind in "iub" and not is_full:
        # Integers have no missing value.
        values = values.astype(np.float64)
    missing = np.array("NaT" if kind in "mM" else 0 if is_full else np.nan, dtype=values.dtype)
    dense = np.empty(shape, values.dtype)
    plain = f"u{values.itemsize}" if values.itemsize <= 8 else f"V{values.itemsize}"
    grid.scatter(np.ascontiguousarray(values).view(plain), missing.tobytes(), dense.reshape(-1).view(plain))
    return dense


def _attributes(field):
    """Attributes of a column of a store, as xarray shows them after decoding."""
    kind, metadata = field
    attributes = _json(metadata.get("zarr.attributes"))
    kept = {name: value for name, value in attributes.items() if name not in _STORED_ONLY}
    # Of times the units tell how they were stored.
    if "units" in attributes and not kind.startswith(("Timestamp", "Duration")):
        if metadata.get("zarr.calendar") is None:
            kept["units"] = attributes["units"]
    return kept


def _json(text):
    return json.loads(text) if text else {}
