"""Exceptions. Each is also what Python raises for its kind, so that `except FileNotFoundError` works."""


class Error(RuntimeError):
    """What lsio raises. Its subclasses tell what can be done."""


class NotFoundError(Error, FileNotFoundError):
    """Nothing is at the path, or no Zarr."""


class UnknownNameError(Error, KeyError):
    """A group, variable, dimension or column of this name doesn't exist."""

    # KeyError shows the text in quotes.
    __str__ = Error.__str__


class InvalidRequestError(Error, ValueError):
    """What was asked for must be written in another way."""


class QueryError(Error, ValueError):
    """A statement can't be planned or run."""


class UnsupportedError(Error, NotImplementedError):
    """A codec, a data type or a statement isn't supported."""


class CorruptDataError(Error, ValueError):
    """Metadata or chunks of a store are broken."""


class StoreError(Error, OSError):
    """A store failed: trying again may help."""


class PermissionDeniedError(StoreError, PermissionError):
    """A store refuses the read."""


class OutOfMemoryError(Error, MemoryError):
    """A query needs more memory than it may have."""


class Note(UserWarning):
    """What the engine notes about a query whose result may not be what is meant."""
