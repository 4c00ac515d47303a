"""Arrays of numpy as columns of the native part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def column_type(dtype: np.dtype[Any]) -> str:
    """The type of a column: numpy's, or ``"text"``."""
    return "text" if dtype.kind in "OUT" else dtype.str.lstrip("<>=|")


def column(name: str, values: np.ndarray[Any, Any]) -> tuple[str, str, Any]:
    """A column: its name, its type, and the elements as unsigned integers of their width, or as a list of texts."""
    import numpy as np

    kind = column_type(values.dtype)
    if kind == "text":
        return name, kind, [None if each is None else str(each) for each in values]
    plain = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
    return name, kind, plain.view(f"u{plain.itemsize}")
