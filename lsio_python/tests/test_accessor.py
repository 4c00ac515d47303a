"""``ds.lsio``, against xarray's own reductions, on random datasets and selections."""

import contextlib
import warnings

import lsio
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from xarray.groupers import BinGrouper, TimeResampler, UniqueGrouper

REDUCTIONS = ["mean", "sum", "min", "max", "count", "std", "var", "median"]
# What is computed by lsio, and not left to xarray.
LAZY = ["a", "c", "packed", "flag", "count", "turned", "wide"]


@pytest.fixture(autouse=True)
def groups_without_flox():
    """xarray's own way: with flox, dimensions come in other orders, and sums of missing values alone are missing."""
    with xr.set_options(use_flox=False):
        yield


def dataset(rng, path):
    """A random dataset, opened by both engines: the latter with numbers in double precision."""
    sizes = {"time": int(rng.integers(1, 40)), "y": int(rng.integers(1, 9)), "x": int(rng.integers(1, 9))}
    dims = list(sizes)
    data = {}
    kinds = dict(a="f8", b="f4", c="i2", packed="f8", flag="bool", count="u4", turned="f4", wide="f2")
    for name, kind in kinds.items():
        own = dims
        if name == "b":
            own = dims[: int(rng.integers(1, 4))]
        if name == "turned":
            own = list(rng.permutation(dims))
        shape = [sizes[dim] for dim in own]
        values = rng.integers(0, 2 if kind == "bool" else 50, shape).astype(kind)
        if kind[0] == "f":
            values -= 25
            values[rng.random(shape) < rng.choice([0, 0.3, 0.9])] = np.nan
        data[name] = (own, values, {"units": "K", "long_name": name})
    data["text"] = ("y", rng.integers(0, 9, sizes["y"]).astype(str))
    data["lone"] = ((), 5.0)
    coords = {"time": np.datetime64("2000-01-30", "ns") + np.arange(sizes["time"]) * np.timedelta64(17, "h")}
    if rng.random() < 0.7:
        # From north to south, as it is often stored; sometimes with a repeated label.
        coords["y"] = ("y", np.linspace(60, 10, sizes["y"]), {"units": "degrees_north"})
        if rng.random() < 0.3:
            coords["y"][1][-1] = coords["y"][1][0]
    if rng.random() < 0.7:
        labels = rng.permutation(sizes["x"])
        coords["x"] = labels.astype(rng.choice(["f4", "i8", "U3"]))
    coords["land"] = (("y", "x"), rng.integers(0, 3, (sizes["y"], sizes["x"])), {"long_name": "kinds of land"})
    coords["run"] = 7
    ds = xr.Dataset(data, coords, {"title": "random"})
    encoding = {name: {"chunks": [int(rng.integers(1, size + 1)) for size in ds[name].shape]} for name in kinds}
    encoding["packed"] |= {"dtype": "i2", "scale_factor": 0.5, "add_offset": 3.0, "_FillValue": -999}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds.to_zarr(path, encoding=encoding, consolidated=False, zarr_format=int(rng.choice([2, 3])))
    theirs = xr.open_dataset(path, engine="zarr", consolidated=False).load()
    own = xr.open_dataset(path, engine="lsio")
    # Unlisted stores have no order.
    return own, double(theirs)[list(own.data_vars)]


def double(ds):
    """The same with floating variables in double precision."""
    return ds.map(lambda v: v.astype("f8", keep_attrs=True) if v.dtype.kind == "f" else v, keep_attrs=True)


def assert_same(own, theirs):
    assert list(own.data_vars) == list(theirs.data_vars), (own, theirs)
    assert set(own.coords) == set(theirs.coords), (own, theirs)
    assert own.sizes == theirs.sizes
    assert own.attrs == theirs.attrs
    assert set(own.xindexes) == set(theirs.xindexes)
    for name in theirs.variables:
        assert own[name].dims == theirs[name].dims, name
        assert own[name].attrs == theirs[name].attrs, name
        if own[name].dtype.kind in "iufb" and theirs[name].dtype.kind in "iufb":
            # What is left to xarray is computed in the variable's own precision.
            close = dict(rtol=1e-12, atol=1e-9) if name in LAZY else dict(rtol=1e-6, atol=1e-6)
            left, right = own[name].values.astype("f8"), theirs[name].values.astype("f8")
            np.testing.assert_allclose(left, right, err_msg=name, **close)
        else:
            assert own[name].equals(theirs[name]), name


