"""Questions on the fixtures: `lsio.sql(…).to_xarray()` is what xarray computes in double precision.

A result has the columns of the statement: coordinates that it doesn't name aren't there, and keys without a row aren't
either. Everything else is the same: names, dimensions and their order, labels and theirs, values, types, attributes.
"""

import pathlib
import warnings

import lsio
import numpy as np
import pytest
import xarray as xr

pytest.importorskip("cftime")

FIXTURES = pathlib.Path(__file__).resolve().parents[2] / "lsio_datafusion" / "tests" / "fixtures"


def opened(name, group=None, **options):
    """A fixture in memory, with numbers in double precision, and its auxiliary coordinates as variables."""
    ds = xr.open_dataset(FIXTURES / f"{name}.zarr", engine="zarr", consolidated=False, group=group, **options).load()
    return ds.map(lambda v: v.astype("f8", keep_attrs=True) if v.dtype.kind in "fiu" else v, keep_attrs=True)


@pytest.fixture(scope="module")
def of():
    """The fixtures by the names that statements have for them."""
    return {
        "g": opened("gridded_v3"),
        "a": opened("relations", "a"),
        "b": opened("relations", "b"),
        "forecast": opened("relations", "forecast"),
        "masks": opened("masks_v3"),
        "days360": opened("calendar_360_day"),
        "noleap": opened("calendar_noleap"),
        "julian": opened("calendar_julian"),
        "allleap": opened("calendar_all_leap"),
        "standard": opened("calendar_standard"),
        "curved": opened("curvilinear"),
        "flags": opened("flags"),
    }


STORES = {
    "g": "gridded_v3.zarr",
    "a": "relations.zarr/a",
    "b": "relations.zarr/b",
    "forecast": "relations.zarr/forecast",
    "masks": "masks_v3.zarr",
    "days360": "calendar_360_day.zarr",
    "noleap": "calendar_noleap.zarr",
    "julian": "calendar_julian.zarr",
    "allleap": "calendar_all_leap.zarr",
    "standard": "calendar_standard.zarr",
    "curved": "curvilinear.zarr",
    "flags": "flags.zarr",
}

QUESTIONS = {}


def ask(sql):
    """The function below it is the answer: xarray's, of the fixtures."""

    def asked(answer):
        QUESTIONS[answer.__name__] = sql, answer
        return answer

    return asked


def weights(ds):
    return np.cos(np.deg2rad(ds.latitude.astype("f8")))


# Means and their like.


@ask("SELECT latitude, avg(t) AS t FROM {g} GROUP BY latitude")
def mean_by_latitude(of):
    return of["g"].t.mean(["time", "longitude"])


@ask("SELECT longitude, avg(t) AS t FROM {g} GROUP BY longitude")
def mean_by_longitude(of):
    return of["g"].t.mean(["time", "latitude"])


@ask("SELECT time, avg(t) AS t FROM {g} GROUP BY time")
def mean_by_time(of):
    return of["g"].t.mean(["latitude", "longitude"])


@ask("SELECT latitude, longitude, avg(t) AS t FROM {g} GROUP BY ALL")
def mean_by_cell(of):
    return of["g"].t.mean("time")


@ask("SELECT time, latitude, avg(transposed) AS transposed FROM {g} GROUP BY ALL")
def mean_of_a_transposed_variable(of):
    return of["g"].transposed.mean("longitude").transpose("time", "latitude")


@ask("SELECT avg(t) AS t FROM {g}")
def mean_of_all(of):
    return of["g"].t.mean()


@ask("SELECT latitude, min(t) AS low, max(t) AS high, median(t) AS middle FROM {g} GROUP BY latitude")
def extremes(of):
    t = of["g"].t
    dims = ["time", "longitude"]
    return xr.Dataset({"low": t.min(dims), "high": t.max(dims), "middle": t.median(dims)})


@ask("SELECT time, sum(counts) AS counts, count(t) AS n, count(*) AS cells FROM {g} GROUP BY time")
def sums_and_counts(of):
    g, dims = of["g"], ["latitude", "longitude"]
    n = g.t.count(dims).drop_attrs()
    return xr.Dataset({"counts": g.counts.sum(dims), "n": n, "cells": xr.zeros_like(n) + 30})


