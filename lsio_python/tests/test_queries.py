"""Statements, frames, and what they become."""

import datetime

import lsio
import numpy as np
import pytest
import xarray as xr


@pytest.fixture
def opened(store):
    return xr.open_zarr(store / "t2m.zarr", consolidated=False)


def test_means_by_latitude_are_xarrays(opened):
    found = lsio.sql("SELECT latitude, avg(t2m) AS t2m FROM 't2m.zarr' GROUP BY latitude").to_xarray()
    expected = opened.t2m.astype("f8").mean(["time", "longitude"], keep_attrs=True)
    xr.testing.assert_identical(found.t2m, expected.drop_encoding())


def test_rows_come_back_as_the_grid(opened):
    found = lsio.open("t2m.zarr").to_xarray()
    xr.testing.assert_equal(found, opened.load())
    assert found.t2m.dims == opened.t2m.dims
    assert found.t2m.attrs == opened.t2m.attrs
    assert found.attrs == opened.attrs


def test_latitudes_from_north_to_south_stay_so(tmp_path):
    ds = xr.Dataset({"v": (("lat", "lon"), np.arange(12.0).reshape(3, 4))}, {"lat": [50.0, 40.0, 30.0], "lon": range(4)})
    ds.to_zarr(tmp_path / "s.zarr", consolidated=False)
    found = lsio.sql(f"SELECT lat, max(v) AS v FROM '{tmp_path}/s.zarr' GROUP BY lat").to_xarray()
    assert found.lat.values.tolist() == [50.0, 40.0, 30.0]
    assert found.v.values.tolist() == [3.0, 7.0, 11.0]
    both = lsio.sql(f"SELECT lat, lon, v FROM '{tmp_path}/s.zarr' WHERE v < 5").to_xarray()
    assert both.sizes == {"lat": 2, "lon": 4}
    assert np.isnan(both.v.values).sum() == 3


def test_labels_keep_the_order_of_the_store(tmp_path):
    ds = xr.Dataset({"v": (("t", "lon"), np.arange(8.0).reshape(2, 4))}, {"t": [5, 3], "lon": [0.0, 90.0, 180.0, -90.0]})
    ds.to_zarr(tmp_path / "s.zarr", consolidated=False)
    found = lsio.sql(f"SELECT lon, sum(v) AS v FROM '{tmp_path}/s.zarr' GROUP BY lon").to_xarray()
    xr.testing.assert_equal(found, ds.sum("t"))
    xr.testing.assert_equal(lsio.open(f"{tmp_path}/s.zarr").to_xarray(), ds)
    ordered = lsio.sql(f"SELECT lon, sum(v) AS v FROM '{tmp_path}/s.zarr' GROUP BY lon ORDER BY lon").to_xarray()
    assert ordered.lon.values.tolist() == [-90.0, 0.0, 90.0, 180.0]


def test_dimensions_can_be_told():
    df = lsio.sql("SELECT time, latitude, longitude, t2m FROM 't2m.zarr' WHERE longitude = 10")
    assert df.to_xarray(dims=["time", "latitude"]).sizes == {"time": 6, "latitude": 3}
    with pytest.raises(lsio.InvalidRequestError, match="same latitude"):
        df.to_xarray(dims="latitude")
    with pytest.raises(ValueError, match="no column 'lat'"):
        df.to_xarray(dims="lat")


def test_verbs():
    df = lsio.open("t2m.zarr")
    north = df.filter(lsio.col("latitude") > 60, "longitude < 15").select("time", kelvin="t2m")
    assert north.columns == ["time", "kelvin"]
    assert north.sort("time", descending=True).limit(1).to_numpy()["time"] == np.datetime64("2020-01-01T05")
    by = df.group_by("latitude", lsio.col("time").date_part("hour").alias("hour")).agg(lsio.count().alias("n"), t=lsio.col("t2m").mean())
    assert by.to_xarray().t.sizes == {"latitude": 3, "hour": 6}
    names = lsio.sql("SELECT -70.0 AS latitude, 'south' AS name")
    joined = df.join(names, "latitude").aggregate("name", n="count(*)")
    assert joined.to_numpy()["n"].tolist() == [24]
    assert df.with_columns(c=lsio.col("t2m") - 273.15).columns[-1] == "c"
    assert len(df.join(names, "latitude", how="anti").to_numpy()["t2m"]) == 48