def selection(rng, ds):
    """A random selection that keeps most dimensions."""
    indexers = {}
    for dim, size in ds.sizes.items():
        kind = rng.integers(0, 9)
        if kind == 1 and size > 1:
            start = int(rng.integers(0, size - 1))
            indexers[dim] = slice(start, int(rng.integers(start + 1, size + 1)))
        elif kind == 2:
            indexers[dim] = np.sort(rng.choice(size, int(rng.integers(1, size + 1)), replace=False))
        elif kind == 3:
            indexers[dim] = slice(None, None, -1)
        elif kind == 4:
            indexers[dim] = slice(None, None, int(rng.integers(1, 4)))
        elif kind == 5:
            # In any order, some of them twice.
            indexers[dim] = rng.integers(0, size, int(rng.integers(1, size + 2)))
        elif kind == 6 and dim != "time":
            indexers[dim] = int(rng.integers(-size, size))
    return indexers


def options(rng, name):
    """Random options of a reduction."""
    chosen = {}
    if rng.random() < 0.3:
        chosen["keep_attrs"] = bool(rng.random() < 0.5)
    if rng.random() < 0.3 and name != "count":
        chosen["skipna"] = bool(rng.random() < 0.5)
    if rng.random() < 0.5 and name in ("std", "var"):
        chosen["ddof"] = int(rng.integers(0, 3))
    if rng.random() < 0.3 and name == "sum" and chosen.get("skipna", True):
        chosen["min_count"] = int(rng.integers(0, 4))
    return chosen


@contextlib.contextmanager
def quiet():
    with warnings.catch_warnings():
        for kind in (lsio.Note, RuntimeWarning, FutureWarning):
            warnings.simplefilter("ignore", kind)
        yield


def selected(rng, own, theirs):
    """The same selection of both, made in one or two steps, with a dimension or a variable renamed now and then."""
    lazy, loaded = own, theirs
    for _ in range(int(rng.integers(1, 3))):
        indexers = selection(rng, lazy)
        lazy, loaded = lazy.isel(indexers), loaded.isel(indexers)
    return lazy, loaded


@pytest.mark.parametrize("seed", range(8))
def test_reductions_are_xarrays(seed, tmp_path):
    rng = np.random.default_rng(seed)
    own, theirs = dataset(rng, tmp_path / "s.zarr")
    for _ in range(4):
        lazy, loaded = selected(rng, own, theirs)
        dims = [dim for dim in lazy.dims if rng.random() < 0.6] or ["time"]
        name = str(rng.choice(REDUCTIONS))
        chosen = options(rng, name)
        if name in ("min", "max"):
            # Texts have no least one in xarray.
            lazy, loaded = lazy.drop_vars("text"), loaded.drop_vars("text")
        fractions = rng.choice([0.3, 0.5, 1.0]) if rng.random() < 0.5 else [0.1, 0.9]
        with quiet():
            what = (name, dims, chosen)
            check(lambda: getattr(lazy.lsio, name)(dims, **chosen), lambda: getattr(loaded, name)(dims, **chosen), what)
            check(lambda: lazy.lsio.mean(), lambda: loaded.mean(), what)
            numbers = [each for each in lazy.data_vars if each not in ("flag", "text")]
            lazy, loaded = lazy[numbers], loaded[numbers]
            check(lambda: lazy.lsio.quantile(fractions, dims), lambda: loaded.quantile(fractions, dims), fractions)


