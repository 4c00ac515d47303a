"""What COPY writes, read by xarray and compared with what xarray computes."""

import pathlib

import numpy as np
import pytest
import xarray as xr

import lsio


def fixture(name):
    """A committed store."""
    root = pathlib.Path(__file__).resolve().parent.parent.parent
    return str(root / "lsio_datafusion" / "tests" / "fixtures" / name)


def copy(query, target, options=""):
    """Writes a query, and gives what xarray reads."""
    options = f" OPTIONS ({options})" if options else ""
    lsio.sql(f"COPY ({query}) TO '{target}' STORED AS ZARR{options}").to_numpy()
    return xr.open_zarr(target, consolidated=True)


@pytest.mark.parametrize("options", ["", "format 2", "codec 'none'", "codec 'blosc-lz4:9', format 2", "chunks 'time=3', shards 'time=6'"])
@pytest.mark.parametrize("name", ["gridded_v2", "gridded_v3"])
def test_a_whole_store(tmp_path, name, options):
    expected = xr.open_zarr(fixture(f"{name}.zarr")).load()
    written = copy(f"SELECT * FROM '{fixture(f'{name}.zarr')}'", tmp_path / "new.zarr", options).load()
    # Dimensions are in the table's order.
    expected["transposed"] = expected.transposed.transpose("time", "latitude", "longitude")
    xr.testing.assert_identical(written, expected)


@pytest.mark.parametrize("name", ["masks_v2", "masks_v3", "curvilinear", "datetime64_v2"])
@pytest.mark.parametrize("options", ["", "format 2"])
def test_kinds_of_values(tmp_path, name, options):
    expected = xr.open_zarr(fixture(f"{name}.zarr")).load()
    written = copy(f"SELECT * FROM '{fixture(f'{name}.zarr')}'", tmp_path / "new.zarr", options).load()
    assert set(written.variables) == set(expected.variables)
    for own, variable in expected.variables.items():
        np.testing.assert_array_equal(written[own].values, variable.values)
        assert written[own].dims == variable.dims
        # numpy's own mark of missing times is no attribute of ours.
        variable.attrs.pop("_FillValue", None)
        assert written[own].attrs == variable.attrs
    assert set(written.coords) == set(expected.coords)


def test_aggregates(tmp_path):
    store = fixture("gridded_v3.zarr")
    ds = xr.open_zarr(store)
    written = copy(f"SELECT latitude, longitude, avg(t) AS t FROM '{store}' GROUP BY latitude, longitude", tmp_path / "a.zarr")
    expected = ds.t.astype("f8").mean("time").drop_vars("run")
    xr.testing.assert_allclose(written.t, expected)
    assert list(written.latitude.values) == list(ds.latitude.values)
    assert written.latitude.attrs == ds.latitude.attrs and written.t.attrs == ds.t.attrs

    written = copy(
        f"SELECT month(time) AS month, latitude, longitude, avg(t) AS t FROM '{store}' GROUP BY 1, 2, 3", tmp_path / "b.zarr"
    )
    expected = ds.t.astype("f8").groupby("time.month").mean().drop_vars("run")
    xr.testing.assert_allclose(written.t, expected.transpose("month", "latitude", "longitude"))


def test_times_and_durations(tmp_path):
    store = fixture("gridded_v3.zarr")
    ds = xr.open_zarr(store)
    query = f"SELECT latitude, min(time) AS first, max(time) - min(time) AS length FROM '{store}' GROUP BY latitude"
    written = copy(query, tmp_path / "a.zarr")
    assert (written["first"] == ds.time.min()).all()
    assert (written["length"] == ds.time.max() - ds.time.min()).all()


def test_anomalies(tmp_path):
    """A join of a scan with its own means is written by tiles, and equals xarray's."""
    store = fixture("gridded_v3.zarr")
    ds = xr.open_zarr(store)
    query = (
        f"SELECT time, latitude, longitude, t - avg(t) OVER (PARTITION BY latitude, longitude) AS anomaly FROM '{store}'"
    )
    written = copy(query, tmp_path / "a.zarr")
    t = ds.t.astype("f8").drop_vars(["run", "season"])
    xr.testing.assert_allclose(written.anomaly.astype("f8"), t - t.mean("time"), atol=1e-4)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_values_that_are_nothing_are_values(tmp_path, zarr_format):
    """False, 0 and the empty text, in chunks of their own and among others."""
    con = lsio.connect()
    rows = con.rows({"x": list(range(6)), "flag": [False, False, True, False, False, True], "n": [0, 0, 1, 2, 0, 0], "text": ["", "", "a", "", "b", ""]})
    assert rows.to_zarr(tmp_path / "x.zarr", dims="x", chunks={"x": 2}, zarr_format=zarr_format) == 6
    ds = xr.open_zarr(tmp_path / "x.zarr").load()
    assert ds.flag.dtype == bool and ds.flag.values.tolist() == [False, False, True, False, False, True]
    assert ds.n.dtype == np.int64 and ds.n.values.tolist() == [0, 0, 1, 2, 0, 0]
    assert ds.text.values.tolist() == ["", "", "a", "", "b", ""]
