"""Progress of queries: who is called, when, and what is drawn."""

import io
import sys
import threading

import lsio
import numpy as np
import pytest
import xarray as xr
from lsio import _progress

# The sine is computed row by row, so that chunks are read one after the other.
ASK = "SELECT avg(sin(sin(sin(v + x)))) AS a FROM 'long.zarr'"


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """A store of many chunks."""
    directory = tmp_path_factory.mktemp("long")
    values = np.arange(24 * 64 * 512, dtype="f4").reshape(24, 64, 512)
    ds = xr.Dataset({"v": (("t", "y", "x"), values)}, {"x": ("x", np.arange(512.0))})
    ds.to_zarr(directory / "long.zarr", encoding={"v": {"chunks": (1, 64, 512)}}, consolidated=False)
    return directory


@pytest.fixture(autouse=True)
def there(long, examples, monkeypatch):
    monkeypatch.chdir(long)


class Screen(io.StringIO):
    """Standard error as a terminal."""

    def isatty(self):
        return True


def test_callables_are_told_by_the_thread_that_waits():
    told, threads = [], set()

    def tell(done, total):
        told.append((done, total))
        threads.add(threading.get_ident())

    lsio.sql(ASK).to_numpy(progress=tell)
    assert threads == {threading.get_ident()}
    assert told == sorted(told) and told[-1] == (24, 24)
    assert all(total == 24 for _, total in told)


def test_sessions_have_a_default(tmp_path):
    told = []
    con = lsio.connect(progress=lambda done, total: told.append((done, total)))
    df = con.sql(ASK)
    df.to_numpy(progress=False)
    assert not told
    df.limit(1).to_numpy()
    assert told.pop() == (24, 24)
    con.sql(f"COPY (SELECT t, max(v) AS v FROM 'long.zarr' GROUP BY t) TO '{tmp_path}/out.csv'")
    assert told.pop() == (24, 24)
    for _ in con.open("long.zarr").select("v").batches():
        pass
    assert told.pop() == (24, 24)


def test_an_exception_of_the_callable_ends_the_query():
    def tell(done, total):
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        lsio.sql(ASK).to_numpy(progress=tell)
    with pytest.raises(LookupError, match="enough"):
        lsio.sql(ASK).to_pandas(progress=tell)


@pytest.mark.parametrize("tqdm", [True, False])
def test_bars(monkeypatch, tqdm):
    if tqdm:
        pytest.importorskip("tqdm")
    else:
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    lsio.sql(ASK).to_numpy(progress=True)
    assert "24/24" in screen.getvalue()
    # Nothing is left on the line.
    assert screen.getvalue().rstrip(" \r") != "" and screen.getvalue().endswith("\r")


def test_nobody_sees_a_bar_that_nobody_asked_for(monkeypatch):
    monkeypatch.setattr(_progress, "DELAY", 0)
    monkeypatch.setitem(sys.modules, "ipykernel", None)
    monkeypatch.delitem(sys.modules, "ipykernel")
    for stderr, drawn in [(io.StringIO(), False), (Screen(), True)]:
        monkeypatch.setattr(sys, "stderr", stderr)
        lsio.sql(ASK).to_numpy()
        assert ("24/24" in stderr.getvalue()) == drawn
        lsio.sql(ASK).to_numpy(progress=False)
    # Short queries have no bar.
    monkeypatch.setattr(_progress, "DELAY", 3600)
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    lsio.sql(ASK).to_numpy()
    assert screen.getvalue() == ""
