"""``ds.lsio``, against xarray's own reductions, on random datasets and selections."""

import warnings

import lsio
import numpy as np
import pandas as pd
import pytest
import xarray as xr

REDUCTIONS = ["mean", "sum", "min", "max", "count", "std", "var", "median"]


def dataset(rng, path):
    """A random dataset, opened by both engines."""
    sizes = {"time": int(rng.integers(1, 40)), "y": int(rng.integers(1, 9)), "x": int(rng.integers(1, 9))}
    dims = list(sizes)
    data = {}
    for name, kind in [("a", "f8"), ("b", "f4"), ("c", "i2"), ("packed", "f8")]:
        own = dims if name != "b" else dims[: int(rng.integers(1, 4))]
        shape = [sizes[dim] for dim in own]
        values = rng.integers(-50, 50, shape).astype(kind)
        if kind[0] == "f":
            values[rng.random(shape) < rng.choice([0, 0.3])] = np.nan
        data[name] = (own, values, {"units": "K", "long_name": name})
    coords = {"time": np.datetime64("2000-01-30", "ns") + np.arange(sizes["time"]) * np.timedelta64(17, "h")}
    if rng.random() < 0.7:
        coords["y"] = np.linspace(60, 10, sizes["y"])
    if rng.random() < 0.5:
        coords["x"] = rng.permutation(sizes["x"]).astype("f4")
    coords["land"] = (("y", "x"), rng.random((sizes["y"], sizes["x"])) < 0.5)
    ds = xr.Dataset(data, coords, {"title": "random"})
    encoding = {name: {"chunks": [max(1, size // 2) for size in ds[name].shape]} for name in data}
    encoding["packed"] |= {"dtype": "i2", "scale_factor": 0.5, "add_offset": 3.0, "_FillValue": -999}
    ds.to_zarr(path, encoding=encoding, consolidated=False)
    return xr.open_dataset(path, engine="lsio"), xr.open_dataset(path, engine="zarr", consolidated=False).load()


def double(ds):
    """The same with variables in double precision."""
    return ds.map(lambda v: v.astype("f8", keep_attrs=True), keep_attrs=True)


def assert_same(own, theirs):
    assert set(own.variables) == set(theirs.variables), (own, theirs)
    assert own.sizes == theirs.sizes
    assert own.attrs == theirs.attrs
    for name in theirs.variables:
        assert own[name].dims == theirs[name].dims, name
        assert own[name].attrs == theirs[name].attrs, name
        if own[name].dtype.kind in "iufb" and theirs[name].dtype.kind in "iufb":
            # What is left to xarray is computed in the variable's own precision.
            close = dict(rtol=1e-6, atol=1e-6) if name == "b" else dict(rtol=1e-12, atol=1e-9)
            np.testing.assert_allclose(
                own[name].values.astype("f8"), theirs[name].values.astype("f8"), err_msg=name, **close
            )
        else:
            assert own[name].equals(theirs[name]), name


def selection(rng, ds):
    """A random selection that keeps all dimensions."""
    indexers = {}
    for dim, size in ds.sizes.items():
        kind = rng.integers(0, 4)
        if kind == 1 and size > 1:
            start = int(rng.integers(0, size - 1))
            indexers[dim] = slice(start, int(rng.integers(start + 1, size + 1)))
        elif kind == 2:
            indexers[dim] = np.sort(rng.choice(size, int(rng.integers(1, size + 1)), replace=False))
        elif kind == 3:
            indexers[dim] = slice(None, None, -1)
    return indexers


@pytest.mark.parametrize("seed", range(12))
def test_reductions_are_xarrays(seed, tmp_path):
    rng = np.random.default_rng(seed)
    own, theirs = dataset(rng, tmp_path / "s.zarr")
    theirs = double(theirs)
    for _ in range(4):
        indexers = selection(rng, own)
        lazy, loaded = own.isel(indexers), theirs.isel(indexers)
        dims = [dim for dim in own.dims if rng.random() < 0.6] or ["time"]
        name = rng.choice(REDUCTIONS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", lsio.Note)
            warnings.simplefilter("ignore", RuntimeWarning)
            assert_same(getattr(lazy.lsio, name)(dims), getattr(loaded, name)(dims))
            assert_same(lazy.lsio.mean(), loaded.mean())
            assert_same(lazy.lsio.quantile(0.3, dims), loaded.quantile(0.3, dims))
            if lazy.indexes["time"].is_monotonic_increasing:
                groups = rng.choice(["time.month", "time.hour", "time.season"])
                assert_same(getattr(lazy.lsio.groupby(groups), name)(), getattr(loaded.groupby(groups), name)())
                assert_same(getattr(lazy.lsio.groupby(groups), name)(...), getattr(loaded.groupby(groups), name)(...))
                assert_same(lazy.lsio.resample(time="3D").mean(), loaded.resample(time="3D").mean())


@pytest.fixture
def pair(tmp_path):
    own, theirs = dataset(np.random.default_rng(99), tmp_path / "s.zarr")
    return own, double(theirs)


def test_nothing_is_left_to_xarray_that_lsio_can_do(pair):
    own, _ = pair
    with warnings.catch_warnings():
        warnings.simplefilter("error", lsio.Note)
        own[["a", "packed"]].lsio.groupby("time.month").mean()
        own[["a"]].isel(time=slice(0, 3)).lsio.std("time", ddof=1)
        own.a.lsio.resample(time="1D").max()
        own.packed.lsio.mean(["y", "x"])


def test_data_arrays_stay_data_arrays(pair):
    own, theirs = pair
    found = own.a.lsio.mean("time")
    assert isinstance(found, xr.DataArray) and found.name == "a"
    xr.testing.assert_allclose(found, theirs.a.mean("time"))


def test_bins_and_weights(pair):
    own, theirs = pair
    if "y" not in own.coords:
        own, theirs = own.assign_coords(y=range(own.sizes["y"])), theirs.assign_coords(y=range(own.sizes["y"]))
    bins = [0, 30, 100]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lsio.Note)
        assert_same(own[["a"]].lsio.groupby_bins("y", bins).mean(), theirs[["a"]].groupby_bins("y", bins).mean())
        weights = np.cos(np.deg2rad(own.y.astype("f8")))
        assert_same(own[["a", "packed"]].lsio.weighted(weights).mean(["y", "x"]), theirs[["a", "packed"]].weighted(weights).mean(["y", "x"]))


def test_the_rest_is_xarrays_with_a_reason(pair):
    own, theirs = pair
    with pytest.warns(lsio.Note, match="in memory"):
        found = (own[["a"]] * 2).lsio.mean("time")
    xr.testing.assert_allclose(found, (theirs[["a"]] * 2).mean("time"))
    with pytest.warns(lsio.Note, match="skipna"):
        own[["a"]].lsio.mean("time", skipna=False)
    with pytest.raises(ValueError, match="no dimension 'z'"):
        own.lsio.mean("z")


def test_statements_on_datasets(pair):
    own, theirs = pair
    found = own.lsio.sql("SELECT count(a) AS n FROM this").to_numpy()["n"][0]
    assert found == int(theirs.a.count())


def test_labels_of_months_are_xarrays(pair):
    own, theirs = pair
    found = own[["a"]].lsio.groupby("time.month").mean()
    pd.testing.assert_index_equal(found.indexes["month"], theirs[["a"]].groupby("time.month").mean().indexes["month"])