def groupings(rng, ds):
    """Random groupings: a method, and its arguments."""
    found = [("groupby", (str(rng.choice(["time.month", "time.hour", "time.season", "time.dayofyear"])),), {})]
    if ds.indexes["time"].is_monotonic_increasing and ds.indexes["time"].is_unique:
        found.append(("resample", (), {"time": str(rng.choice(["3D", "1h", "MS"]))}))
    if "land" in ds.coords and ds.land.ndim > 0:
        found.append(("groupby", ("land",), {}))
    if "y" in ds.indexes:
        bins = [0, 20, 22, 40, 100]
        found.append(("groupby_bins", ("y", bins), {}))
        found.append(("groupby", (), {"y": BinGrouper(bins), "time.month": UniqueGrouper()}))
    if "x" in ds.indexes:
        found.append(("groupby", ("x",), {}))
        found.append(("groupby", (["x", "time.hour"],), {}))
    found.append(("groupby", (["time.month", "time.hour"],), {}))
    return found


@pytest.mark.parametrize("seed", range(8))
def test_groups_are_xarrays(seed, tmp_path):
    rng = np.random.default_rng(100 + seed)
    own, theirs = dataset(rng, tmp_path / "s.zarr")
    variables = ["a", "c", "packed", "turned", "count"]
    own, theirs = own[variables], theirs[variables]
    for _ in range(3):
        lazy, loaded = selected(rng, own, theirs)
        name = str(rng.choice(REDUCTIONS))
        chosen = options(rng, name)
        for method, args, named in groupings(rng, lazy):
            what = (method, args, named, name, chosen)
            with quiet():
                groups = getattr(loaded, method)(*args, **named)
                found = getattr(lazy.lsio, method)(*args, **named)
                check(lambda: getattr(found, name)(**chosen), lambda: getattr(groups, name)(**chosen), what)
                check(lambda: getattr(found, name)(...), lambda: getattr(groups, name)(...), what)
                # xarray leaves coordinates in the way if groups are named as their dimension.
                left = ["land"] if args in [("x",), (["x", "time.hour"],)] else []
                groups = getattr(loaded.turned.drop_vars(left, errors="ignore"), method)(*args, **named)
                found = getattr(lazy.turned.drop_vars(left, errors="ignore").lsio, method)(*args, **named)
                check(lambda: found.mean().to_dataset(), lambda: groups.mean().to_dataset(), what)


def check(own, theirs, what):
    try:
        expected = theirs()
    except Exception as error:
        # What xarray can't do.
        with pytest.raises(type(error)):
            own()
        return
    try:
        assert_same(own(), expected)
    except AssertionError as error:
        raise AssertionError(what) from error


@pytest.mark.parametrize("seed", range(4))
def test_weights_are_xarrays(seed, tmp_path):
    rng = np.random.default_rng(200 + seed)
    own, theirs = dataset(rng, tmp_path / "s.zarr")
    variables = ["a", "c", "packed", "turned"]
    own, theirs = own[variables].drop_vars("land"), theirs[variables].drop_vars("land")
    if "y" not in own.coords:
        own, theirs = (ds.assign_coords(y=np.arange(ds.sizes["y"]) * 10.0) for ds in (own, theirs))
    for _ in range(3):
        lazy, loaded = selected(rng, own, theirs)
        if "y" not in lazy.dims:
            continue
        weights = np.cos(np.deg2rad(loaded.y.astype("f8")))
        if "x" in lazy.dims and rng.random() < 0.5:
            weights = weights * xr.DataArray(rng.integers(0, 3, lazy.sizes["x"]), dims="x")
        elif rng.random() < 0.3:
            weights = weights * 0
        dims = [dim for dim in lazy.dims if rng.random() < 0.6] or ["y"]
        for name in ("mean", "sum"):
            chosen = {"skipna": False} if rng.random() < 0.3 else {}
            with quiet():
                what = (name, dims, weights.dims, chosen)
                # Weights may be sums of products in another order.
                check(
                    lambda: getattr(lazy.lsio.weighted(weights), name)(dims, **chosen),
                    lambda: getattr(loaded.weighted(weights), name)(dims, **chosen),
                    what,
                )
                check(
                    lambda: getattr(lazy.a.lsio.weighted(weights), name)(**chosen).to_dataset(),
                    lambda: getattr(loaded.a.weighted(weights), name)(**chosen).to_dataset(),
                    what,
                )


