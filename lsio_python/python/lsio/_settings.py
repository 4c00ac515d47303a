"""Sizes and options as a user writes them."""

import numbers

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def size(name, value):
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


def options(named):
    """Options of opening as pairs of texts, as the engine takes them."""
    return [(name, _text(value)) for name, value in named.items() if value is not None]


def _text(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ",".join(str(item) for item in value)
    return str(value)


def location(path):
    """A path or URL as text."""
    import os

    return os.fspath(path) if isinstance(path, os.PathLike) else str(path)
