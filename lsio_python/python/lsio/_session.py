"""Sessions: where statements are run."""

from __future__ import annotations

import atexit
import itertools
import os
from typing import TYPE_CHECKING, Any

from . import _lsio
from ._columns import column
from ._frame import DataFrame
from ._progress import shown
from ._settings import count, location, options, size

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from ._progress import Progress


# What was read last of remote stores is still being written to the cache.
atexit.register(_lsio.flush)


def connect(
    *,
    memory_limit: int | str | None = None,
    threads: int | None = None,
    engine: str | None = None,
    cache: int | str | None = None,
    settings: Mapping[str, object] | None = None,
    progress: Progress = None,
) -> Session:
    """Make a session of its own.

    Parameters
    ----------
    memory_limit
        Bytes that queries may take, as an integer or a text such as ``"4g"``. Default: no limit.
    threads
        Number of threads of a query. Default: the processors that the process may use.
    engine
        How local files are read: ``"auto"``, ``"uring"``, ``"pread"`` or ``"object_store"``.
    cache
        Bytes of the local disk in which reads of remote stores are kept, such as ``"20g"``.
    settings
        Settings of the engine by name, such as ``{"lsio.nan_as_null": False}``.
    progress
        ``False``: no bar for what takes long. ``True``: a bar at once, wherever standard error goes. A callable: it is
        called with the chunks done, and those in all. Default: a bar after two seconds, in terminals and notebooks.

    >>> con = lsio.connect(memory_limit="1g", threads=2)
    >>> con.sql("SELECT 1 + 1 AS two").to_numpy()
    {'two': array([2])}
    """
    return Session(
        memory_limit=memory_limit,
        threads=threads,
        engine=engine,
        cache=cache,
        settings=settings,
        progress=progress,
    )


class Session:
    """Statements, registered tables and settings. Made by :func:`connect`.

    A session is safe to use from several threads. It belongs to its process: after a fork, make another one.
    """

    def __init__(
        self,
        *,
        memory_limit: int | str | None = None,
        threads: int | None = None,
        engine: str | None = None,
        cache: int | str | None = None,
        settings: Mapping[str, object] | None = None,
        progress: Progress = None,
    ) -> None:
        self._progress = progress
        self._session = _lsio.Session(
            memory_limit=size("memory_limit", memory_limit),
            threads=count("threads", threads),
            engine=engine,
            cache_bytes=size("cache", cache),
            options=options(settings or {}),
        )

    def sql(self, query: str, /, **parameters: Any) -> DataFrame:
        """Plan a statement; its rows are computed when they are asked for.

        Paths and URLs of stores, and of Parquet, CSV and JSON files, are tables: ``FROM 'era5.zarr'``. ``$name`` stands
        for a parameter. A parameter that is a :class:`DataFrame`, or what :meth:`register` takes of other libraries, is a
        table of that name instead. Statements that change something (``CREATE``, ``SET``, ``COPY``) run at once.

        >>> con.sql("SELECT count(*) AS n FROM 't2m.zarr' WHERE latitude > $north", north=60).to_numpy()
        {'n': array([24])}
        """
        tables = {name: self._table(value)._frame for name, value in parameters.items() if _is_table(value)}
        values = {name: value for name, value in parameters.items() if name not in tables}
        with shown(self._progress) as call:
            return self._frame(self._session.sql(query, values or None, tables, call))

    def register(self, name: str, data: Any, /, **open_options: object) -> None:
        """Give a table a name.

        ``data`` is the path or URL of a store, with options of opening it; or a :class:`DataFrame`; or an xarray Dataset
        or DataArray, of which blocks are loaded as queries need them; or anything with an Arrow stream: tables of pandas,
        polars, pyarrow and duckdb. Rows of the latter are taken now, and kept in memory.

        >>> con.register("t", "t2m.zarr")
        >>> con.sql("SELECT max(time) AS last FROM t").to_numpy()
        {'last': array(['2020-01-01T05:00:00.000000'], dtype='datetime64[us]')}
        """
        if isinstance(data, (str, os.PathLike)):
            self._session.register_store(name, location(data), options(open_options))
        elif open_options:
            raise TypeError(f"options of opening ({', '.join(open_options)}) are for paths and URLs")
        elif isinstance(data, DataFrame):
            self._session.register_frame(name, data._frame)
        elif type(data).__module__.partition(".")[0] == "xarray":
            from ._blocks import Blocks

            blocks = Blocks(data)
            self._session.register_blocks(name, blocks.fields(), blocks)
        else:
            self._session.register_rows(name, _rows(data))

    def _table(self, data: Any) -> DataFrame:
        """A table of another library as a frame."""
        if isinstance(data, DataFrame):
            return data
        name = f"lsio {next(_numbers)}"
        self.register(name, data)
        try:
            return self.table(f'"{name}"')
        finally:
            self.deregister(f'"{name}"')

    def deregister(self, name: str, /) -> None:
        """Forget a table. A KeyError if there is none of this name.

        >>> con.register("t", "t2m.zarr")
        >>> con.deregister("t")
        """
        if not self._session.deregister(name):
            from ._errors import UnknownNameError

            raise UnknownNameError(f"there is no table '{name}'")

    def table(self, name: str, /) -> DataFrame:
        """A registered table, or a store by its path, as a :class:`DataFrame`.

        >>> con.table("t2m.zarr").columns
        ['time', 'latitude', 'longitude', 't2m']
        """
        return self._frame(self._session.table(name))

    def open(self, path: str | os.PathLike[str], /, **open_options: object) -> DataFrame:
        """A store as a :class:`DataFrame`, opened with options: ``variables``, ``dims``, ``group``, ``decode_times``,
        ``mask_and_scale``, ``drop_variables``, …, as in xarray.

        >>> con.open("t2m.zarr", variables=["t2m"]).columns[-1]
        't2m'
        """
        return self._frame(self._session.open(location(path), options(open_options)))

    def rows(self, columns: Mapping[str, Any], /) -> DataFrame:
        """Arrays of numpy as a :class:`DataFrame`: numbers, times and texts by the columns' names.

        >>> con.rows({"latitude": [0.0], "name": ["equator"]}).to_numpy()
        {'latitude': array([0.]), 'name': array(['equator'], dtype=object)}
        """
        import numpy as np

        taken = [column(name, np.asarray(values)) for name, values in columns.items()]
        return self._frame(self._session.rows(taken))

    def set(self, name: str, value: object, /) -> None:
        """Set a setting of the engine, as ``SET`` does.

        >>> con.set("lsio.nan_as_null", False)
        """
        self._session.set(name, options({name: value})[0][1])

    def _frame(self, frame: _lsio.Frame) -> DataFrame:
        return DataFrame(frame, progress=self._progress)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def __repr__(self) -> str:
        return "<lsio.Session>"