@pytest.fixture
def pair(tmp_path):
    own, theirs = dataset(np.random.default_rng(99), tmp_path / "s.zarr")
    return own, theirs


def test_nothing_is_left_to_xarray_that_lsio_can_do(pair):
    own, theirs = pair
    own = own[LAZY]
    north = xr.DataArray(np.arange(own.sizes["y"]) > 1, dims="y", name="north")
    with warnings.catch_warnings():
        warnings.simplefilter("error", lsio.Note)
        own.lsio.mean()
        own.lsio.sum("time", min_count=3, skipna=True)
        own.lsio.max("y", skipna=False)
        own.isel(time=0).lsio.count("x")
        own[["a", "c"]].lsio.std("time", ddof=2)
        own[["a", "c"]].lsio.quantile([0.1, 0.9], "time")
        own.rename(a="t", y="lat").lsio.mean(["lat", "x"])
        own.assign_coords(y=own.y.values[::-1] * 0).lsio.min("time")
        own.drop_vars("y").lsio.min(["time", "y"])
        own.lsio.groupby("time.month").mean()
        own.lsio.groupby("land").mean()
        own.lsio.groupby(north).mean()
        own.lsio.groupby({"land": UniqueGrouper(), "time": TimeResampler("2D")}).mean()
        own.a.lsio.resample(time="1D").max()
        own.packed.lsio.weighted(xr.ones_like(own.land, float)).mean(["y", "x"])


