"""Threads, signals and forks."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import lsio
import pytest

# Takes minutes unless it is ended.
SLOW = "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b WHERE a.value % 7 = b.value % 11"


def run(script, timeout=60):
    """Runs a script in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=timeout
    )


def test_other_threads_run_while_a_query_does():
    counted = 0
    done = threading.Event()

    def count():
        nonlocal counted
        while not done.is_set():
            counted += 1

    counter = threading.Thread(target=count)
    counter.start()
    before = counted
    lsio.sql("SELECT count(*) FROM generate_series(1, 3000000)").to_numpy()
    assert counted > before
    done.set()
    counter.join()


def test_interrupts_end_a_query():
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        lsio.sql(SLOW).to_numpy()
    # The session goes on.
    assert lsio.sql("SELECT 1 AS one").to_numpy()["one"].tolist() == [1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forks_work_or_raise(store):
    done = run(f"""
        import os, signal, warnings
        warnings.simplefilter("ignore")
        import lsio
        con = lsio.connect()
        sql = "SELECT avg(t2m) AS t FROM '{store}/t2m.zarr'"
        assert con.sql(sql).to_numpy()["t"][0] == 281
        assert lsio.sql(sql).to_numpy()["t"][0] == 281
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            try:
                con.sql(sql)
            except lsio.Error as error:
                assert "forked" in str(error)
            else:
                os._exit(3)
            os._exit(0 if lsio.sql(sql).to_numpy()["t"][0] == 281 else 4)
        assert os.waitpid(child, 0)[1] == 0
        assert con.sql(sql).to_numpy()["t"][0] == 281
    """)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_datasets_are_read_in_forks(store):
    done = run(f"""
        import os, signal, warnings
        warnings.simplefilter("ignore")
        import xarray as xr
        from lsio.xarray_backend import LsioBackendEntrypoint
        ds = xr.open_dataset("{store}/t2m.zarr", engine=LsioBackendEntrypoint)
        assert float(ds.t2m[0].mean()) == 281
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            os._exit(0 if float(ds.t2m[1].mean()) == 281 else 4)
        assert os.waitpid(child, 0)[1] == 0
    """)
    assert done.returncode == 0, done.stderr


def test_importing_is_quick():
    done = run("import sys, lsio; assert not {'xarray', 'pandas', 'pyarrow', 'polars'} & set(sys.modules)")
    assert done.returncode == 0, done.stderr


def test_many_threads_share_a_session(store):
    con = lsio.connect()
    con.register("t", str(store / "t2m.zarr"))
    found = []

    def ask():
        for _ in range(5):
            means = con.sql("SELECT latitude, avg(t2m) AS m FROM t GROUP BY latitude")
            found.append(con.sql("SELECT max(m) AS m FROM means", means=means).to_numpy()["m"][0])

    threads = [threading.Thread(target=ask) for _ in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert found == [282.0] * 30


def test_streams_that_nobody_reads_cost_nothing():
    start = time.monotonic()
    for _ in range(3):
        lsio.sql(SLOW).__arrow_c_stream__()
    assert time.monotonic() - start < 60
