"""xarray's engine ``lsio``: ``xr.open_dataset("era5.zarr", engine="lsio")``.

Stored values are read by lsio, where and when they are needed; xarray itself decodes them, so that all comes out as with
its own engine.
"""

import asyncio
import base64
import json
import math
import os
import struct

import numpy as np
import xarray as xr
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.backends.common import AbstractDataStore
from xarray.backends.store import StoreBackendEntrypoint
from xarray.core import indexing

from . import _lsio
from ._session import default_session
from ._settings import location, options

# The attribute in which xarray stores the names of dimensions in Zarr v2.
_DIMENSIONS = "_ARRAY_DIMENSIONS"


class LsioBackendEntrypoint(BackendEntrypoint):
    """Opens Zarr stores by path or URL; options of object stores go into ``storage_options``."""

    description = "Open Zarr stores with lsio"
    url = "https://docs.rs/lsio_core"
    supports_groups = True
    open_dataset_parameters = (
        "filename_or_obj",
        "mask_and_scale",
        "decode_times",
        "concat_characters",
        "decode_coords",
        "drop_variables",
        "use_cftime",
        "decode_timedelta",
        "group",
        "consolidated",
        "storage_options",
        "use_zarr_fill_value_as_mask",
    )

    def guess_can_open(self, filename_or_obj):
        # Engines are asked in the order of their names: whoever has lsio installed would get it for all stores.
        text = os.fspath(filename_or_obj) if isinstance(filename_or_obj, (str, os.PathLike)) else ""
        return str(text).endswith(".zarr.zip")

    def open_dataset(
        self,
        filename_or_obj,
        *,
        mask_and_scale=True,
        decode_times=True,
        concat_characters=True,
        decode_coords=True,
        drop_variables=None,
        use_cftime=None,
        decode_timedelta=None,
        group=None,
        consolidated=None,
        storage_options=None,
        use_zarr_fill_value_as_mask=None,
    ):
        decoders = dict(
            mask_and_scale=mask_and_scale,
            decode_times=decode_times,
            concat_characters=concat_characters,
            decode_coords=decode_coords,
            use_cftime=use_cftime,
            decode_timedelta=decode_timedelta,
        )
        where = (filename_or_obj, group, consolidated, storage_options, use_zarr_fill_value_as_mask)
        return _opened(where, drop_variables, decoders)[0]

    def open_groups_as_dict(
        self,
        filename_or_obj,
        *,
        drop_variables=None,
        group=None,
        consolidated=None,
        storage_options=None,
        use_zarr_fill_value_as_mask=None,
        **decoders,
    ):
        groups = {}
        waiting = [("/", group)]
        while waiting:
            name, inside = waiting.pop()
            where = (filename_or_obj, inside, consolidated, storage_options, use_zarr_fill_value_as_mask)
            groups[name], children = _opened(where, drop_variables, decoders)
            for child in reversed(children):
                waiting.append((f"{name.rstrip('/')}/{child}", f"{inside or ''}/{child}".strip("/")))
        return groups

    def open_datatree(self, filename_or_obj, **options):
        return xr.DataTree.from_dict(self.open_groups_as_dict(filename_or_obj, **options))


def _opened(where, drop_variables, decoders):
    """A group as a Dataset, and the names of the groups inside it."""
    store = LsioDataStore(*where, decoders)
    return StoreBackendEntrypoint().open_dataset(store, drop_variables=drop_variables, **decoders), store.children()


def _as_options(decoders, fill_value_as_mask):
    """How xarray decodes, as options of a table. What has no option there is left to the engine's default."""
    named = {name: decoders.get(name) for name in ("mask_and_scale", "decode_times")}
    named = {name: value for name, value in named.items() if isinstance(value, bool)}
    return tuple(options({**named, "use_zarr_fill_value_as_mask": fill_value_as_mask}))


