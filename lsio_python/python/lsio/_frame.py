"""DataFrames: planned queries, whose rows are computed when they are asked for."""

import json
import warnings

from . import _lsio  # noqa: F401
from ._errors import Note
from ._expr import Expr, quoted, sql_of
from ._to_xarray import to_dataset

# Rows that `show` and notebooks show.
_SHOWN = 10


class DataFrame:
    """A planned query. Made by :func:`lsio.sql`, :func:`lsio.open` and the methods of other DataFrames.

    Nothing is read before rows are asked for, by one of the methods ``to_…``, ``show``, or whatever takes Arrow streams:
    ``pyarrow.table(df)``, ``polars.DataFrame(df)``, ``duckdb.sql("FROM df")``.
    """

    def __init__(self, frame, order=()):
        self._frame = frame
        # SQL of the columns that the rows are in the order of: a statement on the frame has to say it again.
        self._order = tuple(order)

    # What the columns are.

    @property
    def columns(self):
        """The names of the columns."""
        return [name for name, _, _ in self._frame.columns()]

    @property
    def schema(self):
        """The columns' types by name, as Arrow names them."""
        return {name: kind for name, kind, _ in self._frame.columns()}

    def __arrow_c_stream__(self, requested_schema=None):
        return self._frame.__arrow_c_stream__(requested_schema)

    def __arrow_c_schema__(self):
        return self._frame.__arrow_c_schema__()

    # Verbs. `this` is the frame in the statement.

    def filter(self, *conditions):
        """The rows for which all conditions are true: texts of SQL or expressions.

        >>> lsio.open("t2m.zarr").filter("latitude > 0", lsio.col("longitude") == 10).columns
        ['time', 'latitude', 'longitude', 't2m']
        """
        condition = " AND ".join(f"({sql_of(each)})" for each in conditions) or "true"
        return self._ordered(f"SELECT * FROM this WHERE {condition}")

    def select(self, *columns, **named):
        """Columns: names, texts of SQL or expressions; those with a name are given as ``name=…``.

        >>> lsio.open("t2m.zarr").select("time", celsius=lsio.col("t2m") - 273.15).columns
        ['time', 'celsius']
        """
        return self._ordered(f"SELECT {_items(self.columns, columns, named)} FROM this", keeps=False)

    def with_columns(self, **named):
        """All columns, and more."""
        return self._ordered(f"SELECT *, {_items(self.columns, (), named)} FROM this")

    def aggregate(self, keys=(), /, *values, **named):
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

    def group_by(self, *keys):
        """The same in two steps: ``df.group_by("latitude").agg(lsio.col("t2m").mean())``."""
        return GroupBy(self, keys)

    def sort(self, *columns, descending=False):
        """The rows in the order of columns."""
        direction = " DESC" if descending else ""
        order = tuple(_column(self.columns, column) + direction for column in columns)
        return DataFrame(self._frame, order)._ordered("SELECT * FROM this")

    def limit(self, count, /, offset=0):
        """The first rows."""
        return self._ordered("SELECT * FROM this", f" LIMIT {int(count)} OFFSET {int(offset)}")

    def join(self, other, on, how="inner"):
        """The rows of both where columns are equal; ``how`` is inner, left, right, full, semi or anti."""
        kinds = {"inner": "", "left": "LEFT", "right": "RIGHT", "full": "FULL", "semi": "LEFT SEMI", "anti": "LEFT ANTI"}
        if how not in kinds:
            raise ValueError(f"how={how!r}: use one of {', '.join(kinds)}")
        on = [on] if isinstance(on, str) else list(on)
        names = ", ".join(quoted(name) for name in on)
        if how in ("semi", "anti"):
            conditions = " AND ".join(f"this.{quoted(name)} = other.{quoted(name)}" for name in on)
            return self._query(f"SELECT * FROM this {kinds[how]} JOIN other ON {conditions}", other=other)
        return self._query(f"SELECT * FROM this {kinds[how]} JOIN other USING ({names})", other=other)

    def sql(self, query, /, **frames):
        """A statement in which ``this`` is the frame, and other frames have the names given to them.

        >>> lsio.open("t2m.zarr").sql("SELECT avg(t2m) AS mean FROM this").to_numpy()
        {'mean': array([281.])}
        """
        return self._query(query, **frames)

    def _ordered(self, sql, end="", keeps=True):
        """A statement whose rows keep their order. `keeps`: whether all columns are still there."""
        if self._order:
            sql += f" ORDER BY {', '.join(self._order)}"
        return DataFrame(self._query(sql + end)._frame, self._order if keeps else ())

    def _query(self, sql, **frames):
        return DataFrame(self._frame.query(sql, {name: frame._frame for name, frame in frames.items()}))

    # Rows.

    def to_numpy(self):
        """A dictionary with an array for each column. Missing numbers are NaN, missing times NaT."""
        return _arrays(self._collect())

    def to_arrow(self):
        """A ``pyarrow.Table``."""
        import pyarrow

        return pyarrow.table(self._collect())

    def to_pandas(self):
        """A ``pandas.DataFrame``."""
        import pandas

        return pandas.DataFrame(self.to_numpy())

    def to_polars(self):
        """A ``polars.DataFrame``."""
        import polars

        return polars.DataFrame(self._collect())

    def to_xarray(self, dims=None):
        """An ``xarray.Dataset``.

        Its dimensions are ``dims``, or else the keys of the query's GROUP BY, or else the coordinates among the columns.
        Attributes and units come along with columns that are coordinates or variables of a store. Cells without a row
        are missing: NaN.

        >>> ds = lsio.sql("SELECT latitude, avg(t2m) AS t2m FROM 't2m.zarr' GROUP BY latitude").to_xarray()
        >>> ds.t2m.dims
        ('latitude',)
        """
        return to_dataset(self._frame, _arrays(self._collect()), dims)

    def _collect(self):
        batches = self._frame.collect()
        for note in batches.notes():
            warnings.warn(note, Note, stacklevel=3)
        return batches

    # For people.

    def show(self, rows=_SHOWN):
        """Print the first rows."""
        print(self._table(rows))

    def explain(self, analyze=False, verbose=False):
        """How the query is computed, as text. ``analyze`` runs it, and tells times and bytes."""
        batches = self._frame.explain(analyze, verbose)
        return "\n".join(": ".join(row) for row in batches.texts(1 << 20))

    def __repr__(self):
        # Shows no rows: to make them could take hours.
        columns = ", ".join(f"{name}: {kind}" for name, kind in self.schema.items())
        return f"<lsio.DataFrame ({columns})>"

    def _repr_html_(self):
        from html import escape

        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{escape(kind)}</td><td>{escape(_units(metadata))}</td></tr>"
            for name, kind, metadata in self._frame.columns()
        )
        return f"<table><tr><th>column</th><th>type</th><th>units</th></tr>{rows}</table>"

    def _table(self, most):
        batches = self.limit(most + 1)._collect()
        rows = batches.texts(most)
        widths = [max(map(len, column)) for column in zip(self.columns, *rows)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in [self.columns, *rows]]
        if len(batches) > most:
            lines.append("…")
        return "\n".join(line.rstrip() for line in lines)


class GroupBy:
    """Keys of groups: made by :meth:`DataFrame.group_by`."""

    def __init__(self, frame, keys):
        self._frame = frame
        self._keys = keys

    def agg(self, *values, **named):
        """Aggregates of each group: see :meth:`DataFrame.aggregate`."""
        return self._frame.aggregate(self._keys, *values, **named)


def _arrays(batches):
    import numpy as np

    arrays = {}
    for name, dtype, values in batches.columns():
        arrays[name] = np.array(values, dtype=object) if dtype == "object" else np.frombuffer(values, dtype=dtype)
    return arrays


def _units(metadata):
    return metadata.get("units") or ", ".join(json.loads(metadata.get("zarr.dims", "[]")))


def _column(columns, column):
    """SQL of a column's name or of an expression."""
    return quoted(column) if isinstance(column, str) and column in columns else sql_of(column)


def _item(columns, item):
    return item.aliased() if isinstance(item, Expr) else _column(columns, item)


def _items(columns, items, named):
    shown = [_item(columns, item) for item in items]
    shown += [f"{_column(columns, item)} AS {quoted(name)}" for name, item in named.items()]
    return ", ".join(shown)
