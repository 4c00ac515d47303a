"""What users write, for a type checker: test.sh checks it, nothing runs it."""

from __future__ import annotations

from typing import assert_type

import lsio
import numpy as np
import xarray as xr


def sessions() -> lsio.DataFrame:
    """Sessions, tables and parameters."""
    with lsio.connect(memory_limit="4g", threads=8, cache=1 << 30, progress=False) as con:
        con.register("era5", "s3://bucket/era5.zarr", **{"aws.skip_signature": True})
        con.register("rows", con.rows({"latitude": np.arange(3.0)}))
        con.set("lsio.nan_as_null", False)
        return con.sql("SELECT * FROM era5 WHERE latitude > $north", north=60)


def verbs(df: lsio.DataFrame) -> xr.Dataset:
    """Verbs and expressions."""
    warm = (lsio.col("t2m") - 273.15 > 0) & ~lsio.col("t2m").is_null()
    assert_type(warm, lsio.Expr)
    month = lsio.col("time").date_part("month").alias("month")
    by = df.filter(warm, "latitude > 0").group_by("latitude", month).agg(lsio.count().alias("n"), t=lsio.col("t2m").mean())
    assert_type(by, lsio.DataFrame)
    return by.sort("latitude", descending=True).limit(10).to_xarray(dims=["latitude", "month"])


def rows(df: lsio.DataFrame) -> None:
    """What rows become."""
    assert_type(df.columns, list[str])
    first: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = df.to_numpy()["t2m"]
    assert_type(df.to_xarray(progress=lambda done, total: print(done, total)), xr.Dataset)
    for part in df.batches(progress=True):
        assert_type(part, lsio.DataFrame)
    print(df.explain(analyze=True), first)


async def waiting(df: lsio.DataFrame) -> int:
    """The same for asyncio."""
    count = 0
    async for part in df:
        count += len(part.columns)
    assert_type(await df.collect_async(), lsio.DataFrame)
    return count


def failing() -> None:
    """Exceptions are Python's too."""
    try:
        lsio.open("nothing.zarr", variables=["t2m"])
    except FileNotFoundError:
        pass
    error: type[ValueError] = lsio.QueryError
    memory: type[MemoryError] = lsio.OutOfMemoryError
    print(error, memory)
