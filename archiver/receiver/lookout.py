"""Looking at the spools' folders for whoever watches, beside the event loop and never in its way.

Folders are read when somebody asks, by a thread that may hang on a disk which does not
answer: then the counts stay as they were, and say how old they are.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from archiver import activity
from archiver.activity import Activity
from archiver.errors import SourceError
from archiver.sources.waiting import SpoolWaiting, count_waiting

MOST_NAMES: Final = 10_000
FRESH_SECONDS: Final = 2.0
PATIENCE_SECONDS: Final = 2.0

_log = logging.getLogger("archiver.receiver")


class Seen(NamedTuple):
    """What the folders held; `at` is of the monotonic clock."""

    at: float
    waiting: dict[Path, SpoolWaiting]
    heard: dict[str, Activity]


class Lookout:
    """Counts what waits in the spools, and reads when streams were last heard of.

    Args:
        folders: The spools.
        most_names: How many names are looked at in each place, at most.
        fresh_seconds: Counts are used for so long.
        patience_seconds: So long is waited for new ones.
    """

    def __init__(
        self,
        folders: Iterable[Path],
        *,
        most_names: int = MOST_NAMES,
        fresh_seconds: float = FRESH_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._folders = tuple(folders)
        self._most_names = most_names
        self._fresh_seconds = fresh_seconds
        self._patience_seconds = patience_seconds
        self._under_way: asyncio.Future[None] | None = None
        self.seen = Seen(time.monotonic(), {}, {})
        self._is_blank = True

    async def look(self) -> None:
        """Have `seen` be new, unless the disk does not answer. Called in the event loop."""
        if not self._is_blank and time.monotonic() - self.seen.at < self._fresh_seconds:
            return
        if self._under_way is None or self._under_way.done():
            loop = asyncio.get_running_loop()
            self._under_way = loop.create_future()
            # A thread of its own, which the end of the process does not wait for.
            threading.Thread(
                target=self._look, args=(loop, self._under_way), name="lookout", daemon=True
            ).start()
        try:
            await asyncio.wait_for(asyncio.shield(self._under_way), self._patience_seconds)
        except TimeoutError:
            _log.warning("the spools' disk does not answer: their backlog cannot be counted")

    def _look(self, loop: asyncio.AbstractEventLoop, done: asyncio.Future[None]) -> None:
        try:
            self._read()
        finally:
            if not loop.is_closed():
                loop.call_soon_threadsafe(_set, done)

    def _read(self) -> None:
        began = time.monotonic()
        waiting = {}
        for folder in self._folders:
            try:
                waiting[folder] = count_waiting(folder, most_names=self._most_names)
            except SourceError as error:
                _log.warning("%s", error.message)
        try:
            heard = activity.newest(self._folders)
        except SourceError as error:
            _log.warning("%s", error.message)
            heard = self.seen.heard
        self.seen = Seen(began, waiting, heard)
        self._is_blank = False


def _set(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)
