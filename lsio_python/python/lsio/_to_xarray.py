"""Rows as xarray Datasets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ._errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import xarray as xr

    from . import _lsio

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
    orders = [_labels(arrays[dim]) for dim in dims]
    shape = [len(labels) for (labels, _), _ in orders]
    cells = int(np.prod([float(size) for size in shape]))
    if cells > _FEW_CELLS and cells > _MOST_CELLS_PER_ROW * max(rows, 1):
        raise InvalidRequestError(
            f"{rows} rows on {dict(zip(dims, shape))} would be an array of {cells} cells, nearly all of them missing: "
            "name fewer dimensions with dims=[…], or use to_pandas()"
        )
    place = lambda chosen: np.ravel_multi_index([codes for _, codes in chosen], shape) if dims else np.zeros(rows, int)
    # Rows of a grid bring its labels in their order, whatever that is: a store's, or that of an ORDER BY.
    chosen = [appeared for _, appeared in orders]
    position = place(chosen)
    in_order = rows == cells and bool((position == np.arange(rows)).all())
    if not in_order:
        chosen = [ascending for ascending, _ in orders]
        position = place(chosen)
    labels = [own for own, _ in chosen]
    if not in_order and len(np.unique(position)) < rows:
        raise InvalidRequestError(
            f"several rows have the same {', '.join(dims) or 'place'}: name the dimensions that tell rows apart "
            "with dims=[…], or use to_pandas()"
        )
    if not dims and rows > 1:
        raise InvalidRequestError(f"{rows} rows have no dimension: name the columns that tell them apart with dims=[…]")
    coords = {dim: (dim, label, _attributes(fields[dim])) for dim, label in zip(dims, labels)}
    variables = {}
    for name, values in arrays.items():
        if name in coords:
            continue
        dense = values.reshape(shape) if in_order else _scattered(values, position, shape)
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


def _labels(values):
    """The labels of a dimension, and of each row the position of its label: ascending, and as rows bring them.

    Labels that come from the last to the first, such as latitudes from north to south, count as ascending.
    """
    import numpy as np

    labels, first, codes = np.unique(values, return_index=True, return_inverse=True, equal_nan=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    appeared = labels[order], rank[codes]
    if len(order) > 1 and (np.diff(order) == -1).all():
        return appeared, appeared
    return (labels, codes), appeared


def _scattered(values, position, shape):
    import numpy as np

    kind = values.dtype.kind
    if kind in "fc":
        missing = np.nan
    elif kind in "mM":
        missing = np.array("NaT", values.dtype)
    elif kind == "O":
        missing = None
    else:
        # Integers have no missing value.
        full = len(position) == int(np.prod(shape))
        values = values if full else values.astype(np.float64)
        missing = 0 if full else np.nan
    dense = np.full(int(np.prod(shape)), missing, dtype=values.dtype)
    dense[position] = values
    return dense.reshape(shape)


def _attributes(field):
    """Attributes of a column of a store, as xarray shows them after decoding."""
    _, metadata = field
    attributes = _json(metadata.get("zarr.attributes"))
    kept = {name: value for name, value in attributes.items() if name not in _STORED_ONLY}
    if "units" in attributes and " since " not in str(attributes["units"]):
        kept["units"] = attributes["units"]
    return kept


def _json(text):
    return json.loads(text) if text else {}
