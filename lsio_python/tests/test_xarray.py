"""xarray's engine, against xarray's own."""

import asyncio
import pickle

import numpy as np
import pytest
import xarray as xr

DTYPES = ["i1", "u2", "i4", "i8", "f4", "f8", "bool", "M8[ns]", "U5"]


def written(tmp_path, zarr_format, rng):
    """A store with variables of several types, masks, scales and times."""
    sizes = {"time": 7, "y": 11, "x": 13}
    dims = tuple(sizes)
    shape = tuple(sizes.values())
    data = {}
    for dtype in DTYPES:
        if dtype == "M8[ns]":
            values = np.datetime64("2001-01-01", "ns") + rng.integers(0, 10**6, shape) * np.timedelta64(1, "s")
        elif dtype == "U5":
            values = rng.integers(0, 10**5, shape).astype(str).astype("U5")
        else:
            values = rng.integers(0, 100, shape).astype(dtype)
        data["v_" + dtype.replace("[", "_").replace("]", "")] = (dims, values)
    masked = rng.normal(size=shape)
    masked[rng.random(shape) < 0.2] = np.nan
    data["masked"] = (dims, masked, {"units": "K", "valid": [1, 2]})
    data["packed"] = (dims, masked)
    data["scalar"] = ((), 3.5)
    ds = xr.Dataset(
        data,
        {"time": np.datetime64("2001-01-01", "ns") + np.arange(7) * np.timedelta64(6, "h"), "y": np.arange(11.0)[::-1], "x": range(13)},
        {"title": "types"},
    )
    path = tmp_path / f"v{zarr_format}.zarr"
    encoding = {name: {"chunks": (3, 4, 5)} for name in data if data[name][0]}
    encoding["packed"] |= {"dtype": "i2", "scale_factor": 0.01, "add_offset": 1.0, "_FillValue": -999}
    with np.errstate(all="ignore"):
        ds.to_zarr(path, encoding=encoding, zarr_format=zarr_format, consolidated=False)
    return path


@pytest.fixture(params=[2, 3])
def path(request, tmp_path):
    import warnings

    with warnings.catch_warnings():
        # zarr-python warns of types without a specification.
        warnings.simplefilter("ignore")
        return written(tmp_path, request.param, np.random.default_rng(5))


def both(path, **options):
    return (
        xr.open_dataset(path, engine="lsio", **options),
        xr.open_dataset(path, engine="zarr", consolidated=False, **options),
    )


def test_datasets_are_identical(path):
    own, theirs = both(path)
    xr.testing.assert_identical(own.load(), theirs.load())
    for options in [{"mask_and_scale": False}, {"decode_times": False}, {"drop_variables": ["packed"]}]:
        own, theirs = both(path, **options)
        xr.testing.assert_identical(own.load(), theirs.load())


def test_indexing_is_identical(path):
    own, theirs = both(path)
    rng = np.random.default_rng(7)
    for _ in range(40):
        indexers = {}
        for dim, size in theirs.sizes.items():
            kind = rng.integers(0, 6)
            if kind == 1:
                indexers[dim] = int(rng.integers(-size, size))
            elif kind == 2:
                indexers[dim] = slice(*sorted(rng.integers(-size, size, 2).tolist()), int(rng.integers(1, 4)))
            elif kind == 3:
                indexers[dim] = slice(None, None, -int(rng.integers(1, 4)))
            elif kind == 4:
                indexers[dim] = rng.integers(-size, size, rng.integers(0, 6))
            elif kind == 5:
                indexers[dim] = xr.DataArray(rng.integers(0, size, 4), dims="point")
        xr.testing.assert_identical(own.isel(indexers).load(), theirs.isel(indexers).load())
        more = {dim: slice(0, 2) for dim in own.isel(indexers).dims}
        xr.testing.assert_identical(own.isel(indexers).isel(more).load(), theirs.isel(indexers).isel(more).load())


def test_dask_pickle_and_async(path):
    pytest.importorskip("dask")
    own = xr.open_dataset(path, engine="lsio", chunks={})
    theirs = xr.open_dataset(path, engine="zarr", consolidated=False)
    assert own.masked.chunks == ((3, 3, 1), (4, 4, 3), (5, 5, 3))
    xr.testing.assert_identical(own.compute(), theirs.load())
    lazy = xr.open_dataset(path, engine="lsio")
    again = pickle.loads(pickle.dumps(lazy))
    xr.testing.assert_identical(again.load(), theirs)
    loaded = asyncio.run(xr.open_dataset(path, engine="lsio").load_async())
    xr.testing.assert_identical(loaded, theirs)


def test_stations_are_points(path):
    own, theirs = both(path)
    rng = np.random.default_rng(3)
    y, x = (xr.DataArray(rng.integers(0, size, 500), dims="station") for size in (11, 13))
    xr.testing.assert_identical(own[["masked"]].isel(y=y, x=x).load(), theirs[["masked"]].isel(y=y, x=x).load())


def test_groups(tmp_path):
    tree = xr.DataTree.from_dict({"/": xr.Dataset({"a": 1}), "/b": xr.Dataset({"v": ("x", [1.0, 2.0])}), "/b/c": xr.Dataset({"w": 3})})
    tree.to_zarr(tmp_path / "tree.zarr", consolidated=False)
    own = xr.open_datatree(tmp_path / "tree.zarr", engine="lsio")
    theirs = xr.open_datatree(tmp_path / "tree.zarr", engine="zarr", consolidated=False)
    xr.testing.assert_identical(own.load(), theirs.load())
    group = xr.open_dataset(tmp_path / "tree.zarr", engine="lsio", group="b")
    xr.testing.assert_identical(group.load(), theirs["b"].to_dataset(inherit=False))


def test_what_is_missing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        xr.open_dataset(tmp_path / "nothing.zarr", engine="lsio")
