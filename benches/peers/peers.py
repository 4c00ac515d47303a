"""The peers. Each opens the data and answers one question, and nothing of that happens before `answer` is called;
each imports its library when it is prepared, which isn't timed."""

import os

import loops
from questions import BOX_LATITUDES, BOX_LONGITUDES, BOX_TIMES, HOT, PLACE, QUESTIONS

# Peers that read rows of a Parquet file in place of the store.
ON_PARQUET = {"duckdb", "polars"}


def prepare(peer, threads):
    """Imports the peer; gives `answer(question, path)`."""
    return _PEERS[peer](threads)


def names():
    return list(_PEERS)


def _tensorstore(threads):
    import tensorstore as ts

    context = ts.Context({"data_copy_concurrency": {"limit": threads}, "cache_pool": {"total_bytes_limit": 0}})

    def answer(question, path):
        def open_variable(name):
            spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/{name}/"}}
            return ts.open(spec, context=context, read=True).result()

        variables = {name: open_variable(name) for name in _variables(question)}
        first = next(iter(variables.values()))
        read = lambda name, box: variables[name][box].read().result()
        return loops.answer(question, read, first.shape, first.chunk_layout.read_chunk.shape, threads)

    return answer


def _zarrs(threads):
    import zarr
    import zarrs  # noqa: F401

    zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "threading.max_workers": threads})

    def answer(question, path):
        group = zarr.open_group(path, mode="r")
        variables = {name: group[name] for name in _variables(question)}
        first = next(iter(variables.values()))
        read = lambda name, box: variables[name][box]
        return loops.answer(question, read, first.shape, first.chunks, threads)

    return answer


def _xarray(threads):
    import dask
    import flox  # noqa: F401
    import numpy as np
    import xarray as xr

    dask.config.set(scheduler="threads", num_workers=threads)

    def answer(question, path):
        with xr.open_zarr(path, consolidated=None) as ds:
            return _of_dataset(question, ds)

    def _of_dataset(question, ds):
        t2m = ds.t2m.astype("float64")
        match question:
            case "mean":
                found = xr.Dataset({"mean": t2m.mean(), "min": t2m.min(), "max": t2m.max(), "count": t2m.count()})
                found = found.compute()
                return [[float(found[name]) for name in ("mean", "min", "max", "count")]]
            case "latitude":
                return [[mean] for mean in t2m.mean(("time", "longitude")).sortby("latitude").values]
            case "cells":
                means = t2m.mean("time")
                found = xr.Dataset({"min": means.min(), "max": means.max()}).compute()
                return [[float(found["min"]), float(found["max"])]]
            case "wind":
                return [[float(np.hypot(ds.u10.astype("float64"), ds.v10.astype("float64")).mean())]]
            case "hot":
                return [[int((ds.t2m > HOT).sum())]]
            case "box":
                box = dict(time=BOX_TIMES, latitude=BOX_LATITUDES, longitude=BOX_LONGITUDES)
                return [[float(t2m.isel(box).mean())]]
            case "series":
                return [[value] for value in ds.t2m.sel(PLACE).values]
            case "hottest":
                import dask.array as da

                return [[value] for value in da.topk(ds.t2m.data.ravel(), 10).compute()]

    return answer


def _duckdb(threads):
    import duckdb

    def answer(question, path):
        with duckdb.connect(config={"threads": threads}) as connection:
            sql = QUESTIONS[question].sql.format(table=f"'{path}'")
            return [list(row) for row in connection.sql(sql).fetchall()]

    return answer


def _polars(threads):
    os.environ["POLARS_MAX_THREADS"] = str(threads)
    from datetime import datetime

    import polars as pl

    def answer(question, path):
        rows = pl.scan_parquet(path)
        t2m = pl.col("t2m")
        match question:
            case "mean":
                wide = t2m.cast(pl.Float64)
                rows = rows.select(mean=wide.mean(), min=t2m.min(), max=t2m.max(), count=t2m.count())
            case "latitude":
                rows = rows.group_by("latitude").agg(t2m.cast(pl.Float64).mean()).sort("latitude").select("t2m")
            case "cells":
                means = rows.group_by("latitude", "longitude").agg(t2m.cast(pl.Float64).mean())
                rows = means.select(min=t2m.min(), max=t2m.max())
            case "wind":
                u, v = pl.col("u10").cast(pl.Float64), pl.col("v10").cast(pl.Float64)
                rows = rows.select((u * u + v * v).sqrt().mean())
            case "hot":
                rows = rows.filter(t2m > HOT).select(pl.len())
            case "box":
                day = pl.col("time").is_between(datetime(2019, 1, 2), datetime(2019, 1, 3), closed="left")
                latitudes = pl.col("latitude").is_between(-10, 10)
                longitudes = pl.col("longitude").is_between(100, 150)
                rows = rows.filter(day & latitudes & longitudes).select(t2m.cast(pl.Float64).mean())
            case "series":
                place = [pl.col(name) == value for name, value in PLACE.items()]
                rows = rows.filter(*place).sort("time").select("t2m")
            case "hottest":
                rows = rows.select(t2m).top_k(10, by="t2m").sort("t2m", descending=True)
        return [list(row) for row in rows.collect(engine="streaming").iter_rows()]

    return answer


def _variables(question):
    return ("u10", "v10") if question == "wind" else ("t2m",)


_PEERS = {
    "tensorstore": _tensorstore,
    "zarrs": _zarrs,
    "xarray": _xarray,
    "duckdb": _duckdb,
    "polars": _polars,
}