@ask("SELECT latitude, stddev(t) AS s, var_pop(t) AS v FROM {g} GROUP BY latitude")
def spreads(of):
    t, dims = of["g"].t.drop_attrs(), ["time", "longitude"]
    return xr.Dataset({"s": t.std(dims, ddof=1), "v": t.var(dims)})


@ask("SELECT latitude, quantile_cont(t, 0.9) AS t FROM {g} GROUP BY latitude")
def quantile(of):
    return of["g"].t.quantile(0.9, ["time", "longitude"])


@ask("SELECT longitude, median(t2m) AS t2m FROM {b} GROUP BY longitude")
def median_of_packed(of):
    return of["b"].t2m.median(["time", "latitude"])


@ask("SELECT latitude, count(*) - count(t2m) AS missing FROM {a} GROUP BY latitude")
def missing_by_latitude(of):
    return of["a"].t2m.isnull().sum(["time", "longitude"]).rename("missing")


@ask("SELECT latitude, corr(t2m, u10) AS r FROM {a} GROUP BY latitude")
def correlation(of):
    return xr.corr(of["a"].t2m, of["a"].u10, ["time", "longitude"]).rename("r")


@ask("SELECT time, avg(sqrt(CAST(t2m AS DOUBLE) ^ 2 + CAST(u10 AS DOUBLE) ^ 2)) AS speed FROM {a} GROUP BY time")
def wind_speed(of):
    return np.hypot(of["a"].t2m, of["a"].u10).mean(["latitude", "longitude"]).rename("speed")


# Groups of times.


@ask("SELECT month(time) AS month, latitude, longitude, avg(t2m) AS t2m FROM {a} GROUP BY ALL")
def by_month(of):
    return of["a"].t2m.groupby("time.month").mean()


@ask("SELECT hour(time) AS hour, max(t2m) AS t2m FROM {a} GROUP BY ALL")
def by_hour(of):
    return of["a"].t2m.groupby("time.hour").max(...)


@ask("SELECT year(time) AS year, month(time) AS month, min(t) AS t FROM {g} GROUP BY ALL")
def by_year_and_month(of):
    return of["g"].t.groupby(["time.year", "time.month"]).min(...)


@ask("SELECT season, avg(t) AS t FROM {g} GROUP BY season")
def by_seasons_that_are_texts(of):
    return of["g"].t.groupby("season").mean(...)


@ask("SELECT date_trunc('day', time) AS time, latitude, longitude, avg(t2m) AS t2m FROM {a} GROUP BY ALL")
def daily_means(of):
    return of["a"].t2m.resample(time="1D").mean().dropna("time", how="all")


@ask("SELECT date_trunc('month', time) AS time, sum(t2m) AS t2m FROM {b} GROUP BY 1")
def monthly_sums(of):
    return of["b"].t2m.resample(time="MS").sum().sum(["latitude", "longitude"])


@ask("SELECT date_part('doy', time) AS dayofyear, avg(v) AS v FROM {standard} GROUP BY 1")
def by_day_of_year(of):
    return of["standard"].v.groupby("time.dayofyear").mean()


@ask("SELECT month(time) AS month, avg(v) AS v FROM {days360} GROUP BY month")
def months_of_360_days(of):
    return of["days360"].v.groupby("time.month").mean()


@ask("SELECT year(time) AS year, sum(v) AS v FROM {noleap} GROUP BY year")
def years_without_leap_days(of):
    return of["noleap"].v.groupby("time.year").sum()


@ask("SELECT day(time) AS day, max(v) AS v FROM {julian} GROUP BY day")
def days_of_the_julian_calendar(of):
    return of["julian"].v.groupby("time.day").max()


@ask("SELECT year(time) AS year, month(time) AS month, count(v) AS v FROM {allleap} GROUP BY ALL")
def months_with_leap_days(of):
    return of["allleap"].v.groupby(["time.year", "time.month"]).count().drop_attrs()


# Selections.


