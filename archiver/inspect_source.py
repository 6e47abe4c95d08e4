"""What the settings of a database make of its rows, before anything is archived.

Nothing is written, neither to the database nor to the archive, which need not be there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from archiver import clock
from archiver.archive import Archive
from archiver.block import RowBlock
from archiver.database.base import Rows
from archiver.database.bodies import bodies
from archiver.database.cursor import Cursor
from archiver.database.fetched import Fetched
from archiver.database.look import Asked, Look, look
from archiver.database.mapping import KNOWN
from archiver.database.settings import Database
from archiver.errors import ArchiverError, ConfigError
from archiver.reached import Reached, reached
from archiver.sources.database import known_cursor
from archiver.validate import Rules, Validator

# What each strategy rests on, and what it cannot know of; docs/database.md has the reasons.
KEEPS: Final = {
    "xid8": "each row carries the transaction that wrote it; rows are read below the oldest open one",
    "settled": "the server gives each row its time; read is what lies before the oldest open transaction",
    "rowid": "one writer at a time, and AUTOINCREMENT: rowids ascend in the order of commits",
}
MISSES: Final = {
    "xid8": "changes to rows that were read; rows whose writer sets {position} by itself",
    "settled": "changes to rows that were read; rows whose writer sets {position} by itself, into the past",
    "rowid": "changes to rows that were read; rows whose writer sets {position} by itself, below others",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a member of the body comes from and goes to.

    Attributes:
        column: Its column; None for a constant.
        type: The database's name of the column's type.
        kind: How it is written: see `archiver.database.fetched`.
        goes_to: The archive's column of it; `extra` for what has none.
    """

    member: str
    column: str | None
    type: str
    kind: str
    goes_to: str

    def to_json(self) -> dict[str, Any]:
        return {
            "member": self.member,
            "column": self.column,
            "type": self.type,
            "kind": self.kind,
            "goes_to": self.goes_to,
        }


@dataclass(frozen=True, slots=True)
class Tried:
    """A row as it would be archived, or the reason why it would not be.

    Attributes:
        outcome: `archived`: valid, and archived unless it is there already.
    """

    body: bytes
    outcome: Literal["archived", "quarantined"]
    reason: str = ""
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "outcome": self.outcome,
            "reason": self.reason,
            "detail": self.detail,
            "body": self.body.decode("utf-8", "replace"),
        }


@dataclass(slots=True)
class Inspection:
    """See the members' names.

    Attributes:
        is_last: Whether the rows are the last ones, newest first.
        reached: What the archive knows of this source; None without an archive.
    """

    look: Look
    places: list[Place] = field(default_factory=list)
    rows: list[Tried] = field(default_factory=list)
    is_last: bool = False
    reached: Reached | None = None

    @property
    def exit_code(self) -> int:
        """2: the settings are refused; 1: the database is; 3: some of the rows would be quarantined."""
        if self.look.errors:
            return 2 if any(isinstance(one, ConfigError) for one in self.look.errors) else 1
        return 3 if any(one.outcome == "quarantined" for one in self.rows) else 0

    def keeps(self) -> tuple[str, str]:
        """Return what the strategy rests on, and what it cannot cover."""
        name = self.look.strategy
        return KEEPS.get(name, ""), MISSES.get(name, "").format(position=self.look.position)

    def to_json(self) -> dict[str, Any]:
        found = self.look
        keeps, misses = self.keeps()
        behind, waiting = found.behind or (None, None)
        return {
            "message_type": "source_inspection",
            "source": found.source,
            "server": found.server,
            "database": found.database,
            "role": found.role,
            "table": found.table,
            "strategy": found.strategy,
            "keeps": keeps,
            "cannot_cover": misses,
            "position": found.position,
            "key": list(found.key),
            "estimate": found.estimate,
            "members": [one.to_json() for one in self.places],
            "left_out": found.left_out,
            "checks": [one.to_json() for one in found.checks],
            "errors": [{"kind": one.kind, "message": one.message, "hint": one.hint} for one in found.errors],
            "cursor": self.reached.to_json() if self.reached is not None else None,
            "behind": behind,
            "waiting": waiting,
            "lag_seconds": None if found.bound is None else round(found.bound.lag_seconds, 1),
            "held_back_by": found.held_back_by,
            "ordered": found.is_ordered,
            "last": self.is_last,
            "rows": [one.to_json() for one in self.rows],
        }


def inspect_source(
    source: Database, rules: Rules, archive: Archive | None = None, *, rows: int = 10, last: bool = False
) -> Inspection:
    """Look at a database, and judge some of its rows as a run would.

    Args:
        rules: What a run would judge by.
        archive: If given, its cursor is held against the database.
        rows: How many to judge.
        last: The last ones, newest first, and not the first.

    Raises:
        ConfigError: A schema of the rules cannot be used.
    """
    validator = Validator(rules)
    known = None if archive is None else reached(archive, [source.name])[0]
    found = look(source, Asked(known_to(source.name, known), rows=rows, last=last))
    inspection = Inspection(found, _places(found), is_last=last, reached=known)
    if found.rows is not None:
        try:
            inspection.rows = _tried(found, validator)
        except ArchiverError as error:
            found.refuse("rows", error)
    return inspection


def known_to(source: str, known: Reached | None) -> Callable[[Rows], Cursor | None]:
    """Return what gives `look` the cursor, and refuses it where the database is another one."""
    said = None if known is None else known.said
    return lambda rows: None if said is None else known_cursor(source, rows, said)


def _places(found: Look) -> list[Place]:
    kinds: dict[str, Fetched] = {one.member: one for one in found.layout}
    places = []
    for member in found.members:
        name, fetched = member.member, kinds.get(member.member)
        kind = fetched.kind if fetched is not None else ""
        column, typ = (
            (member.column.name, member.column.type) if member.column is not None else (None, "constant")
        )
        places.append(Place(name, column, typ, kind, name if name in KNOWN else "extra"))
    return places


def _tried(found: Look, validator: Validator) -> list[Tried]:
    rows = found.rows
    if rows is None:
        return []
    written = bodies(rows, found.layout).view("binary").to_pylist()
    verdict = validator.validate_rows(RowBlock(0, rows, found.layout, 0, clock.now_us(), 0))
    refused = {one.ordinal: one for one in verdict.rejections}
    tried = []
    for number, body in enumerate(written):
        one = refused.get(number)
        if one is None:
            tried.append(Tried(body, "archived"))
        else:
            tried.append(Tried(body, "quarantined", one.reason, one.detail))
    return tried
