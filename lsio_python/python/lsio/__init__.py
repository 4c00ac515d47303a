"""SQL and DataFrames over Zarr stores, at the speed of the disk and the memory.

>>> import lsio
>>> lsio.sql("SELECT latitude, avg(t2m) AS t2m FROM 't2m.zarr' GROUP BY latitude").to_xarray().t2m.values
array([280., 281., 282.])
"""

from . import _lsio
from ._errors import (
    CorruptDataError,
    Error,
    InvalidRequestError,
    Note,
    NotFoundError,
    OutOfMemoryError,
    PermissionDeniedError,
    QueryError,
    StoreError,
    UnknownNameError,
    UnsupportedError,
)
from ._expr import Expr, col, count, function, lit
from ._frame import DataFrame
from ._session import Session, connect, open, sql

__version__ = _lsio.__version__

__all__ = [
    "CorruptDataError",
    "DataFrame",
    "Error",
    "Expr",
    "InvalidRequestError",
    "Note",
    "NotFoundError",
    "OutOfMemoryError",
    "PermissionDeniedError",
    "QueryError",
    "Session",
    "StoreError",
    "UnknownNameError",
    "UnsupportedError",
    "col",
    "connect",
    "count",
    "function",
    "lit",
    "open",
    "sql",
]
