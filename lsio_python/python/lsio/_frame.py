"""DataFrames: planned queries, whose rows are computed when they are asked for."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

from . import _async
from ._errors import Note
from ._expr import Expr, quoted, sql_of
from ._progress import shown
from ._to_xarray import to_dataset

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping

    import numpy as np
    import pandas
    import polars
    import pyarrow
    import xarray as xr

    from . import _lsio
    from ._progress import Progress

# Rows that `show` and notebooks show.
_SHOWN = 10


class DataFrame:
    """A planned query. Made by :func:`lsio.sql`, :func:`lsio.open` and the methods of other DataFrames.

    Nothing is read before rows are asked for, by one of the methods ``to_…``, ``collect``, ``batches``, ``show``, or
    whatever takes Arrow streams: ``pyarrow.table(df)``, ``polars.DataFrame(df)``, ``duckdb.sql("FROM df")``.

    What takes longer than two seconds shows a bar, in terminals and notebooks. ``progress=False`` hides it, and
    ``progress=True`` shows it at once; a callable is called with the chunks done, and those in all. ``None`` is what
    the session has been told.
    """

    def __init__(self, frame: _lsio.Frame, order: Iterable[str] = (), progress: Progress = None) -> None:
        self._frame = frame
        # SQL of the columns that the rows are in the order of: a statement on the frame has to say it again.
        self._order = tuple(order)
        # What the session has been told.
        self._progress = progress

    # What the columns are.

    @property
    def columns(self) -> list[str]:
        """The names of the columns.

        >>> lsio.open("t2m.zarr").columns
        ['time', 'latitude', 'longitude', 't2m']
        """
        return [name for name, _, _ in self._frame.columns()]

    @property
    def schema(self) -> dict[str, str]:
        """The columns' types by name, as Arrow names them.

        >>> lsio.open("t2m.zarr").schema["t2m"]
        'Float32'
        """
        return {name: kind for name, kind, _ in self._frame.columns()}

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._frame.__arrow_c_stream__(requested_schema)

    def __arrow_c_schema__(self) -> object:
        return self._frame.__arrow_c_schema__()

    # Verbs. `this` is the frame in the statement.

    def filter(self, *conditions: str | Expr) -> DataFrame:
        """The rows for which all conditions are true: texts of SQL or expressions.

        >>> lsio.open("t2m.zarr").filter("latitude > 0", lsio.col("longitude") == 10).columns
        ['time', 'latitude', 'longitude', 't2m']
        """
        condition = " AND ".join(f"({sql_of(each)})" for each in conditions) or "true"
        return self._ordered(f"SELECT * FROM this WHERE {condition}")

    def select(self, *columns: str | Expr, **named: str | Expr) -> DataFrame:
        """Columns: names, texts of SQL or expressions; those with a name are given as ``name=…``.

        >>> lsio.open("t2m.zarr").select("time", celsius=lsio.col("t2m") - 273.15).columns
        ['time', 'celsius']
        """
        return self._ordered(f"SELECT {_items(self.columns, columns, named)} FROM this", keeps=False)

    def with_columns(self, **named: str | Expr) -> DataFrame:
        """All columns, and more.

        >>> lsio.open("t2m.zarr").with_columns(celsius=lsio.col("t2m") - 273.15).columns
        ['time', 'latitude', 'longitude', 't2m', 'celsius']
        """
        return self._ordered(f"SELECT *, {_items(self.columns, (), named)} FROM this")

    def aggregate(
        self, keys: str | Expr | Iterable[str | Expr] = (), /, *values: str | Expr, **named: str | Expr
    ) -> DataFrame:
        """A row for each combination of the keys, with aggregates: ``avg(t2m)`` or ``lsio.col("t2m").mean()``.

        >>> df = lsio.open("t2m.zarr").aggregate("latitude", warmest=lsio.col("t2m").max())
        >>> df.sort("latitude").to_numpy()["warmest"]
        array([280., 281., 282.], dtype=float32)
        """
        keys = [keys] if isinstance(keys, (str, Expr)) else list(keys)
        shown = [_item(self.columns, key) for key in keys]
        wanted = ", ".join([*shown, *filter(None, [_items(self.columns, values, named)])])
        groups = ", ".join(str(number) for number in range(1, len(keys) + 1))
        return self._query(f"SELECT {wanted} FROM this" + (f" GROUP BY {groups}" if keys else ""))

    def group_by(self, *keys: str | Expr) -> GroupBy:
        """The same in two steps.

        >>> df = lsio.open("t2m.zarr").group_by("latitude").agg(mean=lsio.col("t2m").mean(), n=lsio.count())
        >>> df.sort("latitude").to_numpy()["n"]
        array([24, 24, 24])
        """
        return GroupBy(self, keys)

    def sort(self, *columns: str | Expr, descending: bool = False) -> DataFrame:
        """The rows in the order of columns.

        >>> lsio.open("t2m.zarr").select("latitude").sort("latitude", descending=True).limit(1).to_numpy()
        {'latitude': array([70.])}
        """
        direction = " DESC" if descending else ""
        order = tuple(_column(self.columns, column) + direction for column in columns)
        return DataFrame(self._frame, order, self._progress)._ordered("SELECT * FROM this")

    def limit(self, count: int, /, offset: int = 0) -> DataFrame:
        """The first rows, behind as many as ``offset`` says.

        >>> len(lsio.open("t2m.zarr").limit(5).to_numpy()["t2m"])
        5
        """
        return self._ordered("SELECT * FROM this", f" LIMIT {int(count)} OFFSET {int(offset)}")

    def join(self, other: DataFrame, on: str | Iterable[str], how: str = "inner") -> DataFrame:
        """The rows of both where columns are equal; ``how`` is inner, left, right, full, semi or anti.

        >>> names = con.rows({"latitude": [0.0], "name": ["equator"]})
        >>> con.open("t2m.zarr").join(names, "latitude").aggregate("name", mean="avg(t2m)").to_numpy()
        {'name': array(['equator'], dtype=object), 'mean': array([281.])}
        """
        kinds = {"inner": "", "left": "LEFT", "right": "RIGHT", "full": "FULL", "semi": "LEFT SEMI", "anti": "LEFT ANTI"}
        if how not in kinds:
            raise ValueError(f"how={how!r}: use one of {', '.join(kinds)}")
        on = [on] if isinstance(on, str) else list(on)
        names = ", ".join(quoted(name) for name in on)
        if how in ("semi", "anti"):
            conditions = " AND ".join(f"this.{quoted(name)} = other.{quoted(name)}" for name in on)
            return self._query(f"SELECT * FROM this {kinds[how]} JOIN other ON {conditions}", other=other)
        return self._query(f"SELECT * FROM this {kinds[how]} JOIN other USING ({names})", other=other)

    def sql(self, query: str, /, **frames: DataFrame) -> DataFrame:
        """A statement in which ``this`` is the frame, and other frames have the names given to them.

        >>> lsio.open("t2m.zarr").sql("SELECT avg(t2m) AS mean FROM this").to_numpy()
        {'mean': array([281.])}
        """
        return self._query(query, **frames)

    def _ordered(self, sql: str, end: str = "", keeps: bool = True) -> DataFrame:
        """A statement whose rows keep their order. `keeps`: whether all columns are still there."""
        if self._order:
            sql += f" ORDER BY {', '.join(self._order)}"
        return DataFrame(self._query(sql + end)._frame, self._order if keeps else (), self._progress)

    def _query(self, sql: str, **frames: DataFrame) -> DataFrame:
        named = {name: frame._frame for name, frame in frames.items()}
        return DataFrame(self._frame.query(sql, named), progress=self._progress)

    # Rows.

    def collect(self, *, progress: Progress = None) -> DataFrame:
        """Run the query, and keep its rows in memory: a DataFrame whose rows are made already.

        >>> means = lsio.sql("SELECT latitude, avg(t2m) AS t2m FROM 't2m.zarr' GROUP BY latitude").collect()
        >>> means.to_xarray().sizes["latitude"], means.filter("t2m > 281").to_numpy()["latitude"]
        (3, array([70.]))
        """
        return self._of_rows(self._collect(progress))

    async def collect_async(self, *, progress: Progress = None) -> DataFrame:
        """The same for asyncio: other tasks run while the query does. Several run at once. Cancelling ends the query.

        >>> import asyncio
        >>> async def warmest(*places):
        ...     queries = (lsio.sql(f"SELECT max(t2m) AS t FROM '{place}'").collect_async() for place in places)
        ...     return [df.to_numpy()["t"].item() for df in await asyncio.gather(*queries)]
        >>> asyncio.run(warmest("t2m.zarr", "t2m.zarr"))
        [282.0, 282.0]
        """
        batches = await _async.result(self._frame.start, self._chosen(progress))
        assert batches is not None, "a query has rows, if only none"
        return self._of_rows(_warned(batches))

    def batches(self, *, progress: Progress = None) -> Iterator[DataFrame]:
        """The rows in parts, computed as they are taken: each part is a DataFrame with its rows in memory.

        >>> sum(len(part.to_numpy()["t2m"]) for part in lsio.open("t2m.zarr").batches())
        72
        """
        stream = self._frame.stream()
        with shown(self._chosen(progress)) as call:
            while (batches := stream.next(call)) is not None:
                if len(_warned(batches)):
                    yield self._of_rows(batches)

    async def __aiter__(self) -> AsyncIterator[DataFrame]:
        """The rows in parts, as :meth:`batches`: ``async for part in df``."""
        stream = self._frame.stream()
        while (batches := await _async.result(stream.start_next, False)) is not None:
            if len(_warned(batches)):
                yield self._of_rows(batches)

    def to_numpy(self, *, progress: Progress = None) -> dict[str, np.ndarray[Any, Any]]:
        """A dictionary with an array for each column. Missing numbers are NaN, missing times NaT.

        >>> lsio.sql("SELECT max(t2m) AS warmest FROM 't2m.zarr'").to_numpy()
        {'warmest': array([282.], dtype=float32)}
        """
        return _arrays(self._collect(progress))

    def to_arrow(self, *, progress: Progress = None) -> pyarrow.Table:
        """A ``pyarrow.Table``."""
        import pyarrow

        return pyarrow.table(self._collect(progress))

    def to_pandas(self, *, progress: Progress = None) -> pandas.DataFrame:
        """A ``pandas.DataFrame``.

        >>> lsio.sql("SELECT max(t2m) AS warmest FROM 't2m.zarr'").to_pandas()
           warmest
        0    282.0
        """
        import pandas

        return pandas.DataFrame(self.to_numpy(progress=progress))

    def to_polars(self, *, progress: Progress = None) -> polars.DataFrame:
        """A ``polars.DataFrame``."""
        import polars

        return polars.DataFrame(self._collect(progress))

    def to_xarray(self, dims: str | Iterable[str] | None = None, *, progress: Progress = None) -> xr.Dataset:
        """An ``xarray.Dataset``.

        Its dimensions are ``dims``, or else the keys of the query's GROUP BY, or else the coordinates among the columns.
        Attributes and units come along with columns that are coordinates or variables of a store. Cells without a row
        are missing: NaN.

        >>> ds = lsio.sql("SELECT latitude, avg(t2m) AS t2m FROM 't2m.zarr' GROUP BY latitude").to_xarray()
        >>> ds.t2m.dims
        ('latitude',)
        """
        return to_dataset(self._frame, _arrays(self._collect(progress)), dims)

    def to_zarr(
        self,
        target: str | os.PathLike[str],
        *,
        dims: str | Iterable[str] | None = None,
        chunks: Mapping[str, int] | None = None,
        shards: Mapping[str, int] | None = None,
        codec: str | None = None,
        zarr_format: int = 3,
        overwrite: bool = False,
        progress: Progress = None,
    ) -> int:
        """Write the rows as a new Zarr group, without holding them in memory where they are arrays already.

        Dimensions are ``dims``, or else the keys of the query's GROUP BY, or else the coordinates among the columns.
        ``chunks`` and ``shards`` have sizes by dimension. ``codec`` is ``"zstd:9"``, ``"blosc-lz4"``, ``"none"``, …
        Returns the number of rows.

        >>> means = lsio.sql("SELECT latitude, avg(t2m) AS t2m FROM 't2m.zarr' GROUP BY latitude")
        >>> means.to_zarr("means.zarr", chunks={"latitude": 2}, overwrite=True)
        3
        >>> lsio.open("means.zarr").to_xarray().t2m.values
        array([280., 281., 282.])
        """
        options = {"format": str(zarr_format), "overwrite": "true" if overwrite else "false"}
        if dims is not None:
            options["dims"] = dims if isinstance(dims, str) else ",".join(dims)
        for name, sizes in (("chunks", chunks), ("shards", shards)):
            if sizes:
                options[name] = ",".join(f"{dim}={int(size)}" for dim, size in sizes.items())
        if codec is not None:
            options["codec"] = codec
        written = DataFrame(self._frame.writing_zarr(os.fspath(target), options), progress=self._progress)
        return int(written.to_numpy(progress=progress)["count"][0])

    def _collect(self, progress: Progress = None) -> _lsio.Batches:
        with shown(self._chosen(progress)) as call:
            batches = self._frame.collect(call)
        return _warned(batches)

    def _chosen(self, progress: Progress) -> Progress:
        return self._progress if progress is None else progress

    def _of_rows(self, batches: _lsio.Batches) -> DataFrame:
        return DataFrame(self._frame.of_rows(batches), self._order, self._progress)

    # For people.

    def show(self, rows: int = _SHOWN) -> None:
        """Print the first rows.

        >>> lsio.sql("SELECT latitude, max(t2m) AS t FROM 't2m.zarr' GROUP BY latitude ORDER BY 1").show(2)
        latitude  t
        -70.0     280.0
        0.0       281.0
        …
        """
        print(self._table(rows))

    def explain(self, analyze: bool = False, verbose: bool = False) -> str:
        """How the query is computed, as text. ``analyze`` runs it, and tells times and bytes.

        >>> "ZarrAggregateExec" in lsio.open("t2m.zarr").aggregate("latitude", "avg(t2m)").explain()
        True
        """
        batches = self._frame.explain(analyze, verbose)
        return "\n".join(": ".join(row) for row in batches.texts(1 << 20))

    def __repr__(self) -> str:
        # Shows no rows: to make them could take hours.
        columns = ", ".join(f"{name}: {kind}" for name, kind in self.schema.items())
        return f"<lsio.DataFrame ({columns})>"

    def _repr_html_(self) -> str:
        from html import escape

        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{escape(kind)}</td><td>{escape(_units(kind, metadata))}</td></tr>"
            for name, kind, metadata in self._frame.columns()
        )
        return f"<table><tr><th>column</th><th>type</th><th>units</th></tr>{rows}</table>"

    def _table(self, most: int) -> str:
        batches = self.limit(most + 1)._collect()
        rows = batches.texts(most)
        widths = [max(map(len, column)) for column in zip(self.columns, *rows)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in [self.columns, *rows]]
        if len(batches) > most:
            lines.append("…")
        return "\n".join(line.rstrip() for line in lines)


class GroupBy:
    """Keys of groups: made by :meth:`DataFrame.group_by`."""

    def __init__(self, frame: DataFrame, keys: Iterable[str | Expr]) -> None:
        self._frame = frame
        self._keys = keys

    def agg(self, *values: str | Expr, **named: str | Expr) -> DataFrame:
        """Aggregates of each group: see :meth:`DataFrame.aggregate`."""
        return self._frame.aggregate(self._keys, *values, **named)


def _warned(batches: _lsio.Batches) -> _lsio.Batches:
    """Warn of what the engine has noted."""
    for note in batches.notes():
        # The caller of the method that has made the rows.
        warnings.warn(note, Note, stacklevel=4)
    return batches


def _arrays(batches: _lsio.Batches) -> dict[str, np.ndarray[Any, Any]]:
    import numpy as np

    arrays = {}
    for name, dtype, values in batches.columns():
        arrays[name] = np.array(values, dtype=object) if dtype == "object" else np.frombuffer(values, dtype=dtype)
    return arrays


def _units(kind: str, metadata: dict[str, str]) -> str:
    # Those of times are about how they are stored.
    is_time = kind.startswith(("Timestamp", "Duration")) or "zarr.calendar" in metadata
    return "" if is_time else metadata.get("units", "")


def _column(columns: list[str], column: str | Expr) -> str:
    """SQL of a column's name or of an expression."""
    return quoted(column) if isinstance(column, str) and column in columns else sql_of(column)


def _item(columns: list[str], item: str | Expr) -> str:
    return item.aliased() if isinstance(item, Expr) else _column(columns, item)


def _items(columns: list[str], items: Iterable[str | Expr], named: dict[str, str | Expr]) -> str:
    shown = [_item(columns, item) for item in items]
    shown += [f"{_column(columns, item)} AS {quoted(name)}" for name, item in named.items()]
    return ", ".join(shown)
