"""The code of docs/python.md runs, block after block, on a store like that of `lsio demo`."""

import ast
import asyncio
import inspect
import pathlib
import re
import warnings

import lsio
import numpy as np
import pytest
import xarray as xr

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "python.md"

# Packages that not every machine has.
OPTIONAL = ("duckdb", "polars", "tqdm")


@pytest.fixture
def era5(tmp_path, monkeypatch):
    """A directory with era5.zarr: ten days of hours on a grid of 2.5°."""
    rng = np.random.default_rng(1)
    latitude, longitude = np.linspace(90, -90, 73), np.arange(144) * 2.5
    dims = ("time", "latitude", "longitude")
    warmth = 250 + 50 * np.cos(np.deg2rad(latitude))
    data = {}
    for name, mean, units in [("t2m", warmth[:, None], "K"), ("u10", 0, "m s-1"), ("v10", 0, "m s-1")]:
        values = (mean + rng.normal(0, 8, (240, 73, 144))).astype("f4")
        data[name] = (dims, values, {"units": units, "long_name": name})
    time = np.datetime64("2019-01-01", "ns") + np.arange(240) * np.timedelta64(1, "h")
    ds = xr.Dataset(data, {"time": time, "latitude": latitude, "longitude": longitude})
    ds.to_zarr(tmp_path / "era5.zarr", consolidated=False, encoding={name: {"chunks": (24, 73, 144)} for name in data})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def blocks():
    text = PAGE.read_text()
    for found in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield text[: found.start()].count("\n") + 2, found[1]


def test_the_code_of_the_page_runs(era5, capsys):
    names = {}
    left_out = []
    for line, code in blocks():
        # Lines as in the page, for whoever reads a traceback.
        tree = ast.parse("\n" * (line - 1) + code, str(PAGE))
        ast.increment_lineno(tree, 0)
        compiled = compile(tree, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if "://" in code:
            left_out.append(f"line {line}: it reads from the network")
            continue
        try:
            with warnings.catch_warnings():
                # The page shows what lsio computes.
                warnings.simplefilter("error", lsio.Note)
                found = eval(compiled, names)
                if inspect.iscoroutine(found):
                    asyncio.run(found)
        except ModuleNotFoundError as error:
            assert error.name in OPTIONAL, error
            left_out.append(f"line {line}: {error}")
    with capsys.disabled():
        for reason in left_out:
            print(f"\n{PAGE.name}: not run, {reason}", end="")
    # What the page claims.
    ds = xr.open_dataset("era5.zarr", engine="zarr", consolidated=False).load()
    expected = ds.t2m.astype("f8").mean(["time", "longitude"])
    xr.testing.assert_allclose(names["means"].to_xarray().t2m, expected)
    assert names["means"].to_xarray().t2m.attrs == {"units": "K", "long_name": "t2m"}


def test_the_page_has_code():
    assert sum("://" not in code for _, code in blocks()) > 12


def test_what_a_user_sees_first(era5, capsys):
    df = lsio.open("era5.zarr")
    assert "t2m" in repr(df) and "K" in df._repr_html_()
    df.show(2)
    assert capsys.readouterr().out.count("\n") == 4
    # What is mistyped is told, with what was meant.
    for wrong, error, said in [
        ("SELECT t2n FROM 'era5.zarr'", ValueError, "t2m"),
        ("SELECT t2m FROM 'era6.zarr'", FileNotFoundError, "era6.zarr"),
        ("SELECT t2m FROM era5", ValueError, "era5"),
        ("SELECT t2m FRM 'era5.zarr'", ValueError, "Line: 1"),
    ]:
        with pytest.raises(error) as raised:
            lsio.sql(wrong)
        assert said in str(raised.value), str(raised.value)


def test_results_without_rows(era5):
    empty = lsio.sql("SELECT latitude, avg(t2m) AS t2m FROM 'era5.zarr' WHERE time > '2030-01-01' GROUP BY latitude")
    assert empty.to_xarray().t2m.shape == (0,)
    assert empty.to_pandas().shape == (0, 2)
    empty.show()
    rows = lsio.open("era5.zarr").filter("t2m > 1000").to_xarray()
    assert rows.t2m.dims == ("time", "latitude", "longitude") and rows.t2m.size == 0
