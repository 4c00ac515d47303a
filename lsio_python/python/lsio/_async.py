"""Queries that asyncio waits for. They run on the engine's threads: no thread of Python's waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from ._progress import INTERVAL, shown

if TYPE_CHECKING:
    from . import _lsio
    from ._progress import Progress


async def result(start: Callable[[Callable[[], object]], _lsio.Pending], progress: Progress) -> _lsio.Batches | None:
    """What work on a query makes, which ``start`` starts. Cancelling ends the work."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    pending = start(lambda: loop.call_soon_threadsafe(ended.set))
    try:
        with shown(progress) as call:
            if call is None:
                await ended.wait()
            else:
                await _told(ended, pending, call)
    except BaseException:
        pending.cancel()
        raise
    return pending.result()


async def _told(ended: asyncio.Event, pending: _lsio.Pending, call: Callable[[int, int], object]) -> None:
    """Wait for the end, and call between."""
    waiting = asyncio.ensure_future(ended.wait())
    try:
        while not waiting.done():
            await asyncio.wait([waiting], timeout=INTERVAL)
            if (now := pending.progress()) is not None:
                call(*now)
    finally:
        waiting.cancel()
