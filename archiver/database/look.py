"""A database as it is found, before anything is archived: what works, what is refused and why.

Refusals are collected and not raised, so that whoever sets a source up sees all of them at once,
and what the mapping makes of the rows besides.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pyarrow as pa

from archiver.database.base import Bound, Rows
from archiver.database.connection import is_postgres
from archiver.database.cursor import Cursor
from archiver.database.fetched import Layout
from archiver.database.mapping import Column, Member
from archiver.database.settings import Database
from archiver.errors import ArchiverError
from archiver.store.health import Check, Status

MOST_COUNTED: Final = 1_000_000
_LONG_LAG_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What to look at.

    Attributes:
        cursor_of: Returns the cursor that the ledger holds, or None; raises where it is another database's.
        rows: How many rows to fetch.
        last: The last ones, newest first, and not the first.
        counts: Whether to count what lies behind the cursor.
    """

    cursor_of: Callable[[Rows], Cursor | None] = lambda _: None
    rows: int = 0
    last: bool = False
    counts: bool = True


@dataclass(slots=True)
class Look:
    """What was found. Members are empty or None as far as something before them was refused.

    Attributes:
        server: Product and version.
        database, role: As the server calls them; never a part of the URL.
        table: As the cursor names it.
        columns: Of the table or query.
        members: What the mapping makes of them.
        position: The column by which rows are read in order.
        key: The columns that tell rows apart.
        strategy: `xid8`, `settled` or `rowid`.
        estimate: About how many rows there are.
        layout, rows: Some rows, as they are fetched.
        is_ordered: Whether these are the first (or the last) ones, or just any.
        bound: How far rows may be read now.
        behind: How many rows lie behind the cursor, and how many of them may not be read yet; at
            most a million are counted.
        checks: Everything that was looked at, in the order in which a reader would mend it.
        errors: What was refused.
    """

    source: str
    server: str = ""
    database: str = ""
    role: str = ""
    is_superuser: bool = False
    table: str = ""
    columns: tuple[Column, ...] = ()
    members: tuple[Member, ...] = ()
    position: str = ""
    key: tuple[str, ...] = ()
    strategy: str = ""
    estimate: int | None = None
    layout: Layout = ()
    rows: pa.RecordBatch | None = None
    is_ordered: bool = True
    bound: Bound | None = None
    behind: tuple[int, int] | None = None
    checks: list[Check] = field(default_factory=list)
    errors: list[ArchiverError] = field(default_factory=list)

    def check(self, what: str, status: Status, found: str, fix: str = "") -> None:
        """Note one thing that was looked at."""
        self.checks.append(Check(f"source {self.source}: {what}", status, found, fix))

    def refuse(self, what: str, error: ArchiverError) -> None:
        """Note what was refused, once."""
        if all(one.message != error.message for one in self.errors):
            self.errors.append(error)
            self.check(what, "failed", error.message, error.hint)

    @property
    def held_back_by(self) -> str:
        """What holds rows back; empty where none is."""
        if self.bound is None or self.bound.why or self.behind is None or not self.behind[1]:
            return self.bound.why if self.bound is not None else ""
        if self.strategy == "settled":
            return "they are younger than lag_seconds"
        return "a transaction was open that has ended since"

    @property
    def left_out(self) -> list[str]:
        """Columns that no member is made of."""
        used = {one.column.name for one in self.members if one.column is not None}
        return [one.name for one in self.columns if self.members and one.name not in used]


def look(source: Database, asked: Asked) -> Look:
    """Connect and look. Changes nothing; raises nothing for what it finds."""
    found = Look(source.name)
    check_url(source, found)
    try:
        postgres = is_postgres(source.location())
    except ArchiverError as error:
        found.refuse("url", error)
        return found
    if postgres:
        from archiver.database.postgres_look import look_at  # noqa: PLC0415  (drivers are slow to import)
    else:
        from archiver.database.sqlite_look import look_at  # noqa: PLC0415
    look_at(source, found, asked)
    return found


def check_url(source: Database, found: Look) -> None:
    """Look at who else may read the file that holds the URL."""
    if source.url_file is None:
        return
    try:
        mode = stat.S_IMODE(Path(source.url_file).stat().st_mode)
    except (OSError, ValueError):
        return  # whoever reads it says why
    if mode & 0o007:
        fix = f"chmod o-rwx {source.url_file}"
        found.check("url", "warning", f"{source.url_file} (mode {mode:04o}) is open to every user", fix)
    else:
        found.check("url", "ok", f"in {source.url_file}, mode {mode:04o}")


def check_index(found: Look, indexed: Sequence[Sequence[str]], relation: str) -> None:
    """Look for an index in which a page begins; without one each page sorts the table."""
    order = (found.position, *found.key)
    if any(tuple(one)[: len(order)] == order for one in indexed):
        found.check("index", "ok", f"on ({', '.join(order)})")
    elif any(one and one[0] == found.position for one in indexed):
        found.check("index", "ok", f"one begins with {found.position}; rows alike in it are sorted by us")
    else:
        written = ", ".join('"' + one.replace('"', '""') + '"' for one in order)
        found.check(
            "index",
            "warning",
            f"none on ({', '.join(order)}): each page reads and sorts the whole table",
            f"CREATE INDEX CONCURRENTLY ON {relation} ({written})",
        )


def check_lag(found: Look) -> None:
    """Look at what holds rows back, and for how long."""
    if found.bound is None:
        return
    bound = found.bound
    waiting = found.behind[1] if found.behind is not None else 0
    holds = waiting > 0 or bound.value is None
    rows = "1 row waits" if waiting == 1 else f"{waiting:,} rows wait"
    told = f"{rows}: {found.held_back_by}" if holds else "nothing is held back"
    if holds and (bound.lag_seconds > _LONG_LAG_SECONDS or bound.value is None):
        seconds = f" ({bound.lag_seconds:,.0f} s)" if bound.lag_seconds > 0 else ""
        fix = "rows are archived when it ends; find it in pg_stat_activity or pg_prepared_xacts, and end it"
        found.check("lag", "warning", told + seconds, fix)
    else:
        found.check("lag", "ok", told)
