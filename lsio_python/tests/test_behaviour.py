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


@pytest.mark.parametrize("take", ["pyarrow.table(df)", "df.to_arrow()", "list(df.batches())", "df.collect()"])
def test_interrupts_end_whoever_waits_for_rows(take):
    pytest.importorskip("pyarrow")
    done = run(f"""
        import os, signal, threading, time
        import lsio, pyarrow
        df = lsio.sql("{SLOW}")
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            {take}
        except KeyboardInterrupt:
            print("interrupted")
        except pyarrow.ArrowInvalid as error:
            # Arrow's streams have no other way.
            print(str(error).removeprefix("Compute error: ").removesuffix(" by Ctrl-C"))
        assert lsio.sql("SELECT 1 AS one").to_numpy()["one"][0] == 1
    """)
    assert done.stdout == "interrupted\n", done.stderr


def test_a_query_that_does_not_stop_leaves_its_threads():
    # A nested loop doesn't look for its cancellation.
    done = run("""
        import asyncio, os, signal, threading
        import lsio
        sides = "generate_series(1, 100000) a, generate_series(1, 100000) b"
        nested = lsio.sql(f"SELECT a.value FROM {sides} WHERE sin(a.value) < cos(b.value) - 1.99999999")
        for take in (nested.to_numpy, lambda: list(nested.batches()), None):
            try:
                if take is None:
                    asyncio.run(asyncio.wait_for(nested.collect_async(), 0.3))
                threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
                take()
            except (KeyboardInterrupt, TimeoutError):
                print("ended")
            print(lsio.sql("SELECT count(*) AS n FROM generate_series(1, 100000)").to_numpy()["n"][0], flush=True)
        os._exit(0)
    """)
    assert done.stdout == "ended\n100000\n" * 3, done.stderr


def test_spawned_processes_ask_on_their_own(store, tmp_path):
    script = tmp_path / "spawning.py"
    script.write_text(
        textwrap.dedent(f"""
        import multiprocessing
        import lsio

        def ask(latitude):
            sql = "SELECT avg(t2m) AS t FROM '{store}/t2m.zarr' WHERE latitude = $latitude"
            return lsio.sql(sql, latitude=latitude).to_numpy()["t"].item()

        if __name__ == "__main__":
            assert ask(0.0) == 281
            for method in multiprocessing.get_all_start_methods():
                with multiprocessing.get_context(method).Pool(2) as pool:
                    print(pool.map(ask, [-70.0, 0.0, 70.0]))
        """)
    )
    done = subprocess.run([sys.executable, "-W", "ignore", script], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.splitlines()) == {"[280.0, 281.0, 282.0]"}
