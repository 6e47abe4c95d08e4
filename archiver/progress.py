"""Progress, told without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Progress(Protocol):
    """Something that shows how far a long piece of work has come. Called from one thread at a time."""

    def start(self, what: str, total_bytes: int | None, total_rows: int | None = None) -> None:
        """A piece of work begins; the totals are about how much it will read, if that is known."""
        ...

    def advance(self, *, bytes_done: int = 0, rows: int = 0) -> None:
        """So much more was done."""
        ...

    def finish(self) -> None:
        """The piece of work is done."""
        ...


class Silent:
    """Tells nobody."""

    def start(self, what: str, total_bytes: int | None, total_rows: int | None = None) -> None:
        pass

    def advance(self, *, bytes_done: int = 0, rows: int = 0) -> None:
        pass

    def finish(self) -> None:
        pass


class Throughout:
    """Makes one piece of work of many: the first one's beginning and the end of `close` are told.

    Args:
        progress: Who listens.
        total_rows: Returns about how many rows they have together; asked when the first one begins.
    """

    def __init__(self, progress: Progress, total_rows: Callable[[], int | None]) -> None:
        self._progress = progress
        self._total_rows = total_rows
        self._has_begun = False

    def start(self, what: str, total_bytes: int | None, total_rows: int | None = None) -> None:  # noqa: ARG002
        if not self._has_begun:
            self._has_begun = True
            self._progress.start(what, None, self._total_rows())

    def advance(self, *, bytes_done: int = 0, rows: int = 0) -> None:
        self._progress.advance(bytes_done=bytes_done, rows=rows)

    def finish(self) -> None:
        """The next one goes on where this one ends."""

    def close(self) -> None:
        """All of it is done."""
        if self._has_begun:
            self._progress.finish()
