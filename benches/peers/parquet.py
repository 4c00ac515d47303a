"""Writes the rows of a store of `lsio-bench make-data` as a Parquet file: zstd, one row group for each time."""

import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xarray as xr


def write(store, path):
    ds = xr.open_zarr(store, chunks=None, consolidated=None)
    latitudes, longitudes = np.meshgrid(ds.latitude.values, ds.longitude.values, indexing="ij")
    keys = {"latitude": latitudes.ravel(), "longitude": longitudes.ravel()}
    step = ds.t2m.encoding["chunks"][0]
    writer = None
    for start in range(0, ds.sizes["time"], step):
        block = ds[["t2m", "u10", "v10"]].isel(time=slice(start, start + step)).load()
        for i, time in enumerate(block.time.values):
            columns = {"time": np.full(latitudes.size, time.astype("datetime64[us]")), **keys}
            columns |= {name: block[name].values[i].ravel() for name in block}
            table = pa.table(columns)
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table, row_group_size=len(table))
    writer.close()


if __name__ == "__main__":
    write(*sys.argv[1:])
