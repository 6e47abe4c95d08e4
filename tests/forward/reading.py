"""What tests of the readers over the archive share: cursors, readings that stop, compaction."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from archiver.archive import Archive
from archiver.collect import collect
from archiver.compact import compact
from archiver.forward.base import Limits, Outgoing, Portion, Reader
from archiver.forward.commits import Commits
from archiver.forward.cursor import CursorFile, InArchive
from archiver.forward.wanted import Wanted

LIMITS = Limits(3, 1 << 20, 1 << 20)
ALL = Wanted()
_NOW = timedelta(0)


def cursor_at(folder: Path, commit: int = 0) -> CursorFile:
    """Return a cursor that stands before a commit, as a new process would find it."""
    folder.mkdir(exist_ok=True)
    cursor = CursorFile(folder)
    if cursor.cursor.archive is None:
        cursor.cursor.archive = InArchive(commit)
        cursor.write(sync=True)
    return cursor


def reader_at(archive: Archive, folder: Path, wanted: Wanted = ALL) -> Commits:
    return Commits(archive, cursor_at(folder), LIMITS, wanted)


def taken(reader: Reader, most: int | None = None) -> list[Outgoing]:
    """Take what a reader gives, one event at a time, and stop dead after `most` of them."""
    found: list[Outgoing] = []
    for portion in reader.read():
        for event in portion.events:
            if most is not None and len(found) >= most:
                return found
            found.append(event)
            reader.acknowledge(portion, event.place)
        reader.acknowledge(portion, portion.end)
    return found


def ids(events: list[Outgoing]) -> list[str]:
    return [event.id for event in events]


def portions_of(reader: Reader) -> list[Portion]:
    return list(reader.read())


def compact_and_collect(archive: Archive) -> None:
    """Merge the files of each partition, and delete those that were merged."""
    compact(archive)
    collect(archive, grace=_NOW, keep_snapshots=_NOW, force=True)


def until_none_is_left(make: Callable[[], Reader], most: int) -> list[str]:
    """Read in new processes, each of which dies after `most` events."""
    found: list[str] = []
    for _ in range(200):
        part = ids(taken(make(), most))
        found += part
        if len(part) < most:
            return found
    raise AssertionError("it does not get on")
