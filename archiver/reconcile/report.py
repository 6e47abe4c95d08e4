"""What a reconciliation found, as a value."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Final

from archiver import clock
from archiver.ledger.entry import Counts

_EPOCH: Final = date(1970, 1, 1)
LISTED_DAYS: Final = 1_000


def day_text(day: int) -> str:
    """Write a UTC day, counted from 1970, as `2026-03-26`; a day that no calendar has as its number."""
    try:
        return (_EPOCH + timedelta(days=day)).isoformat()
    except OverflowError:
        return str(day)


@dataclass(slots=True)
class Place:
    """One workspace on one UTC day.

    Attributes:
        workspace: None where the rows have none.
        day: Counted from 1970.
        due: Rows of the database at or before the cursor.
        waiting: Rows behind it.
        archived: Events in the archive.
        quarantined: Rows in quarantine that no archived event has the id of.
        missing: Rows that are neither archived nor in quarantine.
        only_archived: Events that the database has no row of.
    """

    workspace: str | None
    day: int
    due: int = 0
    waiting: int = 0
    archived: int = 0
    quarantined: int = 0
    missing: int = 0
    only_archived: int = 0

    @property
    def agrees(self) -> bool:
        """Whether the counts do."""
        return self.due == self.archived + self.quarantined

    def to_json(self) -> dict[str, Any]:
        return {
            "workspace": self.workspace,
            "day": day_text(self.day),
            "database": self.due,
            "archive": self.archived,
            "quarantined": self.quarantined,
            "missing": self.missing,
            "only_archived": self.only_archived,
        }


@dataclass(frozen=True, slots=True)
class Row:
    """A row that is missing, or an event that only the archive has.

    Attributes:
        key: The row's key in the database; empty for an event.
    """

    workspace: str | None
    id: str | None
    at_us: int
    key: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "workspace": self.workspace,
            "id": self.id,
            "at": clock.to_text(self.at_us),
            "key": list(self.key),
        }


@dataclass(slots=True)
class Repair:
    """What became of the rows that were missing.

    Attributes:
        counts: Of the commits: read = archived + supplements + duplicates + quarantined.
        gone: Rows that were not in the database any more.
        left: Rows that another call has to repair, since there were too many for one.
        reasons: How many were quarantined, by reason.
    """

    counts: Counts = Counts()
    gone: int = 0
    left: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    commits: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            **self.counts.to_json(),
            "reasons": dict(sorted(self.reasons.items())),
            "gone": self.gone,
            "left": self.left,
            "commits": self.commits,
            "problems": self.problems,
        }


@dataclass(slots=True)
class ReconcileReport:
    """What was compared, and what differs.

    Attributes:
        source: Name of the database.
        since_day, until_day: The days that were compared, the second not included; from 1970.
        head: Sequence of the commit whose snapshot was looked at.
        position: Of the cursor, as the database writes it.
        every_id: Whether ids were compared everywhere, and not only where counts differ.
        places: Workspaces and days that have rows or events, counted.
        compared: Those of which ids were compared.
        retained: Days of workspaces that were left out, since retention lets them expire.
        database, waiting, archived, quarantined: Sums over all places.
        elsewhere: Rows of those days whose event lies under another day.
        repeated: Rows with the id of another row.
        missing, only_archived: How many in all; `missing_rows` and `only_archived_events` are the first.
        days: Where rows are missing or events are only in the archive; the first thousand.
        repair: None if none was asked for.
    """

    source: str
    since_day: int
    until_day: int
    head: int = -1
    position: str = ""
    every_id: bool = False
    places: int = 0
    compared: int = 0
    retained: int = 0
    database: int = 0
    waiting: int = 0
    archived: int = 0
    quarantined: int = 0
    elsewhere: int = 0
    repeated: int = 0
    missing: int = 0
    only_archived: int = 0
    missing_rows: list[Row] = field(default_factory=list)
    only_archived_events: list[Row] = field(default_factory=list)
    days: list[Place] = field(default_factory=list)
    repair: Repair | None = None
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0: every row that was due is in the archive or in quarantine, perhaps since it was repaired.

        1: some are not. 3: some were put into quarantine by the repair.
        """
        if self.repair is None:
            return 1 if self.missing else 0
        if self.repair.problems or self.repair.left:
            return 1
        return 3 if self.repair.counts.quarantined else 0

    def to_json(self) -> dict[str, Any]:
        return {
            "message_type": "reconcile_report",
            "source": self.source,
            "since": day_text(self.since_day),
            "until": day_text(self.until_day),
            "head": self.head,
            "position": self.position,
            "every_id": self.every_id,
            "places": self.places,
            "compared": self.compared,
            "retained": self.retained,
            "database": self.database,
            "waiting": self.waiting,
            "archive": self.archived,
            "quarantined": self.quarantined,
            "elsewhere": self.elsewhere,
            "repeated": self.repeated,
            "missing": self.missing,
            "only_archived": self.only_archived,
            "missing_rows": [one.to_json() for one in self.missing_rows],
            "only_archived_events": [one.to_json() for one in self.only_archived_events],
            "days": [one.to_json() for one in self.days],
            "repair": None if self.repair is None else self.repair.to_json(),
            "seconds": round(self.seconds, 3),
        }
