"""Progress of what takes long: a bar in terminals and notebooks, or a callable."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    #: ``None``: a bar after two seconds, in terminals and notebooks. ``True``: a bar at once, wherever standard error
    #: goes. ``False``: none. A callable gets the chunks done, and those in all.
    Progress: TypeAlias = bool | Callable[[int, int], object] | None

# Seconds before a bar is shown that nobody asked for.
DELAY = 2.0

# Seconds between two drawings.
INTERVAL = 0.1


@contextlib.contextmanager
def shown(progress: Progress) -> Iterator[Callable[[int, int], object] | None]:
    """What a running query is to call, or ``None``. The bar goes when the query has ended."""
    if callable(progress):
        yield progress
    elif progress is False or (progress is None and not _watched()):
        yield None
    else:
        bar = Bar(0.0 if progress else DELAY)
        try:
            yield bar
        finally:
            bar.close()


class Bar:
    """A bar of tqdm, if it is installed, or else a line on standard error. It is drawn when it is called."""

    def __init__(self, delay: float) -> None:
        self._start = time.monotonic()
        self._next = self._start + delay
        self._drawn: Any = None

    def __call__(self, done: int, total: int) -> None:
        """Show that ``done`` chunks of ``total`` are read."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + INTERVAL
        if self._drawn is None:
            self._drawn = _display(self._start, total)
        self._drawn.total = total
        self._drawn.n = done
        self._drawn.refresh()

    def close(self) -> None:
        """Remove the bar."""
        if self._drawn is not None:
            self._drawn.close()
            self._drawn = None


class Line:
    """Progress as a line on standard error, with the part of tqdm's interface that :class:`Bar` uses."""

    def __init__(self, start: float) -> None:
        self.n = 0
        self.total = 0
        self._start = start
        self._width = 0

    def refresh(self) -> None:
        """Draw the line over the last one."""
        percent = 100 * self.n // max(self.total, 1)
        seconds = time.monotonic() - self._start
        text = f"{percent:3d} % · {self.n}/{self.total} chunks · {seconds:.0f} s"
        self._write(text.ljust(self._width))
        self._width = len(text)

    def close(self) -> None:
        """Blank the line out."""
        self._write(" " * self._width + "\r")

    def _write(self, text: str) -> None:
        sys.stderr.write("\r" + text)
        sys.stderr.flush()


def _display(start: float, total: int) -> Any:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return Line(start)
    bar = tqdm(total=total, unit="chunk", leave=False, file=sys.stderr)
    # It may be drawn late: the time is the query's.
    bar.start_t -= time.monotonic() - start
    return bar


def _watched() -> bool:
    """Whether somebody sees standard error: a terminal or a notebook."""
    if "ipykernel" in sys.modules and "IPython" in sys.modules:
        return True
    return sys.stderr is not None and sys.stderr.isatty()