class LsioDataStore(AbstractDataStore):
    """A group of a store, as xarray wants it."""

    def __init__(
        self, path, group=None, consolidated=None, storage_options=None, fill_value_as_mask=None, decoders=None
    ):
        path = location(path)
        if "://" not in path:
            path = os.path.abspath(os.path.expanduser(path))
        # Values as they are stored, and arrays as they are: xarray does the rest.
        raw = {"decode_cf": False, "consolidated": consolidated, "group": group, **(storage_options or {})}
        self._source = Source(path, tuple(options(raw)), _as_options(decoders or {}, fill_value_as_mask))
        self._fill_value_as_mask = fill_value_as_mask
        self._format = self._source.store().format()

    def children(self):
        return self._source.store().children()

    def get_variables(self):
        return {each["name"]: self._variable(each) for each in self._described()}

    def _described(self):
        # Coordinates of the groups above are the tree's affair.
        return [each for each in self._source.store().variables() if not each["inherited"]]

    def _variable(self, described):
        dims = tuple(described["dims"])
        attributes = json.loads(described["attributes"])
        attributes = {
            name: value
            for name, value in attributes.items()
            if self._format == 3 or not (name == _DIMENSIONS or name.lower().startswith("_nc"))
        }
        array = LsioArray(self._source, described)
        chunks = tuple(described["chunks"])
        encoding = {
            "chunks": chunks,
            "preferred_chunks": dict(zip(dims, chunks)),
            "shards": tuple(described["objects"]) if described["sharded"] else None,
        }
        if array.dtype.kind == "T":
            # Tells xarray to leave such texts as they are.
            encoding["dtype"] = array.dtype
        masks = self._fill_value_as_mask if self._fill_value_as_mask is not None else self._format == 2
        if masks:
            fill = _fill_value(described["fill_value"], array.dtype)
            if fill is not None:
                attributes["_FillValue"] = fill
        else:
            if self._format == 3:
                # So that it stays the same when the dataset is written.
                encoding["fill_value"] = _fill_value(described["fill_value"], array.dtype)
            if "_FillValue" in attributes:
                attributes["_FillValue"] = _decoded_fill(attributes["_FillValue"], array.dtype)
        return xr.Variable(dims, indexing.LazilyIndexedArray(array), attributes, encoding)

    def get_attrs(self):
        attributes = json.loads(self._source.store().attributes())
        return {name: value for name, value in attributes.items() if not name.lower().startswith("_nc")}

    def get_dimensions(self):
        sizes = {}
        for each in self._described():
            sizes.update(zip(each["dims"], each["shape"]))
        return sizes

    def get_encoding(self):
        return {}

    def close(self):
        pass


class Source:
    """Where a group is, and how it is opened. Each process opens it for itself."""

    def __init__(self, path, opened_with, decoded_with=()):
        self.path = path
        self._options = opened_with
        # How xarray decodes it, as options of a table.
        self._decoded_with = decoded_with
        self._opened = None

    def __eq__(self, other):
        return isinstance(other, Source) and self._same() == other._same()

    def __hash__(self):
        return hash(self._same())

    def _same(self):
        return self.path, self._options, self._decoded_with

    def frame(self, names=None):
        """The group as a table, with columns of these names, decoded as xarray decodes them."""
        opened_with = {name: value for name, value in self._options if name != "decode_cf"}
        opened_with |= dict(self._decoded_with)
        if names is not None:
            opened_with["variables"] = list(names)
        return default_session().open(self.path, **opened_with)

    def indexed_frame(self, columns, dims):
        """The same, in which each of the dimensions is a column of its indices, whatever its coordinate."""
        options_ = {name: value for name, value in self._options if name not in ("decode_cf", "drop_variables")}
        options_ |= dict(self._decoded_with)
        return default_session().open(self.path, **options_, variables=columns, drop_variables=dims)

    def decodes(self):
        """Whether xarray masks and scales."""
        return dict(self._decoded_with).get("mask_and_scale") != "false"

    def store(self):
        process = os.getpid()
        opened = self._opened
        if opened is None or opened[0] != process:
            self._opened = opened = (process, _lsio.Store(self.path, list(self._options)))
        return opened[1]

    def __getstate__(self):
        return {**self.__dict__, "_opened": None}


