"""xarray's engine ``lsio`` against its engine ``zarr``: on all fixtures, and on the further stores of LSIO_TEST_DATA."""

import asyncio
import copy
import os
import pathlib
import pickle

import numpy as np
import pytest
import xarray as xr
import zarr

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "lsio_datafusion" / "tests" / "fixtures"
FURTHER = pathlib.Path(os.environ.get("LSIO_TEST_DATA", ROOT.parent / "shared" / "data"))

# What xarray's engine refuses: an array without a group, and one whose dimensions have no names.
REFUSED = {"lone.zarr", "fill_zero_unnamed.zarr"}

OPTIONS = [
    {},
    {"mask_and_scale": False},
    {"decode_times": False},
    {"decode_timedelta": True},
    {"decode_times": xr.coders.CFDatetimeCoder(use_cftime=True)},
    {"decode_coords": "all"},
    {"decode_cf": False},
    {"drop_variables": ["time", "t", "v", "latitude"]},
]

# Warnings of xarray and zarr-python about what the stores are made to contain.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning", "ignore::FutureWarning")


def stores():
    """Paths of all stores. A loud skip stands for those that aren't there."""
    found = [pytest.param(path, id=path.name) for path in sorted(FIXTURES.glob("*.zarr"))]
    further = sorted(FURTHER.glob("*/*.zarr"))
    if not further:
        reason = f"no further stores in {FURTHER}: LSIO_TEST_DATA names another place"
        found.append(pytest.param(None, id="further", marks=pytest.mark.skip(reason=reason)))
    return found + [pytest.param(path, id=path.name) for path in further]


def groups(path):
    """The store's root group, and the groups inside."""
    if path.name in REFUSED:
        return []
    found = [None]
    waiting = [("", zarr.open_group(path, mode="r"))]
    while waiting:
        before, group = waiting.pop()
        for name, inside in group.groups():
            found.append(before + name)
            waiting.append((f"{before}{name}/", inside))
    return found


def theirs(path, **options):
    return xr.open_dataset(path, engine="zarr", **options)


def own(path, **options):
    return xr.open_dataset(path, engine="lsio", **options)


def assert_same(left, right):
    xr.testing.assert_identical(left, right)
    for name in right.variables:
        assert left[name].dtype == right[name].dtype, name
        assert left[name].encoding.get("chunks") == right[name].encoding.get("chunks"), name


@pytest.mark.parametrize("path", stores())
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_stores_are_identical(path, options):
    for group in groups(path):
        try:
            expected = theirs(path, group=group, **options).load()
        except Exception as error:
            with pytest.raises(type(error)):
                own(path, group=group, **options).load()
            continue
        assert_same(own(path, group=group, **options).load(), expected)


def indexers(rng, sizes):
    """Ten kinds of indexers, by their names."""
    dims = [dim for dim, size in sizes.items() if size > 0]
    lists = {dim: rng.integers(-sizes[dim], sizes[dim], int(rng.integers(0, 7))) for dim in dims}
    starts = {dim: int(rng.integers(0, sizes[dim])) for dim in dims}
    points = {dim: xr.DataArray(rng.integers(0, sizes[dim], 5), dims="point") for dim in dims}
    return {
        "numbers": {dim: int(rng.integers(0, sizes[dim])) for dim in dims},
        "numbers from the end": {dim: -int(rng.integers(1, sizes[dim] + 1)) for dim in dims},
        "slices": {dim: slice(starts[dim], starts[dim] + 4) for dim in dims},
        "slices with steps": {dim: slice(starts[dim], None, int(rng.integers(1, 4))) for dim in dims},
        "slices backwards": {dim: slice(None, None, -int(rng.integers(1, 4))) for dim in dims},
        "nothing": {dim: slice(starts[dim], starts[dim]) for dim in dims},
        "lists": lists,
        "masks": {dim: rng.random(sizes[dim]) < 0.5 for dim in dims},
        "points": points,
        "points of two dimensions": {
            dim: xr.DataArray(rng.integers(0, sizes[dim], (2, 3)), dims=("row", "column")) for dim in dims[1:]
        },
        "one of each": {
            dim: [lists, starts, points][number % 3][dim] for number, dim in enumerate(rng.permutation(dims))
        },
    }


@pytest.mark.parametrize("path", stores())
def test_selections_are_identical(path):
    rng = np.random.default_rng(len(path.name))
    for group in groups(path):
        try:
            expected = theirs(path, group=group).load()
        except ValueError:
            continue
        for kind, chosen in indexers(rng, expected.sizes).items():
            try:
                selected = theirs(path, group=group).isel(chosen).load()
            except ValueError:
                # Of no time in a calendar, xarray finds no type.
                continue
            try:
                xr.testing.assert_identical(own(path, group=group).isel(chosen).load(), selected)
                # Each variable for itself, twice selected.
                for name in list(expected.data_vars)[:3]:
                    variable = own(path, group=group)[name].isel(chosen, missing_dims="ignore")
                    more = {dim: slice(None, None, -2) for dim in variable.dims}
                    right = expected[name].isel(chosen, missing_dims="ignore").isel(more)
                    xr.testing.assert_identical(variable.isel(more).load(), right)
            except AssertionError as error:
                raise AssertionError(kind) from error


