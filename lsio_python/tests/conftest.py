"""A store that examples and tests read."""

import os
import pathlib

import lsio
import numpy as np
import pytest
import xarray as xr

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def t2m():
    """Six hours on a coarse grid: the mean by latitude is 280, 281 and 282 K."""
    values = np.broadcast_to(np.array([280, 281, 282], "f4")[None, :, None], (6, 3, 4))
    return xr.Dataset(
        {"t2m": (("time", "latitude", "longitude"), values.copy(), {"units": "K", "long_name": "temperature"})},
        coords={
            "time": np.datetime64("2020-01-01T00", "ns") + np.arange(6) * np.timedelta64(1, "h"),
            "latitude": ("latitude", [-70.0, 0.0, 70.0], {"units": "degrees_north"}),
            "longitude": ("longitude", [0.0, 10.0, 20.0, 30.0], {"units": "degrees_east"}),
        },
        attrs={"title": "a small analysis"},
    )


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """A directory with the store t2m.zarr."""
    directory = tmp_path_factory.mktemp("store")
    t2m().to_zarr(directory / "t2m.zarr", encoding={"t2m": {"chunks": (2, 3, 4)}}, consolidated=False)
    return directory


@pytest.fixture(autouse=True)
def examples(request, doctest_namespace, store, monkeypatch):
    """What examples find: the package, a session, and the store in the directory."""
    monkeypatch.chdir(store)
    doctest_namespace["lsio"] = lsio
    doctest_namespace["con"] = lsio.connect()