@ask("SELECT latitude, longitude, avg(t) AS t FROM {g} WHERE latitude BETWEEN -30 AND 30 AND longitude < 180 GROUP BY ALL")
def box(of):
    return of["g"].t.sel(latitude=slice(30, -30), longitude=slice(0, 179)).mean("time")


@ask("SELECT latitude, avg(t) AS t FROM {g} WHERE time >= '2020-03-01' GROUP BY latitude")
def span(of):
    return of["g"].t.sel(time=slice("2020-03-01", None)).mean(["time", "longitude"])


@ask("SELECT time, t FROM {g} WHERE latitude = 30 AND longitude = 60")
def point(of):
    return of["g"].t.sel(latitude=30, longitude=60)


@ask("SELECT time, t2m FROM {a} WHERE latitude = 50.35 AND longitude = 0.6")
def point_of_rounded_latitudes(of):
    return of["a"].t2m.sel(latitude=50.35, longitude=0.6, method="nearest")


@ask(
    "SELECT time, t FROM {g} WHERE longitude = 120 AND latitude = "
    "(SELECT latitude FROM {g} ORDER BY abs(latitude - 27.5) LIMIT 1)"
)
def nearest(of):
    return of["g"].t.sel(latitude=27.5, longitude=120, method="nearest")


@ask("SELECT latitude, avg(t) AS t FROM {g} WHERE t > 285 GROUP BY latitude")
def mean_of_warm_cells(of):
    t = of["g"].t
    return t.where(t > 285).mean(["time", "longitude"]).dropna("latitude")


@ask("SELECT time, count(*) AS n FROM {g} WHERE t > 285 GROUP BY time")
def number_of_warm_cells(of):
    return (of["g"].t > 285).sum(["latitude", "longitude"]).rename("n").drop_attrs()


@ask("SELECT time, avg(t) AS t FROM {g} WHERE elevation > 500 GROUP BY time")
def mean_above_a_height(of):
    g = of["g"]
    return g.t.where(g.elevation > 500).mean(["latitude", "longitude"])


@ask("SELECT time, latitude, longitude, t - 273.15 AS celsius FROM {g}")
def another_unit(of):
    return (of["g"].t - 273.15).rename("celsius").drop_attrs()


@ask("SELECT time, latitude, longitude, t, counts FROM {g}")
def rows(of):
    return of["g"][["t", "counts"]]


# Weights.


@ask("SELECT time, weighted_avg(t, cos(radians(CAST(latitude AS DOUBLE)))) AS t FROM {g} GROUP BY time")
def weighted_mean(of):
    return of["g"].t.weighted(weights(of["g"])).mean(["latitude", "longitude"])


@ask(
    "SELECT sum(t * w) / sum(CASE WHEN t IS NOT NULL THEN w END) AS t "
    "FROM (SELECT t, cos(radians(CAST(latitude AS DOUBLE))) AS w FROM {g})"
)
def weighted_mean_by_hand(of):
    return of["g"].t.weighted(weights(of["g"])).mean().drop_attrs()


# Cells in relation to others.


@ask("SELECT time, latitude, longitude, a.t2m - b.t2m AS bias FROM {a} a JOIN {b} b USING (time, latitude, longitude)")
def difference_of_two_grids(of):
    return (of["a"].t2m - of["b"].t2m).rename("bias").drop_attrs()


@ask("SELECT latitude, sqrt(avg((a.t2m - b.t2m) ^ 2)) AS rmse FROM {a} a JOIN {b} b USING (time, latitude, longitude) GROUP BY latitude")
def error_by_latitude(of):
    return np.sqrt(((of["a"].t2m - of["b"].t2m) ** 2).mean(["time", "longitude"])).rename("rmse").drop_attrs()


@ask(
    "SELECT time, latitude, longitude, t2m - avg(t2m) OVER (PARTITION BY month(time), latitude, longitude) AS anomaly FROM {a}"
)
def anomalies(of):
    months = of["a"].t2m.groupby("time.month")
    return (months - months.mean()).rename("anomaly").drop_attrs()


@ask(
    "SELECT time, latitude, longitude, avg(t2m) OVER (PARTITION BY latitude, longitude ORDER BY time "
    "ROWS BETWEEN 3 PRECEDING AND CURRENT ROW) AS smooth FROM {a}"
)
def rolling_mean(of):
    return of["a"].t2m.rolling(time=4, min_periods=1).mean().rename("smooth").drop_attrs()