def test_parameters():
    sql = "SELECT count(*) AS n FROM 't2m.zarr' WHERE time >= $start AND latitude = $latitude"
    for start in [datetime.datetime(2020, 1, 1, 3), np.datetime64("2020-01-01T03"), "2020-01-01T03:00:00"]:
        found = lsio.sql(sql, start=start, latitude=np.float64(0)).to_numpy()["n"]
        assert found.tolist() == [12], start
    with pytest.raises(TypeError, match="can't be a"):
        lsio.sql(sql, start=object(), latitude=0.0)


def test_frames_are_tables_of_statements():
    means = lsio.sql("SELECT latitude, avg(t2m) AS mean FROM 't2m.zarr' GROUP BY latitude")
    found = lsio.sql("SELECT max(mean) AS m FROM means", means=means).to_numpy()
    assert found["m"].tolist() == [282.0]
    con = lsio.connect()
    con.register("m", means)
    assert con.table("m").columns == ["latitude", "mean"]
    con.deregister("m")
    with pytest.raises(KeyError, match="no table"):
        con.deregister("m")


def test_missing_values_become_numpys():
    found = lsio.sql("SELECT * FROM (VALUES (1, 2.5, TIMESTAMP '2020-01-01', 'a'), (NULL, NULL, NULL, NULL)) AS t(i, f, t, s)")
    arrays = found.to_numpy()
    assert arrays["i"].dtype == np.float64 and np.isnan(arrays["i"][1])
    assert np.isnan(arrays["f"][1]) and np.isnat(arrays["t"][1])
    assert arrays["s"].tolist() == ["a", None]


def test_streams_feed_other_libraries():
    pyarrow = pytest.importorskip("pyarrow")
    df = lsio.open("t2m.zarr")
    assert pyarrow.table(df).num_rows == 72
    assert df.to_arrow().schema.field("t2m").metadata[b"units"] == b"K"
    con = lsio.connect()
    con.register("rows", pyarrow.table({"latitude": [0.0], "name": ["equator"]}))
    found = con.sql("SELECT name, avg(t2m) AS t FROM 't2m.zarr' JOIN rows USING (latitude) GROUP BY name")
    assert found.to_numpy()["t"].tolist() == [281.0]


def test_tables_of_other_libraries_are_parameters():
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    rows = pandas.DataFrame({"latitude": [0.0], "name": ["equator"]})
    sql = "SELECT name, avg(t2m) AS t FROM 't2m.zarr' JOIN rows USING (latitude) WHERE time >= $start GROUP BY name"
    found = lsio.sql(sql, rows=rows, start=pandas.Timestamp("2020-01-01T03"))
    assert found.to_numpy()["t"].tolist() == [281.0]
    # Nothing of that name is left behind.
    with pytest.raises(ValueError, match="rows"):
        lsio.sql("SELECT * FROM rows")


def test_xarray_datasets_are_tables(opened):
    con = lsio.connect()
    con.register("ds", opened)
    assert con.sql("SELECT count(t2m) AS n FROM ds").to_numpy()["n"].tolist() == [72]


def test_errors_are_pythons_too():
    with pytest.raises(FileNotFoundError, match="does not exist"):
        lsio.open("t2n.zarr")
    with pytest.raises(lsio.QueryError, match="did you mean"):
        lsio.sql("SELECT avg(t2n) FROM 't2m.zarr'")
    with pytest.raises(ValueError):
        lsio.sql("SELEC 1")
    with pytest.raises(ValueError, match="no size"):
        lsio.connect(memory_limit="much")
    con = lsio.connect(memory_limit=1 << 16)
    with pytest.raises(MemoryError):
        con.sql("SELECT * FROM 't2m.zarr' CROSS JOIN generate_series(1, 100000) ORDER BY 5, t2m").to_numpy()


def test_settings():
    con = lsio.connect(threads=1, settings={"lsio.nan_as_null": False})
    assert con.sql("SHOW lsio.nan_as_null").to_numpy()["value"].tolist() == ["false"]
    con.set("lsio.nan_as_null", True)
    assert con.sql("SHOW lsio.nan_as_null").to_numpy()["value"].tolist() == ["true"]


def test_people_see_columns_and_not_rows(capsys):
    df = lsio.open("t2m.zarr")
    assert repr(df).startswith("<lsio.DataFrame (time: Timestamp")
    assert "<td>K</td>" in df._repr_html_()
    df.show(2)
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["time", "latitude", "longitude", "t2m"] and shown[-1] == "…"
    assert "ZarrAggregateExec" in df.aggregate("latitude", "avg(t2m)").explain()
