"""Queries that asyncio waits for."""

import asyncio
import threading

import lsio
import pytest

# Takes minutes unless it is ended.
SLOW = "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b WHERE a.value % 7 = b.value % 11"


def test_several_run_at_once_and_other_tasks_go_on():
    async def ask():
        ticks = 0
        queries = [
            asyncio.ensure_future(lsio.sql(f"SELECT count(*) AS n FROM generate_series(1, {n}000000)").collect_async())
            for n in (1, 2, 3)
        ]
        while not all(query.done() for query in queries):
            ticks += 1
            await asyncio.sleep(0)
        return ticks, [query.result().to_numpy()["n"].item() for query in queries]

    ticks, counts = asyncio.run(ask())
    assert counts == [1_000_000, 2_000_000, 3_000_000]
    assert ticks > 1


def test_what_was_collected_means_the_same():
    async def ask():
        return await lsio.sql("SELECT latitude, avg(t2m) AS t2m FROM 't2m.zarr' GROUP BY latitude").collect_async()

    df = asyncio.run(ask())
    found = df.to_xarray()
    assert found.t2m.dims == ("latitude",) and found.t2m.attrs["units"] == "K"
    assert found.t2m.values.tolist() == [280, 281, 282]
    assert df.filter("t2m > 280").to_xarray().latitude.values.tolist() == [0, 70]
    assert df.columns == ["latitude", "t2m"]


def test_errors_are_raised_where_they_are_awaited():
    async def ask():
        await lsio.sql("SELECT CAST(name AS BIGINT) FROM (VALUES ('a')) AS t(name)").collect_async()

    with pytest.raises(lsio.QueryError, match="'a'"):
        asyncio.run(ask())


def test_cancelling_ends_the_query():
    ended = threading.Event()

    async def ask():
        query = asyncio.ensure_future(lsio.sql(SLOW).collect_async())
        await asyncio.sleep(0.2)
        query.cancel()
        with pytest.raises(asyncio.CancelledError):
            await query
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(lsio.sql(SLOW).collect_async(), 0.2)

    asyncio.run(ask())
    # The engine tells the end of work that would take minutes.
    pending = lsio.sql(SLOW)._frame.start(ended.set)
    assert not ended.wait(0.2)
    pending.cancel()
    assert ended.wait(60)


def test_batches_come_as_they_are_computed():
    async def ask():
        rows = 0
        async for part in lsio.sql("SELECT * FROM generate_series(1, 100000)"):
            values = part.to_numpy()["value"]
            assert values[0] == rows + 1
            rows += len(values)
        pairs = lsio.sql(SLOW.replace("count(*)", "a.value, b.value AS other"))
        async for part in pairs:
            return rows, part.columns, len(part.to_numpy()["other"]) > 0

    assert asyncio.run(ask()) == (100_000, ["value", "other"], True)


def test_names_that_are_there_twice():
    df = lsio.sql("SELECT * FROM generate_series(1, 2) a, generate_series(1, 2) b")
    with pytest.raises(lsio.InvalidRequestError, match="two columns are named 'value'"):
        asyncio.run(df.collect_async())


def test_progress_is_told_to_the_event_loop():
    told, threads = [], set()

    def tell(done, total):
        told.append((done, total))
        threads.add(threading.get_ident())

    asyncio.run(lsio.sql("SELECT avg(t2m) FROM 't2m.zarr'").collect_async(progress=tell))
    assert told[-1] == (3, 3) and threads == {threading.get_ident()}
