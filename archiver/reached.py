"""How far each database was read, as the ledger tells. The database need not be there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from archiver import clock
from archiver.archive import Archive
from archiver.database.cursor import Cursor
from archiver.errors import IntegrityError
from archiver.ledger.entry import Commit

# How many commits are looked through for the one that moved a cursor last. In a bucket each is a request.
_LOOKED_THROUGH: Final = 50


@dataclass(frozen=True, slots=True)
class Reached:
    """What the ledger knows of one source.

    Attributes:
        said: The cursor as it stands in the ledger; None: nothing was ever archived of it.
        strategy, table, position: Of the cursor; empty where there is none, or none that can be read.
        commit: The newest commit that moved it, if that is one of the last fifty.
        moved_at: When that was made, in microseconds since 1970.
        counts: What became of the rows of that commit.
        problem: Why the cursor cannot be read.
    """

    source: str
    said: Any = None
    strategy: str = ""
    table: str = ""
    position: str = ""
    commit: int | None = None
    moved_at: int | None = None
    counts: dict[str, int] | None = None
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "strategy": self.strategy,
            "table": self.table,
            "position": self.position,
            "commit": self.commit,
            "moved_at": None if self.moved_at is None else clock.to_text(self.moved_at),
            "counts": self.counts,
            "problem": self.problem,
        }


def reached(archive: Archive, sources: list[str]) -> list[Reached]:
    """Return what the ledger knows of each of these sources, and of others that it has a cursor of."""
    cursors = archive.ledger.snapshot.cursors
    names = [*sources, *(name for name in sorted(cursors) if name not in sources)]
    moves = _moves(archive, {name for name in names if name in cursors})
    return [_reached(name, cursors.get(name), moves.get(name)) for name in names]


def _reached(name: str, said: Any, move: Commit | None) -> Reached:
    if said is None:
        return Reached(name)
    try:
        cursor = Cursor.from_json(name, said)
    except IntegrityError as error:
        return Reached(name, said, problem=error.message)
    return Reached(
        name,
        said,
        cursor.strategy,
        cursor.origin.table,
        cursor.position,
        commit=move.sequence if move is not None else None,
        moved_at=move.committed_us if move is not None else None,
        counts=move.content.counts.to_json() if move is not None else None,
    )


def _moves(archive: Archive, wanted: set[str]) -> dict[str, Commit]:
    """Return the newest commit that moved each cursor, as far as the last ones tell."""
    found: dict[str, Commit] = {}
    head = archive.ledger.snapshot.sequence
    for sequence in range(head, max(-1, head - _LOOKED_THROUGH), -1):
        if len(found) == len(wanted):
            break
        commit = next(archive.ledger.since(sequence - 1))
        told = commit.content.source
        if told.get("after") is not None and told.get("name") in wanted:
            found.setdefault(str(told["name"]), commit)
    return found