@ask("SELECT time, latitude, longitude, t2m - lag(t2m) OVER (PARTITION BY latitude, longitude ORDER BY time) AS step FROM {a}")
def steps(of):
    t2m = of["a"].t2m
    return (t2m - t2m.shift(time=1)).rename("step").drop_attrs()


@ask("SELECT lead, sqrt(avg((f.t2m - a.t2m) ^ 2)) AS rmse FROM {forecast} f JOIN {a} a ON f.init + f.lead = a.time AND f.latitude = a.latitude AND f.longitude = a.longitude GROUP BY lead")
def error_by_lead(of):
    forecast, a = of["forecast"].t2m, of["a"].t2m
    valid = forecast.init + forecast.lead
    truth = a.reindex(time=np.unique(valid)).sel(time=valid)
    return np.sqrt(((forecast - truth) ** 2).mean(["init", "latitude", "longitude"])).rename("rmse").drop_attrs()


# Results of other kinds, and groups by data.


@ask("SELECT latitude, max(time) AS last FROM {g} WHERE t > 285 GROUP BY latitude")
def last_warm_time(of):
    g = of["g"]
    # xarray's greatest time isn't one where any is missing.
    return g.time.where(g.t > 285, g.time[0]).max(["time", "longitude"]).rename("last")


@ask("SELECT min(time) AS first, max(time) AS last FROM {a}")
def first_and_last(of):
    time = of["a"].time
    return xr.Dataset({"first": time.min(), "last": time.max()})


@ask("SELECT time, max(season) AS season FROM {g} GROUP BY time")
def seasons(of):
    return of["g"].reset_coords("season").season


@ask("SELECT lead, avg(t2m) AS t2m FROM {forecast} GROUP BY lead")
def by_lead(of):
    return of["forecast"].t2m.mean(["init", "latitude", "longitude"])


@ask("SELECT floor(latitude / 40) * 40 AS band, avg(t) AS t FROM {g} GROUP BY band")
def bands(of):
    t = of["g"].t
    return t.groupby(np.floor(t.latitude.astype("f8") / 40).rename("band") * 40).mean(...)


@ask("SELECT counts, avg(t) AS t FROM {g} GROUP BY counts")
def by_values_of_data(of):
    return of["g"].t.groupby(of["g"].counts).mean()


@ask("SELECT avg(packed) AS packed, min(scaled) AS scaled, sum(missing) AS missing, count(both) AS both FROM {masks}")
def masks(of):
    m = of["masks"]
    both = m.both.count()
    return xr.Dataset({"packed": m.packed.mean(), "scaled": m.scaled.min(), "missing": m.missing.sum(), "both": both})


def shaped(answer):
    """An answer as a Dataset with no coordinates but those of dimensions."""
    ds = answer if isinstance(answer, xr.Dataset) else answer.to_dataset()
    return ds.drop_vars([name for name in ds.coords if name not in ds.dims]).drop_attrs(deep=False)


@pytest.mark.parametrize("name", list(QUESTIONS))
def test_answers_are_xarrays(name, of):
    sql, answer = QUESTIONS[name]
    paths = {store: f"'{FIXTURES / path}'" for store, path in STORES.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        expected = shaped(answer(of))
    found = lsio.sql(sql.format_map(paths)).to_xarray().drop_attrs(deep=False)
    assert list(found.data_vars) == list(expected.data_vars)
    assert found.sizes == expected.sizes
    for each in expected.variables:
        assert found[each].dims == expected[each].dims, each
        kinds = found[each].dtype.kind + expected[each].dtype.kind
        # Numbers are numbers, and texts texts.
        assert kinds[0] == kinds[1] or set(kinds) <= set("iuf") or set(kinds) <= set("OUT"), each
        assert found[each].attrs == expected[each].attrs, each
    for dim in expected.dims:
        np.testing.assert_array_equal(found[dim].values, expected[dim].values)
    xr.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


def test_there_are_forty():
    assert len(QUESTIONS) >= 40
