"""Progress on a terminal: one bar with rate and estimate, on stderr."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


class Bars:
    """Implements `archiver.progress.Progress`."""

    def __init__(self) -> None:
        self._bars: Progress | None = None
        self._task = TaskID(0)
        self._rows = 0
        self._by_rows = False

    def start(self, what: str, total_bytes: int | None, total_rows: int | None = None) -> None:
        self.finish()
        self._rows = 0
        self._by_rows = total_rows is not None
        amount: tuple[ProgressColumn, ...] = (DownloadColumn(binary_units=True), TransferSpeedColumn())
        events = "{task.fields[rows]:,} events · {task.fields[rate]:,.0f}/s"
        if total_rows is not None:
            amount = ()
            events = "{task.fields[rows]:,} of about {task.total:,.0f} rows · {task.fields[rate]:,.0f}/s"
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            *amount,
            TextColumn(events, markup=False),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._bars.start()
        total = total_bytes if total_rows is None else total_rows
        self._task = self._bars.add_task(what, total=total, rows=0, rate=0.0)

    def advance(self, *, bytes_done: int = 0, rows: int = 0) -> None:
        if self._bars is None:
            return
        self._rows += rows
        elapsed = self._bars.tasks[0].elapsed or 0.0
        self._bars.update(
            self._task,
            advance=rows if self._by_rows else bytes_done,
            # What was only estimated may turn out to be more.
            total=max(self._rows, self._bars.tasks[0].total or 0) if self._by_rows else None,
            rows=self._rows,
            rate=self._rows / elapsed if elapsed > 0 else 0.0,
        )

    def finish(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
