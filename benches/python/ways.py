"""Ways to answer a question. Each opens the store; nothing of that happens before `answer(path)` is called, and each
imports its library when it is prepared, which isn't timed."""

VARIABLE = "t2m"


def prepare(question, way, threads):
    """Imports what the way needs; gives `answer(path)`."""
    return QUESTIONS[question][way](threads)


# Whole arrays.


def _array_lsio_xarray(threads):
    import xarray as xr
    from lsio.xarray_backend import LsioBackendEntrypoint

    return lambda path: xr.open_dataset(path, engine=LsioBackendEntrypoint)[VARIABLE].values


def _array_lsio(threads):
    import numpy as np
    from lsio._lsio import Store

    def answer(path):
        store = Store(path, [])
        described = next(each for each in store.variables() if each["name"] == VARIABLE)
        out = np.empty(described["shape"], described["dtype"])
        store.read(VARIABLE, [(0, 1, size) for size in out.shape], out.view(f"u{out.itemsize}"))
        return out

    return answer


def _array_zarr(threads):
    import zarr

    zarr.config.set({"threading.max_workers": threads})
    return lambda path: zarr.open_array(f"{path}/{VARIABLE}", mode="r")[:]


def _array_zarrs(threads):
    import zarr
    import zarrs  # noqa: F401

    zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "threading.max_workers": threads})
    return lambda path: zarr.open_array(f"{path}/{VARIABLE}", mode="r")[:]


def _array_tensorstore(threads):
    import tensorstore as ts

    context = ts.Context({"data_copy_concurrency": {"limit": threads}, "cache_pool": {"total_bytes_limit": 0}})

    def answer(path):
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/{VARIABLE}/"}}
        return ts.open(spec, context=context, read=True).result().read().result()

    return answer


# Means.


def _mean_lsio(reduce):
    def prepare(threads):
        # xarray imports it at its first operation, where it is installed.
        import dask.array  # noqa: F401
        import xarray as xr
        from lsio.xarray_backend import LsioBackendEntrypoint

        return lambda path: reduce(xr.open_dataset(path, engine=LsioBackendEntrypoint)[VARIABLE].lsio).values

    return prepare


def _mean_xarray(reduce):
    def prepare(threads):
        import dask
        import dask.array  # noqa: F401
        import flox  # noqa: F401
        import xarray as xr

        dask.config.set(scheduler="threads", num_workers=threads)
        return lambda path: reduce(xr.open_zarr(path, consolidated=None)[VARIABLE]).compute().values

    return prepare


def _by_month(values):
    return values.groupby("time.month").mean()


def _by_latitude(values):
    return values.mean(["time", "longitude"])


# The first answer.


def _first_lsio(threads):
    def answer(path):
        import lsio

        means = lsio.sql(f"SELECT latitude, avg({VARIABLE}) AS mean FROM '{path}' WHERE longitude < 1 GROUP BY latitude")
        return means.to_numpy()["mean"]

    return answer


QUESTIONS = {
    "array": {
        "lsio, xarray": _array_lsio_xarray,
        "lsio, store": _array_lsio,
        "zarr-python": _array_zarr,
        "zarrs": _array_zarrs,
        "tensorstore": _array_tensorstore,
    },
    "month": {"lsio": _mean_lsio(_by_month), "xarray, dask, flox": _mean_xarray(_by_month)},
    "latitude": {"lsio": _mean_lsio(_by_latitude), "xarray, dask, flox": _mean_xarray(_by_latitude)},
    "first": {"lsio": _first_lsio},
}
