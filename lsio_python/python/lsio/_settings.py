"""Sizes and options as a user writes them."""

from __future__ import annotations

import numbers
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def size(name: str, value: int | str | None) -> int | None:
    """A number of bytes: an integer, or a text such as `"512m"` or `"4g"`. None stays None."""
    if value is None:
        return None
    if isinstance(value, numbers.Integral) and not isinstance(value, bool) and value > 0:
        return int(value)
    if isinstance(value, str):
        text = value.strip().lower().removesuffix("ib").removesuffix("b")
        digits = text.rstrip("kmgt")
        unit = _UNITS.get(text[len(digits) :])
        try:
            bytes_ = round(float(digits) * unit) if unit else 0
        except ValueError:
            bytes_ = 0
        if bytes_ > 0:
            return bytes_
    raise ValueError(f"{name}={value!r} is no size: give bytes as an integer, or a text such as '512m' or '4g'")


def count(name: str, value: int | None) -> int | None:
    """A number of at least one. None stays None."""
    if value is None or (isinstance(value, numbers.Integral) and not isinstance(value, bool) and value > 0):
        return value
    raise ValueError(f"{name}={value!r} is no number of at least 1")


def options(named: Mapping[str, object]) -> list[tuple[str, str]]:
    """Options of opening as pairs of texts, as the engine takes them."""
    return [(name, _text(value)) for name, value in named.items() if value is not None]


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ",".join(str(item) for item in value)
    return str(value)


def location(path: str | os.PathLike[str]) -> str:
    """A path or URL as text."""
    return os.fspath(path) if isinstance(path, os.PathLike) else str(path)