# Numbers of tables without a name.
_numbers = itertools.count()


def _is_table(data: Any) -> bool:
    """Whether a parameter is a table, and not a value."""
    if isinstance(data, DataFrame) or hasattr(data, "__arrow_c_stream__"):
        return True
    # Datasets of xarray, and frames of an old pandas.
    return any(hasattr(data, name) for name in ("to_dataframe", "iterrows"))


def _rows(data: Any) -> Any:
    """An object with an Arrow stream, of what isn't one yet."""
    if type(data).__module__.partition(".")[0] == "pandas" and not hasattr(data, "__arrow_c_stream__"):
        import pyarrow

        return pyarrow.Table.from_pandas(data, preserve_index=False)
    return data


_default: Session | None = None
_default_process: int | None = None


def default_session() -> Session:
    """The session of :func:`sql`: one for each process."""
    global _default, _default_process
    session = _default
    if session is None or _default_process != os.getpid():
        session = Session()
        _default, _default_process = session, os.getpid()
    return session


def sql(query: str, /, **parameters: Any) -> DataFrame:
    """Plan a statement in the process's own session: see :meth:`Session.sql`.

    >>> lsio.sql("SELECT latitude, avg(t2m) AS t2m FROM 't2m.zarr' GROUP BY latitude").to_numpy()["t2m"]
    array([280., 281., 282.])
    """
    return default_session().sql(query, **parameters)


def open(path: str | os.PathLike[str], /, **open_options: object) -> DataFrame:
    """A store as a :class:`DataFrame` in the process's own session: see :meth:`Session.open`.

    >>> lsio.open("t2m.zarr").select("latitude", "t2m")
    <lsio.DataFrame (latitude: Float64, t2m: Float32)>
    """
    return default_session().open(path, **open_options)