@pytest.mark.parametrize("path", stores())
def test_ways_of_loading_are_identical(path):
    cloudpickle = pytest.importorskip("cloudpickle")
    pytest.importorskip("dask")
    for group in groups(path):
        try:
            expected = theirs(path, group=group).load()
        except ValueError:
            continue
        lazy = own(path, group=group)
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            xr.testing.assert_identical(pickle.loads(pickle.dumps(lazy, protocol)).load(), expected)
        xr.testing.assert_identical(cloudpickle.loads(cloudpickle.dumps(lazy)).load(), expected)
        xr.testing.assert_identical(copy.deepcopy(lazy).load(), expected)
        xr.testing.assert_identical(lazy.copy(deep=True).load(), expected)
        xr.testing.assert_identical(asyncio.run(own(path, group=group).load_async()), expected)
        # What was loaded is pickled with its values.
        xr.testing.assert_identical(pickle.loads(pickle.dumps(lazy.load())), expected)
        if not any(v.dtype.kind == "V" for v in expected.variables.values()):
            chunked = own(path, group=group, chunks={})
            xr.testing.assert_identical(chunked.compute(scheduler="threads"), expected)


def test_files_are_combined(tmp_path):
    pytest.importorskip("dask")
    paths = []
    for number in range(3):
        path = tmp_path / f"{number}.zarr"
        time = np.datetime64("2000-01-01", "ns") + np.arange(number * 4, number * 4 + 4) * np.timedelta64(1, "D")
        ds = xr.Dataset({"v": (("time", "x"), np.full((4, 5), number * 1.0), {"units": "K"})}, {"time": time})
        ds.to_zarr(path, consolidated=False, encoding={"v": {"chunks": (2, 5)}})
        paths.append(path)
    for options in ({}, {"parallel": True}, {"chunks": {"time": 3}}, {"preprocess": lambda ds: ds.isel(x=[0, 2])}):
        found = xr.open_mfdataset(paths, engine="lsio", **options)
        expected = xr.open_mfdataset(paths, engine="zarr", consolidated=False, **options)
        assert found.v.chunks == expected.v.chunks
        xr.testing.assert_identical(found.load(), expected.load())


@pytest.mark.parametrize("name", ["tree_v2.zarr", "tree_v3.zarr", "relations.zarr"])
def test_trees_are_identical(name):
    expected = xr.open_datatree(FIXTURES / name, engine="zarr")
    xr.testing.assert_identical(xr.open_datatree(FIXTURES / name, engine="lsio").load(), expected.load())
    for group in [group for group in groups(FIXTURES / name) if group]:
        found = xr.open_datatree(FIXTURES / name, engine="lsio", group=group)
        xr.testing.assert_identical(found.load(), xr.open_datatree(FIXTURES / name, engine="zarr", group=group).load())


def test_coordinates_of_groups_above_are_the_trees_affair(tmp_path):
    tree = xr.DataTree.from_dict({"/": xr.Dataset(coords={"x": [1, 2]}), "/b": xr.Dataset({"v": ("x", [3.0, 4.0])})})
    tree.to_zarr(tmp_path / "s.zarr", consolidated=False)
    assert "x" not in own(tmp_path / "s.zarr", group="b").variables
    xr.testing.assert_identical(xr.open_datatree(tmp_path / "s.zarr", engine="lsio").load(), tree)
    # In SQL, a group has them.
    assert own(tmp_path / "s.zarr", group="b").lsio.mean().v == 3.5


@pytest.mark.parametrize("name", ["zip_v2.zarr.zip", "zip_v3.zarr.zip", "zip_deflated.zarr.zip"])
def test_archives_are_identical(name):
    path = FIXTURES / name
    with zarr.storage.ZipStore(path, mode="r") as store:
        expected = xr.open_dataset(store, engine="zarr", consolidated=False).load()
    assert_same(own(path).load(), expected)
    # xarray's own engines leave archives to it.
    assert_same(xr.open_dataset(path).load(), expected)


def test_datasets_can_be_written_again(tmp_path):
    ds = xr.Dataset({"v": ("x", np.arange(6.0)), "n": ("x", np.arange(6))})
    encoding = {"v": {"chunks": (2,), "fill_value": -1.0}, "n": {"chunks": (4,), "fill_value": 7}}
    ds.to_zarr(tmp_path / "a.zarr", encoding=encoding, consolidated=False, zarr_format=3)
    own(tmp_path / "a.zarr").to_zarr(tmp_path / "b.zarr", consolidated=False, zarr_format=3)
    again = zarr.open_group(tmp_path / "b.zarr", mode="r")
    assert (again["v"].fill_value, again["n"].fill_value) == (-1.0, 7)
    assert (again["v"].chunks, again["n"].chunks) == ((2,), (4,))
    assert_same(own(tmp_path / "b.zarr").load(), own(tmp_path / "a.zarr").load())