class LsioArray(BackendArray):
    """An array of a store, which is read where it is indexed."""

    def __init__(self, source, described):
        self._source = source
        self._name = described["name"]
        self._dims = tuple(described["dims"])
        self.shape = tuple(described["shape"])
        self._unreadable = described["unreadable"]
        if described["dtype"] is not None:
            self._is_text = False
            self.dtype = np.dtype(described["dtype"])
        else:
            self._is_text = described["type"] in ("Utf8", "Utf8View", "LargeUtf8")
            self.dtype = _TEXTS if self._is_text else np.dtype(object)
            if not self._is_text and self._unreadable is None:
                self._unreadable = f"xarray has no type for values that are {described['type']}"

    def source(self):
        return self._source

    def name(self):
        """The name in the store."""
        return self._name

    def dims(self):
        """The names of the dimensions in the store."""
        return self._dims

    def full_shape(self):
        return self.shape

    def __getitem__(self, key):
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.VECTORIZED, self._method(key)
        )

    async def async_getitem(self, key):
        # The read waits outside of the interpreter's lock, so a thread is all that is needed.
        return await asyncio.to_thread(self.__getitem__, key)

    def _method(self, key):
        return self._points if isinstance(key, indexing.VectorizedIndexer) else self._outer

    def _outer(self, key):
        along, squeezed, flipped = [], [], []
        for axis, (own, size) in enumerate(zip(key, self.shape)):
            if isinstance(own, slice):
                taken, is_flipped = _taken(own, size)
                along.append(taken)
                if is_flipped:
                    flipped.append(axis)
            elif np.ndim(own) == 0:
                along.append((int(own) + (size if own < 0 else 0), 1, 1))
                squeezed.append(axis)
            else:
                along.append(_listed(own, size))
        out = self._read(along, tuple(each[2] if isinstance(each, tuple) else len(each) for each in along))
        if flipped:
            out = np.flip(out, flipped)
        return out.squeeze(tuple(squeezed)) if squeezed else out

    def _points(self, key):
        # Dimensions of the arrays come first, then those of the slices, as in numpy.
        shared = np.broadcast_shapes(*(np.shape(own) for own in key if not isinstance(own, slice)))
        along, sizes, flipped = [], [], []
        for own, size in zip(key, self.shape):
            if isinstance(own, slice):
                taken, is_flipped = _taken(own, size)
                along.append(taken)
                if is_flipped:
                    flipped.append(len(shared) + len(sizes))
                sizes.append(taken[2])
            else:
                own = np.asarray(own)
                own = np.broadcast_to(np.where(own < 0, own + size, own), shared)
                along.append(np.ascontiguousarray(own, np.uint64).reshape(-1))
        out = self._read(along, (math.prod(shared), *sizes), points=True).reshape((*shared, *sizes))
        return np.flip(out, flipped) if flipped else out

    def _read(self, along, shape, points=False):
        self._check()
        out = np.empty(shape, object if self._is_text else self.dtype)
        if not out.size:
            return out.astype(self.dtype)
        store = self._source.store()
        # A buffer has a dimension.
        memory = out if out.ndim else out.reshape(1)
        if self._is_text:
            store.read_texts(self._name, along, memory, points=points)
            out = out.astype(self.dtype)
        else:
            # Bytes of any type: times and structures have no buffer of their own.
            plain = memory.view(_PLAIN.get(out.dtype.itemsize, f"V{out.dtype.itemsize}"))
            store.read(self._name, along, plain, points=points)
        return out

    def _check(self):
        if self._unreadable is not None:
            from ._errors import UnsupportedError

            raise UnsupportedError(f"the array '{self._source.path}/{self._name}' can't be read: {self._unreadable}")


# The type of texts of any length: that of zarr-python's arrays.
_TEXTS = np.dtypes.StringDType() if hasattr(np.dtypes, "StringDType") else xr.coding.strings.create_vlen_dtype(str)

# Integers of each width in bytes, which have a buffer.
_PLAIN = {1: "u1", 2: "u2", 4: "u4", 8: "u8"}


def _taken(own, size):
    """A slice as its first index, its step and its number, and whether it runs backwards."""
    start, stop, step = own.indices(size)
    count = len(range(start, stop, step))
    if step < 0:
        return (max(start + (count - 1) * step, 0), -step, count), True
    return (max(start, 0), step, count), False


def _listed(indices, size):
    """Indices as a range if they are one, else as an array."""
    indices = np.asarray(indices)
    indices = np.where(indices < 0, indices + size, indices)
    steps = np.diff(indices)
    if len(indices) > 1 and steps[0] > 0 and (steps == steps[0]).all():
        return int(indices[0]), int(steps[0]), len(indices)
    return np.ascontiguousarray(indices, dtype=np.uint64)


def _fill_value(text, dtype):
    """Zarr's fill value as a value of a type; None if there is none, or none of this type."""
    if text is None:
        return None
    value = json.loads(text)
    if dtype.kind == "O":
        return value
    if dtype.kind == "S":
        return np.bytes_(base64.standard_b64decode(value)) if value else np.bytes_(b"")
    if dtype.kind == "c" and isinstance(value, list):
        return dtype.type(complex(float(value[0]), float(value[1])))
    if dtype.kind in "mM":
        return np.array(value, np.int64).view(dtype)[()] if not isinstance(value, str) else dtype.type("NaT")
    try:
        return dtype.type(value)
    except ValueError:
        return None


def _decoded_fill(value, dtype):
    """The attribute ``_FillValue`` as xarray encodes it in Zarr v3."""
    if dtype.kind == "O":
        return str(value)
    if dtype.kind == "S" and isinstance(value, str):
        return base64.standard_b64decode(value)
    if dtype.kind == "f" and isinstance(value, str):
        return struct.unpack("<d", base64.standard_b64decode(value))[0]
    if dtype.kind == "c" and isinstance(value, (list, tuple)):
        return complex(*(struct.unpack("<d", base64.standard_b64decode(part))[0] for part in value))
    return np.array(value, dtype=dtype)[()] if dtype.kind in "iub" else value


# Importing the accessor registers it: whoever opens a dataset with the engine has it.
from . import xarray_accessor  # noqa: E402,F401
