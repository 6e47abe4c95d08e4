"""An archive with everything behind it that a table log must tell: for each engine that reads the log."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from archiver import layout
from archiver.archive import Archive, AsOf, open_archive
from archiver.compact import Policy, compact
from archiver.delta.publish import publish
from archiver.ledger import commit as protocol
from archiver.ledger.entry import Content
from archiver.pipeline import run
from archiver.requeue import requeue
from archiver.store.base import Store
from archiver.validate import Rules
from tests.support import (
    MemoryBatch,
    MemorySource,
    alert,
    archive_bodies,
    event,
    new_archive,
    rows_of,
)

# Each is a value that some reader would split, decode, guess a number in or take for a null.
WORKSPACES = (
    *("0012", "a b", "100%", "a%20b", "ü/ß", "a=b/c", "'\"\\", "😀", "..", "null", "?#&:;+"),
    *("__HIVE_DEFAULT_PARTITION__", "line\nbreak", "\u2028", "ws_1"),
)
STRICT = Rules(source="spool", schemas={"events": '{"properties":{"data":{"required":["session_id"]}}}'})


def history(store: Store) -> Iterator[Archive]:
    """Build an archive commit by commit and yield it after each; who takes the next step publishes or not."""
    archive = new_archive(store)
    yield archive
    for number, day in enumerate(("2026-03-26", "2026-03-26", "2026-03-27")):
        bodies = [
            event(f"e{number}-{place}", workspace=name, timestamp=f"{day}T23:59:59.99{number}9{place:02d}Z")
            for place, name in enumerate(WORKSPACES)
        ]
        archive_bodies(archive, *bodies)
        yield archive
    archive_bodies(archive, alert("a1"))
    yield archive
    run(
        archive,
        MemorySource([MemoryBatch([event("late", workspace="0012"), event("s", session_id="s")])]),
        rules=STRICT,
        workers=0,
    )
    yield archive
    requeue(archive, lambda source: Rules(source=source), lambda _: True)
    yield archive
    assert compact(archive, Policy(min_files=2, min_age=timedelta(0))).files_before
    yield archive
    expire(archive, "2026-03-26", workspaces=("ws_1", "..", "100%"))
    yield archive
    fence(archive, leave_dead_attempt(archive))
    yield archive
    archive_bodies(archive, event("last", workspace="a b", version=2**53 + 1))
    yield archive


def expire(archive: Archive, day: str, *, workspaces: tuple[str, ...]) -> None:
    """Commit that the events of a day of these workspaces are no longer live."""
    files = archive.ledger.refresh().files.select("events", workspaces=set(workspaces))
    content = Content(
        operation="expire",
        batch=layout.new_attempt() + "0000",
        attempt=layout.new_attempt(),
        removed=tuple(file.key for file in files if file.partition.dt == day),
    )
    assert content.removed
    _commit(archive, content)


def _commit(archive: Archive, content: Content) -> None:
    outcome = protocol.commit(archive.ledger, content, seen=archive.ledger.snapshot.sequence)
    assert isinstance(outcome, protocol.Committed)


def leave_dead_attempt(archive: Archive) -> str:
    """Leave a file of a run that died before its commit: whole, readable, and no part of the archive."""
    (file, *_) = archive.ledger.snapshot.files.select("events")
    attempt = layout.new_attempt()
    stray = f"{file.key.rpartition('/')[0]}/{'0' * 32}-{attempt}-0.parquet"
    archive.store.put(stray, archive.store.get(file.key))
    return attempt


def fence(archive: Archive, attempt: str) -> None:
    _commit(archive, Content("fence", layout.new_attempt() + "0000", layout.new_attempt(), fenced=(attempt,)))


def whole(store: Store, *, published: bool = True) -> Archive:
    """Return the archive at the end of `history`."""
    for archive in history(store):
        if published:
            publish(archive)
    return archive


def expected(store: Store, sequence: int | None = None) -> list[tuple[Any, ...]]:
    """Return what any reader must find of `events`: our own reader's rows, with workspace and day."""
    archive = open_archive(store, as_of=None if sequence is None else AsOf(sequence=sequence))
    rows = rows_of(archive)
    for row in rows:
        row |= {"workspace": row["workspace_id"], "dt": f"{row['event_time']:%Y-%m-%d}"}
    return comparable(rows)


def comparable(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Return rows as sorted tuples of all columns but `origin`."""
    return sorted((tuple(row[name] for name in sorted(row) if name != "origin") for row in rows), key=repr)