def test_coordinates_may_change_after_opening(pair):
    own, theirs = pair
    own, theirs = own[["a"]], theirs[["a"]]
    for change in (
        lambda ds: ds.drop_vars(["time", "y"], errors="ignore"),
        lambda ds: ds.assign_coords(y=np.arange(ds.sizes["y"])[::-1] // 2),
        lambda ds: ds.assign_coords(time=ds.time + np.timedelta64(1, "D")),
        lambda ds: ds.rename(a="t", y="lat", x="lon"),
        lambda ds: ds.swap_dims(x="cell") if "x" in ds.coords else ds,
        lambda ds: ds.set_coords("a").reset_coords("a"),
        lambda ds: ds.assign_coords(time=[None] * ds.sizes["time"]),
    ):
        assert_same(change(own).lsio.mean("time"), change(theirs).mean("time"))
        spatial = [dim for dim in change(own).dims if dim != "time"]
        assert_same(change(own).lsio.sum(spatial), change(theirs).sum(spatial))


def test_data_arrays_stay_data_arrays(pair):
    own, theirs = pair
    for named in ("a", "time", None):
        found = own.a.rename(named).lsio.mean("x")
        assert isinstance(found, xr.DataArray) and found.name == named
        xr.testing.assert_allclose(found, theirs.a.rename(named).mean("x"))
    assert own.a.lsio.mean().ndim == 0


def test_decoding_afterwards_is_not_forgotten(pair, tmp_path):
    _, theirs = pair
    own = xr.open_dataset(tmp_path / "s.zarr", engine="lsio", decode_cf=False)[["packed"]]
    with pytest.warns(lsio.Note, match="decoded after it was opened"):
        found = xr.decode_cf(own).lsio.mean()
    np.testing.assert_allclose(found.packed, theirs.packed.mean())
    with warnings.catch_warnings():
        warnings.simplefilter("error", lsio.Note)
        stored = xr.open_dataset(tmp_path / "s.zarr", engine="lsio", mask_and_scale=False)[["packed"]]
        assert int(stored.lsio.max().packed) == int(stored.packed.values.max())


def test_times_and_texts_are_xarrays(tmp_path):
    moments = np.datetime64("2000-01-01", "ns") + np.arange(6).reshape(2, 3) * np.timedelta64(7, "h")
    ds = xr.Dataset({"when": (("y", "x"), moments), "text": ("y", ["a", "b"]), "v": (("y", "x"), np.ones((2, 3)))})
    ds.to_zarr(tmp_path / "s.zarr", consolidated=False)
    own = xr.open_dataset(tmp_path / "s.zarr", engine="lsio")
    with pytest.warns(lsio.Note, match="'when': its values are no numbers, but datetime64"):
        xr.testing.assert_identical(own[["when", "v"]].lsio.max("x"), ds[["when", "v"]].max("x"))
    with quiet():
        xr.testing.assert_identical(own.lsio.mean("y"), ds.mean("y"))
        assert own.when.lsio.min().values == moments[0, 0]


def test_the_rest_is_xarrays_with_a_reason(pair):
    own, theirs = pair
    with pytest.warns(lsio.Note, match="in memory"):
        found = (own[["a"]] * 2).lsio.mean("time")
    xr.testing.assert_allclose(found, (theirs[["a"]] * 2).mean("time"))
    with pytest.warns(lsio.Note, match="options method"):
        own[["c"]].lsio.quantile(0.5, "time", method="lower")
    points = xr.DataArray([0, 1], dims="point")
    with pytest.warns(lsio.Note, match="points were selected"):
        own[["packed"]].isel(y=points, x=points).lsio.mean("point")
    with pytest.warns(lsio.Note, match="isn't among"):
        own[["turned"]].lsio.groupby("time.month").mean("y")
    with pytest.warns(lsio.Note, match="xarray computes prod"):
        xr.testing.assert_identical(own[["c"]].lsio.prod("y"), own[["c"]].prod("y"))
    with pytest.warns(lsio.Note, match="xarray computes last"):
        own.c.lsio.groupby("time.month").last()
    with pytest.warns(lsio.Note, match="xarray computes std"):
        own.c.lsio.weighted(xr.ones_like(own.x, float)).std("x")
    with pytest.raises(AttributeError, match="lsio has mean, sum, min"):
        own.lsio.mode()
    with pytest.raises(ValueError, match="no dimension 'z'"):
        own.lsio.mean("z")


def test_empty_selections_are_xarrays(pair):
    own, theirs = pair
    with warnings.catch_warnings():
        warnings.simplefilter("error", lsio.Note)
        warnings.simplefilter("ignore", RuntimeWarning)
        for name in ("sum", "mean", "count"):
            found = getattr(own[["a"]].isel(y=slice(0, 0)).lsio, name)("y")
            assert_same(found, getattr(theirs[["a"]].isel(y=slice(0, 0)), name)("y"))


def test_groups_may_be_a_variable(pair):
    own, theirs = pair
    own, theirs = (ds[["a", "land"]].reset_coords("land") for ds in pair)
    assert_same(own.lsio.groupby("land").mean(), theirs.groupby("land").mean())


def test_people_see_what_there_is(pair):
    own, _ = pair
    assert "mean, sum" in repr(own.lsio)
    assert repr(own.lsio.groupby("land")) == "<groups of ds.lsio (land: 3)>"
    assert "along y" in repr(own.lsio.weighted(own.y))


def test_statements_on_datasets(pair):
    own, theirs = pair
    found = own.lsio.sql("SELECT count(a) AS n FROM this").to_numpy()["n"][0]
    assert found == int(theirs.a.count())
    with pytest.raises(ValueError, match="they are in memory"):
        own.load().lsio.sql("SELECT count(a) FROM this")
    # Any dataset can be a table of a statement.
    found = lsio.sql("SELECT count(a) AS n FROM ds", ds=theirs[["a"]].drop_vars("land")).to_numpy()["n"][0]
    assert found == int(theirs.a.count())


def test_labels_of_months_are_xarrays(pair):
    own, theirs = pair
    found = own[["a"]].lsio.groupby("time.month").mean()
    pd.testing.assert_index_equal(found.indexes["month"], theirs[["a"]].groupby("time.month").mean().indexes["month"])
